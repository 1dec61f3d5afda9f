"""Archives from a host on this machine: whole, spoilt, hostile, broken off."""

from __future__ import annotations

import gzip
import http.server
import io
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from torchvision import datasets

from dia_repro.atomic import open_own
from dia_repro.data import DataError, download
from dia_repro.data.sources.cifar import fetch_cifar, load_cifar, loader_of
from tests.fuzz.commands import Outcome, files_in, run_command
from tests.helpers import write_cifar

ARCHIVE = loader_of("cifar100").filename
BASE = loader_of("cifar100").base_folder


class Host:
    """Serves one archive, from where it is asked to; spoilt as `break_after` and `silent` say."""

    def __init__(self) -> None:
        self.content = b""
        self.break_after: int | None = None
        self.silent = threading.Event()
        self.ranges: list[str | None] = []
        self.page = False
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.answer(self)

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/{ARCHIVE}"

    def answer(self, to: http.server.BaseHTTPRequestHandler) -> None:
        wanted = to.headers.get("Range")
        self.ranges.append(wanted)
        if self.silent.is_set():
            return
        if self.page:  # as of a hotel's network, whatever is asked for
            to.send_response(200)
            to.send_header("Content-Type", "text/html; charset=utf-8")
            to.end_headers()
            to.wfile.write(b"<html>Welcome</html>")
            return
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if wanted and first >= len(self.content):
            to.send_error(416)
            return
        to.send_response(206 if wanted else 200)
        if wanted:
            last = len(self.content) - 1
            to.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        to.send_header("Content-Length", str(len(self.content) - first))
        to.end_headers()
        to.wfile.write(self.content[first:][: self.break_after])


@pytest.fixture
def host() -> Iterator[Host]:
    running = Host()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


