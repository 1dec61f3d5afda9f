"""One run in one process: claim it, train it, keep every epoch, say how it ended."""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from dia_repro.data import load
from dia_repro.errors import DiaReproError
from dia_repro.execution.messages import Ended, Message, Notice, Outcome, Progress, WorkOrder
from dia_repro.experiments.spec import Spec
from dia_repro.results import writer
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import RunSummary, run_detail
from dia_repro.results.schema import DONE, State
from dia_repro.training import checkpoint
from dia_repro.training.provenance import collect, peak_memory
from dia_repro.training.trainer import Diverged, Stopped, Trainer

REPORT_SECONDS = 0.5



def main(order: WorkOrder, connection: Connection) -> None:
    """Entry of a worker process; sends messages and ends with exactly one `Ended`."""
    stop = _StopFlag()
    torch.set_num_threads(order.threads)

    def send(message: Message) -> None:
        try:
            connection.send(message)
        except OSError:
            stop.requested = True

    try:
        ended = _Attempt(order, send, stop).run()
    except DiaReproError as error:
        ended = Ended(Outcome.FAILED, str(error))
    send(ended)
    connection.close()


class _StopFlag:
    """Set by SIGINT and SIGTERM; read between two steps."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.requested = True


def describe_owner(pid: int) -> str:
    """Who trains a run, for the message that another process prints."""
    return f"process {pid} on {socket.gethostname()}"


def run_folder(checkpoints: Path, spec_id: str, seed: int, uid: str) -> Path:
    """Where a run keeps its lock and checkpoints; no two databases share one."""
    return checkpoints / spec_id / f"seed-{seed}-{uid[:8]}"


class _Attempt:
    """One attempt of this process at one run."""

    def __init__(
        self, order: WorkOrder, send: Callable[[Message], None], stop: _StopFlag
    ) -> None:
        self.order, self.send, self.stop = order, send, stop
        self.spec = Spec.from_json(order.spec_json)
        self.device = torch.device(order.device)
        self.started = time.monotonic()
        self.reported = 0.0

    def run(self) -> Ended:
        database = open_database(self.order.database, create=False)
        try:
            summary = run_detail(database, self.order.run_id).summary
            folder = run_folder(
                self.order.checkpoints, summary.spec_id, summary.seed, summary.uid
            )
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock").acquire(timeout=0):
                return self._run_locked(database, folder)
        except Timeout:
            # The kernel gives the lock back when its holder dies, so whoever holds it lives.
            owner = run_detail(database, self.order.run_id).summary.owner
            return Ended(Outcome.BUSY, owner or "another process")
        except OSError as error:
            reason = error.strerror or str(error)
            return Ended(Outcome.FAILED, f"cannot use {self.order.checkpoints}: {reason}")
        finally:
            database.close()

    def _run_locked(self, database: Database, folder: Path) -> Ended:
        # Read again: before the lock was ours, another process may have finished the run.
        summary = run_detail(database, self.order.run_id).summary
        if summary.state in DONE:
            return Ended(Outcome.DONE_BEFORE)
        dataset = load(self.spec.data.dataset, self.order.data)
        trainer = Trainer(self.spec, self.order.seed, dataset, self.device)
        self._resume(trainer, folder, summary)
        provenance = collect(
            self.device, self.order.command, dataset.digest(), len(trainer.history)
        )
        attempt = writer.start(
            database, self.order.run_id, describe_owner(os.getpid()), asdict(provenance)
        )
        writer.set_parameters(database, self.order.run_id, trainer.parameters)
        self._align(database, trainer)
        state, reason = State.FAILED, None
        try:
            state, reason = self._train(database, trainer, folder)
        except DiaReproError as error:
            reason = str(error)
        except Exception as error:  # recorded with its reason; the other runs go on
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            with suppress(OSError):
                (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        writer.end(
            database,
            self.order.run_id,
            attempt,
            state,
            reason=reason,
            wall_seconds=time.monotonic() - self.started,
            peak_memory_bytes=peak_memory(self.device),
        )
        return Ended(Outcome(state.value), reason)

    def _resume(self, trainer: Trainer, folder: Path, summary: RunSummary) -> None:
        loaded = checkpoint.load_newest(folder)
        if loaded is None:
            if summary.epochs:
                self._notice("no sound checkpoint is left: starts again from the first epoch")
            return
        for path in loaded.damaged:
            self._notice(f"{path} is damaged: going on from {loaded.path.name}")
        trainer.load_state(loaded.content)

    def _align(self, database: Database, trainer: Trainer) -> None:
        history = [asdict(metrics) for metrics in trainer.history]
        taken_back = writer.align_epochs(database, self.order.run_id, history)
        if taken_back:
            self._notice(f"{taken_back} epochs without a checkpoint will be trained again")

    def _train(
        self, database: Database, trainer: Trainer, folder: Path
    ) -> tuple[State, str | None]:
        def on_step(_steps: int) -> bool:
            self._report(trainer)
            return self.stop.requested

        try:
            while not trainer.finished:
                metrics = trainer.run_epoch(on_step)
                self._save(trainer, folder)
                writer.record_epoch(database, self.order.run_id, asdict(metrics))
                self._report(trainer, now=True)
        except Stopped:
            self._save(trainer, folder)
            return State.INTERRUPTED, None
        except Diverged as outcome:
            return State.DIVERGED, str(outcome)
        for older in checkpoint.sorted_files(folder)[1:]:
            older.unlink()
        return State.FINISHED, None

    def _save(self, trainer: Trainer, folder: Path) -> None:
        checkpoint.save(folder, trainer.state(), len(trainer.history), trainer.position)

    def _report(self, trainer: Trainer, *, now: bool = False) -> None:
        moment = time.monotonic()
        if not now and moment - self.reported < REPORT_SECONDS:
            return
        self.reported = moment
        self.send(
            Progress(
                epochs=len(trainer.history),
                of_epochs=self.spec.recipe.epochs,
                steps=trainer.position,
                of_steps=trainer.steps_per_epoch,
                top1=trainer.history[-1].test_top1 if trainer.history else None,
            )
        )

    def _notice(self, text: str) -> None:
        self.send(Notice(f"{self.order.label}: {text}"))
