"""What lists and pages say of a schedule."""

from __future__ import annotations

import pytest

from dia_repro.artifacts import ARTIFACTS
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request


@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        (None, "180 epochs of batch 128 at rate 0.1, 0.01 after epoch 60, 0.001 after epoch 120"),
        (3, "3 epochs of batch 128 at rate 0.1, 0.01 after epoch 1, 0.001 after epoch 2"),
        # Both cuts fall on the only epoch there is between two: the second is at the lowest rate.
        (2, "2 epochs of batch 128 at rate 0.1, 0.001 after epoch 1"),
    ],
)
def test_a_schedule_says_its_rates(epochs: int | None, words: str) -> None:
    request = Request(Protocol.PAPER, epochs=epochs)
    spec = ARTIFACTS["table5"].entries[0].spec(request)
    assert spec.recipe.label == f"{words}, momentum 0.9, weight decay 0.0001"
