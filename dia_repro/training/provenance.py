"""Provenance of results, and what decides a run's bits besides its spec, seed and data.

Provenance is stored with each attempt at a run. `Environment` is stored in checkpoints and
compared when a run resumes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

import dia_repro
from dia_repro.errors import DiaReproError
from dia_repro.experiments.attention import AttentionSpec
from dia_repro.models.attention import unit_of

# Results that the repository itself holds: a change of these is no change of the code.
PUBLISHED = ("runs.db", "tables", "figures")
CODE = Path(dia_repro.__file__).parent.parent
LARGEST_DIFF = 200_000  # characters
# A user's own settings would give a diff that cannot be applied.
DIFF_OPTIONS = (
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-relative", "--unified=3"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--binary", "--no-renames"),
)
KEY = "environment"  # in a checkpoint
# Variables with which libraries choose other instructions, which give other last digits. The number
# of threads is an attribute of `Environment`.
CHOOSING = re.compile(
    "(?!.*NUM_THREADS)(ATEN_CPU_CAPABILITY|(ONEDNN|DNNL)_.*|MKL_.*|NVIDIA_TF32_OVERRIDE|CUBLAS_.*)"
)


class GitError(DiaReproError):
    """Git does not tell what was asked."""


@dataclass(frozen=True)
class Environment:
    """The environment in which a run computes.

    Attributes:
        threads: CPU threads of each process.
        deterministic: whether only deterministic algorithms are used on a GPU.
        processes: number of processes that share the run.
        device: name of the GPU or the processor.
        package: version of this package, and the plugin that registers the network's attention.
        code: commit of the code, where it is a git checkout, and whether that was changed.
        files: the first digits of `files_at_start`.
        pillow: version of Pillow where it decodes images while the run is trained.
        capability: instructions of the CPU that torch uses, and variables that choose other ones.
    """

    threads: int
    deterministic: bool
    processes: int
    device: str
    torch: str
    package: str
    code: str
    files: str
    pillow: str | None
    numba: str
    capability: str

    @classmethod
    def here(
        cls,
        threads: int,
        device: str,
        *,
        deterministic: bool,
        processes: int,
        attention: AttentionSpec | None = None,
        decodes: bool = False,
    ) -> Environment:
        """Return the environment of this process, which computes on the device of that name."""
        commit, clean = code_state()
        unit = unit_of(attention.kind) if attention else None
        # A plugin is named by its file and the file's SHA-256.
        plugin = f" with {unit.source}" if unit and unit.source else ""
        return cls(
            threads,
            deterministic,
            processes,
            device,
            torch=str(torch.__version__),  # torch's own class, which only torch can unpickle
            package=f"{dia_repro.__version__}{plugin}",
            code=f"{(commit or 'unknown')[:12]}{'' if clean in (None, True) else ' and changes'}",
            files=files_at_start()[:12],
            pillow=version("pillow") if decodes else None,
            numba=version("numba"),
            capability=_capability(),
        )

    @classmethod
    def stored(
        cls, content: Mapping[str, Any] | None, attempt: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return what is known of the environment that a run began in, by attribute.

        Args:
            content: the checkpoint that the run resumes from.
            attempt: provenance of the attempt before, for checkpoints of earlier versions.
        """
        if content is None:
            return {}
        known = content.get(KEY) or attempt or {}
        names = {field.name for field in fields(cls)}
        return {name: value for name, value in known.items() if name in names and value is not None}

    def to_store(self) -> dict[str, Any]:
        """Return it as an entry of a checkpoint."""
        return {KEY: asdict(self)}

    def differences(self, begun: Mapping[str, Any]) -> list[str]:
        """Describe what differs from the environment that a run began in."""
        return [
            f"{name} {getattr(self, name)} instead of {value}"
            for name, value in begun.items()
            if getattr(self, name) != value
        ]


def collect(
    environment: Environment,
    device: torch.device,
    command: str,
    data_sha256: str,
    test_images: int,
    from_epoch: int,
) -> dict[str, Any]:
    """Return the provenance of an attempt that this process makes on a device.

    Its values are what is known at the start, by column of `results.schema.ProvenanceRow`.
    """
    commit, clean = code_state()
    return {
        "host": socket.gethostname(),
        "device": environment.device,
        "threads": environment.threads,
        "python": platform.python_version(),
        "torch": environment.torch,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "package": environment.package,
        "git_commit": commit,
        "git_clean": clean,
        "code_sha256": files_at_start(),
        "pillow": environment.pillow,
        "capability": environment.capability,
        "packages": packages(),
        "git_diff": recorded_changes(commit, clean),
        "command": command,
        "data_sha256": data_sha256,
        "test_images": test_images,
        "from_epoch": from_epoch,
        "deterministic": device.type == "cpu" or environment.deterministic,
    }


def _capability() -> str:
    """Return the CPU's instructions that torch uses, and variables that choose other ones."""
    chosen = [f"{name}={os.environ[name]}" for name in os.environ if CHOOSING.fullmatch(name)]
    return " ".join((torch.backends.cpu.get_cpu_capability(), *sorted(chosen)))


