"""A report does not write over results of another request."""

from __future__ import annotations

import csv
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dia_repro.artifacts import ARTIFACTS, choose
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.reports.replacing import alone_in
from dia_repro.reports.report import Report
from dia_repro.results.database import open_database
from tests.artifacts.courses import add
from tests.fuzz.commands import run_command
from tests.helpers import tiny_spec
from tests.test_readme import ROOT

TABLE = Path("tables") / "table9.csv"


def protocols(path: Path) -> set[str]:
    with path.open(newline="") as file:
        return {cell["protocol"] for cell in csv.DictReader(file)}


def test_tables_of_another_protocol_are_replaced_only_where_told(tmp_path: Path) -> None:
    def report(*options: str) -> tuple[int, str]:
        done = run_command("report", "table9", "--no-html", *options, cwd=tmp_path)
        return done.code, done.stderr

    for _ in range(2):  # the same request again is no other
        assert report("--protocol", "demo")[0] == 0
    code, said = report("--protocol", "paper", "--figures", "new")
    assert code == 2
    assert f"{TABLE}: results of another protocol, data set, schedule or precision" in said
    assert protocols(tmp_path / TABLE) == {"demo"}
    assert not (tmp_path / "new").exists()
    code, said = report("--protocol", "paper", "--replace")
    assert code == 0
    assert f"To be replaced, of another protocol, data set, schedule or precision: {TABLE}" in said
    assert protocols(tmp_path / TABLE) == {"paper"}


@pytest.mark.parametrize(
    "content", ["", "one line\n", "a,b\n1,2\n", "\xff", "row,column\nResNet164,CIFAR-10\n"]
)
def test_a_file_of_someone_elses_is_not_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / TABLE).parent.mkdir()
    (tmp_path / TABLE).write_bytes(content.encode("latin-1"))
    for replacing in ((), ("--replace",)):
        done = run_command("report", "table9", "--no-html", *replacing, cwd=tmp_path)
        assert done.code == 2
        assert "is no file that dia-repro has written" in done.stderr
        assert (tmp_path / TABLE).read_bytes() == content.encode("latin-1")


@pytest.mark.parametrize(
    ("artifact", "file"),
    [
        *(("figure6", f"figures/figure6.{kind}") for kind in ("svg", "png", "pdf", "csv")),
        ("figure5", "figures/figure5.png"),
        ("controls-norm", "figures/initial-scale.pdf"),
        ("table9", "figures/table9-curves.png"),
        ("table9", "tables/table9.md"),
        ("table9", "tables/table9.tex"),
    ],
)
def test_no_file_of_someone_elses_is_replaced(artifact: str, file: str, tmp_path: Path) -> None:
    """Where nothing next to it says that it is a report's."""
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text("mine")
    done = run_command("report", artifact, "--no-html", "--replace", cwd=tmp_path)
    assert done.code == 2
    assert f"{file} is no file that dia-repro has written" in done.stderr
    assert (tmp_path / file).read_text() == "mine"


def test_an_analysis_replaces_no_file_of_someone_elses(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "figure6.png").write_text("mine")
    asked = ("analyze", "gradients", "--db", str(ROOT / "runs.db"), "--run", "79")
    refused = run_command(*asked, cwd=tmp_path)
    assert (refused.code, len(refused.complaints)) == (2, 1)
    assert (tmp_path / "figures" / "figure6.png").read_text() == "mine"
    (tmp_path / "figures" / "figure6.png").unlink()
    for expected in (False, False, True):  # the same conditions again are no others
        if expected:
            svg = tmp_path / "figures" / "figure6.svg"
            svg.write_text(re.sub(r'id="of-[0-9a-f]{16}"', f'id="of-{"0" * 16}"', svg.read_text()))
        done = run_command(*asked, cwd=tmp_path)
        assert done.code == 0
        assert ("To be replaced, of another protocol" in done.stderr) == expected


