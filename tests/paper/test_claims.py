"""The claims against the tables that they are about: the paper's own values agree with them."""

from __future__ import annotations

import math

import pytest

from dia_repro.artifacts import ARTIFACTS
from dia_repro.paper.claims import CellKey, Claim, Kind, all_claims, equal_within
from dia_repro.paper.facts import PaperCell, figures, tables

ALL = all_claims()


def printed(place: CellKey, metric: str) -> float:
    found = cell(place, metric)
    assert found is not None, place
    return found.value


def cell(place: CellKey, metric: str = "top1") -> PaperCell | None:
    return {**tables(), **figures()}[place.artifact].find(place.row, place.column, metric)


def places(claim: Claim) -> list[CellKey]:
    return [*claim.cells, *(p for pair in claim.comparisons for p in pair.cells)]


def of_kind(*kinds: Kind) -> list[Claim]:
    return [claim for claim in ALL if claim.kind in kinds]


def test_every_claim_has_a_name_of_its_own_and_says_where_it_stands() -> None:
    assert len({claim.name for claim in ALL}) == len(ALL) == 30
    for claim in ALL:
        assert claim.name.startswith(f"{claim.artifact}-")
        assert claim.artifact[:-1].capitalize() + " " + claim.artifact[-1] in claim.where
        assert not claim.text.endswith(".")


def test_every_artifact_has_a_claim() -> None:
    assert {claim.artifact for claim in ALL} == set(ARTIFACTS)


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: claim.name)
def test_claims_are_about_cells_that_exist(claim: Claim) -> None:
    assert places(claim)
    for place in places(claim):
        assert cell(place) is not None, place
        entries = ARTIFACTS[place.artifact].entries
        assert any((e.row, e.column) == (place.row, place.column) for e in entries)


@pytest.mark.parametrize("claim", of_kind(Kind.HIGHER), ids=lambda claim: claim.name)
def test_the_paper_prints_the_first_as_more_accurate(claim: Claim) -> None:
    for pair in claim.comparisons:
        assert printed(pair.first, "top1") > printed(pair.second, "top1"), pair


@pytest.mark.parametrize("claim", of_kind(Kind.FEWER), ids=lambda claim: claim.name)
def test_the_paper_prints_the_first_as_smaller(claim: Claim) -> None:
    for pair in claim.comparisons:
        assert printed(pair.first, "params") < printed(pair.second, "params"), pair


@pytest.mark.parametrize("claim", of_kind(Kind.EQUAL), ids=lambda claim: claim.name)
def test_the_paper_prints_them_nearer_than_its_seeds_are(claim: Claim) -> None:
    assert equal_within() == 0.43
    for pair in claim.comparisons:
        difference = printed(pair.first, "top1") - printed(pair.second, "top1")
        assert abs(difference) < claim.spreads * equal_within()


def test_the_paper_prints_nan_where_it_says_divergence_and_nowhere_else() -> None:
    diverging = {place for claim in of_kind(Kind.DIVERGES) for place in claim.cells}
    training = {place for claim in of_kind(Kind.TRAINS) for place in claim.cells}
    table = [CellKey("table8", c.row, c.column) for c in tables()["table8"].cells]
    assert diverging | training == set(table)
    assert diverging == {place for place in table if math.isnan(printed(place, "top1"))}


def test_the_paper_prints_the_larger_gain_first() -> None:
    (claim,) = of_kind(Kind.GAIN)
    for pair in claim.comparisons:
        gains = [
            printed(cell, "top1") - printed(baseline, "top1")
            for cell, baseline in zip(pair.cells[:2], pair.baselines, strict=True)
        ]
        assert gains[0] > gains[1], pair.label


def test_the_paper_prints_what_is_to_be_reached() -> None:
    (claim,) = of_kind(Kind.REACHES)
    assert min(printed(cell, "top1") for cell in claim.cells) >= claim.at_least
    assert max(printed(cell, "top1") for cell in claim.cells) < claim.at_least + 3


def test_the_papers_savings_are_not_those_of_its_own_table() -> None:
    """Which is why counting refutes the sentence: see its note."""
    (claim,) = of_kind(Kind.SAVES)
    saved = [
        100 * (1 - printed(pair.first, "params") / printed(pair.second, "params"))
        for pair in claim.comparisons
    ]
    assert [percent > 0 for percent in saved] == [False, False, True, True]
    assert saved[-1] == pytest.approx(claim.between[1], abs=0.1)
