"""What a run runs on: enough to ask later where a figure comes from."""

from __future__ import annotations

import platform
import resource
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

import dia_repro

# Results that the repository itself holds: their change does not make the code another.
PUBLISHED = ("runs.db", "tables", "figures")


@dataclass(frozen=True)
class Provenance:
    """The circumstances of one attempt at a run.

    Attributes:
        device: the GPU's or processor's name.
        threads: CPU threads of the training process.
        git_commit: of the code, if it runs from a git checkout.
        git_clean: whether that checkout had no changes but in its published results.
        data_sha256: of pixels and labels.
        from_epoch: epochs that were done before this attempt.
        deterministic: whether the same attempt on this machine would give the same bits.
    """

    host: str
    device: str
    threads: int
    python: str
    torch: str
    cuda: str | None
    package: str
    git_commit: str | None
    git_clean: bool | None
    command: str
    data_sha256: str
    from_epoch: int
    deterministic: bool


def collect(device: torch.device, command: str, data_sha256: str, from_epoch: int) -> Provenance:
    """The circumstances of this process, on that device."""
    on_cpu = device.type == "cpu"
    commit, clean = git_state(Path(dia_repro.__file__).parent.parent)
    return Provenance(
        host=socket.gethostname(),
        device=device_name(device),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=str(torch.__version__),  # a class of torch's own: who reads it would load torch
        cuda=torch.version.cuda if device.type == "cuda" else None,
        package=dia_repro.__version__,
        git_commit=commit,
        git_clean=clean,
        command=command,
        data_sha256=data_sha256,
        from_epoch=from_epoch,
        deterministic=on_cpu or torch.are_deterministic_algorithms_enabled(),
    )


def device_name(device: torch.device) -> str:
    """The name of a GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit, and whether the checkout is clean; (None, None) for an installed package."""
    if not (folder / ".git").exists():
        return None, None
    excluded = [f":(exclude){name}" for name in PUBLISHED]
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        status = _git(folder, "status", "--porcelain", "--", ".", *excluded)
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, not status


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process so far, in bytes.

    On a GPU it is what torch reserved, CUDA graphs and fragments included: what another process
    cannot have. CUDA's own memory is not in it.
    """
    if device.type == "cuda":  # counted by torch on the host: works after a CUDA error too
        return torch.cuda.max_memory_reserved(device)
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes if sys.platform == "darwin" else kibibytes * 1024


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
