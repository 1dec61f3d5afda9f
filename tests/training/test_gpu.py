"""What needs a GPU: the same figures as on a CPU, within what its arithmetic allows."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dia_repro.data.digits import load_digits
from dia_repro.experiments.spec import DIALSTMAttention, Spec
from dia_repro.training.step import CapturedStep, TrainingStep
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


@pytest.mark.parametrize("compiled", [True, False])
def test_captured_steps_have_the_plain_ones_losses(compiled: bool) -> None:
    found = {}
    for plain in (True, False):
        spec = tiny_spec(attention=DIALSTMAttention(), lr=0.0003)
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
    one, other = captured.run_epoch(), eager.run_epoch()
    assert one.train_loss == pytest.approx(other.train_loss, rel=1e-5)
    assert one.test_top1 == pytest.approx(other.test_top1, abs=1.0)


def test_deterministic_trainings_agree_to_the_bit() -> None:
    program = (
        "import torch\n"
        "from dia_repro.training.numerics import prepare_process\n"
        "prepare_process(1, deterministic=True)\n"
        "from dia_repro.data.digits import load_digits\n"
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


def test_an_explosion_is_found_at_the_end_of_the_epoch_with_its_step() -> None:
    spec = tiny_spec(lr=1e30)
    on_cpu, on_gpu = (Trainer(spec, 0, load_digits(), torch.device(d)) for d in ("cpu", "cuda"))
    steps = []
    for trainer in (on_cpu, on_gpu):
        with pytest.raises(Diverged) as outcome:
            trainer.run_epoch()
        steps.append(outcome.value.step)
    assert steps[0] == steps[1]
