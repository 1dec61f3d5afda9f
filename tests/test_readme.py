"""What the README and the pages in docs/ show runs, and is as they say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dia_repro
from dia_repro.cli.main import command
from dia_repro.cli.reference import reference
from tests.helpers import cli

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}
README, RESULTS = PAGES["README.md"], PAGES["docs/results.md"]
BLOCKS = re.findall(r"```python\n(.*?)```", "\n".join(PAGES.values()), re.DOTALL)
LONGEST = 170  # lines of the README: a stranger reads no more


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", PAGES[page]):
        address, _, heading = (target[0] or target[1]).partition("#")
        if address.startswith("http"):
            continue
        path = ((ROOT / page).parent / address).resolve() if address else ROOT / page
        assert path.exists(), address
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, (address, heading)


@pytest.mark.parametrize("block", [block for block in BLOCKS if "register_" not in block])
def test_python_blocks_run(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where the published database is
    names: dict[str, Any] = {}
    exec(block, names)
    for name, shape in re.findall(r"(\w+) = .*# \((\d+, \d+)\)", block):
        assert tuple(names[name].shape) == tuple(map(int, shape.split(", ")))
    frames = [value for value in names.values() if isinstance(value, pd.DataFrame)]
    assert all(map(len, frames))
    assert len(frames) == block.count("results.")


@pytest.mark.slow
def test_the_quick_tour_runs_line_by_line(tmp_path: Path) -> None:
    found = re.search(r"<!-- tour -->\n```sh\n(.*?)```", PAGES["docs/tutorial.md"], re.DOTALL)
    assert found is not None
    lines = found[1].splitlines()
    assert len(lines) > 5
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        done = cli(*arguments, cwd=tmp_path)
        assert (program, done.returncode) == ("dia-repro", 0), f"{line}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    assert (tmp_path / "tables" / "table5.tex").is_file()
    assert (tmp_path / "figures" / "table5-curves.svg").is_file()
    assert (tmp_path / "report.html").is_file()


def test_the_reference_is_that_of_the_commands() -> None:
    kept = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert kept == reference(), "python -m dia_repro.cli.reference > docs/commands.md"
    assert "(docs/commands.md)" in README


def test_the_reference_has_every_option_of_the_help(tmp_path: Path) -> None:
    for name in ("run", "runs watch", "explain", "db merge"):
        said = cli(*name.split(), "--help", cwd=tmp_path, COLUMNS="200").stdout
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", said)) - {"--help"}
        page = reference().split(f" `dia-repro {name}`\n")[1].split("\n## ")[0]
        assert options
        assert all(f"* `{option}" in page or f" / {option}`" in page for option in options)


def test_every_command_is_in_the_reference_once() -> None:
    groups = {name: getattr(entry, "commands", {}) for name, entry in command().commands.items()}
    names = [
        " ".join(("dia-repro", group, *rest))
        for group, under in groups.items()
        for rest in [(), *((name,) for name in under)]
    ]
    assert "dia-repro runs watch" in names
    assert re.findall(r"^##+ `(.*)`$", reference(), re.MULTILINE) == names


def test_symptoms_are_messages_of_the_program() -> None:
    package = Path(dia_repro.__file__).parent
    sources = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    symptoms = re.findall(r"^\| `(.*?)`", PAGES["docs/troubleshooting.md"], re.MULTILINE)
    assert len(symptoms) > 10
    for symptom in symptoms:
        # A figure in a message is written where it is made.
        assert symptom.replace("loss nan", "loss {loss}") in sources, symptom
