"""Python API for notebooks and scripts: results as DataFrames, plans, and runs.

    with dia_repro.open_results("runs.db") as results:
        runs = results.runs()
        cells = results.cells("table5", protocol="demo")

    dia_repro.plan("table5", protocol="demo").frame()
    dia_repro.run("table5", protocol="demo", seeds=3)

What each column of results means, its unit and its dtype: `results.columns()`.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dia_repro.artifacts import TableArtifact, choose
from dia_repro.artifacts.selection import Wanted, best_covered, usual_names
from dia_repro.errors import UsageError
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.options import (
    DEFAULT_DATA,
    DEFAULT_DATABASE,
    Resources,
    RunFilter,
    Selection,
    brief,
    check_text,
    command_line,
    options_of,
)
from dia_repro.execution.requests import find_data, names_of_claims, narrowed, wanted
from dia_repro.experiments.names import Keep
from dia_repro.rendering.cells import CELLS, CLAIMS, EXPLANATIONS, cell_records
from dia_repro.results.comparison import DIFFERENCES, compare_runs
from dia_repro.results.database import Database, open_existing
from dia_repro.results.frames import ATTEMPTS, DTYPES, EPOCHS, RUNS, Table, frame_of, read

if TYPE_CHECKING:
    import pandas as pd

    from dia_repro.execution.campaign import Campaign, Summary
    from dia_repro.execution.planning import Plan

Location = str | os.PathLike[str]
TABLES = (RUNS, EPOCHS, ATTEMPTS, CELLS, CLAIMS, EXPLANATIONS, DIFFERENCES)


def open_results(location: Location = DEFAULT_DATABASE) -> Results:
    """Return the results in a database, which is only read.

    Args:
        location: path of a SQLite file, or a URL as `--db` takes it.

    Raises:
        NoDatabaseError: there is no such file.
        ForeignDatabaseError: it is no database of this version of dia-repro.
        DatabaseError: it cannot be read.
        UsageError: the location is neither text nor a path.
    """
    return Results(open_existing(_location(location, "location")))


def run(
    *artifacts: str,
    database: Location = DEFAULT_DATABASE,
    data: Location = DEFAULT_DATA,
    checkpoints: Location | None = None,
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
    database: Location = DEFAULT_DATABASE,
    data: Location = DEFAULT_DATA,
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
    database: Location,
    data: Location,
    checkpoints: Location | None,
) -> Campaign:
    from dia_repro.execution.campaign import Campaign  # brings torch

    _check_names(artifacts)
    asked = dict(options)
    groups = [
        {one.name: asked.pop(one.name) for one in fields(group) if one.name in asked}
        for group in (Selection, Resources)
    ]
    if asked:
        raise UsageError(f"unknown option {min(asked)!r}: see dia_repro.execution.options")
    selection, resources = options_of(Selection, groups[0]), options_of(Resources, groups[1])
    return Campaign(
        artifacts,
        selection,
        resources,
        _location(database, "database"),
        Path(_location(data, "data")),
        None if checkpoints is None else _location(checkpoints, "checkpoints"),
    )


def _location(value: Location, name: str) -> str:
    try:
        text = os.fsdecode(value)
    except TypeError:
        raise UsageError(f"{name}: a path or a URL, not {brief(value)}") from None
    check_text(name, text)
    return text


def _check_names(names: Iterable[object]) -> None:
    """Raise `UsageError` for a name of an artifact, or of one of its cells, that is no text."""
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"a name is a text such as 'table5', not {brief(name)}")


def _run_number(value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(f"a run has a number such as 1, not {brief(value)}") from None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


class Results:
    """The results in a database; a context manager that closes it.

    Every method reads what is there at that moment, and returns a new DataFrame. Numbers are
    `Float64`: nan is the result of a diverged training, `<NA>` is missing.
    """

    def __init__(self, database: Database) -> None:
        self._database: Database | None = database

    @property
    def database(self) -> Database:
        """Return the open database.

        Raises:
            UsageError: it is closed.
        """
        if self._database is None:
            raise UsageError("these results are closed: open them again with open_results")
        return self._database

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
        """Close the database; closing it again changes nothing."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def runs(self, **wanted: Any) -> pd.DataFrame:
        """Return one row a run: its experiment, state and accuracy.

        Args:
            wanted: fields of `RunFilter`, e.g. `state="finished"`, `artifact=["table5", "table7"]`,
                `since="2026-11-20"`, `sort="-best_top1"`; by default all runs, oldest first.

        Raises:
            UsageError: an argument has none of the values that it can have.
        """
        if not wanted:
            return self._read(RUNS)
        from dia_repro.execution.listing import list_runs

        return frame_of(RUNS, list_runs(self.database, options_of(RunFilter, wanted)).records)

    def epochs(self) -> pd.DataFrame:
        """Return one row an epoch of a run; `run` as in `runs`."""
        return self._read(EPOCHS)

    def attempts(self) -> pd.DataFrame:
        """Return one row an attempt at a run, with its environment; `run` as in `runs`."""
        return self._read(ATTEMPTS)

    def diff(self, a: int, b: int) -> pd.DataFrame:
        """Return one row each field of two runs, values as texts; `differs` marks what differs.

        Args:
            a, b: numbers of the runs, `run` as in `runs`.

        Raises:
            UsageError: there is no such run.
        """
        found = compare_runs(self.database, *map(_run_number, (a, b)))
        texts = ({name: _text(one[name]) for name in ("a", "b")} for one in found)
        records = [one | text for one, text in zip(found, texts, strict=True)]
        return frame_of(DIFFERENCES, records)

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

    def claims(self, *artifacts: str, by: str = "best", **selection: Any) -> pd.DataFrame:
        """Return one row for each comparison of each claim, with the claim's verdict.

        Args:
            artifacts: names; only claims on these, by default on all, and on the
                controls that have runs.
            by: `best` or `last`, the epoch whose test accuracy counts.
            selection: as of `cells`; `only` leaves the claims on networks that it names. Claims
                are judged by every seed there is, on the artifacts' own networks: neither `seeds`
                nor `attention` is taken.

        Raises:
            UsageError: an argument has none of the values that it can have.
        """
        from dia_repro.claims.evaluate import evaluate_claims
        from dia_repro.claims.verdicts import Epoch, verdict_records

        _check_names(artifacts)
        if by not in list(Epoch):
            raise UsageError(f"by: {' or '.join(Epoch)}, not {brief(by)}")
        if foreign := {"seeds", "attention"} & selection.keys():
            raise UsageError(f"claims take no {min(foreign)}: every seed counts, of any network")
        selected = options_of(Selection, selection)
        wanted = self._wanted(selected)
        names = artifacts or usual_names(self.database, wanted)
        chosen = narrowed(choose(names), selected.only)
        about = names_of_claims(chosen, selected.only)
        verdicts = evaluate_claims(self.database, wanted, Epoch(by))
        return frame_of(CLAIMS, verdict_records(one for one in verdicts if one.claim in about))

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

        _check_names([row, column] if metric is None else [row, column, metric])
        chosen, selected, asked = self._select(artifact, selection)
        entry = find_entry(chosen, row, column)
        request = best_covered(chosen, self.database, asked)
        seeds = selected.seeds
        found = explain(chosen, self.database, request, entry, metric=metric, seeds=seeds)
        commands = {one.spec.spec_id: "" for one in found.experiments.values()}  # no column
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
        _check_names([artifact])
        selected = options_of(Selection, selection)
        chosen = choose([artifact], selected.attention)
        if len(chosen) != 1:
            raise UsageError(f"{artifact!r} is not one table or figure")
        (one,) = narrowed(chosen, selected.only)
        return one, selected, self._wanted(selected)

    def _wanted(self, selected: Selection) -> Wanted:
        return wanted(selected, find_data(selected, DEFAULT_DATA, Dialogue(), self.database))
