"""Stores of checkpoints: their names, what is refused, and what is found out before a training."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measurements import NotRunnable
from benchmarks.storage.files import small_disk
from dia_repro.errors import AbsentError, DiaReproError, UsageError
from dia_repro.training import probing
from dia_repro.training.probing import NoStoreError, check_reachable, check_shared, probe
from dia_repro.training.store import CheckpointError, Store, store_at
from tests.helpers import clean_environment


@pytest.mark.parametrize(
    ("location", "store"),
    [
        ("some/folder", Store(Path("some/folder"))),
        ("/a b", Store(Path("/a b"))),
        ("file:///a%20b/c", Store(Path("/a b/c"))),
        ("file://localhost/a", Store(Path("/a"))),
        ("s3://bucket/folder/", Store("s3://bucket/folder")),
        ("ftp://host/folder", Store("ftp://host/folder")),
    ],
)
def test_a_folder_or_a_url(location: str, store: Store) -> None:
    assert store_at(location) == store
    assert pickle.loads(pickle.dumps(store)) == store


@pytest.mark.parametrize(
    ("location", "kind", "words"),
    [
        ("", UsageError, "needs a folder or a URL"),
        ("s4://bucket", UsageError, "no kind of storage called s4"),
        ("s3://", UsageError, "names no path"),
        ("file://host/folder", UsageError, "write file:///FOLDER"),
        ("s3://u:geheim@bucket?key=geheim", UsageError, "takes no [?]"),
        ("S 3://u:geheim@x", UsageError, "neither a folder nor a URL"),
        ("memory://x", UsageError, "lost at the end"),
        ("gs://u:geheim@bucket", AbsentError, r"pip install gcsfs$"),
        ("smb://u:geheim@host/x", AbsentError, "smbprotocol"),
    ],
)
def test_other_locations_are_refused_without_secrets(
    location: str, kind: type[DiaReproError], words: str
) -> None:
    with pytest.raises(kind, match=words) as refused:
        store_at(location)
    assert "geheim" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_its_package_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from dia_repro.training.store import store_at\n"
        "try:\n    store_at('s3://bucket')\nexcept Exception as error:\n"
        "    print(error.exit_code, error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith("3 ")
    assert said.endswith("pip install 'dia-repro[s3]'\n")


def test_a_probe_leaves_nothing(bucket: str, tmp_path: Path) -> None:
    for store in (Store(tmp_path / "made"), Store(bucket)):
        with probe(store) as mark:
            assert store.names() == [mark]
            check_shared(store, mark)
        assert store.names() == []


def test_a_folder_that_is_not_shared_is_noticed(tmp_path: Path) -> None:
    with (
        probe(Store(tmp_path / "here")) as mark,
        pytest.raises(NoStoreError, match="all nodes share"),
    ):
        check_shared(Store(tmp_path / "there"), mark)


def test_a_bucket_that_is_not_there_is_not_made(bucket: str) -> None:
    missing = Store(f"{bucket}-missing/a/b")
    with (
        pytest.raises(NoStoreError, match=r"cannot write .*-missing/a/b: .*bucket"),
        probe(missing),
    ):
        pass
    assert Store(bucket).names() == []
    with pytest.raises(CheckpointError, match="bucket"):
        missing.write("x", b"x")


def test_folders_are_made_only_below_an_existing_one(tmp_path: Path) -> None:
    """A disk by way of fsspec stands for the kinds of storage that have folders."""
    there = Store(f"file://{tmp_path}/project")
    there.write("1-abc/seed-0/x", b"123")
    assert there.run_folders() == {"1-abc/seed-0": 3}
    nowhere = Store(f"file://{tmp_path}/no/project")
    with pytest.raises(CheckpointError, match="cannot write"):
        nowhere.write("1-abc/seed-0/x", b"123")
    assert not (tmp_path / "no").exists()


def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes connections and says nothing: its client would try for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host, port = mute.getsockname()
        monkeypatch.setattr(probing, "ANSWER_SECONDS", 0.5)
        begun = time.monotonic()
        store = Store(f"ftp://user:geheim@{host}:{port}/folder")
        with pytest.raises(NoStoreError, match="no answer within") as refused:
            check_reachable(store)
        with pytest.raises(NoStoreError, match="no answer within"), probe(store):
            pass
        assert "geheim" not in str(refused.value)
        assert time.monotonic() - begun < 10


def test_a_store_that_loses_bytes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    real = MemoryFileSystem.pipe_file

    def half(self: Any, path: str, value: bytes, **named: Any) -> Any:
        return real(self, path, value[: len(value) // 2], **named)

    store = Store("memory://loses")
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", half)
    with pytest.raises(CheckpointError, match="of 100 bytes it has 50"):
        store.write("a", bytes(100))


def test_a_full_disk_leaves_no_partial_file() -> None:
    try:
        with small_disk(1_000_000) as folder:
            store = Store(folder)
            store.write("old", b"old")
            with pytest.raises(CheckpointError, match="No space left"):
                store.write("new", bytes(2_000_000))
            assert store.names() == ["old"]
    except NotRunnable as reason:
        pytest.skip(str(reason))
