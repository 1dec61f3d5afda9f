"""Evidence on a claim: paired seeds and outcomes of runs, stored analyses, counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean

from dia_repro.analysis.gini import Integration, in_several_environments
from dia_repro.analysis.gradients import whole_records
from dia_repro.analysis.stored import Kept, stored_integrations
from dia_repro.artifacts import Entry, artifact_named
from dia_repro.claims import readings
from dia_repro.claims.rules import Row, plural
from dia_repro.claims.statistics import images_error, paired_differences
from dia_repro.claims.unpaired import ABOVE_GUESSING, Outcomes
from dia_repro.claims.verdicts import Epoch, Evidence
from dia_repro.experiments.names import Protocol, SelectOn
from dia_repro.experiments.protocols import Request, rate_chosen_with
from dia_repro.experiments.seeds import Seeds
from dia_repro.experiments.spec import NoAttention, Spec
from dia_repro.models.counting import Counts, count
from dia_repro.paper.claims import CellKey, Claim, Comparison, Kind
from dia_repro.results.database import Database
from dia_repro.results.parts import Source
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import DONE, State

MILLION = 1e6


def entry_at(cell: CellKey) -> Entry:
    """Return the network in a cell of the paper or of a control."""
    entries = artifact_named(cell.artifact).entries
    return next(entry for entry in entries if (entry.row, entry.column) == (cell.row, cell.column))


def cells_of(claim: Claim) -> list[CellKey]:
    """Return all cells that a claim is about, without duplicates."""
    compared = (cell for pair in claim.comparisons for cell in pair.cells)
    return list(dict.fromkeys((*claim.cells, *compared)))


@dataclass(frozen=True)
class ClaimRuns:
    """Runs behind a claim, under one request.

    Attributes:
        specs: the experiment at each of the claim's cells.
        found: runs by spec_id.
        by: the epoch whose test accuracy counts.
        seeds: seeds whose runs count.
    """

    claim: Claim
    request: Request
    specs: Mapping[CellKey, Spec]
    found: Mapping[str, Sequence[RunSummary]]
    by: Epoch
    seeds: Seeds

    @property
    def on_papers_data(self) -> bool:
        """True if each network is trained on the paper's data, all of them."""
        return not self.validated and all(
            spec.data.dataset == entry_at(at).dataset for at, spec in self.specs.items()
        )

    @property
    def validated(self) -> bool:
        """True if images that are held out choose the epoch: then its accuracy alone counts."""
        return self.request.select is SelectOn.VALIDATION

    @property
    def papers_own(self) -> bool:
        """True if data and schedule are the paper's."""
        return self.on_papers_data and self.request.papers_schedule

    def done(self, cell: CellKey) -> list[RunSummary]:
        """Return the cell's finished and diverged runs, without those that chose its rate."""
        chose = rate_chosen_with(self.specs[cell])
        return [run for run in self._all_done(cell) if run.seed != chose]

    def _all_done(self, cell: CellKey) -> list[RunSummary]:
        runs = self.found[self.specs[cell].spec_id]
        return [run for run in runs if run.state in DONE and self.seeds.shows(run.seed)]

    def _left_out(self, cells: Sequence[CellKey]) -> str:
        """Return which seeds are not counted because they chose the rate, or ""."""
        chose = {rate_chosen_with(self.specs[cell]) for cell in cells} - {None}
        seeds = " and ".join(f"seed {seed}" for seed in chose)
        return f"{seeds} chose the learning rate: not counted" if chose else ""

    def finished(self, cell: CellKey) -> dict[int, RunSummary]:
        """Return the cell's finished runs by seed."""
        return {run.seed: run for run in self.done(cell) if run.state is State.FINISHED}

    def diverged(self, *cells: CellKey) -> int:
        """Return the number of the cells' diverged runs."""
        return sum(run.state is State.DIVERGED for cell in cells for run in self.done(cell))

    def values(self, cell: CellKey) -> dict[int, float]:
        """Return the value of each finished run by seed: test accuracy, %.

        Where overfitting is compared, it is test minus training accuracy of the last epoch, points.
        """
        finished = self.finished(cell)
        if self.claim.kind is Kind.GAP:
            return {
                seed: run.last_top1 - run.last_train_top1
                for seed, run in finished.items()
                if run.last_top1 is not None and run.last_train_top1 is not None
            }
        return self._tested(cell)

    def _tested(self, cell: CellKey) -> dict[int, float]:
        """Return the test accuracy of each finished run by seed, %."""
        finished, by_best = self.finished(cell), self.by is Epoch.BEST or self.validated
        best = by_best and self.claim.kind is not Kind.GAP  # which compares the last epoch
        top1 = {seed: run.best_top1 if best else run.last_top1 for seed, run in finished.items()}
        return {seed: value for seed, value in top1.items() if value is not None}

    def rows(self) -> list[Row]:
        """Return the claim's comparisons by accuracy; those of the same networks are one row."""
        same: dict[tuple[str, ...], list[Comparison]] = {}
        for pair in self.claim.comparisons:
            specs = tuple(self.specs[cell].spec_id for cell in pair.cells)
            same.setdefault(specs, []).append(pair)
        return [self._row(*pairs) for pairs in same.values()]

    def _row(self, pair: Comparison, *same: Comparison) -> Row:
        first, second = self.values(pair.first), self.values(pair.second)
        sides = [pair.first], [pair.second]
        if pair.baselines:
            first, second = (
                paired_differences(ours, self.values(baseline))
                for ours, baseline in zip((first, second), pair.baselines, strict=True)
            )
            # A seed is lost in favour of the first where it or the other's baseline diverged.
            sides = [pair.first, pair.baselines[1]], [pair.second, pair.baselines[0]]
        gap = "test − training: " if self.claim.kind is Kind.GAP else ""
        label = f"{gap}{pair.label}"
        row = self._compared(label, paired_differences(first, second), pair.cells)
        labels = ", ".join(other.label for other in same)
        same_as = f"the same networks as {labels}" if labels and row.differences else ""
        return replace(
            row,
            diverged=(self.diverged(*sides[0]), self.diverged(*sides[1])),
            note="; ".join(filter(None, (same_as, row.note))),
            images_error=self._images_error(row, pair),
        )

    def _images_error(self, row: Row, pair: Comparison) -> float | None:
        """Return the largest standard error of a row's effect over other test images, in points."""
        if not (row.images and row.differences):
            return None
        pairs = [(pair.first, pair.second)]
        if pair.baselines:  # two differences, whose errors may add up
            pairs = [*zip((pair.first, pair.second), pair.baselines, strict=True)]

        def mean(cell: CellKey) -> float:
            tested = self._tested(cell)
            return fmean(tested[seed] for seed in row.differences)

        return sum(images_error(mean(first), mean(other), row.images) for first, other in pairs)

    def rows_against_accuracy(self) -> list[Row]:
        """Return how far each cell's test accuracy is above the claim's, in points."""
        rows, least = [], self.claim.at_least
        for cell in self.claim.cells:
            values = self.values(cell)
            above = paired_differences(values, dict.fromkeys(values, least))
            row = self._compared(f"{cell.row}: {cell.column} − {least:g} %", above, [cell])
            error = None
            if values and row.images:
                error = images_error(fmean(values.values()), 100.0, row.images)
            rows.append(replace(row, diverged=(self.diverged(cell), 0), images_error=error))
        return rows

    def _compared(self, label: str, differences: dict[int, float], cells: Sequence[CellKey]) -> Row:
        done = [run for cell in cells for run in self.done(cell)]
        paired = [run for run in done if run.seed in differences]
        sizes = sorted({run.test_images for run in paired if run.test_images})
        images = sizes[0] if len(sizes) == 1 else 0
        invalid = "the size of the test set is not recorded" if differences and not sizes else ""
        if len(sizes) > 1:
            invalid = f"test sets of {' and '.join(map(str, sizes))} images"
        return Row(
            compared=label,
            unit="points",
            differences=differences,
            begun=bool(done),
            runs=tuple(r for r in done if r.seed in differences or r.state is State.DIVERGED),
            step=100 / images if images else 0.0,
            images=images,
            invalid=invalid,
            note=self._left_out(cells) if differences else "",
        )

    def outcomes(self, cell: CellKey) -> Outcomes:
        """Return the outcomes of a cell's runs."""
        spec, runs = self.specs[cell], self.done(cell)
        trained = 100 / spec.data.classes + ABOVE_GUESSING
        finished = [run for run in runs if run.state is State.FINISHED]
        return Outcomes(
            compared=f"{cell.row}: {cell.column}",
            diverged=len(runs) - len(finished),
            guessing=sum((run.final_top1 or 0.0) < trained for run in finished),
            done=len(runs),
            runs=tuple(runs),
            note=self._left_out([cell]),
            excluded=len(runs) < len(self._all_done(cell)),
        )


