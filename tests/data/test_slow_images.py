"""Images that take long to decode: refused where they can be told, and in no command's way."""

from __future__ import annotations

import io
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dia_repro.data import DataError, load
from dia_repro.data.image_folder import scan
from dia_repro.data.inspection import inspect
from dia_repro.data.opening import MOST_SCANS, UnfitImageError, open_rgb
from dia_repro.data.threads import in_threads
from dia_repro.experiments.names import DataLocation
from tests.data.slow_images import many_scans, repeated_tags, tiled
from tests.helpers import choose, clean_environment, write_folder

# The command line, which says when the decoder has begun with a slow image.
COMMAND = (
    "import time\n"
    "from PIL.ImageFile import ImageFile\n"
    "from dia_repro.__main__ import main\n"
    "load = ImageFile.load\n"
    "def told(image):\n"
    "    if image.width > 100:\n"
    "        print('decoding', time.process_time(), flush=True)\n"
    "    return load(image)\n"
    "ImageFile.load = told\n"
    "main()\n"
)


def slow_folder(folder: Path, side: int) -> Path:
    """Images of which one takes seconds: about 13 for a side of 8192 pixels, 3 for 4096."""
    write_folder(folder, {"train": 3, "test": 2})
    slow = many_scans(side, MOST_SCANS)
    (folder / "test" / "cat" / "slow.jpg").write_bytes(slow)
    assert len(slow) < 400_000
    return folder


