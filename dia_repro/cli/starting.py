"""`analyze start`: the first steps of trainings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit, watch
from dia_repro.cli.progress import Terminal
from dia_repro.experiments.names import DataLocation, Init
from dia_repro.rendering.listing import Column, field, listing

if TYPE_CHECKING:
    from dia_repro.analysis.starting import Variation
    from dia_repro.execution.machine import Machine
    from dia_repro.experiments.spec import Spec

FIELDS = ("network", "data", "seed", "init", "rate", "classes", "spread", "diverged_at", "losses")
COLUMNS = (
    Column("network", field("network")),
    Column("seed", field("seed"), right=True),
    Column("init", field("init")),
    Column("rate", lambda r: f"{r['rate']:g}", right=True),
    Column("classes", field("classes"), right=True),
    Column("logits' std", lambda r: f"{r['spread']:.3g}", right=True),
    Column("diverged at step", lambda r: str(r["diverged_at"] or "–"), right=True),
    Column("loss by step", lambda r: " ".join(f"{loss:.3g}" for loss in r["losses"])),
)


@options.with_options
def start(
    artifacts: options.Artifacts,
    selection: options.Selection,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="At most; a divergence is the last one.")
    ] = 12,
    init: Annotated[
        Init,
        typer.Option(
            "--init",
            help="Start convolutions otherwise: fan-in, He's by the number of inputs; xavier, "
            "Glorot's; torch, what torch does by itself.",
        ),
    ] = Init.OWN,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0, max=1000, help="Another learning rate.")
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option("--classes", min=2, help="Cut the data's classes, in turn, into so many."),
    ] = None,
    device: options.DeviceOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """The first steps of trainings: how large logits are before them, and whether they diverge.

    Without variations these are the first steps of `run`. Nothing is kept.

    Example: dia-repro analyze start table8 --protocol demo --seeds 3 --steps 5
    """
    from dia_repro.artifacts import choose
    from dia_repro.execution.machine import find_machine
    from dia_repro.execution.requests import chosen_entries, find_data, request_to_train

    chosen = choose(artifacts)
    own = find_data(selection, data, Terminal())
    machine = find_machine(device)
    request = request_to_train(selection, machine, own)
    from dia_repro.analysis.starting import Variation

    entries = chosen_entries(chosen, selection.only)
    specs = list(dict.fromkeys(entry.spec(request) for _, entry in entries))
    location = DataLocation(data, own.folder if own else None, selection.skip_damaged)
    variation, seeds = Variation(init, rate, classes), selection.seeds or 1
    records = []
    with watch("First steps") as on_progress:
        for record in _records(specs, range(seeds), location, steps, machine, variation):
            records.append(record)
            on_progress(len(records), len(specs) * seeds)
    texts = records
    if format_ is options.Format.CSV:
        texts = [one | {"losses": " ".join(map(str, one["losses"]))} for one in records]
    emit(format_, FIELDS, texts, listing(COLUMNS, records))


def _records(
    specs: Sequence[Spec],
    seeds: Sequence[int],
    location: DataLocation,
    steps: int,
    machine: Machine,
    variation: Variation,
) -> Iterator[dict[str, Any]]:
    from dia_repro.analysis.starting import first_steps
    from dia_repro.data import load
    from dia_repro.experiments.describe import describe_data, describe_model
    from dia_repro.training.numerics import prepare_process

    prepare_process(machine.cores, machine.device)
    loaded = {data: load(data, location) for data in dict.fromkeys(spec.data for spec in specs)}
    for spec in specs:
        for seed in seeds:
            found = first_steps(spec, seed, loaded[spec.data], steps, machine.device, variation)
            yield {
                "network": describe_model(spec.model),
                "data": describe_data(spec.data),
                "seed": seed,
                "init": variation.init.value,
                "rate": spec.recipe.lr if variation.rate is None else variation.rate,
                "classes": variation.classes or spec.data.classes,
                "spread": found.spread,
                "diverged_at": found.diverged_at,
                "losses": list(found.losses),
            }
