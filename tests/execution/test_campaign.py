"""Campaigns through the Python API; options and executors that are added to a scratch copy."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import dia_repro
from dia_repro.errors import UsageError
from dia_repro.execution import estimates
from dia_repro.execution.campaign import Campaign, Summary
from dia_repro.execution.dialogue import ConfirmationError
from dia_repro.execution.executors import find_executor, names
from dia_repro.execution.messages import Outcome
from dia_repro.execution.options import Resources, Selection, command_line, options_of
from dia_repro.execution.requests import NoSuchNetworkError, narrowed
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.seeds import Seeds
from dia_repro.results.database import open_database
from dia_repro.results.queries import all_runs
from tests.helpers import clean_environment, copy_package, write_folder

NARROW = {"protocol": "demo", "only": ["SENet ResNet83"], "epochs": 1}
SCRIPT = """
import dia_repro
data = {"dataset": "folder:pets", "image_size": 8}
only = ["SENet ResNet83"]
summary = dia_repro.run("table5", protocol="demo", only=only, epochs=1, jobs=1, **data)
print(summary.outcomes["finished"], summary.needed, summary.database, summary.exit_code)
"""


@pytest.mark.slow
def test_a_script_trains_by_one_call(tmp_path: Path) -> None:
    """Without `if __name__ == "__main__"`: workers do not import the script."""
    write_folder(tmp_path / "pets", {"train": 4, "val": 2})
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert done.stdout == "1 1 runs.db 0\n", done.stderr
    (run,) = all_runs(open_database(str(tmp_path / "runs.db"), create=False))
    assert run.epochs == 1


def test_a_plan_becomes_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "seconds_per_image", lambda *_: 1e-3)
    database = str(tmp_path / "runs.db")
    plan = dia_repro.plan("table5", database=database, seeds=2, **NARROW)
    frame = plan.frame()
    assert list(frame["seed"]) == [0, 1]
    assert set(frame["state"]) == {"pending"}
    assert frame["seconds_left"].min() > 1
    assert "2 of 2 runs to train" in plan.cost()
    assert not (tmp_path / "runs.db").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "dmo"}, "protocol: .*'paper' or 'demo'"),
        ({"seeds": "many"}, "seeds: "),
        ({"seed": 3}, "unknown option 'seed'"),
        ({"executor": "kubernetes"}, "executor: .*'local'"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        dia_repro.plan("table5", **options)
    assert "\n" not in str(refused.value)


def test_a_question_without_a_person_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "seconds_per_image", lambda *_: 1e-3)
    selection = Selection(Protocol.PAPER, only=("SENet ResNet83",))
    resources = options_of(Resources, {"device": "cpu"})
    campaign = Campaign(["table5"], selection, resources, str(tmp_path / "runs.db"))
    monkeypatch.setattr(type(campaign.executor), "check", lambda *_: None)
    with pytest.raises(ConfirmationError, match="Pass yes=True"):
        campaign.run("test")
    assert not (tmp_path / "runs.db").exists()


def test_a_summary_says_how_to_go_on() -> None:
    summary = Summary("runs.db", 5, 1, {Outcome.FINISHED: 2, Outcome.FAILED: 1}, not_started=1)
    assert summary.exit_code == 1
    assert summary.sentences == [
        "Runs: 1 failed, 2 finished, 1 not started.",
        "The same command tries the failed runs again.",
    ]
    assert Summary("runs.db", 5, 5).sentences == []


def test_the_text_of_a_command_chooses_the_same() -> None:
    selection = Selection(
        Protocol.DEMO,
        Seeds.of(3),
        ("DIANet 164", "SENet"),
        dataset="folder:my pets",
        image_size=16,
        skip_damaged=True,
        precision=Precision.FP32,
    )
    words = shlex.split(command_line("run", "table5", options=selection, db="other.db"))
    assert words == [
        *("dia-repro", "run", "table5", "--protocol", "demo", "--seeds", "3"),
        *("--only", "DIANet 164", "--only", "SENet", "--dataset", "folder:my pets"),
        *("--image-size", "16", "--skip-damaged", "--precision", "fp32", "--db", "other.db"),
    ]
    assert command_line("claims", options=(Selection(), Resources())) == "dia-repro claims"


def test_executor_refuses_foreign_options() -> None:
    assert names() == ["local", "ray", "slurm"]
    from dia_repro.execution.dialogue import Dialogue

    with pytest.raises(UsageError, match="--slurm does not go with --executor local"):
        find_executor(Resources(slurm=("exclusive",)), Dialogue())


def test_only_narrows_what_is_shown() -> None:
    from dia_repro.artifacts import choose

    artifacts = narrowed(choose(["table5"]), ["DIANet ResNet164"])
    shown = [
        (artifact.name, entry.label)
        for artifact in artifacts
        for entry in artifact.entries
        if entry.shown
    ]
    assert shown == [("table5", "DIANet ResNet164")]
    assert len(artifacts[0].entries) == 8, "changes are counted from others"
    for only in (["ResNet84"], ["DIANet", "ResNet84"], [""], [" , "]):  # all would be trained
        with pytest.raises(NoSuchNetworkError):
            narrowed(choose(["table5"]), only)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, to be changed."""
    return copy_package(tmp_path)