def environment_of(device: torch.device, command: str) -> dict[str, Any]:
    """Return the environment of an analysis or a measurement by a command."""
    commit, clean = code_state()
    return {
        "device": device_name(device),
        "capability": _capability(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numba": version("numba"),
        "numpy": version("numpy"),
        "scikit-learn": version("scikit-learn"),
        "code": files_at_start(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "dia_repro": dia_repro.__version__,
        "git_commit": commit,
        "git_clean": clean,
        "command": command,
    }


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process so far, in bytes.

    On a GPU it is what torch reserved, CUDA graphs and fragments included: what another process
    cannot have. CUDA's own memory is not in it.
    """
    if device.type == "cuda":  # counted by torch on the host: works after a CUDA error too
        return torch.cuda.max_memory_reserved(device)
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes if sys.platform == "darwin" else kibibytes * 1024


def package_files() -> str:
    """Return a SHA-256 of the names and contents of the package's Python files."""
    digest, folder = hashlib.sha256(), Path(dia_repro.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        with suppress(OSError):  # an editor's, gone meanwhile
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()


@cache
def files_at_start() -> str:
    """Return `package_files` as of the first call; see `code_at_start`."""
    return package_files()


@cache
def code_at_start() -> tuple[str | None, bool | None]:
    """Return `git_state` of the code that this process has imported, as of the first call.

    A worker has it from the process that it was forked from, which imported its code.
    """
    return git_state(CODE)


def code_state() -> tuple[str | None, bool | None]:
    """Return the commit that this process was started with, and whether the code is all of it.

    After a pull or a commit, modules that are imported late are of the new commit: the code is a
    mixture, and not clean.
    """
    started, now = code_at_start(), git_state(CODE)
    if now == started:
        return started
    known = (started[0], now[0]) if started[0] != now[0] else (started[1], now[1])
    return started[0], None if None in known else False


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Return the commit, and whether the checkout is clean; None where git does not tell."""
    if not (folder / ".git").exists():  # an installed package
        return None, None
    excluded = [f":(exclude){name}" for name in PUBLISHED]
    commit, status = None, None
    with suppress(GitError):
        commit = _git(folder, "rev-parse", "HEAD")
        options = ("--porcelain", "--untracked-files=normal")
        status = _git(folder, "status", *options, "--", ".", *excluded)
    return commit, None if status is None else not status


def recorded_changes(commit: str | None, clean: bool | None) -> str | None:
    """Return the changes of the code that this process has imported, if there are any.

    None where files have changed since it started: what is in them now was not imported.
    """
    unchanged = (commit, clean) == git_state(CODE) and files_at_start() == package_files()
    return changes(CODE, commit) if commit and clean is False and unchanged else None


def changes(folder: Path, commit: str) -> str | None:
    """Return what differs from a commit in a checkout's files, as `git apply` reads it.

    None where there is nothing, where it is more than `LARGEST_DIFF` characters or no UTF-8, or
    where git does not tell. New files are not in it.
    """
    excluded = [f":(exclude){name}" for name in PUBLISHED]
    with suppress(GitError, UnicodeDecodeError):
        found = _git_bytes(folder, "diff", *DIFF_OPTIONS, commit, "--", ".", *excluded).decode()
        return found if 0 < len(found) <= LARGEST_DIFF else None
    return None


@cache
def packages() -> str:
    """Return the libraries that the package requires, as `name==version`, spaces between."""
    needed = {
        re.split(r"[^\w.-]", text)[0] for text in requires("dia-repro") or () if ";" not in text
    }
    found = []
    for name in sorted(needed):
        with suppress(PackageNotFoundError):
            found.append(f"{name}=={version(name)}")
    return " ".join(found)


def git_problem(folder: Path = CODE) -> str | None:
    """Return why results cannot be recorded with the commit of the code; None if they can.

    An installed package, which has no checkout, is no problem.
    """
    try:
        if (folder / ".git").exists():
            _git(folder, "rev-parse", "HEAD")
    except GitError as error:
        return f"git does not tell the commit of {folder}: {error}"
    return None


def _git(folder: Path, *arguments: str) -> str:
    """Read a line or more from the checkout in a folder; raises `GitError`."""
    return _git_bytes(folder, *arguments).decode(errors="replace").strip()


def _git_bytes(folder: Path, *arguments: str) -> bytes:
    """Read from the checkout in a folder.

    Raises:
        GitError: git is not installed, refuses, or does not answer.
    """
    # The checkout may be another user's, which git refuses by default since commands of its
    # configuration would be run; its Python code is what runs here anyway. Nothing is written.
    options = ["--no-optional-locks", "-c", "safe.directory=*", "-c", "core.fsmonitor=false"]
    command = ["git", *options, "-C", str(folder), *arguments]
    # GIT_DIR and others, as git sets them for its hooks, name another repository.
    env = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=10, env=env)
    except OSError as error:
        raise GitError(f"git cannot be run: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"no answer within {error.timeout:g} seconds") from error
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        raise GitError("its exit code is not known, because SIGCHLD is ignored")
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        complaints = said.strip().splitlines() or [f"exit code {done.returncode}"]
        raise GitError(complaints[0])
    return done.stdout
