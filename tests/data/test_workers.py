"""Processes that decode images: little shared memory, waiting, deaths, and how they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dia_repro.data import DataError
from dia_repro.data.dataset import StreamedDataset
from dia_repro.data.image_folder import scan
from dia_repro.data.streaming import StreamedData
from tests.helpers import clean_environment, write_folder

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine", {"train": 40, "test": 8})


def streamed(folder: Path, workers: int, size: int = 96) -> StreamedData:
    found = scan(folder)
    dataset = StreamedDataset("folder:mine", found.train, found.test, size, "")
    return StreamedData(dataset, "resized-crop-flip", CPU, workers)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decoding(process: int) -> list[int]:
    """The processes that this one has forked."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(number) for number in children.split()]


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{number}/exe").exists() for number in processes):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.02)


EPOCH = """
import sys
from pathlib import Path
from tests.data.test_workers import seeded, streamed
data = streamed(Path(sys.argv[1]), 2, 224)
for _ in range(2):
    print(sum(len(labels) for _, labels in data.training_batches(64, seeded(1), seeded(2))))
"""


@pytest.mark.slow
def test_full_shared_memory_is_not_needed(folder: Path) -> None:
    mounted = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    alone = ["unshare", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.call(
        [*alone, mounted], stderr=subprocess.DEVNULL
    ):
        pytest.skip("needs a user who may mount a small /dev/shm in a namespace")
    filled = "head -c 60k /dev/zero > /dev/shm/ballast"
    result = subprocess.run(
        [*alone, f'{mounted} && {filled} && exec "$@"', "sh", sys.executable, "-c", EPOCH, folder],
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stdout.split()) == (0, ["80", "80"]), result.stderr


class AskedToStopError(Exception):
    """What a caller raises that does not want to wait any longer."""


def test_waiting_for_images_can_be_ended(folder: Path) -> None:
    data = streamed(folder, 2)
    before = decoding(os.getpid())
    next(data.test_batches(4))
    ours = [number for number in decoding(os.getpid()) if number not in before]
    assert len(ours) == 2
    for number in ours:
        os.kill(number, signal.SIGSTOP)  # as on a network drive that does not answer
    asked = 0

    def on_wait() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise AskedToStopError

    started = time.monotonic()
    with pytest.raises(AskedToStopError):
        list(data.training_batches(64, seeded(1), seeded(2), on_wait=on_wait))
    assert time.monotonic() - started < 5
    for number in ours:
        os.kill(number, signal.SIGCONT)
    found = list(data.training_batches(64, seeded(1), seeded(2), on_wait=on_wait))
    expected = list(streamed(folder, 0).training_batches(64, seeded(1), seeded(2)))
    for batch, other in zip(found, expected, strict=True):
        assert all(map(torch.equal, batch, other))


def test_a_decoding_process_that_is_killed_is_a_sentence(folder: Path) -> None:
    data = streamed(folder, 2)
    before = decoding(os.getpid())
    next(data.test_batches(4))
    for number in set(decoding(os.getpid())) - set(before):
        os.kill(number, signal.SIGKILL)
    with pytest.raises(DataError, match=r"decodes images has died: killed by SIGKILL$"):
        list(data.test_batches(4))


def test_decoding_processes_end_with_their_data(folder: Path) -> None:
    data = streamed(folder, 2)
    before = decoding(os.getpid())
    next(data.test_batches(4))
    ours = list(set(decoding(os.getpid())) - set(before))
    assert ours, "images are decoded by processes"
    del data
    wait_until_gone(ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    "last", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive)]
)
def test_decoding_processes_end_with_the_process_that_trains(
    folder: Path, last: signal.Signals
) -> None:
    waiting = EPOCH + "data.keep = data.test_batches(4)\nnext(data.keep)\nprint('here')\ninput()\n"
    process = subprocess.Popen(
        [sys.executable, "-uc", waiting, folder],
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline() != "here\n":
        assert process.poll() is None
    ours = decoding(process.pid)
    assert len(ours) == 2
    for number in ours:
        os.kill(number, signal.SIGTERM)  # as a scheduler does to all processes of a job
    process.send_signal(last)
    process.communicate(timeout=20)
    wait_until_gone(ours)
