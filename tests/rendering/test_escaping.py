"""One hostile name through every format: it is text wherever it is shown."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from dia_repro.artifacts import ARTIFACTS
from dia_repro.artifacts.explanation import gather
from dia_repro.artifacts.learning import learning
from dia_repro.artifacts.selection import Wanted
from dia_repro.artifacts.sizes import sizes
from dia_repro.data import DataChoice, own_images
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.escaping import (
    CONTROL,
    latex,
    markdown,
    template,
    visible,
    without_formula,
)
from dia_repro.rendering.export import write_table
from dia_repro.rendering.grid import Grid, GridCell, GridRow, make_grid
from dia_repro.rendering.heatmaps import Panel, draw_heatmaps
from dia_repro.rendering.html.data import as_script
from dia_repro.rendering.images import to_bytes
from dia_repro.rendering.learning import draw_learning
from dia_repro.rendering.records import FileFormat, to_csv, to_json
from dia_repro.rendering.sizes import draw_sizes
from dia_repro.rendering.tables import to_latex, to_markdown
from dia_repro.results.database import Database
from dia_repro.results.frames import ATTEMPTS, frame
from dia_repro.results.schema import ProvenanceRow, RunRow
from tests.artifacts.known_runs import fill
from tests.fuzz.commands import run_command
from tests.helpers import cli

CONTROLS = "\x1b[2J\x1b]0;title\x07\r\x08\x9b31m\x7f\u202e\u2066"
NAME = f"<b>|`c`$x^$ $y_$ *_i_* [a](http://b) &lt; \\ {CONTROLS} -- é 名"
DATA = own_images(f"folder:{NAME}", 10, 32, "a" * 64)
REQUEST = Request(Protocol.DEMO, data=DataChoice(DATA, None))
FORMULAS = ("=1+1", "+1", "-1", "@sum(a1)", "\t=1", "\r=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose names and reasons are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    database = fill(folder / "runs.db", ARTIFACTS["table5"].specs(REQUEST).values())
    with database.writing() as session:
        for run in session.query(RunRow):
            run.reason = f"={NAME}"
        for attempt in session.query(ProvenanceRow):
            attempt.host = f"=cmd|{NAME}"
            attempt.command = f"@{NAME}"
    database.close()
    return folder


@pytest.fixture
def database(folder: Path) -> Iterator[Database]:
    from dia_repro.results.database import open_database

    database = open_database(str(folder / "runs.db"), create=False)
    yield database
    database.close()


@pytest.fixture
def grid(database: Database) -> Grid:
    """A table with the name in its title, its notes, its headings and its cells."""
    grid = make_grid(ARTIFACTS["table5"].compute(database, REQUEST))
    assert NAME in grid.title
    rows = [GridRow(NAME, row.groups) for row in grid.rows]
    rows[0] = GridRow(
        NAME, ((GridCell(NAME, bold=True), *rows[0].groups[0][1:]), *rows[0].groups[1:])
    )
    return replace(grid, rows=tuple(rows), groups=(NAME,) * len(grid.groups))


@pytest.mark.parametrize(
    "command",
    [
        ("show", "table5", "--protocol", "demo", "--dataset", f"folder:{NAME}"),
        ("show", "table5", "--protocol", "demo", "--dataset", f"folder:{NAME}", "--format", "csv"),
        ("explain", "table5", "ResNet83", "SENet", "--protocol", "demo"),
        ("runs", "list"),
        ("runs", "list", "--format", "json"),
        ("runs", "show", "3"),
        ("runs", "show", "3", "--format", "json"),
        ("show", "table5", "--dataset", f"folder:gone{CONTROLS}"),
        ("show", f"table5{CONTROLS}"),
        ("runs", "list", "--db", f"no{CONTROLS}"),
    ],
    ids=" ".join,
)
def test_terminal_gets_no_control_characters(command: tuple[str, ...], folder: Path) -> None:
    shown = run_command(*command, cwd=folder)
    text = shown.stdout + shown.stderr
    assert not CONTROL.search(text), CONTROL.findall(text)


def test_progress_and_notices_have_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dia_repro.cli.output import notice, stderr

    notice(NAME)
    stderr().print(NAME, markup=False)
    shown = capsys.readouterr().err
    assert not CONTROL.search(shown)
    assert "\\x1b[2J" in shown
    assert "\\u202e" in shown


def test_colours_of_our_own_stay() -> None:
    from dia_repro.cli.output import SafeConsole

    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=True, color_system="standard", width=80)
    console.print("red", style="red")
    assert out.getvalue() == "\x1b[31mred\x1b[0m\n"


def tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table"]).parse(text):
        yield token
        yield from token.children or ()


def test_markdown_has_no_markup_but_its_own(grid: Grid) -> None:
    found = list(tokens(to_markdown(grid)))
    kinds = {token.type for token in found}
    assert not kinds & {"html_inline", "html_block", "code_inline", "link_open", "image", "em_open"}
    assert sum(token.type == "strong_open" for token in found) == 1
    cells = sum(token.type in ("td_open", "th_open") for token in found)
    assert cells == (1 + len(grid.groups) * len(grid.headings)) * (len(grid.rows) + 1)
    texts = "".join(token.content for token in found if token.type == "text")
    assert visible(NAME) in texts


def test_html_shows_control_characters() -> None:
    """Raw, marks of direction would show another text than there is."""
    name = "a\x1b\u202e\r<b>"
    environment = template("page.html.j2").environment
    shown = "a\\x1b\\u202e\\x0d&lt;b&gt;"
    assert (
        environment.from_string("{{ name }}{{ ours }}").render(name=name, ours=Markup("<i>"))
        == shown + "<i>"
    )
    assert json.loads(as_script({"x": [name, (1, None)]})) == {
        "x": ["a\\x1b\\u202e\\x0d<b>", [1, None]]
    }


def test_markdown_of_several_lines_is_one() -> None:
    assert markdown("a\n# b\n<i>") == "a # b \\<i>"
    assert markdown("77.50±0.10 (1/2) [1 nan] r=4") == "77.50±0.10 (1/2) [1 nan] r=4"


def test_latex_has_the_characters_themselves(grid: Grid) -> None:
    text = to_latex(grid).replace(r"\width>", "")
    assert latex("<b>|") == r"\textless{}b\textgreater{}\textbar{}"
    assert latex("[x]") == "{[}x]"
    assert r"\textless{}b\textgreater{}\textbar{}" in text
    assert not re.search(r"[<>|]|[^\x20-\x7e\n\u00c0-\u017f]", text)


def test_csv_begins_no_formula_and_keeps_numbers() -> None:
    values = [*FORMULAS, "a=1", -1.5, float("-inf"), None, True]
    text = to_csv(["value"], [{"value": value} for value in values])
    read = [row["value"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert read[:6] == ["'=1+1", "'+1", "'-1", "'@sum(a1)", "'\t=1", "\\x0d=1"]
    assert read[6:] == ["a=1", "-1.5", "-inf", "", "True"]


def test_exported_csv_begins_no_formula() -> None:
    names = ATTEMPTS.names
    row = [None] * len(names)
    for name, value in (("command", "=1+1"), ("host", "-x"), ("wall_seconds", -1.0)):
        row[names.index(name)] = value  # type: ignore[call-overload]
    out = io.BytesIO()
    list(write_table(FileFormat.CSV, out, ATTEMPTS, iter([frame(ATTEMPTS, [row])])))
    (read,) = csv.DictReader(io.StringIO(out.getvalue().decode()))
    assert (read["command"], read["host"], read["wall_seconds"]) == ("'=1+1", "'-x", "-1.0")


def test_json_means_the_same() -> None:
    text = to_json({"name": NAME})
    assert not CONTROL.search(text)
    assert json.loads(text) == {"name": NAME}


def test_formulas_are_texts() -> None:
    assert [without_formula(text)[0] for text in FORMULAS] == ["'"] * len(FORMULAS)
    for start in "\n\0\uff1d\uff0b\uff0d\uff20":  # the last four: full-width = + - @
        assert without_formula(f"{start}1+1") == f"'{start}1+1"
    assert without_formula("") == ""


def test_pictures_show_the_name_as_it_is(database: Database) -> None:
    table5 = ARTIFACTS["table5"]
    value = table5.compute(database, REQUEST)
    figures = [
        draw_learning(learning(gather(database, value), "test_top1")),
        draw_sizes(sizes(database, Wanted(Protocol.DEMO, data=REQUEST.data))),
        draw_heatmaps([[Panel(NAME, [[0.5]])]], NAME, NAME),  # type: ignore[arg-type]
    ]
    for figure in figures:
        FigureCanvasAgg(figure)
        ElementTree.fromstring(to_bytes(figure, "svg"))
        texts = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
        shown = [text for text in texts if "$y_$" in text.get_text()]
        assert shown
        assert not any(text.get_parse_math() for text in shown)
        assert not any(CONTROL.search(text.get_text()) for text in shown)


@pytest.mark.slow
def test_report_takes_the_name_as_it_is(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "runs.db", tmp_path)
    done = cli(
        *("report", "table5", "--protocol", "demo", "--dataset", f"folder:{NAME}"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert not CONTROL.search(done.stderr)
    for path in tmp_path.glob("tables/*.csv"):
        assert not CONTROL.search(path.read_text(encoding="utf-8"))
    assert len(list(tmp_path.glob("figures/*.svg"))) == 2
    assert "<b>|" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_names_reach_specs_unchanged(database: Database) -> None:
    from dia_repro.results.queries import all_spec_json

    assert {Spec.from_json(text).data.dataset for text in all_spec_json(database)} == {
        f"folder:{NAME}"
    }
