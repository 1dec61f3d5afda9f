"""Runs, epochs and attempts as tables: meaning of their columns, their rows, DataFrames of them.

Columns of the database are described in `results.schema`; columns of an experiment and totals of a
run's epochs here. A column's type decides its dtype:

    integer  Int64          number   Float64, in which nan and inf are results (a divergence)
    boolean  boolean        text     string
    time     datetime64[us, UTC]

A missing value is `<NA>` (`NaT` of a time), never nan.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from dia_repro.experiments.spec import InvalidSpecError, Spec
from dia_repro.results.database import DatabaseError
from dia_repro.results.queries import select_runs
from dia_repro.results.schema import Base, EpochRow, ProvenanceRow, Real, RunRow, SpecRow

if TYPE_CHECKING:
    import pandas as pd

Type = Literal["integer", "number", "text", "boolean", "time"]
Row = Sequence[Any]
DTYPES: dict[Type, str] = {
    "integer": "Int64",
    "number": "Float64",
    "text": "string",
    "boolean": "boolean",
    "time": "datetime64[us, UTC]",
}
SQL_TYPES: dict[type, Type] = {
    sqlalchemy.Integer: "integer",
    Real: "number",
    sqlalchemy.String: "text",
    sqlalchemy.Boolean: "boolean",
    sqlalchemy.DateTime: "time",
}
BATCH = 20_000


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        meaning: a sentence.
        unit: unit of a number; empty where it has none.
    """

    name: str
    type: Type
    meaning: str
    unit: str = ""
    nullable: bool = False


def optional(name: str, type_: Type, meaning: str, unit: str = "") -> Column:
    """Return a column whose values may be missing."""
    return Column(name, type_, meaning, unit, nullable=True)


