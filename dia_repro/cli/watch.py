"""`runs watch`: what is being trained, live, from a process that only reads."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

from rich.console import Group, RenderableType
from rich.text import Text
from typer import Option

from dia_repro.cli import options
from dia_repro.cli.output import duration, emit, stdout
from dia_repro.interrupts import Interrupted
from dia_repro.rendering.listing import Column, field, listing, sparkline
from dia_repro.rendering.records import Record

if TYPE_CHECKING:
    from dia_repro.results.histories import Activity, UnderWay

CURVE_WIDTH = 16
# A living process sends a heartbeat every 10 seconds: after six that did not come it is silent.
BEATS_MISSING_SECONDS = 60.0
ANSWER_SECONDS = 0.1  # so soon Ctrl-C is noticed

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
    Column("run", field("run"), right=True),
    Column("network", field("network")),
    Column("data", field("data")),
    Column("seed", field("seed"), right=True),
    Column("epoch", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("top-1 %", field("last_top1", "{:.2f}"), right=True),
    Column("curve", field("curve")),
    Column("left", field("seconds_left", duration), right=True),
    Column("", field("silent_seconds", lambda seconds: f"silent for {duration(seconds)}")),
)


class Watcher:
    """Measures how long runs have shown no change; clocks of other machines are not read.

    One look can say nothing of that: silence takes a second one.
    """

    def __init__(self) -> None:
        # By what is watched of a run: its last value, and when it was first seen.
        self.seen: dict[tuple[int, str], tuple[object, float]] = {}

    def look(self, run: UnderWay) -> tuple[float | None, float]:
        """Note what is new of a run.

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
        """A run as the table shows it."""
        from dia_repro.experiments.describe import describe_data, describe_model
        from dia_repro.experiments.spec import Spec

        spec, (silent, begun) = Spec.from_stored(run.spec_json), self.look(run)
        left = seconds_left(run, spec.recipe.epochs, begun)
        return {
            "run": run.id,
            "network": describe_model(spec.model),
            "data": describe_data(spec.data),
            "seed": run.seed,
            "epochs_done": len(run.top1),
            "epochs": spec.recipe.epochs,
            "last_top1": run.top1[-1] if run.top1 else None,
            "best_top1": max((one for one in run.top1 if one <= 100.0), default=None),
            "curve": sparkline(run.top1, CURVE_WIDTH, plain=plain),
            "seconds_left": left if silent is None else None,
            "silent_seconds": silent,
            "owner": run.owner,
        }


def seconds_left(run: UnderWay, epochs: int, begun: float) -> float | None:
    """Return the seconds left at the pace so far; None before the first epoch.

    Args:
        epochs: of the whole training.
        begun: seconds since the last epoch; of these no more than an epoch takes is counted.
    """
    if not run.seconds:
        return None
    an_epoch = fmean(run.seconds)
    return max(0.0, an_epoch * (epochs - len(run.seconds)) - min(an_epoch, begun))


def watch(
    every: Annotated[float, Option(min=0.1, max=3600, help="Seconds between two looks.")] = 2.0,
    forever: Annotated[
        bool, Option("--forever", help="Go on when no run is running or pending.")
    ] = False,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Watch runs while another process trains them: epochs, accuracy, its curve, time left.

    It only reads, and ends when no run is running or pending, or with Ctrl-C. Where output is no
    terminal, and as csv or json, it is one look.

    Example: dia-repro runs watch --every 5
    """
    try:
        if format_ is options.Format.TABLE and sys.stdout.isatty():
            _watch(db, every, forever=forever)
        else:
            watcher = Watcher()
            found = _look(db)
            records = [watcher.record(run) for run in found.under_way]
            emit(format_, FIELDS, records, _view(found, records))
    except (Interrupted, KeyboardInterrupt):  # the way to end it, and no failure
        return


def _watch(db: str, every: float, *, forever: bool) -> None:
    from rich.live import Live

    from dia_repro.execution.endings import Signals
    from dia_repro.results.database import DatabaseError

    console, watcher = stdout(), Watcher()
    plain = not console.encoding.lower().startswith("utf")
    view: RenderableType = Text()
    # The second signal ends a look that does not come back.
    with Live(console=console, auto_refresh=False) as live, Signals(raise_at=2) as signals:
        while not signals.stop:
            over, problem = False, Text()
            try:
                found = _look(db)
                records = [watcher.record(run, plain=plain) for run in found.under_way]
                view, over = _view(found, records), found.over
            except DatabaseError as error:  # busy or out of reach: at the next look it may be back
                problem = Text(str(error), style="dim")
            live.update(Group(view, problem) if problem else view, refresh=True)
            if over and not forever:
                return
            again = time.monotonic() + every
            while not signals.stop and (left := again - time.monotonic()) > 0:
                time.sleep(min(left, ANSWER_SECONDS))


def _look(db: str) -> Activity:
    """The database is opened for each look: between two of them nothing of it is held."""
    from dia_repro.results.database import open_database
    from dia_repro.results.histories import activity

    with closing(open_database(db, create=False)) as database:
        return activity(database)


def _view(found: Activity, records: list[Record]) -> RenderableType:
    from dia_repro.results.schema import State

    order = (
        State.RUNNING,
        State.PENDING,
        State.FINISHED,
        State.DIVERGED,
        State.FAILED,
        State.INTERRUPTED,
    )
    totals = ", ".join(f"{found.counts[state]:,} {state.value}" for state in order)
    heading = Text(totals, style="bold")
    if not records:
        return heading
    return Group(heading, Text(), listing(COLUMNS, records))
