"""The public Python API."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dia_repro
from dia_repro.api import Results, _campaign
from dia_repro.artifacts.lookup import UnknownCellError
from dia_repro.data import DataError
from dia_repro.errors import UsageError
from dia_repro.rendering.cells import ReplacedError
from dia_repro.results.backends import ForeignDatabaseError
from dia_repro.results.database import NoDatabaseError
from dia_repro.results.merge import ConflictError
from dia_repro.results.queries import all_runs
from tests.helpers import cli, write_folder

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "runs.db"


def test_import_is_light() -> None:
    program = (
        "import time; begun = time.process_time(); import dia_repro, sys; "
        "print(time.process_time() - begun, dir(dia_repro)); "
        "assert not {'torch', 'pandas', 'numpy', 'sqlalchemy'} & set(sys.modules)"
    )
    seconds, *_ = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert float(seconds) < 0.3


def test_public_names_are_found_and_documented() -> None:
    documented = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in dia_repro.__all__:
        assert getattr(dia_repro, name) is not None
        assert f"`{name}" in documented
    for name in (name for name in dir(Results) if not name.startswith("_")):
        assert f"`.{name}" in documented
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        _ = dia_repro.rum


@pytest.fixture(scope="module")
def results() -> Iterator[Results]:
    with dia_repro.open_results(PUBLISHED) as results:
        yield results


def test_columns_have_the_documented_dtypes(results: Results) -> None:
    documented = results.columns()
    assert documented["meaning"].str.endswith(".").all()
    frames = {
        "runs": results.runs(),
        "epochs": results.epochs(),
        "attempts": results.attempts(),
        "cells": results.cells("table5", protocol="demo"),
        "claims": results.claims(protocol="demo"),
        "explanations": results.explain("table5", "DIANet", "164", protocol="demo"),
        "differences": results.diff(1, 2),
    }
    assert list(frames) == list(dict.fromkeys(documented["table"]))
    for name, frame in frames.items():
        columns = documented[documented["table"] == name].set_index("name")
        assert len(frame) > 1
        assert {column: str(kind) for column, kind in frame.dtypes.items()} == dict(
            columns["dtype"]
        )
        missing = frame.columns[frame.isna().any()]
        assert columns.loc[missing, "nullable"].all(), missing


def test_frames_say_what_the_database_says(results: Results) -> None:
    runs, epochs = results.runs().set_index("run"), results.epochs()
    summaries = all_runs(results.database)
    assert list(runs.index) == [run.id for run in summaries]
    assert list(runs["state"]) == [run.state for run in summaries]
    best = epochs.groupby("run")["test_top1"].max()
    finished = runs["state"] == "finished"
    assert (best[runs.index[finished]] == runs.loc[finished, "best_top1"]).all()


def test_a_divergence_is_nan_and_an_absent_run_is_missing(results: Results) -> None:
    cells = results.cells("table8", protocol="demo")
    diverged = cells[cells["status"] == "diverged"]
    assert len(diverged)
    assert not diverged["ours_mean"].isna().any()
    assert np.isnan(diverged["ours_mean"].to_numpy(float)).any()
    assert results.cells("table4", protocol="demo", epochs=3)["ours_mean"].isna().all()


def test_cells_are_those_of_show(results: Results) -> None:
    cells = results.cells("table5", protocol="demo", seeds=6)
    shown = cli("show", "table5", "--protocol", "demo", "--seeds", "6", "--format", "csv", cwd=ROOT)
    text = cells.to_csv(index=False, lineterminator="\n")
    assert text == shown.stdout


def test_data_of_ones_own_are_known_by_name(results: Results) -> None:
    found = results.cells("table8", dataset="folder:cifar10-jpeg", image_size=32, epochs=2)
    assert (found["dataset"] == "folder:cifar10-jpeg").all()
    assert (found["n"] > 0).any()


def test_a_database_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    shutil.copy(PUBLISHED, path)
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with dia_repro.open_results(path) as results:
            assert len(results.runs())
        assert [path.name for path in tmp_path.iterdir()] == ["runs.db"]
    finally:
        tmp_path.chmod(0o755)


def test_wrong_names_are_one_line(results: Results, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database" * 100)
    number: Any = 164
    calls: tuple[tuple[type[Exception], Callable[[], object]], ...] = (
        (NoDatabaseError, lambda: dia_repro.open_results(tmp_path / "none.db")),
        (ForeignDatabaseError, lambda: dia_repro.open_results(tmp_path / "text.db")),
        (UsageError, lambda: results.cells("table55")),
        (UsageError, lambda: results.cells("table5", protocol="papers")),
        (UsageError, lambda: results.cells("table5", dataset="folder:none")),
        (UsageError, lambda: results.cells("all")),
        (UsageError, lambda: results.cells("table5", protocl="demo")),
        (UsageError, lambda: results.cells("table5", seeds=0)),
        (UnknownCellError, lambda: results.explain("table5", "DIANet", "165")),
        (UsageError, lambda: results.cells(number)),
        (UsageError, lambda: results.explain("table5", "DIANet", number)),
        (UsageError, lambda: results.explain("table5", "DIANet", "164", number)),
        (UsageError, lambda: results.cells("table5", seeds=results.columns())),
        (UsageError, lambda: results.claims(seeds=3)),
        (UsageError, lambda: results.claims(attention=["eca"])),
        (UsageError, lambda: results.claims("table5", only=["ResNet84"])),
        (UsageError, lambda: results.claims("table55")),
        (UsageError, lambda: dia_repro.open_results(None)),
        *(
            (UsageError, partial(call, name))
            for name in ("x" * 5000, "a\0b", "\ud800", b"\0")
            for call in (
                dia_repro.open_results,
                lambda name: dia_repro.plan("table5", database=name),
            )
        ),
        *(
            (UsageError, partial(dia_repro.plan, "table5", dataset=f"{kind}:{name}"))
            for kind in ("folder", "packed")
            for name in ("\0", "\ud800")
        ),
        (UsageError, lambda: dia_repro.plan(5)),
        (UsageError, lambda: dia_repro.plan(["table5"])),
        (UsageError, lambda: dia_repro.plan("table5", database=None)),
        (UsageError, lambda: dia_repro.plan("table5", data=5)),
        (UsageError, lambda: dia_repro.run("table5", checkpoints=5)),
    )
    for error, call in calls:
        with pytest.raises(error) as refusal:
            call()
        assert "\n" not in str(refusal.value)
        assert len(str(refusal.value)) < 400


def test_checkpoints_may_be_a_path(tmp_path: Path) -> None:
    places = tmp_path / "runs.db", tmp_path / "data", tmp_path / "weights"
    campaign = _campaign(("table5",), {"protocol": "demo"}, *places)
    assert (campaign.database, campaign.checkpoints) == (str(places[0]), str(places[2]))


def test_claims_are_those_of_the_command(results: Results) -> None:
    options = ("--protocol", "demo", "--only", "ResNet245", "--format", "csv")
    shown = cli("claims", "table5", *options, cwd=ROOT)
    claims = results.claims("table5", protocol="demo", only=["ResNet245"])
    assert claims.to_csv(index=False, lineterminator="\n") == shown.stdout
    assert 0 < claims["claim"].nunique() < results.claims(protocol="demo")["claim"].nunique()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_report_has_the_files_of_the_command(results: Results, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    options = ("--protocol", "demo", "--columns", "ours", "--metrics", "top1")
    command = ("report", "table9", *options, "--db", str(PUBLISHED))
    assert cli(*command, cwd=here).returncode == 0

    def report(**options: Any) -> list[Path]:
        options |= {"tables": there / "tables", "figures": there / "figures"}
        return results.report("table9", html=there / "report.html", **options)

    files = report(protocol="demo", columns="ours", metrics="top1")
    assert contents(there) == contents(here)
    assert {str(path.relative_to(there)) for path in files} == contents(there).keys()
    with pytest.raises(ReplacedError):
        report(protocol="paper")
    with pytest.raises(UsageError, match="unknown option 'column'"):
        report(column="ours")
    assert contents(there) == contents(here)
    assert there / "bundle.zip" in report(protocol="demo", bundle=there / "bundle.zip")
    merged = dia_repro.merge(there / "bundle.zip", database=tmp_path / "runs.db")
    assert (merged.added, merged.conflicts) == (len(results.runs()), [])


def test_others_results_are_merged_as_theirs(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    assert dia_repro.merge(PUBLISHED, database=path, origin="Lab X").added > 0
    assert dia_repro.merge(PUBLISHED, database=path, origin="Lab X").added == 0
    with dia_repro.open_results(path) as ours, dia_repro.open_results(path, origin="Lab X") as lab:
        assert ours.cells("table9", protocol="demo")["ours_mean"].isna().all()
        assert lab.cells("table9", protocol="demo")["ours_mean"].notna().any()
    wrong: Any
    with dia_repro.open_results(path, origin="Lab X") as lab:
        folders: Any = {"tables": tmp_path / "t", "figures": tmp_path / "f", "html": tmp_path / "h"}
        assert lab.report("table9", protocol="demo", **folders)
        with dia_repro.open_results(PUBLISHED) as ours, pytest.raises(ReplacedError):
            ours.report("table9", protocol="demo", **folders)
    for wrong in ({"origin": "<b>"}, {"origin": 5}, {"database": PUBLISHED}):
        with pytest.raises(UsageError):
            dia_repro.merge(PUBLISHED, **{"database": path, **wrong})


def test_conflicts_are_an_error_and_nothing_is_merged(tmp_path: Path) -> None:
    for name in ("a.db", "b.db"):
        shutil.copy(PUBLISHED, tmp_path / name)
    with sqlite3.connect(tmp_path / "a.db") as here:
        here.execute("delete from runs where id = 1")
    with sqlite3.connect(tmp_path / "b.db") as there:
        there.execute("update epochs set test_loss = 1.5 where run_id = 2")
    here.close()
    there.close()
    paths: Any = {"database": tmp_path / "a.db"}
    with pytest.raises(ConflictError, match="nothing was merged: 1 runs conflict") as refused:
        dia_repro.merge(tmp_path / "b.db", **paths)
    assert len(refused.value.conflicts) == 1
    merged = dia_repro.merge(tmp_path / "b.db", skip_conflicts=True, **paths)
    assert (merged.added, len(merged.conflicts)) == (1, 1)


def test_runs_are_trained_from_the_main_thread_only(tmp_path: Path) -> None:
    """Before anything is made: signals reach no other, and a pool's process starts none."""
    path, refused = tmp_path / "runs.db", []

    def train() -> None:
        with pytest.raises(UsageError, match="from the main thread") as error:
            dia_repro.run("table5", protocol="demo", database=path, yes=True)
        refused.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert refused
    assert not path.exists()