@dataclass(frozen=True)
class Table:
    """A table, with one record in each row."""

    name: str
    meaning: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in their order."""
        return tuple(column.name for column in self.columns)


# The fields of a spec by their path in its canonical JSON, after two descriptions of it.
SPEC: dict[str, Column] = {
    "network": Column("network", "text", "The network in short words."),
    "data": Column("data", "text", "The data in short words."),
    "data.dataset": Column("dataset", "text", "Name of the data set."),
    "data.classes": Column("classes", "integer", "Classes of the data set."),
    "data.image_size": Column("image_size", "integer", "Side of the square images.", "pixels"),
    "data.augmentation": Column("augmentation", "text", "How training images are augmented."),
    "data.content_hash": optional("content_hash", "text", "SHA-256 of a user's own images."),
    "data.validation": optional(
        "validation", "integer", "Share of the training images held out for validation.", "%"
    ),
    "model.backbone.family": Column("backbone", "text", "Family of the backbone."),
    "model.backbone.depth": optional("depth", "integer", "Layers, where there is a choice."),
    "model.backbone.block": optional("block", "text", "bottleneck or basic."),
    "model.backbone.widen_factor": optional("widen_factor", "integer", "Factor of WRNs, ResNeXts."),
    "model.backbone.cardinality": optional("cardinality", "integer", "Groups of ResNeXts."),
    "model.backbone.dropout": optional("dropout", "number", "Probability in wide ResNets."),
    "model.backbone.conv_bias": optional(
        "conv_bias", "boolean", "Whether convolutions of ImageNet's networks have a bias."
    ),
    "model.attention.kind": Column("attention", "text", "none, se, dia-se, dia-lstm or another."),
    "model.attention.reduction": optional("reduction", "integer", "The reduction ratio r."),
    "model.attention.bias": optional("attention_bias", "boolean", "Whether SE has biases."),
    "model.attention.activation": optional("activation", "text", "At the LSTM's output."),
    "model.attention.cells": optional("cells", "integer", "Stacked LSTM cells."),
    "model.attention.stages": optional(
        "stages", "text", "Stages with a DIA unit, spaces between; missing for all."
    ),
    "model.attention.extraction": optional(
        "extraction", "text", "What the DIA unit sees of a feature map: gap or bn+gap."
    ),
    "model.attention": optional("attention_options", "text", "Options of any other attention."),
    "model.norm": Column("norm", "boolean", "Whether there is batch normalisation."),
    "model.skip": Column("skip", "boolean", "Whether there are skip connections."),
    "recipe.epochs": Column("epochs", "integer", "Length of the whole training.", "epochs"),
    "recipe.batch_size": Column("batch_size", "integer", "Images of a step.", "images"),
    "recipe.lr": Column("lr", "number", "Learning rate at the start."),
    "recipe.momentum": Column("momentum", "number", "Momentum of SGD."),
    "recipe.weight_decay": Column("weight_decay", "number", "Weight decay of all parameters."),
    "recipe.milestones": Column(
        "milestones", "text", "Epochs, from 0, at whose start the rate is cut; spaces between."
    ),
    "recipe.gamma": Column("gamma", "number", "Factor by which the rate is cut."),
    "precision": Column("precision", "text", "Arithmetic: fp32, tf32 or bf16."),
}
# What `select_runs` adds to a run's own columns.
TOTALS = (
    Column("epochs_done", "integer", "Epochs that are recorded.", "epochs"),
    optional(
        "best_top1",
        "number",
        "Best test accuracy over epochs; where images are held out for validation, that of the "
        "epoch that did best on them.",
        "%",
    ),
    optional("last_top1", "number", "Test accuracy of the last epoch, if it was tested.", "%"),
    Column("seconds", "number", "Wall time of all recorded epochs.", "s"),
)


def _table(name: str, source: type[Base], *more: Column) -> Table:
    """Return the description of a table of the database, with additional columns."""
    columns = tuple(
        Column(
            name=column.info["shown_as"] or column.name,
            type=next(SQL_TYPES[kind] for kind in type(column.type).__mro__ if kind in SQL_TYPES),
            meaning=column.doc or "",
            unit=column.info["unit"],
            nullable=bool(column.nullable),
        )
        for column in source.__table__.columns
    )
    meaning = (source.__doc__ or "").partition("\n")[0]  # python -OO keeps none
    return Table(name, meaning, (*columns, *more))


RUNS = _table("runs", RunRow, *SPEC.values(), *TOTALS)
EPOCHS = _table("epochs", EpochRow)
ATTEMPTS = _table("attempts", ProvenanceRow)
SOURCES = {RUNS: RunRow, EPOCHS: EpochRow, ATTEMPTS: ProvenanceRow}


def count_rows(session: Session, table: Table, chosen: ColumnElement[bool] | None = None) -> int:
    """Return how many records of a table fulfil a condition; by default how many there are."""
    query = select(func.count()).select_from(SOURCES[table])
    return session.scalar(query if chosen is None else query.where(chosen)) or 0


def rows_of(
    session: Session,
    table: Table,
    chosen: ColumnElement[bool] | None = None,
    *,
    last: int | None = None,
) -> Iterator[Sequence[Row]]:
    """Yield the rows of a table in batches, ordered by their numbers; no table is held whole.

    Args:
        chosen: condition on the rows of the database; by default all.
        last: number of the last of these runs to return.

    Raises:
        DatabaseError: a run has no spec, or one that cannot be read.
    """
    source, bulk = SOURCES[table].__table__, {"yield_per": BATCH}
    if table is not RUNS:
        query = select(*source.columns).order_by(*source.primary_key)
        query = query if chosen is None else query.where(chosen)
        yield from session.execute(query, execution_options=bulk).partitions()
        return
    texts = {row.spec_id: row.json for row in session.scalars(select(SpecRow))}
    specs: dict[str, Row] = {}
    query, own = select_runs(*source.columns, chosen=chosen, last=last), len(source.columns)
    for batch in session.execute(query, execution_options=bulk).partitions():
        for spec_id in {run.spec_id for run in batch} - specs.keys():
            specs[spec_id] = _spec_values(spec_id, texts.get(spec_id))
        yield [(*run[:own], *specs[run.spec_id], *run[own:]) for run in batch]


def records_of(
    session: Session,
    table: Table,
    chosen: ColumnElement[bool] | None = None,
    *,
    last: int | None = None,
) -> list[dict[str, Any]]:
    """Return the rows that `rows_of` yields, by the names of the columns."""
    batches = rows_of(session, table, chosen, last=last)
    return [dict(zip(table.names, row, strict=True)) for row in chain.from_iterable(batches)]


def _spec_values(spec_id: str, text: str | None) -> Row:
    """Return the values of an experiment in the order of `SPEC`."""
    if text is None:
        raise DatabaseError(f"spec {spec_id} is gone: see 'dia-repro db check'")
    try:
        spec = Spec.from_stored(text)
    except InvalidSpecError as error:
        reason = f"spec {spec_id} cannot be read: {error}: see 'dia-repro db check'"
        raise InvalidSpecError(reason) from error
    known = dict(_leaves("", json.loads(text)))
    own = [path for path, value in known.items() if not _has_column(path, value)]
    others = {path: known.pop(path) for path in own}
    known["network"], known["data"] = spec.model.label, spec.data.label
    options = (f"{path.split('.')[-1]}={others[path]}" for path in sorted(others))
    known["model.attention"] = " ".join(options) or None
    return tuple(known.get(path) for path in SPEC)


def _has_column(path: str, value: object) -> bool:
    """Return whether a value has a column of its type; a plugin's option may have another type."""
    column = SPEC.get(path)
    if column is None or value is None:
        return column is not None
    types = {"integer": (int,), "number": (int, float), "boolean": (bool,), "text": (str,)}
    is_number = not isinstance(value, bool) or column.type == "boolean"
    fits = not isinstance(value, int) or abs(value) < 2**63
    return isinstance(value, types[column.type]) and is_number and fits


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{path}.{name}".removeprefix("."), inner)
    else:
        yield path, " ".join(map(str, value)) if isinstance(value, list) else value


def frame(table: Table, rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as a DataFrame with the dtypes of the table's columns."""
    import pandas as pd

    values = list(zip(*rows, strict=True)) or [()] * len(table.columns)
    described = zip(table.columns, values, strict=True)
    return pd.DataFrame({column.name: _array(column.type, found) for column, found in described})


def frame_of(table: Table, records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return records as a DataFrame with the table's columns."""
    return frame(table, ([record[name] for name in table.names] for record in records))


def _array(type_: Type, values: Sequence[Any]) -> Any:
    import numpy as np
    import pandas as pd

    if type_ == "number":  # pandas would take nan for missing
        missing = np.array([value is None for value in values], dtype=bool)
        numbers = [0.0 if value is None else value for value in values]
        return pd.arrays.FloatingArray(np.array(numbers, dtype=float), missing)
    if type_ == "time":
        return pd.to_datetime(list(values), utc=True).as_unit("us")
    return pd.array(values, dtype=DTYPES[type_])


def read(session: Session, table: Table) -> pd.DataFrame:
    """Return a whole table."""
    return frame(table, chain.from_iterable(rows_of(session, table)))
