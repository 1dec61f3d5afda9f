"""The repository's results are those of its runs, by the commands in docs/results.md."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

from dia_repro.claims.verdicts import Verdict
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.claims import effect_with_interval, p_values, with_images
from dia_repro.rendering.records import Record
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import all_runs, run_detail, spec_json
from dia_repro.results.schema import State
from tests.helpers import cli
from tests.test_readme import RESULTS, ROOT

FOLDERS = ("tables", "figures")
# What draws pictures, and the page that has them in it: others place a line elsewhere by a hair.
DRAWN_BY = {"matplotlib": "3.11.2", "numpy": "2.4.6"}
DRAWN = {".pdf", ".png", ".svg", ".html"}
# Options of the claims in each of the page's tables, and the artifacts whose claims it has.
DEMO = ("--protocol", "demo")
JPEG = ("--dataset", "folder:cifar10-jpeg")
CLAIMS = {
    "demo": (DEMO, ("table", "figure")),
    "controls": (DEMO, ("controls",)),
    "cifar10-jpeg": ((*JPEG, "--image-size", "32", "--epochs", "2"), ("table8", "figure6")),
    "rate-0.22": ((*DEMO, "--rate", "0.22"), ("controls-norm",)),
    "rate-0.88": ((*DEMO, "--rate", "0.88"), ("controls-norm",)),
    "cifar10-jpeg-16": ((*JPEG, "--image-size", "16", "--epochs", "1"), ("controls-norm",)),
}


def commands() -> list[list[str]]:
    found = re.search(r"<!-- published -->\n```sh\n(.*?)```", RESULTS, re.DOTALL)
    assert found is not None
    lines = found[1].replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def files_in(root: Path) -> dict[str, Path]:
    found = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path for path in found}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a copy of the database, so that nothing is written beside the original."""
    shutil.copy(ROOT / "runs.db", tmp_path)
    return tmp_path


@pytest.fixture
def published(folder: Path) -> Database:
    return open_database(str(folder / "runs.db"), create=False)


@pytest.mark.slow
def test_tables_and_figures_are_those_of_the_runs_byte_for_byte(folder: Path) -> None:
    for program, *arguments in commands():
        done = cli(*arguments, cwd=folder)
        assert (program, done.returncode) == ("dia-repro", 0), done.stderr
    ours, kept = files_in(folder), files_in(ROOT)
    assert len(kept) > 30
    assert sorted(ours) == sorted(kept)
    same_versions = all(version(name) == known for name, known in DRAWN_BY.items())
    compared = [name for name in kept if same_versions or Path(name).suffix not in DRAWN]
    differing = [name for name in compared if ours[name].read_bytes() != kept[name].read_bytes()]
    assert differing == []
    if not same_versions:
        pytest.skip(f"tables compared; pictures were drawn by {DRAWN_BY}")


def row(record: Record) -> str:
    """Return a claim's row in the page's tables: the comparison that decides, and its numbers."""
    value = effect_with_interval(record["effect"], record["low"], record["high"], record["unit"])
    counted = record["note"] if value and not record["n"] else ""  # parameters, for example
    value = ", ".join(part for part in (value, counted, with_images(record)) if part)
    seeds = f"{record['n']}" if record["n"] else "–"
    p = p_values(record).lstrip("=") or "–"
    if "nowhere shown to train" in record["reason"]:  # then nothing is asked of the control
        value, seeds, p, record = (
            record["reason"].partition(";")[0],
            "–",
            "–",
            {**record, "compared": "–"},
        )
    compared = record["compared"] if value else "–"
    verdict = record["verdict"]
    if record["otherwise"]:
        verdict += f"; by the last epoch {record['otherwise']}"
    why = record["reason"] if record["verdict"] == "not run" else ""
    cells = (record["text"], verdict, compared, value or record["note"] or why or "–", seeds, p)
    return f"| {' | '.join(cells)} |"


def is_shown(table: str, record: Record) -> bool:
    """Other rates were tried with some of the networks only: the page says which."""
    return not (table.startswith("rate") and record["verdict"] == "not run")


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_published_verdicts_are_those_of_the_runs(name: str, folder: Path) -> None:
    options, artifacts = CLAIMS[name]
    done = cli("claims", *options, "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    chosen = {}
    for record in json.loads(done.stdout):
        if record["artifact"].startswith(artifacts) and (
            record["main"] or record["claim"] not in chosen
        ):
            chosen[record["claim"]] = record
    rows = [row(record) for record in chosen.values() if is_shown(name, record)]
    table = RESULTS.split(f"<!-- claims: {name} -->\n")[1].split("\n\n")[0].splitlines()
    assert table[2:] == rows, "\n".join(["it should be:", *rows])
    counts = Counter(record["verdict"] for record in chosen.values())
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    if marked := re.search(rf"<!-- count: {name} -->([^.]*)\.", RESULTS):
        assert " ".join(marked[1].split()) == f"Of {counts.total()} claims: {said}"


def test_every_run_says_what_it_was_made_by(published: Database) -> None:
    runs = all_runs(published)
    assert len(runs) > 100
    specs = spec_json(published, {run.spec_id for run in runs})
    for run in runs:
        assert run.state not in (State.RUNNING, State.FAILED)
        assert Spec.from_json(specs[run.spec_id]).spec_id == run.spec_id
        attempts = run_detail(published, run.id).provenance
        assert attempts or run.state is State.PENDING, run
        for attempt in attempts:
            assert re.fullmatch("[0-9a-f]{40}", str(attempt["git_commit"]))
            assert attempt["git_clean"]
            assert str(attempt["command"]).startswith("dia-repro run ")
            assert not re.search(r"(^|[\s=:])/\w", str(attempt["command"])), "a path of a machine"


def test_the_published_database_is_sound(folder: Path) -> None:
    done = cli("db", "check", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
