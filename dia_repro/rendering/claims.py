"""Claims and their verdicts as a table for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from dia_repro.claims.statistics import LEVEL
from dia_repro.claims.verdicts import AGAINST_MARGIN
from dia_repro.paper.claims import CONTROLS_QUESTION, OWN_CLAIM
from dia_repro.rendering.grid import signed
from dia_repro.rendering.records import Record

# Headings and most characters; with two between columns they fit into 100.
WIDTHS = {"claim": 29, "verdict": 9, "main evidence": 27, "why": 28}
STYLES = {"supported": "green", "refuted": "red", "undecided": "yellow", "not run": "dim"}
LARGEST_LOGARITHM = 300
EXACT_DIGITS = 17  # with which a floating-point number is written exactly
SHARES = ("% diverged", "% trained")
FEWER, LOGARITHM = "% fewer", "powers of ten"
# Decimals of an effect, and whether it has a sign, by unit.
FORMS = {
    "points": "+.2f",
    "M": "+.3f",
    "MMAC": "+.0f",
    FEWER: ".2f",
    "% more": ".2f",
    "% diverged": ".0f",
    "% trained": ".0f",
    "in the heatmap's mean": "+.3f",
    "% of layers": "+.0f",
    LOGARITHM: "+.3f",
}


def claims_table(records: Sequence[Record]) -> Table:
    """Return a table with a row for each claim: the comparison that decides it."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for heading, width in WIDTHS.items():
        table.add_column(heading, max_width=width, overflow="fold")
    counts = Counter(record["claim"] for record in records)
    for record in _deciding(records):
        verdict, where, count = str(record["verdict"]), record["where"], counts[record["claim"]]
        whose = f"\n({where})" if where in (CONTROLS_QUESTION, OWN_CLAIM) else ""
        others = f"\n(the one of {count} that decides)" if record["main"] and count > 1 else ""
        table.add_row(
            Text.assemble((record["claim"], "bold"), "\n", record["text"], whose, "\n"),
            Text(verdict, style=STYLES[verdict]),
            Text(f"{describe_evidence(record)}{others}\n"),
            Text(f"{explained(record)}\n"),
        )
    return table


def _deciding(records: Sequence[Record]) -> list[Record]:
    """Return each claim's record that decides, or else its first one without values."""
    chosen: dict[str, Record] = {}
    for record in records:
        if record["main"]:
            chosen[record["claim"]] = record
        else:
            chosen.setdefault(record["claim"], {**record, "effect": None, "note": ""})
    return list(chosen.values())


def describe_evidence(record: Record) -> str:
    """Return e.g. "ResNet164: DIANet − SENet, +1.12 [+0.90, +1.41] points, n=10, p=0.008"."""
    effect = effect_with_interval(record["effect"], record["low"], record["high"], record["unit"])
    if not effect:
        return record["note"] or "–"
    parts = [effect]
    parts += [f"n={record['n']}"] if record["n"] else []
    parts += [f"p{p_values(record)}"] if record["p"] is not None else []
    parts += [note for note in (with_images(record), record["note"]) if note]
    return f"{record['compared']}\n{', '.join(parts)}"


def effect_with_interval(
    effect: float | None, low: float | None, high: float | None, unit: str
) -> str:
    """Return e.g. "+1.12 [+0.90, +1.41] points"; empty where there is no effect.

    A difference of logarithms is shown as the ratio that it is: "×0.96 [0.93, 0.995]".
    """
    if effect is None:
        return ""
    if unit == FEWER and effect < 0:
        effect, unit = -effect, "% more"
    form = FORMS[unit]
    interval = "" if low is None or high is None else f" {_interval(low, high, unit)}"
    if unit == LOGARITHM:
        return f"×{_ratio(effect)}{interval}"
    return f"{signed(effect, form)}{interval} {unit}".replace("-", "−")


