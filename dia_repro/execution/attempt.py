"""One attempt at one run: claim it, train it, keep every epoch, say how it ended."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from dia_repro.data import AnyDataset, load
from dia_repro.errors import DiaReproError
from dia_repro.execution.messages import (
    Ended,
    Message,
    Notice,
    Outcome,
    Progress,
    WorkOrder,
    describe_owner,
)
from dia_repro.experiments.spec import Spec
from dia_repro.results import writer
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import RunSummary, run_detail
from dia_repro.results.schema import DONE, GRADIENTS_SETTINGS, State
from dia_repro.training import checkpoint
from dia_repro.training.numerics import prepare_process
from dia_repro.training.provenance import collect, peak_memory
from dia_repro.training.trainer import Diverged, Stopped, Trainer

REPORT_SECONDS = 0.5
# A process killed a moment ago keeps its locks until the kernel has torn it down.
PATIENCE_SECONDS = 1.0


def claim(folder: Path) -> FileLock | None:
    """A run's lock, or None where somebody has it.

    The kernel gives it back when its holder dies, so whoever keeps it lives.
    """
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        return None
    except OSError as error:
        raise checkpoint.CheckpointError(
            f"cannot write to {folder}: {error.strerror or error}"
        ) from error
    return lock


class Attempt:
    """One attempt of this process at one run.

    Args:
        order: which run, and where things are.
        send: tells the process that started this one.
        should_stop: asked between two steps.
    """

    def __init__(
        self, order: WorkOrder, send: Callable[[Message], None], should_stop: Callable[[], bool]
    ) -> None:
        self.order, self.send, self.should_stop = order, send, should_stop
        prepare_process(order.threads, deterministic=order.deterministic)
        self.spec = Spec.from_json(order.spec_json)
        self.device = torch.device(order.device)
        self.started = time.monotonic()
        self.reported = 0.0
        self.step: str | None = None

    def run(self) -> Ended:
        """Train unless another process has the run, or had it before."""
        database = open_database(self.order.database, create=False)
        try:
            summary = run_detail(database, self.order.run_id).summary
            folder = checkpoint.run_folder(
                self.order.checkpoints, summary.spec_id, summary.seed, summary.uid
            )
            lock = claim(folder)
            if lock is None:
                owner = run_detail(database, self.order.run_id).summary.owner
                return Ended(Outcome.BUSY, owner or "another process")
            with lock:
                return self._run_locked(database, folder)
        finally:
            database.close()

    def _run_locked(self, database: Database, folder: Path) -> Ended:
        # Read again: before the lock was ours, another process may have finished the run.
        summary = run_detail(database, self.order.run_id).summary
        if summary.state in DONE:
            return Ended(Outcome.DONE_BEFORE)
        dataset = load(self.spec.data, self.order.data)
        loaded = checkpoint.load_newest(folder)
        history = loaded.content["history"] if loaded else []
        circumstances = collect(self.device, self.order.command, dataset.digest(), len(history))
        attempt = writer.start(
            database, summary.id, describe_owner(os.getpid()), asdict(circumstances)
        )
        state, reason = State.FAILED, None
        try:
            self._align(database, summary, loaded, history)
            state, reason = self._train(database, dataset, loaded, folder)
        except DiaReproError as error:
            reason = str(error)
        except Exception as error:  # recorded with its reason; the other runs go on
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            with suppress(OSError):
                (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        writer.end(
            database,
            summary.id,
            attempt,
            state,
            reason=reason,
            wall_seconds=time.monotonic() - self.started,
            peak_memory_bytes=peak_memory(self.device),
            step=self.step,
        )
        return Ended(Outcome(state.value), reason)

    def _align(
        self,
        database: Database,
        summary: RunSummary,
        loaded: checkpoint.Loaded | None,
        history: list[dict[str, float]],
    ) -> None:
        if loaded is None and summary.epochs:
            self._notice("no sound checkpoint is left: starts again from the first epoch")
        if loaded is not None:
            for path in loaded.damaged:
                self._notice(f"{path} is damaged: going on from {loaded.path.name}")
        taken_back = writer.align_epochs(database, summary.id, history)
        if taken_back:
            self._notice(f"{taken_back} epochs without a checkpoint will be trained again")

    def _train(
        self,
        database: Database,
        dataset: AnyDataset,
        loaded: checkpoint.Loaded | None,
        folder: Path,
    ) -> tuple[State, str | None]:
        trainer = Trainer(self.spec, self.order.seed, dataset, self.device, self.order.threads)
        if loaded is not None:
            trainer.load_state(loaded.content)
            self._notice(f"goes on after epoch {len(trainer.history)}, step {trainer.position}")
        writer.set_parameters(database, self.order.run_id, trainer.parameters)

        def on_step(_steps: int) -> bool:
            self._report(trainer)
            return self.should_stop()

        try:
            while not trainer.finished:
                metrics = trainer.run_epoch(on_step)
                self._say_how(trainer)
                self._save(trainer, folder)
                writer.record_epoch(database, self.order.run_id, asdict(metrics))
                self._record_gradients(trainer, database)
                self._report(trainer, now=True)
        except Stopped:
            self._save(trainer, folder)
            return State.INTERRUPTED, None
        except Diverged as outcome:
            self._record_gradients(trainer, database)
            return State.DIVERGED, str(outcome)
        for older in checkpoint.sorted_files(folder)[1:]:
            older.unlink()
        return State.FINISHED, None

    def _record_gradients(self, trainer: Trainer, database: Database) -> None:
        if not trainer.gradients:
            return
        circumstances = json.dumps({"command": self.order.command})
        number = writer.ensure_analysis(
            database, self.order.run_id, GRADIENTS_SETTINGS, circumstances
        )
        for epochs, records in trainer.gradients.items():
            writer.record_part(database, number, epochs, json.dumps(records), 0.0)

    def _say_how(self, trainer: Trainer) -> None:
        if self.step != trainer.step.how:
            self.step = trainer.step.how
            if self.step.startswith("not "):  # slower than it could be: a person may mend it
                self._notice(f"steps are {self.step}")

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
