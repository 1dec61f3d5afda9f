"""A report does not write over results of another request."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dia_repro.results.database import open_database
from tests.fuzz.commands import run_command

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
    assert f"Replaced, of another protocol, data set, schedule or precision: {TABLE}" in said
    assert protocols(tmp_path / TABLE) == {"paper"}


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "\xff", "row,column\nResNet164,CIFAR-10\n"])
def test_a_file_of_someone_elses_is_not_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / TABLE).parent.mkdir()
    (tmp_path / TABLE).write_bytes(content.encode("latin-1"))
    for replacing in ((), ("--replace",)):
        done = run_command("report", "table9", "--no-html", *replacing, cwd=tmp_path)
        assert done.code == 2
        assert "is no file that dia-repro has written" in done.stderr
        assert (tmp_path / TABLE).read_bytes() == content.encode("latin-1")


def test_a_database_is_not_replaced_by_a_page(tmp_path: Path) -> None:
    open_database(str(tmp_path / "runs.db"), create=True).close()
    before = (tmp_path / "runs.db").read_bytes()
    done = run_command("report", "table9", "--html", "runs.db", "--replace", cwd=tmp_path)
    assert done.code == 2
    assert (tmp_path / "runs.db").read_bytes() == before
