"""Bringing together the results of databases that never met.

A run is known by its spec and seed. What one database has and the other has not is added; a run
that got further elsewhere goes on from here; where both have other figures for the same, nothing is
overwritten: that is a conflict, for a person to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from dia_repro.errors import UsageError
from dia_repro.results.backends import sqlite_path
from dia_repro.results.checks import problems
from dia_repro.results.database import Database
from dia_repro.results.schema import (
    DONE,
    GRADIENTS_SETTINGS,
    AnalysisPartRow,
    AnalysisRow,
    Base,
    EpochRow,
    LeaseRow,
    ProvenanceRow,
    RunRow,
    SpecRow,
    State,
)
from dia_repro.results.sources import attempts_behind, data_hashes, numbers_of_test_images

Row = dict[str, Any]
# What an attempt learns at its end only; by all else it is recognised.
AT_THE_END = ("ended_at", "wall_seconds", "peak_memory_bytes", "step")


MENTIONED = 3


class MergeError(UsageError):
    """A database cannot be merged into this one."""


@dataclass(frozen=True)
class Conflict:
    """A run that two databases tell different things of."""

    spec_id: str
    seed: int
    source: str
    reason: str


@dataclass
class Merged:
    """Numbers of runs that a merge added, continued and knew.

    Attributes:
        added: were not here.
        continued: had got further there.
        known: had nothing new.
    """

    added: int = 0
    continued: int = 0
    known: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


def merge(target: Database, sources: Sequence[Database], *, skip_conflicts: bool) -> Merged:
    """Add what other databases hold, in one transaction.

    Args:
        skip_conflicts: take the rest where runs conflict; otherwise nothing at all is taken.

    Raises:
        MergeError: a source is the target itself, or has rows that dia-repro does not write.
        DatabaseError: one cannot be read or written.
    """
    for source in sources:
        _check_is_another(target, source)
    merged = Merged()
    with target.writing() as session:
        for source in sources:
            with source.reading() as theirs:
                _check_sound(theirs, source.name)
                _Merge(session, theirs, source.name, merged).run()
        if merged.conflicts and not skip_conflicts:
            session.rollback()
    return merged


def _check_is_another(target: Database, source: Database) -> None:
    ours, theirs = sqlite_path(target.location), sqlite_path(source.location)
    same_file = ours is not None and theirs is not None and ours.resolve() == theirs.resolve()
    if same_file or target.location == source.location:
        raise MergeError(f"{source.name} is the database that is merged into")


def _check_sound(session: Session, name: str) -> None:
    found = list(problems(session))
    if found:
        more = len(found) - MENTIONED
        raise MergeError(
            f"{name} is not sound: {'; '.join(found[:MENTIONED])}"
            f"{f'; and {more} more' if more > 0 else ''}: nothing was merged"
        )


class _Merge:
    """One source into the target."""

    def __init__(self, ours: Session, theirs: Session, source: str, merged: Merged) -> None:
        self.ours, self.theirs, self.source, self.merged = ours, theirs, source, merged
        self.images = numbers_of_test_images(ours)

    def run(self) -> None:
        here = set(self.ours.scalars(select(SpecRow.spec_id)))
        for spec in _rows(self.theirs, SpecRow):
            if spec["spec_id"] not in here:
                self.ours.execute(insert(SpecRow).values(spec))
        for run in _rows(self.theirs, RunRow):
            self._merge_run(run)

    def _merge_run(self, theirs: Row) -> None:
        here = _rows(self.ours, RunRow, spec_id=theirs["spec_id"], seed=theirs["seed"])
        after = _rows(self.theirs, EpochRow, run_id=theirs["id"])
        if not here and (reason := self._other_experiment(theirs)):
            self._add_conflict(theirs, reason)
            return
        if not here:
            number = self._insert(RunRow, _without(_at_rest(theirs), "id"))
            self._add_epochs(number, after)
            self._add_attempts(number, theirs["id"], new=True)
            self._add_analyses(number, theirs["id"])
            self.merged.added += 1
            return
        (ours,) = here
        before = _rows(self.ours, EpochRow, run_id=ours["id"])
        reason = self._other_experiment(theirs) or _difference(ours, before, theirs, after)
        further = reason is None and _is_further(ours, before, theirs, after)
        same = ours["uid"] == theirs["uid"]
        equal = same or (State(ours["state"]) in DONE and State(theirs["state"]) in DONE)
        if reason is None and not further and equal:
            reason = self._other_gradients(ours["id"], theirs["id"])
        if further and self.ours.get(LeaseRow, ours["id"]) is not None:
            reason = "is being trained here"
        if reason is not None:
            self._add_conflict(theirs, reason)
            return
        if further:
            kept = _without(_at_rest(theirs), "id", "created_at")
            self.ours.execute(update(RunRow).where(RunRow.id == ours["id"]).values(kept))
            self._add_epochs(ours["id"], after[len(before) :])
            self._remove_gradients(ours["id"])
            self.merged.continued += 1
        else:
            self.merged.known += 1
        if further or same:
            self._add_attempts(ours["id"], theirs["id"], new=further)
        if further or equal:
            self._add_analyses(ours["id"], theirs["id"])

    def _other_experiment(self, theirs: Row) -> str | None:
        """Return why a run there and runs here exclude each other, whatever their results."""
        for run in _rows(self.ours, RunRow, uid=theirs["uid"]):
            if (run["spec_id"], run["seed"]) != (theirs["spec_id"], theirs["seed"]):
                return f"has the uid of run {run['id']} here, another spec or seed"
        attempts = _rows(self.theirs, ProvenanceRow, run_id=theirs["id"])
        for attempt in attempts:
            there, known = attempt["test_images"], self.images.get(attempt["data_sha256"], set())
            if there is not None and known - {there}:
                return f"has {there} test images, the same data have {min(known - {there})} here"
        return self._other_data(theirs, attempts) or self._other_size(theirs)

    def _other_data(self, theirs: Row, attempts: Sequence[Row]) -> str | None:
        spec = theirs["spec_id"]
        here = data_hashes(self.ours, spec).get(spec, set())
        behind = attempts_behind(self.theirs, [spec])
        there = {row["data_sha256"] for row in attempts if row["id"] in behind}
        if here and there - here:
            return "was trained on other data than runs here"
        return None

    def _other_size(self, theirs: Row) -> str | None:
        counted = select(RunRow.parameters).where(
            RunRow.spec_id == theirs["spec_id"], RunRow.parameters.is_not(None)
        )
        known = theirs["parameters"]
        others = [ours for ours in self.ours.scalars(counted) if known not in (None, ours)]
        if others:
            return f"has {known} parameters, runs of the same experiment here have {others[0]}"
        return None

    def _add_conflict(self, theirs: Row, reason: str) -> None:
        conflict = Conflict(theirs["spec_id"], theirs["seed"], self.source, reason)
        self.merged.conflicts.append(conflict)

    def _add_epochs(self, run: int, epochs: Iterable[Row]) -> None:
        rows = [{**row, "run_id": run} for row in epochs]
        if rows:
            self.ours.execute(insert(EpochRow), rows)

    def _add_attempts(self, ours: int, theirs: int, *, new: bool) -> None:
        """Add how attempts ended, and those that are not here.

        Args:
            new: whether rows of theirs are taken; otherwise nothing here comes from other attempts.
        """
        known = {_identity(row): row for row in _rows(self.ours, ProvenanceRow, run_id=ours)}
        for attempt in _rows(self.theirs, ProvenanceRow, run_id=theirs):
            same = known.get(_identity(attempt))
            if same is None and new:
                self._insert(ProvenanceRow, {**_without(attempt, "id"), "run_id": ours})
            elif same is not None and same["ended_at"] is None:
                end = {name: attempt[name] for name in AT_THE_END}
                chosen = update(ProvenanceRow).where(ProvenanceRow.id == same["id"])
                self.ours.execute(chosen.values(end))

    def _other_gradients(self, ours: int, theirs: int) -> str | None:
        """Say if the two trainings of a run recorded other gradients."""
        mine, other = (
            _contents(session, run, GRADIENTS_SETTINGS)
            for session, run in ((self.ours, ours), (self.theirs, theirs))
        )
        differing = [part for part in mine.keys() & other.keys() if mine[part] != other[part]]
        return f"other gradients after {min(differing)} epochs" if differing else None

    def _remove_gradients(self, ours: int) -> None:
        """Make room for those of the training that the run's rows come from now."""
        self.ours.execute(
            delete(AnalysisRow).where(
                AnalysisRow.run_id == ours, AnalysisRow.settings == GRADIENTS_SETTINGS
            )
        )

    def _add_analyses(self, ours: int, theirs: int) -> None:
        """Add analyses and parts that are missing; other results of one analysis are not mixed."""
        here = {row["settings"]: row["id"] for row in _rows(self.ours, AnalysisRow, run_id=ours)}
        for analysis in _rows(self.theirs, AnalysisRow, run_id=theirs):
            settings = analysis["settings"]
            number = here.get(settings)
            if number is None:
                number = self._insert(AnalysisRow, {**_without(analysis, "id"), "run_id": ours})
            known = _contents(self.ours, ours, settings)
            parts = _rows(self.theirs, AnalysisPartRow, analysis_id=analysis["id"])
            if all(known.get(part["part"], part["content"]) == part["content"] for part in parts):
                for part in parts:
                    if part["part"] not in known:
                        self._insert(AnalysisPartRow, {**part, "analysis_id": number})

    def _insert(self, table: type[Base], values: Row) -> int:
        result = self.ours.execute(insert(table).values(values))
        return int(result.inserted_primary_key[0])  # type: ignore[attr-defined]


