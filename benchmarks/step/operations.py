"""How many operations a training step is made of, counted without computing anything."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dia_repro.experiments.spec import Spec
from dia_repro.models import from_spec
from dia_repro.training.step import TrainingStep

# These move no data: another view of the same memory, or memory not yet written.
FREE = frozenset(
    f"aten.{name}.default"
    for name in (
        "view",
        "_unsafe_view",
        "t",
        "transpose",
        "expand",
        "unsqueeze",
        "squeeze",
        "detach",
        "permute",
        "alias",
        "as_strided",
        "empty_like",
        "split_with_sizes",
        "lift_fresh",
    )
) | {
    "aten.slice.Tensor",
    "aten.select.int",
    "aten.split.Tensor",
    "aten.transpose.int",
    "aten.empty.memory_format",
    "aten.new_empty.default",
    "aten.new_empty_strided.default",
    "aten.squeeze.dim",
    "aten.unbind.int",
}


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.calls[str(function)] += 1
        return function(*args, **(kwargs or {}))


def operations(spec: Spec, *, plain: bool = False) -> Counter[str]:
    """Operations of one training step of a spec's network, by name, views left out.

    They stand for kernel launches on a device that computes one operation at a time. Counted on
    meta tensors: nothing is allocated, and reading a value from the device would fail.

    Args:
        plain: of the plain modules instead of the hand-written passes.
    """
    device = torch.device("meta")
    with device:
        network = from_spec(spec.model, spec.data.classes)
        step = TrainingStep(network, spec.recipe, "fp32", device, plain=plain)
        side, size = spec.data.image_size, spec.recipe.batch_size
        images = torch.empty(size, 3, side, side)
        labels = torch.empty(size, dtype=torch.int64)
    with _Count() as count:
        step.train(images, labels)
    return Counter(
        {
            name: calls
            for name, calls in count.calls.items()
            if name not in FREE and not name.startswith("profiler.")
        }
    )
