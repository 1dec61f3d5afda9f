"""Python API for notebooks and scripts: results as DataFrames, plans, and runs.

    with dia_repro.open_results("runs.db") as results:
        runs = results.runs()
        cells = results.cells("table5", protocol="demo")

    dia_repro.plan("table5", protocol="demo").frame()
    dia_repro.run("table5", protocol="demo", seeds=3)

What each column of results means, its unit and its dtype: `results.columns()`.
"""

from __future__ import annotations

import multiprocessing
import operator
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dia_repro.claims.verdicts import Epoch, verdict_records
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
from dia_repro.experiments.names import DataLocation, Keep
from dia_repro.rendering.cells import CELLS, CLAIMS, EXPLANATIONS, cell_records
from dia_repro.rendering.explanations import explanation_records
from dia_repro.rendering.layout import Layout
from dia_repro.rendering.records import FileFormat, Tracker
from dia_repro.reports.chosen import Chosen
from dia_repro.reports.options import Folders
from dia_repro.results.comparison import DIFFERENCES, compare_runs
from dia_repro.results.database import Database, open_database, open_existing
from dia_repro.results.frames import ATTEMPTS, DTYPES, EPOCHS, RUNS, frame_of, read
from dia_repro.results.queries import run_detail

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from dia_repro.data.registry import Findings
    from dia_repro.execution.again import Comparison
    from dia_repro.execution.campaign import Campaign, Summary
    from dia_repro.execution.planning import Plan
    from dia_repro.results.merge import Merged

Location = str | os.PathLike[str]
TABLES = (RUNS, EPOCHS, ATTEMPTS, CELLS, CLAIMS, EXPLANATIONS, DIFFERENCES)


def open_results(location: Location = DEFAULT_DATABASE, *, origin: str | None = None) -> Results:
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
    return Results(database if origin is None else database.of(origin))


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
    _check_process()
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


def merge(
    *others: Location,
    database: Location = DEFAULT_DATABASE,
    skip_conflicts: bool = False,
    origin: str | None = None,
) -> Merged:
    """Add results of other databases or bundles to a database, as `dia-repro db merge` does.

    Args:
        others: SQLite files, URLs, or bundles (ZIP files); they stay as they are.
        database: a SQLite file or a URL; made if it does not exist.
        skip_conflicts: whether ours stay where runs conflict, and the rest is taken.
        origin: name of those whose results they are, which are kept apart from ours; None where
            they are ours.

    Returns:
        The numbers of runs added, continued, and known; and the conflicts that were skipped.

    Raises:
        ConflictError: runs conflict, and conflicts are not skipped: nothing at all was taken. Its
            `conflicts` has them.
        NoDatabaseError, ForeignDatabaseError, DatabaseError: one is missing or cannot be read.
        MergeError: one has rows that dia-repro does not write, or is the database itself.
        BundleError: a ZIP file is no bundle.
    """
    from dia_repro.results.bundle import opened
    from dia_repro.results.merge import ConflictError
    from dia_repro.results.merge import merge as merged_into

    _check_names([] if origin is None else [origin])
    with opened([_location(other, "others") for other in others]) as sources:
        target = open_database(_location(database, "database"), create=True)
        merged = merged_into(target, sources, skip_conflicts=skip_conflicts, origin=origin)
    if merged.conflicts and not skip_conflicts:
        raise ConflictError(merged.conflicts)
    return merged


def fetch_data(name: str, *, data: Location = DEFAULT_DATA, mirror: str | None = None) -> Findings:
    """Download `cifar10` or `cifar100`, and verify it as `check_data` does.

    Args:
        data: folder of downloaded data sets.
        mirror: URL of a copy of the archive, or of the folder that it is in.

    Raises:
        UsageError: there is no such data set, or it cannot be downloaded.
        DataError: the download failed, or its checksum is wrong.
    """
    from dia_repro.data import fetch_data as fetch

    _check_names([name] if mirror is None else [name, mirror])
    with Dialogue().watch(f"Downloading {name}") as on_progress:
        return fetch(name, Path(_location(data, "data")), on_progress, mirror)


