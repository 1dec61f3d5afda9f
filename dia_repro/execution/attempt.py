"""Attempt at a run: take it up, train it, store every epoch and the end."""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import torch

from dia_repro.data import load
from dia_repro.data.dataset import AnyDataset
from dia_repro.data.registry import is_streamed
from dia_repro.errors import DiaReproError, displayed_text, reason_of
from dia_repro.execution.leasing import acquire_lock, heartbeat, lock_id, lock_location, silent
from dia_repro.execution.maintenance import folder_of
from dia_repro.execution.messages import Begun, Ended, Job, Message, Notice, Outcome, Progress
from dia_repro.execution.process_group import process_group, threads_each
from dia_repro.execution.run_store import RunStore
from dia_repro.experiments.names import Keep
from dia_repro.results import leases
from dia_repro.results.database import DatabaseError
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import DONE, State
from dia_repro.training import checkpoint, provenance
from dia_repro.training.gradients import Record
from dia_repro.training.metrics import chosen_epoch
from dia_repro.training.numerics import prepare_process, use_device
from dia_repro.training.store import CheckpointError
from dia_repro.training.trainer import Diverged, Stopped, Trainer

REPORT_SECONDS = 0.5
# Keys of a checkpoint.
MODE, DATA = "execution mode", "data_sha256"
NOT_EQUAL = "the result may not be bit for bit that of an undisturbed training"


