"""What other programs leave in the environment breaks no command, and changes no result."""

from __future__ import annotations

import getpass
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from dia_repro.cli import output
from dia_repro.training import environment
from tests.helpers import clean_environment, cli, write_folder

ROOT = Path(__file__).parents[2]
DRAW = (
    "from dia_repro.rendering.images import style, to_bytes\n"
    "from matplotlib.figure import Figure\n"
    "with style():\n"
    "    figure = Figure(figsize=(1, 1))\n"
    "    figure.text(0, 0, 'text')\n"
    "    print(len(to_bytes(figure, 'pdf')))"
)
START = (
    "import sys\n"
    "from dia_repro.execution import forkserver\n"
    "forkserver.CONTEXT.set_forkserver_preload([])\n"
    "{change}\n"
    "forkserver.start()\n"
    "process = forkserver.CONTEXT.Process(target=print, args=('a worker',))\n"
    "process.start()\n"
    "process.join()\n"
    "sys.exit(process.exitcode)"
)


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(**environment),
    )


def test_pictures_are_drawn_whatever_backend_jupyter_names() -> None:
    done = python(DRAW, MPLBACKEND="module://matplotlib_inline.backend_inline")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000


def test_pictures_are_drawn_whatever_date_a_build_names() -> None:
    """The module forgets it when it is imported, here once for each date."""
    dates = ("junk", "", "-1", "9" * 30)
    program = "import importlib, os\nfrom dia_repro.rendering import images\n" + "".join(
        f"os.environ['SOURCE_DATE_EPOCH'] = {date!r}\nimportlib.reload(images)\n{DRAW}\n"
        for date in dates
    )
    done = python(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) == len(dates)


def test_pictures_need_no_settings_and_no_home(tmp_path: Path) -> None:
    settings = tmp_path / "matplotlibrc"
    for content in (b"backend: nonsense\nno setting\n", b"\xff\xfe: \xe9\n"):
        settings.write_bytes(content)
        done = python(DRAW, MATPLOTLIBRC=str(settings), HOME="/dev/null", MPLCONFIGDIR="/dev/null")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


@pytest.mark.slow
def test_no_colours_and_no_bars_where_output_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    result = cli("show", "table5", cwd=tmp_path, **forced)
    assert result.returncode == 0, result.stderr
    assert "Table 5" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    for name, value in forced.items():
        monkeypatch.setenv(name, value)
    assert not output.stderr().is_terminal, "which draws bars"


