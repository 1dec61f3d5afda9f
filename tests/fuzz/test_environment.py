"""Settings of the environment with odd values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.commands import check_outcome, run_command
from tests.fuzz.settings import fuzz, quick, thorough
from tests.fuzz.test_command_lines import ODD

COMMANDS = [
    ("runs", "list"),
    ("show", "table5"),
    ("show", "table5", "--format", "csv"),
    ("data", "check", "cifar10"),
    ("run", "--help"),
    ("--help",),
    ("frobnicate",),
]
SIZES = ["0", "1", "2", "-1", "²", "٣", "1e3", "9" * 20, "9" * 5000, "10000000", " 80", "80"]
TERMINALS = ["", "dumb", "unknown", "xterm-256color", "nonsense", "\x1b[31m"]
# A URL could name a host, which would be waited for.
values = st.sampled_from([text for text in ODD if "//" not in text]) | st.text(
    st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), max_size=10
)
environments = st.fixed_dictionaries(
    {},
    optional={
        "DIA_REPRO_DB": values,
        "DIA_REPRO_DATA": values,
        "NO_COLOR": values,
        "FORCE_COLOR": values,
        "COLUMNS": st.sampled_from(SIZES) | values,
        "LINES": st.sampled_from(SIZES) | values,
        "TERM": st.sampled_from(TERMINALS) | values,
    },
)
cases = st.tuples(st.sampled_from(COMMANDS), environments)


def check_case(place: Path, case: tuple[tuple[str, ...], dict[str, str]]) -> None:
    command, environment = case
    check_outcome(run_command(*command, cwd=place, program=None, **environment), case)


def test_any_environment(tmp_path: Path) -> None:
    fuzz(quick(60), cases, lambda case: check_case(tmp_path, case))


@pytest.mark.exhaustive
def test_any_environment_at_length(tmp_path: Path) -> None:
    fuzz(thorough(3000), cases, lambda case: check_case(tmp_path, case))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("command", [("--help",), ("show", "table5")])
def test_a_terminal_of_any_size(size: str, command: tuple[str, ...], tmp_path: Path) -> None:
    check_case(tmp_path, (command, {"COLUMNS": size, "LINES": size}))
    outcome = run_command(*command, cwd=tmp_path, COLUMNS=size, NO_COLOR="1", TERM="dumb")
    assert outcome.code == 0
    assert "\x1b" not in outcome.stdout
