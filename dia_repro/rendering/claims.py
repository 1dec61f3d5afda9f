"""Claims and their verdicts as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from dia_repro.rendering.records import Record

# Headings and most characters; with two between columns they fit into 100.
WIDTHS = {"claim": 29, "verdict": 9, "main evidence": 27, "why": 28}
STYLES = {"supported": "green", "refuted": "red", "undecided": "yellow", "not run": "dim"}
# Decimals of an effect, and whether it has a sign, by unit.
FORMS = {
    "points": "+.2f",
    "M": "+.3f",
    "MMAC": "+.0f",
    "% exploded": ".0f",
    "of a cell": "+.3f",
    "% of layers": "+.0f",
    "powers of ten": "+.2f",
}


def claims_table(records: Sequence[Record]) -> Table:
    """A row a claim, from the records of `analysis.verdicts`: the one that decides of each."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for heading, width in WIDTHS.items():
        table.add_column(heading, max_width=width, overflow="fold")
    counts = Counter(record["claim"] for record in records)
    for record in _one_each(records):
        verdict, of = str(record["verdict"]), counts[record["claim"]]
        table.add_row(
            Text.assemble((record["claim"], "bold"), "\n", record["text"], "\n"),
            Text(verdict, style=STYLES[verdict]),
            Text(describe_evidence(record) + _of(record, of) + "\n"),
            Text(_why(record) + "\n"),
        )
    return table


def _of(record: Record, comparisons: int) -> str:
    """That there are others than the one shown."""
    shown = record["main"] and comparisons > 1
    return f"\n(the one of {comparisons} that decides)" if shown else ""


def describe_evidence(record: Record) -> str:
    """E.g. "ResNet164: DIANet − SENet, +1.12 [+0.90, +1.41] points, n=10, p=0.008"."""
    effect, unit = record["effect"], record["unit"]
    if effect is None:
        return record["note"] or "–"
    parts = [f"{_number(effect, unit)}{_interval(record)} {unit}"]
    parts += [f"n={record['n']}"] if record["n"] else []
    parts += [_p(record["p"])] if record["p"] is not None else []
    parts += [record["note"]] if record["note"] else []
    return f"{record['compared']}\n{', '.join(parts)}"


def _interval(record: Record) -> str:
    if record["low"] is None:
        return ""
    low, high = (_number(record[end], record["unit"]) for end in ("low", "high"))
    return f" [{low}, {high}]"


def _number(value: float, unit: str) -> str:
    return f"{value:{FORMS[unit]}}".replace("-", "−")


def _p(p: float) -> str:
    return "p<0.001" if p < 0.001 else f"p={p:.2g}"


def _why(record: Record) -> str:
    more = record["more_seeds"]
    if more is None:
        return str(record["reason"])
    seeds = "1 more seed" if more == 1 else f"{more} more seeds"
    return f"{record['reason']} By what is seen so far, {seeds} would decide it."


def _one_each(records: Sequence[Record]) -> list[Record]:
    """Of each claim the record that decides, or else its first without figures."""
    chosen: dict[str, Record] = {}
    for record in records:
        if record["main"]:
            chosen[record["claim"]] = record
        else:
            chosen.setdefault(record["claim"], {**record, "effect": None, "note": ""})
    return list(chosen.values())
