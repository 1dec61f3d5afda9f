"""Evidence on a claim: paired seeds and outcomes of runs, analyses that are kept, counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from dia_repro.analysis.gini import Integration
from dia_repro.analysis.gradients import whole_records
from dia_repro.analysis.states import Source
from dia_repro.analysis.stored import stored_integrations
from dia_repro.artifacts import Entry, artifact_named
from dia_repro.claims.readings import (
    DENSITY,
    DIVIDED,
    EARLINESS,
    GRADIENTS,
    Reading,
    density_gains,
    earliness,
    gradient_gains,
)
from dia_repro.claims.rules import Judgement, Row, plural
from dia_repro.claims.statistics import DIGITS, paired_differences
from dia_repro.claims.unpaired import ABOVE_GUESSING, Counted, Outcomes, judge_counts
from dia_repro.claims.verdicts import Epoch
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request, rate_chosen_with
from dia_repro.experiments.seeds import Seeds
from dia_repro.experiments.spec import NoAttention, Spec
from dia_repro.models.counting import Counts, count
from dia_repro.paper import CellKey, Claim, Comparison, Kind
from dia_repro.results.database import Database
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import DONE, State

MILLION = 1e6
POINTS = "points"
ALL_SEEDS = Seeds()


def entry_at(cell: CellKey) -> Entry:
    """Return the network in a cell of the paper or of a control."""
    entries = artifact_named(cell.artifact).entries
    return next(one for one in entries if (one.row, one.column) == (cell.row, cell.column))


def cells_of(claim: Claim) -> list[CellKey]:
    """All cells that a claim is about, each once."""
    compared = (cell for pair in claim.comparisons for cell in pair.cells)
    return list(dict.fromkeys((*claim.cells, *compared)))


@dataclass(frozen=True)
class ClaimRuns:
    """What a claim rests on, under one request.

    Attributes:
        specs: the experiment at each of its cells.
        found: runs by spec_id.
        by: which epoch's test accuracy counts.
        seeds: those whose runs count; by default all.
    """

    claim: Claim
    request: Request
    specs: Mapping[CellKey, Spec]
    found: Mapping[str, Sequence[RunSummary]]
    by: Epoch = Epoch.BEST
    seeds: Seeds = ALL_SEEDS

    @property
    def on_papers_data(self) -> bool:
        """Whether each network is trained on the data that the paper trained it on."""
        return all(spec.data.dataset == entry_at(at).dataset for at, spec in self.specs.items())

    @property
    def papers_own(self) -> bool:
        """Whether data and schedule are the paper's."""
        protocol, epochs = self.request.protocol, self.request.epochs
        return self.on_papers_data and protocol is Protocol.PAPER and epochs is None

    def done(self, cell: CellKey) -> list[RunSummary]:
        """Return its runs with a result: those that finished and those that diverged."""
        runs = self.found[self.specs[cell].spec_id]
        return [run for run in runs if run.state in DONE and self.seeds.shows(run.seed)]

    def values(self, cell: CellKey) -> dict[int, float]:
        """Return what counts of its finished runs by seed, in % or points.

        It is test accuracy; where overfitting is compared, how much it is below training accuracy,
        negative, in the last epoch.
        """
        finished = [run for run in self.done(cell) if run.state is State.FINISHED]
        if self.claim.kind is Kind.GAP:
            return {
                run.seed: run.last_top1 - run.last_train_top1
                for run in finished
                if run.last_top1 is not None and run.last_train_top1 is not None
            }
        top1 = {
            run.seed: run.best_top1 if self.by is Epoch.BEST else run.last_top1 for run in finished
        }
        return {seed: value for seed, value in top1.items() if value is not None}

    def diverged(self, *cells: CellKey) -> int:
        """Return how many of the cells' runs did."""
        return sum(run.state is State.DIVERGED for cell in cells for run in self.done(cell))

    def rows(self) -> list[Row]:
        """Return the claim's comparisons by accuracy, each of the same networks once."""
        same: dict[tuple[str, ...], list[Comparison]] = {}
        for pair in self.claim.comparisons:
            specs = tuple(self.specs[cell].spec_id for cell in pair.cells)
            same.setdefault(specs, []).append(pair)
        return [self._row(*pairs) for pairs in same.values()]

    def _row(self, pair: Comparison, *same: Comparison) -> Row:
        first, second = self.values(pair.first), self.values(pair.second)
        sides = [pair.first], [pair.second]
        accuracies = self.claim.kind is Kind.HIGHER
        if pair.baselines:
            first, second = (
                paired_differences(ours, self.values(baseline))
                for ours, baseline in zip((first, second), pair.baselines, strict=True)
            )
            # A seed is lost in favour of the first where it or the other's baseline diverged.
            sides = [pair.first, pair.baselines[1]], [pair.second, pair.baselines[0]]
        row = self._compared(pair.label, paired_differences(first, second), pair.cells)
        means = None
        if accuracies and (seeds := row.differences):
            means = fmean(first[seed] for seed in seeds), fmean(second[seed] for seed in seeds)
        labels = ", ".join(other.label for other in same)
        return replace(
            row,
            diverged=(self.diverged(*sides[0]), self.diverged(*sides[1])),
            note=f"the same networks as {labels}" if labels and row.differences else "",
            accuracies=means,
        )

    def rows_against(self, accuracy: float) -> list[Row]:
        """Return how far each cell's test accuracy is above a value, in points."""
        rows = []
        for cell in self.claim.cells:
            values = self.values(cell).items()
            above = {seed: round(value - accuracy, DIGITS) for seed, value in values}
            row = self._compared(f"{cell.row}: {cell.column} − {accuracy:g} %", above, [cell])
            rows.append(replace(row, diverged=(self.diverged(cell), 0)))
        return rows

    def _compared(self, label: str, differences: dict[int, float], cells: Sequence[CellKey]) -> Row:
        done = [run for cell in cells for run in self.done(cell)]
        paired = (run for run in done if run.seed in differences)
        sizes = sorted({run.test_images for run in paired if run.test_images})
        images = sizes[0] if len(sizes) == 1 else 0
        return Row(
            compared=label,
            unit=POINTS,
            differences=differences,
            begun=bool(done),
            runs=tuple(r for r in done if r.seed in differences or r.state is State.DIVERGED),
            step=100 / images if images else 0.0,
            images=images,
            invalid=f"test sets of {' and '.join(map(str, sizes))} images" if sizes[1:] else "",
        )

    def outcomes(self) -> list[Outcomes]:
        """Return what became of each cell's runs."""
        return [self._outcomes(cell) for cell in self.claim.cells]

    def compared_outcomes(self) -> list[tuple[Outcomes, Outcomes]]:
        """Return what became of the runs of both networks of each comparison."""
        pairs = (pair.cells for pair in self.claim.comparisons)
        return [(self._outcomes(first), self._outcomes(second)) for first, second in pairs]

    def _outcomes(self, cell: CellKey) -> Outcomes:
        spec = self.specs[cell]
        chose = rate_chosen_with(spec.recipe)
        runs = [run for run in self.done(cell) if run.seed != chose]
        trained = 100 / spec.data.classes + ABOVE_GUESSING
        return Outcomes(
            compared=f"{cell.row}: {cell.column}",
            diverged=sum(run.state is State.DIVERGED for run in runs),
            guessing=sum(
                run.state is State.FINISHED and (run.last_top1 or 0.0) < trained for run in runs
            ),
            done=len(runs),
            runs=tuple(runs),
            note="" if chose is None else f"seed {chose} chose the learning rate: not counted",
            excluded=len(runs) < len(self.done(cell)),
        )


