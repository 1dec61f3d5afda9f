"""What `doctor` says of a machine is what comes of trying, and nothing of it stays."""

from __future__ import annotations

import csv
import io
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url, text

import dia_repro
from dia_repro.cli import probes
from dia_repro.execution.maintenance import default_root
from dia_repro.results.database import open_database
from dia_repro.training.store import CheckpointError, store_at
from tests.helpers import clean_environment, read_only, with_mounts

PROGRAM = (
    "import sys\n"
    "from dia_repro.cli import probes\n"
    "print(*probes.tried(lambda: getattr(probes, sys.argv[1])(*sys.argv[2:])), sep='\\n')"
)
TRY = (sys.executable, "-c", PROGRAM)
DISK = (
    "import sys\n"
    "from pathlib import Path\n"
    "from dia_repro.cli import probes\n"
    "found = probes.checks(sys.argv[1], Path('data'), sys.argv[2])\n"
    "print(*{name: verdict for name, *verdict in found}['disk'], sep='\\n')"
)
Usage = namedtuple("Usage", ("total", "used", "free"))


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


def checked(name: str, db: str, location: str | None = None) -> tuple[str, str]:
    """Status and detail of a row of `doctor`."""
    found = {row: (status, detail) for row, status, detail in probes.checks(db, Path(), location)}
    return found[name]


