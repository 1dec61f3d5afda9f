"""`show` prints an artifact from the runs in the database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.cli import options
from dia_repro.cli.options import open_results
from dia_repro.cli.output import emit, notice
from dia_repro.cli.progress import Terminal
from dia_repro.execution.options import command_line

if TYPE_CHECKING:
    from dia_repro.artifacts import TableArtifact, TableValue


class Results:
    """Results of artifacts that a selection chooses.

    Args:
        names: of artifacts.
        db, data: location of the database, and folder of downloaded data sets.
    """

    def __init__(self, names: list[str], selection: options.Selection, db: str, data: Path) -> None:
        from dia_repro.artifacts import choose
        from dia_repro.execution.requests import find_data, narrowed, wanted

        chosen = choose(names, selection.attention)
        self.selection, self.data, self.database = selection, data, open_results(db)
        own = find_data(selection, data, Terminal(), self.database)
        self.wanted = wanted(selection, own)
        self.artifacts = narrowed(chosen, selection.only)

    def compute(self, artifact: TableArtifact) -> TableValue:
        """Return an artifact's cells; says how to train its runs where there are none."""
        from dia_repro.artifacts.selection import best_covered

        request = best_covered(artifact, self.database, self.wanted)
        value = artifact.compute(self.database, request, self.selection.seeds)
        if not any(cell.n or cell.diverged for cell in value.cells):
            asked = replace(self.selection, protocol=request.protocol)
            notice(
                f"No finished runs for {artifact.name} in {self.database.name} yet: "
                f"{command_line('run', artifact.name, options=asked)}"
            )
        return value


@options.with_options
def show(
    artifacts: options.Artifacts,
    selection: options.Selection,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Print a table: the paper's figures, and ours from the runs in the database.

    Example: dia-repro show table5 --format csv
    """
    from dia_repro.rendering.cells import CELL_FIELDS, cell_records
    from dia_repro.rendering.grid import make_grid
    from dia_repro.rendering.tables import to_terminal

    results = Results(artifacts, selection, db, data)
    for artifact in results.artifacts:
        value = results.compute(artifact)
        emit(format_, CELL_FIELDS, cell_records(value), to_terminal(make_grid(value)))