class Attempt:
    """Attempt of this process at one run.

    Args:
        job: the run, and where things are.
        send: passes a message to the process that started this one.
        should_stop: asked between two steps, and while something is waited for.
        run_store: the results database; by default opened where the job says.
    """

    def __init__(
        self,
        job: Job,
        send: Callable[[Message], None],
        should_stop: Callable[[], bool],
        run_store: RunStore | None = None,
    ) -> None:
        self.job, self.send, self.should_stop = job, send, should_stop
        self.device = torch.device(job.device)
        use_device(self.device)
        self.spec = job.spec
        self.identity = {"spec_id": self.spec.spec_id, "seed": job.seed}
        self.started, self.reported = time.monotonic(), 0.0
        self.step: str | None = None
        self.run_store = run_store or RunStore.at(job.database)

    def run(self) -> Ended:
        """Train unless another process has the run, or had it before."""
        try:
            while True:
                try:
                    return self._run()
                except leases.ChangedError as changed:  # its folder may be another one
                    self._notice(f"{changed}: looked at again")
        except leases.AlreadyDoneError:
            return Ended(Outcome.DONE_BEFORE)
        except Stopped:  # before the run was taken up
            return Ended(Outcome.INTERRUPTED)
        except leases.HeldError as held:
            return Ended(Outcome.BUSY, held.owner.process)
        except leases.TakenOverError:
            return Ended(Outcome.BUSY, "another process, which took this one for dead")
        finally:
            self.run_store.close()

    def _run(self) -> Ended:
        summary = self.run_store.run_detail(self.job.run_id).summary
        self.folder = folder_of(self.job.checkpoints, summary)
        lock = acquire_lock(lock_location(self.folder))
        if lock is None:
            owner = self.run_store.run_detail(self.job.run_id).summary.owner
            return Ended(Outcome.BUSY, owner or "another process")
        try:
            return self._run_locked(summary.uid)
        finally:  # now, for a worker of Ray's lives on
            lock.release()

    def _run_locked(self, uid: str) -> Ended:
        # Read again: before the lock was ours, another process may have finished the run.
        summary = self.run_store.run_detail(self.job.run_id).summary
        if (summary.spec_id, summary.seed) != (self.spec.spec_id, self.job.seed):
            return Ended(Outcome.BUSY, "another experiment, since its own run was removed")
        if summary.uid != uid:  # a merge, or a removal and a new run: its folder is another one
            raise leases.ChangedError(f"run {summary.id} is another one than a moment ago")
        if summary.state in DONE:
            return Ended(Outcome.DONE_BEFORE)
        self.loaded = loaded = checkpoint.load_newest(self.folder)
        if loaded and self._saved(checkpoint.RUN, self.identity) != self.identity:
            raise CheckpointError(f"{self.folder.shown(loaded.name)} belongs to another run")
        self._prepare()
        dataset = self._load()
        self.digest = dataset.digest()
        if loaded and self._saved(DATA, self.digest) != self.digest:
            name = self.folder.shown(loaded.name)
            raise leases.OtherDataError(f"{name} was trained on other data")
        self.lease = self._take(summary, self._provenance(dataset))
        self.send(Begun(self.lease))
        return self._train_and_record(summary, dataset)

    def _saved(self, key: str, default: Any) -> Any:
        """Return an entry of the checkpoint that the run resumes from, or the default."""
        return self.loaded.content.get(key, default) if self.loaded else default

    def _train_and_record(self, summary: RunSummary, dataset: AnyDataset) -> Ended:
        state, reason, best = State.FAILED, None, None
        with heartbeat(self.run_store, self.lease) as self.taken_over:
            try:
                self._align(summary)
                state, reason, best = self._train(dataset)
            except leases.TakenOverError:
                raise
            except Stopped:  # before its first step
                state = State.INTERRUPTED
            except DiaReproError as error:
                reason = str(error)
            except Exception as error:  # recorded with its reason; the other runs go on
                reason = displayed_text(reason_of(error))
                with suppress(CheckpointError):
                    text = displayed_text(traceback.format_exc())
                    self.folder.write("traceback.txt", text.encode(errors="replace"))
        self.run_store.end(
            self.lease,
            state,
            reason=reason,
            wall_seconds=time.monotonic() - self.started,
            peak_memory_bytes=provenance.peak_memory(self.device),
            step=self.step,
        )
        if state in DONE:  # only now: until the end is recorded the run may have to be resumed
            self._retain(best)
        return Ended(Outcome(state.value), reason)

    def _retain(self, best: int | None) -> None:
        try:
            if not checkpoint.retain(self.folder, self.job.keep, best):
                self._notice(f"weights of its best epoch ({best}) are gone: the last ones stay")
        except CheckpointError as error:
            self._notice(f"weights that are not needed stay: {error}")

    def _prepare(self) -> None:
        """Compute in the environment that the run began in, as far as this machine has it."""
        attempts = self.run_store.run_detail(self.job.run_id).provenance
        content = self.loaded.content if self.loaded else None
        begun = provenance.Environment.stored(content, attempts[-1] if attempts else None)
        threads = begun.get("threads", threads_each(self.job))
        deterministic = begun.get("deterministic", self.job.deterministic)
        whole = threads * self.job.processes
        self.job = job = replace(self.job, threads=whole, deterministic=deterministic)
        prepare_process(threads, self.device, deterministic=job.deterministic)
        self.begun_mode: str | None = self._saved(MODE, None)
        self.environment = provenance.Environment.here(
            threads,
            provenance.device_name(self.device),
            deterministic=job.deterministic,
            processes=job.processes,
            attention=self.spec.model.attention,
            decodes=is_streamed(self.spec.data),
        )
        if differences := self.environment.differences(begun):
            self._notice(f"goes on with {', '.join(differences)}: {NOT_EQUAL}")

    def _provenance(self, dataset: AnyDataset) -> dict[str, Any]:
        data = (self.digest, len(dataset.test), len(self._saved("history", ())))
        found = provenance.collect(self.environment, self.device, self.job.command, *data)
        commit, files = (found["git_commit"], found["git_clean"]), found["code_sha256"]
        if commit != provenance.code_at_start() or files != provenance.package_files():
            self._notice("the code's checkout has changed since its process began: not clean")
        return found

    def _load(self) -> AnyDataset:
        def on_progress(_done: int, _of: int) -> None:
            if self.should_stop():
                raise Stopped

        return load(self.spec.data, self.job.data, on_progress)

    def _take(self, summary: RunSummary, columns: dict[str, Any]) -> leases.Lease:
        """Return the lease of the run, whose lock this process has."""
        process, run_id = f"process {os.getpid()} on {socket.gethostname()}", summary.id
        lock, seen = lock_id(lock_location(self.folder)), (summary.uid, summary.epochs)
        try:
            return self.run_store.take(run_id, process, lock, columns, None, seen)
        except leases.HeldError as held:
            dead = held.owner
            self._notice(f"{dead.process} has it: waiting for a sign of life")
            if not silent(lambda: self.run_store.look(run_id), [dead], self.should_stop):
                raise
            self._notice(f"{dead.process} gave none and is taken for dead")
            return self.run_store.take(run_id, process, lock, columns, dead, seen)

    def _align(self, summary: RunSummary) -> None:
        """Put damaged checkpoints aside, and have the epochs of the sound one in the database."""
        loaded = self.loaded
        instead = f": going on from {loaded.name}" if loaded else ""
        damaged = loaded.damaged if loaded else checkpoint.sorted_names(self.folder)
        for name in damaged:
            self._notice(f"{self.folder.shown(name)} is damaged{instead}")
            checkpoint.put_aside(self.folder, name)
        if loaded is None and (damaged or summary.epochs):
            self._notice("no sound checkpoint is left: starts again from the first epoch")
        gradients = _as_json(self._saved("gradients", {}))
        if removed := self.run_store.align(self.lease, self._saved("history", []), gradients):
            self._notice(f"{removed} epochs that the checkpoint does not have were removed")

    def _train(self, dataset: AnyDataset) -> tuple[State, str | None, int | None]:
        """Return the state that the run ended in, its reason, and the best epoch."""
        with process_group(self.job, self.send, self.should_stop) as group:
            threads = threads_each(self.job)
            trainer = Trainer(self.spec, self.job.seed, dataset, self.device, threads, group)
            self._resume(trainer)
            try:
                while not trainer.finished:
                    metrics = trainer.run_epoch(lambda _steps: self._on_step(trainer))
                    self._say_how(trainer)
                    self._save(trainer)
                    self.run_store.record_epoch(self.lease, asdict(metrics))
                    self._record_gradients(trainer)
                    self._report(trainer, now=True)
            except Stopped:
                if self.taken_over.is_set():
                    raise leases.TakenOverError(f"{self.job.label} was taken over") from None
                self._save(trainer)
                return State.INTERRUPTED, None, None
            except Diverged as outcome:
                self._record_gradients(trainer)
                return State.DIVERGED, str(outcome), chosen_epoch(trainer.history)
            return State.FINISHED, None, chosen_epoch(trainer.history)

    def _resume(self, trainer: Trainer) -> None:
        saved = trainer.group.from_first(self.loaded.content if self.loaded else None)
        if saved is not None:
            trainer.load_state(saved)
            self._notice(f"goes on after epoch {len(trainer.history)}, step {trainer.position}")
            self._record_gradients(trainer)  # those of an epoch whose end was a kill
            if trainer.position and trainer.group.size > 1:  # dropout of the others is drawn again
                self._notice(NOT_EQUAL)
        self.run_store.set_parameters(self.lease, trainer.parameters)

    def _on_step(self, trainer: Trainer) -> bool:
        """Return whether training is to stop."""
        self._say_how(trainer)
        self._report(trainer)
        return self.should_stop() or self.taken_over.is_set()

    def _record_gradients(self, trainer: Trainer) -> None:
        if trainer.gradients:
            command = json.dumps({"command": self.job.command})
            self.run_store.record_gradients(self.lease, command, _as_json(trainer.gradients))

    def _say_how(self, trainer: Trainer) -> None:
        if trainer.step.how in ("", self.step):
            return
        self.step = trainer.step.how
        if self.begun_mode not in (None, self.step):
            self._notice(f"goes on {self.step}, begun {self.begun_mode}: {NOT_EQUAL}")
        if self.device.type == "cuda":  # steps on a CPU are always eager
            self._notice(f"execution mode: {self.step}")

    def _save(self, trainer: Trainer) -> None:
        """Save a checkpoint, also where the database is out of reach.

        Raises:
            TakenOverError: the run, and with it its folder, is another process's.
            CheckpointError: it cannot be saved.
        """
        with suppress(DatabaseError):
            self.run_store.renew(self.lease)
        spare = chosen_epoch(trainer.history) if self.job.keep is Keep.BEST else None
        content = trainer.state() | self.environment.to_store()
        content |= {MODE: self.step, checkpoint.RUN: self.identity, DATA: self.digest}
        epochs = len(trainer.history)
        checkpoint.save(self.folder, content, epochs, trainer.position, spare=spare)

    def _report(self, trainer: Trainer, *, now: bool = False) -> None:
        moment = time.monotonic()
        if not now and moment - self.reported < REPORT_SECONDS:
            return
        self.reported = moment
        history, steps = trainer.history, (trainer.position, trainer.steps_per_epoch)
        top1 = history[-1].chooses if history else None
        self.send(Progress(len(history), self.spec.recipe.epochs, *steps, top1))

    def _notice(self, text: str) -> None:
        self.send(Notice(f"{self.job.label}: {text}"))


def _as_json(gradients: Mapping[int, list[Record]]) -> dict[int, str]:
    return {epochs: json.dumps(records) for epochs, records in gradients.items()}
