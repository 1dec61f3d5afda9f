"""Feature integration of a run's network: from the database where it is, computed where not."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from pydantic import TypeAdapter

from dia_repro.analysis.gini import Floats, Integration, Settings, integrate
from dia_repro.analysis.states import (
    NotAnalysableError,
    Source,
    States,
    check_run,
    collect,
    stages_with_units,
)
from dia_repro.artifacts.figure5 import FIGURE5
from dia_repro.errors import AbsentError
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import ModelSpec, Spec
from dia_repro.results import writer
from dia_repro.results.database import Database, one_state
from dia_repro.results.parts import ForestPart, forest_parts, kind_of
from dia_repro.results.queries import (
    RunDetail,
    RunSummary,
    all_spec_json,
    analysis_parts,
    analysis_settings,
    run_detail,
    runs_of,
)
from dia_repro.results.schema import State
from dia_repro.training.store import Folder

STAGES = (1, 2, 3)  # of the networks that Figure 5 shows


_SETTINGS = TypeAdapter(Settings)


class NoRunError(AbsentError):
    """No run of the network that is to be analysed is finished."""


@one_state
def choose_run(database: Database, run_id: int | None) -> RunDetail:
    """The run asked for, or the best finished one of Figure 5's network.

    Runs on the paper's data go before others, then those with the highest test accuracy.

    Raises:
        NoRunError, NotAnalysableError, UnknownRunError: there is none, or it cannot be analysed.
    """
    if run_id is not None:
        run = run_detail(database, run_id)
        check_run(run)
        return run
    (entry,) = FIGURE5.entries
    found = []
    for spec, summary in finished_runs(database, (entry.model,)):
        papers = spec.data.dataset == entry.dataset
        found.append((papers, summary.best_top1 or 0.0, -summary.id))
    if not found:
        raise NoRunError(
            f"no run of {entry.row} is finished in {database.name}: dia-repro run figure5"
        )
    return run_detail(database, -max(found)[2])


def finished_runs(
    database: Database, models: Collection[ModelSpec]
) -> Iterator[tuple[Spec, RunSummary]]:
    """The finished runs of some networks, on whatever data."""
    specs = {spec.spec_id: spec for spec in map(Spec.from_json, all_spec_json(database))}
    wanted = [spec_id for spec_id, spec in specs.items() if spec.model in models]
    for spec_id, runs in runs_of(database, wanted).items():
        for run in runs:
            if run.state is State.FINISHED:
                yield specs[spec_id], run


def stored_integrations(
    database: Database, run_ids: Iterable[int]
) -> dict[int, dict[int, Integration]]:
    """Feature integration of trained networks as far as it is kept; computes nothing.

    All runs are shown with the same settings: those that most runs have all stages with, then
    those with most images and trees.

    Returns:
        By run, by stage; without runs and stages that are not analysed to the end.
    """
    by_settings: dict[tuple[object, ...], dict[int, dict[int, Integration]]] = {}
    for run_id, texts in analysis_settings(database, run_ids).items():
        for settings in (_settings_of_trained(database, text) for text in texts):
            whole = _whole(database, run_id, settings) if settings else None
            if settings and whole is not None:
                s = settings
                key = (s.samples, s.trees, -s.seed, s.library)
                by_settings.setdefault(key, {}).setdefault(run_id, {})[s.stage] = whole

    def rank(key: tuple[object, ...]) -> tuple[object, ...]:
        runs = by_settings[key].values()
        return sum(len(stages) >= len(STAGES) for stages in runs), sum(map(len, runs)), key

    return by_settings[max(by_settings, key=rank)] if by_settings else {}


def _settings_of_trained(database: Database, text: str) -> Settings | None:
    with database.translated():
        if kind_of(text) != "gini":
            return None
        settings = _SETTINGS.validate_json(text)
    return settings if settings.source is Source.TRAINED else None


def _whole(database: Database, run_id: int, settings: Settings) -> Integration | None:
    """An analysis from its parts, if all of them are there."""
    parts = _parts(database, run_id, settings.canonical_json())
    first = next(iter(parts.values()), None)
    if first is None or len(parts) < first.layers - 1:
        return None
    shares = {target: np.array(part.shares) for target, part in parts.items()}
    return Integration(settings, first.samples, shares)


def _parts(database: Database, run_id: int, settings: str) -> dict[int, ForestPart]:
    contents = analysis_parts(database, run_id, settings)
    with database.translated():
        return forest_parts(contents)


@dataclass
class Analyst:
    """Analyses one run's network, each part of it once.

    Args:
        folder: of the run's checkpoints.
        jobs: threads.
        circumstances: JSON, kept with what is computed.
    """

    database: Database
    run: RunDetail
    data: DataLocation
    folder: Folder
    jobs: int
    circumstances: str
    _states: dict[tuple[int, int, Source], dict[int, States]] = field(default_factory=dict)

    @property
    def has_read_weights(self) -> bool:
        """Whether anything had to be computed from the run's checkpoint."""
        return bool(self._states)

    def stages(self, wanted: int | None) -> list[int]:
        """The stage asked for, or all that have a DIA unit.

        Raises:
            NotAnalysableError: the stage has none.
        """
        there = stages_with_units(check_run(self.run))
        if wanted is None:
            return there
        if wanted not in there:
            raise NotAnalysableError(
                f"run {self.run.summary.id} has no DIA unit in stage {wanted}, "
                f"but in {', '.join(map(str, there))}"
            )
        return [wanted]

    def integration(
        self, settings: Settings, on_progress: Callable[[int, int], None]
    ) -> Integration:
        """Return one stage's; target layers that the database has are not fitted again.

        Raises:
            AnalysisGoneError, UnknownRunError: the run was removed meanwhile.
        """
        text, run = settings.canonical_json(), self.run.summary
        whole = _whole(self.database, run.id, settings)
        kept = _parts(self.database, run.id, text)
        # After they were read: they are this run's if its number still is.
        if run_detail(self.database, run.id).summary.uid != run.uid:
            raise writer.AnalysisGoneError
        if whole is not None:
            return whole
        done = {target: np.array(part.shares) for target, part in kept.items()}
        states = self._collected(settings)[settings.stage]
        writer.ensure_analysis(self.database, run.uid, text, self.circumstances)

        def keep(target: int, shares: Floats, seconds: float) -> None:
            content = {
                "layers": states.shape[1],
                "samples": len(states),
                "shares": shares.tolist(),
            }
            writer.record_part(self.database, run.uid, text, target, json.dumps(content), seconds)

        return integrate(states, settings, self.jobs, done, keep, on_progress)

    def _collected(self, settings: Settings) -> dict[int, States]:
        key = (settings.samples, settings.seed, settings.source)
        if key not in self._states:
            self._states[key] = collect(
                self.run, self.data, self.folder, settings.samples, settings.seed, settings.source
            )
        return self._states[key]