def _difference(ours: Row, before: list[Row], theirs: Row, after: list[Row]) -> str | None:
    """Return why two histories of a run exclude each other, or None."""
    for mine, other in zip(before, after, strict=False):
        if _figures(mine) != _figures(other):
            return f"other figures from epoch {mine['epoch']} on"
    states = (State(ours["state"]), State(theirs["state"]))
    longer_than_done = (states[0] in DONE and len(after) > len(before)) or (
        states[1] in DONE and len(before) > len(after)
    )
    if longer_than_done or (states[0] != states[1] and all(state in DONE for state in states)):
        return f"{states[0]} here with {len(before)} epochs, {states[1]} there with {len(after)}"
    return _other_end(ours, theirs) if all(state in DONE for state in states) else None


def _other_end(ours: Row, theirs: Row) -> str | None:
    for name in ("reason", "parameters"):
        if ours[name] != theirs[name]:
            return f"{name} {ours[name]} here, {theirs[name]} there"
    return None


def _is_further(ours: Row, before: list[Row], theirs: Row, after: list[Row]) -> bool:
    done = theirs["state"] in DONE and ours["state"] not in DONE
    return done or len(after) > len(before)


def _figures(epoch: Row) -> list[str]:
    """Return what has to be equal; nan equals nan, and how long it took is no result."""
    return [repr(epoch[name]) for name in epoch if name not in ("run_id", "seconds")]


def _at_rest(run: Row) -> Row:
    """Return a run as it is without a lease."""
    if run["state"] == State.RUNNING:
        return {**run, "state": State.INTERRUPTED.value, "owner": None}
    return {**run, "owner": None}


def _identity(attempt: Row) -> tuple[object, ...]:
    outside = ("id", "run_id", *AT_THE_END)
    return tuple(value for name, value in attempt.items() if name not in outside)


def _rows(session: Session, table: type[Base], **equal: object) -> list[Row]:
    chosen = select(table.__table__).filter_by(**equal).order_by(*table.__table__.primary_key)
    return [dict(row) for row in session.execute(chosen).mappings()]


def _contents(session: Session, run: int, settings: str) -> dict[int, str]:
    """Return the parts of a run's analysis by their numbers."""
    chosen = (
        select(AnalysisPartRow.part, AnalysisPartRow.content)
        .join(AnalysisRow, AnalysisRow.id == AnalysisPartRow.analysis_id)
        .where(AnalysisRow.run_id == run, AnalysisRow.settings == settings)
    )
    return {row[0]: row[1] for row in session.execute(chosen)}


def _without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}
