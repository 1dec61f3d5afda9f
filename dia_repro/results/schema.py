"""The database's tables. Times are UTC without a zone; durations are seconds.

Columns of runs, epochs and attempts are described here, and nowhere else: listings, exports,
DataFrames and their documentation take names, types, units and meanings from these tables
(`results.frames`). Any change needs a migration in `migrations/versions`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Connection,
    Dialect,
    Double,
    ForeignKey,
    MetaData,
    TypeDecorator,
    UniqueConstraint,
    delete,
    event,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column, relationship

OURS = ""  # origin of the runs that this database's users train or merge as theirs
# Rows that are removed together with the row that owns them, which the database itself does.
OWNED: dict[str, Any] = {"cascade": "all, delete-orphan", "passive_deletes": True}


def now() -> datetime:
    """Return the time in UTC, without a zone, as the database keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


class State(StrEnum):
    """State of a run."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


# A run in one of these has a result and is not trained again.
DONE = (State.FINISHED, State.DIVERGED)


class Real(TypeDecorator[float]):
    """A float that comes back as it went in, nan and ±inf too.

    SQLite's NaN is NULL; there a number that is not finite is stored as text.
    """

    impl = Double
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[float | None], float | str | None]:
        """Return the conversion to what the backend can hold, without the one to float."""
        as_text = dialect.name == "sqlite"

        def convert(value: float | None) -> float | str | None:
            return str(value) if as_text and value is not None and not isfinite(value) else value

        return convert

    def result_processor(
        self, _dialect: Dialect, _coltype: object
    ) -> Callable[[float | str | None], float | None]:
        """Return the conversion back to a float."""
        return lambda value: None if value is None else float(value)


class Base(DeclarativeBase):
    """All tables, with named constraints so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def described(
    meaning: str, *arguments: Any, unit: str = "", shown_as: str = "", **options: Any
) -> MappedColumn[Any]:
    """Return a column that is listed and exported; other arguments are `mapped_column`'s.

    Args:
        meaning: a sentence.
        unit: unit of a number.
        shown_as: the column's name outside the database, if it is another.
    """
    info = {"unit": unit, "shown_as": shown_as}
    return mapped_column(*arguments, doc=meaning, info=info, **options)


class SpecRow(Base):
    """A spec that some run was made for; its canonical JSON, whole."""

    __tablename__ = "specs"

    spec_id: Mapped[str] = mapped_column(primary_key=True)
    json: Mapped[str]


class RunRow(Base):
    """One record a run: one training of one experiment with one seed.

    Others' results of the same experiment and seed are runs with another origin.
    """

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("spec_id", "seed", "origin"),
        CheckConstraint("seed >= 0", name="seed"),
        CheckConstraint(
            "state in ({})".format(", ".join(f"'{state.value}'" for state in State)), name="state"
        ),
    )

    id: Mapped[int] = described(
        "The run's number in this database.", shown_as="run", primary_key=True
    )
    uid: Mapped[str] = described(
        "The run's name, which it keeps when databases are merged.",
        unique=True,
        default=lambda: uuid.uuid4().hex,
    )
    spec_id: Mapped[str] = described(
        "Names the experiment: a hash of all that defines it.", ForeignKey("specs.spec_id")
    )
    seed: Mapped[int] = described("Seed of all random draws.")
    origin: Mapped[str] = described(
        "Whose result it is, as 'db merge --as' named it; empty for ours.", default=OURS
    )
    state: Mapped[str] = described(
        "pending, running, finished, diverged, failed or interrupted.", default=State.PENDING
    )
    reason: Mapped[str | None] = described("Why it failed, or how it diverged.")
    owner: Mapped[str | None] = described("The process that trains it, while one does.")
    parameters: Mapped[int | None] = described(
        "Parameters of the network, as counted; missing before it is built."
    )
    created_at: Mapped[datetime] = described("When the run was first asked for.", default=now)
    changed_at: Mapped[datetime] = described("When anything of it last changed.", default=now)
    spec: Mapped[SpecRow] = relationship()
    epochs: Mapped[list[EpochRow]] = relationship(order_by="EpochRow.epoch", **OWNED)
    attempts: Mapped[list[ProvenanceRow]] = relationship(order_by="ProvenanceRow.id", **OWNED)
    analyses: Mapped[list[AnalysisRow]] = relationship(**OWNED)


def _run(**options: Any) -> MappedColumn[Any]:
    """Return the column of a row's run, with which the row is removed."""
    key = ForeignKey("runs.id", ondelete="CASCADE")
    return described("The run's number, as in runs.", key, shown_as="run", **options)


class EpochRow(Base):
    """One record an epoch of a run; the columns of `EpochMetrics`."""

    __tablename__ = "epochs"

    run_id: Mapped[int] = _run(primary_key=True)
    epoch: Mapped[int] = described("The epoch, counted from 1.", primary_key=True)
    lr: Mapped[float] = described("Learning rate during the epoch.", Real)
    train_loss: Mapped[float] = described(
        "Mean cross entropy while the weights moved.", Real, unit="nats"
    )
    train_top1: Mapped[float] = described(
        "Training accuracy while the weights moved.", Real, unit="%"
    )
    test_loss: Mapped[float | None] = described(
        "Mean cross entropy on the whole test set. Where images are held out for validation, "
        "missing but in the last epoch, and there of the epoch that did best on them.",
        Real,
        unit="nats",
    )
    test_top1: Mapped[float | None] = described(
        "Accuracy on the whole test set; missing as test_loss.", Real, unit="%"
    )
    seconds: Mapped[float] = described("Wall time, evaluation included.", Real, unit="s")
    validation_loss: Mapped[float | None] = described(
        "Mean cross entropy on the training images held out for validation, if any.",
        Real,
        unit="nats",
    )
    validation_top1: Mapped[float | None] = described(
        "Accuracy on the training images held out for validation, if any.", Real, unit="%"
    )


