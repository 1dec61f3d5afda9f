"""The commands as a user types them."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision import datasets

from dia_repro.artifacts import ARTIFACTS
from dia_repro.artifacts.paper import TABLE5
from dia_repro.cli import main as entry
from dia_repro.cli.environment import own_command
from dia_repro.data.sources.cifar import loader_of
from dia_repro.execution import estimates
from dia_repro.results.database import open_database
from dia_repro.results.queries import all_runs
from dia_repro.results.schema import State
from dia_repro.training.provenance import device_name
from tests.artifacts.test_table5 import DEMO, add
from tests.fuzz.commands import run_command
from tests.helpers import Program, clean_environment, cli, one_line, write_cifar

CELL_HEADER = (
    "artifact,row,column,metric,unit,paper,ours_mean,ours_std,n,n_expected,status,protocol,"
    "origin,dataset,image_size,epochs,lr,precision,spec_id,runs,compared_runs"
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that has all of Table 5's demo runs, as if trained here."""
    path = tmp_path_factory.mktemp("filled") / "runs.db"
    database = open_database(str(path), create=True)
    for number, spec in enumerate(TABLE5.specs(DEMO).values()):
        add(database, spec, 0, [90.0 + number, 89.0 + number], parameters=1_000_000 + number)
    database.close()
    with sqlite3.connect(path) as connection:
        connection.execute("update provenance set device = ?", (device_name(torch.device("cpu")),))
    return path


def test_runs_diff_shows_what_differs_and_all_on_request(filled: Path) -> None:
    compared = ("runs", "diff", "1", "2", "--format", "json")
    found = json.loads(run_command(*compared, cwd=filled.parent).stdout)
    assert all(row["differs"] for row in found)
    spec = {row["field"]: (row["a"], row["b"]) for row in found if row["section"] == "spec"}
    attention = [json.loads(text)["model"]["attention"] for text in _specs(filled)]
    assert spec["attention"] == (attention[0]["kind"], attention[1]["kind"])
    every = json.loads(run_command(*compared, "--all", cwd=filled.parent).stdout)
    assert [row for row in every if row["differs"]] == found
    assert {row["field"] for row in every} > {"dataset", "torch", "lr"}


def test_runs_list_filters_and_sorts(filled: Path) -> None:
    command = ("runs", "list", "--artifact", "table5", "--sort", "-best_top1", "--format", "json")
    found = json.loads(run_command(*command, cwd=filled.parent).stdout)
    assert [run["best_top1"] for run in found] == [90.0 + n for n in reversed(range(len(found)))]
    assert len(found) == len(set(TABLE5.specs(DEMO).values()))
    none = run_command("runs", "list", "--state", "failed", cwd=filled.parent)
    assert (none.code, "No run in" in none.stderr) == (0, True)


