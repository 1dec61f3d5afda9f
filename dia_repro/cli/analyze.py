"""`analyze`: hidden states, gradients and initial steps of networks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from dia_repro.cli import options
from dia_repro.cli.environment import own_command
from dia_repro.cli.output import emit, watch
from dia_repro.cli.progress import Terminal
from dia_repro.errors import UsageError
from dia_repro.execution.options import command_line
from dia_repro.experiments.names import DataLocation, Init
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.listing import Column, field, listing, plain
from dia_repro.reports.options import FIGURES, Forests

if TYPE_CHECKING:
    from dia_repro.analysis.divergence_probe import InitialSteps, Variation
    from dia_repro.analysis.gini import Integration

# Fields of a selection that matter before any training.
BEFORE_TRAINING = frozenset(
    {"protocol", "seeds", "only", "attention", "dataset", "image_size", "skip_damaged", "precision"}
)


def _ratio(value: str, record: dict[str, Any]) -> str:
    if record[f"{value}_ratio"] is None:
        return ""
    found = (record[f"{value}_{name}"] for name in ("ratio", "low", "high"))
    ratio, *ends = ("–" if number is None else f"{number:.3g}" for number in found)
    return f"{ratio} [{', '.join(ends)}]"


STAGE_COLUMNS = (
    *plain("states"),
    *plain("stage", "layers", right=True),
    Column("mean cell", field("density", "{:.3f}"), right=True),
    Column(
        "from more than 3 back %",
        lambda r: f"{r['far_percent']:.1f} [{r['far_low']:.1f}, {r['far_high']:.1f}]",
        right=True,
    ),
    Column("last layer draws most from", field("last_layer_draws_most_from"), right=True),
)
GRADIENT_COLUMNS = (
    *plain("epochs", "stage", right=True),
    *plain("network"),
    *plain("run", right=True),
    Column("mean", field("mean", "{:.3g}"), right=True),
    Column("variance", field("variance", "{:.3g}"), right=True),
    Column("median", field("q50", "{:.3g}"), right=True),
    Column("zero %", lambda r: f"{100 * r['zeros'] / r['count']:.2f}", right=True),
)
INITIAL_COLUMNS = (
    *plain("stage", right=True),
    *plain("network"),
    *plain("seeds", right=True),
    Column("mean", field("mean", "{:.3g}"), right=True),
    *(
        column
        for value in ("mean", "variance")
        for column in (
            Column(f"{value} ÷ original", partial(_ratio, value), right=True),
            Column("p", field(f"{value}_p", "{:.2g}"), right=True),
        )
    ),
    Column("test", lambda r: r["mean_test"] or ""),
)
STEP_COLUMNS = (
    *plain("network"),
    *plain("seed", right=True),
    *plain("init"),
    Column("rate", field("rate", "{:g}"), right=True),
    *plain("classes", right=True),
    Column("logits' std", field("spread", "{:.3g}"), right=True),
    Column("diverged at step", lambda r: str(r["diverged_at"] or "–"), right=True),
    Column("loss by step", lambda r: " ".join(f"{loss:.3g}" for loss in r["losses"])),
)

app = typer.Typer(
    help="Hidden states, gradients and initial steps of networks.", no_args_is_help=True
)


@app.command()
@options.with_options
def gini(
    forests: Forests,
    stage: int | None = Option(None, min=1, help="By default all that have a DIA unit."),
    run: int | None = Option(None, help="Number of a run; by default the best of DIANet164."),
    jobs: int | None = Option(None, min=1, help="Threads; by default one for each core."),
    controls: bool = Option(
        True,
        help="Also before training, and with each layer's states shuffled across images: what "
        "the method shows where nothing is learned.",
    ),
    figures: Path = Option(FIGURES, help="Folder for figure5.pdf, .png and .csv."),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Draw feature integration (Figure 5): the earlier layers that predict a layer's state.

    Results in the database are not computed again; an interrupted analysis goes on.

    Example: dia-repro analyze gini --stage 3
    """
    database = options.open_results(db, must_exist=False)
    from dia_repro.reports.pictures import draw_integration, make_analyst

    analyst = make_analyst(database, data, checkpoints, own_command(), run, jobs)
    judged_by = "" if run else command_line("claims", "figure5")
    found = draw_integration(
        analyst,
        figures,
        forests,
        stage,
        dialogue=Terminal(),
        controls=controls,
        judged_by=judged_by,
    )
    records = list(map(_summary, found))
    emit(format_, list(records[0]), records, listing(STAGE_COLUMNS, records))


def _summary(found: Integration) -> dict[str, object]:
    from dia_repro.rendering.heatmaps import STATES

    far, low, high = found.far_share()
    return {
        "states": STATES[found.settings.source],
        "stage": found.settings.stage,
        "layers": found.layers,
        "density": found.density(),
        "far_percent": far,
        "far_low": low,
        "far_high": high,
        "last_layer_draws_most_from": found.main_source_of_last(),
    }


