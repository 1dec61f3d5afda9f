"""Tables in LaTeX compile as they stand: with LaTeX where there is one, and by their parts."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dia_repro.artifacts import ARTIFACTS
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.rendering.grid import BEST, Grid, GridCell, GridRow, Heading, make_grid
from dia_repro.rendering.tables import to_latex
from dia_repro.results.database import open_database
from dia_repro.results.schema import State
from tests.artifacts.courses import FATES, add, fill

REQUESTS = {
    "demo": Request(Protocol.DEMO),
    "paper": Request(Protocol.PAPER, Precision.TF32),
}
ODD = Grid(
    title="Table 9. Odd (demo protocol on folder:a_b & ü 名 ~^\\: not the paper's data)",
    notes=("100 % of #P in {braces} cost $5.",),
    row_heading="Row",
    groups=("a_b", "c&d"),
    headings=(Heading("±×", "paper", "top1"), Heading("Δ↓", "ours", "top1")),
    rows=(
        GridRow(
            "r_1",
            (
                (GridCell("1.00±0.10 (5)", bold=True), GridCell("nan")),
                (GridCell("– (0/5)"), GridCell("↓0.17")),
            ),
        ),
        GridRow(
            "",
            ((GridCell("↑0.1"), GridCell("[1 nan]")), (GridCell("#"), GridCell("%", bold=True))),
        ),
    ),
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every table of both protocols, with bold, ±, nan and dashes among them."""
    folder = tmp_path_factory.mktemp("databases")
    found = {"odd": to_latex(ODD), "odd, wide": to_latex(_widened(ODD))}
    for protocol, request in REQUESTS.items():
        specs = {
            spec.spec_id: spec
            for name in ("table1", "table5", "table8", "table7", "figure6")
            for spec in ARTIFACTS[name].specs(request).values()
        }
        chosen = [spec for spec in specs.values() if spec.recipe.epochs < 10] or list(
            specs.values()
        )[:4]
        database = fill(folder / f"{protocol}.db", chosen, "half missing")
        for name, artifact in ARTIFACTS.items():
            value = artifact.compute(database, request)
            found[f"{protocol} {name}"] = to_latex(make_grid(value))
    everything = "".join(found.values())
    for sign in (r"\textbf", r"$\pm$", "nan", "-- (", r"$\downarrow$", r"$\times$", r"$\Delta$"):
        assert sign in everything
    assert "half missing" in FATES
    return found


def _widened(grid: Grid) -> Grid:
    """The same three times over: too wide to have groups side by side."""
    return replace(
        grid,
        groups=grid.groups * 3,
        rows=tuple(GridRow(row.name, row.groups * 3) for row in grid.rows),
    )


def test_parts_fit_together(texts: dict[str, str]) -> None:
    for text in texts.values():
        begun = re.findall(r"\\begin\{(\w+)\}", text)
        assert begun == ["table", "tabular"]
        assert re.findall(r"\\end\{(\w+)\}", text) == begun[::-1]
        plain = re.sub(r"\\[{}%#&$_]", "", text)
        assert plain.count("{") == plain.count("}")
        assert plain.count("$") % 2 == 0
        assert all(ord(sign) < 128 or sign == "ü" for sign in text)
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
        assert columns is not None
        rows = [line for line in plain.splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1
        for row in rows:
            spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", row)]
            assert row.count("&") + 1 + sum(spans) == len(columns[1]), row


def test_a_fall_to_a_run_that_diverged_is_no_figure(tmp_path: Path) -> None:
    table7, request = ARTIFACTS["table7"], REQUESTS["demo"]
    specs = table7.specs(request)
    database = open_database(str(tmp_path / "runs.db"), create=True)
    add(database, specs["none", "DIANet164"], 0, [90.0])
    add(database, specs["stage1", "DIANet164"], 0, [], State.DIVERGED)
    grid = make_grid(table7.compute(database, request))
    assert grid.rows[0].groups[0][grid.headings.index(BEST)].text == "nan"


def test_groups_stand_below_each_other_where_they_would_be_too_small(texts: dict[str, str]) -> None:
    assert r"\multicolumn" in texts["odd"]
    assert r"\multicolumn" not in texts["odd, wide"]
    assert texts["odd, wide"].count("c\\&d &") == 2 * 3


def test_the_caption_leaves_the_number_to_latex(texts: dict[str, str]) -> None:
    assert (
        r"\caption{ResNets of different depth, Table 5 of the paper. Ours: "
        in texts["paper table5"]
    )
    assert "of the paper" in texts["demo figure6"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_every_table_compiles(texts: dict[str, str], tmp_path: Path) -> None:
    pages = "\n\\clearpage\n".join(texts.values())
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "tables.tex").write_text(f"{head}{pages}\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert "Overfull" not in said
    assert "Warning" not in said
    assert f"({len(texts)} pages" in said