def _interval(low: float, high: float, unit: str) -> str:
    """Return an interval; where it excludes 0, no end is written as 0."""
    if unit == LOGARITHM:
        return f"[{_ratio(low)}, {_ratio(high)}]"
    bounds = [signed(number, FORMS[unit]) for number in (low, high)]
    if unit in SHARES:  # only what is sure is written as 0 or 100
        bounds = [
            f"{number:.1f}" if text in ("0", "100") and number not in (0, 100) else text
            for text, number in zip(bounds, (low, high), strict=True)
        ]
    if low > 0 or high < 0:
        bounds = [
            text if text.strip("0.") else f"{number:+.1g}"
            for text, number in zip(bounds, (low, high), strict=True)
        ]
    return f"[{', '.join(bounds)}]".replace("-", "−")


def _ratio(logarithm: float) -> str:
    """Return a ratio from its logarithm to base 10; only 1 is written as 1."""
    if LARGEST_LOGARITHM < abs(logarithm) < math.inf:  # no number has it
        return f"1e{logarithm:+.0f}"
    ratio = 10**logarithm
    texts = (f"{ratio:.{digits}g}" for digits in range(2, EXACT_DIGITS + 1))
    return next(text for text in texts if float(text) != 1 or ratio == 1)


def explained(record: Record) -> str:
    """Return a verdict's reason, what its seeds can find, and the verdict by the other epoch.

    Args:
        record: of the comparison that decides; see `claims.verdicts.verdict_records`.
    """
    parts = [str(record["reason"])]
    # Where the comparison is clear, and another one leaves the verdict open, seeds are not missing.
    # Of an equality the distance from a margin may be larger than the margin, and helps no reader.
    unclear = record["p"] is not None and record["p"] > LEVEL
    finds = record["detectable"] is not None and AGAINST_MARGIN not in record["note"]
    if record["verdict"] == "undecided" and unclear and finds:
        if record["unit"] == LOGARITHM:
            what = f"a ratio of {_ratio(record['detectable'])}"
        else:
            size = f"{record['detectable']:{FORMS[record['unit']].lstrip('+')}} {record['unit']}"
            what = f"a difference of {size}"
        found = f"{record['n']} seeds would find {what} (80 % power)"
        parts.append(f"In this comparison alone {found}.")
    if record["otherwise"]:
        other = "last" if record["by"] == "best" else "best"
        parts.append(f"By the {other} epoch: {record['otherwise']}.")
    return " ".join(parts)


def with_images(record: Record) -> str:
    """Return the interval over seeds and test images where it may change what a reader concludes.

    That is where it includes 0 and the seeds' interval does not, and where two networks are to be
    about equal.

    Args:
        record: of a comparison; see `claims.verdicts.verdict_records`.
    """
    low, high = record["images_low"], record["images_high"]
    if low is None:
        return ""
    hides = low <= 0 <= high and not record["low"] <= 0 <= record["high"]
    if not hides and AGAINST_MARGIN not in record["note"]:
        return ""
    interval = _interval(low, high, record["unit"])
    return f"with other test images, too: {interval} at most"


def p_values(record: Record) -> str:
    """Return e.g. "=0.03", "=0.03 (Student's t)", "=0.02, 0.04 after Holm"; empty without a p."""
    if record["p"] is None:
        return ""
    student = " (Student's t)" if record["test"].startswith("Student") else ""
    corrected, holm = record["p_corrected"], ""
    if corrected not in (None, record["p"]):
        holm = f", {_p(corrected).lstrip('=')} after Holm"
    return f"{_p(record['p'])}{student}{holm}"


def _p(p: float) -> str:
    """Return a p with two digits, or as many more as show on which side of the level it is."""
    if p < 0.001:
        return "<0.001"
    texts = (f"{p:.{digits}g}" for digits in range(2, EXACT_DIGITS + 1))
    return f"={next(text for text in texts if float(text) != LEVEL or p == LEVEL)}"
