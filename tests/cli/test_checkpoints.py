"""`--checkpoints` of the commands: where weights are, and what is said where they cannot be."""

from __future__ import annotations

import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dia_repro.artifacts import choose
from dia_repro.cli.environment import own_command
from dia_repro.errors import UsageError
from dia_repro.execution.attempt import Attempt
from dia_repro.execution.messages import Outcome
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import ResNetBackbone, Spec
from dia_repro.training.store import Store, _s3, store_at
from tests.execution.tiny_runs import make_jobs
from tests.helpers import cli, one_line, tiny_spec


def two_layers() -> Spec:
    """The smallest network in which a layer's state can be told from another's."""
    spec = tiny_spec(epochs=1)
    model = spec.model.model_copy(update={"backbone": ResNetBackbone(depth=20)})
    return spec.model_copy(update={"model": model})


RUN = ("run", "table5", "--protocol", "demo", "--epochs", "1", "--only", "SENet ResNet83")


@pytest.mark.parametrize(
    ("place", "settings", "words"),
    [
        ("{bucket}-missing/x", {}, "bucket does not exist"),
        pytest.param(  # which is tried five times
            "{bucket}",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            "Could not connect",
            marks=pytest.mark.slow,
        ),
        ("{bucket}", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "ACCESS_DENIED"),
        ("s3://me:geheim@bucket", {}, "me:***@"),
        ("gs://bucket", {}, "pip install gcsfs"),
        ("file/x", {}, "cannot write a checkpoint to file/x: Not a directory"),
        ("/proc/x", {}, "cannot write a checkpoint to /proc/x"),
    ],
)
def test_where_nothing_can_be_kept_is_one_line_before_anything_is_trained(
    place: str,
    settings: dict[str, str],
    words: str,
    bucket: str,
    s3_settings: dict[str, str],
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    nobody = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    environment = {**s3_settings, **nobody, **settings}
    done = cli(*RUN, "--checkpoints", place.format(bucket=bucket), cwd=tmp_path, **environment)
    assert (done.returncode, one_line(done.stderr)) == (3, True), done.stderr
    assert words in done.stderr
    assert "geheim" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_run_whose_checkpoints_are_elsewhere_does_not_start_again_unasked(
    bucket: str, s3_settings: dict[str, str], tmp_path: Path
) -> None:
    """Else who forgets the option loses all that was trained."""
    artifacts = choose(["table5"])
    spec = next(
        entry.spec(Request(Protocol.DEMO, epochs=1))
        for entry in artifacts[0].entries
        if entry.label.startswith("SENet") and "83" in entry.label
    )
    database, (order,) = make_jobs(tmp_path, [spec], 1)
    database.close()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
        columns = [row[1] for row in connection.execute("pragma table_info(epochs)")]
        values = [order.run_id if name == "run_id" else 1 for name in columns]
        marks = ",".join("?" * len(values))
        connection.execute(f"insert into epochs ({','.join(columns)}) values ({marks})", values)
        connection.execute("update runs set state = 'interrupted'")
    for place in (("--checkpoints", bucket), ()):
        done = cli(*RUN, *place, cwd=tmp_path, **s3_settings)
        assert done.returncode == 3, done.stderr
        assert "have no checkpoint in" in done.stderr
        assert "name that folder or URL with --checkpoints" in done.stderr
        assert "no terminal to ask in: Start them again?" in done.stderr
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        assert connection.execute("select count(*) from epochs").fetchone() == (1,)


@pytest.mark.slow
def test_commands_read_and_clear_an_object_store(
    bucket: str, s3_settings: dict[str, str], tmp_path: Path
) -> None:
    database, orders = make_jobs(tmp_path, [two_layers()], 2, bucket)
    for order in orders:
        assert Attempt(order, lambda _: None, lambda: False).run().outcome is Outcome.FINISHED
    database.close()
    store = Store(bucket)
    store.write("1-0000/seed-0-abc/epoch", bytes(2_000_000))
    settings = {**s3_settings, "DIA_REPRO_CHECKPOINTS": bucket}
    few = ("--run", "1", "--samples", "24", "--trees", "2", "--no-controls")
    drawn = cli("analyze", "gini", *few, cwd=tmp_path, **settings)
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "figures" / "figure5.csv").is_file()
    gone = cli("analyze", "gini", *few, "--seed", "1", "--checkpoints", "local", cwd=tmp_path)
    assert (gone.returncode, one_line(gone.stderr)) == (3, True), gone.stderr
    assert "is gone" in gone.stderr
    checked = cli("db", "check", cwd=tmp_path, **settings)
    assert checked.returncode == 0, checked.stderr
    assert f"{bucket}/1-0000/seed-0-abc belongs to no run of this database (2.0 MB)" in (
        checked.stderr
    )
    assert checked.stderr.count("belongs to no run") == 1
    removed = cli("runs", "rm", "1", "--only-checkpoints", "--yes", cwd=tmp_path, **settings)
    assert f"Removed the checkpoints of 1 runs: 1 checkpoints in {bucket}." in removed.stderr
    assert cli("runs", "rm", "1", "2", "--yes", cwd=tmp_path, **settings).returncode == 0
    assert list(store.run_folders()) == ["1-0000/seed-0-abc"]
    elsewhere = {**settings, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    lost = cli("db", "check", cwd=tmp_path, **elsewhere)
    assert (lost.returncode, one_line(lost.stderr)) == (3, True), lost.stderr


@pytest.mark.parametrize("password", ["geheim", "ge/heim", "ge?heim", "g e:h@heim"])
@pytest.mark.parametrize("joined", [True, False])
def test_a_key_in_a_url_is_not_recorded(
    password: str, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"ftp://me:{password}@host/x"
    given = [f"--checkpoints={place}"] if joined else ["--checkpoints", place]
    monkeypatch.setattr(sys, "argv", ["dia-repro", *RUN, *given])
    shown = "--checkpoints=ftp://me:***@host/x" if joined else "ftp://me:***@host/x"
    assert own_command().endswith(shlex.quote(shown))


@pytest.mark.parametrize(
    "place",
    [
        "s3://key:ge/heim@bucket/x",
        "s3://key:ge[heim@bucket/x",
        "ftp://me:ge?heim@h/x",
        "ftp://me:heim@h/x?token=heim",
        "nothing://me:ge/heim@h/x",
    ],
)
def test_a_url_that_is_refused_is_shown_without_its_key(place: str) -> None:
    with pytest.raises(UsageError) as refusal:
        store_at(place)
    assert "heim" not in str(refusal.value)
    assert "***" in str(refusal.value)


def test_slashes_in_an_s3_key_are_percent_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = pytest.importorskip("pyarrow.fs", reason="the extra s3 is not installed")
    given: dict[str, object] = {}
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    real = filesystem.S3FileSystem

    def client(**options: object) -> object:
        given.update(options)
        return real(**options)

    monkeypatch.setattr(filesystem, "S3FileSystem", client)
    _s3.__wrapped__("s3://key:a%2Fb+c@bucket/x")
    assert given["secret_key"] == "a/b+c"
