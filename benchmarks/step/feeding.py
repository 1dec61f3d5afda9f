"""Speed of decoding and augmenting images, in separate files and packed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.measurements import Measurement, Series, Window, ratio
from benchmarks.step.images import image_files, packed_dataset
from benchmarks.step.suites import Setting
from dia_repro.data.dataset import StreamedDataset
from dia_repro.data.decoding import Decoded, Wanted
from dia_repro.data.streaming import StreamedData

IMAGES, TEST_IMAGES = 1024, 64
SIZE, BATCH = 224, 256
LEAST_WINDOWS = 5
PHOTOGRAPHS = "synthetic photographs, 500x375, 110 kB"

Work = Callable[[], int]  # decodes images, and returns their number


def input_suite(setting: Setting) -> Iterator[Measurement]:
    """Measure images a second of one core and of workers, for files and a pack in turn."""
    with TemporaryDirectory(prefix="dia-repro-bench-") as temporary:
        root = Path(temporary)
        name, folder = "folder:photographs", root / "photographs"
        files = image_files(name, SIZE, IMAGES, TEST_IMAGES, folder)
        started = time.perf_counter()
        packed = packed_dataset(files, root / "pack", setting.threads)
        seconds = time.perf_counter() - started
        how = f"{PHOTOGRAPHS}; {setting.threads} cores"
        rate = (IMAGES + TEST_IMAGES) / seconds
        yield Measurement("packing", rate, "images/s", how=how)
        share = _bytes(root / "pack") / _bytes(folder)
        yield Measurement("bytes of a pack ÷ of its files", share, "x")
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # as workers have it
        alone = (_one_core(files), _one_core(packed))
        yield from _compared("one core", alone, setting)
        torch.set_num_threads(before)
        workers = setting.threads
        together = (_workers(files, setting), _workers(packed, setting))
        yield from _compared(f"batches of {BATCH} by {workers} workers", together, setting)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _compared(name: str, works: tuple[Work, Work], setting: Setting) -> Iterator[Measurement]:
    windows = max(LEAST_WINDOWS, setting.windows)
    files, packed = (Series(tuple(run), name, 0.0) for run in _in_turn(works, windows, setting))
    yield Measurement.of_rate(f"{name}: files", files)
    yield Measurement.of_rate(f"{name}: packed", packed)
    gain = ratio(packed, files)
    yield Measurement(f"{name}: packed ÷ files", gain, "x", how=packed.described(files))


def _in_turn(works: tuple[Work, Work], windows: int, setting: Setting) -> list[list[Window]]:
    taken: list[list[Window]] = [[] for _ in works]
    for work in works:
        work()  # to warm up
    for _ in range(windows):
        for windows_taken, work in zip(taken, works, strict=True):
            started, images = time.perf_counter(), 0
            while not images or time.perf_counter() - started < setting.seconds:
                images += work()
            windows_taken.append(Window(images, time.perf_counter() - started))
            setting.on_window()
    return taken


def _one_core(dataset: StreamedDataset) -> Work:
    """Decode image by image in this process, each with another crop."""
    decoded = Decoded(dataset)
    numbers = iter(range(10**12))

    def work() -> int:
        for _ in range(16):
            number = next(numbers)
            decoded[Wanted("train", number % len(dataset.train), number)]
        return 16

    return work


def _workers(dataset: StreamedDataset, setting: Setting) -> Work:
    """Decode whole epochs as in training, including the start of each."""
    data = StreamedData(dataset, "resized-crop-flip", setting.device, setting.threads)
    order, augmentation = (torch.Generator().manual_seed(seed) for seed in (0, 1))

    def work() -> int:
        images = 0
        for _, labels in data.training_batches(BATCH, order, augmentation):
            images += len(labels)
        if setting.device.type == "cuda":
            torch.cuda.synchronize(setting.device)
        return images

    return work
