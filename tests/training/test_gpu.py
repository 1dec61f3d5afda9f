"""What needs a GPU: the same figures as on a CPU, within what its arithmetic allows."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor

from dia_repro.data.sources.digits import load_digits
from dia_repro.execution.machine import find_machine, why_unusable
from dia_repro.experiments.spec import DIALSTMAttention, Spec
from dia_repro.training.captured import CapturedStep
from dia_repro.training.distributed import _OnCPU
from dia_repro.training.gradients import summarise
from dia_repro.training.provenance import peak_memory
from dia_repro.training.step import TrainingStep
from dia_repro.training.trainer import Diverged, Trainer
from tests.helpers import tiny_spec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine"),
]
TOLERANCE = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}


def without_dropout() -> Spec:
    """Its random numbers are the device's own."""
    return tiny_spec(attention=DIALSTMAttention(stages=(1,)))


def first_loss(device: str, precision: str) -> float:
    spec = without_dropout().model_copy(update={"precision": precision})
    return Trainer(spec, 0, load_digits(), torch.device(device)).run_epoch().train_loss


@pytest.mark.parametrize("precision", TOLERANCE)
def test_an_epoch_gives_the_cpus_loss(precision: str) -> None:
    expected = first_loss("cpu", "fp32")
    assert first_loss("cuda", precision) == pytest.approx(expected, rel=TOLERANCE[precision])


def test_a_training_goes_on_from_a_cpus_checkpoint() -> None:
    dataset = load_digits()
    on_cpu = Trainer(without_dropout(), 0, dataset, torch.device("cpu"))
    on_cpu.run_epoch()
    on_gpu = Trainer(without_dropout(), 0, dataset, torch.device("cuda"))
    on_gpu.load_state(on_cpu.state())
    expected = on_cpu.run_epoch().train_loss
    assert on_gpu.run_epoch().train_loss == pytest.approx(expected, rel=1e-2)


def losses(step: TrainingStep, trainer: Trainer, count: int) -> list[float]:
    """Of the first steps, each read at once."""
    found: list[float] = []
    while len(found) < count:
        trainer.model.train()
        for images, labels in trainer.batches(len(found)):
            step.tally.clear()
            step.train(images, labels)
            found.append(step.tally.read().loss)
    return found[:count]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_captured_steps_have_the_plain_ones_losses(compiled: bool, norm: bool) -> None:
    found = {}
    for plain in (True, False):
        spec = tiny_spec(attention=DIALSTMAttention(), lr=0.0003, norm=norm)
        trainer = Trainer(spec, 0, load_digits(), torch.device("cuda"))
        arguments = (trainer.model, spec.recipe, "fp32", trainer.device)
        step = (
            TrainingStep(*arguments, plain=True)
            if plain
            else CapturedStep(*arguments, compiled=compiled)
        )
        step.set_rate(0.0003)
        found[plain] = losses(step, trainer, 50)
        if not plain:
            assert step.how == ("compiled and captured" if compiled else "captured")
    assert found[False] == pytest.approx(found[True], rel=1e-3)


def test_capturing_changes_nothing_but_speed() -> None:
    """Weights, statistics, momentum and random numbers are as if nothing had been run before."""
    dataset = load_digits()
    spec = without_dropout()
    captured, eager = (Trainer(spec, 0, dataset, torch.device("cuda")) for _ in range(2))
    eager.step = TrainingStep(eager.model, spec.recipe, "fp32", eager.device)
    arguments = (captured.model, spec.recipe, "fp32", captured.device)
    captured.step = CapturedStep(*arguments, compiled=False)
    replayed, other = captured.run_epoch(), eager.run_epoch()
    # Some of cuDNN's gradients are sums by atomic operations, in any order.
    assert replayed.train_loss == pytest.approx(other.train_loss, rel=1e-3)
    assert replayed.test_top1 == pytest.approx(other.test_top1, abs=1.0)