def test_workers_start_with_a_long_folder_of_temporary_files(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    done = python(START.format(change=""), TMPDIR=str(long))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a worker\n"


def test_without_a_short_folder_a_sentence_says_what_to_do(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    done = python(START.format(change="forkserver.SHORT_FOLDER = '/none'"), TMPDIR=str(long))
    assert "NoSocketError: TMPDIR is too long for a socket" in done.stderr.splitlines()[-1]
    assert done.stderr.strip().endswith("set TMPDIR to a short folder")


FEWER = {
    "OMP_DYNAMIC": "true",
    "OMP_THREAD_LIMIT": "1",
    "NUMBA_NUM_THREADS": "0",
    "NUMBA_DISABLE_JIT": "1",
    "NUMBA_THREADING_LAYER": "junk",
    "OMP_STACKSIZE": "1000000G",
}
COMMAND = (
    "import os, sys\n"
    "sys.argv = ['dia-repro', '--version']\n"
    "from dia_repro.cli.main import main\n"
    "try:\n    main()\nexcept SystemExit:\n    pass\n"
    f"print(any(name in os.environ for name in {tuple(FEWER)}), 'torch' in sys.modules)"
)


def test_openmp_gives_the_threads_that_are_asked_for() -> None:
    worker = START.replace("target=print, args=('a worker',)", "target=os.system, args=('env',)")
    seen = python(worker.format(change="import os"), **FEWER).stdout
    assert "PATH=" in seen
    assert not [name for name in FEWER if name in seen], "oneDNN would wait for ever for the rest"
    command = python(COMMAND, **FEWER).stdout
    assert command.splitlines()[-1] == "False False", "before torch is loaded"


COMPILE = (
    "import os\n"
    "from dia_repro.training.environment import use_writable_caches\n"
    "use_writable_caches()\n"
    "for name in ('TRITON_CACHE_DIR', 'TORCHINDUCTOR_CACHE_DIR'):\n"
    "    print(os.environ.get(name))"
)


def test_compiled_gpu_code_goes_where_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):  # torch sets it when it compiles
        monkeypatch.delenv(name, raising=False)
    usual = python(COMPILE, HOME=str(tmp_path), TMPDIR=str(tmp_path))
    assert usual.stdout == "None\nNone\n", "where torch and Triton have it"
    place = {"TMPDIR": str(tmp_path), "HOME": "/dev/null"}
    homeless = python(COMPILE, **place, TORCHINDUCTOR_CACHE_DIR="/proc/none")
    assert homeless.returncode == 0, homeless.stderr
    folders = [Path(line) for line in homeless.stdout.splitlines()]
    assert [tmp_path in folder.parents and folder.is_dir() for folder in folders] == [True] * 2


@pytest.mark.parametrize("fault", ["link", "owner", "mode"])
def test_cache_folder_that_others_can_write_is_not_used(fault: str, tmp_path: Path) -> None:
    if os.getuid() and fault == "owner":
        pytest.skip("only root can give a folder away")
    elsewhere = tmp_path / "elsewhere"
    for name in (f"dia-repro-{os.getuid()}", f"torchinductor_{getpass.getuser()}"):
        folder = tmp_path / name
        if fault == "link":
            elsewhere.mkdir(exist_ok=True)
            folder.symlink_to(elsewhere)
            continue
        folder.mkdir()
        if fault == "owner":
            os.chown(folder, 12345, 12345)
        else:
            folder.chmod(0o777)
    seen = python(
        COMPILE,
        TMPDIR=str(tmp_path),
        HOME="/dev/null",
        TRITON_CACHE_DIR="/proc/none",
        TORCHINDUCTOR_CACHE_DIR="",
    )
    assert seen.returncode == 0, seen.stderr
    for used in map(Path, seen.stdout.splitlines()):
        assert used.is_dir()
        assert used.parent.parent == tmp_path
        assert used.parent.name.startswith("dia-repro-")
        assert used.parent.name != f"dia-repro-{os.getuid()}"
        assert stat.S_IMODE(used.parent.stat().st_mode) == 0o700
        assert not used.parent.is_symlink()
        assert used.parent.stat().st_uid == os.getuid()


def folders_of_caches(folder: Path, variables: dict[str, str]) -> list[Path]:
    """Return where compiled GPU code is kept by a process in a folder, which stays empty."""
    kept = {k: v for k, v in clean_environment().items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRITON_CACHE_DIR", "~/cache"),
        pytest.param("TRITON_CACHE_DIR", "", marks=pytest.mark.slow),
        pytest.param("TRITON_HOME", "triton", marks=pytest.mark.slow),
        ("HOME", "~"),
        pytest.param("HOME", "home", marks=pytest.mark.slow),
    ],
)
def test_compiled_gpu_code_is_not_in_the_working_folder(
    name: str, value: str, tmp_path: Path
) -> None:
    """It would be run from there."""
    folders = folders_of_caches(tmp_path / "here", {"TMPDIR": str(tmp_path), name: value})
    assert folders[0] == tmp_path / f"dia-repro-{os.getuid()}" / "triton_cache_dir"
    other = folders_of_caches(
        tmp_path / "there", {"TMPDIR": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": value}
    )
    assert other[1] == tmp_path / f"dia-repro-{os.getuid()}" / "torchinductor_cache_dir"


def test_relative_folder_of_temporary_files_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks would be others in each working folder, and its compiled code anyone's."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("TMPDIR", "here")
    with pytest.raises(environment.SharedFolderError, match="set TMPDIR to the absolute path"):
        environment.own_folder()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "here"))
    assert environment.own_folder() == tmp_path / "here" / f"dia-repro-{os.getuid()}"


