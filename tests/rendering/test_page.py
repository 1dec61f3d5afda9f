"""report.html without a browser: whole, self-contained, the same twice, escaped."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dia_repro.artifacts import ARTIFACTS
from dia_repro.rendering.grid import make_grid
from dia_repro.rendering.html import data as page_values
from dia_repro.rendering.html.data import as_script
from dia_repro.rendering.html.page import sort_key
from tests.artifacts.test_table5 import PAPER
from tests.helpers import cli
from tests.rendering.pages import (
    HOSTILE,
    empty_database,
    hostile_page,
    known_database,
    page,
    pictures,
)

VOID = {"meta", "link", "br", "img", "input", "hr"}
MOST_BYTES = 5_000_000


class Document(HTMLParser):
    """Elements with their attributes, and whether each is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> out of place"

    def ids(self) -> set[str | None]:
        return {attributes["id"] for _, attributes in self.found if "id" in attributes}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("known")
    database = known_database(folder / "runs.db")
    return page(database, folder / "report.html", drawn=pictures(folder))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return hostile_page(tmp_path_factory.mktemp("hostile"))


def data_of(text: str) -> dict[str, dict[str, dict[str, object]]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    content: dict[str, dict[str, dict[str, object]]] = json.loads(found[1])
    return content


def test_every_element_is_closed_and_no_id_is_there_twice(known: str) -> None:
    document = Document(known)
    assert not document.open
    ids = [attributes["id"] for _, attributes in document.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_artifact_is_there_and_every_link_leads_to_something(known: str) -> None:
    document = Document(known)
    assert set(ARTIFACTS) <= document.ids()
    links = {str(attributes["href"]) for tag, attributes in document.found if tag == "a"}
    assert {link.removeprefix("#") for link in links} <= document.ids()
    assert [tag for tag, _ in document.found].count("figure") == 2


def test_nothing_is_loaded_and_no_handler_is_inline(known: str) -> None:
    for tag, attributes in Document(known).found:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "srcset", "action"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:image/")), (tag, address)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', known)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "unsafe" not in policy[1]
    assert not re.search(r"url\((?!data:)|@import", known)


def test_the_same_database_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    database = known_database(tmp_path / "runs.db")
    drawn = pictures(tmp_path)
    first = page(database, tmp_path / "one.html", drawn=drawn)
    assert page(database, tmp_path / "two.html", drawn=drawn) == first
    assert len(first.encode()) < MOST_BYTES


def test_texts_of_the_database_are_never_markup(hostile: str) -> None:
    document = Document(hostile)
    assert not document.open
    scripts = [attributes for tag, attributes in document.found if tag == "script"]
    assert "<script>alert" not in hostile
    assert "&lt;script&gt;alert(1)" in hostile
    assert len(scripts) == 6  # the data, uPlot and our four
    specs = data_of(hostile)["specs"]
    assert any(HOSTILE in str(spec["about"]) for spec in specs.values())


def test_json_in_a_page_cannot_end_its_element() -> None:
    text = str(as_script({"name": f"{HOSTILE}\u2028<!--"}))
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"name": f"{HOSTILE}\\u2028<!--"}  # as people are shown it


def test_an_empty_database_gives_a_page_that_says_what_to_run(tmp_path: Path) -> None:
    text = page(empty_database(tmp_path / "runs.db"), tmp_path / "report.html")
    assert not Document(text).open
    assert text.count("There are no runs yet.") == len(ARTIFACTS)
    assert "dia-repro run table5 --protocol" in text
    assert "Learning curves</h3>" not in text


def test_a_cell_leads_to_its_runs_and_commands(known: str) -> None:
    data = data_of(known)
    cell = data["cells"]["table5-2-2"]
    assert cell["title"] == "Table 5: DIANet, ResNet164"
    assert cell["explain"] == "dia-repro explain table5 ResNet164 DIANet --protocol paper"
    assert "--only 'DIANet ResNet164'" in str(cell["train"])
    spec = data["specs"][str(cell["spec"])]
    runs = spec["runs"]
    assert isinstance(runs, list)
    assert [run["seed"] for run in runs] == sorted(run["seed"] for run in runs)
    assert all(len(run["series"]["test_top1"]) == len(spec["epochs"]) for run in runs)  # type: ignore[arg-type]


def test_states_are_in_words_and_marks_too(known: str) -> None:
    for state, mark in (("missing", "○"), ("diverged", "✕"), ("partial", "◐")):
        shown = rf'<span class="mark" aria-hidden="true">{mark}</span><span class="vh">{state} '
        assert re.search(shown, known)


def test_every_cell_of_every_grid_is_below_its_heading(known: str, tmp_path: Path) -> None:
    database = known_database(tmp_path / "runs.db")
    for artifact in ARTIFACTS.values():
        grid = make_grid(artifact.compute(database, PAPER))
        (table,) = re.findall(
            rf'<table class="grid" id="grid-{artifact.name}">.*?</table>', known, re.S
        )
        rows = table.split("<tr>")[3:]
        assert len(rows) == len(grid.rows)
        whose = [heading.whose for heading in grid.headings] * len(grid.groups)
        for row in rows:
            assert re.findall(r'<td class="(\w+) ', row) == whose


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("75.40±0.32 (5)", "75.40"),
        ("-0.29", "-0.29"),
        ("+1.20", "+1.20"),
        ("↓0.17", "0.17"),
        ("nan (5)", ""),
        ("– (0/5)", ""),
        ("", ""),
    ],
)
def test_texts_sort_by_the_number_they_begin_with(text: str, key: str) -> None:
    assert sort_key(text) == key


def test_many_points_are_thinned_alike_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_values, "MOST_VALUES", 200)
    data = data_of(page(known_database(tmp_path / "runs.db"), tmp_path / "report.html"))
    assert int(str(data["every"])) > 1
    for spec in data["specs"].values():
        for run in spec["runs"]:  # type: ignore[attr-defined]
            assert all(len(series) == len(spec["epochs"]) for series in run["series"].values())  # type: ignore[arg-type]


def test_only_what_is_asked_for_is_shown_whole_and_the_overview_has_all(tmp_path: Path) -> None:
    database = known_database(tmp_path / "runs.db")
    document = Document(page(database, tmp_path / "report.html", names=["table5"]))
    assert {"table5", "overview"} <= document.ids()
    assert "table8" not in document.ids()
    glances = [a for tag, a in document.found if "glance" in str(a.get("class")).split()]
    assert len(glances) == len(ARTIFACTS)


@pytest.mark.exhaustive
def test_report_writes_the_page_where_it_is_told_or_not_at_all(tmp_path: Path) -> None:
    empty_database(tmp_path / "runs.db")
    assert cli("report", "table5", "--html", "out/page.html", cwd=tmp_path).returncode == 0
    first = (tmp_path / "out/page.html").read_bytes()
    assert not (tmp_path / "report.html").exists()
    assert cli("report", "table5", "--no-html", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "report.html").exists()
    assert cli("report", "table5", cwd=tmp_path).returncode == 0
    assert (tmp_path / "report.html").read_bytes() == first


def test_no_path_of_this_machine_is_on_the_page(tmp_path: Path) -> None:
    text = page(known_database(tmp_path / "runs.db"), tmp_path / "report.html")
    assert str(tmp_path) not in text