def test_deterministic_trainings_agree_to_the_bit() -> None:
    program = (
        "import torch\n"
        "from dia_repro.training import captured\n"
        "from dia_repro.training.numerics import prepare_process\n"
        "captured.COMPILED_FROM = 0\n"
        "prepare_process(1, torch.device('cuda'), deterministic=True)\n"
        "from dia_repro.data.sources.digits import load_digits\n"
        "from dia_repro.training.trainer import Trainer\n"
        "from tests.helpers import tiny_spec\n"
        "trainer = Trainer(tiny_spec(), 0, load_digits(), torch.device('cuda'))\n"
        "print(trainer.run_epoch().train_loss, trainer.run_epoch().test_loss)\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(printed) == 1


def test_a_divergence_is_found_at_the_end_of_the_epoch_with_its_step() -> None:
    spec = tiny_spec(lr=1e30)
    on_cpu, on_gpu = (Trainer(spec, 0, load_digits(), torch.device(d)) for d in ("cpu", "cuda"))
    steps = []
    for trainer in (on_cpu, on_gpu):
        with pytest.raises(Diverged) as outcome:
            trainer.run_epoch()
        steps.append(outcome.value.step)
    assert steps[0] == steps[1]


def test_this_gpu_can_be_used() -> None:
    assert why_unusable(0) is None
    assert "cuda:0" in find_machine().devices


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU on this machine")
def test_a_run_on_the_second_gpu_leaves_the_first_alone() -> None:
    program = (
        "import torch\n"
        "from dia_repro.training.numerics import prepare_process\n"
        "device = torch.device('cuda:1')\n"
        "prepare_process(1, device)\n"
        "from dia_repro.training import captured\n"
        "captured.COMPILED_FROM = 0\n"
        "from dia_repro.data.sources.digits import load_digits\n"
        "from dia_repro.training.trainer import Trainer\n"
        "from tests.helpers import tiny_spec\n"
        "trainer = Trainer(tiny_spec(), 0, load_digits(), device)\n"
        "trainer.run_epoch()\n"
        "print(trainer.step.how, torch.cuda.max_memory_reserved(0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "compiled and captured 0\n", done.stderr[-2000:]


def test_graphs_are_captured_while_another_thread_pins_memory() -> None:
    over = threading.Event()

    def pin() -> None:
        while not over.is_set():
            torch.empty(1 << 20).pin_memory()

    thread = threading.Thread(target=pin)
    thread.start()
    try:
        trainer = Trainer(tiny_spec(), 0, load_digits(), torch.device("cuda"))
        arguments = (trainer.model, trainer.spec.recipe, "fp32", trainer.device)
        trainer.step = CapturedStep(*arguments, compiled=False)
        trainer.run_epoch()
    finally:
        over.set()
        thread.join()
    assert trainer.step.how == "captured"


def test_a_failing_capture_is_followed_by_one_that_works() -> None:
    """What reads from the GPU cannot be captured; here it does so in the first capture only."""
    trainer = Trainer(tiny_spec(), 0, load_digits(), torch.device("cuda"))
    spec, device = trainer.spec, trainer.device
    step = trainer.step = CapturedStep(trainer.model, spec.recipe, "fp32", device, compiled=False)
    failed: list[bool] = []

    def read(_module: object, _inputs: object, output: Tensor) -> None:
        if torch.cuda.is_current_stream_capturing() and not failed:
            failed.append(True)
            output.sum().item()

    trainer.model.stages[0].register_forward_hook(read)
    unharmed = Trainer(tiny_spec(), 0, load_digits(), torch.device("cuda"))
    before = torch.cuda.current_stream()
    trainer.run_epoch()
    assert failed
    assert torch.cuda.current_stream() == before
    assert step.how.startswith("eager, not captured (")
    step._graphs.clear()
    trainer.run_epoch()
    assert step.how == "captured"
    for _ in range(2):  # dropout is drawn as it would have been
        unharmed.run_epoch()
    assert trainer.history[1].train_loss == pytest.approx(unharmed.history[1].train_loss, rel=1e-2)


def test_networks_that_follow_each_other_are_all_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dia_repro.models.network.COMPILED_VERSIONS", 6)
    monkeypatch.setattr("dia_repro.training.captured.COMPILED_FROM", 0)
    for reduction in (4, 8, 16):
        spec = tiny_spec(attention=DIALSTMAttention(reduction=reduction))
        trainer = Trainer(spec, 0, load_digits(), torch.device("cuda"))
        trainer.run_epoch()
        assert trainer.step.how == "compiled and captured"


def test_gradients_are_summed_up_as_on_a_cpu() -> None:
    values = torch.randn(100_000).exp() - 1
    torch.use_deterministic_algorithms(True)
    try:
        found, expected = summarise(values.cuda()), summarise(values)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found["quantiles"] == expected["quantiles"]
    assert found["mean"] == pytest.approx(expected["mean"], rel=1e-9)
    for count, other in zip(found["histogram"], expected["histogram"], strict=True):
        assert abs(count - other) <= 1  # a logarithm's last bit


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bn_of_several_processes_is_the_cpus(layout: torch.memory_format) -> None:
    """Their kernels on a GPU, against the same operations written out for a CPU."""
    u = (3 * torch.randn(16, 24, 5, 5) + 2).contiguous(memory_format=layout)
    g = torch.randn(16, 24, 5, 5).contiguous(memory_format=layout)
    weight, bias = torch.randn(2, 24)
    mean, inverse = _OnCPU.batch_norm_stats(u, 1e-5)
    count = torch.tensor([400], dtype=torch.int32)
    of_g, with_u = torch.randn(2, 24)
    calls = {
        "batch_norm_stats": (u, 1e-5),
        "batch_norm_elemt": (u, weight, bias, mean, inverse, 1e-5),
        "batch_norm_backward_reduce": (g, u, mean, inverse, weight, True, True, True),
        "batch_norm_backward_elemt": (g, u, mean, inverse, weight, of_g, with_u, count),
    }
    for name, arguments in calls.items():
        there = [
            argument.cuda() if isinstance(argument, Tensor) else argument for argument in arguments
        ]
        found, expected = getattr(torch, name)(*there), getattr(_OnCPU, name)(*arguments)
        found = (found,) if isinstance(found, Tensor) else found
        expected = (expected,) if isinstance(expected, Tensor) else expected
        for value, other in zip(found, expected, strict=True):
            torch.testing.assert_close(value.cpu(), other, rtol=1e-4, atol=1e-4)


def test_peak_memory_includes_what_the_allocator_holds() -> None:
    kept = torch.empty(1 << 20, device="cuda")
    assert peak_memory(kept.device) >= torch.cuda.max_memory_allocated() > 0
