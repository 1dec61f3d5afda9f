"""Number of operations of a training step, counted without computing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dia_repro.experiments.spec import Spec
from dia_repro.models import from_spec
from dia_repro.models.fast import gates
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


@contextmanager
def _gates_of_a_gpu(calls: Counter[str]) -> Iterator[None]:
    """Count a step of the LSTM cell as one operation: on a GPU it is one kernel."""

    def forward(before: Tensor, c: Tensor, *_: object) -> tuple[Tensor, ...]:
        calls["gates"] += 1
        h, c_after, s = (torch.empty_like(c) for _ in range(3))
        return h, c_after, torch.empty_like(before), s

    def backward(*given: Any) -> tuple[Tensor, Tensor]:
        calls["gates backward"] += 1
        _g_h, _g_next, _g_c, activated, c, _s, _activation = given
        return torch.empty_like(activated), torch.empty_like(c)

    with patch.object(gates, "forward", forward), patch.object(gates, "backward", backward):
        yield


def operations(spec: Spec, *, plain: bool = False) -> Counter[str]:
    """Count the operations of one training step of a spec's network, by name, without views.

    They stand for kernel launches on a device that computes one operation at a time. Counted on
    meta tensors: nothing is allocated, and reading a value from the device would fail.

    Args:
        plain: whether to count the plain modules instead of the hand-written passes.
    """
    device = torch.device("meta")
    with device:
        network = from_spec(spec.model, spec.data.classes)
        step = TrainingStep(network, spec.recipe, "fp32", device, plain=plain)
        side, size = spec.data.image_size, spec.recipe.batch_size
        images = torch.empty(size, 3, side, side)
        labels = torch.empty(size, dtype=torch.int64)
    with _Count() as count, _gates_of_a_gpu(count.calls):
        step.train(images, labels)
    return Counter(
        {
            name: calls
            for name, calls in count.calls.items()
            if name not in FREE and not name.startswith("profiler.")
        }
    )
