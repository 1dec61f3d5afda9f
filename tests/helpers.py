"""What several tests need: a tiny experiment, small CIFAR archives, the command line."""

from __future__ import annotations

import importlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import md5
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dia_repro
from dia_repro.cli.main import main
from dia_repro.data import DataChoice
from dia_repro.data.dataset import Dataset, Images
from dia_repro.data.sources.digits import load_digits
from dia_repro.data.sources.folder import choose_folder
from dia_repro.execution import forkserver
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import (
    Attention,
    DataSpec,
    DIALSTMAttention,
    ModelSpec,
    RecipeSpec,
    ResNetBackbone,
    Spec,
)
from dia_repro.interrupts import STOPPING
from tests import nested


def tiny_spec(
    *,
    attention: Attention | None = None,
    lr: float = 0.01,
    epochs: int = 3,
    norm: bool = True,
    milestones: tuple[int, ...] = (2,),
    weight_decay: float = 1e-4,
) -> Spec:
    """ResNet11 on the digits: less than a second an epoch."""
    return Spec(
        data=DataSpec(dataset="digits", classes=10, image_size=8, augmentation="shift1"),
        model=ModelSpec(
            backbone=ResNetBackbone(depth=11),
            # Two cells, so that dropout draws random numbers too.
            attention=attention or DIALSTMAttention(reduction=4, cells=2, stages=(1,)),
            norm=norm,
        ),
        recipe=RecipeSpec(
            epochs=epochs,
            batch_size=128,
            lr=lr,
            momentum=0.9,
            weight_decay=weight_decay,
            milestones=milestones,
            gamma=0.1,
        ),
        precision="fp32",
    )


@dataclass(frozen=True)
class Result:
    """What a command printed and how it exited."""

    returncode: int
    stdout: str
    stderr: str


def benchmarks(*arguments: str, cwd: Path, **environment: str) -> Result:
    """`python -m benchmarks`, likewise."""
    return _run("benchmarks.__main__", arguments, cwd, environment)


def cli(*arguments: str, cwd: Path, **environment: str) -> Result:
    """The command line in a process of its own, as a user runs it.

    It is forked from the process that workers are forked from: importing torch each time would be
    half of all the time that the tests take.
    """
    return _run("dia_repro.cli.main", arguments, cwd, environment)


def _run(
    program: str, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> Result:
    with Program(program, *arguments, cwd=cwd, **environment) as process:
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode is not None
        return Result(process.returncode, stdout, stderr)


class Program:
    """A program in a session of its own, forked like a command; used like a `subprocess.Popen`.

    Args:
        log: path of the file that is its standard error, if another one than that which is read.
    """

    def __init__(
        self, module: str, *arguments: str, cwd: Path, log: str = "", **environment: str
    ) -> None:
        self._folder = TemporaryDirectory()
        folder = Path(self._folder.name)
        self._outputs = [folder / "stdout", Path(log or folder / "stderr")]
        # What libraries read when they are loaded has an effect in a new process alone.
        plain = all(name.startswith(("DIA_REPRO_", "AWS_", "TMPDIR")) for name in environment)
        self._process = forkserver.CONTEXT.Process(
            target=_command,
            args=(module, arguments, cwd, clean_environment(**environment), self._outputs, plain),
        )
        forkserver.start()
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._folder.cleanup()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, if it has ended."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError("does not end")
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and return what it printed to standard output and error."""
        self.wait(timeout)
        stdout, stderr = (path.read_text() for path in self._outputs)
        return stdout, stderr


def _command(
    program: str,
    arguments: Sequence[str],
    cwd: Path,
    environment: dict[str, str],
    outputs: Sequence[Path],
    plain: bool,
) -> None:
    os.setsid()
    for number in STOPPING:  # which the server ignores
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY), number)
    tempfile.tempdir = None  # of the process that it was forked from
    sys.argv = ["dia-repro", *arguments]
    nested.forget()
    if plain:
        nested.prepare()  # in this session, for signals to all of it

    module = importlib.import_module(program)
    if hasattr(module, "app"):
        main(module.app)
    module.main()


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings of dia-repro's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DIA_REPRO_")}
    return {**kept, **extra}


def copy_package(folder: Path) -> Path:
    """Copy the package into a folder, to be changed there, and return the copy.

    With what Python and numba have compiled, which is what a changed copy needs longest for. Files
    that another test's process is writing there have names of their own.
    """
    unfinished = shutil.ignore_patterns("*.pyc.*", "*.tmp.*")
    package = Path(dia_repro.__file__).parent
    return Path(shutil.copytree(package, folder / package.name, ignore=unfinished))


def can_mount() -> bool:
    """Whether this user may mount something for a process alone."""
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(tried, check=False).returncode == 0


def with_mounts(*mounts: str) -> list[str]:
    """The beginning of a command line that runs the rest where other file systems are mounted.

    Skips the test where that is not allowed.

    Args:
        mounts: shell commands, such as `mount -t tmpfs none /tmp`.
    """
    unshare = ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    return unshare


def read_only(folder: Path) -> str:
    """The shell command that makes a folder read-only, for `with_mounts`."""
    return f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"


def few_digits(training: int, test: int) -> Dataset:
    """The first of the digits, for tests that ask nothing of what is learned."""
    whole = load_digits()
    train = Images(whole.train.pixels[:training], whole.train.labels[:training])
    return replace(
        whole, train=train, test=Images(whole.test.pixels[:test], whole.test.labels[:test])
    )


def one_line(text: str) -> bool:
    """Whether a message is one clear line, and no traceback."""
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text


def write_cifar(root: Path, source: type[Any], per_file: int = 20) -> dict[str, Any]:
    """A small archive in CIFAR's real format; returns class attributes with its checksums."""
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    classes, label_key = (10, "labels") if "10-" in source.base_folder else (100, "fine_labels")

    def dump(name: str, content: dict[str, Any]) -> str:
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return md5(raw, usedforsecurity=False).hexdigest()

    def batch() -> dict[str, Any]:
        return {
            "data": rng.integers(0, 256, (per_file, 3072), dtype=np.uint8),
            label_key: rng.integers(0, classes, per_file).tolist(),
        }

    names = [str(c) for c in range(classes)]
    return {
        "train_list": [[name, dump(name, batch())] for name, _ in source.train_list],
        "test_list": [[name, dump(name, batch())] for name, _ in source.test_list],
        "meta": {
            **source.meta,
            "md5": dump(source.meta["filename"], {source.meta["key"]: names}),
        },
    }


def write_folder(
    root: Path, per_class: dict[str, int], *, side: int = 12, suffix: str = "png"
) -> Path:
    """Random images of two classes, `cat` and `dog`, in splits of so many each."""
    rng = np.random.default_rng(0)
    for split, count in per_class.items():
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.{suffix}")
    return root


def choose(
    folder: Path,
    image_size: int | None,
    root: Path,
    *,
    skip_damaged: bool = False,
    remark: Callable[[str], object] = lambda _: None,
) -> DataChoice:
    """What an experiment on a folder of images is; the look is remembered in `root`."""
    location = DataLocation(root, folder, skip_damaged)
    return choose_folder(folder, image_size, location, None, remark)
