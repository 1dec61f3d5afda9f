"""Who may import whom, and what a quick command must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dia_repro

PACKAGE = Path(dia_repro.__file__).parent
SEE_EVERYTHING = ("cli",)
LIBRARIES_WITH_TORCH = {"torch", "torchvision"}
# What each part may import of the package's other parts; execution and cli see everything.
ALLOWED = {
    "paper": set(),
    "experiments": {"paper"},
    "models": {"experiments"},
    "data": {"experiments"},
    "training": {"experiments", "models", "data"},
    "results": {"experiments"},
    "artifacts": {"experiments", "paper", "results"},
    "claims": {"analysis", "artifacts", "experiments", "models", "paper", "results"},
    "rendering": {"artifacts", "claims", "experiments", "paper"},
    "export": {"experiments", "rendering", "results"},
    "analysis": {"artifacts", "experiments", "models", "paper", "results", "training", "data"},
    "execution": {"artifacts", "experiments", "models", "data", "training", "results"},
}
ESCAPING = {"dia_repro.rendering.escaping", "dia_repro.rendering.escaping.visible"}
WITHOUT_TORCH = ("paper", "experiments", "results", "artifacts", "rendering", "export")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def parts_of(names: set[str]) -> set[str]:
    split = [name.split(".") for name in names]
    return {parts[1] for parts in split if parts[0] == "dia_repro" and len(parts) > 1}


def files(part: str) -> list[Path]:
    found = sorted((PACKAGE / part).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("part", ALLOWED)
def test_parts_import_only_what_they_may(part: str) -> None:
    everywhere = {"atomic", "errors", "interrupts", "processors", "__version__", part}
    for path in files(part):
        # Tasks of Slurm write lines for people, which are escaped as in a terminal.
        names = imports_of(path) - ESCAPING if part == "execution" else imports_of(path)
        unexpected = parts_of(names) - ALLOWED[part] - everywhere
        assert not unexpected, f"{path.relative_to(PACKAGE)} imports {unexpected}"


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_parts_that_know_nothing_of_torch(part: str) -> None:
    for path in files(part):
        assert not {name.split(".")[0] for name in imports_of(path)} & LIBRARIES_WITH_TORCH


def test_every_part_is_covered() -> None:
    parts = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert parts == {*ALLOWED, *SEE_EVERYTHING}


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"torch", "ray", "sklearn", "matplotlib", "sqlalchemy"}),
        (["run", "--help"], {"torch", "ray", "sklearn", "matplotlib", "sqlalchemy"}),
        (["show", "table5"], {"torch", "ray", "sklearn"}),
        (["runs", "list"], {"torch", "ray", "sklearn"}),
        (["run", "no-such-table"], {"torch", "ray", "sklearn"}),
    ],
)
def test_quick_commands_load_nothing_heavy(
    arguments: list[str], heavy: set[str], tmp_path: Path
) -> None:
    program = (
        "import sys\n"
        "from dia_repro.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('loaded', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(result.stdout.splitlines()[-1].split())
    assert "typer" in loaded
    assert not loaded & heavy
