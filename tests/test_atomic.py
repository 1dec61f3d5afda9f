"""Files that are replaced: nothing but files, and through links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dia_repro.atomic import NoFileError, publish, write_file


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(os.devnull)])
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


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_written(there: bool, tmp_path: Path) -> None:
    file, link = tmp_path / "folder" / "file", tmp_path / "link"
    file.parent.mkdir()
    if there:
        file.write_bytes(b"old")
    link.symlink_to("folder/file")
    write_file(link, b"new")
    assert link.is_symlink()
    assert [path.read_bytes() for path in file.parent.iterdir()] == [b"new"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_the_longest_names_can_be_written(name: str, tmp_path: Path) -> None:
    write_file(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]
