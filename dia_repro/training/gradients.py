"""Size of the gradients at the stages' outputs in the course of training (Figure 6).

Recorded is |∂loss/∂output| of every element of each stage's output tensor, the one handed to the
next stage, for the first batch of each epoch before it moves the weights: so the first record is
that of the network as it was initialised. Tensors are summed up on their device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from dia_repro.experiments.names import BINS_PER_DECADE, HIGHEST, LOWEST, QUANTILES

Record = dict[str, Any]


def summarise(gradient: Tensor) -> Record:
    """Summarise a tensor's absolute values.

    Returns:
        count: number of elements.
        zeros, not_finite: numbers of such elements; zeros are in no bin of the histogram, elements
            that are not finite in no other value.
        mean, variance: moments of the finite ones, in float64.
        quantiles: quantiles of the finite ones, at `QUANTILES`.
        histogram: number below 10^`LOWEST`, in each bin up to 10^`HIGHEST`, and above.
    """
    values = gradient.detach().reshape(-1).float().abs()
    finite = values[values.isfinite()]
    wide = finite.double()
    mean = wide.mean()
    ordered = finite.sort().values
    ranks = [round(q * (len(ordered) - 1)) for q in QUANTILES] if len(ordered) else []
    zeros = int((finite == 0).sum())
    return {
        "count": len(values),
        "zeros": zeros,
        "not_finite": len(values) - len(finite),
        "mean": float(mean),
        "variance": float((wide - mean).square().mean()),
        "quantiles": ordered[ranks].tolist(),
        "histogram": _histogram(ordered[zeros:]),
    }


def _histogram(ordered: Tensor) -> list[int]:
    """Count sorted positive values by bin: below 10^`LOWEST`, each bin, above 10^`HIGHEST`.

    Not by `torch.histc`, which has no deterministic algorithm on a GPU.
    """
    bins = (HIGHEST - LOWEST) * BINS_PER_DECADE
    edges = torch.linspace(LOWEST, HIGHEST, bins + 1, dtype=torch.float64, device=ordered.device)
    logs = ordered.double().log10()
    before = torch.searchsorted(logs, edges).tolist()
    # The last bin has both of its edges.
    before[-1] = int(torch.searchsorted(logs, edges[-1:], right=True))
    return [later - earlier for earlier, later in pairwise([0, *before, len(ordered)])]


@contextmanager
def recorded(stages: Sequence[nn.Module]) -> Iterator[list[Record]]:
    """Record a batch that goes forward and backward inside the block: a record for each stage."""
    records: list[Record] = [{} for _ in stages]

    def watch(index: int) -> Any:
        def hook(_stage: nn.Module, _arguments: object, output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda gradient: records[index].update(summarise(gradient)))

        return hook

    with ExitStack() as hooks:
        for index, stage in enumerate(stages):
            hooks.enter_context(stage.register_forward_hook(watch(index)))
        yield records
