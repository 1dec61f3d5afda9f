"""Ownership of a run: a lock on this machine, and heartbeats in the database for other machines.

On one machine the kernel releases the lock when its owner dies, which others notice at once. An
owner on another machine is known by its heartbeats alone: they are counted, and a process that
waits for them measures the time in which they could be written with a monotonic clock.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dia_repro.execution.run_store import RunStore
from dia_repro.results.backends import ForeignDatabaseError, network_file_system
from dia_repro.results.database import DatabaseError, LockedError
from dia_repro.results.leases import Lease, Owner, TakenOverError
from dia_repro.training.environment import own_folder
from dia_repro.training.store import CheckpointError, Store

LOCK, IDENTITY = "lock", "lock-id"
# A process killed a moment ago keeps its locks until the kernel has torn it down.
PATIENCE_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0
# An owner counts as dead without a heartbeat for so long: six are missing then.
LEASE_SECONDS, LOOKS = 60.0, 10


def lock_location(folder: Store) -> Path:
    """Return the folder on this machine where a run's lock is.

    It is the folder of its checkpoints, unless that is in an object store or on a network file
    system, whose server may keep the lock of a machine that is gone. Then it is a folder for
    temporary files, the same for all processes of a user.

    Raises:
        CheckpointError: that folder cannot be made.
        SharedFolderError: other users can write in that folder.
    """
    root = folder.root
    if root is not None and network_file_system(root) is None:
        return root / folder.path
    try:
        return own_folder() / folder.path
    except OSError as error:
        raise CheckpointError(f"no folder for a lock: {error.strerror or error}") from error


def acquire_lock(folder: Path) -> FileLock | None:
    """Return a run's lock, or None where another process on this machine has it.

    Raises:
        CheckpointError: the folder cannot be written to.
    """
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        return None
    except OSError as error:
        raise CheckpointError(f"cannot write to {folder}: {error.strerror or error}") from error
    return lock


def lock_id(folder: Path) -> str:
    """Return the identity of the lock in a folder; call it while holding the lock.

    It is the same for two processes only if the lock excludes one of them: a random id that is kept
    next to the lock, the start of this machine, and the file itself. Names of hosts, paths and
    inode numbers are the same on cloned machines and in containers.

    Raises:
        CheckpointError: the folder cannot be written to.
    """
    identity = folder / IDENTITY
    try:
        if not identity.is_file() or not identity.read_text(encoding="ascii"):
            identity.unlink(missing_ok=True)  # empty since a full disk, or a link
            with identity.open("x", encoding="ascii") as file:
                file.write(uuid.uuid4().hex)
        known = identity.read_text(encoding="ascii")
        status = (folder / LOCK).stat()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot use {identity}: {error}") from error
    return f"{known}:{_boot()}:{status.st_dev}:{status.st_ino}"


def _boot() -> str:
    """Return an id of this start of this machine; where there is none, of the machine."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.is_file():
        return path.read_text(encoding="ascii").strip()
    return f"{socket.gethostname()}-{uuid.getnode():x}"  # not Linux


def silent(
    look: Callable[[], Collection[Owner]],
    owners: Iterable[Owner],
    should_stop: Callable[[], bool] = lambda: False,
    lease: float | None = None,
) -> tuple[Owner, ...]:
    """Return the owners that give no heartbeat for a whole lease.

    Silence counts only while heartbeats could be written: each look writes, too, and the time for
    which it waits for other writers, or for SQLite's readers, is not counted.

    Args:
        look: reads the owners as `leases.look` does.
        should_stop: ends the wait early; then none is returned.
        lease: seconds; by default `LEASE_SECONDS`.
    """
    pause = (LEASE_SECONDS if lease is None else lease) / LOOKS
    watched = tuple(owners)
    for _ in range(LOOKS):
        if not watched:
            break
        until = time.monotonic() + pause
        while time.monotonic() < until:
            if should_stop():
                return ()
            time.sleep(min(1.0, pause))
        seen = look()
        watched = tuple(owner for owner in watched if owner in seen)
    return watched


@contextmanager
def heartbeat(run_store: RunStore, lease: Lease) -> Iterator[threading.Event]:
    """Renew a lease inside the block; the event is set once another process has taken the run."""
    stopped, taken_over = threading.Event(), threading.Event()

    def renew() -> None:
        pause = HEARTBEAT_SECONDS
        while not stopped.wait(pause):
            pause = HEARTBEAT_SECONDS
            try:
                run_store.renew(lease)
            except TakenOverError:
                taken_over.set()
                return
            except LockedError:
                pause = 0.0  # to be there as soon as the others have written
            except (DatabaseError, ForeignDatabaseError):
                # Out of reach for now. Training goes on: its next epoch is written, or fails
                # with the reason.
                continue

    thread = threading.Thread(target=renew, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield taken_over
    finally:
        stopped.set()
        thread.join()
