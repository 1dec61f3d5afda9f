"""`--deterministic` on a GPU: no operation for which CUDA has only a nondeterministic algorithm.

torch raises there when the GPU is reached; without one, the operations themselves are looked at.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dia_repro.bench.operations import operations
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


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda one: one.family)
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
