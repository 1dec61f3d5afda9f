"""A user's folder with an attention kind or an artifact, from the command line."""

from __future__ import annotations

import csv
import io
import os
import re
import sqlite3
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest

import dia_repro
from dia_repro import plugins
from dia_repro.errors import ABSENT
from dia_repro.plugins import VARIABLE
from tests.helpers import Result, clean_environment, cli, copy_package, one_line, write_folder
from tests.own_kind import ARTIFACT, PAGE, TEST, UNIT, write_eca

SMALL = ARTIFACT.replace("(20, 56)", "(11,)")
CONTROL = '''"""A control: DIANet20."""
from dia_repro.artifacts.paper import resnet
from dia_repro.artifacts.table import Entry, TableArtifact
from dia_repro.experiments.spec import DIALSTMAttention

ENTRY = Entry(row="ResNet20", column="DIANet", model=resnet(20, DIALSTMAttention()))
CONTROL = TableArtifact(name="control", row_heading="Network", entries=(ENTRY,))
'''
QUICK = ("--protocol", "demo", "--epochs", "1")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write_eca(tmp_path / "mine")


def train(mine: Path, *arguments: str) -> Result:
    return cli(*arguments, cwd=mine.parent, **{VARIABLE: "mine"})


def shown(mine: Path, *arguments: str) -> dict[tuple[str, str], str]:
    """Return the best accuracy of each cell."""
    done = train(mine, "show", *arguments, "--epochs", "1", "--format", "csv")
    records = csv.DictReader(io.StringIO(done.stdout))
    return {(r["row"], r["column"]): r["ours_mean"] for r in records if r["metric"] == "top1"}


@pytest.mark.slow
def test_eca_is_trained_next_to_table_5_by_one_command(mine: Path) -> None:
    assert "dia-repro run table5 --attention eca:kernel=5" in PAGE
    write_folder(mine.parent / "pets", {"train": 8, "val": 4})
    data = ("--dataset", "folder:pets", "--image-size", "8")
    chosen = ("table5", "--attention", "eca:kernel=5", *data)
    done = train(mine, "run", *chosen, "--only", "ResNet83", *QUICK)
    assert done.returncode == 0, done.stderr
    cells = shown(mine, *chosen)
    trained = {column for (row, column), top1 in cells.items() if top1}
    assert trained == {"SENet", "DIANet", "ECA kernel=5"}
    report = train(mine, "report", *chosen, "--epochs", "1")
    assert report.returncode == 0, report.stderr
    assert "ECA kernel=5" in (mine.parent / "tables" / "table5.md").read_text()
    assert "ECA kernel=5" in (mine.parent / "report.html").read_text()
    artifact, *options = chosen
    explained = train(mine, "explain", artifact, "ECA", "83", *options, "--epochs", "1")
    assert "ECA ResNet83 kernel=5 on folder:pets" in explained.stdout


@pytest.mark.slow
def test_an_own_artifact_is_trained_counted_and_judged(mine: Path) -> None:
    (mine / "shallow.py").write_text(SMALL)
    done = train(mine, "run", "shallow", *QUICK)
    assert done.returncode == 0, done.stderr
    assert set(shown(mine, "shallow")) == {("ResNet11", "original"), ("ResNet11", "ECA")}
    claims = train(mine, "claims", *QUICK, "--format", "csv").stdout
    assert "ECA is more accurate than original in ECA on shallow networks" in claims
    counts = train(mine, "params", "shallow")
    assert (counts.returncode, "OFF" in counts.stdout) == (0, False)
    with sqlite3.connect(mine.parent / "runs.db") as connection:
        packages = {text for (text,) in connection.execute("select package from provenance")}
    digest = sha256((mine / "eca.py").read_bytes()).hexdigest()
    version = dia_repro.__version__
    assert packages == {version, f"{version} with eca.py sha256:{digest}"}
    without = cli("show", "shallow", cwd=mine.parent)
    assert "unknown artifact 'shallow'" in without.stderr


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("~nosuchuser/x", "~nosuchuser/x: "),
        ("a" * 300, ": File name too long"),
        ("refused", "refused: Permission denied"),
    ],
)
def test_paths_that_cannot_be_read_are_named_with_the_variable(
    value: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "refused").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, value)
    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read every folder
    with pytest.raises(plugins.PluginError, match=f"^{VARIABLE}.*{re.escape(words)}") as caught:
        plugins.load()
    assert one_line(f"{caught.value}\n")


