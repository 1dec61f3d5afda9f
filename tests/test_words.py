"""The project speaks plainly: words not used, docstrings as sentences, variables as nouns."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _modules(*folders: str) -> dict[Path, str]:
    return {
        path: path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted(ROOT.glob(f"{folder}/**/*.py"))
    }


CODE = _modules("dia_repro", "benchmarks", "examples")
TESTS = _modules("tests")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]

# Private or literary words, each with what is written instead.
UNUSED = {
    r"anew": "again",
    r"as it were|for ever|for want of|hence|in vain|lest|such as agree|thereof|whence": "plainly",
    r"beside": "next to, concurrently, in addition to",
    r"blows? up|explod\w+|explosions?": "diverged, divergence; the paper's is in quotation marks",
    r"surroundings": "environment, provenance",
    r"contenders?|crew|ledger": "candidate, process group, run store",
    r"in which way": "execution mode",
    r"nobody|somebody|whoever": "the thing's name",
    r"of (?:its|one's|their) own": "own",
    r"reckon\w*": "estimated, estimate",
    r"so many": "the number",
    r"varied": "augmented",
}
WORDS = re.compile("|".join(rf"\b(?:{words})\b" for words in UNUSED), re.IGNORECASE)
QUOTED = re.compile(r"“[^”]*”|‘[^’]*’")
FRAGMENT = re.compile(r"(?:Of|Whether|How|Where|Who|What)\b")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _texts() -> Iterator[tuple[str, str]]:
    """Yield each line of a page, and each comment and text of a module, with where it is."""
    for path in PAGES:
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from ((f"{path.relative_to(ROOT)}:{n}", line) for n, line in enumerate(lines, 1))
    for path, content in CODE.items():
        for token in tokenize.generate_tokens(io.StringIO(content).readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                yield f"{path.relative_to(ROOT)}:{token.start[0]}", token.string


def test_words_that_are_not_used() -> None:
    found = [
        f"{where}: {match[0]!r}"
        for where, text in _texts()
        for match in WORDS.finditer(QUOTED.sub("", text))
    ]
    assert not found, UNUSED


def test_docstrings_begin_as_sentences() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'the module')}"
        for path, content in CODE.items()
        for node in ast.walk(ast.parse(content))
        if isinstance(node, DOCUMENTED) and FRAGMENT.match(ast.get_docstring(node) or "")
    ]
    assert not found


def _named_one(content: str) -> list[int]:
    """Return the lines on which a variable, parameter or loop's variable is named `one`."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(content))
        if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == "one")
        or (isinstance(node, ast.arg) and node.arg == "one")
        or (isinstance(node, ast.alias) and node.asname == "one")
        or (isinstance(node, ast.ExceptHandler | ast.MatchAs) and node.name == "one")
    ]


def test_variables_are_named_after_what_they_stand_for() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: 'one'"
        for path, content in (CODE | TESTS).items()
        for line in _named_one(content)
    ]
    assert not found


@pytest.mark.parametrize(
    "binding",
    [
        "for one in runs: pass",
        "for number, (one, other) in enumerate(pairs): pass",
        "[one.seed for one in runs]",
        "one = 1",
        "one, other = pair",
        "one: int",
        "one += 1",
        "print(one := 1)",
        "with open(path) as one: pass",
        "import json as one",
        "try: pass\nexcept ValueError as one: pass",
        "match run:\n    case [one]: pass",
        "def f(one): pass",
        "async def f(*one): pass",
        "lambda *, one=1: 1",
    ],
)
def test_every_way_to_name_a_variable_one_is_found(binding: str) -> None:
    assert _named_one(f"run = 1\n{binding}") != []
    assert _named_one("print(run.one, 'one', f(one=1))") == []
