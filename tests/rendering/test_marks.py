"""A report does not write over pictures and pages of other experiments in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dia_repro.artifacts import ARTIFACTS
from dia_repro.artifacts.explanation import gather
from dia_repro.artifacts.learning import learning
from dia_repro.experiments.names import Precision, Protocol, SelectOn
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import SEAttention
from dia_repro.rendering.images import to_bytes
from dia_repro.rendering.learning import draw_learning
from dia_repro.rendering.marks import ForeignFileError, mark_of, shows_another
from dia_repro.results.database import open_database
from tests.artifacts.courses import add
from tests.helpers import cli

TABLE5, DEMO = ARTIFACTS["table5"], Request(Protocol.DEMO)


def mark(request: Request) -> str:
    return mark_of(TABLE5.specs(request).values())


def test_a_mark_tells_conditions_apart_and_no_networks() -> None:
    others = (
        Request(Protocol.PAPER),
        replace(DEMO, epochs=3),
        replace(DEMO, precision=Precision.BF16),
        replace(DEMO, select=SelectOn.VALIDATION),
    )
    assert len({mark(request) for request in (DEMO, *others)}) == 5
    more = TABLE5.with_attention(SEAttention(kind="se", reduction=8))
    assert mark_of(more.specs(DEMO).values()) == mark(DEMO)
    assert mark_of([*TABLE5.specs(DEMO).values()][::-1]) == mark(DEMO)


def test_a_picture_has_its_mark(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for spec in TABLE5.specs(DEMO).values():
        add(database, spec, 0, [50.0, 60.0])
    found = gather(database, TABLE5.compute(database, DEMO))
    path = tmp_path / "table5-curves.svg"
    assert not shows_another(path, mark(DEMO))
    path.write_bytes(to_bytes(draw_learning(learning(found, "test_top1")), "svg"))
    assert not shows_another(path, mark(DEMO))
    assert shows_another(path, mark(replace(DEMO, epochs=3)))
    path.write_text("<svg>a picture of the user's</svg>")
    with pytest.raises(ForeignFileError):
        shows_another(path, mark(DEMO))


def test_a_page_is_replaced_by_one_that_shows_more(tmp_path: Path) -> None:
    """The protocol may be named or not, and more tables may have been trained."""
    database = open_database(str(tmp_path / "runs.db"), create=True)

    def train(name: str) -> None:
        for spec in ARTIFACTS[name].specs(DEMO).values():
            add(database, spec, 0, [50.0] * spec.recipe.epochs)

    train("table5")
    for more in ("table5", "table8"):
        for protocol in ((), ("--protocol", "demo"), ()):
            done = cli("report", "table5", *protocol, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        if more == "table5":
            train("table8")
    refused = cli("report", "table5", "--protocol", "demo", "--epochs", "2", cwd=tmp_path)
    assert refused.returncode == 2


@pytest.mark.slow
def test_a_report_of_other_experiments_is_refused_for_each_of_its_files(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    short = replace(DEMO, epochs=2)
    for request, epochs in ((DEMO, 8), (short, 2)):
        for spec in TABLE5.specs(request).values():
            add(database, spec, 0, [50.0] * epochs)
    first = cli("report", "table5", "--protocol", "demo", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    again = cli("report", "table5", "--protocol", "demo", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    command = ("report", "table5", "--protocol", "demo", "--epochs", "2")
    folders = ("--tables", "t", "--figures", "f", "--html", "other.html")
    for kept in ("tables/table5.csv", "table5-curves.svg", "report.html"):
        place = {"tables/table5.csv": 0, "table5-curves.svg": 2, "report.html": 4}[kept]
        others = [*folders[:place], *folders[place + 2 :]]
        refused = cli(*command, *others, cwd=tmp_path)
        assert refused.returncode == 2, kept
        assert kept in refused.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert cli(*command, *folders, cwd=tmp_path).returncode == 0
    replaced = cli(*command, "--replace", cwd=tmp_path)
    assert replaced.returncode == 0
    assert "To be replaced, of another protocol" in replaced.stderr
