"""`claims`: for people in 100 columns, for programs as records."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dia_repro.artifacts.selection import Wanted
from dia_repro.claims.evaluate import evaluate_claims
from dia_repro.claims.verdicts import (
    AGAINST_MARGIN,
    RECORD_FIELDS,
    ClaimVerdict,
    Epoch,
    Evidence,
    Verdict,
    verdict_records,
)
from dia_repro.paper.claims import all_claims
from dia_repro.rendering.claims import claims_table, describe_evidence, explained
from dia_repro.results.database import open_database
from dia_repro.results.schema import ProvenanceRow
from tests.claims.results import DEMO, MOMENT, as_printed
from tests.helpers import cli, one_line
from tests.results.rows import PROVENANCE

NUMBER = r"[+−]\d+\.\d\d"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten seeds of Table 5's networks and one of Table 8's, all of the demo, of two versions."""
    database = open_database(str(tmp_path / "runs.db"), create=True)
    as_printed(database, ["table5-depth"], 10, request=DEMO)
    as_printed(database, ["table8-diverge", "table8-trains"], 4, request=DEMO)
    with database.writing() as session:
        for run, version in enumerate(("2.11", "2.12"), start=1):
            ended = {"started_at": MOMENT, "ended_at": MOMENT, "test_images": None}
            attempt = {**PROVENANCE, **ended, "torch": version}
            session.add(ProvenanceRow(run_id=run, **attempt))
    database.close()
    return tmp_path