def run_copy(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dia_repro", *arguments],
        cwd=copy.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**clean_environment(), "PYTHONPATH": str(copy.parent), "COLUMNS": "200"},
    )


@pytest.mark.slow
def test_a_shared_option_touches_one_file(copy: Path) -> None:
    options = copy / "execution" / "options.py"
    before = options.read_text(encoding="utf-8")
    field = '    flavour: str | None = option("Flavour of the networks.")\n'
    after = before.replace("    epochs: int", f"{field}    epochs: int", 1)
    assert after != before
    options.write_text(after, encoding="utf-8")
    for command in ("run", "plan", "show", "report", "claims", "explain"):
        assert "--flavour" in run_copy(copy, command, "--help").stdout, command
    shown = run_copy(copy, "show", "table5", "--flavour", "plain")
    assert shown.returncode == 0, shown.stderr
    assert "dia-repro run table5 --protocol paper --flavour plain" in shown.stderr


EXECUTOR = '''
"""Executor that finishes nothing, and says so."""

from dia_repro.execution.executors import Worked, register
from dia_repro.execution.executors.local import Local


@register("idle")
class Idle(Local):
    options = frozenset({"jobs"})

    def work(self, database, jobs, dialogue):
        dialogue.notice(f"{len(jobs)} runs are left alone")
        return Worked({}, submitted=True)
'''


@pytest.mark.slow
def test_an_executor_touches_one_file_and_its_test(copy: Path) -> None:
    (copy / "execution" / "executors" / "idle.py").write_text(EXECUTOR, encoding="utf-8")
    narrow = ("table5", "--protocol", "demo", "--only", "SENet ResNet83", "--executor", "idle")
    ran = run_copy(copy, "run", *narrow)
    assert ran.returncode == 0, ran.stderr
    assert "1 runs are left alone" in ran.stderr
    refused = run_copy(copy, "run", *narrow, "--per-gpu", "2")
    assert refused.returncode == 2
    assert "--per-gpu does not go with --executor idle" in refused.stderr


@pytest.mark.parametrize(
    ("outcomes", "stopped", "code"),
    [
        ({Outcome.FINISHED: 2, Outcome.DIVERGED: 1, Outcome.DONE_BEFORE: 1}, False, 0),
        ({Outcome.INTERRUPTED: 1, Outcome.FINISHED: 1}, False, 130),  # its worker alone was asked
        ({Outcome.INTERRUPTED: 1, Outcome.FAILED: 1}, False, 1),
        ({Outcome.INTERRUPTED: 1, Outcome.FAILED: 1}, True, 130),
        ({Outcome.INTERRUPTED: 1, Outcome.BUSY: 1}, False, 130),
        ({Outcome.BUSY: 1}, False, 3),
    ],
)
def test_exit_code_is_not_0_while_runs_are_to_go_on(
    outcomes: dict[Outcome, int], stopped: bool, code: int
) -> None:
    summary = Summary("runs.db", 3, 0, outcomes, stopped=stopped)
    assert summary.exit_code == code
    assert any("goes on where" in text for text in summary.sentences) == (code == 130)
