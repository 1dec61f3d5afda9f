"""`runs watch`: what is being trained, live, from a process that only reads."""

from __future__ import annotations

import sys
import time
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from dia_repro.cli import options
from dia_repro.cli.output import duration, emit, stdout
from dia_repro.interrupts import Interrupted
from dia_repro.rendering.listing import Column, field, listing
from dia_repro.rendering.records import Record
from dia_repro.rendering.sparkline import sparkline

if TYPE_CHECKING:
    from dia_repro.results.activity import Activity, UnderWay

CURVE_WIDTH = 16
# A living process beats every 10 seconds: after six beats that did not come it is silent.
SECONDS_A_BEAT = 10.0
BEATS_MISSING_SECONDS = 60.0
# Without having seen a beat come or stay away, what counts is the last epoch; epochs may be long.
LEAST_SILENCE_SECONDS, SILENT_EPOCHS = 600.0, 5
# So long a watcher waits for a beat before it goes by epochs.
GRACE_SECONDS = 20.0
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
    Column("left", lambda r: _duration(r["seconds_left"]), right=True),
    Column("", lambda r: _silence(r["silent_seconds"])),
)


class Watcher:
    """Remembers when it saw which sign of life.

    Args:
        live: whether it will look again; else the one look has to do.
    """

    def __init__(self, *, live: bool) -> None:
        self.live = live
        self.begun = time.monotonic()
        self.beats: dict[int, tuple[int | None, float, bool]] = {}

    def silent_for(self, run: UnderWay) -> float | None:
        """Seconds without a sign of life, once they are too many; None while all is well."""
        from dia_repro.results.schema import now

        moment = time.monotonic()
        beats, since, moved = self.beats.get(run.id, (run.beats, moment, False))
        if beats != run.beats:
            since, moved = moment, True
        self.beats[run.id] = (run.beats, since, moved)
        quiet = moment - since
        if moved or quiet > BEATS_MISSING_SECONDS:
            return quiet if quiet > BEATS_MISSING_SECONDS else None
        if self.live and moment - self.begun < GRACE_SECONDS:
            return None
        unchanged = (now() - run.changed_at).total_seconds()
        if run.seconds:
            longest = max(LEAST_SILENCE_SECONDS, SILENT_EPOCHS * fmean(run.seconds))
        else:  # since the last change, which was its beginning, it has lived for all its beats
            longest = LEAST_SILENCE_SECONDS + (run.beats or 0) * SECONDS_A_BEAT
        return unchanged if unchanged > longest else None

    def record(self, run: UnderWay, *, plain: bool = False) -> Record:
        """A run as the table shows it."""
        from dia_repro.experiments.describe import describe_data, describe_model
        from dia_repro.experiments.spec import Spec

        spec, silent = Spec.from_json(run.spec_json), self.silent_for(run)
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
            "seconds_left": seconds_left(run, spec.recipe.epochs) if silent is None else None,
            "silent_seconds": silent,
            "owner": run.owner,
        }


def seconds_left(run: UnderWay, epochs: int) -> float | None:
    """At the pace so far; None before the first epoch."""
    from dia_repro.results.schema import now

    if not run.seconds:
        return None
    an_epoch = fmean(run.seconds)
    # Clocks may differ between machines: no more than one epoch is taken to be under way.
    begun = min(an_epoch, max(0.0, (now() - run.changed_at).total_seconds()))
    return max(0.0, an_epoch * (epochs - len(run.seconds)) - begun)


def watch(
    every: Annotated[
        float, typer.Option("--every", min=0.1, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    forever: Annotated[
        bool, typer.Option("--forever", help="Go on when no run is running or pending.")
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
            watcher = Watcher(live=False)
            found = _look(db)
            records = [watcher.record(run) for run in found.under_way]
            emit(format_, FIELDS, records, _view(found, records))
    except (Interrupted, KeyboardInterrupt):  # the way to end it, and no failure
        return


def _watch(db: str, every: float, *, forever: bool) -> None:
    from rich.live import Live

    from dia_repro.execution.stopping import Signals
    from dia_repro.results.database import DatabaseError

    console, watcher = stdout(), Watcher(live=True)
    view: RenderableType = Text()
    # The second signal ends a look that does not come back.
    with Live(console=console, auto_refresh=False) as live, Signals(raise_at=2) as signals:
        while not signals.stop:
            over, problem = False, Text()
            try:
                found = _look(db)
                records = [watcher.record(run, plain=_plain(console)) for run in found.under_way]
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
    from dia_repro.results.activity import activity
    from dia_repro.results.database import open_database

    database = open_database(db, create=False)
    try:
        return activity(database)
    finally:
        database.close()


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


def _plain(console: Console) -> bool:
    return not console.encoding.lower().startswith("utf")


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _silence(seconds: float | None) -> str:
    return "" if seconds is None else f"silent for {duration(seconds)}"
