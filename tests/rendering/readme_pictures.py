"""The README's pictures of a report: the top of the page, and a table with its learning curves.

Usage: python -m tests.rendering.readme_pictures report.html docs
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.rendering.test_browser import chromium

WIDTH, HEIGHT, SCALE = 1130, 900, 1.4
TABLE = "table5"


def main(report: Path, folder: Path) -> None:
    """Write `report.png` and `table5.png`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=SCALE
        )
        page.goto(report.resolve().as_uri())
        page.screenshot(path=folder / "report.png")
        page.locator(f"#{TABLE} h2").evaluate("heading => heading.scrollIntoView()")
        page.locator(f"#{TABLE} .uplot canvas").wait_for()
        page.screenshot(path=folder / f"{TABLE}.png")
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
