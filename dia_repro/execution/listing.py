"""Listing of runs: a filter of the database's runs, and their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from difflib import get_close_matches
from typing import Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from dia_repro.artifacts import choose
from dia_repro.artifacts.selection import is_needed
from dia_repro.errors import UsageError
from dia_repro.execution.options import RunFilter
from dia_repro.execution.requests import is_named
from dia_repro.experiments.spec import InvalidSpecError, Spec
from dia_repro.results.database import Database
from dia_repro.results.frames import RUNS, count_rows, records_of
from dia_repro.results.schema import ProvenanceRow, RunRow, SpecRow, State


@dataclass(frozen=True)
class Listed:
    """Runs of a listing.

    Attributes:
        records: records of runs, with the columns of `RUNS`.
        matching: number of runs that the filter lets through, with those that a limit left out.
    """

    records: Sequence[dict[str, Any]]
    matching: int


def list_runs(database: Database, wanted: RunFilter, last: int | None = None) -> Listed:
    """Return the runs that a filter lets through, oldest first unless it sorts them.

    Args:
        last: number of the last of them to return, in that order.

    Raises:
        UsageError: a state, artifact or column that does not exist.
        DatabaseError: a spec cannot be read.
    """
    name, descending = _sorted_by(wanted)
    with database.reading() as session:
        chosen = _condition(session, wanted)
        # All that are to be sorted, or those that are listed.
        records = records_of(session, RUNS, chosen, last=None if name else last)
        matching = count_rows(session, RUNS, chosen)
    if name is not None:
        records.sort(key=lambda record: _rank(record[name]), reverse=descending)
    return Listed(records if last is None else records[-last:], matching)


def _sorted_by(wanted: RunFilter) -> tuple[str | None, bool]:
    """Return the column that runs are sorted by, and whether the highest come first."""
    if wanted.sort is None:
        return None, False
    name = wanted.sort.removeprefix("-")
    if name not in RUNS.names:
        near = get_close_matches(name, RUNS.names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(RUNS.names)}"
        raise UsageError(f"sort: runs have no column {name!r}: {hint}")
    return name, wanted.sort.startswith("-")


def _rank(value: Any) -> tuple[bool, Any]:
    """Return a key to sort a value by: those that are missing, or nan, are the lowest."""
    known = value is not None and not (isinstance(value, float) and math.isnan(value))
    return known, value if known else 0


def _condition(session: Session, wanted: RunFilter) -> ColumnElement[bool] | None:
    parts: list[ColumnElement[bool]] = []
    if wanted.state:
        if unknown := [name for name in wanted.state if name not in list(State)]:
            raise UsageError(f"state: no run is {unknown[0]!r}: choose from {', '.join(State)}")
        parts.append(RunRow.state.in_([State(name) for name in wanted.state]))
    if wanted.host:
        # A name that is not UTF-8 is nowhere in a database.
        hosts = [name.encode(errors="replace").decode() for name in wanted.host]
        on_hosts = select(ProvenanceRow.run_id).where(ProvenanceRow.host.in_(hosts))
        parts.append(RunRow.id.in_(on_hosts))
    if wanted.origin:
        parts.append(RunRow.origin.in_(wanted.origin))
    if wanted.since is not None:
        try:
            since = wanted.since.astimezone(UTC) if wanted.since.tzinfo else wanted.since
        except OverflowError:
            raise UsageError(f"since: {wanted.since} is in no year from 1 to 9999 in UTC") from None
        parts.append(RunRow.changed_at >= since.replace(tzinfo=None))
    if wanted.artifact or wanted.network or wanted.dataset:
        parts.append(RunRow.spec_id.in_(_spec_ids(session, wanted)))
    return and_(*parts) if parts else None


def _spec_ids(session: Session, wanted: RunFilter) -> list[str]:
    """Return the experiments of the artifacts, networks and data that are wanted."""
    artifacts = choose(wanted.artifact)
    if not all(text.split() for text in wanted.network):
        raise UsageError("network: needs words of a network's name, e.g. 'DIANet ResNet164'")
    datasets = {name.lower() for name in wanted.dataset}
    found = []
    for row in session.scalars(select(SpecRow)):
        try:
            spec = Spec.from_stored(row.json)
        except InvalidSpecError as error:
            reason = f"spec {row.spec_id} cannot be read: {error}: see 'dia-repro db check'"
            raise InvalidSpecError(reason) from error
        if (
            (not artifacts or any(is_needed(spec, artifact) for artifact in artifacts))
            and is_named(f"{spec.model.label} {spec.model.attention.kind}", wanted.network)
            and (not datasets or spec.data.dataset.lower() in datasets)
        ):
            found.append(row.spec_id)
    return found
