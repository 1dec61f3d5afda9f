"""Feature integration of a run's network, from the database or computed and stored there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from dia_repro.analysis.gini import Floats, Integration, integrate
from dia_repro.analysis.runs import NotAnalysableError, best_runs
from dia_repro.analysis.states import States, check_run, collect
from dia_repro.artifacts.paper import FIGURE5
from dia_repro.experiments.names import DataLocation
from dia_repro.results import writer
from dia_repro.results.database import Database, one_state
from dia_repro.results.parts import (
    ForestPart,
    Settings,
    Source,
    environment,
    forest_parts,
    is_whole,
    kind_of,
    same_environment,
)
from dia_repro.results.queries import (
    RunDetail,
    analysis_circumstances,
    analysis_parts,
    analysis_settings,
    run_detail,
)
from dia_repro.training.store import Store

STAGES = (1, 2, 3)  # of the networks that Figure 5 shows, unless a spec names its stages


@one_state
def choose_run(database: Database, run_id: int | None) -> RunDetail:
    """Return the run asked for, or the best one of Figure 5's network.

    Raises:
        NoRunError, NotAnalysableError, UnknownRunError: there is no such run, or it cannot be
            analysed.
    """
    if run_id is None:
        return next(iter(best_runs(database, FIGURE5).values()))
    run = run_detail(database, run_id)
    check_run(run)
    return run


Kept = Mapping[tuple[Source, int], Sequence[Integration]]


def stored_integrations(database: Database, run_ids: Iterable[int]) -> dict[int, Kept]:
    """Return stored feature integration of networks; computes nothing.

    All runs are shown with the same number of images and trees: those with which all stages of
    most runs are analysed, then the largest.

    Returns:
        By run, by source and stage: an analysis for each seed of the forests.
    """
    by_settings: dict[tuple[int, int, bool], dict[int, dict[tuple[Source, int], list[Integration]]]]
    by_settings = {}
    for run_id, texts in analysis_settings(database, run_ids).items():
        for text in texts:
            with database.translated():
                settings = Settings.from_json(text) if kind_of(text) == "gini" else None
            if settings and (whole := _stored(database, run_id, settings)[1]):
                key = (settings.samples, settings.trees, settings.library)
                kept = by_settings.setdefault(key, {}).setdefault(run_id, {})
                kept.setdefault((settings.source, settings.stage), []).append(whole)

    def rank(key: tuple[int, int, bool]) -> tuple[object, ...]:
        runs = by_settings[key].values()
        trained = [sum(source is Source.TRAINED for source, _ in kept) for kept in runs]
        return trained.count(len(STAGES)), sum(trained), sum(map(len, runs)), key

    return dict(by_settings[max(by_settings, key=rank)]) if by_settings else {}


def _stored(
    database: Database, run_id: int, settings: Settings
) -> tuple[dict[int, Floats], Integration | None]:
    """Return the stored shares by target layer; if no layer is missing, the analysis, too."""
    contents = analysis_parts(database, run_id, settings.canonical_json())
    with database.translated():
        parts = forest_parts(contents)
    shares = {target: np.array(part.shares) for target, part in parts.items()}
    if not is_whole(parts):
        return shares, None
    made_in = analysis_circumstances(database, run_id, settings.canonical_json())
    with database.translated():
        where = "" if made_in is None else environment(made_in)
    return shares, Integration(settings, next(iter(parts.values())).samples, shares, where)


@dataclass
class Analyst:
    """Analyses one run's network, and stores what it computes.

    Args:
        folder: checkpoints of the run.
        jobs: number of threads.
        circumstances: provenance of what is computed, JSON.
    """

    database: Database
    run: RunDetail
    data: DataLocation
    folder: Store
    jobs: int
    circumstances: str
    _states: dict[tuple[int, int, Source], dict[int, States]] = field(default_factory=dict)

    def stages(self, wanted: int | None) -> list[int]:
        """Return the stage asked for, or all that have a DIA unit.

        Raises:
            NotAnalysableError: the stage has no DIA unit.
        """
        attention = check_run(self.run).model.attention
        there = getattr(attention, "stages", None) or STAGES
        if wanted is not None and wanted not in there:
            raise NotAnalysableError(
                f"run {self.run.summary.id} has no DIA unit in stage {wanted}, "
                f"but in {', '.join(map(str, there))}"
            )
        return list(there) if wanted is None else [wanted]

    def integration(
        self, settings: Settings, on_progress: Callable[[int, int], None]
    ) -> Integration:
        """Return one stage's analysis; target layers in the database are not fitted again.

        They are if they were fitted in another environment and some are missing: an analysis has
        parts of one environment.

        Raises:
            AnalysisGoneError, UnknownRunError: the run was removed meanwhile.
        """
        text, run = settings.canonical_json(), self.run.summary
        shares, whole = _stored(self.database, run.id, settings)
        # Checked after the parts were read: they are this run's if its number still is.
        if run_detail(self.database, run.id).summary.uid != run.uid:
            raise writer.AnalysisGoneError
        if whole:
            return whole
        begun = analysis_circumstances(self.database, run.id, text)
        with self.database.translated():
            if begun is not None and not same_environment(begun, self.circumstances):
                shares = {}
        key = (settings.samples, settings.seed, settings.source)
        if key not in self._states:
            self._states[key] = collect(self.run, self.data, self.folder, *key)
        states = self._states[key][settings.stage]

        def keep(target: int, found: Floats, seconds: float) -> None:
            part = ForestPart(states.shape[1], len(states), found.tolist())
            content = json.dumps(asdict(part))
            analysis = (run.uid, text, self.circumstances)
            writer.record_part(self.database, *analysis, target, content, seconds)

        found = integrate(states, settings, self.jobs, shares, keep, on_progress)
        return replace(found, environment=environment(self.circumstances))
