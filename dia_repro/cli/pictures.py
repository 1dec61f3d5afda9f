"""Pictures beside the paper's own: learning curves, losses, accuracy against parameters."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dia_repro.cli.output import notice
from dia_repro.processors import cores
from dia_repro.training.environment import SAFE_PATH, environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dia_repro.artifacts.explanation import Findings
    from dia_repro.artifacts.sizes import Sizes

SIZES = "accuracy-parameters"
V = TypeVar("V")
Files = dict[str, bytes]  # by kind


class Pictures:
    """Pictures that other processes draw; `write` waits for them."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self._drawn: dict[Path, Future[Files]] = {}

    def draw(self, path: Path, how: Callable[[V], Figure], value: V) -> None:
        """Begin to draw a value.

        Args:
            path: of its files, without a suffix.
        """
        with environment(SAFE_PATH):  # it may start a process
            self._drawn[path] = self._pool.submit(_files, how, value)

    def write(self) -> list[Path]:
        """Write every kind of file of each picture, and say so; gives their PNG files."""
        return [_write(path, future.result()) for path, future in self._drawn.items()]


@contextmanager
def drawing() -> Iterator[Pictures]:
    """Processes that draw, as many as there are cores for."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cores(), 4), context, initializer=_leave_signals) as pool:
        try:
            yield Pictures(pool)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _leave_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who waits for us ends us


def _files(how: Callable[[V], Figure], value: V) -> Files:
    from dia_repro.rendering.images import KINDS, to_bytes

    figure = how(value)
    return {kind: to_bytes(figure, kind) for kind in KINDS}


def draw_curves(pictures: Pictures, figures: Path, findings: Findings) -> None:
    """Begin to draw the learning curves that an artifact asks for, if it has any runs."""
    from dia_repro.artifacts import Drawing
    from dia_repro.artifacts.learning import Measure, learning
    from dia_repro.rendering.learning import draw_learning

    curves: dict[Drawing, tuple[str, Measure]] = {
        Drawing.ACCURACY: ("curves", "test_top1"),
        Drawing.LOSS: ("loss", "train_loss"),
    }
    artifact = findings.artifact
    for name, measure in (curves[kind] for kind in artifact.drawings if kind in curves):
        found = learning(findings, measure)
        if not found.empty:
            pictures.draw(figures / f"{artifact.name}-{name}", draw_learning, found)


def draw_accuracies(pictures: Pictures, figures: Path, sizes: Sizes) -> None:
    """Begin to draw accuracy against parameters."""
    from dia_repro.rendering.sizes import draw_sizes

    pictures.draw(figures / SIZES, draw_sizes, sizes)


def write_picture(figure: Figure, path: Path) -> Path:
    """Write a picture that is drawn here as every kind of file, and say so; gives the PNG.

    Args:
        path: without a suffix.
    """
    return _write(path, _files(lambda drawn: drawn, figure))


def _write(path: Path, files: Files) -> Path:
    from dia_repro.rendering.files import write_bytes

    for kind, content in files.items():
        write_bytes(path.with_name(f"{path.name}.{kind}"), content)
    notice(f"Written: {path}.{{{','.join(files)}}}")
    return path.with_name(f"{path.name}.png")
