"""Damaged checkpoints and full disks."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.measurements import CheckResult, NotRunnable
from benchmarks.storage.tiny import outcomes, tiny_jobs, train, trained
from dia_repro.errors import DiaReproError
from dia_repro.execution.maintenance import checkpoint_store, folder_of
from dia_repro.rendering.files import write_bytes
from dia_repro.results import writer
from dia_repro.results.queries import all_runs
from dia_repro.training import checkpoint
from dia_repro.training.store import Store

CUTS = 64
EPOCHS = 3


def damaged_checkpoints(flips: int) -> CheckResult:
    """Cut the newest of two checkpoints at each 1/64 of its length, and flip single bits in it."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Store(Path(name), "run")
        weights = torch.randn(40_000, generator=torch.Generator().manual_seed(0))
        previous = checkpoint.save(folder, {"weights": weights}, 1, 0)
        newest = checkpoint.save(folder, {"weights": weights + 1}, 2, 0)
        whole = folder.read(newest)
        versions = [whole[: len(whole) * cut // CUTS] for cut in range(CUTS)]
        versions += [_flipped(whole, rng.randrange(8 * len(whole))) for _ in range(flips)]
        detected = sum(_passed_over(folder, newest, previous, content) for content in versions)
        folder.write(newest, whole)
        sound = checkpoint.load_newest(folder)
    return CheckResult(
        f"a checkpoint cut at each 1/{CUTS} of its length, and with {flips:,} single bits flipped",
        f"{detected:,} of {len(versions):,} detected, and the previous one used",
        detected == len(versions) and sound is not None and sound.name == newest,
    )


def _flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _passed_over(folder: Store, newest: str, previous: str, content: bytes) -> bool:
    folder.write(newest, content)
    loaded = checkpoint.load_newest(folder)
    return loaded is not None and (loaded.name, loaded.damaged) == (previous, (newest,))


@contextmanager
def small_disk(size: int) -> Iterator[Path]:
    """Mount a separate disk of this size, and yield its folder.

    Raises:
        NotRunnable: this user may not mount a disk.
    """
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        if shutil.which("mount") is None or subprocess.call(mount, stderr=subprocess.DEVNULL):
            raise NotRunnable("needs a user who may mount a small disk in memory")
        try:
            yield folder
        finally:
            subprocess.check_call(["umount", "--lazy", str(folder)])
    finally:
        folder.rmdir()


def full_disk(size: int = 8_000_000) -> CheckResult:
    """Let a disk run full while a checkpoint, a commit and a table are written; then continue.

    Raises:
        NotRunnable: see `small_disk`.
    """
    with tempfile.TemporaryDirectory() as quiet:
        expected = trained(Path(quiet), 1, EPOCHS, 1)
    said: list[str] = []
    with small_disk(size) as folder:
        database, jobs = tiny_jobs(folder, 1, EPOCHS)
        (run,) = all_runs(database)
        specs = {run.spec_id: jobs[0].spec_json}
        runs_folder = folder_of(checkpoint_store(database), run)
        table = folder / "table5.csv"
        write_bytes(table, b"old\n")
        old = checkpoint.save(runs_folder, {"weights": torch.zeros(10)}, 0, 1)
        with _without_room(folder):
            said += [
                _refusal(lambda: checkpoint.save(runs_folder, {"w": torch.zeros(9999)}, 0, 2)),
                _refusal(lambda: writer.ensure_runs(database, specs, range(1, 9999))),
                _refusal(lambda: write_bytes(table, b"new\n" * 9999)),
            ]
            loaded = checkpoint.load_newest(runs_folder)
            whole = loaded is not None and loaded.name == old and table.read_bytes() == b"old\n"
            runs_folder.remove(old)
            said.append(str(train(database, jobs, 1)[run.id].detail))
        debris = list(folder.rglob("*partial*"))
        train(database, jobs, 1)
        same = all(found.same(expected[seed]) for seed, found in outcomes(database).items())
        database.close()
    clear = all((text and "\n" not in text and "space" in text) or "full" in text for text in said)
    return CheckResult(
        "a disk that is full while a checkpoint, a commit, a table and a training are written",
        f"{'old files whole' if whole and not debris else 'old files lost'}; "
        f"{'the same results after a rerun with room' if same else 'other results after a rerun'}; "
        f"said: {' | '.join(said)}".replace(str(folder), "DISK"),
        whole and same and clear and not debris,
    )


@contextmanager
def _without_room(folder: Path) -> Iterator[None]:
    """Fill a disk to the last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for block in (1 << 16, 1):
            try:
                while True:
                    file.write(b"x" * block)
            except OSError:
                continue
    try:
        yield
    finally:
        ballast.unlink()


def _refusal(action: object) -> str:
    """Return the message of an action that cannot write; empty if it can."""
    try:
        action()  # type: ignore[operator]
    except DiaReproError as error:
        return str(error)
    return ""
