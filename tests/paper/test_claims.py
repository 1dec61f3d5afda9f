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


def places(one: Claim) -> list[CellKey]:
    return [*one.cells, *(p for pair in one.comparisons for p in pair.cells)]


def of_kind(*kinds: Kind) -> list[Claim]:
    return [one for one in ALL if one.kind in kinds]


def test_every_claim_has_a_name_of_its_own_and_says_where_it_stands() -> None:
    assert len({one.name for one in ALL}) == len(ALL) == 30
    for one in ALL:
        assert one.name.startswith(f"{one.artifact}-")
        assert one.artifact[:-1].capitalize() + " " + one.artifact[-1] in one.where
        assert not one.text.endswith(".")


def test_every_artifact_has_a_claim() -> None:
    assert {one.artifact for one in ALL} == set(ARTIFACTS)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_claims_are_about_cells_that_exist(one: Claim) -> None:
    assert places(one)
    for place in places(one):
        assert cell(place) is not None, place
        entries = ARTIFACTS[place.artifact].entries
        assert any((e.row, e.column) == (place.row, place.column) for e in entries)


@pytest.mark.parametrize("one", of_kind(Kind.HIGHER), ids=lambda one: one.name)
def test_the_paper_prints_the_first_as_more_accurate(one: Claim) -> None:
    for pair in one.comparisons:
        assert printed(pair.first, "top1") > printed(pair.second, "top1"), pair


@pytest.mark.parametrize("one", of_kind(Kind.FEWER), ids=lambda one: one.name)
def test_the_paper_prints_the_first_as_smaller(one: Claim) -> None:
    for pair in one.comparisons:
        assert printed(pair.first, "params") < printed(pair.second, "params"), pair


@pytest.mark.parametrize("one", of_kind(Kind.EQUAL), ids=lambda one: one.name)
def test_the_paper_prints_them_nearer_than_its_seeds_are(one: Claim) -> None:
    assert equal_within() == 0.43
    for pair in one.comparisons:
        difference = printed(pair.first, "top1") - printed(pair.second, "top1")
        assert abs(difference) < one.spreads * equal_within()


def test_the_paper_prints_nan_where_it_says_divergence_and_nowhere_else() -> None:
    diverging = {place for one in of_kind(Kind.DIVERGES) for place in one.cells}
    training = {place for one in of_kind(Kind.TRAINS) for place in one.cells}
    table = [CellKey("table8", c.row, c.column) for c in tables()["table8"].cells]
    assert diverging | training == set(table)
    assert diverging == {place for place in table if math.isnan(printed(place, "top1"))}


def test_the_paper_prints_the_larger_gain_first() -> None:
    (one,) = of_kind(Kind.GAIN)
    for pair in one.comparisons:
        gains = [
            printed(cell, "top1") - printed(baseline, "top1")
            for cell, baseline in zip(pair.cells[:2], pair.baselines, strict=True)
        ]
        assert gains[0] > gains[1], pair.label


def test_the_paper_prints_what_is_to_be_reached() -> None:
    (one,) = of_kind(Kind.REACHES)
    assert min(printed(cell, "top1") for cell in one.cells) >= one.at_least
    assert max(printed(cell, "top1") for cell in one.cells) < one.at_least + 3


def test_the_papers_savings_are_not_those_of_its_own_table() -> None:
    """Which is why counting refutes the sentence: see its note."""
    (one,) = of_kind(Kind.SAVES)
    saved = [
        100 * (1 - printed(pair.first, "params") / printed(pair.second, "params"))
        for pair in one.comparisons
    ]
    assert [percent > 0 for percent in saved] == [False, False, True, True]
    assert saved[-1] == pytest.approx(one.between[1], abs=0.1)