def _specs(path: Path) -> list[str]:
    query = "select json from specs join runs using (spec_id) order by runs.id"
    with sqlite3.connect(path) as connection:
        return [text for (text,) in connection.execute(query)]


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    """Return a working folder with that database."""
    shutil.copy(filled, tmp_path)
    return tmp_path


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_show_as_csv_is_one_record_a_cell(folder: Path) -> None:
    result = cli("show", "table5", "--format", "csv", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == CELL_HEADER
    cells = records(result.stdout)
    assert len(cells) == 28
    assert {cell["status"] for cell in cells} == {"complete"}
    assert {cell["protocol"] for cell in cells} == {"demo"}


def test_show_for_people_has_the_papers_figures_and_ours(folder: Path) -> None:
    result = cli("show", "table5", cwd=folder)
    for figure in ("75.02", "76.98", "97.00", "96.00", "demo protocol on digits"):
        assert figure in result.stdout
    assert "\x1b" not in result.stdout


def test_show_without_a_database_shows_the_paper_and_says_what_to_run(tmp_path: Path) -> None:
    result = cli("show", "table5", cwd=tmp_path)
    assert result.returncode == 0
    assert "76.98" in result.stdout
    assert "dia-repro run table5" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("protocol", [(), ("--protocol", "demo")])
def test_show_says_that_there_are_runs_of_another_length(
    protocol: tuple[str, ...], tmp_path: Path
) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for spec in TABLE5.specs(replace(DEMO, epochs=2)).values():
        add(database, spec, 0, [40.0, 50.0])
    shown = run_command("show", "table5", *protocol, cwd=tmp_path)
    assert shown.code == 0
    assert "No finished runs for table5" in shown.stderr
    assert "has 8 runs of these networks over 2 epochs. Over 8 epochs" in shown.stderr
    assert shown.stderr.endswith(" --epochs shows them.\n")


def test_report_writes_the_same_bytes_twice(folder: Path) -> None:
    contents = []
    for _ in range(2):
        assert cli("report", "table5", cwd=folder).returncode == 0
        files = [*folder.glob("tables/*"), *folder.glob("figures/*"), folder / "report.html"]
        contents.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    names = {str(path) for path in contents[0]}
    drawn = ("accuracy-parameters", "table5-curves")
    assert names == {
        "report.html",
        *(f"tables/table5.{kind}" for kind in ("csv", "md", "tex")),
        *(f"figures/{name}.{kind}" for name in drawn for kind in ("pdf", "png", "svg")),
    }


def test_runs_list_and_show(folder: Path) -> None:
    listed = records(cli("runs", "list", "--format", "csv", cwd=folder).stdout)
    assert len(listed) == 8
    assert listed[0]["network"] == "SENet ResNet83 r=16"
    assert (listed[0]["state"], listed[0]["best_top1"]) == ("finished", "90.0")
    epochs = records(cli("runs", "show", "1", "--format", "csv", cwd=folder).stdout)
    assert [epoch["test_top1"] for epoch in epochs] == ["90.0", "89.0"]
    everything = json.loads(cli("runs", "show", "1", "--format", "json", cwd=folder).stdout)
    assert everything["spec"]["model"]["backbone"]["depth"] == 83
    assert everything["provenance"][0]["command"] == "c"
    assert "ResNet83" in cli("runs", "show", "1", cwd=folder).stdout


def test_plan_says_what_is_done_and_what_the_rest_costs(folder: Path) -> None:
    before = (folder / "runs.db").read_bytes()
    command = ("plan", "table5", "--protocol", "demo", "--seeds", "2")
    planned = records(cli(*command, "--format", "csv", cwd=folder).stdout)
    assert len(planned) == 16
    assert sum(run["state"] == "finished" for run in planned) == 8
    for run in planned:
        expected = 0.0 if run["state"] == "finished" else float(run["macs"])
        assert (float(run["seconds_left"]) > 0) == (expected > 0)
    assert (folder / "runs.db").read_bytes() == before


@pytest.mark.slow
def test_plan_all_says_what_artifacts_share(tmp_path: Path) -> None:
    result = cli("plan", "all", "--protocol", "demo", "--format", "json", cwd=tmp_path)
    planned = json.loads(result.stdout)
    needed_by = {run["spec_id"]: run["artifacts"].split() for run in planned}
    assert len(needed_by) == len(planned) == 56
    assert set().union(*needed_by.values()) == set(ARTIFACTS)
    (dianet164,) = [run["artifacts"] for run in planned if run["network"] == "DIANet ResNet164 r=4"]
    assert dianet164 == "table3 table4 table5 table6 table7 table9 figure5"


def test_only_narrows_by_whole_words(folder: Path) -> None:
    options = ("--protocol", "demo", "--format", "csv", "--only", "DIANet ResNet164")
    planned = records(cli("plan", "table3", *options, cwd=folder).stdout)
    assert [run["network"] for run in planned] == ["DIANet ResNet164 r=4"]


def test_only_takes_names_as_they_are_listed(tmp_path: Path) -> None:
    for words in ("DIANet ResNext101,8x32 CIFAR10", "ResNext101,8x32"):
        done = cli("show", "table3", "--protocol", "demo", "--only", words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_nothing_is_trained_twice(folder: Path) -> None:
    result = cli("run", "table5", "--protocol", "demo", cwd=folder)
    assert result.returncode == 0
    assert "Nothing to train: all 8 runs are in runs.db" in result.stderr


def test_params_matches_all_eight_cells(tmp_path: Path) -> None:
    result = cli("params", "table5", "--format", "csv", cwd=tmp_path)
    assert result.returncode == 0
    header = "artifact,row,column,paper_millions,parameters,macs,matches,note"
    assert result.stdout.splitlines()[0] == header
    counts = records(result.stdout)
    assert len(counts) == 8
    assert {count["matches"] for count in counts} == {"True"}


@pytest.mark.slow
@pytest.mark.parametrize(("database", "code"), [("ok", 0), ("bad", 3)])
def test_doctor_says_what_is_there(database: str, code: int, folder: Path) -> None:
    if database == "bad":
        (folder / "runs.db").write_text("not a database, though it is long enough to be one" * 20)
    result = cli("doctor", "--format", "csv", cwd=folder)
    assert result.returncode == code
    status = {row["check"]: row["status"] for row in records(result.stdout)}
    assert status["cifar100"] == "absent"
    assert status["database"] == database


def test_a_pipe_that_closes_early_is_no_error(folder: Path) -> None:
    command = f"{sys.executable} -m dia_repro show table5 --format json | head -1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert result.stdout == "[\n"
    assert result.stderr == ""


@pytest.mark.slow
def test_ctrl_c_keeps_everything_says_how_to_go_on_and_exits_130(tmp_path: Path) -> None:
    process = Program("dia_repro.cli.main", "run", "table5", "--protocol", "demo", cwd=tmp_path)
    location = str(tmp_path / "runs.db")

    def running() -> int:
        database = open_database(location, create=False)
        return sum(run.state is State.RUNNING for run in all_runs(database))

    deadline = time.monotonic() + 60
    while not running():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command goes on" in errors
    assert "Traceback" not in errors
    states = [run.state for run in all_runs(open_database(location, create=False))]
    assert states.count(State.INTERRUPTED) >= 1
    assert set(states) <= {State.INTERRUPTED, State.PENDING}
    assert list((tmp_path / "runs-checkpoints").rglob("epoch-0000-step-*.pt"))


@pytest.fixture
def small_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = write_cifar(tmp_path / "data", loader_of("cifar100"))
    small = type("Small", (loader_of("cifar100"),), attributes)
    monkeypatch.setattr(datasets, "CIFAR100", small)
    monkeypatch.setattr(estimates, "seconds_per_image", lambda *_: 1e-3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dia-repro", "run", "table5", "--device", "cpu"])


@pytest.mark.usefixtures("small_cifar")
def test_long_runs_on_a_cpu_need_a_confirmation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open(os.devnull) as nobody:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", nobody)
        assert entry._run() == 3
    assert "--yes" in capfd.readouterr().err
    assert not (tmp_path / "runs.db").exists()


@pytest.mark.usefixtures("small_cifar")
def test_nothing_is_trained_after_the_answer_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert entry._run() == 0
    os.close(ours)
    assert not (tmp_path / "runs.db").exists()


def test_recorded_command_hides_passwords_and_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = "postgresql://me:se/cret@server/runs?sslpassword=cret"
    monkeypatch.setattr(sys, "argv", ["/home/me/bin/dia-repro", "run", "all", "--db", database])
    shown = "postgresql://me:***@server/runs?sslpassword=***"
    assert own_command() == f"dia-repro run all --db '{shown}'"


def test_arguments_that_are_refused_hide_passwords(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["show", "table5", "postgresql://me:se/cret@h/d"], ["--b=db://me:se/cret@h/d"]):
        monkeypatch.setattr(sys, "argv", ["dia-repro", *words])
        assert entry._run() == 2
        said = capsys.readouterr().err
        assert one_line(said), said
        assert "cret" not in said


def test_several_artifacts_are_one_list_for_programs(folder: Path) -> None:
    shown = ("show", "table1", "table5", "--protocol", "demo", "--format")
    found = json.loads(run_command(*shown, "json", cwd=folder).stdout)
    assert {row["artifact"] for row in found} == {"table1", "table5"}
    lines = records(run_command(*shown, "csv", cwd=folder).stdout)
    assert [line["artifact"] for line in lines] == [row["artifact"] for row in found]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("dia-repro ru", ["run", "runs"]),
        ("dia-repro run table5 --sel", ["--select"]),
        ("dia-repro run controls-e", ["controls-extraction"]),
        ("dia-repro report --only x figu", ["figure5", "figure6"]),
    ],
)
def test_a_shell_completes(typed: str, found: list[str], tmp_path: Path) -> None:
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = cli(cwd=tmp_path, _DIA_REPRO_COMPLETE="complete_bash", **asked)
    assert done.stdout.split() == found
