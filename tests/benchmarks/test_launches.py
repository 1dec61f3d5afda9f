"""Budgets of a compiled step, counted in code that torch writes for a GPU; nothing runs there."""

from __future__ import annotations

import pytest
import torch

from benchmarks.step.suites import GIGABYTES, LAUNCHES, NETWORKS, resnet

# The counts are of this version's code, and it is looked at by ways without a stable interface.
KNOWN = "2.14."
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.__version__.startswith(KNOWN), reason=f"counts are those of torch {KNOWN}x"
    ),
]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_step_keeps_its_budgets(name: str) -> None:
    pytest.importorskip("triton")
    from benchmarks.step.launches import launches

    found = launches(resnet(164, NETWORKS[name], precision="bf16"))
    assert found.total <= LAUNCHES[name], found
    assert found.gigabytes <= GIGABYTES, found
    assert found.compiled > 1000
    assert found.gigabytes > 5
