"""What decides a run's bits besides its spec, seed and data; stored with it, restored on resume."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any

import torch

from dia_repro.experiments.attention import AttentionSpec
from dia_repro.training.provenance import code_state, package_version

KEY = "environment"  # in a checkpoint
# They make the libraries underneath take other instructions, which give other last digits.
CHOOSING = re.compile("ATEN_CPU_CAPABILITY|(ONEDNN|DNNL)_.*|MKL_.*|NVIDIA_TF32_OVERRIDE|CUBLAS_.*")


@dataclass(frozen=True)
class Environment:
    """The environment in which a run computes.

    Attributes:
        threads: CPU threads of each process.
        deterministic: whether only deterministic algorithms are used on a GPU.
        processes: processes that share the run.
        device: name of the GPU or the processor.
        torch: version of torch.
        package: version of this package, and the plugin that registers the network's attention.
        code: its commit, where it is a git checkout, and whether that was changed.
        numba: version of numba, which compiles passes for a CPU.
        capability: instructions of the CPU that torch uses, and variables that choose other ones.
    """

    threads: int
    deterministic: bool
    processes: int
    device: str
    torch: str
    package: str
    code: str
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
    ) -> Environment:
        """Return the environment of this process, which computes on the device of that name."""
        return cls(
            threads,
            deterministic,
            processes,
            device,
            torch=str(torch.__version__),
            package=package_version(attention),
            code=_code(),
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
        """Say what differs from the environment that a run began in, each in a few words."""
        return [
            f"{name} {getattr(self, name)} instead of {value}"
            for name, value in begun.items()
            if getattr(self, name) != value
        ]


def _code() -> str:
    commit, clean = code_state()
    return f"{(commit or 'unknown')[:12]}{'' if clean in (None, True) else ' and changes'}"


def _capability() -> str:
    chosen = [f"{name}={value}" for name, value in os.environ.items() if CHOOSING.fullmatch(name)]
    # How many threads there are is told by `threads`.
    kept = [setting for setting in sorted(chosen) if "NUM_THREADS" not in setting]
    return " ".join((torch.backends.cpu.get_cpu_capability(), *kept))
