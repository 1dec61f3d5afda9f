"""`explain` from the command line, and the way from a report's files back to runs."""

from __future__ import annotations

import csv
import json
import sqlite3
import statistics
from pathlib import Path

import pytest

from dia_repro.artifacts import ARTIFACTS
from dia_repro.reports.drawing import Pictures
from tests.artifacts.known_runs import accuracies, fill
from tests.artifacts.test_table5 import DEMO
from tests.fuzz.commands import run_command
from tests.helpers import cli, one_line

TABLES = ("table4", "table5", "table7", "table8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder whose database has runs of some tables that ended in every way."""
    specs = [spec for name in TABLES for spec in ARTIFACTS[name].specs(DEMO).values()]
    fill(tmp_path / "runs.db", specs).close()
    return tmp_path


def test_for_people_it_names_runs_epochs_machines_and_the_command(folder: Path) -> None:
    result = cli("explain", "table5", "dianet", "83", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    (run,) = run_numbers(folder, "ResNet83", seed=0)
    best = max(accuracies(folder / "runs.db", run).values())
    for words in (
        "Table 5, DIANet ResNet83 (demo protocol on digits)",
        "75.02",
        f"{best:.2f} (epoch ",
        "host0",
        "aaaaaaaaaa modified",
        "2026-01-02 03:04:05",
        "Compared with SENet ResNet83",
        "Experiment 1-",
        "DIANet ResNet83 r=4 on digits, 8 epochs of batch 64",
        "dia-repro run table5 --protocol demo --seeds 3 --only 'DIANet ResNet83'",
        f": dia-repro runs again {run}",
    ):
        assert words in result.stdout
    (folder / "runs.db").rename(folder / "mine.db")
    named = cli("explain", "table5", "dianet", "83", "--db", "mine.db", cwd=folder)
    assert f": dia-repro runs again {run} --db mine.db\n" in named.stdout


@pytest.mark.parametrize("chosen", [(), ("--protocol", "demo")])
def test_claims_recommend_the_protocol_that_they_judged_by(
    chosen: tuple[str, ...], folder: Path
) -> None:
    done = cli("claims", "table5", "figure6", *chosen, cwd=folder)
    assert "is trained by: dia-repro run table5 figure6 --protocol demo\n" in done.stderr


def run_numbers(folder: Path, network: str, seed: int) -> list[int]:
    listed = json.loads(cli("runs", "list", "--format", "json", cwd=folder).stdout)
    found = [run for run in listed if run["network"] == f"DIANet {network} r=4"]
    return [run["run"] for run in found if run["seed"] == seed]


def test_a_cell_without_runs_gives_the_command_with_the_options_that_were_given(
    tmp_path: Path,
) -> None:
    result = cli(
        *("explain", "table5", "DIANet", "164", "--epochs", "2", "--dataset", "cifar10"),
        *("--protocol", "demo", "--db", "other.db", "--format", "json"),
        cwd=tmp_path,
    )
    first = json.loads(result.stdout)[0]
    assert (first["run"], first["n"], first["status"]) == (None, 0, "missing")
    assert first["command"] == (
        "dia-repro run table5 --protocol demo --only 'DIANet ResNet164' "
        "--epochs 2 --dataset cifar10 --db other.db"
    )
    shown = cli("explain", "table5", "DIANet", "164", cwd=tmp_path).stdout
    assert "There are none yet." in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table5", "DIANet", "84"], "rows are ResNet83"),
        (["table5", "DIANet", "ResNet"], "could be any of"),
        (["table5", "DIANet", "83", "par"], "params, params_delta"),
        (["tabel5", "DIANet", "83"], "did you mean 'table5'?"),
        (["all", "DIANet", "83"], "one table or figure"),
        (["table5", "DIANet"], "column"),
    ],
)
def test_unclear_names_are_one_line_and_exit_code_2(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    result = cli("explain", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert one_line(result.stderr)
    assert words in result.stderr


def test_it_shows_the_figures_that_show_does(folder: Path) -> None:
    shown = csv.DictReader(cli("show", "table7", "--format", "csv", cwd=folder).stdout.splitlines())
    cells = {cell["metric"]: cell for cell in shown if cell["row"] == "stage2"}
    result = cli("explain", "table7", "stage2", "DIANet164", "--format", "csv", cwd=folder)
    records = list(csv.DictReader(result.stdout.splitlines()))
    assert {record["metric"] for record in records} == cells.keys()
    for record in records:
        for name in ("paper", "ours_mean", "ours_std", "n", "n_expected", "status"):
            assert record[name] == cells[record["metric"]][name]
        if record["compared"] == "False":
            assert record["spec_id"] == cells[record["metric"]]["spec_id"]


def test_a_command_longer_than_a_line_is_whole(folder: Path) -> None:
    """Cut off it would be another command, of another database for example."""
    place = folder / ("long " * 40).strip()
    place.mkdir()
    (folder / "runs.db").rename(place / "runs.db")
    where = str((place / "runs.db").relative_to(folder))
    result = cli("explain", "table5", "dianet", "83", "--db", where, cwd=folder)
    commands = [line for line in result.stdout.splitlines() if "dia-repro" in line]
    assert len(commands) == 4
    assert all(line.endswith(f"--db '{where}'") for line in commands)


@pytest.mark.slow
def test_every_record_of_a_report_leads_back_to_runs_in_the_database(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pictures, "draw", lambda *_: None)  # they have no records
    assert run_command("report", *TABLES, "--no-html", cwd=folder).code == 0
    with sqlite3.connect(folder / "runs.db") as connection:
        rows = connection.execute("select uid, id, spec_id, seed, state, parameters from runs")
        runs = {uid: known for uid, *known in rows}
    means = 0
    for name in TABLES:
        with (folder / "tables" / f"{name}.csv").open(newline="") as file:
            for record in csv.DictReader(file):
                own = [runs[uid] for uid in record["runs"].split()]
                against = [runs[uid] for uid in record["compared_runs"].split()]
                assert {run[1] for run in own} <= {record["spec_id"]}
                assert [run[2] for run in own] == sorted(run[2] for run in own)
                values = values_of(folder / "runs.db", record["metric"], own, against)
                assert len(values) == int(record["n"])
                if values:
                    means += 1
                    assert float(record["ours_mean"]) == pytest.approx(statistics.fmean(values))
                else:
                    assert record["ours_mean"] in ("", "nan")
    assert means > 50


def values_of(
    path: Path, metric: str, own: list[list[object]], against: list[list[object]]
) -> list[float]:
    """The values whose mean a record gives, from its runs: [number, spec_id, seed, state, #P]."""

    def best(run: list[object]) -> float:
        return max(accuracies(path, int(str(run[0]))).values())

    finished = [run for run in own if run[3] == "finished"]
    if metric == "top1":
        return [best(run) for run in finished]
    if metric == "top1_last":
        return [accuracies(path, int(str(run[0])))[last(path, run)] for run in finished]
    if metric == "top1_drop":
        before = {run[2]: best(run) for run in against}
        return [before[run[2]] - best(run) for run in finished]
    counts = [{float(str(run[4])) / 1e6 for run in runs} for runs in (own, against)]
    assert all(len(counted) <= 1 for counted in counts)
    ours, theirs = (next(iter(counted), None) for counted in counts)
    if ours is None or metric == "params":
        return [] if ours is None else [ours]
    assert theirs is not None
    return [ours - theirs if metric == "params_delta" else theirs - ours]


def last(path: Path, run: list[object]) -> int:
    return max(accuracies(path, int(str(run[0]))))