@app.command()
def gradients(
    artifact: str = Argument(
        "figure6", help="Artifact with the networks: figure6, or its control, controls-skips."
    ),
    run: list[int] | None = Option(
        None, help="Numbers of runs to compare; by default all of its networks on the same data."
    ),
    figures: Path = Option(FIGURES, help="Folder for figure6.pdf, .png and .csv."),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Draw gradients at the stages' outputs without skips (Figure 6), first and last in training.

    Networks without skips record them while they train: at the first batch of every epoch.

    Example: dia-repro analyze gradients
    """
    from dia_repro.artifacts import Drawing, choose
    from dia_repro.rendering.histograms import GRADIENT_FIELDS, gradient_records
    from dia_repro.reports.pictures import draw_gradients

    chosen = choose([artifact])[0]
    if Drawing.HISTOGRAMS not in chosen.drawings:
        raise UsageError(f"no gradients are drawn of {artifact}: figure6 or controls-skips")
    database = options.open_results(db, must_exist=False)
    judged_by = "" if run else command_line("claims", chosen.name)
    found = draw_gradients(
        database,
        figures,
        run or [],
        chosen,
        dialogue=Terminal(),
        apart=bool(run),
        judged_by=judged_by,
    )
    records = list(gradient_records(found))
    moments = {recorded.run.summary.id: recorded.moments for recorded in found}
    ends = [record for record in records if record["epochs"] in moments[record["run"]]]
    ends.sort(key=lambda record: (record["epochs"], record["stage"]))
    emit(format_, GRADIENT_FIELDS, records, listing(GRADIENT_COLUMNS, ends))


@app.command("initial-gradients")
@options.with_options
def initial_gradients(
    selection: Annotated[options.Selection, BEFORE_TRAINING],
    artifact: str = Argument(
        "figure6", help="Artifact with the networks: figure6, or its control, controls-skips."
    ),
    batches: int = Option(4, min=1, help="Batches that each seed's gradients are averaged over."),
    device: options.DeviceOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Compare gradients at the stages' outputs before training (Figure 6), over many seeds.

    Ratios to the original network are geometric means over seeds, with a 95 % interval and p for
    each of them alone, without a correction for their number. Nothing is trained or kept.

    Example: dia-repro analyze initial-gradients --protocol demo --seeds 30
    """
    from dia_repro.artifacts import Drawing, choose
    from dia_repro.execution.machine import find_machine
    from dia_repro.execution.requests import chosen_entries, find_data, request_to_train

    (chosen,) = choose([artifact], selection.attention)
    if Drawing.HISTOGRAMS not in chosen.drawings:
        raise UsageError(f"no gradients are compared of {artifact}: figure6 or controls-skips")
    own = find_data(selection, data, Terminal())
    machine = find_machine(device)
    request = request_to_train(selection, machine, own)
    from dia_repro.analysis.initial_gradients import Moments, probe_gradients
    from dia_repro.claims.readings import initial_ratios

    names = {
        entry.spec(request): entry.label for _, entry in chosen_entries([chosen], selection.only)
    }
    location = DataLocation(data, own.folder if own else None, selection.skip_damaged)
    seeds = selection.trained_seeds
    found: dict[str, dict[int, Moments]] = {name: {} for name in names.values()}
    with watch("Gradients") as on_progress:
        for done, (spec, seed, moments) in enumerate(
            probe_gradients([*names], seeds, location, batches, machine.cores, machine.device), 1
        ):
            found[names[spec]][seed] = moments
            on_progress(done, len(names) * len(seeds))
    original = {e.label for e in chosen.entries if e.model.attention.kind == "none"}
    records = list(initial_ratios(found, next(iter(original & found.keys()), None)))
    emit(format_, list(records[0]), records, listing(INITIAL_COLUMNS, records))


@app.command()
@options.with_options
def start(
    artifacts: options.Artifacts,
    selection: options.Selection,
    steps: int = Option(12, min=1, help="Most steps; a divergence is the last one."),
    init: Init = Option(
        Init.OWN,
        help="Initialisation of convolutions: the network's own; fan-in, He's by the number of "
        "inputs; xavier, Glorot's; torch, torch's default.",
    ),
    classes: int | None = Option(
        None, min=2, help="Number of classes that the data's are cut into, in turn."
    ),
    device: options.DeviceOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Probe the initial steps of trainings: the size of logits before them, and divergence.

    Without these options they are the initial steps of `run`. Nothing is kept.

    Example: dia-repro analyze start table8 --protocol demo --seeds 3 --steps 5
    """
    from dia_repro.artifacts import choose
    from dia_repro.execution.machine import find_machine
    from dia_repro.execution.requests import chosen_entries, find_data, request_to_train

    chosen = choose(artifacts, selection.attention)
    own = find_data(selection, data, Terminal())
    machine = find_machine(device)
    request = request_to_train(selection, machine, own)
    from dia_repro.analysis.divergence_probe import Variation, probe

    entries = chosen_entries(chosen, selection.only)
    specs = list(dict.fromkeys(entry.spec(request) for _, entry in entries))
    location = DataLocation(data, own.folder if own else None, selection.skip_damaged)
    variation, seeds = Variation(init, classes), selection.trained_seeds
    records = []
    with watch("Initial steps") as on_progress:
        for found in probe(specs, seeds, location, steps, machine.cores, machine.device, variation):
            records.append(_steps_record(*found, variation))
            on_progress(len(records), len(specs) * len(seeds))
    table = listing(STEP_COLUMNS, records)
    if format_ is options.Format.CSV:
        for record in records:
            record["losses"] = " ".join(map(str, record["losses"]))
    emit(format_, list(records[0]), records, table)


def _steps_record(
    spec: Spec, seed: int, found: InitialSteps, variation: Variation
) -> dict[str, Any]:
    return {
        "network": spec.model.label,
        "data": spec.data.label,
        "seed": seed,
        "init": variation.init.value,
        "rate": spec.recipe.lr,
        "classes": variation.classes or spec.data.classes,
        "spread": found.spread,
        "diverged_at": found.diverged_at,
        "losses": list(found.losses),
    }
