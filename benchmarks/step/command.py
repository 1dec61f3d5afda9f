"""`python -m benchmarks step`: speed of training on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, assert_never

import typer

from benchmarks import output
from benchmarks.step import GPUPart, Suite
from dia_repro.cli import options
from dia_repro.cli.environment import own_command
from dia_repro.errors import AbsentError, UsageError

if TYPE_CHECKING:
    from benchmarks.measurements import Measurement
    from benchmarks.step.suites import Setting
    from dia_repro.execution.machine import Machine
    from dia_repro.experiments.spec import Spec


SELECTED = frozenset({"only", "protocol", "precision"})
SuiteOption = Annotated[
    Suite | None,
    typer.Option(
        "--suite",
        help="All measurements for a machine without or with a GPU, cpu or gpu; input: the "
        "decoding of photographs, in files and packed; launches: what a compiled step would launch "
        "on a GPU, counted without one.",
    ),
]
PartOption = Annotated[
    list[GPUPart] | None,
    typer.Option("--part", help="Only this part of --suite gpu; may be given several times."),
]
ArtifactOption = Annotated[
    list[str] | None,
    typer.Option("--artifact", help="Networks of a table or figure, with --only some of them."),
]
SpecOption = Annotated[
    Path | None, typer.Option("--spec", help="A JSON file with a spec, as `runs show` prints it.")
]
ReferenceOption = Annotated[
    bool,
    typer.Option(
        "--reference",
        help="Also measure a plain training loop: eager, fp32, torchvision's transforms in a "
        "DataLoader with 4 workers. CIFAR ResNets only.",
    ),
]
WindowsOption = Annotated[
    int, typer.Option("--windows", min=1, help="Measurement windows of each candidate, in turn.")
]
SecondsOption = Annotated[
    float,
    typer.Option("--seconds", min=0.1, help="Shortest window; a window ends with an epoch."),
]


@options.with_options
def step(
    selection: Annotated[options.Selection, SELECTED],
    suite: SuiteOption = None,
    part: PartOption = None,
    artifact: ArtifactOption = None,
    spec: SpecOption = None,
    reference: ReferenceOption = False,
    windows: WindowsOption = 5,
    seconds: SecondsOption = 1.0,
    device: options.DeviceOption = None,
    out: output.OutOption = Path("bench.json"),
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Measure the speed of training on this machine, as ratios with goals.

    Images are noise in the shape of the data; photographs are synthetic, with a natural spectrum.

    Example: python -m benchmarks step --suite cpu
    """
    if len([chosen for chosen in (suite, artifact, spec) if chosen]) != 1:
        raise UsageError("step needs one of --suite, --artifact and --spec")
    if part and suite is not Suite.GPU:
        raise UsageError("--part goes with --suite gpu")
    output.check_folder(out)
    from dia_repro.execution.machine import find_machine

    kinds = {Suite.CPU: "cpu", Suite.GPU: "cuda"}
    machine = find_machine(kinds.get(suite, device) if suite else device)
    setting = _setting(machine, windows, seconds)
    if suite is not None:
        source = _of_suite(suite, setting, part or ())
    else:
        specs = _specs(artifact or [], selection, spec, machine)
        source = _of_specs(specs, setting, reference=reference)
    output.measure(source, _environment(machine, setting), out, format_)


def _setting(machine: Machine, windows: int, seconds: float) -> Setting:
    from benchmarks.step.suites import Setting
    from dia_repro.training.numerics import use_device

    use_device(machine.device)
    return Setting(machine.device, machine.cores, windows, seconds)


def _of_suite(suite: Suite, setting: Setting, parts: Sequence[GPUPart]) -> Iterator[Measurement]:
    from benchmarks.step.feeding import input_suite
    from benchmarks.step.suites import count_launches, cpu_suite, gpu_suite

    match suite:
        case Suite.CPU:
            return cpu_suite(setting)
        case Suite.GPU:
            return gpu_suite(setting, parts)
        case Suite.INPUT:
            return input_suite(setting)
        case Suite.LAUNCHES:
            return count_launches()
        case _:
            assert_never(suite)


def _of_specs(specs: list[Spec], setting: Setting, *, reference: bool) -> Iterator[Measurement]:
    from benchmarks.step.suites import against_reference, ours_alone

    for spec in specs:
        yield from (against_reference if reference else ours_alone)(spec, setting)


def _specs(
    artifacts: list[str], selection: options.Selection, file: Path | None, machine: Machine
) -> list[Spec]:
    """Return the experiments asked for, without duplicates."""
    from dia_repro.experiments.spec import Spec

    if file is not None:
        try:
            return [Spec.from_json(file.read_text(encoding="utf-8"))]
        except (OSError, UnicodeDecodeError) as error:
            raise AbsentError(f"cannot read {file}: {error}") from error
    from dia_repro.artifacts import choose
    from dia_repro.execution.requests import chosen_entries, request_to_train

    request = request_to_train(selection, machine, None)
    entries = chosen_entries(choose(artifacts), selection.only)
    return list(dict.fromkeys(entry.spec(request) for _, entry in entries))


def _environment(machine: Machine, setting: Setting) -> dict[str, Any]:
    """Return the environment and the settings of the measurements."""
    from dia_repro.training.provenance import environment_of

    return {
        **environment_of(machine.device, own_command()),
        "devices": len(machine.devices),
        "cores": machine.cores,
        "layout": "channels last (reference: NCHW)",
        "windows": setting.windows,
        "seconds": setting.seconds,
    }