Offer = Callable[..., None]
Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def offer(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Have the host serve a small CIFAR-100 whose checksum is the one that is expected."""
    source = loader_of("cifar100")
    attributes = write_cifar(tmp_path / "made", source)

    def offered(change: Callable[[tarfile.TarFile], None] | None = None, **other: Any) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            if change is not None:
                change(tar)
            else:
                tar.add(tmp_path / "made" / BASE, arcname=BASE)
        host.content = buffer.getvalue()
        digest = md5(host.content, usedforsecurity=False).hexdigest()
        small = {**attributes, "url": host.url, "tgz_md5": digest, **other}
        monkeypatch.setattr(datasets, "CIFAR100", type("Small", (source,), small))

    offered()
    return offered


def fetched(root: Path) -> Outcome:
    return run_command("data", "fetch", "cifar100", "--data", str(root), cwd=root.parent)


def refusal(root: Path) -> str:
    """The one line that the command is refused in; nothing of what came is taken for the data."""
    outcome = fetched(root)
    assert outcome.code == 3, outcome
    assert len(outcome.stderr.splitlines()) == 1, outcome.stderr
    assert not any(BASE in path.parts for path in files_in(root))
    with pytest.raises(DataError, match="is not in"):
        load_cifar("cifar100", root)
    checked = run_command("data", "check", "cifar100", "--data", str(root), cwd=root.parent)
    assert checked.code == 3
    assert len(checked.stderr.splitlines()) == 1
    return outcome.stderr


def test_a_sound_archive_is_fetched_once(host: Host, offer: Offer, root: Path) -> None:
    for _ in range(2):
        outcome = fetched(root)
        assert outcome.code == 0, outcome
        assert "20 training and 20 test images" in outcome.stderr
    assert host.ranges == [None]
    assert {path.name for path in files_in(root)} == {"train", "test", "meta", ARCHIVE}


def test_an_archive_put_there_by_hand_is_not_downloaded(
    host: Host, offer: Offer, root: Path
) -> None:
    root.mkdir()
    (root / ARCHIVE).write_bytes(host.content)
    assert fetched(root).code == 0
    assert host.ranges == []


def test_a_damaged_file_is_unpacked_again(host: Host, offer: Offer, root: Path) -> None:
    assert fetched(root).code == 0
    (root / BASE / "test").write_bytes(b"x")
    assert fetched(root).code == 0
    assert host.ranges == [None]
    assert len(load_cifar("cifar100", root).test) == 20


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda raw: b"<!DOCTYPE html><html>Too many requests</html>", "a web page came"),
        (lambda raw: b"\n <html></html>", "a web page came"),
        (lambda raw: raw[: len(raw) // 2], "a file with the MD5 sum"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "a file with the MD5 sum"),
        (lambda raw: b"", "a file with the MD5 sum"),
    ],
    ids=["page", "page after a line", "truncated", "one bit", "empty"],
)
def test_what_is_not_the_archive_is_not_unpacked(
    host: Host, offer: Offer, root: Path, spoil: Callable[[bytes], bytes], words: str
) -> None:
    sound = host.content
    host.content = spoil(sound)
    assert words in refusal(root)
    assert files_in(root) == {}
    host.content = sound
    assert fetched(root).code == 0


def member(name: str, kind: bytes, link: str = "", content: bytes = b"") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


TRAIN = f"{BASE}/train"
HOSTILE = {
    "a link in a file's place": [member(TRAIN, tarfile.SYMTYPE, "/etc/passwd")],
    "a hard link": [member(TRAIN, tarfile.LNKTYPE, "/etc/passwd")],
    "a device": [member(TRAIN, tarfile.CHRTYPE)],
    "a pipe": [member(TRAIN, tarfile.FIFOTYPE)],
    "a folder": [member(TRAIN, tarfile.DIRTYPE)],
    "another content": [member(TRAIN, tarfile.REGTYPE, content=b"x")],
    "a way out": [member(f"{BASE}/../../out", tarfile.REGTYPE, content=b"x")],
    "from the root": [member("/tmp/dia-repro-out", tarfile.REGTYPE, content=b"x")],
    "a link, and a file through it": [
        member(BASE, tarfile.SYMTYPE, "/tmp"),
        member(f"{BASE}/dia-repro-out", tarfile.REGTYPE, content=b"x"),
    ],
    "nothing": [],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_archive_writes_nothing_even_where_its_checksum_is_right(
    offer: Offer, root: Path, members: list[Member], tmp_path: Path
) -> None:
    before = files_in(tmp_path)

    def change(tar: tarfile.TarFile) -> None:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))

    offer(change)
    assert "cifar100" in refusal(root)
    assert files_in(tmp_path).keys() - before.keys() == {root / ARCHIVE}
    assert not Path("/tmp/dia-repro-out").exists()


def test_other_things_in_a_sound_archive_are_left_alone(
    offer: Offer, root: Path, tmp_path: Path
) -> None:
    def change(tar: tarfile.TarFile) -> None:
        for info, content in HOSTILE["a way out"] + HOSTILE["from the root"]:
            tar.addfile(info, io.BytesIO(content))
        tar.add(tmp_path / "made" / BASE, arcname=BASE)

    offer(change)
    assert fetched(root).code == 0
    assert {path.name for path in files_in(root)} == {"train", "test", "meta", ARCHIVE}
    assert not Path("/tmp/dia-repro-out").exists()


@pytest.mark.parametrize("name", [TRAIN, "elsewhere"])
def test_an_archive_that_unpacks_without_end_is_given_up(
    offer: Offer, root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 1_000_000)
    info, content = member(name, tarfile.REGTYPE, content=bytes(3_000_000))
    offer(lambda tar: tar.addfile(info, io.BytesIO(content)))
    assert "it holds more than 1 MB" in refusal(root)


def test_an_endless_header_is_given_up(
    host: Host, offer: Offer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 1_000_000)
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    host.content = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(3_000_000))
    digest = md5(host.content, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(loader_of("cifar100"), "tgz_md5", digest)
    assert "it holds more than 1 MB" in refusal(root)


def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    host: Host, offer: Offer, root: Path
) -> None:
    host.break_after = len(host.content) // 2
    assert "broke off after" in refusal(root)
    part = root / f"{ARCHIVE}.part"
    assert part.stat().st_size == host.break_after
    host.break_after = None
    assert fetched(root).code == 0
    assert host.ranges == [None, f"bytes={len(host.content) // 2}-"]
    assert not part.exists()


@pytest.mark.parametrize("length", ["half", "whole", "longer"])
def test_a_part_of_something_else_is_thrown_away(
    host: Host, offer: Offer, root: Path, length: str
) -> None:
    root.mkdir()
    size = len(host.content) * {"half": 1, "whole": 2, "longer": 3}[length] // 2
    (root / f"{ARCHIVE}.part").write_bytes(b"x" * size)
    codes = [fetched(root).code for _ in range(2)]
    assert codes[-1] == 0
    assert {path.name for path in files_in(root)} == {"train", "test", "meta", ARCHIVE}


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_a_part_is_refused(offer: Offer, root: Path, there: bool) -> None:
    root.mkdir()
    other = root.parent / "other"
    if there:
        other.write_bytes(b"other")
    (root / f"{ARCHIVE}.part").symlink_to(other)
    assert f"{ARCHIVE}.part: it is a link: delete it" in refusal(root)
    assert not there or other.read_bytes() == b"other"
    assert other.exists() is there


def test_more_than_an_archive_is_not_received(
    host: Host, offer: Offer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST_SENT", len(host.content) - 1)
    monkeypatch.setattr(download, "CHUNK", 1000)
    assert "the host sends more than" in refusal(root)
    assert files_in(root) == {}
    monkeypatch.setattr(download, "MOST_SENT", len(host.content))
    assert fetched(root).code == 0


def test_a_web_page_instead_of_the_rest_keeps_what_has_come(
    host: Host, offer: Offer, root: Path
) -> None:
    root.mkdir()
    part = root / f"{ARCHIVE}.part"
    part.write_bytes(host.content[:1000])
    host.page = True
    assert "a web page came instead; what has come before is kept" in refusal(root)
    assert part.read_bytes() == host.content[:1000]
    host.page = False
    assert fetched(root).code == 0
    assert host.ranges == ["bytes=1000-"] * 2


def test_ctrl_c_keeps_what_has_come(
    host: Host, offer: Offer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "CHUNK", 1000)
    with pytest.raises(KeyboardInterrupt):
        fetch_cifar("cifar100", root, interrupt)
    assert (root / f"{ARCHIVE}.part").stat().st_size == 1000
    assert fetched(root).code == 0
    assert host.ranges == [None, "bytes=1000-"]


def test_a_host_that_says_nothing_is_given_up(
    host: Host, offer: Offer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SILENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        monkeypatch.setattr(loader_of("cifar100"), "url", url)
        assert "timed out" in refusal(root)
    host.silent.set()
    monkeypatch.setattr(loader_of("cifar100"), "url", host.url)
    assert "could not get cifar100" in refusal(root)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "http://no-such-host.invalid/x", "http://["]
)
def test_a_dead_host_is_one_line(
    offer: Offer, root: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_of("cifar100"), "url", url)
    assert "try again later, or put" in refusal(root)


def test_a_folder_that_cannot_be_written_is_named(offer: Offer, root: Path) -> None:
    root.write_text("a file")
    outcome = fetched(root)
    assert outcome.code == 3
    assert len(outcome.stderr.splitlines()) == 1
    assert f"cannot write cifar100 to {root}" in outcome.stderr
    assert root.read_text() == "a file"


def test_second_download_of_the_same_file_is_refused(host: Host, offer: Offer, root: Path) -> None:
    root.mkdir()
    content, more = host.content, threading.Event()
    begun = threading.Event()

    def halting(done: int, _of: int) -> None:
        if done:
            begun.set()
            assert more.wait(60)

    first = threading.Thread(target=fetch_cifar, args=("cifar100", root, halting))
    first.start()
    assert begun.wait(60)
    try:
        refused = fetched(root)
    finally:
        more.set()
        first.join()
    assert refused.code == 3, refused
    assert "another process is downloading it" in refused.stderr
    assert (root / ARCHIVE).read_bytes() == content
    assert fetched(root).code == 0
    assert len(host.ranges) == 1


def test_part_that_another_process_has_finished_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, target = tmp_path / "x.part", tmp_path / "x"

    def finished(path: Path, mode: str) -> Any:
        file = open_own(path, mode)
        part.replace(target)  # after it was opened, before it was locked
        return file

    with monkeypatch.context() as patch:
        patch.setattr("dia_repro.data.download.open_own", finished)
        with pytest.raises(download.DownloadError, match="has just ended"):
            download.download("http://127.0.0.1:9/x", target, "0" * 32, part=part.name)
    assert target.read_bytes() == b""
