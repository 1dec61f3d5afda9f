"""Runs of attention kinds that are not registered here: listed, checked, merged and removed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from dia_repro.analysis.runs import best_runs, finished_spec
from dia_repro.analysis.states import check_run
from dia_repro.artifacts.paper import FIGURE6
from dia_repro.errors import ABSENT
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.options import Selection
from dia_repro.execution.requests import find_data
from dia_repro.experiments.attention import KindNotRegisteredError, NoAttention
from dia_repro.experiments.spec import InvalidSpecError, Spec, spec_id_of
from dia_repro.results import writer
from dia_repro.results.checks import database_findings
from dia_repro.results.database import Database, open_database
from dia_repro.results.frames import RUNS, read
from dia_repro.results.merge import merge
from dia_repro.results.queries import run_detail
from dia_repro.results.schema import State
from tests.fuzz.commands import run_command
from tests.helpers import tiny_spec
from tests.results.rows import SPEC, begin, ensure, epoch

KNOWN = tiny_spec(attention=NoAttention()).canonical_json()
UNKNOWN = {
    "eca ResNet11 kernel=3": '{"kernel":3,"kind":"eca"}',
    "eca ResNet11 ratio=0.5 reduction=8 widths=[1, 2]": (
        '{"kind":"eca","ratio":0.5,"reduction":8,"widths":[1,2]}'
    ),
    # Of the paper, with an option that another version has.
    "se ResNet11 bias=True reduction=16 scale=2": (
        '{"bias":true,"kind":"se","reduction":16,"scale":2}'
    ),
}


def with_attention(attention: str) -> str:
    """Return the canonical JSON of a spec with any attention."""
    return KNOWN.replace('{"kind":"none"}', attention)


def add_run(database: Database, attention: str) -> int:
    """Add a finished run."""
    text = with_attention(attention)
    (run,) = writer.ensure_runs(database, {spec_id_of(text): text}, [0]).values()
    lease = begin(database, run)
    for number in range(1, SPEC.recipe.epochs + 1):
        writer.record_epoch(database, lease, epoch(number))
    writer.end(database, lease, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


@pytest.fixture
def other(place: Path) -> Iterator[Database]:
    """A run of a known kind, then one of each unknown."""
    database = open_database(str(place / "runs.db"), create=True)
    begin(database, ensure(database)[0])
    for attention in UNKNOWN.values():
        add_run(database, attention)
    yield database
    database.close()


def test_unknown_kinds_are_sound_and_merged(other: Database, database: Database) -> None:
    assert [finding.text for finding in database_findings(other) if finding.bad] == []
    assert merge(database, [other], skip_conflicts=False).added == 1 + len(UNKNOWN)
    with database.reading() as session:
        runs = read(session, RUNS)
    assert set(UNKNOWN) < set(runs["network"])
    (own,) = runs[runs["network"] == "eca ResNet11 ratio=0.5 reduction=8 widths=[1, 2]"].iloc
    assert (own["attention"], own["reduction"]) == ("eca", 8)
    assert own["attention_options"] == "ratio=0.5 widths=1 2"


def test_an_id_is_the_hash_of_the_stored_text(other: Database) -> None:
    with other.writing() as session:
        session.connection().exec_driver_sql(
            "update specs set json = replace(json, '\"kernel\":3', '\"kernel\":5')"
        )
    (found,) = [finding.text for finding in database_findings(other) if finding.bad]
    assert "is not what its spec_id says" in found


@pytest.mark.parametrize("command", ["list", "show", "watch", "export", "rm"])
def test_commands_accept_unknown_kinds(command: str, other: Database, place: Path) -> None:
    arguments = {"show": ["2"], "rm": ["2", "--yes"], "export": ["out"]}.get(command, [])
    form = ["--format", "csv"] if command in ("list", "watch") else []
    done = run_command("runs", command, *arguments, *form, cwd=place)
    assert done.code == 0, done.stderr
    if command == "list":
        found = [record["network"] for record in csv.DictReader(io.StringIO(done.stdout))]
        assert found[1:] == list(UNKNOWN)
    if command == "rm":
        assert "Run 2: eca ResNet11 kernel=3 on digits, seed 0, finished, 3 epochs" in done.stderr


def test_a_run_whose_spec_cannot_be_read_is_removed(other: Database, place: Path) -> None:
    with other.writing() as session:
        session.connection().exec_driver_sql(
            "update specs set json = '{}' where json like '%\"eca\"%'"
        )
    assert "cannot be read" in run_command("runs", "list", cwd=place).stderr
    for run in ("2", "3"):
        done = run_command("runs", "rm", run, "--yes", cwd=place)
        assert done.code == 0, done.stderr
        assert f"Run {run}: spec 1-" in done.stderr
    assert run_command("runs", "list", cwd=place).code == 0


def test_a_conflict_names_unknown_kinds(other: Database, place: Path) -> None:
    second = open_database(str(place / "second.db"), create=True)
    add_run(second, UNKNOWN["eca ResNet11 kernel=3"])
    with second.writing() as session:
        session.connection().exec_driver_sql("update epochs set test_top1 = 1")
    second.close()
    done = run_command("db", "merge", "second.db", cwd=place)
    assert "Conflict with second.db: eca ResNet11 kernel=3 on digits, seed 0: " in done.stderr


def test_figures_of_known_kinds_are_made(other: Database) -> None:
    run = add_run(other, '{"kind":"none"}')
    for entry in FIGURE6.entries[:1]:
        text = tiny_spec().model_copy(update={"model": entry.model}).canonical_json()
        (number,) = writer.ensure_runs(other, {spec_id_of(text): text}, [0]).values()
        lease = begin(other, number)
        writer.end(other, lease, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    assert [detail.summary.id for detail in best_runs(other, FIGURE6).values()] == [run + 1]


def test_data_that_runs_had_are_found(other: Database, place: Path) -> None:
    digest = "0" * 64
    own = f'"content_hash":"{digest}","dataset":"folder:pets"'
    text = KNOWN.replace('"content_hash":null,"dataset":"digits"', own)
    writer.ensure_runs(other, {spec_id_of(text): text}, [0])
    found = find_data(Selection(dataset="folder:pets"), place, Dialogue(), other)
    assert found
    assert found.spec.content_hash == digest


def test_a_network_of_an_unknown_kind_cannot_be_built(other: Database) -> None:
    text = with_attention(UNKNOWN["eca ResNet11 kernel=3"])
    assert finished_spec(run_detail(other, 2)) == Spec.from_stored(text)
    with pytest.raises(
        KindNotRegisteredError, match=r"'eca' is not registered .*PLUGINS"
    ) as caught:
        Spec.from_json(text)
    assert caught.value.exit_code == ABSENT
    strange = add_run(other, '{"kind":"dia-lstm","gates":5}')
    with pytest.raises(InvalidSpecError, match="gates: Extra"):
        check_run(run_detail(other, strange))