@pytest.mark.parametrize("file", ["tables/table9.csv", "figures/table9-curves.svg", "report.html"])
def test_what_cannot_be_read_is_not_replaced(file: str, tmp_path: Path) -> None:
    """It would be replaced by renaming, for which the folder's permission is enough."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).symlink_to("/proc/self/mem")  # a file, whose reading fails
    done = run_command("report", "table9", "--replace", cwd=tmp_path)
    assert done.code == 3
    assert f"cannot read {file}, which would be replaced" in done.stderr
    assert (tmp_path / file).is_symlink()


def table9(folder: Path) -> Path:
    """A database with runs of Table 9's demo."""
    database = open_database(str(folder / "runs.db"), create=True)
    for spec in {*ARTIFACTS["table9"].specs(Request(Protocol.DEMO)).values()}:
        add(database, spec, 0, [50.0, 60.0])
    database.close()
    return folder


def test_an_old_picture_that_nothing_replaces_is_removed(tmp_path: Path) -> None:
    folder = table9(tmp_path)
    asked = ("report", "table9", "--no-html", "--protocol")
    assert run_command(*asked, "demo", cwd=folder).code == 0
    curves = sorted(path.name for path in (folder / "figures").glob("table9-curves.*"))
    assert curves == ["table9-curves.pdf", "table9-curves.png", "table9-curves.svg"]
    notes = folder / "figures" / "table9-curves.csv"  # no report writes a file of this name
    notes.write_text("epoch,my own notes\n")
    done = run_command(*asked, "paper", "--replace", cwd=folder)
    assert done.code == 0
    assert "Removed, of another protocol" in done.stderr
    assert notes.read_text() == "epoch,my own notes\n"
    notes.unlink()
    assert not list((folder / "figures").glob("table9-curves.*"))
    assert run_command(*asked, "paper", cwd=folder).code == 0


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A PDF without the SVG that says whose it is would be in the way of the next report."""
    folder = table9(tmp_path)
    (folder / "figures" / "table9-curves.png").mkdir(parents=True)
    for _ in range(2):
        done = run_command("report", "table9", "--no-html", cwd=folder)
        assert done.code == 2
        assert "figures/table9-curves.png" in done.stderr
        assert [path.name for path in (folder / "figures").iterdir()] == ["table9-curves.png"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """As by another report that is being written to it."""
    folder.mkdir(exist_ok=True)
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    yield
    os.close(other)


@pytest.mark.parametrize("folder", ["tables", "figures"])
def test_two_reports_do_not_write_into_one_folder(folder: str, tmp_path: Path) -> None:
    with locked(tmp_path / folder):
        refused = run_command("report", "table9", cwd=tmp_path)
    assert (refused.code, len(refused.complaints)) == (2, 1)
    assert f"another report is being written to {folder}" in refused.stderr
    assert run_command("report", "table9", cwd=tmp_path).code == 0


def test_two_reports_do_not_write_one_page(tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to(tmp_path)
    with alone_in([], tmp_path / "report.html"):
        refused = run_command("report", "table9", "--html", "there/report.html", cwd=tmp_path)
        assert refused.code == 2
        assert "another report is being written to there/report.html" in refused.stderr
        # A report with another page, and a backup, go on in the folder meanwhile.
        assert run_command("report", "table9", "--html", "other.html", cwd=tmp_path).code == 0
        add(open_database(str(tmp_path / "runs.db"), create=True), tiny_spec(), 0, [50.0])
        assert run_command("db", "backup", "copy.db", cwd=tmp_path).code == 0
    assert run_command("report", "table9", cwd=tmp_path).code == 0
    assert not list(tmp_path.glob(".*.lock"))


def test_a_page_of_controls_alone_is_not_replaced_by_another_one(tmp_path: Path) -> None:
    """None of the paper's tables has a run."""
    database = open_database(str(tmp_path / "runs.db"), create=True)
    (artifact,) = choose(["controls-skips"])
    (entry,) = [entry for entry in artifact.entries if entry.model.attention.kind == "constant"]
    for epochs, top1 in ((2, 30.0), (3, 40.0)):
        spec = entry.spec(Request(Protocol.DEMO, epochs=epochs))
        add(database, spec, 0, [top1] * epochs)
    database.close()
    asked = ("report", "controls-skips", "--protocol", "demo", "--epochs")
    apart = ("--tables", "other", "--figures", "other")
    assert run_command(*asked, "2", cwd=tmp_path).code == 0
    before = (tmp_path / "report.html").read_bytes()
    refused = run_command(*asked, "3", *apart, cwd=tmp_path)
    assert (refused.code, len(refused.complaints)) == (2, 1)
    assert "report.html: results of another" in refused.stderr
    assert (tmp_path / "report.html").read_bytes() == before
    assert run_command(*asked, "2", cwd=tmp_path).code == 0


