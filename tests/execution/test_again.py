"""A run trained once more, exactly as it was, and what restores its environment."""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import dia_repro
from dia_repro.execution.again import NotRepeatableError, compare, recipe, train_again
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.messages import Outcome
from dia_repro.experiments.names import DataLocation
from dia_repro.results import writer
from dia_repro.results.bundle import database_in
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import RunDetail, run_detail
from dia_repro.training.provenance import changes, packages
from tests.artifacts.courses import add
from tests.helpers import tiny_spec

SPEC = tiny_spec(epochs=1, milestones=())


def trained(path: Path, **provenance: Any) -> tuple[Database, RunDetail]:
    """A database with a run of random metrics, and that run."""
    database = open_database(str(path), create=True)
    number = add(database, SPEC, 3, [50.0])
    for name, value in provenance.items():
        with database.writing() as session:
            text = f"update provenance set {name} = ? where run_id = {number}"
            session.connection().exec_driver_sql(text, (value,))
    return database, run_detail(database, number)


def test_a_repetition_is_trained_and_compared(tmp_path: Path) -> None:
    _, run = trained(tmp_path / "runs.db", deterministic=True)
    data, target = DataLocation(tmp_path), str(tmp_path / "again.db")
    again, worked = train_again(run, target, data, Dialogue(), "the command")
    assert [ended.outcome for ended in worked.ended.values()] == [Outcome.FINISHED]
    other = run_detail(again, 1)
    assert (other.summary.seed, other.spec_json) == (3, SPEC.canonical_json())
    assert other.provenance[0]["threads"] == run.provenance[0]["threads"]
    capability = str(other.provenance[0]["capability"])
    assert capability.startswith(torch.backends.cpu.get_cpu_capability())
    assert "CUBLAS" not in capability, "which only a GPU's deterministic mode sets"
    found = compare(run, again)
    assert found.outcome.startswith("epoch 1: ")
    assert any(text.startswith("torch 2, now ") for text in found.environment)
    # The repetition of the repetition is the same, bit for bit.
    twice, _ = train_again(other, str(tmp_path / "twice.db"), data, Dialogue(), "the command")
    assert compare(other, twice).outcome == ""
    assert compare(other, twice).environment == ()
    with sqlite3.connect(tmp_path / "twice.db") as connection:
        connection.execute("update epochs set test_loss = test_loss * (1 + 1e-15)")
    assert compare(other, twice).outcome.startswith("epoch 1: test_loss ")


def test_a_run_is_not_repeated_in_its_own_database(tmp_path: Path) -> None:
    _, run = trained(tmp_path / "runs.db")
    data = DataLocation(tmp_path)
    (tmp_path / "same.db").symlink_to(tmp_path / "runs.db")
    for name in ("runs.db", "same.db"):
        with pytest.raises(NotRepeatableError, match="has run 1 itself"):
            train_again(run, str(tmp_path / name), data, Dialogue(), "")


