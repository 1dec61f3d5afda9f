"""Figure 6, from what runs have recorded to its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dia_repro.cli.output import notice, say_statements
from dia_repro.rendering.listing import Column, field
from dia_repro.rendering.records import to_csv

if TYPE_CHECKING:
    from dia_repro.analysis.gradients import RecordedRun
    from dia_repro.rendering.histograms import Curve
    from dia_repro.results.database import Database

QUANTILE_FIELDS = ("q01", "q05", "q25", "q50", "q75", "q95", "q99")
FIELDS = (
    "run",
    "network",
    "epochs",
    "stage",
    "count",
    "zeros",
    "not_finite",
    "mean",
    "variance",
    *QUANTILE_FIELDS,
)
COLUMNS = (
    Column("epochs", field("epochs"), right=True),
    Column("stage", field("stage"), right=True),
    Column("network", field("network")),
    Column("run", field("run"), right=True),
    Column("mean", lambda r: f"{r['mean']:.3g}", right=True),
    Column("variance", lambda r: f"{r['variance']:.3g}", right=True),
    Column("median", lambda r: "" if r["q50"] is None else f"{r['q50']:.3g}", right=True),
    Column("zero %", lambda r: f"{100 * r['zeros'] / r['count']:.2f}", right=True),
)


def draw_gradients(
    database: Database, figures: Path, runs: Sequence[int] = ()
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write Figure 6's files; gives all records, and those of the first and the last moment."""
    from dia_repro.analysis.gradients import recorded_runs
    from dia_repro.claims.readings import of_gradients

    found = recorded_runs(database, runs)
    records = [record for one in found for record in _records(one)]
    moments = {one.run.summary.id: one.moments for one in found}
    ends = [record for record in records if record["epochs"] in moments[record["run"]]]
    ends.sort(key=lambda record: (record["epochs"], record["stage"]))
    _write(found, records, figures)
    say_statements(of_gradients(found))
    return records, ends


def _records(one: RecordedRun) -> Iterator[dict[str, Any]]:
    for epochs, stages in one.records.items():
        for stage, record in enumerate(stages, start=1):
            spread = zip(QUANTILE_FIELDS, record["quantiles"] or [None] * 7, strict=True)
            yield {
                "run": one.run.summary.id,
                "network": one.label,
                "epochs": epochs,
                "stage": stage,
                **{name: record[name] for name in ("count", "zeros", "not_finite")},
                **{name: record[name] for name in ("mean", "variance")},
                **dict(spread),
            }


def _write(found: Sequence[RecordedRun], records: list[dict[str, Any]], figures: Path) -> None:
    from dia_repro.artifacts.figure6 import FIGURE6
    from dia_repro.experiments.describe import describe_backbone, describe_data
    from dia_repro.rendering.files import write_bytes, write_text
    from dia_repro.rendering.histograms import draw_distributions
    from dia_repro.rendering.images import KINDS, to_bytes

    last = _listed(f"{one.moments[1]}" for one in found)
    moments = {
        "at initialisation": [one.records[one.moments[0]] for one in found],
        f"after {last} epoch{'' if last == '1' else 's'}": [
            one.records[one.moments[1]] for one in found
        ],
    }
    labels = distinct_labels(found)
    rows = {
        moment: [
            [_curve(label, of_run[stage]) for label, of_run in zip(labels, of_runs, strict=True)]
            for stage in range(min(map(len, of_runs)))
        ]
        for moment, of_runs in moments.items()
    }
    specs = [one.spec for one in found]
    papers = all(spec.data.dataset == FIGURE6.entries[0].dataset for spec in specs)
    title = (
        "Figure 6. Gradients without skip connections: "
        f"{_listed(describe_backbone(spec.model.backbone) for spec in specs)} "
        f"on {_listed(describe_data(spec.data) for spec in specs)}, "
        f"{_listed(str(spec.recipe.epochs) for spec in specs)} epochs"
        f"{'' if papers else ' (not the paper’s data)'}"
    )
    caption = (
        "Absolute value of the gradient of the loss at every element of a stage's output tensor, "
        "for the first batch of an epoch before it moves the weights; vertical lines: means. Runs "
        + ", ".join(f"{one.run.summary.id} ({one.label})" for one in found)
        + f", {_listed(spec.precision for spec in specs)}."
    )
    figure = draw_distributions(rows, title, caption)
    write_text(figures / "figure6.csv", to_csv(FIELDS, records))
    for kind in KINDS:
        write_bytes(figures / f"figure6.{kind}", to_bytes(figure, kind))
    notice(f"Written: {figures / 'figure6'}.{{{','.join(KINDS)},csv}}")


def _listed(texts: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def distinct_labels(found: Sequence[RecordedRun]) -> list[str]:
    """The networks' names, with the run's number where several have the same."""
    counts = Counter(one.label for one in found)
    return [
        f"{one.label}, run {one.run.summary.id}" if counts[one.label] > 1 else one.label
        for one in found
    ]


def _curve(label: str, record: dict[str, Any]) -> Curve:
    from dia_repro.experiments.gradient_bins import BINS_PER_DECADE, LOWEST
    from dia_repro.rendering.histograms import Curve

    return Curve(
        label, record["histogram"], LOWEST, BINS_PER_DECADE, record["count"], record["mean"]
    )
