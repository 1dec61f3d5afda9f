"""The commit that results are recorded with, whatever git's own settings are."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dia_repro
from dia_repro.cli.progress import Terminal
from dia_repro.execution.campaign import say_without_commit
from dia_repro.results.database import open_database
from dia_repro.results.queries import all_runs, run_detail
from dia_repro.training import provenance
from dia_repro.training.provenance import CODE, Environment, git_problem, git_state
from tests.helpers import clean_environment

AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def git(folder: Path, *arguments: str) -> str:
    variables = {k: v for k, v in clean_environment().items() if not k.startswith("GIT_")}
    command = ["git", "-C", str(folder), *AUTHOR, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=variables
    ).stdout.strip()


def checkout(folder: Path) -> tuple[Path, str]:
    """A repository with one file, and its commit."""
    folder.mkdir()
    (folder / "code.py").write_text(f"# {folder.name}\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder, git(folder, "rev-parse", "HEAD")


def test_variables_of_git_do_not_name_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, commit = checkout(tmp_path / "ours")
    other, _ = checkout(tmp_path / "other")
    (other / "code.py").write_text("changed\n")
    for name, value in {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(other / ".git" / "index"),
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    assert git_state(ours) == (commit, True)
    assert git_problem(ours) is None


def test_a_git_whose_exit_code_is_not_known_says_nothing(tmp_path: Path) -> None:
    """A launcher may have SIGCHLD ignored: then every program seems to succeed."""
    ours, _ = checkout(tmp_path / "ours")
    (ours / ".git" / "index").write_bytes(b"damaged")
    script = (
        "import signal, sys; from pathlib import Path; from dia_repro import interrupts;"
        "from dia_repro.training.provenance import git_state;"
        "ours = Path(sys.argv[1]);"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN); print(git_state(ours)[1]);"
        "interrupts.install(); print(git_state(ours)[1], signal.getsignal(signal.SIGCHLD))"
    )
    command = [sys.executable, "-c", script, str(ours)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["None", f"None {int(signal.SIG_DFL)}"], done.stdout


def test_settings_of_git_hide_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, commit = checkout(tmp_path / "ours")
    (tmp_path / ".gitconfig").write_text("[status]\n\tshowUntrackedFiles = no\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert git_state(ours) == (commit, True)
    (ours / "new.py").touch()
    assert git_state(ours) == (commit, False)


def test_a_checkout_of_another_user_tells_its_commit(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another user")
    ours, commit = checkout(tmp_path / "ours")
    for path in (ours, *ours.rglob("*")):
        os.chown(path, 12345, 12345)
    assert git_state(ours) == (commit, True)
    assert git_problem(ours) is None


def test_an_unreadable_commit_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = checkout(tmp_path / "ours")
    (ours / ".git" / "HEAD").write_text("nonsense\n")
    assert git_state(ours) == (None, None)
    assert str(git_problem(ours)).startswith(f"git does not tell the commit of {ours}: fatal: ")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(git_problem(ours)).endswith("git cannot be run: No such file or directory")


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A checkout, and its commit, that this process seems to have been started with."""
    ours, commit = checkout(tmp_path / "ours")
    monkeypatch.setattr(provenance, "CODE", ours)
    provenance.code_at_start.cache_clear()
    assert provenance.code_state() == (commit, True)
    yield ours, commit
    provenance.code_at_start.cache_clear()


def test_a_later_commit_makes_the_code_unclean(started: tuple[Path, str]) -> None:
    ours, commit = started
    (ours / "code.py").write_text("changed\n")
    assert provenance.code_state() == (commit, False)
    git(ours, "commit", "--quiet", "--all", "-m", "second")
    assert git_state(ours)[0] != commit
    assert provenance.code_state() == (commit, False)
    git(ours, "checkout", "--quiet", commit)
    assert provenance.code_state() == (commit, True)
    (ours / ".git" / "HEAD").write_text("nonsense\n")
    assert provenance.code_state() == (commit, None)


SCRIPT = """
import subprocess, sys
from pathlib import Path
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from tests.execution.tiny_runs import make_jobs, report
from tests.helpers import tiny_spec
if __name__ == "__main__":
    database, orders = make_jobs(Path.cwd(), [tiny_spec(epochs=1)], 2)
    for order in orders:
        LocalSupervisor(database, Slots.on_cpu(1), report).run([order])
        subprocess.run(sys.argv[1:], check=True)
"""


@pytest.mark.slow
def test_runs_name_the_commit_of_their_process_start(tmp_path: Path) -> None:
    """Their worker is forked from a process that has the old code in memory."""
    code = tmp_path / "code"
    for part in ("dia_repro", "tests"):
        shutil.copytree(CODE / part, code / part)
    (code / ".gitignore").write_text("__pycache__\n")
    git(code, "init", "--quiet")
    git(code, "add", ".")
    git(code, "commit", "--quiet", "-m", "first")
    commit = git(code, "rev-parse", "HEAD")
    then = ["git", "-C", str(code), *AUTHOR, "commit", "--quiet", "--allow-empty", "-m", "second"]
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), *then],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(code)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    database = open_database(str(tmp_path / "runs.db"), create=False)
    attempts = [run_detail(database, run.id).provenance[0] for run in all_runs(database)]
    assert [(a["git_commit"], a["git_clean"]) for a in attempts] == [
        (commit, True),
        (commit, False),
    ]
    assert done.stdout.count("checkout has changed since its process began") == 1


def test_an_installed_package_has_no_problem(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, None)
    assert git_problem(tmp_path) is None


def test_run_says_that_results_will_not_name_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (CODE / ".git").exists():
        pytest.skip("the package is installed, not a checkout")
    say_without_commit(Terminal())
    assert capsys.readouterr().err == ""
    (tmp_path / "git").write_text("#!/bin/sh\necho 'fatal: out of order' >&2\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    say_without_commit(Terminal())
    said = capsys.readouterr().err
    assert said.startswith("Results will not name the commit of the code: git does not tell")
    assert said.endswith("fatal: out of order.\n")


def test_other_uncommitted_changes_are_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git says only that there are some, and of an installed package nothing."""
    module = tmp_path / "__init__.py"
    monkeypatch.setattr(dia_repro, "__file__", str(module))
    monkeypatch.setattr(provenance, "files_at_start", provenance.package_files)

    def here(*, decodes: bool = False) -> Environment:
        return Environment.here(1, "cpu", deterministic=True, processes=1, decodes=decodes)

    module.write_text("a = 1\n")
    begun = {**here(decodes=True).to_store()[provenance.KEY]}
    assert here(decodes=True).differences(begun) == []
    begun["pillow"] = "1.0"
    module.write_text("a = 2\n")
    found = here(decodes=True).differences(begun)
    assert [text.split()[0] for text in found] == ["files", "pillow"]
    del begun["files"], begun["pillow"]  # of an earlier version
    assert here().differences(begun) == []
