"""What `doctor` says of a machine is what comes of trying, and nothing of it stays."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

import dia_repro
from dia_repro.cli import probes
from dia_repro.results.database import open_database
from dia_repro.training.store import store_at
from tests.helpers import clean_environment, read_only, with_mounts

PROGRAM = (
    "import sys\n"
    "from dia_repro.cli import probes\n"
    "print(*probes.tried(lambda: getattr(probes, sys.argv[1])(*sys.argv[2:])), sep='\\n')"
)
TRY = (sys.executable, "-c", PROGRAM)


def tried(command: Sequence[str], cwd: Path, **environment: str) -> tuple[str, str]:
    """Status and detail of a probe in a process of its own."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=clean_environment(**environment),
    )
    assert done.returncode == 0, done.stderr
    status, detail = done.stdout.splitlines()
    return status, detail


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "runs.db"
    open_database(str(path), create=True).close()
    return path


def test_a_database_is_written_to_and_left_as_it_was(database: Path) -> None:
    before = sha256(database.read_bytes()).hexdigest()
    assert probes.database(str(database)) == ("ok", f"0 runs in {database}")
    assert list(database.parent.iterdir()) == [database]
    assert sha256(database.read_bytes()).hexdigest() == before


def test_a_read_only_database_is_bad(database: Path, tmp_path: Path) -> None:
    command = (*with_mounts(read_only(tmp_path)), *TRY, "database", str(database))
    status, detail = tried(command, Path("/"))
    assert status == "bad"
    assert detail.endswith("attempt to write a readonly database")


def test_a_database_to_come_is_tried_in_its_folder(tmp_path: Path) -> None:
    location = str(tmp_path / "runs.db")
    assert probes.database(location) == ("ok", f"{location} will be made by the first run")
    assert list(tmp_path.iterdir()) == []
    status, detail = tried((*TRY, "database", "/proc/runs.db"), tmp_path)
    assert status == "bad"
    assert detail.startswith("/proc/.dia-repro-doctor-")


def test_checkpoints_are_tried_and_nothing_is_left(tmp_path: Path) -> None:
    store = store_at(str(tmp_path / "checkpoints"))
    assert probes.checkpoints(store) == ("ok", f"will be made by the first run: {store.name}")
    assert list(tmp_path.iterdir()) == []
    Path(store.name).mkdir()
    assert probes.checkpoints(store) == ("ok", f"can be written to {store.name}")
    assert list(Path(store.name).iterdir()) == []
    with pytest.raises(OSError, match="/proc"):
        probes.checkpoints(store_at("/proc/checkpoints"))


def test_a_socket_is_bound(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    status, detail = tried((*TRY, "sockets"), tmp_path, TMPDIR=str(long))
    assert status == "ok"
    assert detail.startswith("in /tmp/pymp-")
    assert detail.endswith(", since TMPDIR is too long for them")
    assert not Path(detail.removeprefix("in ").partition(",")[0]).exists()


@pytest.mark.parametrize(
    ("mode", "status", "words"),
    [("size=1m", "warning", "No space left on device for 256 MB"), ("ro", "bad", "Read-only")],
)
def test_shared_memory_is_allocated(mode: str, status: str, words: str, tmp_path: Path) -> None:
    small = with_mounts(f"mount -t tmpfs -o {mode} none /dev/shm")
    found, detail = tried((*small, *TRY, "shared_memory"), tmp_path)
    assert found == status
    assert words in detail
    assert tried((*TRY, "shared_memory"), tmp_path) == ("ok", "256 MB in /dev/shm")


def test_a_low_limit_of_open_files_is_said(tmp_path: Path) -> None:
    command = ("sh", "-c", 'ulimit -n 100 && exec "$@"', "sh", *TRY, "open_files")
    status, detail = tried(command, tmp_path)
    assert status == "warning"
    assert detail == "Too many open files beyond 100: 'ulimit -n 4096' allows more"


def test_a_quota_of_cpu_time_is_said(one_cpu: Path, tmp_path: Path) -> None:
    join = f'echo $$ > {one_cpu}/cgroup.procs && exec "$@"'
    status, detail = tried(("sh", "-c", join, "sh", *TRY, "processor", "CPU"), tmp_path)
    cpus = os.cpu_count()
    assert (status, detail) == ("ok", f"CPU, 1 core by a quota of 1 of {cpus} CPUs")


def test_a_commit_that_git_does_not_tell_is_said(tmp_path: Path) -> None:
    if not (Path(dia_repro.__file__).parents[1] / ".git").exists():
        pytest.skip("the package is installed, not a checkout")
    assert probes.code()[1].startswith("commit ")
    status, detail = tried((*TRY, "code"), tmp_path, PATH=str(tmp_path))
    assert status == "warning"
    assert detail.startswith("results will not name a commit: git does not tell")


@pytest.mark.slow
def test_code_that_is_compiled_each_time_is_said(tmp_path: Path) -> None:
    package = Path(dia_repro.__file__).parent
    command = (*with_mounts(read_only(package)), *TRY, "compiled_code")
    status, detail = tried(command, tmp_path, HOME="/dev/null", XDG_CACHE_HOME="/dev/null")
    assert status == "warning"
    assert "set NUMBA_CACHE_DIR" in detail


@pytest.mark.slow
def test_doctor_fails_where_results_cannot_be_written(database: Path, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "dia_repro", "doctor", "--format", "csv")
    done = subprocess.run(
        [*with_mounts(read_only(tmp_path)), *command, "--db", str(database)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=clean_environment(),
    )
    assert done.returncode == 3, done.stderr
    status = {row["check"]: row["status"] for row in csv.DictReader(io.StringIO(done.stdout))}
    assert {check for check, found in status.items() if found == "bad"} == {
        "database",
        "checkpoints",
    }