class ProvenanceRow(Base):
    """One record an attempt at a run, with its environment; see `training.provenance.collect`.

    A run that was interrupted and resumed has several. An attempt that was killed has no end.
    """

    __tablename__ = "provenance"

    id: Mapped[int] = described(
        "The attempt's number in this database.", shown_as="attempt", primary_key=True
    )
    run_id: Mapped[int] = _run(index=True)
    started_at: Mapped[datetime] = described("When it began.")
    ended_at: Mapped[datetime | None] = described("When it ended; missing if it was killed.")
    wall_seconds: Mapped[float | None] = described("How long it took.", Real, unit="s")
    peak_memory_bytes: Mapped[int | None] = described(
        "The most memory it held.", BigInteger, unit="bytes"
    )
    host: Mapped[str] = described("Name of the machine.")
    device: Mapped[str] = described("Name of the GPU or processor.")
    threads: Mapped[int] = described("CPU threads of the training process.")
    python: Mapped[str] = described("Version of Python.")
    torch: Mapped[str] = described("Version of torch.")
    cuda: Mapped[str | None] = described("Version of CUDA; missing on a CPU.")
    package: Mapped[str] = described("Version of this package.")
    git_commit: Mapped[str | None] = described("Commit of the code; missing outside a checkout.")
    git_clean: Mapped[bool | None] = described("Whether the checkout had no changes.")
    code_sha256: Mapped[str | None] = described(
        "SHA-256 of the package's Python files; missing in old rows."
    )
    pillow: Mapped[str | None] = described(
        "Version of Pillow; missing where it decodes no images while training, and in old rows."
    )
    capability: Mapped[str | None] = described(
        "Instructions of the CPU that torch used, and variables that choose others; missing in old "
        "rows."
    )
    packages: Mapped[str | None] = described(
        "Versions of the libraries that the package requires, spaces between; missing in old rows."
    )
    git_diff: Mapped[str | None] = described(
        "Changes of the checkout's files since the commit, as git diff prints them; missing where "
        "there are none or they are too large, and in old rows."
    )
    command: Mapped[str] = described("The command line.")
    data_sha256: Mapped[str] = described("SHA-256 of pixels and labels.")
    test_images: Mapped[int | None] = described("Images in the test set; missing in old rows.")
    from_epoch: Mapped[int] = described("Epochs that were done before.", unit="epochs")
    step: Mapped[str | None] = described(
        "Execution mode of the training step: captured, eager, …; missing in old rows."
    )
    deterministic: Mapped[bool | None] = described("Whether the same would give the same bits.")


class LeaseRow(Base):
    """The lease of a run that is under way.

    `lock_id` is the identity of the lease's lock (`leasing.lock_id`), so that a process that holds
    the same lock knows that its owner is dead. `beats` counts up while the owner lives: other
    processes recognise its death by a count that stands still, not by a clock. `token` is random
    and known to the owner alone: numbers are the same in a database that replaces this one.
    """

    __tablename__ = "leases"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(ForeignKey("provenance.id", ondelete="CASCADE"))
    lock_id: Mapped[str]
    beats: Mapped[int] = mapped_column(default=0)
    token: Mapped[str] = mapped_column(default=lambda: uuid.uuid4().hex)
    run: Mapped[RunRow] = relationship(lazy="joined", innerjoin=True)


# Settings of the analysis that a run records while it trains: its gradients, a part an epoch.
GRADIENTS_SETTINGS = '{"kind": "gradients"}'


class AnalysisRow(Base):
    """An analysis of a run's network, done once for each of its `settings`.

    `settings` is canonical JSON of what its result depends on, its kind included;
    `circumstances` is JSON of the environment that it was begun in.
    """

    __tablename__ = "analyses"
    __table_args__ = (UniqueConstraint("run_id", "settings"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    settings: Mapped[str]
    circumstances: Mapped[str]
    begun_at: Mapped[datetime] = mapped_column(default=now)
    parts: Mapped[list[AnalysisPartRow]] = relationship(order_by="AnalysisPartRow.part", **OWNED)


class AnalysisPartRow(Base):
    """One part of an analysis, as it was done; `content` is JSON, `seconds` is computing time."""

    __tablename__ = "analysis_parts"

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True
    )
    part: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[str]
    seconds: Mapped[float] = mapped_column(Real)


def forget_leftovers(connection: Connection, new: Sequence[int]) -> None:
    """Remove rows that other runs of these numbers had, and that would be taken for the new ones'.

    There are such rows where a run was removed by another program: SQLite then removes neither its
    epochs nor its analyses, and gives its number again.
    """
    for table in (EpochRow, AnalysisRow, LeaseRow, ProvenanceRow):
        connection.execute(delete(table).where(table.run_id.in_(new)))


@event.listens_for(RunRow, "after_insert")
def _after_run(_mapper: object, connection: Connection, run: RunRow) -> None:
    forget_leftovers(connection, [run.id])


@event.listens_for(AnalysisRow, "after_insert")
def _after_analysis(_mapper: object, connection: Connection, analysis: AnalysisRow) -> None:
    # As for runs.
    connection.execute(delete(AnalysisPartRow).where(AnalysisPartRow.analysis_id == analysis.id))
