"""Number of operations of a training step, counted without computing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dia_repro.experiments.spec import Spec
from dia_repro.models import from_spec
from dia_repro.models.fast import cell
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


class Count(TorchDispatchMode):
    """Counts operations by name, while `counts` returns True."""

    def __init__(self, counts: Callable[[], bool] = lambda: True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()
        self._counts = counts

    def launches(self) -> Counter[str]:
        """Return the counts of operations that a device would launch something for."""
        free = ("profiler.", "prim.")
        launched = {n: c for n, c in self.calls.items() if not n.startswith(free) and n not in FREE}
        return Counter(launched)

    @classmethod
    def is_infra_mode(cls) -> bool:
        """Let compiled code run in spite of this mode."""
        return True

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if self._counts():
            self.calls[str(function)] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def cell_of_a_gpu(calls: Counter[str]) -> Iterator[None]:
    """Count a step of the LSTM cell as one operation each way: on a GPU it is one kernel."""

    def forward(
        y: Tensor, _h: Tensor, _c: Tensor, weights: cell.Weights, _activation: int
    ) -> tuple[Tensor, Tensor, cell.Activated]:
        calls["cell"] += 1
        rows, (channels, inner) = len(y), weights.second.shape
        h_after, c_after, s = (torch.empty_like(y) for _ in range(3))
        hidden, activated = y.new_empty(rows, inner), y.new_empty(rows, channels)
        return h_after, c_after, cell.Activated(hidden, activated, s)

    def backward(
        _outputs: object, c: Tensor, activated: cell.Activated, *_: object
    ) -> cell.Gradients:
        calls["cell backward"] += 1
        like = (activated.gates, activated.inner, c, c, c)
        return cell.Gradients(*(torch.empty_like(each) for each in like))

    with patch.object(cell, "forward", forward), patch.object(cell, "backward", backward):
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
    count = Count()
    with count, cell_of_a_gpu(count.calls):
        step.train(images, labels)
    return count.launches()
