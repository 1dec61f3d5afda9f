"""Bringing together the results of databases that never met.

A run is known by its spec and seed. What one database has and the other has not is added. A run
that got further elsewhere goes on from here. Where the two have different results for the same,
nothing is overwritten: that is a conflict, for a person to decide. Results of others can be kept
next to ours, under a name of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from dia_repro import interrupts
from dia_repro.errors import UsageError
from dia_repro.results.backends import sqlite_path
from dia_repro.results.checks import ORIGIN, problems
from dia_repro.results.database import Database
from dia_repro.results.parts import same_environment
from dia_repro.results.schema import (
    DONE,
    GRADIENTS_SETTINGS,
    OURS,
    Base,
    LeaseRow,
    RunRow,
    SpecRow,
    State,
)
from dia_repro.results.sources import data_behind, data_hashes, numbers_of_test_images

Row = TypeVar("Row", bound=Base)
# What an attempt learns at its end only; it is recognised by all else.
AT_THE_END = ("ended_at", "wall_seconds", "peak_memory_bytes", "step")
MENTIONED = 3  # problems of a database that is not sound


class MergeError(UsageError):
    """A database cannot be merged into this one."""


@dataclass(frozen=True)
class Conflict:
    """A run for which two databases have different results."""

    spec_id: str
    seed: int
    source: str
    reason: str


class ConflictError(MergeError):
    """Runs conflict, so nothing was merged.

    Attributes:
        conflicts: the runs.
    """

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        first = conflicts[0]
        super().__init__(
            f"nothing was merged: {len(conflicts)} runs conflict, the first of them seed "
            f"{first.seed} of {first.spec_id} in {first.source}: {first.reason}"
        )


@dataclass
class Merged:
    """Numbers of runs that a merge added, continued and knew.

    Attributes:
        added: runs that were not here.
        continued: runs that had got further there.
        known: runs without new epochs; analyses of theirs are added all the same.
        unfinished: runs of others that have no result yet, which are not taken.
    """

    added: int = 0
    continued: int = 0
    known: int = 0
    unfinished: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


def merge(
    target: Database,
    sources: Sequence[Database],
    *,
    skip_conflicts: bool,
    origin: str | None = None,
) -> Merged:
    """Add what other databases hold, in one transaction.

    Args:
        skip_conflicts: take the rest where runs conflict; otherwise nothing at all is taken.
        origin: name of those whose results they are, which are kept apart from ours; None where
            they are ours. Runs that have a name there keep it.

    Raises:
        MergeError: others cannot be named so, or a source is the target itself, or has rows that
            dia-repro does not write.
        DatabaseError: a database cannot be read or written.
    """
    if origin is not None and not ORIGIN.fullmatch(origin):
        raise MergeError(
            f"{origin[:60]!r} is no name of others: take up to 60 letters, digits, spaces and "
            ".,:&+()'-"
        )
    here = sqlite_path(target.location)
    for source in sources:
        there = sqlite_path(source.location)
        same_file = here is not None and there is not None and here.resolve() == there.resolve()
        if same_file or target.location == source.location:
            raise MergeError(f"{source.name} is the database that is merged into")
    merged = Merged()
    with target.writing() as session:
        for source in sources:
            with source.reading() as theirs:
                _check_sound(theirs, source.name)
                _Merge(session, theirs, source.name, origin or OURS, merged).run()
        if merged.conflicts and not skip_conflicts:
            session.rollback()
            merged = Merged(conflicts=merged.conflicts)
        interrupts.check()
    return merged


def _check_sound(session: Session, name: str) -> None:
    found = list(problems(session))
    if found:
        more = len(found) - MENTIONED
        raise MergeError(
            f"{name} is not sound: {'; '.join(found[:MENTIONED])}"
            f"{f'; and {more} more' if more > 0 else ''}: nothing was merged"
        )


class _Merge:
    """Merge of one source into the target."""

    def __init__(
        self, ours: Session, theirs: Session, source: str, origin: str, merged: Merged
    ) -> None:
        self.ours, self.theirs, self.source, self.merged = ours, theirs, source, merged
        self.origin = origin
        origins = {OURS, origin, *theirs.scalars(select(RunRow.origin).distinct())}
        self.images = {name: numbers_of_test_images(ours, origin=name) for name in origins}
        self.specs = set(ours.scalars(select(SpecRow.spec_id)))

    def run(self) -> None:
        for run in self.theirs.scalars(select(RunRow).order_by(RunRow.id)):
            interrupts.check()
            self._merge_run(run)
            self.ours.flush()
            self.theirs.expire(run)  # its epochs need not stay in memory

    def _counterpart(self, theirs: RunRow, origin: str) -> RunRow | None:
        """Return the run here that a run there is or would be; the same training comes first."""
        cell = {"spec_id": theirs.spec_id, "seed": theirs.seed}
        same = self.ours.scalar(select(RunRow).filter_by(uid=theirs.uid, **cell))
        return same or self.ours.scalar(select(RunRow).filter_by(origin=origin, **cell))

    def _merge_run(self, theirs: RunRow) -> None:
        origin = theirs.origin or self.origin
        ours = self._counterpart(theirs, origin)
        if ours is None and origin != OURS and theirs.state not in DONE:
            self.merged.unfinished += 1
            return
        further = ours is None or _is_further(ours, theirs)
        reason = self._other_experiment(theirs, origin)
        if ours is not None:
            reason = reason or _other_origin(ours, origin, further) or _difference(ours, theirs)
            if further and self.ours.get(LeaseRow, ours.id) is not None:
                reason = reason or "is being trained here"
        if reason is not None:
            conflict = Conflict(theirs.spec_id, theirs.seed, self.source, reason)
            self.merged.conflicts.append(conflict)
        elif ours is None:
            self.merged.added += 1
            if theirs.spec_id not in self.specs:
                self.ours.add(_copy(self.theirs.get_one(SpecRow, theirs.spec_id)))
                self.specs.add(theirs.spec_id)
            ours = RunRow(created_at=theirs.created_at, origin=origin)
            _continue(ours, theirs)
            self.ours.add(ours)
        elif further:
            self.merged.continued += 1
            # Make room for the gradients of the training that the run's rows come from now.
            ours.analyses = [row for row in ours.analyses if row.settings != GRADIENTS_SETTINGS]
            self.ours.flush()
            _continue(ours, theirs)
        else:
            self.merged.known += 1
            if ours.uid == theirs.uid:
                _add_attempts(ours, theirs, new=False)
            if _is_equal(ours, theirs):
                _add_analyses(ours, theirs)

    def _other_experiment(self, theirs: RunRow, origin: str) -> str | None:
        """Return why a run there and runs here of an origin exclude each other.

        That is apart from their results.
        """
        spec_id = theirs.spec_id
        same = self.ours.scalar(select(RunRow).filter_by(uid=theirs.uid))
        if same is not None and (same.spec_id, same.seed) != (spec_id, theirs.seed):
            return f"has the uid of run {same.id} here, another spec or seed"
        for attempt in theirs.attempts:
            there = attempt.test_images
            others = self.images[origin].get(attempt.data_sha256, set()) - {there}
            if there is not None and others:
                return f"has {there} test images, the same data have {min(others)} here"
        here = data_hashes(self.ours, spec_id, origin=origin).get(spec_id, set())
        behind = data_behind(self.theirs, spec_id, origin=theirs.origin)
        data = {digest for run, _, digest in behind if run == theirs.id}
        if here and data - here:
            return "was trained on other data than runs here"
        counted = select(RunRow.parameters).filter_by(spec_id=spec_id, origin=origin)
        parameters = theirs.parameters
        for count in set(self.ours.scalars(counted)) - {None, parameters}:
            if parameters is not None:
                return f"has {parameters} parameters, runs of the same experiment here have {count}"
        return None


def _other_origin(ours: RunRow, origin: str, further: bool) -> str | None:
    """Return why the same training cannot be taken as another's than it is here.

    A run of ours that comes back from others without news stays ours.
    """
    if ours.origin == origin or (ours.origin == OURS and not further):
        return None
    whose = f"of {ours.origin}" if ours.origin else "ours"
    return f"is run {ours.id} here, which is {whose}: it is merged as that, or removed first"


def _is_further(ours: RunRow, theirs: RunRow) -> bool:
    done = theirs.state in DONE and ours.state not in DONE
    return done or len(theirs.epochs) > len(ours.epochs)


def _is_equal(ours: RunRow, theirs: RunRow) -> bool:
    """Return whether one of two compatible runs can take the analyses of the other."""
    return ours.uid == theirs.uid or (ours.state in DONE and theirs.state in DONE)


def _difference(ours: RunRow, theirs: RunRow) -> str | None:
    """Return why two histories of a run exclude each other; None if they do not."""
    for mine, other in zip(ours.epochs, theirs.epochs, strict=False):
        # As text, in which nan equals nan. The duration is no result.
        if repr(_values(mine, "run_id", "seconds")) != repr(_values(other, "run_id", "seconds")):
            return f"other metrics from epoch {mine.epoch} on"
    here, there = len(ours.epochs), len(theirs.epochs)
    both_done = ours.state in DONE and theirs.state in DONE
    longer_than_done = (ours.state in DONE and there > here) or (
        theirs.state in DONE and here > there
    )
    if longer_than_done or (both_done and ours.state != theirs.state):
        return f"{ours.state} here with {here} epochs, {theirs.state} there with {there}"
    if both_done:
        for name in ("reason", "parameters"):
            mine, other = getattr(ours, name), getattr(theirs, name)
            if mine != other:
                return f"{name} {mine} here, {other} there"
    if _is_equal(ours, theirs) and not _is_further(ours, theirs):
        known, others = _analyses(ours), _analyses(theirs)
        differing = [part for part in known.keys() & others.keys() if known[part] != others[part]]
        if differing:
            settings, part = min(differing)
            gradients = settings == GRADIENTS_SETTINGS
            what = f"gradients after {part} epochs" if gradients else f"results of {settings}"
            return f"other {what}"
    return None


def _analyses(run: RunRow) -> dict[tuple[str, int], str]:
    """Return the parts of a run's analyses, by their settings and number."""
    return {
        (analysis.settings, part.part): part.content
        for analysis in run.analyses
        for part in analysis.parts
    }