def test_a_path_with_a_separator_is_not_given_to_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would take it for two."""
    folder = tmp_path / "a:b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv(VARIABLE, "mine")
    with pytest.raises(plugins.PluginError, match=f"{VARIABLE} cannot name .*a:b/mine"):
        plugins.setting()


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        (".sigmoid()", ".sigmoyd()", "AttributeError: 'Tensor' object has no attribute 'sigmoyd'"),
        ("super().__init__()", "super().__init__(1)", "TypeError"),
    ],
)
def test_an_error_of_an_own_kind_names_its_file_and_line(
    right: str, wrong: str, says: str, tmp_path: Path
) -> None:
    mine = write_eca(tmp_path / "mine")
    (file,) = (path for path in mine.glob("*.py") if right in path.read_text())
    text = file.read_text()
    file.write_text(text.replace(right, wrong))
    number = text[: text.index(right)].count("\n") + 1
    asked = ("plan", "table5", *QUICK, "--only", "ECA ResNet83", "--attention", "eca")
    result = cli(*asked, cwd=tmp_path, TMPDIR=str(tmp_path), **{VARIABLE: "mine"})
    assert result.returncode == 2
    assert one_line(result.stderr)
    assert says in result.stderr
    assert f"in {file.name}:{number}, a plugin; the traceback is in " in result.stderr


LOADED = """
from dia_repro import plugins
plugins.load()
(module,) = (m for name, m in __import__("sys").modules.items() if name.startswith(plugins.PREFIX))
print(module.VALUE, plugins.source_of(module.Unit).sha256)
"""


def test_the_code_that_runs_is_that_of_the_recorded_hash(tmp_path: Path) -> None:
    """Python's cache takes a file of the same size and time for the one that it has compiled."""
    file, environment = tmp_path / "own.py", clean_environment(**{VARIABLE: str(tmp_path)})
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for value in (1, 2):
        content = f"VALUE = {value}\nclass Unit: pass\n"
        file.write_text(content)
        os.utime(file, (1_700_000_000, 1_700_000_000))
        done = subprocess.run(
            [sys.executable, "-c", LOADED],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{value} {sha256(content.encode()).hexdigest()}\n"


def test_a_thread_waits_for_a_plugin_that_another_one_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1)\nVALUE = 1\n")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "slow.py"))
    known: list[bool] = []

    def load() -> None:
        plugins.load()
        modules = [m for name, m in sys.modules.items() if name.startswith(f"{plugins.PREFIX}slow")]
        known.extend(hasattr(module, "VALUE") for module in modules)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known == [True, True]


def test_a_kind_without_its_plugin_is_one_line(tmp_path: Path) -> None:
    done = cli("show", "table5", "--attention", "eca", cwd=tmp_path)
    assert done.returncode == ABSENT
    assert "'eca' is not registered here" in done.stderr
    missing = cli("show", "mine", cwd=tmp_path, **{VARIABLE: "no-such-folder"})
    assert missing.returncode == ABSENT
    assert "no-such-folder, and there is no such file or folder" in missing.stderr


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Return a copy of the package, to change."""
    return copy_package(tmp_path)


def python(scratch: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the copy of the package."""
    environment = {**clean_environment(), "PYTHONPATH": str(scratch.parent)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=scratch.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_kind_of_the_package_is_two_files(scratch: Path) -> None:
    """The unit with its options, and its test."""
    unit = UNIT.replace("dia_repro.models import", "dia_repro.models.attention.registry import")
    unit = unit.replace("register_attention", "register")
    (scratch / "models" / "attention" / "eca.py").write_text(unit)
    (scratch.parent / "test_eca.py").write_text(TEST)
    tested = python(scratch, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_eca.py")
    assert tested.returncode == 0, tested.stdout
    program = "from dia_repro.experiments.attention import *; print(parse_attention('eca').label)"
    assert python(scratch, "-c", program).stdout == "ECA\n"


def test_an_artifact_of_the_package_is_three_files(scratch: Path) -> None:
    """Its networks, its lines in the registry, and its test."""
    (scratch / "artifacts" / "control.py").write_text(CONTROL)
    registry = scratch / "artifacts" / "__init__.py"
    first = "from dia_repro.artifacts.controls import"
    text = registry.read_text().replace("in PAPERS}", "in (*PAPERS, CONTROL)}")
    registry.write_text(
        text.replace(first, f"from dia_repro.artifacts.control import CONTROL\n{first}")
    )
    done = python(scratch, "-m", "dia_repro", "params", "control", "--format", "csv")
    assert done.returncode == 0, done.stderr
    _, line = done.stdout.splitlines()
    assert line.startswith("control,ResNet20,DIANet,,")
