"""The results of a database as DataFrames, for notebooks and scripts.

    with dia_repro.open_results("runs.db") as results:
        runs = results.runs()
        cells = results.cells("table5", protocol="demo")

What each column means, its unit and its dtype: `results.columns()`.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from dia_repro.artifacts import TableArtifact, choose
from dia_repro.artifacts.selection import Wanted, best_covered
from dia_repro.data import DataChoice, known_data, known_sources
from dia_repro.errors import UsageError
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.cells import CELLS, CLAIMS, EXPLANATIONS, cell_records
from dia_repro.results.database import Database, open_existing
from dia_repro.results.frames import ATTEMPTS, DTYPES, EPOCHS, RUNS, Table, frame_of, read
from dia_repro.results.queries import all_spec_json

if TYPE_CHECKING:
    import pandas as pd

Choice = TypeVar("Choice", bound=StrEnum)
TABLES = (RUNS, EPOCHS, ATTEMPTS, CELLS, CLAIMS, EXPLANATIONS)


def open_results(location: str | os.PathLike[str] = "runs.db") -> Results:
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

    def cells(
        self,
        artifact: str,
        *,
        protocol: str | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        dataset: str | None = None,
        precision: str | None = None,
    ) -> pd.DataFrame:
        """Return one row a cell of an artifact: the paper's value and ours.

        Args:
            artifact: name of a table or figure, e.g. `table5`.
            protocol: `paper` or `demo`; what is not given is what most runs are of.
            seeds: how many a cell should have; by default as many as any cell has.
            epochs: another length than the protocol's.
            dataset: other data than the artifact's own.
            precision: `fp32`, `tf32` or `bf16`.

        Raises:
            UsageError: an argument has none of the values that it can have.
        """
        chosen = _one(artifact)
        wanted = self._wanted(protocol, epochs, dataset, precision)
        request = best_covered(chosen, self.database, wanted)
        return frame_of(CELLS, cell_records(chosen.compute(self.database, request, seeds)))

    def claims(
        self,
        *,
        protocol: str | None = None,
        epochs: int | None = None,
        dataset: str | None = None,
        precision: str | None = None,
    ) -> pd.DataFrame:
        """Return one row for each comparison of each claim, with the claim's verdict.

        Args and errors: as of `cells`.
        """
        from dia_repro.claims.evaluate import evaluate_claims
        from dia_repro.claims.verdicts import verdict_records

        wanted = self._wanted(protocol, epochs, dataset, precision)
        return frame_of(CLAIMS, verdict_records(evaluate_claims(self.database, wanted)))

    def explain(
        self,
        artifact: str,
        row: str,
        column: str,
        metric: str | None = None,
        *,
        protocol: str | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        dataset: str | None = None,
        precision: str | None = None,
    ) -> pd.DataFrame:
        """Return one row for each value of a cell and each run that it could come from.

        Args:
            row, column: the cell's names in either order; a part of a name will do.
            metric: one of the cell's values; by default all. The rest as of `cells`.

        Raises:
            UnknownCellError: the artifact has no such cell.
            UsageError: an argument has none of the values that it can have.
        """
        from dia_repro.artifacts.explanation import explain
        from dia_repro.artifacts.lookup import find_entry
        from dia_repro.rendering.explanations import explanation_records

        chosen = _one(artifact)
        entry = find_entry(chosen, row, column)
        wanted = self._wanted(protocol, epochs, dataset, precision)
        request = best_covered(chosen, self.database, wanted)
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

    def _wanted(
        self, protocol: str | None, epochs: int | None, dataset: str | None, precision: str | None
    ) -> Wanted:
        return Wanted(
            _choice(Protocol, protocol),
            _choice(Precision, precision),
            self._data(dataset) if dataset else None,
            epochs,
        )

    def _data(self, dataset: str) -> DataChoice:
        """Return a data set by its name, a user's own images as runs here have them."""
        if dataset in known_sources():
            return known_data(dataset)
        recorded = {Spec.from_json(text).data for text in all_spec_json(self.database)}
        own = {data for data in recorded if data.dataset == dataset}
        augmented = {data for data in own if data.augmentation != "none"} or own
        if len(augmented) != 1:
            number = len(augmented) or "no"
            raise UsageError(f"{number} data sets in {self.database.name} are called {dataset!r}")
        return DataChoice(augmented.pop(), None)


def _one(artifact: str) -> TableArtifact:
    found = choose([artifact])
    if len(found) != 1:
        raise UsageError(f"{artifact!r} is not one table or figure")
    return found[0]


def _choice(kind: type[Choice], value: str | None) -> Choice | None:
    try:
        return None if value is None else kind(value)
    except ValueError as error:
        raise UsageError(f"{value!r} is none of {', '.join(kind)}") from error
