"""Every registered table against the paper, and what tables share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dia_repro.analysis.parameters import parameter_counts
from dia_repro.artifacts import ARTIFACTS, TableArtifact
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.paper import deviation
from dia_repro.rendering.grid import make_grid
from dia_repro.rendering.tables import to_latex, to_markdown, to_terminal
from dia_repro.results.database import open_database
from dia_repro.results.schema import State
from tests.artifacts.test_table5 import DEMO, PAPER, add


@pytest.fixture(params=ARTIFACTS.values(), ids=list(ARTIFACTS))
def artifact(request: pytest.FixtureRequest) -> TableArtifact:
    assert isinstance(request.param, TableArtifact)
    return request.param


def test_its_places_are_the_papers(artifact: TableArtifact) -> None:
    printed = {(cell.row, cell.column) for cell in artifact.paper.cells}
    shown = [(entry.row, entry.column) for entry in artifact.entries if entry.shown]
    assert set(shown) == printed
    assert len(shown) == len(printed)


def test_each_place_is_an_experiment_of_its_own(artifact: TableArtifact) -> None:
    specs = artifact.specs(PAPER)
    assert len({spec.spec_id for spec in specs.values()}) == len(specs) == len(artifact.entries)


def test_it_is_drawn_from_complete_and_from_empty_databases(
    artifact: TableArtifact, tmp_path: Path
) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for request in (PAPER, DEMO):
        for seed in range(2):
            grid = make_grid(artifact.compute(database, request))
            assert len(grid.rows) == len(artifact.paper.rows)
            assert {len(row) for row in grid.rows} == {len(grid.columns)}
            assert to_markdown(grid)
            assert all(ord(character) < 128 for character in to_latex(grid))
            assert to_terminal(grid)
            for spec in set(artifact.specs(request).values()):
                add(database, spec, seed, [60.0, 50.0])


def test_counts_are_the_papers_or_known_misprints() -> None:
    counts = parameter_counts(ARTIFACTS.values())
    assert len(counts) == 35
    off = [(one.artifact, one.row, one.column) for one in counts if not one.matches]
    assert len(off) == 3
    assert all(deviation(*place) for place in off)
    assert all(one.acceptable for one in counts)


def test_networks_that_several_tables_need_are_trained_once() -> None:
    def spec_id(name: str, row: str, column: str) -> str:
        return ARTIFACTS[name].specs(PAPER)[row, column].spec_id

    dianet164 = {
        spec_id("table4", "r=4", "DIANet164"),
        spec_id("table5", "ResNet164", "DIANet"),
        spec_id("table6", "sigmoid, 1 cell", "DIANet164"),
        spec_id("table7", "none", "DIANet164"),
    }
    assert len(dianet164) == 1
    assert spec_id("table1", "SE", "ResNet164") == spec_id("table5", "ResNet164", "SENet")
    assert spec_id("table1", "Org", "ResNet164") == spec_id("table4", "original", "ResNet164")


def test_where_numerics_are_the_subject_fp32_is_trained_unless_asked() -> None:
    default = Request(Protocol.PAPER, Precision.TF32)
    asked = Request(Protocol.PAPER, Precision.TF32, precision_asked=True)

    def precisions(name: str, request: Request) -> set[str]:
        return {spec.precision for spec in ARTIFACTS[name].specs(request).values()}

    assert precisions("table8", default) == {"fp32"}
    assert precisions("table8", asked) == {"tf32"}
    assert precisions("table5", default) == {"tf32"}


def test_table8_has_no_norm_and_table9_no_augmentation() -> None:
    assert {spec.model.norm for spec in ARTIFACTS["table8"].specs(PAPER).values()} == {False}
    for (_, column), spec in ARTIFACTS["table9"].specs(PAPER).items():
        assert spec.data.augmentation == "none"
        assert spec.data.dataset == column.lower().replace("-", "")


def test_a_removed_stages_drop_is_paired_by_seed(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    table7 = ARTIFACTS["table7"]
    specs = table7.specs(PAPER)
    whole, without = specs["none", "DIANet164"], specs["stage3", "DIANet164"]
    for seed, (before, after) in enumerate([(76.0, 75.0), (77.0, 75.5), (78.0, None)]):
        add(database, whole, seed, [before], parameters=1_950_000)
        if after is not None:
            add(database, without, seed, [after], parameters=1_780_000)
    value = table7.compute(database, PAPER)
    drop = value.find("stage3", "DIANet164", "top1_drop")
    assert drop is not None
    assert drop.ours_mean == pytest.approx(1.25)
    assert (drop.n, drop.paper) == (2, 1.27)
    fewer = value.find("stage3", "DIANet164", "params_drop")
    assert fewer is not None
    assert fewer.ours_mean == pytest.approx(0.17)
    assert make_grid(value).rows[2][1] == "1.78 (↓0.17)"


def test_an_exploded_network_is_nan_in_its_table(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    specs = ARTIFACTS["table8"].specs(PAPER)
    add(database, specs["ResNet83", "original"], 0, [1.0], State.DIVERGED)
    grid = make_grid(ARTIFACTS["table8"].compute(database, PAPER))
    assert "nan (0/1)" in grid.rows[0]