def integration_rows(database: Database, runs: ClaimRuns) -> list[Row]:
    """Return Figure 5's rows by seed: the density of stage 3, or how early a source is."""
    (cell,) = runs.claim.cells
    finished = runs.finished(cell)
    kept = stored_integrations(database, (run.id for run in finished.values()))
    forests = [same for of_run in kept.values() if (same := of_run.get((Source.TRAINED, 1)))]
    shown = forests or [same for of_run in kept.values() for same in of_run.values()]
    early = runs.claim.kind is Kind.EARLY
    read = readings.earliness if early else readings.density_gains
    gains = {seed: read(kept[run.id]) for seed, run in finished.items() if run.id in kept}
    behind = [run for seed, run in finished.items() if gains.get(seed)]
    # One layer more or less, averaged over forests, is the smallest step of an early source.
    steps = [100 / (same[0].layers - 1) / len(same) for same in forests] if early else []
    unit = "% of layers" if early else "in the heatmap's mean"
    return [
        replace(
            _analysis_row(label, unit, gains, behind),
            note="; ".join(filter(None, (_forests(shown) if shown else "", _elsewhere(kept)))),
            step=max(steps, default=0.0),
            diverged=(runs.diverged(cell), 0),
            condition=label in readings.AGAINST_CONTROLS,
        )
        for label in ((readings.MIDDLE,) if early else readings.DENSITIES)
    ]


