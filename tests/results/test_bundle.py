"""Bundles describe themselves, are whole or not there, and are merged like databases."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import IO

import pytest
import safetensors.torch
import torch

import dia_repro
from dia_repro.atomic import flush_file
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.run_files import write_run_files
from dia_repro.results import bundle as bundles
from dia_repro.results.bundle import (
    ABOUT,
    DATABASE,
    METADATA,
    BundleError,
    database_in,
    write_bundle,
)
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import all_runs
from tests.artifacts.courses import add
from tests.helpers import cli, one_line, tiny_spec

SPEC: Spec = tiny_spec()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for seed in range(2):
        add(database, SPEC, seed, [50.0, 60.0, 70.0])
    return database


def test_a_bundle_describes_each_of_its_files(database: Database, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n")
    target = tmp_path / "out.zip"
    assert write_bundle(database, target, {"tables/table5.csv": table}) == 4
    with zipfile.ZipFile(target) as opened:
        assert opened.testzip() is None
        names = opened.namelist()
        crate = json.loads(opened.read(METADATA))
        contents = {name: opened.read(name) for name in names}
    assert names == [DATABASE, ABOUT, "tables/table5.csv", METADATA]
    known = {entity["@id"]: entity for entity in crate["@graph"]}
    assert known[METADATA]["about"] == {"@id": "./"}
    assert [part["@id"] for part in known["./"]["hasPart"]] == names[:-1]
    for name in names[:-1]:
        assert known[name]["sha256"] == hashlib.sha256(contents[name]).hexdigest()
        assert known[name]["contentSize"] == str(len(contents[name]))
    assert b"2 runs" in contents[ABOUT]
    assert b"torch: 2" in contents[ABOUT]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.zip", "runs.db", "table.csv"]


def test_a_bundle_is_merged(database: Database, tmp_path: Path) -> None:
    write_bundle(database, tmp_path / "out.zip", {})
    shutil.copy(tmp_path / "out.zip", tmp_path / "OUT.ZIP")
    for bundle, words in (("out.zip", "2 runs added"), ("OUT.ZIP", "2 without new epochs")):
        done = cli("db", "merge", bundle, "--db", "mine.db", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert words in done.stderr
    mine = open_database(str(tmp_path / "mine.db"), create=False)
    assert [run.uid for run in all_runs(mine)] == [run.uid for run in all_runs(database)]


def test_nothing_is_overwritten_or_half_written(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.zip"
    target.write_text("mine")
    with pytest.raises(BundleError, match="overwrites nothing"):
        write_bundle(database, target, {})
    assert target.read_text() == "mine"
    refused = cli("report", "table5", "--bundle", "out.zip", cwd=tmp_path)
    assert refused.returncode == 2
    assert one_line(refused.stderr)
    assert not (tmp_path / "tables").exists()

    def full(_file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundles, "flush_file", full)
    with pytest.raises(BundleError, match="No space left"):
        write_bundle(database, tmp_path / "other.zip", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.zip", "runs.db"]


def test_a_file_that_appears_meanwhile_is_kept(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, link = tmp_path / "out.zip", tmp_path / "link.zip"

    def slowly(file: IO[bytes]) -> None:
        target.write_text("another's")
        flush_file(file)

    monkeypatch.setattr(bundles, "flush_file", slowly)
    with pytest.raises(BundleError, match="overwrites nothing"):
        write_bundle(database, target, {})
    assert target.read_text() == "another's"
    link.symlink_to(tmp_path / "nowhere.zip")
    with pytest.raises(BundleError, match="overwrites nothing"):
        write_bundle(database, link, {})
    assert link.is_symlink()


def test_no_file_takes_the_databases_place(database: Database, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    write_bundle(database, tmp_path / "out.zip", {"runs.db": mine, "README.txt": mine})
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        assert opened.read("runs.db").startswith(b"SQLite format 3")
        assert opened.read("README.txt") != b"mine"
        assert len(opened.namelist()) == len(set(opened.namelist()))


def test_files_of_a_clock_that_was_not_set_are_packed(database: Database, tmp_path: Path) -> None:
    old = tmp_path / "old.txt"
    old.write_text("old")
    os.utime(old, (0, 0))
    write_bundle(database, tmp_path / "out.zip", {"old.txt": old})
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        assert opened.read("old.txt") == b"old"


def test_what_is_no_bundle_is_one_line(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_text("no zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as other:
        other.writestr("../runs.db", b"")
    for path, words in (
        (bad, "is no bundle"),
        (tmp_path / "empty.zip", "has no runs.db"),
        (tmp_path / "none.zip", "No such file"),
    ):
        with pytest.raises(BundleError, match=words), database_in(path):
            pass
        done = cli("db", "merge", path.name, "--db", "new.db", cwd=tmp_path)
        assert done.returncode == 2
        assert one_line(done.stderr)
        assert not (tmp_path / "new.db").exists()
    write_bundle(database, tmp_path / "out.zip", {})
    monkeypatch.setattr(bundles, "MOST_BYTES", 1000)
    with pytest.raises(BundleError, match="larger than"), database_in(tmp_path / "out.zip"):
        pass


def test_no_text_of_a_database_names_another_folder(database: Database, tmp_path: Path) -> None:
    with database.writing() as session:
        session.connection().exec_driver_sql("update runs set uid = '/../../x' where seed = 0")
    numbers = [run.id for run in all_runs(database)]
    files = write_run_files(database, numbers, tmp_path / "deep" / "own", lambda _: b"weights")
    assert all(
        path.parent.parent == tmp_path / "deep" / "own"
        for path in files.values()
        if path.suffix != ".md"
    )
    assert not any(".." in name for name in files)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["own"]


def test_runs_are_listed_with_their_logs_and_weights(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    numbers = [run.id for run in all_runs(database)]

    def weights(number: int) -> bytes | None:
        return b"weights" if number == numbers[0] else None

    files = write_run_files(database, numbers, folder, weights)
    page = files["runs.md"].read_text()
    header, _, first, second = page.splitlines()
    assert header.startswith("| network | data | seed |")
    assert "| digits | 0 | finished | 1.00 | 70.00 | 70.00 | [log](logs/" in first
    assert second.endswith("| – |")
    for line in (first, second):
        for name in re.findall(r"\]\((.*?)\)", line):
            assert files[name].exists()
    log, *_ = (name for name in files if name.startswith("logs/"))
    rows = list(csv.DictReader(files[log].read_text().splitlines()))
    assert [float(row["test_top1"]) for row in rows] == [50.0, 60.0, 70.0]
    assert sorted(files) == sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*"))


@pytest.mark.slow
def test_a_bundle_of_a_report_has_the_weights_of_its_runs(tmp_path: Path) -> None:
    asked = ("table5", "--protocol", "demo", "--epochs", "1")
    trained = cli("run", *asked, "--only", "SENet ResNet83", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    others = ("figures/initial-scale.png", "figures/table5.txt", "tables/table5.bak")
    for name in others:  # another report's, or the user's
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("not of this report")
    done = cli("report", *asked, "--bundle", "out.zip", "--weights", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        names = opened.namelist()
        (stored,) = (name for name in names if name.startswith("weights/"))
        tensors = safetensors.torch.load(opened.read(stored))
        page = opened.read("runs.md").decode()
        crate = json.loads(opened.read(METADATA))
    assert f"[weights]({stored})" in page
    with dia_repro.open_results(tmp_path / "runs.db") as results:
        network = results.network(1)
    assert all(torch.equal(tensors[k], v) for k, v in network.state_dict().items())
    assert not set(others) & set(names)
    assert {"tables/table5.csv", "figures/table5-curves.svg", "report.html"} <= set(names)
    assert {part["@id"] for part in crate["@graph"][1]["hasPart"]} == set(names) - {METADATA}
    refused = cli("report", *asked, "--weights", cwd=tmp_path)
    assert refused.returncode == 2
