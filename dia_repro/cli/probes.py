"""What `doctor` tries on this machine: each thing is really done, and cleaned up after.

Each gives a status and a detail: `ok`, `warning` (runs can be trained, but), or `bad`.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import Semaphore
from multiprocessing.connection import Listener
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.processors import cores, cpu_quota

if TYPE_CHECKING:
    import torch

    from dia_repro.results.database import Database
    from dia_repro.training.store import Store

Verdict = tuple[str, str]
SHARED_FOLDER = Path("/dev/shm")  # noqa: S108
# Batches on their way from the processes that decode images: three of ImageNet's for each run.
SHARED_BYTES = 256_000_000
# Descriptors of a command: its own, and those of each worker process.
OPEN_FILES, OPEN_FILES_OF_A_WORKER = 200, 10
# Sum of the gradient in `cannot_compute`: for each of 2 · 144 outputs 2 · 2 · 27, times 27 weights.
GRADIENT = 2 * 144 * 108 * 27


def processor(name: str) -> Verdict:
    """The processor, and how much of it there is to use."""
    here, quota, all_of_them = cores(), cpu_quota(), os.cpu_count() or 1
    limited = f" by a quota of {quota:g} of {all_of_them} CPUs" if quota < all_of_them else ""
    return "ok", f"{name}, {here} core{'' if here == 1 else 's'}{limited}"


def code() -> Verdict:
    """The commit that results are recorded with."""
    from dia_repro.training.provenance import CODE, git_problem, git_state

    problem = git_problem()
    if problem:
        return "warning", f"results will not name a commit: {problem}"
    commit, clean = git_state(CODE)
    if commit is None:
        return "ok", "an installed package"
    return "ok", f"commit {commit[:12]}{'' if clean else ', with changes'}"


def sockets() -> Verdict:
    """A socket as worker processes are asked for through."""
    from dia_repro.execution.forkserver import has_short_sockets, shorten_sockets

    short = has_short_sockets()
    shorten_sockets()
    with Listener(family="AF_UNIX") as listener:
        folder = Path(str(listener.address)).parent
    return "ok", f"in {folder}{'' if short else ', since TMPDIR is too long for them'}"


def shared_memory() -> Verdict:
    """A lock and memory that processes share, of the size that images to come take."""
    Semaphore()
    memory = SharedMemory(create=True, size=1)
    memory.close()
    memory.unlink()
    if not SHARED_FOLDER.is_dir():  # no Linux
        return "ok", "can be allocated"
    with tempfile.TemporaryFile(dir=SHARED_FOLDER) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, SHARED_BYTES)
        except OSError as error:
            return "warning", (
                f"{error.strerror} for {SHARED_BYTES / 1e6:.0f} MB in {SHARED_FOLDER}: enough for "
                "CIFAR, not for images decoded in training (docker run --shm-size=1g)"
            )
    return "ok", f"{SHARED_BYTES / 1e6:.0f} MB in {SHARED_FOLDER}"


def open_files() -> Verdict:
    """Open as many files as a run in each core takes."""
    needed = OPEN_FILES + OPEN_FILES_OF_A_WORKER * cores()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        try:
            for _ in range(needed):
                stack.enter_context(Path(os.devnull).open())
        except OSError as error:
            return "warning", f"{error.strerror} beyond {limit:,}: 'ulimit -n 4096' allows more"
    return "ok", f"{needed:,} at a time"


def compiled_code() -> Verdict:
    """Return where compiled functions are kept."""
    from dia_repro.analysis import tree_kernel

    folder = tree_kernel.grow.stats.cache_path
    if folder is None:
        return "warning", "cannot be kept: each process compiles for a minute; set NUMBA_CACHE_DIR"
    return "ok", f"kept in {folder}"


def cannot_compute(device: torch.device) -> str | None:
    """Return why a device cannot compute what networks do; None if it can."""
    import torch
    from torch.nn import functional

    try:
        images = torch.ones(2, 3, 8, 8, device=device, requires_grad=True)
        sums = functional.conv2d(images, torch.ones(4, 3, 3, 3, device=device)).flatten(1)
        (sums @ sums.T).sum().backward()
        value = float(images.grad.sum()) if images.grad is not None else 0.0
    except (RuntimeError, AssertionError) as error:  # torch's for all that goes wrong on a GPU
        return str(error).strip().splitlines()[0]
    return None if value == GRADIENT else f"it computes {value:.0f} where {GRADIENT} is right"


def database(location: str) -> Verdict:
    """A write to the database, which is undone; where there is none, to another in its folder."""
    from dia_repro.results.backends import check_place, network_file_system, sqlite_path
    from dia_repro.results.database import open_database
    from dia_repro.results.queries import all_runs

    path = sqlite_path(location)
    kind = network_file_system(path) if path else None
    status, beware = ("warning", f", on a network file system ({kind})") if kind else ("ok", "")
    if path is not None and not path.exists():
        check_place(path)
        with _folder_in(path.parent) as folder:
            _try_writing(open_database(str(folder / "probe.db"), create=True))
        return status, f"{location} will be made by the first run{beware}"
    there = open_database(location, create=False)
    runs = len(all_runs(there))
    _try_writing(there)
    return status, f"{runs} runs in {there.name}{beware}"


def _try_writing(database: Database) -> None:
    from sqlalchemy import text

    with database.writing() as session:
        session.execute(text("update alembic_version set version_num = version_num"))
        session.rollback()
    database.close()


def checkpoints(store: Store) -> Verdict:
    """A lock and a small file where weights are kept, which are removed again."""
    from dia_repro.execution.leasing import acquire_lock, lock_location
    from dia_repro.training.probing import probe
    from dia_repro.training.store import Store

    root = store.root
    lock_location(store)
    if root is None:
        with probe(store):
            return "ok", f"can be written to {store.name}"
    with _folder_in(root if root.exists() else root.parent) as folder:
        lock = acquire_lock(folder)
        Store(folder).write("probe", b"probe")
        if lock is None:
            return "bad", f"a new file in {root} is locked already"
        lock.release()
    there = "can be written to" if root.exists() else "will be made by the first run:"
    return "ok", f"{there} {store.name}"


@contextmanager
def _folder_in(place: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=".dia-repro-doctor-", dir=place.absolute()) as folder:
        yield Path(folder)
