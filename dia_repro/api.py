"""The results of a database as DataFrames, for notebooks and scripts.

    with dia_repro.open_results("runs.db") as results:
        runs = results.runs()
        cells = results.cells("table5", protocol="demo")

What each column means, its unit and its dtype: `results.columns()`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dia_repro.artifacts import TableArtifact, choose
from dia_repro.artifacts.selection import Wanted, best_covered
from dia_repro.errors import UsageError
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.options import DEFAULT_DATA, DEFAULT_DATABASE, Selection, options_of
from dia_repro.execution.requests import find_data, narrowed, wanted
from dia_repro.rendering.cells import CELLS, CLAIMS, EXPLANATIONS, cell_records
from dia_repro.results.database import Database, open_existing
from dia_repro.results.frames import ATTEMPTS, DTYPES, EPOCHS, RUNS, Table, frame_of, read

if TYPE_CHECKING:
    import pandas as pd

TABLES = (RUNS, EPOCHS, ATTEMPTS, CELLS, CLAIMS, EXPLANATIONS)


def open_results(location: str | os.PathLike[str] = DEFAULT_DATABASE) -> Results:
    """Return the results in a database, which is only read.

    Args:
        location: path of a SQLite file, or a URL as `--db` takes it.

    Raises:
        NoDatabaseError: there is no such file.
        ForeignDatabaseError: it is no database of this version of dia-repro.
        DatabaseError: it cannot be read.
    """
    return Results(open_existing(os.fspath(location)))


class Results:
    """The results in a database; a context manager that closes it.

    Every method reads what is there at that moment, and returns a new DataFrame. Numbers are
    `Float64`: nan is the result of a diverged training, `<NA>` is missing.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def runs(self) -> pd.DataFrame:
        """Return one row a run: its experiment, state and accuracy."""
        return self._read(RUNS)

    def epochs(self) -> pd.DataFrame:
        """Return one row an epoch of a run; `run` as in `runs`."""
        return self._read(EPOCHS)

    def attempts(self) -> pd.DataFrame:
        """Return one row an attempt at a run, with its environment; `run` as in `runs`."""
        return self._read(ATTEMPTS)

    def cells(self, artifact: str, **selection: Any) -> pd.DataFrame:
        """Return one row a cell of an artifact: the paper's value and ours.

        Args:
            artifact: name of a table or figure, e.g. `table5`.
            selection: fields of `Selection`: protocol, seeds, only, epochs, dataset, image_size and
                precision. What is not given is what most runs in the database are of.

        Raises:
            UsageError: an argument has none of the values that it can have.
        """
        chosen, selected, asked = self._select(artifact, selection)
        request = best_covered(chosen, self.database, asked)
        value = chosen.compute(self.database, request, selected.seeds)
        return frame_of(CELLS, cell_records(value))

    def claims(self, **selection: Any) -> pd.DataFrame:
        """Return one row for each comparison of each claim, with the claim's verdict.

        Args, Raises:
            As of `cells`.
        """
        from dia_repro.claims.evaluate import evaluate_claims
        from dia_repro.claims.verdicts import verdict_records

        asked = self._wanted(options_of(Selection, selection))
        return frame_of(CLAIMS, verdict_records(evaluate_claims(self.database, asked)))

    def explain(
        self, artifact: str, row: str, column: str, metric: str | None = None, **selection: Any
    ) -> pd.DataFrame:
        """Return one row for each value of a cell and each run that it could come from.

        Args:
            artifact, selection: as of `cells`.
            row, column: the cell's names in either order; a part of a name will do.
            metric: one of the cell's values; by default all.

        Raises:
            UnknownCellError: the artifact has no such cell.
            UsageError: an argument has none of the values that it can have.
        """
        from dia_repro.artifacts.explanation import explain
        from dia_repro.artifacts.lookup import find_entry
        from dia_repro.rendering.explanations import explanation_records

        chosen, selected, asked = self._select(artifact, selection)
        entry = find_entry(chosen, row, column)
        request = best_covered(chosen, self.database, asked)
        seeds = selected.seeds
        found = explain(chosen, self.database, request, entry, metric=metric, seeds=seeds)
        commands = {one.spec.spec_id: "" for one in found.experiments}  # no column here
        return frame_of(EXPLANATIONS, explanation_records(found, commands))

    def columns(self) -> pd.DataFrame:
        """Return what each column of these DataFrames means: its dtype, unit and meaning."""
        import pandas as pd

        described = [
            {"table": table.name, "dtype": DTYPES[column.type], **asdict(column)}
            for table in TABLES
            for column in table.columns
        ]
        names = ["table", "name", "dtype", "unit", "nullable", "meaning"]
        return pd.DataFrame(described)[names]

    def _read(self, table: Table) -> pd.DataFrame:
        with self.database.reading() as session:
            return read(session, table)

    def _select(
        self, artifact: str, selection: Mapping[str, Any]
    ) -> tuple[TableArtifact, Selection, Wanted]:
        selected = options_of(Selection, selection)
        chosen = choose([artifact])
        if len(chosen) != 1:
            raise UsageError(f"{artifact!r} is not one table or figure")
        (one,) = narrowed(chosen, selected.only)
        return one, selected, self._wanted(selected)

    def _wanted(self, selected: Selection) -> Wanted:
        return wanted(selected, find_data(selected, DEFAULT_DATA, Dialogue(), self.database))
