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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dia_repro.artifacts import TableArtifact, TableValue, choose
from dia_repro.artifacts.explanation import Findings, explain
from dia_repro.artifacts.lookup import find_entry
from dia_repro.artifacts.selection import best_covered, usual_names
from dia_repro.claims.verdicts import ClaimVerdict, Epoch, verdict_records
from dia_repro.errors import UsageError, displayed
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.listing import list_runs
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
from dia_repro.execution.schedules import other_lengths
from dia_repro.experiments.names import DataLocation, Keep, Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.rendering.cells import CELLS, CLAIMS, EXPLANATIONS, cell_records
from dia_repro.rendering.explanations import explanation_records
from dia_repro.results.comparison import DIFFERENCES, compare_runs
from dia_repro.results.database import Database, open_existing
from dia_repro.results.frames import ATTEMPTS, DTYPES, EPOCHS, RUNS, frame_of, read
from dia_repro.results.queries import run_detail

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from dia_repro.execution.again import Comparison
    from dia_repro.execution.campaign import Campaign, Summary
    from dia_repro.execution.planning import Plan

Location = str | os.PathLike[str]
TABLES = (RUNS, EPOCHS, ATTEMPTS, CELLS, CLAIMS, EXPLANATIONS, DIFFERENCES)


def open_results(location: Location = DEFAULT_DATABASE, *, origin: str = "") -> Results:
    """Open a database for reading.

    Args:
        location: path of a SQLite file, or a URL as `--db` takes it.
        origin: others, by the name that a merge gave them, whose runs cells, claims and
            explanations come from; by default ours. `runs` has the origin of every run.

    Raises:
        NoDatabaseError: there is no such file.
        ForeignDatabaseError: it is no database of this version of dia-repro.
        DatabaseError: it cannot be read.
        UsageError: the location is neither text nor a path, or there are no runs of that origin.
    """
    database = open_existing(_location(location, "location"))
    return Results(database.of(origin) if origin else database)


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
    """Train what artifacts need and the database lacks, as `dia-repro run` does.

    Args:
        artifacts: names, e.g. "table5"; "all" for all of them.
        database: a SQLite file or a URL; made if it does not exist.
        data: folder of downloaded data sets.
        checkpoints: a folder or a URL; by default a folder next to the database.
        deterministic: whether a GPU must give the same bits every time.
        keep: which weights stay when a run is done: "last", "best" or "none".
        yes: the answer to questions, e.g. whether to train for days on a CPU.
        options: fields of `Selection` and `Resources`, e.g. `protocol="demo"`, `seeds=3`, `jobs=2`.

    Raises:
        DiaReproError: an artifact, option, data set or resource does not exist.
        ConfirmationError: a question needs an answer; pass `yes=True`.
    """
    campaign = _campaign(artifacts, options, database, data, checkpoints)
    command = command_line("run", *artifacts, options=(campaign.selection, campaign.resources))
    kept = options_of(Keep, keep)
    return campaign.run(command, deterministic=deterministic, keep=kept, yes=yes)


def plan(
    *artifacts: str,
    database: Location = DEFAULT_DATABASE,
    data: Location = DEFAULT_DATA,
    on: str | None = None,
    **options: Any,
) -> Plan:
    """Return which runs artifacts need, which are done, and what the rest would cost.

    A few training steps measure the speed of this machine. `plan(...).frame()` is a DataFrame of
    the runs. Other arguments, and errors, are those of `run`.

    Args:
        on: a GPU that need not be here, e.g. "a100": an estimate from its maker's figures.
    """
    return _campaign(artifacts, options, database, data, None, on).plan()