def test_jpeg_of_thousands_of_scans_is_damaged(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", {"train": 3, "test": 2})
    (folder / "train" / "cat" / "x.jpg").write_bytes(many_scans(4096, 5000))
    begun = time.process_time()
    inspection = inspect(scan(folder), tmp_path / "data")
    assert inspection.damaged == ("train/cat/x.jpg",)
    assert inspection.reasons == ("5,000 scans, more than 100",)
    assert time.process_time() - begun < 5


def test_jpeg_files_as_encoders_write_them_are_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for progressive in (False, True):
        file = io.BytesIO()
        # Comments, and pictures of a camera's in the header, may hold what looks like scans.
        looks = b"\xff\xda" * 200
        Image.fromarray(pixels).save(file, "JPEG", progressive=progressive, comment=looks)
        # As of a phone whose photographs end with a short film.
        assert open_rgb(file.getvalue() + looks)[0].size == (64, 64)
    assert open_rgb(many_scans(64, MOST_SCANS))[0].getpixel((0, 0)) == (128,) * 3


PNG = io.BytesIO()
Image.new("L", (8, 8)).save(PNG, "PNG")
GIF = b"GIF87a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0)
SLOW = {
    "one large tile of a TIFF": lambda: tiled((10, 10), (12_000, 12_000)),
    "many large tiles of a TIFF": lambda: tiled((16 * 100, 1), (16, 1 << 20)),
    "many small tiles of a TIFF": lambda: tiled((1, 1_500_000), (1, 1)),
    "zeros in a JPEG": lambda: b"\xff\xd8\xff\xe0\0\2" + bytes(30_000_000),
    "fill bytes in a JPEG": lambda: b"\xff\xd8" + b"\xff" * 30_000_000,
    "segments of a JPEG": lambda: b"\xff\xd8" + b"\xff\xe0\0\2" * 4_000_000,
    "segments after 101 scans": lambda: (
        many_scans(64, 101)[:-2] + b"\xff\xe0\0\2" * 20_000_000 + b"\xff\xd9"
    ),
    "scans behind an invalid marker": lambda: hidden_scans(200),
    "chunks of a PNG": lambda: (
        PNG.getvalue()[:33] + _chunk(b"teSt") * 2_000_000 + PNG.getvalue()[33:]
    ),
    "empty data of a PNG": lambda: (
        PNG.getvalue()[:33] + _chunk(b"IDAT") * 2_000_000 + PNG.getvalue()[33:]
    ),
    "blocks of a GIF": lambda: GIF + b"!\xfe" + b"\1a" * 10_000_000 + b"\0;",
    "comment of a PPM": lambda: b"P5 #" + b" " * 30_000_000 + b"\n1 1 255 0",
    "comments of a PPM in text": lambda: b"P2 9 9 255\n" + b"#\n" * 2_000_000,
}


def hidden_scans(scans: int) -> bytes:
    """Return a JPEG file whose scans follow what looks like a segment of 65,278 bytes.

    Its marker is invalid, and stands where libjpeg looks for a restart: it is skipped alone.
    """
    head, first, others = many_scans(64, scans).split(b"\xff\xda", 2)
    restarts = b"\xff\xdd\0\4\0\1"
    return b"\xff\xda".join((head + restarts, first + b"\xff\x02\xfe\xfe", others))


def _chunk(name: bytes) -> bytes:
    return struct.pack(">I4sI", 0, name, zlib.crc32(name))


@pytest.mark.parametrize("name", SLOW)
def test_file_that_would_be_decoded_for_long_is_refused(name: str) -> None:
    content = SLOW[name]()
    begun = time.process_time()
    with pytest.raises(UnfitImageError, match=r"^[^\n]{10,80}$"):
        open_rgb(content)
    assert time.process_time() - begun < 1.5


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
@pytest.mark.parametrize("image_format", ["TIFF", "PNG"])
def test_tags_are_not_copied_without_limit(image_format: str) -> None:
    content = repeated_tags(100, 1_000_000, image_format)
    tracemalloc.start()
    try:
        assert open_rgb(content)[0].getpixel((0, 0)) == (128,) * 3
        assert tracemalloc.get_traced_memory()[1] < 10 * len(content)
    finally:
        tracemalloc.stop()


def test_large_image_in_tiles_is_read() -> None:
    assert open_rgb(tiled((1000, 1000), (16, 16)))[0].size == (1000, 1000)
    assert open_rgb(tiled((8000, 8000), (256, 256)))[0].size == (8000, 8000)
    assert open_rgb(tiled((10, 10), (512, 512)))[0].size == (10, 10)


def ended_processes_seconds() -> float:
    """Return the processor time of all that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("data check", signal.SIGINT),
        pytest.param("data pack", signal.SIGTERM, marks=pytest.mark.exhaustive),
        pytest.param("run table5 --protocol demo --yes", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_signal_ends_a_command_that_decodes_a_slow_image(
    words: str, number: signal.Signals, tmp_path: Path
) -> None:
    folder = slow_folder(tmp_path / "mine", 8192)
    option = ["--dataset"] if words.startswith("run") else []
    others = ended_processes_seconds()
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words.split(), *option, f"folder:{folder}"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told, seconds = process.stdout.readline().split()
        os.kill(process.pid, number)
        _, complaint = process.communicate(timeout=60)
    assert told == "decoding"
    # Other tests may have the processors meanwhile: what counts is what the command takes of them.
    assert ended_processes_seconds() - others - float(seconds) < 4
    assert process.returncode == 130
    assert complaint.splitlines()[-1] == "dia-repro: interrupted"


class StoppedError(Exception):
    """A run is to stop."""


def test_run_that_decodes_a_slow_image_can_be_stopped(tmp_path: Path) -> None:
    folder = slow_folder(tmp_path / "mine", 4096)
    data = choose(folder, 8, tmp_path).spec

    def stop(done: int, _of: int) -> None:
        if done == 8:  # the slow image is the ninth
            raise StoppedError

    begun = time.process_time()
    with pytest.raises(StoppedError):
        load(data, DataLocation(tmp_path, folder), stop)
    assert time.process_time() - begun < 1.5


def test_error_waits_for_no_other_item() -> None:
    def work(number: int) -> int:
        time.sleep(5 * number)
        if not number:
            raise DataError("damaged")
        return number

    begun = time.monotonic()
    with pytest.raises(DataError, match="damaged"):
        list(in_threads(work, range(2), 2))
    assert time.monotonic() - begun < 4


def test_results_come_in_order_with_their_progress() -> None:
    told: list[tuple[int, int]] = []
    results = in_threads(lambda n: n * n, range(1300), 3, lambda *now: told.append(now))
    assert list(results) == [n * n for n in range(1300)]
    assert told[-1] == (1300, 1300)
    assert told == sorted(told)
    assert len(told) >= 1300 // 64
    assert list(in_threads(lambda n: n, [], 3)) == []


@pytest.mark.parametrize("started", range(2))
def test_a_thread_that_cannot_start_is_said(started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start, most = threading.Thread.start, threading.active_count() + started

    def limited(thread: threading.Thread) -> None:
        if threading.active_count() >= most:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        list(in_threads(lambda n: n, range(9), 2))
