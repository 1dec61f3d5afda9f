"""The backends that keep the storage contract, and a server that speaks S3's protocol."""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
from collections.abc import Iterator
from multiprocessing import util
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from dia_repro.execution import forkserver
from dia_repro.results.database import Database, open_database

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Tests that run side by side share the cores. Threads that look for work without sleeping take
    # them from other tests' threads, for which theirs wait: seconds become minutes.
    cores = len(os.sched_getaffinity(0)) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.update({"OMP_NUM_THREADS": str(max(1, cores)), "GOMP_SPINCOUNT": "0"})

# A shell has what runs in the background ignore SIGINT, and `nohup` SIGHUP: commands of tests would
# ignore them, too.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# The first example of a test imports what the others find there.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Sockets of processes are in a folder that is made once: not while a test has temporary files in a
# folder of its own, which is removed after it.
util.get_temp_dir()

# Commands of tests are forked from the process that workers are forked from: what several of them
# would import is there already.
forkserver.CONTEXT.set_forkserver_preload([*forkserver.PRELOADED, "tests.preload"])

# URL of a PostgreSQL server on which databases may be made and dropped.
SERVER = "DIA_REPRO_TEST_POSTGRES"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the servers that they use, and skip those of a package that is not there."""
    absent = importlib.util.find_spec("ray") is None
    for item in items:
        if "s3_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.s3)
        if absent and item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.skip(reason="the extra ray is not installed"))


@pytest.fixture(scope="session")
def postgres_database(worker_id: str) -> Iterator[str]:
    """The URL of a database of our own, dropped at the end."""
    server = os.environ.get(SERVER)
    if not server:
        pytest.skip(f"no PostgreSQL: {SERVER} is not set")
    name = f"dia_repro_test_{worker_id}_{os.getpid()}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    engine.dispose()


@pytest.fixture
def postgres(postgres_database: str) -> str:
    """The URL of an empty database."""
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(text("drop schema public cascade; create schema public"))
    engine.dispose()
    return postgres_database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where there is no database yet, for each backend."""
    if request.param == "postgres":
        server: str = request.getfixturevalue("postgres")
        return server
    return str(tmp_path / "runs.db")


@pytest.fixture
def database(location: str) -> Iterator[Database]:
    """A new database, of each backend."""
    database = open_database(location, create=True)
    yield database
    database.close()


@pytest.fixture
def one_cpu() -> Iterator[Path]:
    """A control group of this machine with a quota of one CPU."""
    folder = Path("/sys/fs/cgroup/cpu" if Path("/sys/fs/cgroup/cpu").is_dir() else "/sys/fs/cgroup")
    group = folder / f"dia-repro-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    quota = next(filter(Path.exists, (group / "cpu.max", group / "cpu.cfs_quota_us")), None)
    if quota is not None:
        quota.write_text("100000")
        yield group
    group.rmdir()
    if quota is None:
        pytest.skip("control groups of this machine do not limit CPU time")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server in this process."""
    server_module = pytest.importorskip("moto.server", reason="the extra dev is not installed")
    pytest.importorskip("pyarrow.fs", reason="the extra s3 is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_settings(s3_server: str) -> dict[str, str]:
    """The environment in which that server is found."""
    return {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture
def bucket(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, with the settings to reach it in this process's environment."""
    from pyarrow.fs import S3FileSystem

    for name, value in s3_settings.items():
        monkeypatch.setenv(name, value)
    name = f"dia-repro-{secrets.token_hex(8)}"
    endpoint = s3_settings["AWS_ENDPOINT_URL"]
    S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True).create_dir(name)
    return f"s3://{name}"
