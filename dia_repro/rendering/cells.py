"""Cells of tables, evidence of claims and explanations of cells as records with their columns."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dia_repro.artifacts import TableValue
from dia_repro.errors import UsageError
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.marks import ForeignFileError, check_alone, unreadable
from dia_repro.rendering.records import Record
from dia_repro.results.frames import ATTEMPTS, RUNS, Column, Table, optional
from dia_repro.results.schema import OURS


def _from(table: Table, *names: str, nullable: bool = False) -> tuple[Column, ...]:
    """Return columns of another table."""
    known = {column.name: column for column in table.columns}
    return tuple(replace(known[name], nullable=nullable) for name in names)


_CELL = (
    Column("artifact", "text", "Table or figure of the paper."),
    Column("row", "text", "Row of the cell, in the paper's words."),
    Column("column", "text", "Column of the cell, in the paper's words."),
    Column("metric", "text", "What is compared: top1 (best epoch), top1_last, params, …."),
    Column("unit", "text", "Unit of the paper's value and of ours."),
    optional("paper", "number", "The paper's value; nan where its training diverged."),
    optional("ours_mean", "number", "Our mean over seeds; nan where all runs diverged."),
    optional("ours_std", "number", "Standard deviation over seeds, n-1 in the denominator."),
    Column("n", "integer", "Runs behind the mean.", "runs"),
    Column("n_expected", "integer", "Seeds that a cell should have.", "runs"),
    Column("status", "text", "complete, partial, diverged or missing."),
    Column("protocol", "text", "paper or demo."),
    Column("origin", "text", "Whose runs they are, as 'db merge --as' named them; empty for ours."),
)
CELLS = Table(
    "cells",
    "One record a cell of a table: the paper's value and ours.",
    (
        *_CELL,
        *_from(RUNS, "dataset", "image_size", "epochs", "lr", "precision"),
        Column("spec_id", "text", "The experiment, as in runs."),
        Column("runs", "text", "Uids of the runs behind our value, spaces between."),
        Column("compared_runs", "text", "Uids of the runs that a change is counted from."),
    ),
)
CELL_FIELDS = CELLS.names
CLAIMS = Table(
    "claims",
    "One record for each comparison of each claim of the paper.",
    (
        Column("claim", "text", "Name of the claim."),
        Column("artifact", "text", "Table or figure that the claim is about."),
        Column("text", "text", "What the paper claims, in our words."),
        Column("where", "text", "Where the paper says so."),
        Column("verdict", "text", "supported, refuted, undecided or not run."),
        Column("reason", "text", "Why, in a sentence."),
        Column("by", "text", "Which accuracy counts: best or last; for training, last always."),
        optional("otherwise", "text", "The verdict by the other epoch, where it differs."),
        Column("conditions", "text", "Protocol, data, precision and statistic."),
        Column("papers_own", "boolean", "Whether data and schedule are the paper's."),
        Column("main", "boolean", "Whether the verdict rests on this comparison."),
        Column("compared", "text", "What is compared with what."),
        optional("effect", "number", "Size of the effect, in `unit`."),
        Column("unit", "text", "Unit of the effect and of its interval."),
        optional("low", "number", "Lower end of the effect's 95 % interval over seeds."),
        optional("high", "number", "Upper end of the effect's 95 % interval over seeds."),
        optional("images_low", "number", "Lower end of the interval over seeds and test images."),
        optional("images_high", "number", "Upper end of the interval over seeds and test images."),
        Column("n", "integer", "Paired seeds, or runs where runs are counted."),
        optional("p", "number", "p of this comparison alone, two-sided."),
        optional("p_corrected", "number", "p after Holm, where the effect is on the other side."),
        Column("test", "text", "Test behind interval and p; empty where there is none."),
        optional(
            "detectable",
            "number",
            "Smallest effect, or distance from a margin, that n seeds find here with 80 % power.",
        ),
        optional("in_favour", "boolean", "Whether the effect has the claim's direction."),
        Column("note", "text", "What else must be known."),
        Column("runs", "text", "Uids of the runs behind the comparison, spaces between."),
    ),
)
OF_ATTEMPT = ("host", "device", "torch", "git_commit", "git_clean", "ended_at")
EXPLANATIONS = Table(
    "explanations",
    "One record for each value of a cell and each run that it could come from.",
    (
        *_CELL,
        Column("how", "text", "How the value is computed, in a sentence."),
        Column("compared", "boolean", "Whether the run is of the network compared with."),
        Column("spec_id", "text", "The experiment, as in runs."),
        *_from(RUNS, "network", "dataset", "precision", "epochs"),
        *_from(RUNS, "run", "uid", "seed", "state", "reason", nullable=True),
        optional("used", "boolean", "Whether the value rests on the run."),
        optional("epoch", "integer", "Epoch that the run's value is of, counted from 1."),
        optional("value", "number", "What the run contributes, in `unit`."),
        *_from(RUNS, "epochs_done", nullable=True),
        optional("attempts", "integer", "Attempts at the run; what follows is of the last."),
        *_from(ATTEMPTS, *OF_ATTEMPT, nullable=True),
    ),
)


class ReplacedError(UsageError):
    """Results of another protocol, data set, schedule or precision would be lost."""


def cell_records(value: TableValue) -> list[Record]:
    """Return one record for each cell of a table, with the columns of `CELLS`."""
    return [{name: getattr(cell, name) for name in CELL_FIELDS} for cell in value.cells]


def is_another(table: Path, specs: Mapping[tuple[str, str], Spec], origin: str = OURS) -> bool:
    """Return whether files of a table are there, with cells of other experiments.

    Only the CSV file has the experiments: others are ours if it is next to them.

    Args:
        table: path of the files, without a suffix.
        specs: experiments that will be written, by row and column.
        origin: whose runs they are.

    Raises:
        OutputError: one cannot be read.
        ForeignFileError: they are no table of cells.
    """
    path = table.with_suffix(".csv")
    try:
        if not path.is_file():  # a pipe would be waited for
            check_alone(table, ("md", "tex"))
            return False
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not {"row", "column", "spec_id"} <= {*(reader.fieldnames or ())}:
                raise ForeignFileError(path)  # it may have no other line
            cells = [
                ((at["row"], at["column"]), (at["spec_id"], at.get("origin") or OURS))
                for at in reader
            ]
    except OSError as error:
        raise unreadable(path, error) from error
    except (UnicodeDecodeError, csv.Error):
        raise ForeignFileError(path) from None
    return any(at in specs and (specs[at].spec_id, origin) != known for at, known in cells)
