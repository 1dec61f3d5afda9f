"""Consistency of the transcription: the paper repeats many values and their differences."""

from __future__ import annotations

import math

import pytest

from dia_repro.paper.facts import UNITS, hyperparameters, misprints, tables

SAME_NETWORK = [
    [("table1", "Org", "ResNet164"), ("table3", "ResNet164 CIFAR100", "original")],
    [
        ("table1", "SE", "ResNet164"),
        ("table3", "ResNet164 CIFAR100", "SENet"),
        ("table5", "ResNet164", "SENet"),
    ],
    [
        ("table3", "ResNet164 CIFAR100", "DIANet"),
        ("table4", "r=4", "DIANet164"),
        ("table5", "ResNet164", "DIANet"),
        ("table6", "sigmoid, 1 cell", "DIANet164"),
    ],
]


def value(artifact: str, row: str, column: str, metric: str) -> float:
    cell = tables()[artifact].find(row, column, metric)
    assert cell is not None
    return cell.value


@pytest.mark.parametrize("places", SAME_NETWORK)
@pytest.mark.parametrize("metric", ["params", "top1"])
def test_a_network_has_the_same_values_in_every_table(
    places: list[tuple[str, str, str]], metric: str
) -> None:
    assert len({value(*place, metric) for place in places}) == 1


def test_number_of_parameter_counts_and_accuracies() -> None:
    cells = [cell for table in tables().values() for cell in table.cells]
    assert sum(cell.metric == "params" for cell in cells) == 71
    assert sum(cell.metric == "top1" for cell in cells) == 71 + 6
    assert sum(math.isnan(cell.value) for cell in cells) == 9


def test_cells_are_unique_and_have_a_unit() -> None:
    cells = [cell for table in tables().values() for cell in table.cells]
    assert len({(c.artifact, c.row, c.column, c.metric) for c in cells}) == len(cells)
    assert all(cell.unit == UNITS[cell.metric] for cell in cells)
    printed = [cell for cell in cells if cell.metric != "reduction" and cell.printed != "nan"]
    assert all(cell.decimals == 2 for cell in printed)


def test_reduction_ratio_increments_are_against_the_original() -> None:
    original = value("table1", "Org", "ResNet164", "params")
    for row in tables()["table4"].rows:
        delta = value("table4", row, "DIANet164", "params_delta")
        assert delta == pytest.approx(value("table4", row, "DIANet164", "params") - original)


def test_depth_increments_are_against_senet() -> None:
    for row in tables()["table5"].rows:
        difference = value("table5", row, "DIANet", "params") - value(
            "table5", row, "SENet", "params"
        )
        assert value("table5", row, "DIANet", "params_delta") == pytest.approx(difference)


@pytest.mark.parametrize(("metric", "drop"), [("params", "params_drop"), ("top1", "top1_drop")])
def test_drops_of_removed_stages_match(metric: str, drop: str) -> None:
    whole = value("table4", "r=4", "DIANet164", metric)
    for row in tables()["table7"].rows:
        left = value("table7", row, "DIANet164", metric)
        assert value("table7", row, "DIANet164", drop) == pytest.approx(whole - left)


def test_dianet_is_the_best_of_each_row_printed_in_bold() -> None:
    for artifact in ("table3", "table5", "table8"):
        table = tables()[artifact]
        for row in table.rows:
            others = [
                value(artifact, row, column, "top1")
                for column in table.columns
                if column != "DIANet"
            ]
            best = value(artifact, row, "DIANet", "top1")
            assert all(not best <= other for other in others)


def test_hyperparameters_of_all_networks_of_tables_10_and_11() -> None:
    all_of_them = hyperparameters()
    assert list(all_of_them) == [
        "ResNet164",
        "PreResNet164",
        "WRN52-4",
        "ResNext101-8x32",
        "ResNet34",
        "ResNet50",
        "ResNet152",
        "ResNext50-32x4",
    ]
    for name, paper in all_of_them.items():
        assert str(paper.depth) in name
        assert list(paper.schedule) == sorted(paper.schedule)
        assert paper.schedule[-1] < paper.epochs
        assert paper.momentum == 0.9
        assert paper.lr == 0.1


def test_misprints_are_of_cells_that_exist() -> None:
    assert list(misprints()) == [
        ("table8", "ResNet164", "SENet"),
        ("table8", "ResNet245", "original"),
        ("table8", "ResNet326", "DIANet"),
    ]
    for artifact, row, column in misprints():
        assert tables()[artifact].find(row, column, "params") is not None
