"""One attempt at one run: claim it, train it, keep every epoch, say how it ended."""

from __future__ import annotations

import json
import math
import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import torch

from dia_repro.data import AnyDataset, load
from dia_repro.errors import DiaReproError
from dia_repro.execution.claiming import Heart, lock_folder, lock_place, place_of, seems_dead
from dia_repro.execution.crew import crew, threads_each
from dia_repro.execution.ledger import Ledger
from dia_repro.execution.messages import (
    Ended,
    Message,
    Notice,
    Outcome,
    Progress,
    WorkOrder,
    describe_owner,
)
from dia_repro.experiments.names import Keep
from dia_repro.experiments.spec import Spec
from dia_repro.results.claims import AlreadyDoneError, HeldError, TakenOverError
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import DONE, State
from dia_repro.training import checkpoint
from dia_repro.training.numerics import prepare_process
from dia_repro.training.provenance import collect, peak_memory
from dia_repro.training.store import CheckpointError, Folder
from dia_repro.training.trainer import Diverged, Stopped, Trainer

REPORT_SECONDS = 0.5


class Attempt:
    """One attempt of this process at one run.

    Args:
        order: which run, and where things are.
        send: tells the process that started this one.
        should_stop: asked between two steps.
        ledger: the results database; by default opened where the order says.
    """

    def __init__(
        self,
        order: WorkOrder,
        send: Callable[[Message], None],
        should_stop: Callable[[], bool],
        ledger: Ledger | None = None,
    ) -> None:
        self.order, self.send, self.should_stop = order, send, should_stop
        self.device = torch.device(order.device)
        prepare_process(threads_each(order), self.device, deterministic=order.deterministic)
        self.spec = Spec.from_json(order.spec_json)
        self.started = time.monotonic()
        self.reported = 0.0
        self.step: str | None = None
        self.ledger = ledger or Ledger.at(order.database)

    def run(self) -> Ended:
        """Train unless another process has the run, or had it before."""
        try:
            summary = self.ledger.summary(self.order.run_id)
            folder = checkpoint.run_folder(
                self.order.checkpoints, summary.spec_id, summary.seed, summary.uid
            )
            lock = lock_folder(lock_place(folder))
            if lock is None:
                owner = self.ledger.summary(self.order.run_id).owner
                return Ended(Outcome.BUSY, owner or "another process")
            try:
                return self._run_locked(folder)
            finally:  # now, for a worker of Ray's lives on
                lock.release()
        except AlreadyDoneError:
            return Ended(Outcome.DONE_BEFORE)
        except HeldError as held:
            return Ended(Outcome.BUSY, held.holder.owner)
        except TakenOverError:
            return Ended(Outcome.BUSY, "another process, which took this one for dead")
        finally:
            self.ledger.close()

    def _run_locked(self, folder: Folder) -> Ended:
        # Read again: before the lock was ours, another process may have finished the run.
        summary = self.ledger.summary(self.order.run_id)
        if summary.state in DONE:
            return Ended(Outcome.DONE_BEFORE)
        dataset = self._load()
        loaded = checkpoint.load_newest(folder)
        history = loaded.content["history"] if loaded else []
        circumstances = collect(self.device, self.order.command, dataset.digest(), len(history))
        attempt = self._take(summary.id, folder, asdict(circumstances))
        state, reason = State.FAILED, None
        with Heart(self.ledger, summary.id, attempt) as self.heart:
            try:
                self._align(summary, attempt, folder, loaded, history)
                state, reason = self._train(attempt, dataset, loaded, folder)
            except TakenOverError:
                raise
            except DiaReproError as error:
                reason = str(error)
            except Exception as error:  # recorded with its reason; the other runs go on
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                with suppress(CheckpointError):
                    folder.write("traceback.txt", traceback.format_exc().encode())
        self.ledger.end(
            summary.id,
            attempt,
            state,
            reason=reason,
            wall_seconds=time.monotonic() - self.started,
            peak_memory_bytes=peak_memory(self.device),
            step=self.step,
        )
        return Ended(Outcome(state.value), reason)

    def _load(self) -> AnyDataset:
        return load(self.spec.data, self.order.data)

    def _take(self, run_id: int, folder: Folder, provenance: dict[str, Any]) -> int:
        """The number of our attempt; the lock is ours."""
        owner, place = describe_owner(os.getpid()), place_of(lock_place(folder))
        try:
            return self.ledger.take(run_id, owner, place, provenance)
        except HeldError as held:
            self._notice(f"{held.holder.owner} has it: waiting for a sign of life")
            dead = seems_dead(self.ledger, held.holder, self.should_stop)
            if dead is None:
                raise
            self._notice(f"{dead.owner} gave none and is taken for dead")
            return self.ledger.take(run_id, owner, place, provenance, dead)

    def _align(
        self,
        summary: RunSummary,
        attempt: int,
        folder: Folder,
        loaded: checkpoint.Loaded | None,
        history: list[dict[str, float]],
    ) -> None:
        if loaded is None and summary.epochs:
            for name in checkpoint.sorted_names(folder):
                self._notice(f"{folder.shown(name)} is damaged")
            self._notice("no sound checkpoint is left: starts again from the first epoch")
        if loaded is not None:
            for name in loaded.damaged:
                self._notice(f"{folder.shown(name)} is damaged: going on from {loaded.name}")
        taken_back = self.ledger.align_epochs(summary.id, attempt, history)
        if taken_back:
            self._notice(f"{taken_back} epochs without a checkpoint will be trained again")

    def _train(
        self,
        attempt: int,
        dataset: AnyDataset,
        loaded: checkpoint.Loaded | None,
        folder: Folder,
    ) -> tuple[State, str | None]:
        with crew(self.order, self.send) as group:
            threads = threads_each(self.order)
            trainer = Trainer(self.spec, self.order.seed, dataset, self.device, threads, group)
            return self._train_with(trainer, attempt, loaded, folder)

    def _train_with(
        self, trainer: Trainer, attempt: int, loaded: checkpoint.Loaded | None, folder: Folder
    ) -> tuple[State, str | None]:
        saved = trainer.group.from_first(loaded.content if loaded else None)
        if saved is not None:
            trainer.load_state(saved)
            self._notice(f"goes on after epoch {len(trainer.history)}, step {trainer.position}")
        self.ledger.set_parameters(self.order.run_id, attempt, trainer.parameters)

        def on_step(_steps: int) -> bool:
            self._say_how(trainer)
            self._report(trainer)
            return self.should_stop() or self.heart.taken_over

        try:
            while not trainer.finished:
                metrics = trainer.run_epoch(on_step)
                self._say_how(trainer)
                self._save(trainer, folder)
                self.ledger.record_epoch(self.order.run_id, attempt, asdict(metrics))
                self._record_gradients(trainer)
                self._report(trainer, now=True)
        except Stopped:
            if self.heart.taken_over:
                raise TakenOverError(f"{self.order.label} was taken over") from None
            self._save(trainer, folder)
            return State.INTERRUPTED, None
        except Diverged as outcome:
            self._record_gradients(trainer)
            checkpoint.retain(folder, self.order.keep, _best_epoch(trainer))
            return State.DIVERGED, str(outcome)
        checkpoint.retain(folder, self.order.keep, _best_epoch(trainer))
        return State.FINISHED, None

    def _record_gradients(self, trainer: Trainer) -> None:
        if not trainer.gradients:
            return
        circumstances = json.dumps({"command": self.order.command})
        records = {epochs: json.dumps(of) for epochs, of in trainer.gradients.items()}
        self.ledger.record_gradients(self.order.run_id, circumstances, records)

    def _say_how(self, trainer: Trainer) -> None:
        if trainer.step.how in ("", self.step):
            return
        self.step = trainer.step.how
        if self.device.type == "cuda":  # steps on a CPU are always eager
            self._notice(f"execution mode: {self.step}")

    def _save(self, trainer: Trainer, folder: Folder) -> None:
        spare = _best_epoch(trainer) if self.order.keep is Keep.BEST else None
        epochs = len(trainer.history)
        checkpoint.save(folder, trainer.state(), epochs, trainer.position, spare=spare)

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


def _best_epoch(trainer: Trainer) -> int | None:
    """The first epoch with the highest test accuracy, from 1; None before the first."""
    known = [one for one in trainer.history if math.isfinite(one.test_top1)]
    return max(known, key=lambda one: (one.test_top1, -one.epoch)).epoch if known else None
