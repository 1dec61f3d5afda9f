"""Command lines of all kinds: an exit code that is documented, at most one line of complaint."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import strategies as st

from dia_repro.analysis import divergence_probe
from dia_repro.cli import main
from dia_repro.data.sources.cifar import loader_of
from dia_repro.execution import estimates
from dia_repro.results import writer
from dia_repro.results.database import open_database
from tests.fuzz.commands import check_outcome, run_command
from tests.fuzz.settings import fuzz, quick, thorough
from tests.helpers import tiny_spec, write_folder

# They would train, download, or stay until someone presses Ctrl-C.
WITH_A_BRAKE: dict[tuple[str, ...], list[str]] = {("run",): ["--dry-run"]}
LEFT_OUT = {("runs", "watch")}

ODD = [
    *("", " ", "-", "--", "---", "-x", "--=", "=", "--db", "--no-such-option", "--db=", "-1", "0"),
    *("1", "3", "9" * 30, "9" * 5000, "1e309", "nan", "-inf", "0x10", "１２", "²", "1.5", "1,5"),
    *("[red]", "[/]", "[/red]x", "[bold", "\\[x]", "{}", "%s", "%", "${HOME}", "$(x)", "*", "?"),
    *("\x1b[31m", "\r", "\n", "a\nb", "\t", "\x07", "\u202e", "\ufeff", "☃", "é" * 300, "\udcff"),
    *("~", "~nobody-here", ".", "..", "./", "nowhere/x", "/dev/null", "/proc/nowhere", "/dev/full"),
    *(
        "a" * 5000,
        "file:x",
        "://",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "postgresql://",
    ),
    *("mysql://x", "http://[", "folder:", "folder:.", "folder:~nobody-here", "folder:[/]"),
    *("folder:" + "a" * 5000, "folder:pets", "folder:nowhere", "folder:text", "pets", "text"),
    *("table5", "TABLE8", "table", "all", "figure5", "digits", "cifar10", "imagenet", "runs.db"),
    *(
        "demo",
        "paper",
        "fp32",
        "tf32",
        "json",
        "csv",
        "cpu",
        "cuda",
        "DIANet",
        "--help",
        "--version",
    ),
]
words = st.sampled_from(ODD) | st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=12
)


# What a command's arguments and options stand for, so that most of a line is meant.
PLACES = ["nowhere", "pets", "text", "new"]
FITTING = {
    "artifacts": ["table5", "table8", "figure6", "all"],
    "artifact": ["table5", "table3", "figure5"],
    "name": ["cifar10", "cifar100", "imagenet", "digits", "folder:pets", "folder:text"],
    "dataset": ["digits", "cifar10", "imagenet", "folder:pets", "folder:nowhere", "folder:text"],
    "only": ["DIANet", "ResNet83", "SENet ResNet83"],
    "db": ["runs.db", "text", "nowhere.db", "pets", "sqlite:///runs.db", "postgresql://[/x"],
    "spec": ["text", "spec.json", "pets"],
    "protocol": ["demo", "paper"],
    "precision": ["fp32", "tf32", "bf16"],
    "device": ["cpu", "cuda"],
    "format_": ["table", "csv", "json"],
    "suite": ["cpu", "gpu"],
    "data": PLACES,
    "tables": PLACES,
    "figures": PLACES,
    "out": PLACES,
}
NUMBERS = ["1", "2", "8", "32", "1000", "9" * 18, "9" * 25]
Command = tuple[tuple[str, ...], list[Any]]


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[Command]:
    """Every command with its arguments and options, whatever there will be."""
    yield path, group.params
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


COMMANDS = [
    (path, options)
    for path, options in commands(typer.main.get_command(main.app))
    if path not in LEFT_OUT
]


def fitting(param: Any) -> st.SearchStrategy[str]:
    """Values that an argument or option may be meant to have."""
    return st.sampled_from(FITTING.get(param.name, NUMBERS))


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    path, params = draw(st.sampled_from(COMMANDS))
    line: list[str] = []
    for param in params:
        positional = not param.opts[0].startswith("-")
        if not positional and draw(st.integers(0, 4)):
            continue
        flag = getattr(param, "is_flag", False)
        value = [] if flag else [draw(fitting(param))]
        line += value if positional else [draw(st.sampled_from(param.opts)), *value]
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 1, 2, 3]))):
        place = draw(st.integers(0, len(line)))
        line[place : place + draw(st.integers(0, 1))] = [draw(words)]
    return [*path, *WITH_A_BRAKE.get(path, []), *line]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a database, images and a text; where nothing trains or downloads."""
    monkeypatch.setattr(estimates, "seconds_per_image", lambda *_: 1e-3)
    monkeypatch.setattr(
        divergence_probe,
        "initial_steps",
        lambda *_: divergence_probe.InitialSteps(1.0, (2.0, math.nan)),
    )
    for source in map(loader_of, ("cifar10", "cifar100")):
        monkeypatch.setattr(source, "url", "http://127.0.0.1:9/nothing-listens-here")
    here = tmp_path / "here"
    here.mkdir()
    write_folder(here / "pets", {"train": 2, "val": 1})
    (here / "text").write_text("text\n")
    (here / "spec.json").write_text(tiny_spec().canonical_json())
    spec = tiny_spec()
    database = open_database(str(tmp_path / "pristine.db"), create=True)
    writer.ensure_runs(database, {spec.spec_id: spec.canonical_json()}, [0])
    database.close()
    return here


def check_line(place: Path, line: list[str]) -> None:
    shutil.copyfile(place.parent / "pristine.db", place / "runs.db")
    check_outcome(run_command(*line, cwd=place), line)


def test_any_command_line(place: Path) -> None:
    fuzz(quick(80), command_lines(), lambda line: check_line(place, line))


@pytest.mark.exhaustive
def test_any_command_line_at_length(place: Path) -> None:
    fuzz(thorough(5000), command_lines(), lambda line: check_line(place, line))


@pytest.mark.parametrize(
    "line",
    [
        ["data", "check", "folder:~nobody-here"],
        ["data", "check", "folder:" + "a" * 5000],
        ["data", "check", "folder:pets", "--data", "\udcff"],
        ["show", "table5", "--dataset", "folder:\udcff"],
        ["run", "--dry-run", "table5", "--protocol", "demo", "--seeds", "9" * 18],
        ["report", "table5", "--tables", "é" * 300],
        ["db", "upgrade", "--db", "é" * 300],
    ],
    ids=lambda line: " ".join(line)[:30].encode(errors="replace").decode(),
)
def test_lines_that_were_tracebacks_or_never_ended(place: Path, line: list[str]) -> None:
    check_line(place, line)
    assert run_command(*line, cwd=place).code in {1, 2, 3}