def test_exports_are_those_of_the_command(results: Results, tmp_path: Path) -> None:
    command = ("runs", "export", "a", "--db", str(PUBLISHED))
    assert cli(*command, cwd=tmp_path).returncode == 0
    counts = results.export(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert counts["runs"] == len(results.runs())
    for kind in ("csv", "xml", "tensorboard"):
        with pytest.raises(UsageError):
            results.export(tmp_path / "b", format=kind)


def test_data_are_fetched_and_checked(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", {"train": 6, "test": 3})
    found = dia_repro.check_data(f"folder:{folder}", data=tmp_path)
    assert "training" in found.remarks[-1]
    assert found.damaged == ()
    wrong: Any
    for wrong in ("cifar11", "folder:", 5):
        with pytest.raises(UsageError):
            dia_repro.check_data(wrong, data=tmp_path)
    with pytest.raises(UsageError, match="digits cannot be downloaded"):
        dia_repro.fetch_data("digits", data=tmp_path)
    with pytest.raises(DataError, match="cifar10"):
        dia_repro.fetch_data("cifar10", data=tmp_path, mirror=tmp_path.as_uri())


def test_closed_results_say_so() -> None:
    with dia_repro.open_results(PUBLISHED) as results:
        pass
    results.close()
    with pytest.raises(UsageError, match="these results are closed"):
        results.runs()


@pytest.mark.parametrize(
    "option",
    [{"epochs": 0}, {"epochs": 10**12}, {"seeds": -1}, {"jobs": 0}, {"epoch": 1}],
    ids=str,
)
def test_options_out_of_range_are_refused(option: dict[str, int], tmp_path: Path) -> None:
    """A spec of 0 epochs in a database would be in the way of all its other runs."""
    (name,) = option
    with pytest.raises(UsageError, match=name):
        dia_repro.run("table5", database=str(tmp_path / "runs.db"), protocol="demo", **option)
    assert not list(tmp_path.iterdir())
