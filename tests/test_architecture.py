"""Import rules between the parts of the package, cycles, long functions, and light commands.

Imports are read from the source, those inside functions included: a dependency that is loaded late
is still a dependency. Imports for annotations only (`if TYPE_CHECKING:`) are dependencies of a
part on another, but make no cycle between modules.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import dia_repro

ROOT = Path(dia_repro.__file__).parent.parent
PACKAGE = ROOT / "dia_repro"
LIBRARIES_WITH_TORCH = {"torch", "torchvision"}
# What each part may import of the package's other parts.
ALLOWED = {
    "paper": set(),
    "experiments": {"data", "paper"},
    "models": {"experiments"},
    "data": {"experiments"},
    "training": {"experiments", "models", "data"},
    "results": {"experiments"},
    "artifacts": {"data", "experiments", "paper", "results"},
    "claims": {"analysis", "artifacts", "experiments", "models", "paper", "results"},
    "rendering": {"analysis", "artifacts", "claims", "experiments", "paper", "results"},
    "analysis": {"artifacts", "experiments", "models", "paper", "results", "training", "data"},
}
# These may import every part but `cli`, which only itself may import.
UNRESTRICTED = {"execution", "reports", "cli"}
WITHOUT_TORCH = ("paper", "experiments", "results", "artifacts", "rendering")
# Modules next to the parts, which every part may import, and which import no part; all but those
# of the public API.
SHARED = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__", "api"}
LONGEST_FUNCTION = 60
# What is still to be taken apart. Nothing is added here.
KNOWN_CYCLES: list[set[str]] = []


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules(*folders: str) -> dict[str, Path]:
    """Return the files of the folders by the names of their modules."""
    found = {}
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def nodes(tree: ast.AST, *, annotations: bool) -> Iterator[ast.AST]:
    """Walk a tree, on request without what is only for annotations."""
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if annotations or not for_types:
            yield node
            yield from nodes(node, annotations=annotations)


def imports_of(path: Path, *, annotations: bool = True) -> set[str]:
    """Return the names that a file imports: modules, and names inside them."""
    found: set[str] = set()
    for node in nodes(parsed(path), annotations=annotations):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts_of(names: set[str]) -> set[str]:
    split = [name.split(".") for name in names]
    return {parts[1] for parts in split if parts[0] == "dia_repro" and len(parts) > 1}


PARTS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("part", [part for part in PARTS if part not in UNRESTRICTED])
def test_parts_import_only_what_they_may(part: str) -> None:
    own = {"__version__", part}
    for path in sorted((PACKAGE / part).rglob("*.py")):
        unexpected = parts_of(imports_of(path)) - ALLOWED[part] - own - SHARED
        assert not unexpected, f"{path.relative_to(ROOT)} imports {unexpected}"


def test_nothing_imports_the_command_line() -> None:
    for name, path in modules("dia_repro").items():
        if not name.startswith("dia_repro.cli") and name != "dia_repro.__main__":
            assert "cli" not in parts_of(imports_of(path)), f"{name} imports cli"


def test_shared_modules_import_no_part() -> None:
    for name in SHARED:
        assert not parts_of(imports_of(PACKAGE / f"{name}.py")) & {*PARTS}, name


def test_the_package_needs_neither_tests_nor_benchmarks() -> None:
    for name, path in modules("dia_repro").items():
        tops = {imported.partition(".")[0] for imported in imports_of(path)}
        assert not tops & {"tests", "benchmarks", "examples"}, name


@pytest.mark.parametrize("part", [part for part in WITHOUT_TORCH if part in PARTS])
def test_parts_that_know_nothing_of_torch(part: str) -> None:
    for path in sorted((PACKAGE / part).rglob("*.py")):
        assert not {name.split(".")[0] for name in imports_of(path)} & LIBRARIES_WITH_TORCH


def dependencies() -> dict[str, set[str]]:
    """Return which modules each module imports, sooner or later.

    The package itself is left out: what it imports is the public API, and it is imported for its
    version.
    """
    known = modules("dia_repro", "benchmarks")
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        imported = imports_of(path, annotations=False)
        # A name is a module's own, or one of a name inside that module.
        found = {n if n in known else n.rpartition(".")[0] for n in imported}
        graph[name] = (found & known.keys()) - {"dia_repro", name}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules of which each reaches each other."""

    def reached_from(name: str) -> set[str]:
        seen: set[str] = set()
        left = [name]
        while left:
            new = graph.get(left.pop(), set()) - seen
            seen |= new
            left += new
        return seen

    reached = {name: reached_from(name) for name in graph}
    groups = [
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
        if name in reached[name]
    ]
    return [set(group) for group in dict.fromkeys(groups)]


def test_no_modules_import_each_other_in_a_circle() -> None:
    unknown = [cycle for cycle in cycles(dependencies()) if cycle not in KNOWN_CYCLES]
    assert not unknown, unknown


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert cycles(graph) == [{"b", "c"}]


def test_no_function_is_long() -> None:
    long = {
        f"{module}.{node.name}": length
        for module, path in modules("dia_repro", "benchmarks").items()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert not long, long


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"torch", "ray", "sklearn", "matplotlib", "sqlalchemy", "pandas", "scipy"}),
        (["run", "--help"], {"torch", "ray", "sklearn", "matplotlib", "sqlalchemy", "pandas"}),
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
