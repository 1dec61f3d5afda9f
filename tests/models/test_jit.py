"""Compiled code on disk is a convenience: without it, or with damaged files, the work is done."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dia_repro
from tests.helpers import clean_environment, read_only, with_mounts

PACKAGE = Path(dia_repro.__file__).parent
SOURCE = """
from dia_repro.models.fast.jit import cached_njit

@cached_njit(nogil=True)
def add(a, b):
    return a + b
"""
INDEX, CODE = "*.nbi", "*.nbc"
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "nonsense": lambda _: b"cats and dogs",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "sums.py"
    path.write_text(SOURCE)
    return path


def load(source: Path) -> Any:
    """The function as a new process has it, for which nothing is compiled yet."""
    spec = importlib.util.spec_from_file_location("sums", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.add


def read_from_disk(source: Path) -> bool:
    """Compute, by code that was found on disk or not."""
    add = load(source)
    assert add(2, 3) == 5
    return list(add.stats.cache_hits.values()) == [1]


def kept(source: Path, pattern: str) -> Path:
    (path,) = (source.parent / "__pycache__").glob(f"sums.add{pattern}")
    return path


def test_code_is_compiled_once(source: Path) -> None:
    assert [read_from_disk(source) for _ in range(3)] == [False, True, True]


@pytest.mark.parametrize("pattern", [INDEX, CODE])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_damaged_files_are_written_again(
    source: Path, pattern: str, damage: Callable[[bytes], bytes]
) -> None:
    read_from_disk(source)
    path = kept(source, pattern)
    path.write_bytes(damage(path.read_bytes()))
    assert [read_from_disk(source) for _ in range(2)] == [False, True]


def test_a_changed_byte_of_machine_code_is_noticed(source: Path) -> None:
    read_from_disk(source)
    path = kept(source, CODE)
    content = bytearray(path.read_bytes())
    content[content.index(b"ELF") + 200] ^= 0xFF
    path.write_bytes(content)
    assert [read_from_disk(source) for _ in range(2)] == [False, True]


def test_files_that_cannot_be_replaced_are_passed_over(source: Path) -> None:
    read_from_disk(source)
    index = kept(source, INDEX)
    index.unlink()
    index.mkdir()
    assert [read_from_disk(source) for _ in range(2)] == [False, False]


def test_without_a_folder_nothing_is_kept(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    (source.parent / "__pycache__").write_text("no folder")
    assert [read_from_disk(source) for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    "variables",
    [
        {"XDG_CACHE_HOME": ""},
        {"HOME": "~"},
        pytest.param({"HOME": "home"}, marks=pytest.mark.exhaustive),
        {"NUMBA_CACHE_DIR": "kept", "XDG_CACHE_HOME": "/dev/null"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_nothing_of_the_working_folder_is_unpickled(
    source: Path, variables: dict[str, str], tmp_path: Path
) -> None:
    """Else code that lies there would run."""
    (source.parent / "__pycache__").write_text("no folder")
    (tmp_path / "here").mkdir()
    program = (
        "import sys\n"
        f"sys.path.append({str(source.parent)!r})\n"
        "from sums import add\n"
        "assert add(2, 3) == 5\n"
        "print(add.stats.cache_path)"
    )
    environment = clean_environment(**variables)
    for name in {"XDG_CACHE_HOME", "NUMBA_CACHE_DIR"} - set(variables):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path / "here",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("None\n", "")
    assert list((tmp_path / "here").iterdir()) == []


def test_kernels_are_loaded_where_nothing_can_be_written(tmp_path: Path) -> None:
    program = "import dia_repro.analysis.tree_kernel, dia_repro.models.fast.kernels"
    done = subprocess.run(
        [*with_mounts(read_only(PACKAGE)), sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=clean_environment(HOME="/dev/null", XDG_CACHE_HOME="/dev/null"),
    )
    assert done.returncode == 0, done.stderr


def test_no_function_is_kept_without_the_guard() -> None:
    guard = PACKAGE / "models" / "fast" / "jit.py"
    files = [path for path in PACKAGE.rglob("*.py") if path != guard]
    assert not [path for path in files if "cache=True" in path.read_text(encoding="utf-8")]
