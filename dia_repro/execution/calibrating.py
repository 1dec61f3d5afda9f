"""How fast training is here while as many runs as there will be train beside each other."""

from __future__ import annotations

import signal
import statistics
from multiprocessing.connection import Connection

import torch

from dia_repro.errors import DiaReproError
from dia_repro.execution import forkserver
from dia_repro.experiments.spec import Spec
from dia_repro.training import calibration
from dia_repro.training.numerics import prepare_process


class CalibrationError(DiaReproError):
    """A few steps could not be made."""


def seconds_per_image(spec: Spec, device: torch.device, threads: int, together: int) -> float:
    """Seconds of training for an image, in each of so many runs at the same time.

    They share memory and its bandwidth, and two processors are often one core.

    Args:
        threads: of each of them.
        together: how many; on a GPU it is one, whatever is asked.

    Raises:
        CalibrationError: a step failed, as without enough memory.
    """
    arguments = (spec.canonical_json(), str(device), threads)
    working = [
        forkserver.start_process(_measure, *arguments)
        for _ in range(1 if device.type == "cuda" else together)
    ]
    try:
        return statistics.mean(_answer(ours) for _, ours in working)
    finally:
        for process, ours in working:
            forkserver.send_signal(process, signal.SIGKILL)  # it has nothing to save
            forkserver.join(process)
            ours.close()


def _answer(connection: Connection) -> float:
    try:
        answer: float | str = connection.recv()
    except EOFError:
        answer = "its process died: is there enough memory?"
    if isinstance(answer, str):
        raise CalibrationError(f"a few steps of training failed: {answer}")
    return answer


def _measure(spec_json: str, device: str, threads: int, connection: Connection) -> None:
    try:
        on = torch.device(device)
        prepare_process(threads, on)
        spec = Spec.from_json(spec_json)
        connection.send(calibration.seconds_per_image(spec, on))
    except Exception as error:  # told to whoever asked, in a line
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
