"""GPUs that can be used, and processes that each train on their own GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.step.candidates import Mode, Task
from benchmarks.step.measure import _serve
from dia_repro.cli import probes
from dia_repro.cli.progress import Terminal
from dia_repro.execution import estimates, forkserver
from dia_repro.execution.attempt import Attempt
from dia_repro.execution.estimates import images_of_a_step
from dia_repro.execution.executors import find_executor
from dia_repro.execution.machine import Machine, NoGPUError, find_machine, runs_on
from dia_repro.execution.messages import Job, Message, Notice
from dia_repro.execution.options import Resources, Selection
from dia_repro.execution.process_group import follow
from dia_repro.execution.requests import request_to_train
from dia_repro.experiments.names import Precision
from dia_repro.training.numerics import PrecisionError, has_precision
from tests.execution.tiny_runs import make_jobs
from tests.helpers import one_line, tiny_spec

BUILT_FOR = ["sm_75", "sm_80", "sm_86", "sm_90a", "sm_100", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "can"),
    [
        ((6, 1), False),
        ((7, 0), False),
        ((7, 5), True),
        ((8, 0), True),
        ((8, 9), True),  # sm_86 runs on it
        ((9, 0), True),
        ((9, 1), False),  # sm_90a is for 9.0 alone
        ((10, 3), True),
        ((12, 0), True),
        ((13, 0), True),  # compiled for it when it is loaded
    ],
)
def test_gpu_runs_code_of_its_major_version(capability: tuple[int, int], can: bool) -> None:
    assert runs_on(capability, BUILT_FOR) is can


def test_other_makers_gpus_are_taken() -> None:
    assert runs_on((9, 4), ["gfx90a", "gfx942"])


def mock_gpus(monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int]) -> None:
    """A machine with such GPUs, as torch describes it."""

    class Properties:
        total_memory = 80_000_000_000

    def capability(device: int | torch.device) -> tuple[int, int]:
        return capabilities[device if isinstance(device, int) else device.index or 0]

    described = {
        "is_available": lambda: True,
        "device_count": lambda: len(capabilities),
        "get_arch_list": lambda: BUILT_FOR,
        "get_device_capability": capability,
        "get_device_name": lambda _device: "NVIDIA Example",
        "get_device_properties": lambda _device: Properties,
    }
    for name, value in described.items():
        monkeypatch.setattr(torch.cuda, name, value)


def test_gpu_that_torch_does_not_support_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    mock_gpus(monkeypatch, (6, 1), (9, 0))
    machine = find_machine()
    assert machine.devices == ("cuda:1",)
    assert dict(machine.memory) == {"cuda:1": 80_000_000_000}
    (reason,) = machine.unusable
    assert reason.startswith("cuda:0 (NVIDIA Example) is sm_61, and torch ")
    assert "is built for sm_75, " in reason


def test_without_a_usable_gpu_training_uses_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mock_gpus(monkeypatch, (6, 1))
    assert find_machine().devices == ("cpu",)
    assert len(find_machine().unusable) == 1
    with pytest.raises(NoGPUError, match=r"sm_61, and torch .* is built for"):
        find_machine("cuda")


def test_doctor_has_a_line_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    mock_gpus(monkeypatch, (9, 0), (7, 5), (6, 1))
    monkeypatch.setattr(probes, "cannot_compute", lambda _: None)
    first, second, third = probes.gpus(find_machine())
    assert first == ("ok", "cuda:0: NVIDIA Example, fp32, tf32 and bf16")
    assert second[1] == "cuda:1: NVIDIA Example, no tf32 and no bf16: use --precision fp32"
    assert third[0] == "absent"
    assert "is sm_61" in third[1]


def test_doctor_computes_on_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probes.cannot_compute(torch.device("cpu")) is None
    mock_gpus(monkeypatch, *[(9, 0)] * 100)
    status, detail = list(probes.gpus(find_machine()))[99]
    assert status == "bad"
    assert detail.startswith("cuda:99 cannot compute (")
    assert detail.endswith("): train with --device cpu")


def test_run_says_why_a_gpu_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mock_gpus(monkeypatch, (6, 1), (9, 0))
    assert find_executor(Resources(), Terminal()).machine.devices == ("cuda:1",)
    said = capsys.readouterr().err
    assert one_line(said)
    assert said.startswith("Not used: cuda:0 (NVIDIA Example) is sm_61")


def test_gpu_is_measured_with_whole_batches() -> None:
    spec = tiny_spec()
    assert images_of_a_step(spec, torch.device("cuda:0")) == spec.recipe.batch_size == 128
    assert images_of_a_step(spec, torch.device("cpu")) == 64


def test_gpu_run_reports_its_execution_mode_once(tmp_path: Path) -> None:
    database, (job,) = make_jobs(tmp_path, [tiny_spec()], 1)
    database.close()
    said: list[Message] = []
    for device, lines in (("cpu", []), ("cuda:0", ["compiled", "captured, not compiled (Why)"])):
        bare: Any = Attempt.__new__(Attempt)
        bare.job, bare.send, bare.step, bare.begun_mode = job, said.append, None, None
        bare.device = torch.device(device)
        for how in ("", "compiled", "compiled", "captured, not compiled (Why)"):
            bare._say_how(SimpleNamespace(step=SimpleNamespace(how=how)))
        assert bare.step == "captured, not compiled (Why)"
        texts = [message.text for message in said if isinstance(message, Notice)]
        assert texts == [f"{job.label}: execution mode: {mode}" for mode in lines]


def test_every_gpu_must_have_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    mock_gpus(monkeypatch, (9, 0), (7, 5))
    machine = Machine(("cuda:0", "cuda:1"), 4)
    with pytest.raises(PrecisionError, match="does not have tf32: use --precision fp32"):
        request_to_train(Selection(), machine, None)
    fp32 = Selection(precision=Precision.FP32)
    assert request_to_train(fp32, machine, None).precision == "fp32"
    assert has_precision("bf16", torch.device("cuda:0"))
    assert not has_precision("bf16", torch.device("cuda:1"))


def serve(task: Task) -> None:
    _serve(task, Pipe()[1])


def measure(text: str) -> None:
    estimates._measure(text, "cuda:1", 1, Pipe()[1])


def second_of_two(job: Job) -> None:
    follow(job, 1, 1, Pipe()[1])


def attempt(job: Job) -> None:
    Attempt(job, lambda _: None, lambda: True)


def first_devices(works: dict[str, Callable[[], None]], connection: Connection) -> None:
    """Begin each work, and tell which GPU it makes the current one before all else."""
    found: list[str] = []

    def set_device(device: torch.device) -> None:
        found.append(str(device))
        raise SystemExit

    torch.cuda.set_device = set_device  # type: ignore[assignment]
    for work in works.values():
        with suppress(SystemExit):
            work()
    connection.send(dict(zip(works, found, strict=False)))


def test_every_process_first_selects_its_gpu(tmp_path: Path) -> None:
    """Graphs and Triton kernels go to the current GPU, wherever their tensors are."""
    database, (job,) = make_jobs(tmp_path, [tiny_spec()], 1)
    database.close()
    text = job.spec_json
    tasks = [Task(mode, text, "cuda:1", 1, 128, 32) for mode in (Mode.OURS, Mode.REFERENCE)]
    works = {
        "attempt": partial(attempt, replace(job, device="cuda:1")),
        "one of several": partial(second_of_two, replace(job, device="cuda:0", processes=2)),
        "calibration": partial(measure, text),
        "measured": partial(serve, tasks[0]),
        "reference": partial(serve, tasks[1]),
    }
    forkserver.start()
    ours, theirs = forkserver.CONTEXT.Pipe(duplex=False)
    process = forkserver.CONTEXT.Process(target=first_devices, args=(works, theirs))
    process.start()
    theirs.close()
    assert ours.recv() == dict.fromkeys(works, "cuda:1")
    process.join()
