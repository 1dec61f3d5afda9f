"""Checks of `doctor`: each does the thing on this machine, and cleans up after it.

Each returns a status and a detail: `ok`, `warning` (runs can be trained, but), `absent` or `bad`.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from multiprocessing import Semaphore
from multiprocessing.connection import Listener
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.cli.output import watch
from dia_repro.data import known_data, known_sources, load
from dia_repro.errors import DiaReproError, UsageError
from dia_repro.execution.forkserver import has_short_sockets, shorten_sockets
from dia_repro.execution.leasing import acquire_lock, lock_location
from dia_repro.experiments.names import DataLocation, Precision
from dia_repro.processors import cores, cpu_quota
from dia_repro.results.backends import check_place, network_file_system, sqlite_path
from dia_repro.results.checks import log_problem
from dia_repro.results.database import Database, open_database, try_creating, try_rows
from dia_repro.results.queries import all_runs
from dia_repro.training.probing import probe
from dia_repro.training.store import Store, store_at

if TYPE_CHECKING:  # what brings torch is imported by the checks that need it
    import torch

    from dia_repro.execution.machine import Machine

Verdict = tuple[str, str]
LEAST_FREE_BYTES = 1_000_000_000
SHARED_FOLDER = Path("/dev/shm")  # noqa: S108
# Batches on their way from the processes that decode images: three of ImageNet's for each run.
SHARED_BYTES = 256_000_000
# Descriptors of a command: its own, and those of each worker process.
OPEN_FILES, OPEN_FILES_OF_A_WORKER = 200, 10
MISSING = "mount its disk, or make that folder"
# Sum of the gradient in `cannot_compute`: for each of 2 · 144 outputs 2 · 2 · 27, times 27 weights.
GRADIENT = 2 * 144 * 108 * 27


def checks(db: str, data: Path, location: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield the name, status and detail of each check, as it is made.

    Args:
        location: of the checkpoints; None for the default.
    """
    import torch

    from dia_repro.execution.machine import find_machine
    from dia_repro.training.provenance import device_name

    yield "python", "ok", platform.python_version()
    yield "torch", "ok", str(torch.__version__)
    yield "processor", *processor(device_name(torch.device("cpu")))
    yield from (("GPU", *verdict) for verdict in gpus(find_machine()))
    for name, check in (
        ("code", code),
        ("sockets", sockets),
        ("shared memory", shared_memory),
        ("open files", open_files),
        ("compiled code", compiled_code),
    ):
        yield name, *tried(check)
    for name in known_sources():
        if name != "digits":  # scikit-learn has them
            yield name, *images(name, data)
    yield "disk", *tried(lambda: disk(db, location))
    yield "database", *tried(lambda: database(db))
    yield "checkpoints", *tried(lambda: checkpoints(_store(db, location)))


def tried(check: Callable[[], Verdict]) -> Verdict:
    """Return a probe's verdict; an error of it means that no run can be trained."""
    try:
        return check()
    except DiaReproError as error:
        return "bad", str(error)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return "bad", f"{place}{error.strerror or error}"


def _store(db: str, location: str | None) -> Store:
    from dia_repro.execution.maintenance import default_root

    return store_at(location) if location is not None else Store(default_root(db))


def processor(name: str) -> Verdict:
    """Name the processor, and the part of it that may be used."""
    here, quota, whole = cores(), cpu_quota(), os.cpu_count() or 1
    limited = f" by a quota of {quota:g} of {whole} CPUs" if quota < whole else ""
    return "ok", f"{name}, {here} core{'' if here == 1 else 's'}{limited}"


def gpus(machine: Machine) -> Iterator[Verdict]:
    """Yield whether torch computes on each GPU, and in which precisions."""
    import torch

    from dia_repro.training.numerics import has_precision
    from dia_repro.training.provenance import device_name

    for name in machine.devices if machine.has_gpu else ():
        device = torch.device(name)
        if reason := cannot_compute(device):
            yield "bad", f"{name} cannot compute ({reason}): train with --device cpu"
            continue
        lacking = [p for p in (Precision.TF32, Precision.BF16) if not has_precision(p, device)]
        precisions = "fp32, tf32 and bf16"
        if lacking:
            precisions = f"no {' and no '.join(lacking)}: use --precision fp32"
        yield "ok", f"{name}: {device_name(device)}, {precisions}"
    for reason in machine.unusable:
        yield "absent", reason
    if not machine.has_gpu:
        yield "absent", "training goes to the CPU: enough for --protocol demo"


def cannot_compute(device: torch.device) -> str | None:
    """Return why a device cannot compute what networks do; None if it can."""
    import torch
    from torch.nn import functional

    try:
        pixels = torch.ones(2, 3, 8, 8, device=device, requires_grad=True)
        sums = functional.conv2d(pixels, torch.ones(4, 3, 3, 3, device=device)).flatten(1)
        (sums @ sums.T).sum().backward()
        value = float(pixels.grad.sum()) if pixels.grad is not None else 0.0
    except (RuntimeError, AssertionError) as error:  # torch's for all that goes wrong on a GPU
        return str(error).strip().splitlines()[0]
    return None if value == GRADIENT else f"it computes {value:.0f} where {GRADIENT} is right"