def test_a_run_without_a_result_is_not_repeated(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    numbers = writer.ensure_runs(database, {SPEC.spec_id: SPEC.canonical_json()}, [0])
    run = run_detail(database, numbers[SPEC.spec_id, 0])
    with pytest.raises(NotRepeatableError, match="never begun"):
        train_again(run, str(tmp_path / "again.db"), DataLocation(tmp_path), Dialogue(), "")
    with pytest.raises(NotRepeatableError, match="never begun"):
        recipe(run)
    assert not (tmp_path / "again.db").exists()


def test_changes_of_a_checkout_are_restored_by_the_recipe(tmp_path: Path) -> None:
    """By the commands that it prints, in a shell."""
    code = tmp_path / "code"
    code.mkdir()

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", "-C", str(code), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    file = code / "module.py"
    file.write_text("first = 'a'\nsecond = \"$HOME `x`\"\nlast = 0\n\n\nend = 2\n")
    git("add", ".")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    assert changes(code, commit) is None
    changed = "first = 'END'\nsecond = \"$HOME `y` \\\\\"\n\tthird = 'é'\r\nlast = 1\n\n\nend = 2\n"
    file.write_bytes(changed.encode())
    for name, value in (("diff.noprefix", "true"), ("diff.context", "0")):
        git("config", name, value)  # a user's own
    kept = changes(code, commit)
    assert kept is not None
    known = {"git_commit": commit, "git_clean": False, "git_diff": kept, "packages": "a==1 b==2"}
    _, run = trained(tmp_path / "runs.db", **known)
    commands = recipe(run)
    assert commands[-1] == "pip install a==1 b==2 -e ."
    git("checkout", "-q", "--", ".")
    assert file.read_bytes() != changed.encode()
    script = "\n".join(commands[:-1]).encode()
    subprocess.run(["sh", "-e"], input=script, cwd=code, check=True)
    assert file.read_bytes() == changed.encode()


def test_versions_are_those_that_pypi_knows(tmp_path: Path) -> None:
    """It does not know builds: `pip install torch==2.15.0+cu132` finds nothing."""
    recorded = {"packages": "a==1 torch==2.15.0+cpu", "torch": "2.15.0+cpu"}
    for known, names in ((recorded, "a==1 torch"), ({**recorded, "packages": None}, "torch")):
        _, run = trained(tmp_path / f"{names}.db", **known)
        *before, last = recipe(run)
        assert last == f"pip install {names}==2.15.0 -e ."
        assert any(line.startswith("# the builds were torch==2.15.0+cpu") for line in before)


def test_a_database_puts_no_commands_into_a_recipe(tmp_path: Path) -> None:
    hostile = {
        "git_commit": "HEAD; touch a",
        "git_clean": False,
        "git_diff": "x\nEND_OF_CHANGES\ntouch b\n",
        "python": "3\ntouch c",
        "torch": "2; touch d",
        "packages": "a==1;touch --index-url=http://host/ b==2 $(touch)==1",
        "package": "0\ntouch e",
        "command": "dia-repro run table5\ntouch f",
    }
    _, run = trained(tmp_path / "runs.db", **hostile)
    first, *shell, last = recipe(run)
    assert first.startswith("# the commit was not recorded")
    assert last == "pip install b==2 -e ."
    end = shell[0].split("'")[1]
    assert shell[0] == f"git apply <<'{end}'"
    assert end not in str(hostile["git_diff"])
    assert shell[2] == end
    assert all(line.startswith("# ") and "\n" not in line for line in shell[3:])
    _, run = trained(tmp_path / "other.db", **{**hostile, "git_diff": "x \x1b[31m red\n"})
    assert all(line.startswith(("#", "pip install b==2 -e .")) for line in recipe(run))


def test_what_was_not_recorded_is_said(tmp_path: Path) -> None:
    _, run = trained(tmp_path / "runs.db", git_clean=False)
    text = "\n".join(recipe(run))
    assert "# the commit was not recorded" in text
    assert "had changes that were not recorded" in text
    assert "no other version was recorded" in text


def test_the_versions_of_required_libraries_are_recorded() -> None:
    known = dict(text.split("==") for text in shlex.split(packages()))
    assert {"torch", "numpy", "pillow", "scikit-learn"} <= known.keys()
    assert "pytest" not in known


def test_the_api_repeats_a_run(tmp_path: Path) -> None:
    _, run = trained(tmp_path / "runs.db", deterministic=True)
    with dia_repro.open_results(tmp_path / "runs.db") as results:
        found = results.again(1, tmp_path / "again.db", data=tmp_path)
        assert found.outcome.startswith("epoch 1: ")
        assert results.again(1, tmp_path / "again.db", data=tmp_path) == found
        with pytest.raises(NotRepeatableError):
            results.again(1, tmp_path / "runs.db")
        results.bundle(tmp_path / "out.zip")
    with database_in(tmp_path / "out.zip") as copy, dia_repro.open_results(copy) as copied:
        assert list(copied.runs()["uid"]) == [run.summary.uid]
