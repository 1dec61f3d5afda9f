"""CIFAR from small archives in the real format, sound and damaged."""

from __future__ import annotations

import http.server
import pickle
import tarfile
import threading
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from dia_repro.data import DataError
from dia_repro.data.sources.cifar import fetch_cifar, load_cifar, loader_of
from dia_repro.errors import UsageError
from tests.helpers import write_cifar

NAMES = ["cifar10", "cifar100"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def small(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives of 20 images a file, whose checksums stand in for the real ones."""
    for name in NAMES:
        source = loader_of(name)
        attributes = write_cifar(root, source)
        monkeypatch.setattr(datasets, name.upper(), type(source.__name__, (source,), attributes))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("name", "files"), [("cifar10", 5), ("cifar100", 1)])
def test_images_and_labels_are_the_files(name: str, files: int, root: Path) -> None:
    dataset = load_cifar(name, root)
    assert dataset.train.pixels.shape == (20 * files, 3, 32, 32)
    assert len(dataset.test) == 20
    source = loader_of(name)
    raw = (root / source.base_folder / source.test_list[0][0]).read_bytes()
    content = pickle.loads(raw)
    labels = content["labels" if name == "cifar10" else "fine_labels"]
    assert dataset.test.labels.tolist() == labels
    assert np.array_equal(dataset.test.pixels.numpy().reshape(20, -1), content["data"])


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_set_says_how_to_get_it(name: str, root: Path) -> None:
    with pytest.raises(DataError, match=f"dia-repro data fetch {name}"):
        load_cifar(name, root)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(name: str, root: Path) -> None:
    missing = root / loader_of(name).base_folder / loader_of(name).test_list[0][0]
    missing.unlink()
    with pytest.raises(DataError, match=f"{missing.name} is missing"):
        load_cifar(name, root)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "html", "meta"])
def test_a_damaged_file_is_named_before_it_is_read(name: str, damage: str, root: Path) -> None:
    source = loader_of(name)
    file = source.meta["filename"] if damage == "meta" else source.train_list[-1][0]
    path = root / source.base_folder / file
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "html":
        content = bytearray(b"<html>Too many requests</html>")
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path.name} is damaged"):
        load_cifar(name, root)


def test_real_checksums_are_those_published_with_the_data() -> None:
    """What torchvision verifies against, in case a release should change it."""
    assert loader_of("cifar10").tgz_md5 == "c58f30108f718f92721af3b95e74349a"
    assert loader_of("cifar100").tgz_md5 == "eb9058c3a382ffc7106e4002c42a8d85"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real HTTP server on this machine, and the folder that it serves."""
    served = tmp_path / "served"
    served.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(served), **kwargs)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            """Nothing."""

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", served
    running.shutdown()


def archive(source: type, made: Path, target: Path) -> str:
    with tarfile.open(target, "w:gz") as tar:
        tar.add(made / source.base_folder, arcname=source.base_folder)  # type: ignore[attr-defined]
    return md5(target.read_bytes(), usedforsecurity=False).hexdigest()


def test_fetch_downloads_unpacks_and_verifies(
    server: tuple[str, Path], tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = server
    source = loader_of("cifar100")
    attributes = write_cifar(tmp_path / "made", source)
    digest = archive(source, tmp_path / "made", served / source.filename)
    attributes |= {"url": f"{url}/{source.filename}", "tgz_md5": digest}
    monkeypatch.setattr(datasets, "CIFAR100", type("Small", (source,), attributes))
    fetch_cifar("cifar100", root)
    assert len(load_cifar("cifar100", root).train) == 20


@pytest.mark.parametrize("served_file", ["html", "nothing"])
def test_a_bad_download_is_one_clear_error(
    served_file: str,
    server: tuple[str, Path],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, served = server
    source = loader_of("cifar100")
    if served_file == "html":
        (served / source.filename).write_text("<html>Too many requests</html>")
    attributes = {"url": f"{url}/{source.filename}"}
    monkeypatch.setattr(datasets, "CIFAR100", type("Small", (source,), attributes))
    with pytest.raises(DataError, match="could not get cifar100"):
        fetch_cifar("cifar100", root)
    with pytest.raises(DataError):
        load_cifar("cifar100", root)


def test_a_mirror_is_asked_instead_and_checked_the_same(
    server: tuple[str, Path], tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = server
    source = loader_of("cifar100")
    attributes = write_cifar(tmp_path / "made", source)
    digest = archive(source, tmp_path / "made", served / source.filename)
    attributes |= {"url": "http://127.0.0.1:9/nothing.tar.gz", "tgz_md5": digest}
    monkeypatch.setattr(datasets, "CIFAR100", type("Small", (source,), attributes))
    for number, mirror in enumerate((url, f"{url}/{source.filename}", served.as_uri())):
        fetch_cifar("cifar100", root / str(number), None, mirror)
        assert len(load_cifar("cifar100", root / str(number)).train) == 20
    (served / source.filename).write_bytes(b"something else")
    with pytest.raises(DataError, match="came instead of the one with"):
        fetch_cifar("cifar100", root / "other", None, url)
    for wrong in ("ftp://host/", "host/cifar", "https"):
        with pytest.raises(UsageError, match="a mirror begins with"):
            fetch_cifar("cifar100", root / "other", None, wrong)


@pytest.mark.parametrize("user", ["me:hunter2@", "u:S3%2Fcret@", "me@"])
def test_a_mirror_with_a_password_is_refused_and_the_password_is_not_shown(
    user: str, root: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        fetch_cifar("cifar100", root, None, f"https://{user}localhost/folder")
    assert "password" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "cret" not in str(refused.value)


def test_a_mirror_that_lies_leaves_what_came_from_the_host(
    server: tuple[str, Path], root: Path
) -> None:
    url, served = server
    source = loader_of("cifar100")
    root.mkdir()
    part = root / f"{source.filename}.part"
    part.write_bytes(b"an hour of the slow host")
    (served / source.filename).write_bytes(b"something else")
    with pytest.raises(DataError, match="came instead of the one with"):
        fetch_cifar("cifar100", root, None, url)
    assert part.read_bytes() == b"an hour of the slow host"