def integration_rows(database: Database, runs: ClaimRuns) -> list[Row]:
    """Return Figure 5's rows: stage 3 against the others, or how early a source is, by seed."""
    early = runs.claim.kind is Kind.EARLY
    reading, read = (EARLINESS, earliness) if early else (DENSITY, density_gains)
    finished = _finished(runs, runs.claim.cells[0])
    kept = stored_integrations(database, (run.id for run in finished.values()))
    gains = {seed: read(kept[run.id]) for seed, run in finished.items() if run.id in kept}
    behind = [run for seed, run in finished.items() if gains.get(seed)]
    forests = [same for of_run in kept.values() if (same := of_run.get((Source.TRAINED, 1)))]
    shown = forests or [same for of_run in kept.values() for same in of_run.values()]
    rows = _analysis_rows(reading, gains, behind, _forests(shown) if shown else "")
    # One layer more or less, averaged over forests, is the smallest step of an early source.
    steps = [100 / (same[0].layers - 1) / len(same) for same in forests] if early else []
    diverged = runs.diverged(runs.claim.cells[0])
    return [replace(row, step=max(steps, default=0.0), diverged=(diverged, 0)) for row in rows]


def _forests(analyses: Sequence[Sequence[Integration]]) -> str:
    """Return the forests' settings in words.

    Args:
        analyses: each with the same settings but the forests' seed.
    """
    first, counts = analyses[0][0], sorted({len(same) for same in analyses})
    forests = (
        plural(counts[0], "forest") if not counts[1:] else f"{counts[0]} to {counts[-1]} forests"
    )
    return f"{first.samples} images, {forests} of {first.settings.trees} trees"


