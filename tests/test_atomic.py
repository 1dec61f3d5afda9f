"""Files that are replaced: nothing but files, and through links only where a user names them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dia_repro.atomic import NoFileError, open_own, publish, write_file
from dia_repro.rendering.files import TargetError, write_bytes


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_what_is_no_file_is_not_replaced(make: object, tmp_path: Path) -> None:
    target, new = tmp_path / "x", tmp_path / "new"
    make(target)  # type: ignore[operator]
    before = target.lstat()
    new.write_bytes(b"new")
    with pytest.raises(NoFileError):
        write_file(target, b"new")
    with pytest.raises(NoFileError):
        publish(new, target)
    assert target.lstat() == before
    assert sorted(tmp_path.iterdir()) == [new, target]


@pytest.mark.parametrize("make", [os.symlink, os.link, lambda _, path: os.mkfifo(path)])
def test_what_others_have_put_there_is_not_written_to(
    make: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    other, name = tmp_path / "other", tmp_path / "name"
    other.write_bytes(b"other")
    make(other, name)
    with pytest.raises(NoFileError):
        open_own(name, "rb+").close()
    assert other.read_bytes() == b"other"


def test_links_to_no_file_make_none(tmp_path: Path) -> None:
    (tmp_path / "name").symlink_to("other")
    with pytest.raises(NoFileError):
        open_own(tmp_path / "name", "ab").close()
    with pytest.raises(NoFileError, match="it is a link"):
        publish(tmp_path / "name", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_that_a_user_names_stays_and_its_file_is_written(
    there: bool, tmp_path: Path
) -> None:
    file, link = tmp_path / "folder" / "file", tmp_path / "link"
    file.parent.mkdir()
    if there:
        file.write_bytes(b"old")
    link.symlink_to("folder/file")
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert [path.read_bytes() for path in file.parent.iterdir()] == [b"new"]


def test_a_link_to_a_device_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(os.devnull)
    with pytest.raises(TargetError, match="device"):
        write_bytes(link, b"new")
    assert link.is_symlink()


def test_other_links_are_replaced_and_not_followed(tmp_path: Path) -> None:
    """Somebody else may have put them there."""
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"old")
    link.symlink_to(file)
    write_file(link, b"new")
    assert not link.is_symlink()
    assert (file.read_bytes(), link.read_bytes()) == (b"old", b"new")


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_the_longest_names_can_be_written(name: str, tmp_path: Path) -> None:
    write_file(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]
