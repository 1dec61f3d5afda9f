"""report.html in a real Chromium: what a reader sees and can do, by mouse, touch and keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dia_repro.artifacts import ARTIFACTS
from tests.rendering.pages import (
    empty_database,
    hostile_page,
    known_database,
    page,
    pictures,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS, SCHEMES = (1280, 360), ("light", "dark")
BAD = ("serious", "critical")


def chromium() -> str | None:
    """The program, where it is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip(f"none of {', '.join(PROGRAMS)} is installed")
    api = pytest.importorskip("playwright.sync_api", reason="the extra browser is not installed")
    with api.sync_playwright() as playwright:
        # The sandbox needs rights that a container's root has not; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(frozen=True)
class Pages:
    """Where the pages are.

    Attributes:
        short: the known one with one table and both figures alone, shown in a third of the time.
    """

    known: Path
    short: Path
    hostile: Path
    empty: Path


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    folder = tmp_path_factory.mktemp("pages")
    known, short, empty = (folder / f"{name}.html" for name in ("known", "short", "empty"))
    database, drawn = known_database(folder / "known.db"), pictures(folder)
    page(database, known, drawn=drawn)
    page(database, short, names=("table5", *drawn), drawn=drawn)
    page(empty_database(folder / "empty.db"), empty)
    hostile_page(folder)
    return Pages(known, short, folder / "hostile.html", empty)


Show = Callable[..., "Page"]


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """Opens a page; at the end nothing may have been said in its console or asked of a network."""
    said: list[str] = []
    contexts = []

    def open_page(path: Path, width: int = 1280, scheme: str = "light", **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: said.append(request.url) if _outside(request) else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


def _outside(request: Any) -> bool:
    return not request.url.startswith(("file:", "data:"))


def draw_all(page: Page) -> None:
    """Charts are drawn when they come into sight: bring all of them there."""
    for box in page.locator(".curves").all():
        box.scroll_into_view_if_needed()
        box.locator(".uplot canvas").wait_for()


def test_every_table_and_figure_is_there_without_an_error(show: Show, pages: Pages) -> None:
    shown = show(pages.known)
    draw_all(shown)
    for name, artifact in ARTIFACTS.items():
        assert shown.locator(f"#{name} h2").is_visible()
        assert shown.locator(f"#grid-{name} tbody tr").count() == len(artifact.paper.rows)
    loaded = shown.locator("figure img").evaluate_all("all => all.map(image => image.naturalWidth)")
    assert loaded == [1, 1]
    assert shown.locator(".curves .uplot").count() == shown.locator(".curves").count() > 0


@pytest.mark.parametrize(
    "width", [pytest.param(WIDTHS[0], marks=pytest.mark.exhaustive), *WIDTHS[1:]]
)
@pytest.mark.parametrize(
    "kind", ["known", "hostile", pytest.param("empty", marks=pytest.mark.slow)]
)
def test_no_page_is_wider_than_the_screen(show: Show, pages: Pages, kind: str, width: int) -> None:
    shown = show(getattr(pages, kind), width)
    draw_all(shown)
    for details in shown.locator("details").all():
        details.evaluate("element => { element.open = true; }")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("kind", "width", "scheme"),
    [
        ("known", WIDTHS[0], SCHEMES[0]),
        pytest.param("short", WIDTHS[1], SCHEMES[1], marks=pytest.mark.slow),
        pytest.param("known", WIDTHS[1], SCHEMES[1], marks=pytest.mark.exhaustive),
        pytest.param("known", WIDTHS[0], SCHEMES[1], marks=pytest.mark.exhaustive),
        pytest.param("known", WIDTHS[1], SCHEMES[0], marks=pytest.mark.exhaustive),
    ],
)
def test_axe_finds_nothing_serious(
    show: Show, pages: Pages, kind: str, width: int, scheme: str
) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    shown = show(getattr(pages, kind), width, scheme)
    draw_all(shown)
    opened = "all => all.forEach(element => { element.open = true; })"
    shown.locator("details").evaluate_all(opened)
    shown.evaluate("scrollTo(0, 0)")
    shown.locator("#grid-table5 button.open").first.click()
    shown.evaluate(axe)
    found = shown.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    bad = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]][:3])
        for violation in found["violations"]
        if violation["impact"] in BAD
    ]
    assert not bad


def test_nothing_moves_when_charts_are_drawn(show: Show, pages: Pages) -> None:
    shown = show(pages.known)
    place = "document.getElementById('provenance').offsetTop"
    before = shown.evaluate(place)
    draw_all(shown)
    assert shown.evaluate(place) == before


def rows(shown: Page, column: int) -> list[str]:
    return shown.locator(f"#grid-table5 tbody tr > :nth-child({column})").all_inner_texts()


def test_columns_sort_both_ways_missing_last_and_back(show: Show, pages: Pages) -> None:
    shown = show(pages.short)
    before = rows(shown, 1)
    best = shown.locator("#grid-table5 thead tr:nth-child(2) th:nth-child(4)")
    keys = "all => all.map(cell => cell.dataset.key)"
    cells = shown.locator("#grid-table5 tbody tr > :nth-child(5)")
    for direction, sign in (("ascending", 1), ("descending", -1)):
        best.locator("button").click()
        assert best.get_attribute("aria-sort") == direction
        known = [float(key) for key in cells.evaluate_all(keys) if key]
        assert known == sorted(known, reverse=sign < 0)
        without = [not key for key in cells.evaluate_all(keys)]
        assert without == sorted(without)
    best.locator("button").click()
    assert best.get_attribute("aria-sort") == "none"
    assert rows(shown, 1) == before


