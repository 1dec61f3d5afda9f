"""Python API for notebooks and scripts: results as DataFrames, plans, and runs.

    with dia_repro.open_results("runs.db") as results:
        runs = results.runs()
        cells = results.cells("table5", protocol="demo")

    dia_repro.plan("table5", protocol="demo").frame()
    dia_repro.run("table5", protocol="demo", seeds=3)

What each column of results means, its unit and its dtype: `results.columns()`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from dia_repro.artifacts import TableArtifact, choose
from dia_repro.artifacts.selection import Wanted, best_covered
from dia_repro.errors import UsageError
from dia_repro.execution.options import (
    DEFAULT_DATA,
    DEFAULT_DATABASE,
    Resources,
    Selection,
    command_line,
    options_of,
)
from dia_repro.experiments.names import Keep, Precision, Protocol
from dia_repro.experiments.protocols import DATASETS, DataChoice, known_data
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.cells import CELLS, CLAIMS, EXPLANATIONS, cell_records
from dia_repro.results.database import Database, open_existing
from dia_repro.results.frames import ATTEMPTS, DTYPES, EPOCHS, RUNS, Table, frame_of, read
from dia_repro.results.queries import all_spec_json

if TYPE_CHECKING:
    import pandas as pd

    from dia_repro.execution.campaign import Campaign, Summary
    from dia_repro.execution.plan import Plan

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


def run(
    *artifacts: str,
    database: str = DEFAULT_DATABASE,
    data: str | Path = DEFAULT_DATA,
    checkpoints: str | None = None,
    deterministic: bool = False,
    keep: str = Keep.LAST,
    yes: bool = False,
    **options: Any,
) -> Summary:
    """Train what artifacts need and the database lacks, as the command of this name.

    Args:
        artifacts: names, e.g. "table5"; "all" for all of them.
        database: a SQLite file or a URL; made if it does not exist.
        data: folder of downloaded data sets.
        checkpoints: a folder or a URL; by default a folder next to the database.
        deterministic: whether a GPU is to give the same bits every time.
        keep: which weights stay when a run is done: "last", "best" or "none".
        yes: the answer to questions, e.g. whether to train for days on a CPU.
        options: fields of `Selection` and `Resources`, e.g. `protocol="demo"`, `seeds=3`, `jobs=2`.

    Raises:
        DiaReproError: of an artifact, option, data or resources that do not exist.
        ConfirmationError: a question needs an answer; pass `yes=True`.
    """
    campaign = _campaign(artifacts, options, database, data, checkpoints)
    groups = campaign.selection, campaign.resources
    command = command_line("run", *artifacts, options=groups)
    chosen = options_of(Keep, keep)
    return campaign.run(command, deterministic=deterministic, keep=chosen, yes=yes)


def plan(
    *artifacts: str,
    database: str = DEFAULT_DATABASE,
    data: str | Path = DEFAULT_DATA,
    **options: Any,
) -> Plan:
    """Return which runs artifacts need, which are done, and what the rest would cost.

    Trains nothing but a few steps to see how fast this machine is. `plan(...).frame()` is a
    DataFrame of the runs.

    Args, Raises:
        As `run`.
    """
    return _campaign(artifacts, options, database, data, None).plan()


def _campaign(
    artifacts: tuple[str, ...],
    options: Mapping[str, Any],
    database: str,
    data: str | Path,
    checkpoints: str | None,
) -> Campaign:
    from dia_repro.execution.campaign import Campaign  # brings torch

    asked = dict(options)
    groups = [
        {one.name: asked.pop(one.name) for one in fields(group) if one.name in asked}
        for group in (Selection, Resources)
    ]
    if asked:
        raise UsageError(f"unknown option {min(asked)!r}: see dia_repro.execution.options")
    selection, resources = options_of(Selection, groups[0]), options_of(Resources, groups[1])
    return Campaign(artifacts, selection, resources, str(database), Path(data), checkpoints)


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
        if dataset in DATASETS:
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