def _continue(ours: RunRow, theirs: RunRow) -> None:
    """Take over how far a run has got there, and all that belongs to it; without its lease."""
    for name, value in _values(theirs, "id", "created_at", "owner", "origin").items():
        setattr(ours, name, value)
    ours.owner = None
    if theirs.state == State.RUNNING:
        ours.state = State.INTERRUPTED
    ours.epochs += [_copy(epoch, "run_id") for epoch in theirs.epochs[len(ours.epochs) :]]
    _add_attempts(ours, theirs, new=True)
    _add_analyses(ours, theirs)


def _add_attempts(ours: RunRow, theirs: RunRow, *, new: bool) -> None:
    """Add how attempts ended, and those that are not here.

    Args:
        new: whether rows of theirs are taken; otherwise nothing here comes from other attempts.
    """
    known = {_identity(attempt): attempt for attempt in ours.attempts}
    for attempt in theirs.attempts:
        same = known.get(_identity(attempt))
        if same is None and new:
            ours.attempts.append(_copy(attempt, "id", "run_id"))
        elif same is not None and same.ended_at is None:
            for name in AT_THE_END:
                setattr(same, name, getattr(attempt, name))


def _identity(attempt: Base) -> tuple[object, ...]:
    return tuple(_values(attempt, "id", "run_id", *AT_THE_END).values())


def _add_analyses(ours: RunRow, theirs: RunRow) -> None:
    """Add analyses and parts that are missing; other results of one analysis are not mixed.

    Nor are parts that were made in different environments.
    """
    here = {analysis.settings: analysis for analysis in ours.analyses}
    for analysis in theirs.analyses:
        mine = here.get(analysis.settings)
        if mine is None:
            mine = _copy(analysis, "id", "run_id")
            ours.analyses.append(mine)
        elif not same_environment(mine.circumstances, analysis.circumstances):
            continue
        known = {part.part: part.content for part in mine.parts}
        if all(known.get(part.part, part.content) == part.content for part in analysis.parts):
            new = [part for part in analysis.parts if part.part not in known]
            mine.parts += [_copy(part, "analysis_id") for part in new]


def _values(row: Base, *without: str) -> dict[str, Any]:
    """Return a row's values by column."""
    names = (column.key for column in row.__table__.columns)
    return {name: getattr(row, name) for name in names if name not in without}


def _copy(row: Row, *without: str) -> Row:
    """Return a new row with a row's values, for another session."""
    return type(row)(**_values(row, *without))