def _forests(analyses: Sequence[Sequence[Integration]]) -> str:
    """Return the forests' settings in words.

    Args:
        analyses: lists of analyses that differ in the forests' seed only.
    """
    first, counts = analyses[0][0], sorted({len(same) for same in analyses})
    forests = f"{counts[0]} to {counts[-1]} forests" if counts[1:] else plural(counts[0], "forest")
    return f"{first.samples} images, {forests} of {first.settings.trees} trees"


def _elsewhere(kept: Mapping[int, Kept]) -> str:
    """Return how many runs' stages or controls were not analysed alike; nothing if all were."""
    count = sum(in_several_environments(chain(*of_run.values())) for of_run in kept.values())
    runs = plural(count, "run")
    return f"stages or controls of {runs} analysed in different environments" if count else ""


def gradient_rows(database: Database, runs: ClaimRuns) -> list[Row]:
    """Return Figure 6's rows: DIANet against the original, for each seed of both."""
    moment = min if runs.claim.kind is Kind.GRADIENTS_INITIAL else max
    (pair,) = runs.claim.comparisons
    finished = [runs.finished(cell) for cell in pair.cells]
    gains, behind = {}, []
    for seed in sorted(set.intersection(*map(set, finished))):
        both = [of_seed[seed] for of_seed in finished]
        records = [
            whole_records(database, run.id, runs.specs[cell])
            for run, cell in zip(both, pair.cells, strict=True)
        ]
        if all(records):
            gains[seed] = readings.gradient_gains(*(found[moment(found)] for found in records))
            behind += both
    diverged = runs.diverged(pair.first), runs.diverged(pair.second)
    rows = []
    for label in readings.RATIOS:
        row = _analysis_row(label, "powers of ten", gains, behind)
        values = row.differences
        ours, theirs = (
            sum(math.isnan(value) or value == lost for value in values.values())
            for lost in (-math.inf, math.inf)
        )
        rows.append(
            replace(
                row,
                compared=label.replace(readings.DIVIDED, pair.label),
                differences={seed: gain for seed, gain in values.items() if math.isfinite(gain)},
                diverged=diverged,
                vanished=(ours, theirs),
            )
        )
    return rows


def _analysis_row(
    label: str, unit: str, gains: Mapping[int, Mapping[str, float]], behind: Sequence[RunSummary]
) -> Row:
    """Return a row of the values with a label.

    Args:
        gains: by seed and label.
        behind: runs of the seeds that have gains.
    """
    return Row(
        compared=label,
        unit=unit,
        differences={seed: of_seed[label] for seed, of_seed in gains.items() if label in of_seed},
        begun=bool(behind),
        runs=tuple(run for run in behind if label in gains[run.seed]),
    )


def counted(claim: Claim) -> list[Evidence]:
    """Count the networks of a claim, as the paper's protocol trains them."""
    if claim.kind is Kind.CONSTANT:
        return _increments(claim.cells)
    return [_counted(claim, pair) for pair in claim.comparisons]


def _counted(claim: Claim, pair: Comparison) -> Evidence:
    first, second = _count(pair.first), _count(pair.second)
    note = f"{first.parameters:,} against {second.parameters:,}"
    match claim.kind:
        case Kind.FEWER:
            more = first.parameters - second.parameters
            effect, unit, holds = more / MILLION, "M", more < 0
        case Kind.SAVES:
            effect, unit = round(100 * (1 - first.parameters / second.parameters), 2), "% fewer"
            holds = claim.between[0] <= effect <= claim.between[1]
        case Kind.SAME_COST:
            more = first.macs - second.macs
            effect, unit, holds = more / MILLION, "MMAC", more == 0
            note = f"{first.macs:,} and {second.macs:,} multiply-accumulates for an image"
        case _:
            raise ValueError(f"{claim.name} is not decided by counts of two networks")
    return Evidence(compared=pair.label, effect=effect, unit=unit, in_favour=holds, note=note)


def _increments(cells: Sequence[CellKey]) -> list[Evidence]:
    """Count the parameters that attention adds in each cell; in favour if it is always the same."""
    added = [
        _count(cell).parameters - _count(cell, attention=NoAttention()).parameters for cell in cells
    ]
    return [
        Evidence(
            compared=f"{cell.row}: {cell.column} − original",
            effect=more / MILLION,
            unit="M",
            in_favour=more == added[0],
            note=f"{more:,} parameters",
        )
        for cell, more in zip(cells, added, strict=True)
    ]


def _count(cell: CellKey, **changes: object) -> Counts:
    """Count the network of the paper's protocol, with changes to its model."""
    spec = entry_at(cell).spec(Request(Protocol.PAPER))
    model = spec.model.model_copy(update=changes)
    return count(model, spec.data.classes, spec.data.image_size)
