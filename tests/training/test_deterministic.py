"""`--deterministic` on a GPU: no operation for which CUDA has only a nondeterministic algorithm.

torch raises there when the GPU is reached; without one, the operations themselves are looked at.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.step.operations import operations
from dia_repro.experiments.spec import (
    Backbone,
    DIALSTMAttention,
    ImageNetBackbone,
    ModelSpec,
    PreResNetBackbone,
    ResNetBackbone,
    ResNeXtBackbone,
    WRNBackbone,
)
from dia_repro.models import from_spec
from dia_repro.training.gradients import summarise
from tests.helpers import tiny_spec

# Those that `torch.use_deterministic_algorithms` lists as raising on a GPU.
RAISING = (
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "_ctc_loss_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "bincount",
    "fractional_max_pool",
    "grid_sampler",
    "histc",
    "max_unpool",
    "median",
    "nll_loss2d",
    "put_",
    "reflection_pad",
    "upsample_",
)
BACKBONES: list[Backbone] = [
    ResNetBackbone(depth=11),
    ResNetBackbone(depth=8, block="basic"),
    PreResNetBackbone(depth=11),
    WRNBackbone(depth=10),
    ResNeXtBackbone(depth=11),
    ImageNetBackbone(family="resnet34"),
    ImageNetBackbone(family="resnext50"),
]


def raising(names: list[str]) -> list[str]:
    return [name for name in names if name.removeprefix("aten.").startswith(RAISING)]


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.family)
@pytest.mark.parametrize("plain", [True, False])
def test_steps_have_deterministic_algorithms(backbone: Backbone, plain: bool) -> None:
    model = ModelSpec(backbone=backbone, attention=DIALSTMAttention())
    spec = tiny_spec().model_copy(update={"model": model})
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"image_size": 64})})
    found = operations(spec, plain=plain)
    assert found
    assert raising(list(found)) == []


class Names(TorchDispatchMode):
    """Notes the operations under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, function: Any, _types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def test_gradients_are_summed_up_by_deterministic_algorithms() -> None:
    """Figure 6's records: CUDA's `histc` raises."""
    with Names() as names:
        summarise(torch.randn(3, 5))
    assert names.seen
    assert raising(names.seen) == []
    with Names() as names:
        torch.histc(torch.randn(5))
    assert raising(names.seen) == ["aten.histc.default"], "it would be seen"


TRAIN = """
import sys, torch
from dia_repro.data import load
from dia_repro.experiments.names import DataLocation
from dia_repro.training.numerics import prepare_process
from dia_repro.training.trainer import Trainer
from pathlib import Path
from tests.helpers import tiny_spec

spec = tiny_spec(epochs=1)
dataset = load(spec.data, DataLocation(Path.cwd()))
for deterministic in (True, False):
    prepare_process(1, deterministic=deterministic)
    print(torch.are_deterministic_algorithms_enabled())
    Trainer(spec, 0, dataset, torch.device("cpu"), 1).run_epoch()
print([name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules])
"""


@pytest.mark.slow
def test_training_does_not_import_the_compiler() -> None:
    """It takes seconds, in each worker, and on a CPU nothing is compiled."""
    command = [sys.executable, "-c", TRAIN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "False", "[]"], done.stderr[-2000:]


def test_deterministic_mode_reaches_the_compiler() -> None:
    """Else it would choose kernels by their measured times."""
    network = from_spec(
        ModelSpec(backbone=ResNetBackbone(depth=11), attention=DIALSTMAttention()), 5
    )
    told = []
    for mode in ("error", "default"):
        torch.set_deterministic_debug_mode(mode)
        network.use_compiled(backend="eager")
        told.append(torch._inductor.config.deterministic)
    assert told == [True, False]
