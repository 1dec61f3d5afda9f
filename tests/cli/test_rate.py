"""`--rate`: experiments with another initial learning rate than the protocol's."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dia_repro.analysis.runs import finished_runs
from dia_repro.artifacts import ARTIFACTS
from dia_repro.data.registry import known_data
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request, rate_chosen_with
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import open_database
from tests.artifacts.courses import add
from tests.helpers import cli

HALF = Request(Protocol.DEMO, rate=0.22)


def dianet83(request: Request) -> Spec:
    return next(
        entry.spec(request)
        for entry in ARTIFACTS["table8"].entries
        if entry.row == "ResNet83" and entry.column.startswith("DIANet")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    spec = dianet83(HALF)
    assert spec.recipe.lr == 0.22
    assert spec.recipe.rate_in(1) == pytest.approx(0.066)
    for seed in range(6):
        add(database, spec, seed, [50.0 + seed] * 8)
    database.close()
    return tmp_path


def test_results_are_shown_by_their_rate_alone(folder: Path) -> None:
    shown = cli("show", "table8", "--rate", "0.22", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert "(demo protocol at rate 0.22 on digits: not the paper's data)" in shown.stdout
    assert "52.50±1.87 (6)" in shown.stdout
    usual = cli("show", "table8", cwd=folder)
    assert "52.50" not in usual.stdout
    words = " ".join(usual.stderr.split())
    assert "runs.db has 6 runs of these networks at another learning rate (0.22). --rate" in words


def test_the_seed_that_chose_the_protocols_rate_counts_at_another_one(folder: Path) -> None:
    done = cli("claims", "table8", "--rate", "0.22", "--format", "json", cwd=folder)
    (found,) = (c for c in json.loads(done.stdout) if c["compared"] == "ResNet83: DIANet")
    assert (found["n"], found["effect"], found["p"]) == (6, 100.0, 0.03125)
    assert "8 epochs, rate 0.22, " in found["conditions"]
    assert not found["papers_own"]


def test_plan_and_explain_name_the_rate(folder: Path) -> None:
    chosen = ("--rate", "0.22", "--seeds", "6", "--only", "DIANet ResNet83")
    plan = cli("plan", "table8", "--protocol", "demo", *chosen, "--format", "csv", cwd=folder)
    states = [row["state"] for row in csv.DictReader(io.StringIO(plan.stdout))]
    assert states == ["finished"] * 6, plan.stderr
    explained = cli("explain", "table8", "DIANet", "ResNet83", "--rate", "0.22", cwd=folder)
    assert "dia-repro run table8 --protocol demo" in explained.stdout
    again = "To train it again, in a new folder or with another --db: dia-repro run table8 "
    assert again in explained.stdout
    assert "--rate 0.22" in explained.stdout.partition(again)[2]
    assert "chose the" not in explained.stdout


def test_explain_says_which_seed_chose_the_protocols_rate(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for seed in range(3):
        add(database, dianet83(Request(Protocol.DEMO)), seed, [50.0] * 8)
    database.close()
    explained = cli("explain", "table8", "DIANet", "ResNet83", cwd=tmp_path)
    (line,) = (line for line in explained.stdout.splitlines() if "chose the" in line)
    assert line.split()[1] == "0"


def test_a_report_at_another_rate_does_not_replace_the_usual_one(folder: Path) -> None:
    usual = cli("report", "table8", "--no-html", cwd=folder)
    assert usual.returncode == 0, usual.stderr
    before = (folder / "tables" / "table8.csv").read_bytes()
    refused = cli("report", "table8", "--rate", "0.22", "--no-html", cwd=folder)
    assert refused.returncode == 2
    assert "--replace" in refused.stderr
    assert (folder / "tables" / "table8.csv").read_bytes() == before


def test_a_pages_commands_name_the_rate(folder: Path) -> None:
    done = cli("report", "table8", "--rate", "0.22", cwd=folder)
    assert done.returncode == 0, done.stderr
    page = html.unescape((folder / "report.html").read_text())
    commands = re.findall(r"dia-repro (?:run|explain) table8[^<\n\"]*", page)
    assert commands
    assert all("--rate 0.22" in command for command in commands), commands


def test_the_protocols_own_rate_is_no_other_experiment(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    spec = ARTIFACTS["table5"].entries[0].spec(Request(Protocol.PAPER))
    add(database, spec, 0, [50.0] * 180)
    database.close()
    named = cli("show", "table5", "--rate", "0.1", cwd=tmp_path)
    assert named.stdout == cli("show", "table5", cwd=tmp_path).stdout


def test_only_networks_without_bn_chose_a_rate_with_a_seed() -> None:
    assert rate_chosen_with(dianet83(Request(Protocol.DEMO))) == 0
    assert rate_chosen_with(dianet83(HALF)) is None
    with_bn = ARTIFACTS["table5"].entries[0].spec(Request(Protocol.DEMO, rate=0.44))
    assert rate_chosen_with(with_bn) is None


def test_titles_of_figures_name_what_departs_from_the_paper() -> None:
    figure = ARTIFACTS["figure6"]

    def title(protocol: Protocol, **changes: Any) -> str:
        return figure.departure([figure.entries[0].spec(Request(protocol, **changes))])

    assert title(Protocol.PAPER) == ""
    assert title(Protocol.PAPER, rate=0.02) == " at rate 0.02 (not the paper’s schedule)"
    assert title(Protocol.PAPER, epochs=9) == " (not the paper’s schedule)"
    assert title(Protocol.PAPER, rate=0.01) == " at rate 0.01 (not the paper’s schedule)"
    assert title(Protocol.DEMO) == " (demo protocol, not the paper’s data)"
    assert title(Protocol.DEMO, rate=0.2) == " at rate 0.2 (demo protocol, not the paper’s data)"
    # The other protocol's rate is no usual one.
    assert title(Protocol.DEMO, rate=0.1) == " at rate 0.1 (demo protocol, not the paper’s data)"
    on_digits: dict[str, Any] = {"data": known_data("digits"), "epochs": 8}
    assert title(Protocol.PAPER, **on_digits) == " (paper protocol, not the paper’s data)"
    slower = title(Protocol.PAPER, rate=0.01, **on_digits)
    assert slower == " at rate 0.01 (paper protocol, not the paper’s data)"


@pytest.mark.parametrize(
    ("protocol", "other", "epochs"), [(Protocol.PAPER, 0.02, 180), (Protocol.DEMO, 0.1, 8)]
)
def test_figures_take_a_protocols_rate_before_a_better_one(
    tmp_path: Path, protocol: Protocol, other: float, epochs: int
) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    figure = ARTIFACTS["figure6"]
    for rate, top1 in ((None, 50.0), (other, 60.0)):
        for spec in figure.specs(Request(protocol, rate=rate)).values():
            add(database, spec, 0, [top1] * epochs)
    chosen = finished_runs(database, figure)
    assert [run.best_top1 for runs in chosen.values() for run in runs] == [50.0] * 3


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "1e-400", "fast"])
def test_what_is_no_rate_is_refused(rate: str, tmp_path: Path) -> None:
    done = cli("plan", "table8", "--protocol", "demo", "--rate", rate, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "rate" in done.stderr