def test_a_users_file_of_the_locks_name_stays(tmp_path: Path) -> None:
    own = tmp_path / ".report.html.lock"
    own.write_text("mine")
    refused = run_command("report", "table9", cwd=tmp_path)
    assert (refused.code, len(refused.complaints)) == (2, 1)
    assert ".report.html.lock is a file of yours" in refused.stderr
    assert own.read_text() == "mine"
    own.unlink()
    assert run_command("report", "table9", cwd=tmp_path).code == 0


def test_a_folder_that_others_lock_takes_a_page(tmp_path: Path) -> None:
    """As by `flock . dia-repro report`."""
    with locked(tmp_path):
        assert run_command("report", "table9", cwd=tmp_path).code == 0


def test_an_analysis_does_not_write_into_a_report_s_folder(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "runs.db", tmp_path / "runs.db")
    asked = ("analyze", "gradients", "controls-skips")
    with locked(tmp_path / "figures"):
        refused = run_command(*asked, cwd=tmp_path)
    assert refused.code == 2
    assert "another report is being written to figures" in refused.stderr
    assert run_command(*asked, cwd=tmp_path).code == 0


def test_a_folder_by_two_names_is_one_folder(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "figures").symlink_to("tables")
    assert run_command("report", "table9", "figure6", "--no-html", cwd=tmp_path).code == 0


def test_a_bundle_has_no_file_that_was_changed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(_report: Report, _pictures: object) -> None:
        (tmp_path / "tables" / "table9.md").write_text("another report's")

    monkeypatch.setattr(Report, "_remove", change)  # which comes before the bundle
    done = run_command("report", "table9", "--bundle", "b.zip", cwd=table9(tmp_path))
    assert done.code == 2
    assert "tables/table9.md was changed after this report had written it" in done.stderr
    assert not (tmp_path / "b.zip").exists()


def test_a_page_is_not_written_over_the_report_s_own_table(tmp_path: Path) -> None:
    done = run_command("report", "table9", "--html", "tables/table9.md", cwd=tmp_path)
    assert done.code == 2
    assert "is a file of this report's tables or figures: name another page" in done.stderr
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize("own", ['<h2 id="of">', '<h2 id="of-">', '<h2 id="of-nothings">'])
def test_a_page_with_an_id_like_a_mark_is_not_replaced(own: str, tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text(own)
    done = run_command("report", "table9", "--html", "mine.html", cwd=tmp_path)
    assert (done.code, (tmp_path / "mine.html").read_text()) == (2, own)


def test_a_page_without_runs_is_replaced_by_one_with_runs(tmp_path: Path) -> None:
    for _ in range(2):
        assert run_command("report", "table9", "--protocol", "demo", cwd=tmp_path).code == 0
    table9(tmp_path)
    assert run_command("report", "table9", "--protocol", "demo", cwd=tmp_path).code == 0


def test_a_database_is_not_replaced_by_a_page(tmp_path: Path) -> None:
    open_database(str(tmp_path / "runs.db"), create=True).close()
    before = (tmp_path / "runs.db").read_bytes()
    done = run_command("report", "table9", "--html", "runs.db", "--replace", cwd=tmp_path)
    assert done.code == 2
    assert (tmp_path / "runs.db").read_bytes() == before
