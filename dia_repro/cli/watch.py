"""View of `runs watch`: runs under way, live, from a process that only reads."""

from __future__ import annotations

import time
from contextlib import closing
from statistics import fmean

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from dia_repro.cli.output import stdout
from dia_repro.execution.dialogue import duration
from dia_repro.execution.endings import Signals
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.listing import Column, field, listing, plain, sparkline
from dia_repro.rendering.records import Record
from dia_repro.results.database import (
    DatabaseError,
    NoDatabaseError,
    open_database,
    open_existing,
)
from dia_repro.results.histories import Activity, UnderWay, activity
from dia_repro.results.schema import State

CURVE_WIDTH = 16
BEATS_MISSING_SECONDS = 60.0  # six heartbeats
ANSWER_SECONDS = 0.1  # until Ctrl-C is noticed

FIELDS = (
    "run",
    "network",
    "data",
    "seed",
    "epochs_done",
    "epochs",
    "last_top1",
    "best_top1",
    "seconds_left",
    "silent_seconds",
    "owner",
)
COLUMNS = (
    *plain("run", right=True),
    *plain("network", "data"),
    *plain("seed", right=True),
    Column("epoch", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("top-1 %", field("last_top1", "{:.2f}"), right=True),
    *plain("curve"),
    Column("left", field("seconds_left", duration), right=True),
    Column("", field("silent_seconds", lambda seconds: f"silent for {duration(seconds)}")),
)


class Watcher:
    """Measures how long runs have shown no change; clocks of other machines are not read.

    The first look cannot tell: silence needs a second one.

    Attributes:
        saw_runs: whether a look has found a run: from then on a missing database was moved away.
    """

    def __init__(self) -> None:
        self.saw_runs = False
        # By run and quantity: the last value, and when it was first seen.
        self.seen: dict[tuple[int, str], tuple[object, float]] = {}

    def look(self, run: UnderWay) -> tuple[float | None, float]:
        """Compare a run with the last look at it.

        Returns:
            Seconds since its last heartbeat or epoch was seen, once they are too many, else None;
            seconds since its last epoch was seen, 0 at the first look.
        """
        epochs = len(run.top1)
        quiet = self._unchanged((run.id, "sign of life"), (run.beats, epochs))
        silent = quiet if quiet > BEATS_MISSING_SECONDS else None
        return silent, self._unchanged((run.id, "epoch"), epochs)

    def _unchanged(self, what: tuple[int, str], value: object) -> float:
        """Return the seconds since a value was first seen, by this process's monotonic clock."""
        moment = time.monotonic()
        known, since = self.seen.get(what, (None, moment))
        if known != value:
            since = moment
            self.seen[what] = value, since
        return moment - since

    def record(self, run: UnderWay, *, plain: bool = False) -> Record:
        """Return a run as the table shows it."""
        spec, (silent, begun) = Spec.from_stored(run.spec_json), self.look(run)
        left = seconds_left(run, spec.recipe.epochs, begun)
        return {
            "run": run.id,
            "network": spec.model.label,
            "data": spec.data.label,
            "seed": run.seed,
            "epochs_done": len(run.top1),
            "epochs": spec.recipe.epochs,
            "last_top1": run.top1[-1] if run.top1 else None,
            "best_top1": max((top1 for top1 in run.top1 if top1 <= 100.0), default=None),  # no nan
            "curve": sparkline(run.top1, CURVE_WIDTH, plain=plain),
            "seconds_left": left if silent is None else None,
            "silent_seconds": silent,
            "owner": run.owner,
        }


def seconds_left(run: UnderWay, epochs: int, begun: float) -> float | None:
    """Return the seconds left at the pace so far; None before the first epoch.

    Args:
        epochs: number of epochs of the whole training.
        begun: seconds since the last epoch; at most the time of an epoch is counted.
    """
    if not run.seconds:
        return None
    an_epoch = fmean(run.seconds)
    return max(0.0, an_epoch * (epochs - len(run.seconds)) - min(an_epoch, begun))


def look_once(db: str) -> tuple[list[Record], RenderableType]:
    """Return the runs under way, and the view of them."""
    found, watcher = _look(db), Watcher()
    records = [watcher.record(run) for run in found.under_way]
    return records, _view(found, records)


def follow(db: str, every: float, *, forever: bool) -> None:
    """Show runs in the terminal until none is running or pending, or a signal comes.

    Args:
        every: seconds between two looks.
        forever: go on when no run is running or pending.
    """
    console, watcher = stdout(), Watcher()
    plain = not console.encoding.lower().startswith("utf")
    view: RenderableType = Text()
    # The second signal ends a look that does not come back.
    with Live(console=console, auto_refresh=False) as live, Signals(raise_at=2) as signals:
        while not signals.stop:
            over, problem = False, Text()
            try:
                found = _look(db, must_exist=watcher.saw_runs)
                records = [watcher.record(run, plain=plain) for run in found.under_way]
                watcher.saw_runs = watcher.saw_runs or any(found.counts.values())
                view, over = _view(found, records), found.over
            except (DatabaseError, NoDatabaseError) as error:
                # Busy, moved or out of reach, perhaps not at the next look.
                problem = Text(str(error), style="dim")
            live.update(Group(view, problem) if problem else view, refresh=True)
            if over and not forever:
                return
            again = time.monotonic() + every
            while not signals.stop and (left := again - time.monotonic()) > 0:
                time.sleep(min(left, ANSWER_SECONDS))


def _look(db: str, *, must_exist: bool = False) -> Activity:
    """Return the runs under way; the database is closed again, so that no lock is held.

    Args:
        must_exist: raise `NoDatabaseError` where there is no database, instead of finding no run.
    """
    opened = open_existing(db) if must_exist else open_database(db, create=False)
    with closing(opened) as database:
        return activity(database)


def _view(found: Activity, records: list[Record]) -> RenderableType:
    order = dict.fromkeys((State.RUNNING, *State))
    heading = Text(", ".join(f"{found.counts[state]:,} {state}" for state in order), style="bold")
    return Group(heading, Text(), listing(COLUMNS, records)) if records else heading
