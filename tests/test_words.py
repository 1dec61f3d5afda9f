"""The project speaks plainly: words that are not used, and docstrings that are sentences."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = {
    path: path.read_text(encoding="utf-8")
    for folder in ("dia_repro", "benchmarks", "examples")
    for path in sorted(ROOT.glob(f"{folder}/**/*.py"))
}
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


def test_docstrings_begin_as_sentences_and_loops_name_the_thing() -> None:
    found = []
    for path, content in CODE.items():
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, DOCUMENTED) and FRAGMENT.match(ast.get_docstring(node) or ""):
                found.append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'the module')}")
            if isinstance(node, ast.For | ast.comprehension):
                names = [name for name in ast.walk(node.target) if isinstance(name, ast.Name)]
                found += [
                    f"{path.relative_to(ROOT)}:{name.lineno}: 'one' in a loop"
                    for name in names
                    if name.id == "one"
                ]
    assert not found