DRAW_IN_PROCESSES = (
    "from pathlib import Path\n"
    "from matplotlib.figure import Figure\n"
    "from dia_repro.execution.dialogue import Dialogue\n"
    "from dia_repro.reports.drawing import drawing\n"
    "from dia_repro.rendering import images\n"
    "with drawing(Dialogue()) as pictures:\n"
    "    pictures.draw(Path('x'), Figure, (1, 1))\n"
    "    pictures.begin()\n"
    "    images.draw = None  # this process cannot\n"
    "    pictures.write()\n"
)


def test_processes_that_draw_import_nothing_from_the_working_folder(tmp_path: Path) -> None:
    script, folder = tmp_path / "draw.py", tmp_path / "here"
    script.write_text(DRAW_IN_PROCESSES)
    folder.mkdir()
    for name in ("random", "socket", "matplotlib", "numpy"):
        (folder / f"{name}.py").write_text("raise SystemExit('from the working folder')")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "x.png").stat().st_size > 100


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        pytest.param("TORCH_LOGS", "junk", 2, marks=pytest.mark.slow),
        *(
            pytest.param(name, value, 2, marks=pytest.mark.exhaustive)
            for name, value in (
                ("TORCH_CUDA_SANITIZER", ""),
                ("TORCH_LOGS_FORMAT", "%(zz"),
                ("TORCH_LOGS_OUT", "/nonexistent/x"),
                ("PYTORCH_MATCHER_LOGLEVEL", "1"),
                ("TORCH_CUDA_SANITIZER", "1"),
                ("TORCH_DISTRIBUTED_DEBUG", "junk"),
                ("PYTORCH_JIT", "junk"),
                ("PYTORCH_ALLOC_CONF", "junk"),
            )
        ),
        ("TERMINAL_WIDTH", "junk", 0),
        ("COLUMNS", "junk", 0),
        ("NUMBA_NUM_THREADS", "junk", 0),
        ("NUMBA_DISABLE_JIT", "junk", 0),
    ],
)
def test_junk_in_a_variable_is_refused_by_name_or_ignored(
    name: str, value: str, code: int, tmp_path: Path
) -> None:
    if name == "TORCH_CUDA_SANITIZER" and torch.cuda.is_available():
        pytest.skip("torch takes it where there is a GPU")
    command = [sys.executable, "-m", "dia_repro", "params", "--help"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(**{name: value}),
    )
    assert done.returncode == code, done.stderr
    refusal = f"dia-repro: torch cannot be loaded with {name}={value}: unset it\n"
    assert done.stderr == (refusal if code else "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"),
        ("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:128,garbage_collection_threshold:0.6"),
        ("PYTORCH_ALLOC_CONF", "backend:native,max_split_size_mb:512,expandable_segments:False"),
        ("TORCH_DISTRIBUTED_DEBUG", "OFF"),
        ("PYTORCH_JIT", "1"),
        ("TORCH_LOGS", ""),
    ],
)
def test_usual_settings_of_torch_are_not_tried(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/none")
    monkeypatch.setenv(name, value)
    environment.check_settings()


@pytest.mark.parametrize(
    "value", ["max_split_size_mb:1", "garbage_collection_threshold:0.0", "0", "max_split_size_mb"]
)
def test_odd_settings_of_torch_are_tried(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/none")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", value)
    with pytest.raises(FileNotFoundError, match="/none"):
        environment.check_settings()


@pytest.mark.exhaustive
def test_run_trains_whatever_numba_is_told(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", {"train": 8, "val": 4})
    words = "run table5 --protocol demo --dataset folder:pets --image-size 8 --epochs 1 --yes"
    told = {"NUMBA_DISABLE_JIT": "1", "NUMBA_NUM_THREADS": "0", "NUMBA_OPT": "junk"}
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "dia_repro",
            *words.split(),
            "--only",
            "SENet ResNet83",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(**told),
    )
    assert result.returncode == 0, result.stderr
    assert "NUMBA" not in result.stderr


def test_settings_of_matplotlib_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe: \xe9\n")
    script = (
        "from dia_repro.errors import UsageError\ntry:\n    import dia_repro.rendering.learning\n"
    )
    script += "except UsageError as error:\n    print(error)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert done.stdout.startswith(f"{tmp_path / 'matplotlibrc'} cannot be read as UTF-8"), (
        done.stderr
    )
