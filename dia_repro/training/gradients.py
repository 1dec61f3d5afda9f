"""How large the gradients at the stages' outputs are, in the course of training (Figure 6).

Recorded is |∂loss/∂output| of every element of each stage's output tensor, the one handed to the
next stage, for the first batch of each epoch before it moves the weights: so the first record is
that of the network as it was initialised. Tensors are summed up on their device and let go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from dia_repro.experiments.names import BINS_PER_DECADE, HIGHEST, LOWEST, QUANTILES

Record = dict[str, Any]


def summarise(gradient: Tensor) -> Record:
    """Sum a tensor's absolute values up.

    Returns:
        count: of its elements.
        zeros, not_finite: how many of them are; the former are in no bin of the histogram, the
            latter in no other figure.
        mean, variance: of all that are finite, in float64.
        quantiles: of the finite ones, at `QUANTILES`.
        histogram: how many lie in each bin between 10^`LOWEST` and 10^`HIGHEST`, and below and
            above, first and last.
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
    """While a batch goes forward and backward: a record for each stage, in their order."""
    records: list[Record] = [{} for _ in stages]

    def watch(index: int) -> Any:
        def hook(_stage: nn.Module, _arguments: object, output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda gradient: records[index].update(summarise(gradient)))

        return hook

    handles = [
        cast("Any", stage.register_forward_hook(watch(index))) for index, stage in enumerate(stages)
    ]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()