def test_nothing_run_is_no_error(tmp_path: Path) -> None:
    done = cli("claims", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "30 claims: 6 supported, 1 refuted, 0 undecided, 23 not run." in done.stderr
    assert "dia-repro run all" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_table_fits_100_columns_and_has_every_claim_with_its_evidence(folder: Path) -> None:
    done = cli("claims", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    for claim in all_claims():
        assert re.search(rf"^{claim.name}\b", done.stdout, re.MULTILINE)
    depth = done.stdout.split("\ntable5-depth")[1].split("\ntable5-parameters")[0]
    assert "supported" in depth
    assert re.search(rf"{NUMBER} \[{NUMBER},\s+{NUMBER}\]", depth)
    assert "(the one of 4 that" in depth
    words = " ".join(done.stderr.split())
    assert "Not based on the paper's data and schedule (demo protocol): " in words
    assert words.endswith("Runs of one cell differ in torch (2, 2.11, 2.12): 'explain' says which.")


@pytest.mark.parametrize("width", [80, 60])
def test_a_narrow_terminal_loses_nothing(folder: Path, width: int) -> None:
    database = open_database(str(folder / "runs.db"), create=False)
    records = verdict_records(evaluate_claims(database, Wanted()))
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(claims_table(records))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= width
    assert text.count("…") == 0
    assert all(claim.name[:8] in text for claim in all_claims())


@pytest.mark.slow
def test_records_for_programs(folder: Path) -> None:
    as_json = cli("claims", "--format", "json", cwd=folder)
    records = json.loads(as_json.stdout)
    assert {tuple(record) for record in records} == {RECORD_FIELDS}
    assert list(dict.fromkeys(r["claim"] for r in records)) == [c.name for c in all_claims()]
    depth = [record for record in records if record["claim"] == "table5-depth"]
    assert [record["n"] for record in depth] == [10] * 4
    assert [record["main"] for record in depth].count(True) == 1
    assert {len(record["runs"].split()) for record in depth} == {20}
    rows = list(csv.DictReader(io.StringIO(cli("claims", "--format", "csv", cwd=folder).stdout)))
    assert [row["compared"] for row in rows] == [record["compared"] for record in records]
    assert cli("claims", "--format", "json", cwd=folder).stdout == as_json.stdout


def test_help_has_an_example(tmp_path: Path) -> None:
    done = cli("claims", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Example: dia-repro claims" in done.stdout


@pytest.mark.slow
def test_options_choose_the_runs_as_show_does(folder: Path) -> None:
    def verdict(*arguments: str) -> str:
        done = cli("claims", "--format", "json", *arguments, cwd=folder)
        records = json.loads(done.stdout)
        return next(
            str(record["verdict"]) for record in records if record["claim"] == "table5-depth"
        )

    assert verdict("--protocol", "demo") == "supported"
    assert verdict("--protocol", "paper") == "not run"
    assert verdict("--epochs", "3") == "not run"
    wrong = cli("claims", "--dataset", "mnist", cwd=folder)
    assert wrong.returncode == 2
    assert one_line(wrong.stderr)


def evidence(compared: str, effect: float | None, unit: str, n: int, **others: Any) -> Evidence:
    return Evidence(compared=compared, effect=effect, unit=unit, n=n, **others)


@pytest.mark.parametrize(
    ("comparison", "text"),
    [
        (
            evidence(
                "a − b",
                -0.5,
                "points",
                7,
                in_favour=False,
                low=-1.0,
                high=0.25,
                p=0.0625,
                p_corrected=0.125,
            ),
            "a − b\n−0.50 [−1.00, +0.25] points, n=7, p=0.062, 0.12 after Holm",
        ),
        (
            evidence(
                "a − b",
                1.5,
                "points",
                3,
                in_favour=True,
                low=1.0,
                high=2.0,
                p=0.01,
                images_low=-0.5,
                images_high=3.5,
                test="Student's t",
            ),
            (
                "a − b\n+1.50 [+1.00, +2.00] points, n=3, p=0.01 (Student's t), "
                "with other test images, too: [−0.50, +3.50] at most"
            ),
        ),
        (evidence("a", 100.0, "% diverged", 1, in_favour=True), "a\n100 % diverged, n=1"),
        (
            evidence("a", 0.2, "points", 3, in_favour=True, low=0.004, high=0.3, p=0.0499),
            "a\n+0.20 [+0.004, +0.30] points, n=3, p=0.0499",
        ),
        (
            evidence("a", -0.2, "points", 3, in_favour=True, low=-0.3, high=-0.0012, p=0.04996),
            "a\n−0.20 [−0.30, −0.001] points, n=3, p=0.04996",
        ),
        (
            evidence("a", 1.0, "points", 3, in_favour=True, low=-0.001, high=2.0, p=0.0503),
            "a\n+1.00 [0.00, +2.00] points, n=3, p=0.0503",
        ),
        (
            evidence("a", 1.0, "points", 3, in_favour=True, p=0.05),
            "a\n+1.00 points, n=3, p=0.05",
        ),
        (
            evidence(
                "a − b", 0.1, "points", 25, in_favour=True, low=0.1, high=0.1, p=1e-5, note="so"
            ),
            "a − b\n+0.10 [+0.10, +0.10] points, n=25, p<0.001, so",
        ),
        (
            evidence("a − b", -0.001, "points", 2, in_favour=False, low=-0.3, high=0.0049),
            "a − b\n0.00 [−0.30, 0.00] points, n=2",
        ),
        (evidence("a − b", 0.0, "MMAC", 0, in_favour=True), "a − b\n0 MMAC"),
        (
            evidence("a − b", -0.4, "% of layers", 1, in_favour=True, low=float("-inf"), high=10.2),
            "a − b\n0 [−inf, +10] % of layers, n=1",
        ),
        (
            evidence("a", 83.3, "% trained", 6, in_favour=True, low=35.9, high=99.58),
            "a\n83 [36, 99.6] % trained, n=6",
        ),
        (
            evidence("a", 100.0, "% trained", 6, in_favour=True, low=54.1, high=100.0),
            "a\n100 [54, 100] % trained, n=6",
        ),
        (evidence("a", -95.8, "% fewer", 0, in_favour=False), "a\n95.80 % more"),
        (evidence("a", 1.13, "% fewer", 0, in_favour=True), "a\n1.13 % fewer"),
        (
            evidence("a ÷ b", -0.0177, "powers of ten", 7, in_favour=False, low=-0.03, high=-0.001),
            "a ÷ b\n×0.96 [0.93, 0.998], n=7",
        ),
        (
            evidence("a ÷ b", 0.0, "powers of ten", 7, in_favour=False, low=-1000.4, high=0.31),
            "a ÷ b\n×1 [1e-1000, 2], n=7",
        ),
        (evidence("a", None, "points", 0, in_favour=None), "–"),
        (evidence("a", None, "points", 0, in_favour=None, note="so"), "so"),
    ],
)
def test_evidence_in_words(comparison: Evidence, text: str) -> None:
    assert describe_evidence(undecided(comparison)) == text


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ("", "r In this comparison alone 6 seeds would find a difference of 1.50 points (80 %"),
        (AGAINST_MARGIN, "r"),  # a distance from the margin may be larger than the margin
    ],
)
def test_what_so_many_seeds_can_find_in_words(note: str, words: str) -> None:
    values = {"in_favour": True, "detectable": 1.5, "note": note}
    unclear = evidence("a − b", 0.1, "points", 6, p=0.2, **values)
    assert explained(undecided(unclear)).removesuffix(" power).") == words
    clear = evidence("a − b", 0.1, "points", 6, p=0.03, **values)  # others leave the claim open
    assert explained(undecided(clear)) == "r"


def undecided(comparison: Evidence) -> dict[str, object]:
    verdict = ClaimVerdict(
        claim="c",
        artifact="table1",
        text="t",
        where="p",
        verdict=Verdict.UNDECIDED,
        evidence=(comparison,),
        main=0,
        reason="r",
        by=Epoch.BEST,
        otherwise=None,
        conditions="",
        papers_own=True,
    )
    (record,) = verdict_records([verdict])
    return record
