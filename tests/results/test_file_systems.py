"""Where a database is: what is shown of it, and on what it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from dia_repro.errors import UsageError, displayed
from dia_repro.results.backends import make_engine, network_file_system, sqlite_path

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /home nfs4 rw 0 0
/dev/vdb /home/me/local ext4 rw 0 0
//server/share /mnt/with\\040space cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/runs.db", None),
        ("/homeless/runs.db", None),
        ("/home/runs.db", "nfs4"),
        ("/home/me/runs.db", "nfs4"),
        ("/home/me/local/runs.db", None),
        ("/mnt/with space/runs.db", "cifs"),
    ],
)
def test_network_file_systems_are_known(path: str, kind: str | None, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert network_file_system(Path(path), tmp_path / "mounts") == kind


def test_where_mounts_cannot_be_read_nothing_is_said(tmp_path: Path) -> None:
    assert network_file_system(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("runs.db", "runs.db"),
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:se@cret@host:5/db", "postgresql+psycopg://me:***@host:5/db"),
        ("dia-repro run --db=postgresql://me:secret@h/d -x", None),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:se/cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:se?cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:se@c/ret:cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://m/e:secret@host/db", "postgresql://m/e:***@host/db"),
        ("postgresql://me:se[cret@host:port/db", "postgresql://me:***@host:port/db"),
        ("postgresql://host/db?password=secret", "postgresql://host/db?password=***"),
        ("postgresql://host/db?sslpassword=secret", "postgresql://host/db?sslpassword=***"),
        ("postgresql://host/db?options=-c%20x.token%3Dsecret", "postgresql://host/db?options=***"),
        ("postgresql://host:x/db?Password=secret", "postgresql://host:x/db?Password=***"),
        ("postgresql://host/db?keepalives=1", "postgresql://host/db?keepalives=1"),
        ("s3://key:se/c+cret@bucket/x", "s3://key:***@bucket/x"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("sqlite:////runs:old@home/runs.db", "sqlite:////runs:old@home/runs.db"),
    ],
)
def test_passwords_are_not_shown(location: str, shown: str | None) -> None:
    assert "cret" not in displayed(location)
    assert shown in (None, displayed(location))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_way_to_name_postgres_is_understood(scheme: str) -> None:
    location = f"{scheme}://me@host/db"
    assert sqlite_path(location) is None
    assert make_engine(location, create=False).dialect.driver == "psycopg"


@pytest.mark.parametrize(
    "location",
    [
        "mysql://me:secret@host/db",
        "://",
        "postgresql://h:x/d",
        "postgresql://me:secret@h:x/d",
        "postgresql://me:se@secret@host/d",
        "postgresql+asyncpg://me:secret@host/d",
        "postgresql+psycopg2://me:secret@host/d",
        "sqlite+aiosqlite:///runs.db",
        "sqlite:///runs.db?mode=ro",  # which would be written to
    ],
)
def test_other_kinds_are_refused_in_a_line_without_the_password(location: str) -> None:
    with pytest.raises(UsageError) as refusal:
        make_engine(location, create=False)
    assert "secret" not in str(refusal.value)


def test_a_link_to_a_network_file_system_is_seen(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/x {shared} nfs4 rw 0 0\n", encoding="utf-8")
    (tmp_path / "link").symlink_to(shared, target_is_directory=True)
    for path in (shared / "runs.db", tmp_path / "link" / "runs.db", shared / ".." / "shared" / "a"):
        assert network_file_system(path, mounts) == "nfs4"
    assert network_file_system(tmp_path / "runs.db", mounts) is None


def test_odd_names_of_mounts_are_read(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a /x\u2028y\x85z tmpfs rw 0 0\n{MOUNTS}")
    assert network_file_system(Path("/"), mounts) != "nfs"