def _campaign(
    artifacts: tuple[str, ...],
    options: Mapping[str, Any],
    database: Location,
    data: Location,
    checkpoints: Location | None,
    on: str | None = None,
) -> Campaign:
    from dia_repro.execution.campaign import Campaign  # brings torch

    _check_names(artifacts)
    known = {field.name: group for group in (Selection, Resources) for field in fields(group)}
    if unknown := options.keys() - known.keys():
        raise UsageError(f"unknown option {min(unknown)!r}: see dia_repro.execution.options")

    def given(group: type) -> dict[str, Any]:
        return {name: value for name, value in options.items() if known[name] is group}

    return Campaign(
        artifacts,
        options_of(Selection, given(Selection)),
        options_of(Resources, given(Resources)),
        _location(database, "database"),
        Path(_location(data, "data")),
        None if checkpoints is None else _location(checkpoints, "checkpoints"),
        on=on,
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


class Chosen:
    """Artifacts that a selection chooses, and the database with their results.

    Args:
        names: names of artifacts; by default `all`, and the controls that have runs.
        data: folder of downloaded data sets.

    Raises:
        DiaReproError: there is no such artifact, attention kind, network or data set.
    """

    def __init__(
        self,
        names: Sequence[str] | None,
        selection: Selection,
        database: Database,
        data: Path = DEFAULT_DATA,
        dialogue: Dialogue | None = None,
    ) -> None:
        self.selection, self.database, self.data = selection, database, data
        self.dialogue = dialogue or Dialogue()
        choose(names or (), selection.attention)  # refused before folders are looked through
        self.wanted = wanted(selection, find_data(selection, data, self.dialogue, database))
        artifacts = choose(names or usual_names(database, self.wanted), selection.attention)
        self.artifacts = narrowed(artifacts, selection.only)

    @property
    def one(self) -> TableArtifact:
        """Return the artifact.

        Raises:
            UsageError: there are several.
        """
        if len(self.artifacts) != 1:
            raise UsageError("name one table or figure: a cell is in one")
        return self.artifacts[0]

    def request(self, artifact: TableArtifact) -> Request:
        """Return the request that most runs of an artifact answer, as far as nothing is fixed."""
        return best_covered(artifact, self.database, self.wanted)

    def value(self, artifact: TableArtifact) -> TableValue:
        """Return an artifact's cells."""
        return artifact.compute(self.database, self.request(artifact), self.selection.seeds)

    def told(self, artifact: TableArtifact) -> TableValue:
        """Return an artifact's cells; say how to train its runs where there are none."""
        value = self.value(artifact)
        if not any(cell.n or cell.diverged for cell in value.cells):
            asked = replace(self.selection, protocol=value.request.protocol)
            command = command_line("run", artifact.name, options=asked)
            name = f"{artifact.name} in {self.database.name}"
            self.dialogue.notice(f"No finished runs for {name} yet: {command}")
            requests = [value.request]
            if self.selection.protocol is None:
                demo = replace(value.request, protocol=Protocol.DEMO, precision=Precision.FP32)
                requests.append(demo)
            specs = [spec for asked in requests for spec in artifact.specs(asked).values()]
            if found := other_lengths(self.database, specs):
                self.dialogue.notice(f"{found} --epochs shows them.")
        return value

    def explain(self, row: str, column: str, metric: str | None) -> Findings:
        """Return where a cell of the one artifact comes from; see `Results.explain`."""
        entry, request = find_entry(self.one, row, column), self.request(self.one)
        seeds = self.selection.seeds
        return explain(self.one, self.database, request, entry, metric=metric, seeds=seeds)

    def claims(self, by: Epoch) -> tuple[ClaimVerdict, ...]:
        """Return the verdicts on claims on the artifacts."""
        from dia_repro.claims.evaluate import evaluate_claims

        about = names_of_claims(self.artifacts, self.selection.only)
        verdicts = evaluate_claims(self.database, self.wanted, by)
        return tuple(verdict for verdict in verdicts if verdict.claim in about)


class Results:
    """Results in a database; a context manager that closes it.

    Every method reads the database again and returns a new DataFrame. Numbers are `Float64`: nan is
    the result of a diverged training, `<NA>` is missing. An unknown argument or value, and closed
    results, raise `UsageError`.
    """

    def __init__(self, database: Database) -> None:
        self._database: Database | None = database

    @property
    def database(self) -> Database:
        """Return the open database."""
        if self._database is None:
            raise UsageError("these results are closed: open them again with open_results")
        return self._database

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; closing it again changes nothing."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def runs(self, **wanted: Any) -> pd.DataFrame:
        """Return one row for each run: its experiment, state and accuracy.

        Args:
            wanted: fields of `RunFilter`, e.g. `state="finished"`, `artifact=["table5", "table7"]`,
                `since="2026-11-20"`, `sort="-best_top1"`; by default all runs, oldest first.
        """
        return frame_of(RUNS, list_runs(self.database, options_of(RunFilter, wanted)).records)

    def epochs(self) -> pd.DataFrame:
        """Return one row for each epoch of each run."""
        with self.database.reading() as session:
            return read(session, EPOCHS)

    def attempts(self) -> pd.DataFrame:
        """Return one row for each attempt at a run, with its environment."""
        with self.database.reading() as session:
            return read(session, ATTEMPTS)

    def diff(self, a: int, b: int) -> pd.DataFrame:
        """Return one row for each field of two runs, by their numbers; values are texts."""
        found = compare_runs(self.database, _run_number(a), _run_number(b))
        texts = (row | {"a": _text(row["a"]), "b": _text(row["b"])} for row in found)
        return frame_of(DIFFERENCES, texts)

    def network(self, run: int, *, checkpoints: Location | None = None) -> nn.Module:
        """Return the trained network of a run, on the CPU and in evaluation mode.

        It takes images (B, 3, H, W), normalised as in training, and returns logits (B, classes).

        Args:
            run: its number.
            checkpoints: a folder or a URL; by default the folder next to the database.

        Raises:
            NoWeightsError: the run has no sound checkpoint there.
            UsageError: there is no such run.
        """
        from dia_repro.analysis.weights import trained_network
        from dia_repro.execution.maintenance import checkpoint_store, folder_of

        detail = run_detail(self.database, _run_number(run))
        location = None if checkpoints is None else _location(checkpoints, "checkpoints")
        store = checkpoint_store(self.database, location)
        return trained_network(detail, folder_of(store, detail.summary))

    def again(
        self,
        run: int,
        into: Location = "again.db",
        *,
        data: Location = DEFAULT_DATA,
        images: Location | None = None,
        skip_damaged: bool = False,
    ) -> Comparison:
        """Train a run once more, exactly as it was, into another database, and compare the results.

        Args:
            run: its number.
            into: the other database; made if it does not exist.
            data: folder of downloaded data sets.
            images: folder of the images, where they are the user's own.
            skip_damaged: whether damaged images are left out, as `run` does if it is told to.

        Returns:
            What differs between the environments, and where the results part; `outcome` is empty
            where all metrics are the same, bit for bit.

        Raises:
            NotRepeatableError: the run has no result, or the other database has the run itself.
            RunFailedError: the repetition failed or was interrupted; the same call goes on.
        """
        from dia_repro.execution.again import RunFailedError, compare, train_again

        detail = run_detail(self.database, _run_number(run))
        folder = None if images is None else Path(_location(images, "images"))
        location = DataLocation(Path(_location(data, "data")), folder, skip_damaged)
        target = _location(into, "into")
        command = command_line("runs again", str(run), into=displayed(target))
        other, worked = train_again(detail, target, location, Dialogue(), command)
        if not worked.done:
            raise RunFailedError(f"the repetition of run {run} was not trained to its end")
        return compare(detail, other)

    def bundle(self, target: Location) -> None:
        """Write the database into a new ZIP file, with its versions and a description.

        `report --bundle` adds tables and pictures to it. `db merge` reads both.

        Raises:
            BundleError: the file exists, or cannot be written.
        """
        from dia_repro.results.bundle import write_bundle

        write_bundle(self.database, Path(_location(target, "target")), {})

    def cells(self, artifact: str, **selection: Any) -> pd.DataFrame:
        """Return one row for each cell of an artifact: the paper's value and ours.

        Args:
            artifact: name of a table or figure, e.g. `table5`.
            selection: fields of `Selection`, e.g. `protocol="demo"`; by default what most runs in
                the database answer.
        """
        chosen = self._choose([artifact], selection)
        return frame_of(CELLS, cell_records(chosen.value(chosen.one)))

    def claims(self, *artifacts: str, by: str = "best", **selection: Any) -> pd.DataFrame:
        """Return one row for each comparison of each claim, with the claim's verdict.

        Args:
            artifacts: names; by default all, and the controls that have runs.
            by: `best` or `last`, the epoch whose test accuracy counts.
            selection: as in `cells`; `only` leaves the claims on networks that it names. Claims are
                judged by every seed, on the artifacts' own networks: `seeds` and `attention` are
                refused.
        """
        if by not in list(Epoch):
            raise UsageError(f"by: {' or '.join(Epoch)}, not {brief(by)}")
        if foreign := {"seeds", "attention"} & selection.keys():
            raise UsageError(f"claims take no {min(foreign)}: every seed counts, of any network")
        verdicts = self._choose(artifacts, selection).claims(Epoch(by))
        return frame_of(CLAIMS, verdict_records(verdicts))

    def explain(
        self, artifact: str, row: str, column: str, metric: str | None = None, **selection: Any
    ) -> pd.DataFrame:
        """Return one row for each value of a cell and each run that it could come from.

        Args:
            artifact, selection: as in `cells`.
            row, column: the cell's names in either order; a part of a name will do.
            metric: one of the cell's values; by default all.

        Raises:
            UnknownCellError: the artifact has no such cell.
        """
        _check_names([row, column] if metric is None else [row, column, metric])
        found = self._choose([artifact], selection).explain(row, column, metric)
        commands = {known.spec.spec_id: "" for known in found.experiments.values()}  # no column
        return frame_of(EXPLANATIONS, explanation_records(found, commands))

    def columns(self) -> pd.DataFrame:
        """Return the dtype, unit and meaning of each column of these DataFrames."""
        import pandas as pd

        described = [
            {"table": table.name, "dtype": DTYPES[column.type], **asdict(column)}
            for table in TABLES
            for column in table.columns
        ]
        names = ["table", "name", "dtype", "unit", "nullable", "meaning"]
        return pd.DataFrame(described)[names]

    def _choose(self, names: Sequence[str], selection: Mapping[str, Any]) -> Chosen:
        _check_names(names)
        return Chosen(names, options_of(Selection, selection), self.database)
