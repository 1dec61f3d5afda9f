"""`analyze` and the figures of `report`, on networks of the demo."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dia_repro.analysis.gradients import grouped
from dia_repro.artifacts.paper import FIGURE5, FIGURE6
from dia_repro.execution import attempt
from dia_repro.execution.attempt import Attempt
from dia_repro.execution.messages import Outcome
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import ResNetBackbone
from dia_repro.results.database import open_database
from tests.artifacts.courses import add
from tests.execution.tiny_runs import make_jobs
from tests.helpers import Program, Result, cli, few_digits, one_line

FEW = ("--samples", "24", "--trees", "2")
SHALLOW = 5  # the run of DIANet56: six layers a stage, and fifteen numbers in a panel


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with DIANet164, Figure 6's networks and DIANet56 after epochs of one step."""
    folder = tmp_path_factory.mktemp("trained")
    specs = [
        spec
        for artifact, epochs in ((FIGURE5, 1), (FIGURE6, 2))
        for spec in artifact.specs(Request(Protocol.DEMO, epochs=epochs)).values()
    ]
    model = specs[0].model.model_copy(update={"backbone": ResNetBackbone(depth=56)})
    specs.append(specs[0].model_copy(update={"model": model}))
    database, jobs = make_jobs(folder, specs, 1)
    assert jobs[-1].run_id == SHALLOW
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "load", lambda *_: few_digits(64, 64))
        for job in jobs:
            ended = Attempt(job, lambda _: None, lambda: False).run()
            assert ended.outcome is Outcome.FINISHED, ended
    database.close()
    return folder


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder whose database has the same runs, with figures but nothing that was trained."""
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for artifact, epochs in ((FIGURE5, 1), (FIGURE6, 2)):
        request = Request(Protocol.DEMO, epochs=epochs)
        for spec in dict.fromkeys(artifact.specs(request).values()):
            add(database, spec, 0, [50.0] * epochs)
    database.close()
    return tmp_path


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "copy")
    return tmp_path / "copy"


def gini(folder: Path, *arguments: str) -> Result:
    return cli("analyze", "gini", *FEW, *arguments, cwd=folder)


@pytest.mark.slow
def test_gini_writes_figures_and_records_and_a_second_call_reads_them(folder: Path) -> None:
    command = ("--run", str(SHALLOW), "--format", "json")
    done = gini(folder, *command)
    assert done.returncode == 0, done.stderr
    summaries = json.loads(done.stdout)
    assert len(summaries) == 9
    assert {summary["layers"] for summary in summaries} == {6}
    assert (folder / "figures" / "figure5.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "figures" / "figure5.png").read_bytes().startswith(b"\x89PNG")
    cells = list(csv.DictReader((folder / "figures" / "figure5.csv").open()))
    assert len(cells) == 9 * 5 * 6 / 2
    last = ("trained", "3", "6")
    row = [cell for cell in cells if (cell["states"], cell["stage"], cell["target"]) == last]
    assert [int(cell["source"]) for cell in row] == list(range(1, 6))
    assert max(float(cell["value"]) for cell in row) == 1
    assert sum(float(cell["share"]) for cell in row) == pytest.approx(1)

    kinds = ("pdf", "png", "svg")
    pictures = [(folder / "figures" / f"figure5.{kind}").read_bytes() for kind in kinds]
    shutil.rmtree(folder / "runs-checkpoints")  # no longer needed
    again = gini(folder, *command)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert pictures == [(folder / "figures" / f"figure5.{kind}").read_bytes() for kind in kinds]


def test_an_analysis_begun_in_another_environment_is_made_again(folder: Path) -> None:
    narrow = ("--run", str(SHALLOW), "--stage", "3", "--no-controls", "--format", "json")
    whole = gini(folder, *narrow).stdout

    def interrupted(**changed: str) -> None:
        """As if it had ended after the last target, with other shares and there."""
        of_it = "from analyses where settings like '%gini%'"
        parts = f"where analysis_id = (select id {of_it})"
        with sqlite3.connect(folder / "runs.db") as connection:
            connection.execute(f"delete from analysis_parts {parts} and part < 6")
            (text,) = connection.execute(f"select content from analysis_parts {parts}").fetchone()
            part = json.loads(text)
            part["shares"] = [[1.0, 0.0, 0.0, 0.0, 0.0] for _ in part["shares"]]
            content = json.dumps(part)
            connection.execute(f"update analysis_parts set content = ? {parts}", [content])
            (text,) = connection.execute(f"select circumstances {of_it}").fetchone()
            there = json.dumps({**json.loads(text), **changed})
            connection.execute("update analyses set circumstances = ?", [there])

    interrupted()
    assert json.loads(gini(folder, *narrow).stdout)[0]["last_layer_draws_most_from"] == 1
    interrupted(torch="0.1")
    assert gini(folder, *narrow).stdout == whole
    interrupted(capability="AVX2 MKL_CBWR=COMPATIBLE")
    assert gini(folder, *narrow).stdout == whole


@pytest.mark.exhaustive
def test_targets_that_are_missing_are_fitted(folder: Path) -> None:
    narrow = ("--stage", "2", "--no-controls", "--format", "json")
    whole = gini(folder, *narrow)
    with sqlite3.connect(folder / "runs.db") as connection:
        deleted = connection.execute("delete from analysis_parts where part in (5, 18)").rowcount
        before = connection.execute("select count(*) from analysis_parts").fetchone()
    assert deleted == 2
    assert gini(folder, *narrow).stdout == whole.stdout
    with sqlite3.connect(folder / "runs.db") as connection:
        after = connection.execute("select count(*) from analysis_parts").fetchone()
    assert after[0] == before[0] + 2


def parts(folder: Path) -> dict[tuple[int, int], str]:
    with sqlite3.connect(folder / "runs.db") as connection:
        rows = connection.execute("select analysis_id, part, content from analysis_parts")
        return {(analysis, part): content for analysis, part, content in rows}


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_fitted_and_the_rest_is_done_later(folder: Path) -> None:
    few = ("--no-controls", "--samples", "60", "--trees", "40")
    command = ("analyze", "gini", "--stage", "2", *few)
    before = parts(folder)
    process = Program("dia_repro.cli.main", *command, cwd=folder)
    while len(parts(folder)) < len(before) + 2:
        assert process.poll() is None, "ended before it could be interrupted"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "goes on from there" in said
    kept = parts(folder)
    assert len(before) < len(kept) < len(before) + 17
    assert cli(*command, cwd=folder).returncode == 0
    assert len(parts(folder)) == len(before) + 17
    assert kept.items() <= parts(folder).items()


def change_state(folder: Path, state: str) -> None:
    with sqlite3.connect(folder / "runs.db") as connection:
        connection.execute("update runs set state = ?", (state,))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--run", "2"), 2, "has no DIA unit"),
        (("--run", "99"), 2, "no run 99"),
        (("--stage", "4"), 2, "no DIA unit in stage 4"),
        (("--samples", "0"), 2, "--samples"),
        (("--trees", "many"), 2, "--trees"),
        (("--db", "other.db"), 3, "dia-repro run figure5"),
    ],
)
def test_misuse_is_one_line(
    arguments: tuple[str, ...], code: int, words: str, recorded: Path
) -> None:
    done = gini(recorded, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert one_line(done.stderr)


@pytest.mark.slow
def test_what_cannot_be_analysed_is_one_line(folder: Path) -> None:
    checkpoints = folder / "runs-checkpoints"
    weights = max(checkpoints.glob("*/*/epoch-*.pt"), key=lambda path: path.stat().st_size)
    content = weights.read_bytes()
    few = gini(folder, "--samples", "5")
    assert (few.returncode, "5 images are too few" in few.stderr) == (2, True)
    weights.write_bytes(content[:1000] + b"x" + content[1001:])
    damaged = gini(folder)
    assert (damaged.returncode, "is damaged: " in damaged.stderr) == (3, True)
    assert weights.name in damaged.stderr
    weights.unlink()
    gone = gini(folder)
    assert (gone.returncode, "is gone" in gone.stderr) == (3, True)
    for state in ("diverged", "interrupted"):
        change_state(folder, state)
        unfinished = gini(folder, "--run", "1")
        assert (unfinished.returncode, f"is {state}" in unfinished.stderr) == (2, True)
        none = gini(folder)
        assert (none.returncode, "dia-repro run figure5" in none.stderr) == (3, True)
        assert all(one_line(done.stderr) for done in (few, damaged, gone, unfinished, none))


@pytest.mark.slow
def test_gradients_are_drawn_and_written(folder: Path) -> None:
    done = cli("analyze", "gradients", "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert len(records) == 3 * 2 * 3
    assert {record["network"] for record in records} == {"original", "DIANet", "SENet"}
    assert {record["epochs"] for record in records} == {0, 1}
    by_stage = {record["stage"]: record["count"] for record in records}
    assert by_stage == {1: 64 * 16 * 64, 2: 64 * 32 * 16, 3: 64 * 64 * 4}
    written = list(csv.DictReader((folder / "figures" / "figure6.csv").open()))
    assert [float(record["mean"]) for record in written] == [record["mean"] for record in records]
    assert (folder / "figures" / "figure6.pdf").read_bytes().startswith(b"%PDF")
    for_people = cli("analyze", "gradients", "--run", "2", "--run", "3", cwd=folder)
    assert for_people.returncode == 0
    assert len(for_people.stdout.splitlines()) == 2 + 2 * 2 * 3


def test_runs_of_one_name_are_told_apart() -> None:
    def recorded(number: int, label: str) -> Any:
        return SimpleNamespace(label=label, run=SimpleNamespace(summary=SimpleNamespace(id=number)))

    runs = [recorded(3, "DIANet"), recorded(4, "original"), recorded(7, "DIANet")]
    assert list(grouped(runs, apart=True)) == ["DIANet, run 3", "original", "DIANet, run 7"]
    assert grouped(runs) == {"DIANet (2 runs)": [runs[0], runs[2]], "original": [runs[1]]}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--run", "1"), 2, "recorded no gradients"),
        (("--run", "99"), 2, "no run 99"),
        (("--db", "other.db"), 3, "dia-repro run figure6"),
    ],
)
def test_runs_without_gradients_are_one_line(
    arguments: tuple[str, ...], code: int, words: str, recorded: Path
) -> None:
    done = cli("analyze", "gradients", *arguments, cwd=recorded)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert one_line(done.stderr)


def test_unfinished_runs_have_no_gradients_to_compare(recorded: Path) -> None:
    change_state(recorded, "interrupted")
    done = cli("analyze", "gradients", "--run", "2", cwd=recorded)
    assert (done.returncode, one_line(done.stderr)) == (2, True)
    assert "is interrupted" in done.stderr


@pytest.mark.exhaustive
def test_report_draws_figure_6_and_says_why_it_cannot_draw_figure_5(folder: Path) -> None:
    shutil.rmtree(folder / "runs-checkpoints")
    demo = ("--protocol", "demo", "--epochs")
    done = cli("report", "figure6", *demo, "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "claims: dia-repro claims figure6 --protocol demo --epochs 2\n" in done.stderr
    kinds = {path.suffix for path in (folder / "figures").glob("figure6.*")}
    assert kinds == {".pdf", ".png", ".svg", ".csv"}
    other = cli("report", "figure5", *demo, "1", "--html", "figure5.html", cwd=folder)
    assert other.returncode == 0
    assert "figure5 is not drawn: the checkpoint of run 1" in other.stderr
    assert (folder / "figures" / "figure5-networks.csv").is_file()
    assert not (folder / "figures" / "figure5.pdf").exists()


def test_first_steps_are_listed(tmp_path: Path) -> None:
    """Table 8's SENet83 in the demo diverges at its fifth step: too few steps do not show it."""
    network = ("table8", "--protocol", "demo", "--only", "SENet ResNet83")
    done = cli("analyze", "start", *network, "--steps", "2", "--format", "json", cwd=tmp_path)
    (found,) = json.loads(done.stdout)
    assert (found["diverged_at"], len(found["losses"]), found["classes"]) == (None, 2, 10)
    assert found["network"] == "SENet ResNet83 r=16 without BN"
    options = ("--steps", "9", "--init", "fan-in", "--rate", "0.1", "--format", "csv")
    done = cli("analyze", "start", *network, *options, cwd=tmp_path)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["losses"].split()[-1] == "nan"
    assert int(row["diverged_at"]) == len(row["losses"].split())
    assert (row["init"], row["rate"]) == ("fan-in", "0.1")
    assert not list(tmp_path.glob("*.db")), "nothing is kept"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--classes", "15"), "10 classes cannot be cut into 15"),
        (("--rate", "-1"), "--rate"),
        (("--only", "ResNet99"), "no network is called"),
    ],
)
def test_first_steps_that_cannot_be_made_are_one_line(
    options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    command = ("analyze", "start", "table8", "--protocol", "demo", *options)
    done = cli(*command, cwd=tmp_path)
    assert (done.returncode, one_line(done.stderr)) == (2, True), done.stderr
    assert words in done.stderr
