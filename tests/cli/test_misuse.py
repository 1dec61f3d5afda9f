"""Bad input: one clear line, the right exit code, nothing lost or left behind."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dia_repro.cli import output
from dia_repro.execution import estimates
from dia_repro.execution.executors import Executor
from tests.fuzz.commands import run_command
from tests.helpers import cli, one_line

DEMO = ("--protocol", "demo")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "tabel5", *DEMO], 2, "did you mean 'table5'?"),
        (["run", "table5", "--seeds", "0", *DEMO], 2, "--seeds"),
        (["run", "table5", "--seeds", "many", *DEMO], 2, "--seeds': seeds are a number"),
        (["plan", "table5", "--seeds", "9-5", *DEMO], 2, "--seeds': a range of seeds begins"),
        (["run", "table5", "--jobs", "0", *DEMO], 2, "--jobs"),
        (["plan", "table5", "--price", "inf", *DEMO], 2, "--price"),
        (
            ["run", "table5", "--protocol", "dmo"],
            2,
            "'--protocol': 'dmo' is not one of 'paper', 'demo'",
        ),
        (["run", "table5", "--precision", "tf32", *DEMO], 2, "--precision fp32"),
        (["run", "table5", "--dataset", "mnist", *DEMO], 2, "cifar10, cifar100, digits"),
        (["run", "table5", "--db", "no/such/folder.db", *DEMO], 2, "no/such does not exist"),
        (["run", "table5", "--db", ".", *DEMO], 2, "is a folder"),
        (["run", "table5", "--db", "/proc/runs.db", *DEMO], 3, "to /proc/runs-checkpoints: "),
        (["run", "table5", "--db", "nonsense://x", *DEMO], 2, "nonsense://x"),
        (["plan", "table5", "--image-size", "32", *DEMO], 2, "goes with --dataset folder:PATH"),
        (["run", "table5", "--skip-damaged", *DEMO], 2, "goes with --dataset folder:PATH"),
        (["run", "table5", "--dataset", "folder:nowhere", *DEMO], 3, "no folder"),
        (["run", "table5", "--only", "", *DEMO], 2, "--only needs words"),
        (["plan", "table5", "--only", "ResNet84", *DEMO], 2, "'SENet ResNet83'"),
        (["data", "check", "mnist"], 2, "cifar10, cifar100, digits"),
        (["data", "check", "imagenet"], 3, "put its train/ and val/ there"),
        (["run", "table5", "--dataset", "cifar10", *DEMO], 3, "dia-repro data fetch cifar10"),
        (["data", "check", "cifar100"], 3, "dia-repro data fetch cifar100"),
        (["run"], 2, "artifacts"),
        (["frobnicate"], 2, "frobnicate"),
        (["runs", "list", "--last", "9" * 25], 2, "--last"),
        (["show", "table99"], 2, "table99"),
        (["runs", "show", "7"], 2, "no run 7"),
        (["runs", "diff", "7", "8"], 2, "no run 7"),
        (["runs", "list", "--state", "done"], 2, "choose from pending"),
        (["runs", "list", "--since", "yesterday"], 2, "--since"),
        (["show", "table5", "--db", "typed_wrong.db"], 3, "there is no database typed_wrong.db"),
        (["report", "--db", "typed_wrong.db"], 3, "there is no database typed_wrong.db"),
        (["claims", "--db", "typed_wrong.db"], 3, "there is no database typed_wrong.db"),
        (["runs", "list", "--db", "typed_wrong.db"], 3, "there is no database typed_wrong.db"),
        (["report", "table5", "--tables", "/proc/tables"], 3, "cannot write /proc/tables"),
        (["report", "--html", "/dev/null"], 2, "cannot write /dev/null: it is a device or pipe"),
        (["report", "--html", "."], 2, "cannot write .: it is a folder"),
        (["report", "--html", ""], 2, "cannot write .: it is a folder"),
        (["report", "--html", "x" * 300], 2, "File name too long"),
    ],
)
def test_one_line_and_the_right_exit_code(
    arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    result = run_command(*arguments, cwd=tmp_path)
    assert result.code == code
    (complaint,) = result.complaints
    assert words in complaint
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["run", *DEMO], ["show"], ["report"], ["plan", *DEMO]])
def test_a_foreign_database_is_refused_by_every_command(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table customers (name text)")
    before = path.read_bytes()
    result = cli(command[0], "table5", *command[1:], cwd=tmp_path)
    assert result.returncode == 2
    assert one_line(result.stderr)
    assert "not a dia-repro database" in result.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_settings_come_from_the_environment_unless_a_flag_says_otherwise(tmp_path: Path) -> None:
    environment = {"DIA_REPRO_DB": "no/such/folder.db", "DIA_REPRO_DATA": "elsewhere"}
    result = cli("run", "table5", *DEMO, cwd=tmp_path, **environment)
    assert "no/such does not exist" in result.stderr
    result = cli("data", "check", "cifar10", cwd=tmp_path, **environment)
    assert "elsewhere/cifar-10-batches-py" in result.stderr
    result = cli("data", "check", "cifar10", "--data", "here", cwd=tmp_path, **environment)
    assert "here/cifar-10-batches-py" in result.stderr


def test_no_gpu_and_the_papers_protocol_tell_the_cost_and_how_to_get_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "seconds_per_image", lambda *_: 0.1)
    monkeypatch.setattr(output, "has_person", lambda: True)
    result = run_command("run", "table5", "--device", "cpu", cwd=tmp_path)
    assert result.code == 3
    measuring, cost, complaint = result.stderr.strip().splitlines()
    assert measuring.startswith("No GPU here")
    assert "8 runs would take about" in cost
    assert "--protocol demo" in cost
    assert " h (" in cost
    assert "dia-repro data fetch cifar100" in complaint
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_nothing_is_measured_before_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise AssertionError("measured")

    monkeypatch.setattr(estimates, "seconds_per_image", fail)
    monkeypatch.setattr(Executor, "check", lambda *_: None)
    result = run_command("run", "table5", "--device", "cpu", cwd=tmp_path)
    assert result.code == 3
    assert "no terminal to ask in: Start all the same? Add --yes" in result.stderr
