"""Controls: their networks, which of them are the paper's, and how they are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from dia_repro.artifacts import (
    ARTIFACTS,
    CONTROLS,
    ArtifactError,
    Entry,
    TableArtifact,
    choose,
    register_artifact,
)
from dia_repro.artifacts.controls import CAPACITY, EXTRACTION, MATCHED_SE, MATCHING, NORM, SKIPS
from dia_repro.artifacts.paper import SE16, TABLE5, resnet
from dia_repro.execution.requests import chosen_entries
from dia_repro.experiments.spec import SEAttention
from dia_repro.models import count
from dia_repro.rendering.grid import make_grid
from dia_repro.rendering.tables import to_latex
from dia_repro.results.database import open_database
from tests.artifacts.test_table5 import DEMO, PAPER

every_control = pytest.mark.parametrize("control", CONTROLS.values(), ids=list(CONTROLS))


@pytest.mark.parametrize(
    ("control", "paper", "own"),
    [
        (NORM, "table8", 36),
        (CAPACITY, "table5", 12),
        (EXTRACTION, "table3", 8),
        (SKIPS, "figure6", 1),
    ],
)
def test_the_papers_networks_are_trained_once(control: TableArtifact, paper: str, own: int) -> None:
    for request in (PAPER, DEMO):
        papers = {spec.spec_id for spec in ARTIFACTS[paper].specs(request).values()}
        specs = {spec.spec_id for spec in control.specs(request).values()}
        halved = 2 if request is DEMO and control is EXTRACTION else 1  # CIFAR-10 is digits, too
        assert len(specs - papers) == own / halved
        if control is NORM:
            assert papers < specs
    dia_se = CAPACITY.specs(PAPER)["DIA-SE", "ResNet164"]
    assert dia_se == ARTIFACTS["table1"].specs(PAPER)["DIA-SE", "ResNet164"]


@every_control
def test_every_place_is_an_experiment_that_a_command_can_name(control: TableArtifact) -> None:
    assert not control.in_paper
    specs = control.specs(PAPER)
    assert len({spec.spec_id for spec in specs.values()}) == len(control.entries)
    for entry in control.entries:
        words = " ".join(entry.label.replace(",", " ").split())
        assert chosen_entries([control], [words]) == [(control.name, entry)]
    assert {spec.data.dataset for spec in control.specs(DEMO).values()} == {"digits"}
    assert all(spec.precision == "fp32" for spec in NORM.specs(PAPER).values())


@every_control
def test_a_control_has_a_grid_and_ascii_latex(control: TableArtifact, tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    grid = make_grid(control.compute(database, PAPER))
    assert len(grid.rows) == len(control.paper.rows)
    assert to_latex(grid).isascii()


def test_the_matched_se_is_the_nearest_to_dia_in_parameters() -> None:
    widths = (64, 128, 256)
    dia = sum(10 * n * n // 4 + 8 * n + 2 * n // 4 for n in widths)
    for depth, reduction in MATCHING.items():
        blocks = (depth - 2) // 9

        def off(r: int, blocks: int = blocks) -> int:
            return abs(sum(blocks * ((2 * n + 1) * (n // r) + n) for n in widths) - dia)

        assert min(range(1, 65), key=off) == reduction  # the first of several
    specs = CAPACITY.specs(PAPER)
    for column in ("ResNet83", "ResNet407"):
        matched, dianet = (
            count(specs[row, column].model, 100, 32).parameters for row in (MATCHED_SE, "DIANet")
        )
        assert abs(matched / dianet - 1) < 0.005
    attention = specs[MATCHED_SE, "ResNet164"].model.attention
    assert attention == SEAttention(kind="se", reduction=14)


def test_branches_start_at_one_over_the_root_of_the_number_of_blocks() -> None:
    specs = NORM.specs(PAPER)
    starts = {
        depth: specs["scale 1/sqrt(L)", f"ResNet{depth}"].model.attention.model_dump()["start"]
        for depth in (83, 164)
    }
    assert starts == {83: pytest.approx(27**-0.5), 164: pytest.approx(54**-0.5)}


def test_all_chooses_the_papers_artifacts_and_controls_the_controls() -> None:
    assert choose(["controls"]) == list(CONTROLS.values())
    assert choose(["all"]) == list(ARTIFACTS.values())
    assert choose(["Controls-Norm", "table5"]) == [NORM, TABLE5]
    assert not set(ARTIFACTS) & set(CONTROLS)


@pytest.mark.parametrize("name", ["controls", "controls-norm"])
def test_no_other_artifact_has_a_controls_name(name: str) -> None:
    entry = Entry(row="a", column="b", model=resnet(11, SE16))
    with pytest.raises(ArtifactError):
        register_artifact(TableArtifact(name=name, row_heading="Row", entries=(entry,)))
