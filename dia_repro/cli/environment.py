"""Command lines as they are recorded and shown, and the environment of a command."""

from __future__ import annotations

import platform
import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dia_repro
from dia_repro.errors import displayed
from dia_repro.execution.options import Selection, command_line
from dia_repro.experiments.names import Precision, Protocol

if TYPE_CHECKING:
    import torch

    from dia_repro.artifacts import TableValue
    from dia_repro.artifacts.explanation import Experiment


def environment_of(device: torch.device) -> dict[str, Any]:
    """Return device, versions, commit and command of this process."""
    import torch

    from dia_repro.training.provenance import code_state, device_name

    commit, clean = code_state()
    return {
        "device": device_name(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "dia_repro": dia_repro.__version__,
        "git_commit": commit,
        "git_clean": clean,
        "command": own_command(),
    }


def own_command() -> str:
    """Return the command line of this process without passwords and without its folder.

    Results are published: where the program is installed must not be in them.
    """
    return shlex.join(["dia-repro", *map(shown_argument, sys.argv[1:])])


def shown_argument(argument: str) -> str:
    """Return an argument of the command line without passwords, as `--db URL` or `--db=URL`."""
    name, equals, value = argument.partition("=")
    if name.startswith("--") and "://" not in name:
        return f"{name}{equals}{displayed(value)}"
    return displayed(argument)


def training_command(
    value: TableValue, experiment: Experiment, selection: Selection, **places: object
) -> str:
    """Return the command that trains one experiment of an artifact, and no other.

    Args:
        selection: by which the experiment was chosen.
        places: further options of the command, by name.
    """
    protocol = value.request.protocol
    chosen = replace(
        selection,
        protocol=None if protocol is Protocol.PAPER else protocol,
        seeds=None if value.seeds.numbers == (0,) else value.seeds,
        only=(experiment.words,),
        precision=Precision(experiment.spec.precision) if experiment.precision_said else None,
    )
    return command_line("run", value.artifact.name, options=chosen, **places)
