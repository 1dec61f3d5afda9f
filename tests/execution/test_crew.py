"""Runs shared by several processes, as one process makes them."""

from __future__ import annotations

from multiprocessing.connection import Connection

import torch

from dia_repro.data.digits import load_digits
from dia_repro.execution import crew
from dia_repro.execution.messages import WorkOrder
from dia_repro.experiments.spec import DIALSTMAttention, Spec
from dia_repro.training.together import Group
from dia_repro.training.trainer import Trainer
from tests.helpers import tiny_spec

TIMEOUT = 120.0
CPU = torch.device("cpu")
ALL_STAGES = DIALSTMAttention(reduction=4, stages=(1, 2, 3))
Figures = list[tuple[float, ...]]


def spec(batch: int = 128, epochs: int = 3, lr: float = 0.01, norm: bool = True) -> Spec:
    whole = tiny_spec(attention=ALL_STAGES, epochs=epochs, lr=lr, norm=norm)
    recipe = whole.recipe.model_copy(update={"batch_size": batch})
    return whole.model_copy(update={"recipe": recipe})


def train_in_double(spec: Spec, group: Group) -> Figures:
    """In float64, where nothing but mistakes is left of the difference between two ways."""
    torch.set_default_dtype(torch.float64)
    trainer = Trainer(spec, 0, load_digits(), CPU, 0, group)
    trainer.model.use_fast(False)
    trainer.step.model.register_forward_pre_hook(lambda _, images: (images[0].double(),))
    while not trainer.finished:
        trainer.run_epoch()
    return [(m.train_loss, m.test_loss, m.train_top1, m.test_top1) for m in trainer.history]


def one_of_several(order: WorkOrder, connection: Connection) -> None:
    """The first process of an order, whose others are real ones; sends what comes out."""


def shared(order: WorkOrder, connection: Connection) -> None:
    crew.follow.__globals__["Trainer"] = None
