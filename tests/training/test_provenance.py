"""The commit that results are recorded with, whatever git's own settings are."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dia_repro.cli.run import _say_without_commit
from dia_repro.training.provenance import CODE, git_problem, git_state
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


def test_a_commit_that_git_does_not_tell_is_a_problem_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = checkout(tmp_path / "ours")
    (ours / ".git" / "HEAD").write_text("nonsense\n")
    assert git_state(ours) == (None, None)
    assert str(git_problem(ours)).startswith(f"git does not tell the commit of {ours}: fatal: ")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(git_problem(ours)).endswith("git cannot be run: No such file or directory")


def test_an_installed_package_has_no_problem(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, None)
    assert git_problem(tmp_path) is None


def test_run_says_that_results_will_not_name_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (CODE / ".git").exists():
        pytest.skip("the package is installed, not a checkout")
    _say_without_commit()
    assert capsys.readouterr().err == ""
    (tmp_path / "git").write_text("#!/bin/sh\necho 'fatal: out of order' >&2\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _say_without_commit()
    said = capsys.readouterr().err
    assert said.startswith("Results will not name the commit of the code: git does not tell")
    assert said.endswith("fatal: out of order.\n")
