"""Drawing: what a reader sees of a known table."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from dia_repro.artifacts import TableValue, choose
from dia_repro.artifacts.paper import TABLE5
from dia_repro.data import known_data
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.rendering.cells import CELL_FIELDS, cell_records
from dia_repro.rendering.files import OutputError, write_text
from dia_repro.rendering.grid import Grid, make_grid
from dia_repro.rendering.layout import Columns, Layout, NothingShownError
from dia_repro.rendering.records import to_csv, to_json
from dia_repro.rendering.tables import to_latex, to_markdown, to_terminal
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import State
from tests.artifacts.test_table5 import DEMO, PAPER, add


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """SENet83: two seeds; DIANet83: one of two; DIANet164: diverged; the rest missing."""
    database = open_database(str(tmp_path / "runs.db"), create=True)
    specs = TABLE5.specs(PAPER)
    add(database, specs["ResNet83", "SENet"], 0, [74.0], parameters=993_712)
    add(database, specs["ResNet83", "SENet"], 1, [76.0], parameters=993_712)
    add(database, specs["ResNet83", "DIANet"], 0, [77.5], parameters=1_111_508)
    add(database, specs["ResNet164", "DIANet"], 0, [1.0], State.DIVERGED)
    return database


def test_others_results_stand_below_the_table_of_their_networks(tmp_path: Path) -> None:
    empty = open_database(str(tmp_path / "empty.db"), create=True)
    table3, table5, extraction = (
        " ".join(make_grid(artifact.compute(empty, PAPER)).notes)
        for artifact in choose(["table3", "table5", "controls-extraction"])
    )
    assert "ResNet164 CIFAR10: original 96.32, SENet 96.61, DIANet 96.50;" in table3
    remark = "its SENet and DIANet are built differently: other numbers of parameters"
    assert f"PreResNet164 CIFAR10: original 96.36, DIANet 96.44 ({remark})." in extraction
    assert "Elsewhere" not in table5


def test_a_layout_leaves_out_columns_and_rows(database: Database) -> None:
    value = TABLE5.compute(database, PAPER)
    ours = Layout(Columns.OURS, ("top1",), trained=True)
    grid = make_grid(value, ours)
    assert [heading.text for heading in grid.headings] == ["top-1 (%), best"]
    assert [row.name for row in grid.rows] == ["ResNet83", "ResNet164"]
    assert [cell.text for group in grid.rows[0].groups for cell in group] == [
        "75.00±1.41 (2)",
        "77.50 (1/2)",
    ]
    assert not any("paper" in note for note in grid.notes[1:])
    without_top1 = Layout(metrics=("params",))
    assert {heading.metric for heading in make_grid(value, without_top1).headings} == {"params"}
    (table9,) = choose(["table9"])
    with pytest.raises(NothingShownError, match="table9 has no column of params"):
        make_grid(table9.compute(database, PAPER), without_top1)
    with pytest.raises(NothingShownError, match="no column shows 'acc', only params, top1"):
        Layout(metrics=("top1", "acc"))


@pytest.mark.parametrize(
    ("metrics", "explained"),
    [
        ((), (True, True)),
        (("top1",), (True, False)),
        (("top1_last",), (False, True)),
        (("params",), (False, False)),
    ],
)
def test_notes_explain_the_accuracies_that_are_shown(
    metrics: tuple[str, ...], explained: tuple[bool, bool], database: Database
) -> None:
    value = TABLE5.compute(database, PAPER)
    notes = " ".join(make_grid(value, Layout(metrics=metrics)).notes)
    assert ("best: highest" in notes, "last: after" in notes) == explained


@pytest.fixture
def grid(database: Database) -> Grid:
    return make_grid(TABLE5.compute(database, PAPER))


def test_the_grid_says_what_there_is_and_what_is_missing(grid: Grid) -> None:
    assert grid.title == "Table 5. ResNets of different depth"
    assert grid.groups == ("SENet", "DIANet (r=4)")
    first = zip(grid.headings, grid.rows[0].groups[0], strict=True)
    assert {heading.text: cell.text for heading, cell in first} == {
        "#P (M), paper": "0.99",
        "ours": "0.99",
        "top-1 (%), paper": "74.67",
        "ours, best": "75.00±1.41 (2)",
        "ours, last": "75.00±1.41 (2)",
        "Δ": "+0.33",
    }
    texts = [[[cell.text for cell in group] for group in row.groups] for row in grid.rows]
    assert texts[0][1][:2] == ["1.11 (+0.12)", "1.11 (+0.12)"]
    assert texts[0][1][3] == "77.50 (1/2)"
    assert texts[1][0][3] == "– (0/2)"
    assert texts[1][1][3] == "nan (1/2)"
    assert texts[1][1][5] == "–"


def bold(grid: Grid) -> list[str]:
    cells = (cell for row in grid.rows for group in row.groups for cell in group)
    return [cell.text for cell in cells if cell.bold]


def with_best(value: TableValue, line: Literal["row", "column"]) -> TableValue:
    return replace(value, artifact=replace(value.artifact, best_of=line))


def test_the_best_is_bold_where_the_paper_has_it_so_and_only_of_complete_lines(
    database: Database,
) -> None:
    value = TABLE5.compute(database, PAPER)
    assert not bold(make_grid(value))
    assert set(bold(make_grid(with_best(value, "row")))) == {
        "75.02",
        "76.67",
        "76.79",
        "76.98",
        "77.50 (1/2)",
    }
    assert set(bold(make_grid(with_best(value, "column")))) == {"75.54", "76.98"}


def test_a_cell_with_diverged_runs_is_not_the_best(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    senet, dianet = list(TABLE5.specs(PAPER).values())[:2]
    for seed, top1 in enumerate((70.0, 71.0)):
        add(database, senet, seed, [top1])
    add(database, dianet, 0, [79.0])
    add(database, dianet, 1, [1.0], State.DIVERGED)
    grid = make_grid(with_best(TABLE5.compute(database, PAPER), "row"))
    texts = [group[3].text for group in grid.rows[0].groups]
    assert texts == ["70.50±0.71 (2)", "79.00 (1/2) [1 nan]"]
    assert [text for text in bold(grid) if text in texts] == ["70.50±0.71 (2)"]
    add(database, senet, 2, [1.0], State.DIVERGED)
    grid = make_grid(with_best(TABLE5.compute(database, PAPER), "row"))
    assert not [group[3].text for group in grid.rows[0].groups if group[3].bold]


def test_equal_means_are_both_the_best(tmp_path: Path) -> None:
    """Equal counts of correct answers, whose means differ in the last bit."""
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for column, counts in (("SENet", (301, 309)), ("DIANet", (300, 310))):
        spec = TABLE5.specs(PAPER)["ResNet83", column]
        for seed, correct in enumerate(counts):
            add(database, spec, seed, [100 * correct / 355])
    grid = make_grid(with_best(TABLE5.compute(database, PAPER), "row"))
    assert len([text for text in bold(grid) if "(2)" in text]) == 2


def test_other_data_than_the_papers_is_in_the_title(database: Database) -> None:
    cifar10 = Request(Protocol.PAPER, data=known_data("cifar10"))
    short = Request(Protocol.PAPER, epochs=60)
    for request, words in (
        (DEMO, "demo protocol on digits: not the paper's data"),
        (cifar10, "paper protocol on cifar10: not the paper's data"),
        (short, "paper protocol over 60 epochs on cifar100: not the paper's schedule"),
    ):
        grid = make_grid(TABLE5.compute(database, request))
        assert f"({words})" in grid.title
        assert "Δ" not in [heading.text for heading in grid.headings]


def test_markdown_has_as_many_cells_in_every_line(grid: Grid) -> None:
    lines = [line for line in to_markdown(grid).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(grid.rows)
    assert {line.count("|") for line in lines} == {2 + len(grid.groups) * len(grid.headings)}
    assert "| 77.50 (1/2) |" in lines[2]


def test_the_terminal_shows_every_figure(grid: Grid) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(to_terminal(grid))
    text = console.export_text()
    for row in grid.rows:
        assert row.name in text
        assert all(cell.text in text for group in row.groups for cell in group)


def test_records_have_the_stated_fields_one_a_cell(database: Database) -> None:
    value = TABLE5.compute(database, PAPER)
    rows = list(csv.DictReader(io.StringIO(to_csv(CELL_FIELDS, cell_records(value)))))
    assert list(rows[0]) == list(CELL_FIELDS)
    assert len(rows) == len(value.cells) == 4 * (3 + 4)
    by_place = {(row["row"], row["column"], row["metric"]): row for row in rows}
    assert len(by_place) == len(rows)
    best = by_place["ResNet83", "SENet", "top1"]
    assert (best["paper"], best["ours_mean"], best["n"]) == ("74.67", "75.0", "2")
    assert float(best["ours_std"]) == pytest.approx(2**0.5)
    assert by_place["ResNet83", "SENet", "top1_last"]["paper"] == ""
    assert by_place["ResNet164", "DIANet", "top1"]["ours_mean"] == "nan"
    assert by_place["ResNet164", "SENet", "top1"]["ours_mean"] == ""
    assert by_place["ResNet164", "SENet", "top1"]["status"] == "missing"


def test_json_is_json(database: Database) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    value = TABLE5.compute(database, PAPER)
    again = json.loads(to_json(cell_records(value)), parse_constant=refuse)
    assert len(again) == len(value.cells)
    assert "nan" in {record["ours_mean"] for record in again}


def test_the_same_database_gives_the_same_bytes(database: Database) -> None:
    for draw in (to_markdown, to_latex):
        texts = {draw(make_grid(TABLE5.compute(database, PAPER))) for _ in range(2)}
        assert len(texts) == 1


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "table5.md"
    write_text(path, "first\n")
    write_text(path, "second\n")
    assert path.read_text() == "second\n"
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "second\n"
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_text(blocked / "table5.md", "text")


def test_what_prints_alike_is_alike(tmp_path: Path) -> None:
    """A change that rounds to 0 has no sign; both of two equal means are the best."""
    database = open_database(str(tmp_path / "runs.db"), create=True)
    specs = TABLE5.specs(DEMO)
    for column, more in (("SENet", 0), ("DIANet", -1)):
        add(database, specs["ResNet83", column], 0, [60.0 + more / 1000], parameters=10**6 + more)
    grid = make_grid(replace(TABLE5, best_of="row").compute(database, DEMO))
    at = [heading.text for heading in grid.headings].index("ours, best")
    senet, dianet = grid.rows[0].groups
    assert (senet[at].text, dianet[at].text) == ("60.00", "60.00")
    assert senet[at].bold
    assert dianet[at].bold
    assert dianet[1].text == "1.00 (0.00)"