def check_data(name: str, *, data: Location = DEFAULT_DATA) -> Findings:
    """Verify a data set and count its images, as `dia-repro data check` does.

    Args:
        name: `cifar10`, `cifar100`, `imagenet`, `folder:PATH` for your own images, or
            `packed:PATH`.
        data: folder of downloaded data sets.

    Returns:
        `remarks`, sentences on what is there and which images are there twice; and `damaged`, the
        paths of images that cannot be decoded.

    Raises:
        UsageError: there is no such data set.
        DataError: it is missing or damaged.
    """
    from dia_repro.data import check_data as check

    _check_names([name])
    with Dialogue().watch(f"Looking through {name}") as on_progress:
        return check(name, Path(_location(data, "data")), on_progress)


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
    selection, resources = _split(options, Selection, Resources)
    return Campaign(
        artifacts,
        options_of(Selection, selection),
        options_of(Resources, resources),
        _location(database, "database"),
        Path(_location(data, "data")),
        None if checkpoints is None else _location(checkpoints, "checkpoints"),
        on=on,
    )


def _split(options: Mapping[str, Any], *groups: type) -> list[dict[str, Any]]:
    """Return the options that are fields of each group.

    Raises:
        UsageError: one is a field of none.
    """
    known = [{field.name for field in fields(group)} for group in groups]
    if unknown := options.keys() - set().union(*known):
        names = ", ".join(sorted(set().union(*known)))
        raise UsageError(f"unknown option {min(unknown)!r}: choose from {names}")
    return [{name: options[name] for name in options.keys() & group} for group in known]


def _check_process() -> None:
    """Raise `UsageError` where runs cannot be trained: in a thread, or in a pool's process."""
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("runs are trained from the main thread, which signals reach")
    if multiprocessing.current_process().daemon:
        raise UsageError("runs are not trained from a process of a pool, which may start no other")


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

        _check_process()
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

    def export(
        self,
        folder: Location,
        *,
        format: str = "csv",  # noqa: A002 - the option's name
        overwrite: bool = False,
    ) -> dict[str, int]:
        """Write all runs, epochs and attempts to files, and what their columns mean.

        Args:
            folder: made where there is none.
            format: `csv`, `json` or `parquet`; or `tensorboard` or `wandb`, for event files.
            overwrite: whether files of an earlier export may be replaced; event files never are.

        Returns:
            Numbers of records by table; of event files, the number of runs.

        Raises:
            UsageError: files are there already.
            AbsentError: a package that the format needs is not installed.
            OutputError: the folder cannot be written to.
        """
        from dia_repro.rendering.export import export_database
        from dia_repro.rendering.trackers import export_to

        target, database = Path(_location(folder, "folder")), self.database
        with Dialogue().watch("Writing") as on_progress:
            if format in list(Tracker):
                return {"runs": export_to(Tracker(format), database, target, on_progress)}
            return export_database(
                database,
                target,
                options_of(FileFormat, format),
                overwrite=overwrite,
                on_progress=on_progress,
            )

    def report(
        self,
        *artifacts: str,
        tables: Location = "tables",
        figures: Location = "figures",
        html: Location | None = "report.html",
        bundle: Location | None = None,
        weights: bool = False,
        replace: bool = False,
        data: Location = DEFAULT_DATA,
        checkpoints: Location | None = None,
        **options: Any,
    ) -> list[Path]:
        """Write tables, pictures and a page, as `dia-repro report` does, and return the files.

        Args:
            artifacts: names; by default all, and the controls that have runs.
            tables, figures: folders, made where there are none.
            html: the page; None writes none.
            bundle: also a ZIP file of all of it, with the database and the runs' logs.
            weights: whether the bundle has the runs' weights, too, where they are.
            replace: whether results of another protocol, data set or schedule may be replaced.
            data: folder of downloaded data sets.
            checkpoints: a folder or a URL; by default the folder next to the database.
            options: fields of `Selection` and of `Layout`, e.g. `protocol="demo"`,
                `columns="ours"`, `metrics="top1"`, `trained=True`.

        Raises:
            ReplacedError: there are results of other experiments, and they must not be replaced.
            ForeignFileError: a file that dia-repro has not written is in the place of one.
            UsageError: the bundle exists.
            OutputError: a file cannot be written.
        """
        from dia_repro.reports.report import Report

        selection, layout = _split(options, Selection, Layout)
        folders = Folders(Path(_location(tables, "tables")), Path(_location(figures, "figures")))
        page, zipped = (None if p is None else Path(_location(p, "path")) for p in (html, bundle))
        return Report(
            self._choose(artifacts, selection, Path(_location(data, "data"))),
            options_of(Layout, layout),
            folders,
            page,
            None if checkpoints is None else _location(checkpoints, "checkpoints"),
            command_line("report", *artifacts),
        ).write(replace_others=replace, bundle=zipped, weights=weights)

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

    def _choose(
        self, names: Sequence[str], selection: Mapping[str, Any], data: Path = DEFAULT_DATA
    ) -> Chosen:
        _check_names(names)
        return Chosen(names, options_of(Selection, selection), self.database, data)