def gradient_rows(database: Database, runs: ClaimRuns) -> list[Row]:
    """Return Figure 6's rows: DIANet against the original, for each seed of both."""
    moment = min if runs.claim.kind is Kind.GRADIENTS_INITIAL else max
    pair = runs.claim.comparisons[0]
    specs = runs.specs[pair.first], runs.specs[pair.second]
    first, second = _finished(runs, pair.first), _finished(runs, pair.second)
    gains, behind = {}, []
    for seed in sorted(first.keys() & second.keys()):
        both = [
            whole_records(database, of_seed[seed].id, spec)
            for of_seed, spec in zip((first, second), specs, strict=True)
        ]
        if all(both):
            gains[seed] = gradient_gains(*(records[moment(records)] for records in both))
            behind += [first[seed], second[seed]]
    diverged = runs.diverged(pair.first), runs.diverged(pair.second)
    rows = []
    for row in _analysis_rows(GRADIENTS, gains, behind, ""):
        values = row.differences
        ours, theirs = (
            sum(math.isnan(value) or value == lost for value in values.values())
            for lost in (-math.inf, math.inf)
        )
        rows.append(
            replace(
                row,
                compared=row.compared.replace(DIVIDED, pair.label),
                differences={seed: one for seed, one in values.items() if math.isfinite(one)},
                diverged=diverged,
                vanished=(ours, theirs),
            )
        )
    return rows


def _finished(runs: ClaimRuns, cell: CellKey) -> dict[int, RunSummary]:
    return {run.seed: run for run in runs.done(cell) if run.state is State.FINISHED}


def _analysis_rows(
    reading: Reading,
    gains: Mapping[int, Mapping[str, float]],
    behind: Sequence[RunSummary],
    note: str,
) -> list[Row]:
    return [
        Row(
            compared=label,
            unit=reading.unit,
            differences={seed: of_one[label] for seed, of_one in gains.items() if label in of_one},
            begun=bool(behind),
            runs=tuple(run for run in behind if label in gains[run.seed]),
            note=note,
        )
        for label in reading.labels
    ]


def judge_by_counting(claim: Claim) -> Judgement:
    """Count the claim's networks, as the paper's protocol trains them."""
    if claim.kind is Kind.FEWER:
        fewer = [_fewer(pair) for pair in claim.comparisons]
        return judge_counts(fewer, "the counts are as the paper says")
    if claim.kind is Kind.SAVES:
        saved = [_saved(pair, *claim.between) for pair in claim.comparisons]
        return judge_counts(saved, "the counts are as the paper says")
    if claim.kind is Kind.SAME_COST:
        same = [_same_cost(pair) for pair in claim.comparisons]
        return judge_counts(same, "the counts are the same")
    reason = f"the same at all {len(claim.cells)} depths, to the last parameter"
    return judge_counts(_increments(claim.cells), reason)


def _spec(cell: CellKey) -> Spec:
    return entry_at(cell).spec(Request(Protocol.PAPER))


def _count(spec: Spec) -> Counts:
    return count(spec.model, spec.data.classes, spec.data.image_size)


def _fewer(pair: Comparison) -> Counted:
    specs = _spec(pair.first), _spec(pair.second)
    first, second = (_count(spec).parameters for spec in specs)
    note = f"{first:,} against {second:,}"
    return Counted(pair.label, (first - second) / MILLION, "M", first < second, note)


def _saved(pair: Comparison, least: float, most: float) -> Counted:
    first, second = (_count(_spec(cell)).parameters for cell in (pair.first, pair.second))
    percent = round(100 * (1 - first / second), 2)
    note = f"{first:,} against {second:,}"
    return Counted(pair.label, percent, "% fewer", least <= percent <= most, note)


def _same_cost(pair: Comparison) -> Counted:
    specs = _spec(pair.first), _spec(pair.second)
    first, second = (_count(spec).macs for spec in specs)
    note = f"{first:,} and {second:,} multiply-accumulates for an image"
    return Counted(pair.label, (first - second) / MILLION, "MMAC", first == second, note)


def _added(cell: CellKey) -> int:
    """What attention adds over the same backbone without it."""
    spec = _spec(cell)
    model = spec.model.model_copy(update={"attention": NoAttention()})
    bare = spec.model_copy(update={"model": model})
    return _count(spec).parameters - _count(bare).parameters


def _increments(cells: tuple[CellKey, ...]) -> list[Counted]:
    added = [_added(at) for at in cells]
    return [
        Counted(
            f"{at.row}: {at.column} − original",
            more / MILLION,
            "M",
            more == added[0],
            f"{more:,} parameters",
        )
        for at, more in zip(cells, added, strict=True)
    ]
