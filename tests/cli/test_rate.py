"""`--rate`: experiments with another initial learning rate than the protocol's."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from dia_repro.artifacts import ARTIFACTS
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
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


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "1e-400", "fast"])
def test_what_is_no_rate_is_refused(rate: str, tmp_path: Path) -> None:
    done = cli("plan", "table8", "--protocol", "demo", "--rate", rate, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "rate" in done.stderr
