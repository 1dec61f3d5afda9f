"""The documentation site builds without a warning: each link and each name leads somewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for name in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(name, reason="the extra docs is not installed")
    arguments = ["-q", "-W", "--keep-going", "-c", ROOT / "docs", ROOT, tmp_path]
    command = [sys.executable, "-m", "sphinx", *map(str, arguments)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    front = (tmp_path / "README.html").read_text(encoding="utf-8")
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert all(f"docs/{page}.html" in front for page in pages)  # none is missing in the contents
    assert "dia_repro.open_results" in (tmp_path / "docs/api.html").read_text(encoding="utf-8")
