"""Results of others, next to the paper's."""

from __future__ import annotations

from dia_repro.artifacts.paper import TABLE3
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.models.counting import count
from dia_repro.paper.independent import COLUMNS, independent, independent_row, remark_on, tally
from tests.claims.results import claim


def test_tally_of_attention_kinds() -> None:
    assert len(independent()) == 84
    assert tally("dia-lstm", "se") == (8, 2, 14)
    assert tally("dia-lstm", "none")[0] == 14
    assert sum(tally("se", "none")) == 30  # also at depth 272, which has no DIA


def test_a_row_of_table_3() -> None:
    expected = {"original": 79.56, "SENet": 80.05, "DIANet": 80.47}
    assert independent_row("ResNet164 CIFAR100") == expected
    assert independent_row("WRN52-4 CIFAR100") == {}


def test_networks_of_the_same_name_are_the_papers_but_for_those_that_are_remarked() -> None:
    """By their number of parameters."""
    theirs = {(found.row, COLUMNS[found.attention]): found.parameters for found in independent()}
    compared = 0
    for entry in TABLE3.entries:
        if (entry.row, entry.column) not in theirs:
            continue
        spec = entry.spec(Request(Protocol.PAPER))
        ours = count(spec.model, spec.data.classes, spec.data.image_size).parameters
        differs = entry.column != "original" and remark_on(entry.row) != ""
        assert (ours != theirs[entry.row, entry.column]) == differs, entry
        compared += 1
    assert compared == 12


def test_claims_on_table_3_name_them() -> None:
    assert "above SENet in 8 of 24 pairs" in claim("table3-senet").elsewhere
    assert claim("table5-depth").elsewhere == ""
