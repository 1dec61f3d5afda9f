"""Runs as other trackers of experiments read them: TensorBoard, and Weights & Biases.

Each run is a run there, named after its network and seed, with all metrics by epoch. Event files
are written by the trackers' own libraries.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from dia_repro.errors import AbsentError, UsageError
from dia_repro.rendering.files import OutputError
from dia_repro.rendering.records import Tracker
from dia_repro.results.database import Database
from dia_repro.results.frames import EPOCHS, RUNS, SPEC, records_of

Record = dict[str, Any]
METRICS = tuple(name for name in EPOCHS.names if name not in ("run", "epoch"))
PROJECT = "dia-repro"
UID_DIGITS = 8
WANDB_HEADER, WANDB_BLOCK, PART_HEADER = 7, 32_768, 7  # bytes
LAST_PARTS = (1, 4)  # a whole record; the last part of one
MOST_CHARACTERS = 60  # of a text in a file's name


def export_to(
    tracker: Tracker, database: Database, folder: Path, on_progress: Callable[[int, int], None]
) -> int:
    """Write each run that has epochs for a tracker, and return how many.

    Args:
        folder: of the event files; made where there is none. It must not have any yet.
        on_progress: called with how many of how many runs are written.

    Raises:
        UsageError: the folder is not empty.
        AbsentError: the tracker's library is not installed.
        OutputError: the folder cannot be written to.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty: name another folder")
        write = _writer(tracker)
        folder.mkdir(parents=True, exist_ok=True)
        with database.reading() as session:
            runs = [run for run in records_of(session, RUNS) if run["epochs_done"]]
            epochs = epochs_by_run(session)
        for done, run in enumerate(runs, start=1):
            write(folder, run, epochs[run["run"]])
            on_progress(done, len(runs))
        if tracker is Tracker.WANDB:
            import wandb

            wandb.teardown()  # its own process writes the rest before it ends
            check_wandb(folder, {run["uid"]: len(epochs[run["run"]]) for run in runs})
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return len(runs)


def epochs_by_run(
    session: Session, chosen: ColumnElement[bool] | None = None
) -> dict[int, list[Record]]:
    """Return the epochs of each run, by its number."""
    found = records_of(session, EPOCHS, chosen)
    return {run: list(of_run) for run, of_run in groupby(found, itemgetter("run"))}


def _writer(tracker: Tracker) -> Callable[[Path, Record, list[Record]], None]:
    try:
        if tracker is Tracker.TENSORBOARD:
            import tensorboard  # noqa: F401

            return _write_tensorboard
        import wandb  # noqa: F401
    except ImportError as error:
        hint = f"pip install 'dia-repro[{tracker}]'"
        raise AbsentError(f"{error.name or tracker} is not installed: {hint}") from error
    return _write_wandb


def name_of(run: Record) -> str:
    """Return a name of a run for files, from its record in `frames.RUNS`.

    A database may come from anywhere: whatever its texts are, the name is that of no other folder.
    """
    uid = run["uid"] if run["origin"] else run["uid"][:UID_DIGITS]
    words = f"{run['network'][:MOST_CHARACTERS]} {run['data'][:MOST_CHARACTERS]} seed {run['seed']}"
    return "".join(c if c.isalnum() or c == "=" else "-" for c in f"{words} {uid}")


def _config(run: Record) -> Record:
    """Return a run's experiment, seed and state, without what is missing."""
    names = ("uid", "spec_id", "seed", "state", *(column.name for column in SPEC.values()))
    return {name: run[name] for name in names if run[name] is not None}


def _metrics(epoch: Record) -> Iterator[tuple[str, float]]:
    yield from ((name, epoch[name]) for name in METRICS if epoch[name] is not None)


def _write_tensorboard(folder: Path, run: Record, epochs: list[Record]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.summary_v2 import text_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    moment = run["created_at"].timestamp()
    about = "\n".join(f"    {name}: {value}" for name, value in _config(run).items())
    with closing(EventFileWriter(str(folder / name_of(run)))) as writer:
        writer.add_event(Event(wall_time=moment, summary=text_pb("experiment", about)))
        for epoch in epochs:
            moment += epoch["seconds"]
            values = [Summary.Value(tag=n, simple_value=v) for n, v in _metrics(epoch)]
            summary = Summary(value=values)
            writer.add_event(Event(wall_time=moment, step=epoch["epoch"], summary=summary))


def _write_wandb(folder: Path, run: Record, epochs: list[Record]) -> None:
    import wandb

    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True)
    with wandb.init(
        project=PROJECT,
        dir=str(folder),
        id=run["uid"],
        name=name_of(run),
        config=_config(run),
        mode="offline",
        settings=settings,
    ) as logged:
        for epoch in epochs:
            logged.log(dict(_metrics(epoch)), step=epoch["epoch"])


def check_wandb(folder: Path, epochs: Mapping[str, int]) -> None:
    """See that the files are whole: their process says nothing where the disk is full.

    Args:
        epochs: number of epochs of each run, by its uid.

    Raises:
        OSError: one is not.
    """
    for uid, expected in epochs.items():
        files = list(folder.glob(f"wandb/offline-run-*-{uid}/run-{uid}.wandb"))
        kinds = [kind for file in files for kind in _record_kinds(file.read_bytes())]
        if kinds.count("history") != expected or kinds[-1:] != ["exit"]:
            raise OSError(errno.EIO, f"the file of run {uid} is not whole: is the disk full?")


def _record_kinds(content: bytes) -> Iterator[str]:
    """Yield the kinds of the records of a .wandb file, as far as they are whole.

    It is a log as LevelDB's, after another header: blocks that hold parts of records, each
    behind a checksum (4 bytes), its length (2) and whether it is the last part of a record (1).
    """
    from wandb.proto.wandb_internal_pb2 import Record as Logged  # type: ignore[attr-defined]

    position, record = WANDB_HEADER, b""
    while position < len(content):
        left = WANDB_BLOCK - position % WANDB_BLOCK
        if left < PART_HEADER:
            position += left
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        begin, end = position + PART_HEADER, position + PART_HEADER + length
        if end > len(content):
            return
        record += content[begin:end]
        if content[position + 6] in LAST_PARTS:
            yield Logged.FromString(record).WhichOneof("record_type")
            record = b""
        position = end
