"""Every registered table against the paper, and what tables share."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from dia_repro.analysis.parameters import parameter_counts, unit_costs
from dia_repro.artifacts import ARTIFACTS, TableArtifact
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import (
    DIALSTMAttention,
    ImageNetBackbone,
    ResNetBackbone,
    Spec,
)
from dia_repro.paper.facts import hyperparameters, misprints
from dia_repro.rendering.grid import make_grid
from dia_repro.rendering.tables import to_latex, to_markdown, to_terminal
from dia_repro.results.database import open_database
from dia_repro.results.schema import State
from tests.artifacts.courses import Course, record
from tests.artifacts.test_table5 import DEMO, PAPER, add


@pytest.fixture(params=ARTIFACTS.values(), ids=list(ARTIFACTS))
def artifact(request: pytest.FixtureRequest) -> TableArtifact:
    assert isinstance(request.param, TableArtifact)
    return request.param


def test_every_artifact_of_the_paper_is_there() -> None:
    tables = [f"table{number}" for number in (1, 3, 4, 5, 6, 7, 8, 9)]
    assert list(ARTIFACTS) == [*tables, "figure5", "figure6"]


def test_the_cells_of_an_artifact_are_the_papers(artifact: TableArtifact) -> None:
    printed = {(cell.row, cell.column) for cell in artifact.paper.cells}
    shown = [(entry.row, entry.column) for entry in artifact.entries if entry.shown]
    assert set(shown) == printed
    assert len(shown) == len(printed)


def test_each_place_is_an_experiment_of_its_own(artifact: TableArtifact) -> None:
    specs = artifact.specs(PAPER)
    assert len({spec.spec_id for spec in specs.values()}) == len(specs) == len(artifact.entries)


def test_artifacts_are_rendered_from_complete_and_from_empty_databases(
    artifact: TableArtifact, tmp_path: Path
) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for request in (PAPER, DEMO):
        for seed in range(2):
            grid = make_grid(artifact.compute(database, request))
            assert len(grid.rows) == len(artifact.paper.rows)
            assert {len(row.groups) for row in grid.rows} == {len(grid.groups)}
            assert {len(g) for row in grid.rows for g in row.groups} == {len(grid.headings)}
            assert to_markdown(grid)
            assert all(ord(character) < 128 for character in to_latex(grid))
            assert to_terminal(grid)
            specs = set(artifact.specs(request).values())
            record(database, [Course(spec, seed, [60.0, 50.0]) for spec in specs])


@pytest.mark.slow
def test_counts_are_the_papers_or_known_misprints() -> None:
    counts = parameter_counts(ARTIFACTS.values())
    assert len(counts) == 71
    off = [(count.artifact, count.row, count.column) for count in counts if not count.matches]
    assert set(off) == misprints().keys()
    assert all(count.acceptable for count in counts)


def test_networks_that_several_tables_need_are_trained_once() -> None:
    def spec_id(name: str, row: str, column: str) -> str:
        return ARTIFACTS[name].specs(PAPER)[row, column].spec_id

    dianet164 = {
        spec_id("table4", "r=4", "DIANet164"),
        spec_id("table5", "ResNet164", "DIANet"),
        spec_id("table6", "sigmoid, 1 cell", "DIANet164"),
        spec_id("table7", "none", "DIANet164"),
        spec_id("table3", "ResNet164 CIFAR100", "DIANet"),
        spec_id("figure5", "DIANet164", "DIANet"),
    }
    assert len(dianet164) == 1
    assert spec_id("table1", "SE", "ResNet164") == spec_id("table5", "ResNet164", "SENet")
    assert spec_id("table1", "Org", "ResNet164") == spec_id("table4", "original", "ResNet164")


def test_units_cost_what_the_papers_formulas_say() -> None:
    costs = unit_costs()
    assert {(cost.channels, cost.reduction) for cost in costs} == set(
        product((64, 128, 256), (1, 4, 8, 16))
    )
    for cost in costs:
        assert cost.lstm_weights == cost.lstm_formula == 8 * cost.channels**2
        assert cost.dia_weights == cost.dia_formula == 10 * cost.channels**2 // cost.reduction


RECIPES = {
    "WRN52-4": ("wrn", 52),
    "PreResNet164": ("preresnet", 164),
    "ResNext101-8x32": ("resnext", 101),
    "ResNet34": ("resnet34", 34),
    "ResNet50": ("resnet50", 50),
    "ResNet152": ("resnet152", 152),
    "ResNext50-32x4": ("resnext50", 50),
}


def network_of(spec: Spec) -> str:
    """The column of Table 10 or 11 that a network belongs to, by its backbone alone."""
    found = [name for name, (family, _) in RECIPES.items() if family == spec.model.backbone.family]
    return found[0] if found else "ResNet164"


@pytest.mark.parametrize("name", list(ARTIFACTS))
def test_every_recipe_of_the_paper_protocol_is_tables_10_and_11_field_by_field(name: str) -> None:
    for entry in ARTIFACTS[name].entries:
        spec = entry.spec(PAPER)
        paper, recipe = hyperparameters()[network_of(spec)], spec.recipe
        assert entry.network == paper.network
        assert recipe.epochs == paper.epochs
        assert recipe.batch_size == paper.batch_size
        assert recipe.lr == paper.lr
        assert recipe.momentum == paper.momentum
        assert recipe.weight_decay == paper.weight_decay
        assert recipe.milestones == paper.schedule
        assert recipe.gamma == paper.gamma
        backbone, attention = spec.model.backbone, spec.model.attention
        assert getattr(backbone, "widen_factor", None) == paper.widen_factor
        assert getattr(backbone, "cardinality", None) == paper.cardinality
        assert getattr(backbone, "dropout", None) == paper.dropout
        if name == "table3":
            depth = getattr(backbone, "depth", RECIPES.get(paper.network, (0, 0))[1])
            assert depth == paper.depth
        if isinstance(attention, DIALSTMAttention):
            assert attention.extraction.upper() == paper.extraction


@pytest.mark.parametrize("name", list(ARTIFACTS))
def test_the_papers_data_are_trained_on_as_the_paper_says(name: str) -> None:
    for entry in ARTIFACTS[name].entries:
        data = entry.spec(PAPER).data
        imagenet = isinstance(entry.model.backbone, ImageNetBackbone)
        assert (data.dataset == "imagenet") == imagenet
        assert data.image_size == (224 if imagenet else 32)
        usual = "resized-crop-flip" if imagenet else "crop4-flip"
        assert data.augmentation == ("none" if name == "table9" else usual)


def test_figure_6_has_neither_skips_nor_bottlenecks() -> None:
    for spec in ARTIFACTS["figure6"].specs(PAPER).values():
        assert not spec.model.skip
        assert isinstance(spec.model.backbone, ResNetBackbone)
        assert (spec.model.backbone.depth, spec.model.backbone.block) == (56, "basic")
        assert spec.precision == "fp32"


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
    cells = make_grid(value).rows[2].groups[0]
    assert cells[0].text == "1.78 (↓0.17)"
    # Both over the same seeds, which is said once.
    (said,) = [cell.text for cell in cells if "±" in cell.text and "↓" in cell.text]
    assert said == "75.25±0.35 (2/3) (↓1.25)"
    for seed in (2, 3):
        add(database, without, seed, [77.0], parameters=1_780_000)
    over_less = make_grid(table7.compute(database, PAPER)).rows[2].groups[0]
    (said,) = [cell.text for cell in over_less if "±" in cell.text and "↓" in cell.text]
    assert said.endswith("(4) (↓1.17 over 3/4)")


def test_a_diverged_network_is_nan_in_its_table(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    specs = ARTIFACTS["table8"].specs(PAPER)
    add(database, specs["ResNet83", "original"], 0, [1.0], State.DIVERGED)
    grid = make_grid(ARTIFACTS["table8"].compute(database, PAPER))
    assert "nan" in [cell.text for group in grid.rows[0].groups for cell in group]
