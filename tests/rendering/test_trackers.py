"""Event files for other trackers have every metric of every epoch."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest

from dia_repro.errors import UsageError
from dia_repro.rendering.records import Tracker
from dia_repro.rendering.trackers import METRICS, check_wandb, export_to
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import all_runs
from dia_repro.results.schema import State
from tests.artifacts.courses import LOWER, add
from tests.helpers import cli, one_line, tiny_spec
from tests.training.test_validation import validated_spec


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    add(database, tiny_spec(), 0, [50.0, 60.5, 70.0])
    add(database, tiny_spec(), 1, [math.nan], State.DIVERGED, "loss nan", loss=math.inf)
    add(database, validated_spec(epochs=2), 0, [40.0, 45.0])
    add(database, tiny_spec(), 2, [], State.FAILED)  # without an epoch
    return database


@pytest.mark.slow
def test_tensorboard_reads_what_was_written(database: Database, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    accumulator = "tensorboard.backend.event_processing.event_accumulator"
    EventAccumulator = importlib.import_module(accumulator).EventAccumulator  # noqa: N806 - a class

    seen: list[tuple[int, int]] = []
    folder = tmp_path / "events"
    count = export_to(Tracker.TENSORBOARD, database, folder, lambda *at: seen.append(at))
    assert count == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    names = sorted(path.name for path in folder.iterdir())
    assert [name.rsplit("-", 1)[0] for name in names] == [
        "DIANet-ResNet11-r=4-2-cells-stages-1-digits-10--held-out-seed-0",
        "DIANet-ResNet11-r=4-2-cells-stages-1-digits-seed-0",
        "DIANet-ResNet11-r=4-2-cells-stages-1-digits-seed-1",
    ]
    found = []
    for name in names:
        events = EventAccumulator(str(folder / name)).Reload()
        found.append({tag: events.Scalars(tag) for tag in events.Tags()["scalars"]})
    validated, plain, diverged = found
    assert set(plain) == {name for name in METRICS if not name.startswith("validation")}
    assert [(e.step, e.value) for e in plain["test_top1"]] == [(1, 50.0), (2, 60.5), (3, 70.0)]
    times = [event.wall_time for event in plain["lr"]]
    assert times[1] - times[0] == pytest.approx(2.0, abs=1e-3)  # seconds of an epoch
    assert [(e.step, e.value) for e in validated["test_top1"]] == [(2, 45.0 - LOWER)]
    assert [e.value for e in validated["validation_top1"]] == [40.0, 45.0]
    assert math.isnan(diverged["test_top1"][0].value)
    assert diverged["train_loss"][0].value == math.inf


@pytest.mark.slow
def test_wandb_has_a_run_to_synchronise_for_each(database: Database, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    folder = tmp_path / "offline"
    assert export_to(Tracker.WANDB, database, folder, lambda *_: None) == 3
    runs = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(runs) == 3
    for run in runs:
        content = run.read_bytes()
        assert all(name.encode() in content for name in ("test_top1", "train_loss", "spec_id"))


@pytest.mark.slow
def test_a_wandb_file_that_is_cut_short_is_an_error(database: Database, tmp_path: Path) -> None:
    """As on a full disk, where only the process that writes it would know."""
    pytest.importorskip("wandb")
    export_to(Tracker.WANDB, database, tmp_path / "offline", lambda *_: None)
    run = all_runs(database)[0]
    (file,) = tmp_path.glob(f"offline/wandb/offline-run-*/run-{run.uid}.wandb")
    content = file.read_bytes()
    check_wandb(tmp_path / "offline", {run.uid: 3})
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(OSError, match="is not whole"):
            check_wandb(tmp_path / "offline", {run.uid: 3})
    file.unlink()
    with pytest.raises(OSError, match="is not whole"):
        check_wandb(tmp_path / "offline", {run.uid: 3})


def test_a_folder_with_files_is_refused(database: Database, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        export_to(Tracker.TENSORBOARD, database, tmp_path / "mine", lambda *_: None)
    done = cli("runs", "export", "mine", "--to", "tensorboard", cwd=tmp_path)
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
