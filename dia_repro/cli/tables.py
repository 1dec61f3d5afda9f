"""`show` prints an artifact; `report` writes its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit, notice, stdout
from dia_repro.cli.requests import choose_data, repeated
from dia_repro.experiments.names import Precision, Protocol

if TYPE_CHECKING:
    from dia_repro.artifacts import TableArtifact, TableValue
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.results.database import Database

ProtocolOption = Annotated[
    Protocol | None,
    typer.Option(
        "--protocol",
        help="paper or demo; by default the one the database holds runs of, the paper's first.",
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision", help="By default the one the database holds most runs of. Never mixed."
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option("--seeds", min=1, help="How many seeds a cell should have; by default the most."),
]


def show(
    artifact: Annotated[str, typer.Argument(help="A table or figure of the paper, e.g. table5.")],
    protocol: ProtocolOption = None,
    seeds: Seeds = None,
    epochs: options.Epochs = None,
    dataset: options.Dataset = None,
    image_size: options.ImageSize = None,
    precision: PrecisionOption = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Print a table: the paper's figures, and ours from the runs in the database.

    Example: dia-repro show table5 --format csv
    """
    from dia_repro.artifacts import choose
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.rendering.cells import CELL_FIELDS, cell_records
    from dia_repro.rendering.grid import make_grid
    from dia_repro.rendering.tables import to_terminal
    from dia_repro.results.database import open_database

    chosen = choose([artifact])
    database = open_database(db, create=False)
    own = choose_data(dataset, image_size, data, database=database)
    wanted = Wanted(protocol, precision, own, epochs)
    asked = repeated(
        {
            "--epochs": epochs,
            "--dataset": dataset,
            "--image-size": image_size,
            "--precision": precision,
        }
    )
    for one in chosen:
        value = _compute(one, database, wanted, seeds, asked)
        emit(format_, CELL_FIELDS, cell_records(value), to_terminal(make_grid(value)))


def report(
    artifacts: options.Artifacts,
    protocol: ProtocolOption = None,
    seeds: Seeds = None,
    epochs: options.Epochs = None,
    dataset: options.Dataset = None,
    image_size: options.ImageSize = None,
    precision: PrecisionOption = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    tables: Annotated[
        Path, typer.Option("--tables", help="Folder for table5.csv, table5.md, table5.tex, …")
    ] = Path("tables"),
    figures: Annotated[
        Path, typer.Option("--figures", help="Folder for figure5.csv, figure5.md, …")
    ] = Path("figures"),
) -> None:
    """Print tables, and the networks behind figures; write each as CSV, Markdown and LaTeX.

    Example: dia-repro report table5
    """
    from dia_repro.artifacts import choose
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.rendering.cells import CELL_FIELDS, cell_records
    from dia_repro.rendering.files import write_text
    from dia_repro.rendering.grid import make_grid
    from dia_repro.rendering.records import to_csv
    from dia_repro.rendering.tables import to_latex, to_markdown, to_terminal
    from dia_repro.results.database import open_database

    chosen = choose(artifacts)
    database = open_database(db, create=False)
    own = choose_data(dataset, image_size, data, database=database)
    wanted = Wanted(protocol, precision, own, epochs)
    asked = repeated(
        {
            "--epochs": epochs,
            "--dataset": dataset,
            "--image-size": image_size,
            "--precision": precision,
        }
    )
    for one in chosen:
        value = _compute(one, database, wanted, seeds, asked)
        grid = make_grid(value)
        stdout().print(to_terminal(grid))
        folder = figures if one.is_figure else tables
        files = {
            "csv": to_csv(CELL_FIELDS, cell_records(value)),
            "md": to_markdown(grid),
            "tex": to_latex(grid),
        }
        for suffix, text in files.items():
            write_text(folder / f"{one.name}.{suffix}", text)
        notice(f"Written: {folder / one.name}.{{csv,md,tex}}")


def _compute(
    artifact: TableArtifact, database: Database, wanted: Wanted, seeds: int | None, asked: str
) -> TableValue:
    from dia_repro.artifacts.selection import best_covered

    request = best_covered(artifact, database, wanted)
    value = artifact.compute(database, request, seeds)
    if not any(cell.n or cell.diverged for cell in value.cells):
        notice(
            f"No finished runs for {artifact.name} in {database.location} yet: "
            f"dia-repro run {artifact.name} --protocol {request.protocol.value}{asked}"
        )
    return value