def code() -> Verdict:
    """Name the commit that results are recorded with."""
    from dia_repro.training.provenance import CODE, git_problem, git_state

    if problem := git_problem():
        return "warning", f"results will not name a commit: {problem}"
    commit, clean = git_state(CODE)
    if commit is None:
        return "ok", "an installed package"
    return "ok", f"commit {commit[:12]}{'' if clean else ', with changes'}"


def sockets() -> Verdict:
    """Bind a socket like those through which worker processes are started."""
    short = has_short_sockets()
    shorten_sockets()
    with Listener(family="AF_UNIX") as listener:
        folder = Path(str(listener.address)).parent
    return "ok", f"in {folder}{'' if short else ', since TMPDIR is too long for them'}"


def shared_memory() -> Verdict:
    """Make a lock and memory that processes share, of the size that batches of images take."""
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
    """Name the folder of compiled functions."""
    from dia_repro.analysis import tree_kernel  # which is compiled

    folder = tree_kernel.grow.stats.cache_path
    if folder is None:
        return "warning", "cannot be kept: each process compiles for a minute; set NUMBA_CACHE_DIR"
    return "ok", f"kept in {folder}"


def images(name: str, data: Path) -> Verdict:
    """Count a data set's images."""
    try:
        with watch(f"Looking through {name}") as on_progress:
            dataset = load(known_data(name).spec, DataLocation(data), on_progress)
    except DiaReproError as error:
        return "absent", str(error)
    return "ok", f"{len(dataset.train):,} + {len(dataset.test):,} images in {data}"


def disk(db: str, location: str | None) -> Verdict:
    """Measure the free space where results and checkpoints go.

    Args:
        location: of the checkpoints; None for the default.
    """
    free = {folder: shutil.disk_usage(folder).free for folder in _disk_folders(db, location)}
    if not free:
        return "ok", "results and checkpoints are not on this machine's disks"
    full = [folder for folder in free if free[folder] < LEAST_FREE_BYTES]
    shown = full or [min(free, key=free.__getitem__)]
    return "bad" if full else "ok", ", ".join(
        f"{free[folder] / 1e9:,.1f} GB free in {folder}" for folder in shown
    )


def _disk_folders(db: str, location: str | None) -> Iterator[Path]:
    """Yield the nearest existing folders of results and checkpoints on this machine's disks."""
    finders: tuple[Callable[[], Path | None], ...] = (
        lambda: sqlite_path(db),
        lambda: _store(db, location).absolute().root,
    )
    for find in finders:
        try:
            path = find()
        except DiaReproError:  # reported by the check of the database or of the checkpoints
            path = Path()
        if path is not None:
            real = Path(os.path.realpath(path))  # a link may lead to another disk
            yield next(folder for folder in (real, *real.parents) if folder.is_dir())


def database(location: str) -> Verdict:
    """Write to the database and undo it; where there is none, to another in its folder."""
    path = sqlite_path(location)
    if path is None:
        return "ok", _try_database(location)
    check_place(path)
    target = _target(path)
    if not target.parent.is_dir():
        return "bad", f"{path} is a link to {target}, but {target.parent} does not exist: {MISSING}"
    kind = network_file_system(target)
    status, beware = ("warning", f", on a network file system ({kind})") if kind else ("ok", "")
    if target.exists():
        return status, f"{_try_database(location)}{beware}"
    with _folder_in(target.parent) as folder:
        _try_writing(open_database(str(folder / "probe.db"), create=True))
    return status, f"{location} will be made by the first run{beware}"


def _target(path: Path) -> Path:
    """Return where a path leads through links; nothing need be there.

    Raises:
        OSError: it leads nowhere, such as links in a circle.
    """
    with suppress(FileNotFoundError):
        path.stat()
    return Path(os.path.realpath(path))


def _try_database(location: str) -> str:
    there = open_database(location, create=False)
    if there.is_stand_in:
        try_creating(location)
        return f"{there.name} is empty: the first run makes its tables"
    with there.reading() as session:
        if (problem := log_problem(session.connection())) is not None:
            raise UsageError(f"{there.name}: {problem}")
    runs = len(all_runs(there))
    _try_writing(there)
    return f"{runs} runs in {there.name}"


def _try_writing(opened: Database) -> None:
    with closing(opened):
        try_rows(opened)


def checkpoints(store: Store) -> Verdict:
    """Make a lock and a small file where weights are kept, and remove them."""
    root = store.absolute().root
    if root is None:
        lock_location(store)
        with probe(store):
            return "ok", f"can be written to {store.name}"
    # A run makes the folders that are missing, but none in place of a link.
    place = next(path for path in (root, *root.parents) if os.path.lexists(path))
    target = _target(place)
    if not target.exists():
        return "bad", f"{place} is a link to {target}, which does not exist: {MISSING}"
    lock_location(store)
    with _folder_in(place) as folder:
        lock = acquire_lock(folder)
        Store(folder).write("probe", b"probe")
        if lock is None:
            return "bad", f"a new file in {root} is locked already"
        lock.release()
    there = "can be written to" if place == root else "will be made by the first run:"
    return "ok", f"{there} {store.name}"


@contextmanager
def _folder_in(place: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=".dia-repro-doctor-", dir=place.absolute()) as folder:
        yield Path(folder)