def test_a_cell_shows_its_runs_when_pointed_at_and_keeps_them_when_clicked(
    show: Show, pages: Pages
) -> None:
    shown = show(pages.short)
    draw_all(shown)  # so that nothing moves under the pointer
    panel, cell = shown.locator("#details"), shown.locator("[data-cell='table5-1-1']").first
    assert panel.is_hidden()
    cell.hover()
    panel.wait_for(state="visible")
    assert "Table 5: SENet, ResNet83" in panel.inner_text()
    assert panel.locator("tbody tr").count() == 3
    assert "dia-repro explain table5 ResNet83 SENet" in panel.inner_text()
    shown.mouse.move(2, 2)
    panel.wait_for(state="hidden")
    cell.click()
    shown.mouse.move(2, 2)
    shown.wait_for_timeout(500)
    assert panel.is_visible()
    panel.locator("button.close").click()
    assert panel.is_hidden()


def test_a_tap_opens_a_sheet_on_a_phone(show: Show, pages: Pages) -> None:
    shown = show(pages.short, 360, has_touch=True)
    shown.locator("[data-cell='table5-1-1'] button").tap()
    box = shown.locator("#details").bounding_box()
    assert box is not None
    assert box["width"] == 360
    assert box["y"] + box["height"] == pytest.approx(800, abs=1)


def test_the_keyboard_reaches_a_cell_its_details_and_the_way_back(show: Show, pages: Pages) -> None:
    shown = show(pages.short)
    focused = "document.activeElement.closest('td')?.dataset.cell ?? null"
    for _ in range(100):
        shown.keyboard.press("Tab")
        if shown.evaluate(focused) == "table5-1-2":
            break
    assert shown.evaluate(focused) == "table5-1-2"
    assert "DIANet, ResNet83" in shown.locator("#details-title").inner_text()
    shown.keyboard.press("Enter")
    assert shown.evaluate("document.activeElement.id") == "details"
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.className") == "close"
    shown.keyboard.press("Escape")
    assert shown.locator("#details").is_hidden()
    assert shown.evaluate(focused) == "table5-1-2"


# Which points of a chart have ink, as a text: whatever is drawn or hidden changes it.
INK = "chart => chart.querySelector('canvas').toDataURL()"


def test_networks_and_seeds_are_switched_and_epochs_zoomed(show: Show, pages: Pages) -> None:
    shown = show(pages.short)
    box = shown.locator("#table5 .curves")
    box.scroll_into_view_if_needed()
    chart = box.locator(".chart")
    chart.locator("canvas").wait_for()

    def changes(action: Callable[[], object]) -> bool:
        before = chart.evaluate(INK)
        action()
        shown.wait_for_timeout(100)
        return bool(chart.evaluate(INK) != before)

    whole = chart.evaluate(INK)
    assert changes(box.locator(".networks input").first.uncheck)
    assert changes(box.locator(".networks input").first.check)
    assert changes(box.get_by_label("each seed").uncheck)
    assert changes(box.get_by_label("each seed").check)
    assert changes(box.get_by_label("Zoom in").click)
    assert changes(box.get_by_label("All epochs").click)
    assert chart.evaluate(INK) == whole
    assert changes(lambda: box.locator("select").select_option("test_loss"))
    assert changes(lambda: box.locator("select").select_option("test_top1"))
    over = chart.locator(".u-over").bounding_box()
    assert over is not None
    shown.mouse.move(over["x"] + 50, over["y"] + 100)
    assert "epoch" in box.locator("output").first.inner_text() + box.inner_text()
    assert changes(box.get_by_label("Hide all networks").click)


def test_markup_from_the_database_is_shown_as_text(show: Show, pages: Pages) -> None:
    shown = show(pages.hostile)
    draw_all(shown)
    for cell in shown.locator("#grid-table5 button.open").all():
        cell.click()
        text = shown.locator("#details").inner_text()
        assert "folder:<script>alert(1)</script>" in text
        shown.keyboard.press("Escape")
    assert "<script>alert(1)</script>" in shown.locator("#provenance").inner_text()
    assert shown.locator("main script").count() == 0


def test_a_command_is_copied(show: Show, pages: Pages) -> None:
    shown = show(pages.short, permissions=["clipboard-read", "clipboard-write"])
    shown.locator("#table5 details.commands summary").click()
    command = shown.locator("#table5 details.commands dd .command").first
    command.locator("button").click()
    command.locator("button", has_text="copied").wait_for()
    assert shown.evaluate("navigator.clipboard.readText()") == command.locator("code").inner_text()


def test_on_paper_claims_are_open_and_nothing_to_press_is_printed(show: Show, pages: Pages) -> None:
    shown = show(pages.known)
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown.emulate_media(media="print")
    assert shown.locator("details.claim:not([open])").count() == 0
    for hidden in ("nav", ".controls", "button.copy", "#details"):
        assert not [element for element in shown.locator(hidden).all() if element.is_visible()]
    assert shown.locator(".curves .uplot").count() == shown.locator(".curves").count()
    shown.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown.locator("details.claim[open]").count() == 0
