"""What needs a GPU: the same figures as on a CPU, within what its arithmetic allows."""

from __future__ import annotations

import pytest
import torch

from dia_repro.data.digits import load_digits
from dia_repro.experiments.spec import DIALSTMAttention, Spec
from dia_repro.training.trainer import Trainer
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