def in_server(location: str, statement: str) -> None:
    engine = create_engine(location, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let disks be full in these folders, and in what is in them."""

    def fill(*full: Path) -> None:
        def disk_usage(folder: Path) -> Usage:
            left = 0 if any(map(Path(folder).is_relative_to, full)) else 10**12
            return Usage(10**12, 10**12 - left, left)

        monkeypatch.setattr(shutil, "disk_usage", disk_usage)

    return fill


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


def test_a_database_link_to_a_missing_folder_is_bad(tmp_path: Path) -> None:
    link, target = tmp_path / "runs.db", tmp_path / "nodisk" / "runs.db"
    link.symlink_to(target)
    status, detail = probes.tried(lambda: probes.database(str(link)))
    assert status == "bad"
    missing = f"{link} is a link to {target}, but {target.parent} does not exist: "
    assert detail.startswith(missing)
    target.parent.mkdir()
    assert probes.database(str(link)) == ("ok", f"{link} will be made by the first run")
    assert list(target.parent.iterdir()) == []
    open_database(str(link), create=True).close()
    assert target.is_file()


def test_a_database_link_to_itself_is_bad(tmp_path: Path) -> None:
    link = tmp_path / "runs.db"
    link.symlink_to(link)
    status, detail = probes.tried(lambda: probes.database(str(link)))
    assert status == "bad"
    assert detail == f"{link}: Too many levels of symbolic links"


@pytest.mark.parametrize("below", ["", "sub/ck"])
def test_a_checkpoint_link_that_leads_nowhere_is_bad(below: str, tmp_path: Path) -> None:
    link, target = tmp_path / "runs-checkpoints", tmp_path / "nodisk"
    link.symlink_to(target)
    store = store_at(str(link / below))
    status, detail = probes.tried(lambda: probes.checkpoints(store))
    assert status == "bad"
    assert detail.startswith(f"{link} is a link to {target}, which does not exist")
    with pytest.raises(CheckpointError, match="File exists"):
        store.write("spec/seed-0/epoch-1.pt", b"weights")  # as the first run would
    target.mkdir()
    assert probes.checkpoints(store)[0] == "ok"


def test_parents_of_checkpoints_are_made_by_the_first_run(tmp_path: Path) -> None:
    store = store_at(str(tmp_path / "new" / "sub" / "ck"))
    found = probes.tried(lambda: probes.checkpoints(store))
    assert found == ("ok", f"will be made by the first run: {store.name}")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").touch()
    status, detail = probes.tried(lambda: probes.checkpoints(store))
    assert status == "bad"
    assert detail.endswith("Not a directory")


def test_an_empty_file_is_a_database_to_come(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.touch()
    found = probes.tried(lambda: probes.database(str(path)))
    assert found == ("ok", f"{path} is empty: the first run makes its tables")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b""
    command = (*with_mounts(read_only(tmp_path)), *TRY, "database", str(path))
    status, detail = tried(command, Path("/"))
    assert status == "bad"
    assert detail == f"database {path}: attempt to write a readonly database"


@pytest.mark.postgres
def test_an_empty_database_of_a_server_is_tried(postgres: str) -> None:
    status, detail = probes.tried(lambda: probes.database(postgres))
    assert (status, detail.partition(": ")[2]) == ("ok", "the first run makes its tables")
    engine = create_engine(postgres)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    open_database(postgres, create=True).close()
    assert probes.database(postgres)[1].startswith("0 runs in ")


@pytest.fixture
def guest(postgres: str) -> Iterator[str]:
    """The URL of an empty database for a role that may make nothing in it."""
    role = f"guest_of_{make_url(postgres).database}"
    in_server(postgres, f"create role {role} login; grant usage on schema public to {role}")
    yield make_url(postgres).set(username=role).render_as_string(hide_password=False)
    in_server(postgres, f"drop owned by {role}; drop role {role}")


@pytest.mark.postgres
def test_an_empty_database_is_bad_for_a_role_without_rights(guest: str) -> None:
    status, detail = probes.tried(lambda: probes.database(guest))
    assert status == "bad"
    assert "permission denied for schema public" in detail


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("rights", "words"),
    [
        ("select, insert, update, delete", "permission denied for sequence"),
        ("select, update", "permission denied for table specs"),
    ],
)
def test_a_database_is_bad_for_a_role_that_can_add_no_run(
    rights: str, words: str, postgres: str, guest: str
) -> None:
    open_database(postgres, create=True).close()
    role = make_url(guest).username
    in_server(postgres, f"grant {rights} on all tables in schema public to {role}")
    status, detail = probes.tried(lambda: probes.database(guest))
    assert (status, words in detail) == ("bad", True), detail


def test_a_write_ahead_log_that_may_damage_the_database_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.db"
    open_database(str(path), create=True).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode = wal")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    status, detail = probes.tried(lambda: probes.database(str(path)))
    assert status == "bad"
    assert "it keeps a write-ahead log" in detail


@pytest.mark.postgres
def test_an_empty_database_of_a_read_only_server_is_bad(postgres: str) -> None:
    option = {"options": "-c default_transaction_read_only=on"}
    location = make_url(postgres).update_query_dict(option)
    url = location.render_as_string(hide_password=False)
    status, detail = probes.tried(lambda: probes.database(url))
    assert status == "bad"
    assert "cannot execute CREATE TABLE in a read-only transaction" in detail


@pytest.mark.parametrize("prefix", ["", "sqlite:///"])
def test_the_disk_of_the_database_is_measured(
    prefix: str, tmp_path: Path, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("full", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    fill(tmp_path / "full")
    there = str(tmp_path / "work")
    assert checked("disk", f"{prefix}runs.db") == ("ok", f"1,000.0 GB free in {there}")
    full = ("bad", f"0.0 GB free in {tmp_path / 'full'}")
    assert checked("disk", f"{prefix}{tmp_path}/full/runs.db", there) == full
    Path("runs.db").symlink_to(tmp_path / "full" / "runs.db")
    assert checked("disk", f"{prefix}runs.db", there) == full


@pytest.mark.parametrize("location", ["../full/new/ck", "link", "link/new", "file://FULL/ck"])
def test_the_disk_of_checkpoints_is_measured(
    location: str, tmp_path: Path, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    full, work = tmp_path / "full", tmp_path / "work"
    full.mkdir()
    work.mkdir()
    (work / "link").symlink_to(full)
    monkeypatch.chdir(work)
    fill(full)
    location = location.replace("FULL", str(full))
    assert checked("disk", "runs.db", location) == ("bad", f"0.0 GB free in {full}")
    Path("runs-checkpoints").symlink_to(full)
    assert checked("disk", "runs.db") == ("bad", f"0.0 GB free in {full}")
    fill(tmp_path)
    both = ("bad", f"0.0 GB free in {work}, 0.0 GB free in {full}")
    assert checked("disk", "runs.db", location) == both


@pytest.mark.postgres
def test_only_the_disk_of_checkpoints_counts_for_a_server(
    postgres: str, tmp_path: Path, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, full = tmp_path / "work", tmp_path / "full"
    work.mkdir()
    full.mkdir()
    monkeypatch.chdir(work)
    fill(full)
    assert checked("disk", postgres) == ("ok", f"1,000.0 GB free in {work}")
    default_root(postgres).symlink_to(full)
    assert checked("disk", postgres) == ("bad", f"0.0 GB free in {full}")
    fill(work)
    assert checked("disk", postgres, str(full)) == ("ok", f"1,000.0 GB free in {full}")
    elsewhere = "results and checkpoints are not on this machine's disks"
    assert checked("disk", postgres, "ftp://localhost/ck") == ("ok", elsewhere)


def test_the_working_folder_is_measured_for_a_server_that_is_gone(
    tmp_path: Path, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.chdir(tmp_path)
    fill(tmp_path)
    gone = "postgresql://localhost:1/runs"
    assert checked("disk", gone) == ("bad", f"0.0 GB free in {tmp_path}")


@pytest.mark.slow
def test_a_small_disk_for_checkpoints_is_said(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = with_mounts(f"mount -t tmpfs -o size=1m none {small}")
    command = (*mounted, sys.executable, "-c", DISK, "runs.db", str(small / "ck"))
    assert tried(command, tmp_path) == ("bad", f"0.0 GB free in {small}")


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
