"""Imported once by the process that workers are forked from; what is slow to load is done here.

It must start no thread and touch no GPU: neither survives a fork.
"""

from __future__ import annotations

import sklearn.datasets  # noqa: F401
import torch

import dia_repro.execution.attempt  # noqa: F401

# The first optimizer of a process imports torch's compiler, which takes longer than training a
# small network does.
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
