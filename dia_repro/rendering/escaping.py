"""Escapes for text that others chose (names of folders, of hosts, of errors), one per format."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

# Control characters but tab and line feed, marks that turn the direction of writing, separators
# that some terminals take for line ends, and halves of characters, which are no text.
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# https://owasp.org/www-community/attacks/CSV_Injection, with full-width forms; NUL: ASVS 1.2.10
FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n\0")
MARKDOWN_SPECIAL = re.compile(r"[\\`*_<&|~]|(?<=\])\(")
LATEX_SPECIAL = {
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "–": "--",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
}
LATEX_PATTERN = re.compile("|".join(map(re.escape, LATEX_SPECIAL)))
LATEX_UNKNOWN = re.compile(r"[^\x20-\x7e\u00c0-\u017f]")


def visible(text: str) -> str:
    r"""Return a text for a terminal or a picture: control characters as \x1b or \u202e."""

    def code(match: re.Match[str]) -> str:
        number = ord(match[0])
        return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"

    return CONTROL.sub(code, text)


def json_text(text: str) -> str:
    r"""Return JSON in which control characters are \u codes, which mean the same."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def without_formula(text: str) -> str:
    """Return a text for a CSV field; an apostrophe keeps spreadsheets from computing it."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def markdown(text: str) -> str:
    """Return a text for Markdown, in one line and without markup, tables' bars included."""
    return MARKDOWN_SPECIAL.sub(lambda match: f"\\{match[0]}", visible(" ".join(text.split("\n"))))


def latex(text: str) -> str:
    r"""Return a text for LaTeX; characters that pdfLaTeX's fonts lack are written as [U+202E]."""
    escaped = LATEX_PATTERN.sub(lambda match: LATEX_SPECIAL[match[0]], text)
    escaped = LATEX_UNKNOWN.sub(lambda match: f"[U+{ord(match[0]):04X}]", escaped)
    # After the \\ of a row these would be its options.
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith(("[", "*")) else escaped


@cache
def template(name: str) -> Template:
    """Return a template of `rendering/templates/` that escapes every value put into it.

    Args:
        name: its last suffix but one, html, md or tex, names the format.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    def html(value: object) -> object:  # what is markup already has been through here
        return value if hasattr(value, "__html__") else visible(str(value))

    formats: dict[str, dict[str, Any]] = {
        "html": {"autoescape": True, "finalize": html},
        "md": {"finalize": lambda value: markdown(str(value))},
        "tex": {
            "finalize": lambda value: latex(str(value)),
            "block_start_string": "<%",
            "block_end_string": "%>",
            "variable_start_string": "<<",
            "variable_end_string": ">>",
            "comment_start_string": "<#",
            "comment_end_string": "#>",
        },
    }
    environment = Environment(  # noqa: S701 escapes by `finalize` where it is not HTML
        loader=PackageLoader("dia_repro.rendering"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **formats[name.split(".")[-2]],
    )
    return environment.get_template(name)
