"""The database's tables. Times are UTC without a zone; durations are seconds.

Any change here needs a migration in `migrations/versions` and a new `REVISION`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Dialect,
    Double,
    ForeignKey,
    MetaData,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

REVISION = "0006"
EARLIER_REVISIONS = ("0005",)

# SQLite's NaN is NULL; on that backend what is not finite is stored as the text Python gives it.
NOT_FINITE_AS_TEXT = "sqlite"


def now() -> datetime:
    """UTC, without a zone, as the database keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


class State(StrEnum):
    """Where a run is."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


# A run in one of these has a result and is not trained again.
DONE = (State.FINISHED, State.DIVERGED)


class Real(TypeDecorator[float]):
    """A float that comes back as it went in, nan and ±inf too."""

    impl = Double
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[float | None], float | str | None]:
        """To what the backend can hold, past the type's own conversion to float."""
        as_text = dialect.name == NOT_FINITE_AS_TEXT

        def convert(value: float | None) -> float | str | None:
            return str(value) if as_text and value is not None and not isfinite(value) else value

        return convert

    def result_processor(
        self, _dialect: Dialect, _coltype: object
    ) -> Callable[[float | str | None], float | None]:
        """Back to a float."""
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


class SpecRow(Base):
    """A spec that some run was made for; its canonical JSON, whole."""

    __tablename__ = "specs"

    spec_id: Mapped[str] = mapped_column(primary_key=True)
    json: Mapped[str]


class RunRow(Base):
    """A spec trained with a seed: it happens once.

    `uid` names the run across databases and in its checkpoints. `owner` says which process
    trains it, while one does. `reason` says why a run failed or how it diverged.
    """

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("spec_id", "seed"),
        CheckConstraint("seed >= 0", name="seed"),
        CheckConstraint(
            "state in ({})".format(", ".join(f"'{state.value}'" for state in State)), name="state"
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(unique=True)
    spec_id: Mapped[str] = mapped_column(ForeignKey("specs.spec_id"))
    seed: Mapped[int]
    state: Mapped[str]
    reason: Mapped[str | None]
    owner: Mapped[str | None]
    parameters: Mapped[int | None]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class EpochRow(Base):
    """The figures of one epoch, counted from 1; the columns of `EpochMetrics`."""

    __tablename__ = "epochs"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    lr: Mapped[float] = mapped_column(Real)
    train_loss: Mapped[float] = mapped_column(Real)
    train_top1: Mapped[float] = mapped_column(Real)
    test_loss: Mapped[float] = mapped_column(Real)
    test_top1: Mapped[float] = mapped_column(Real)
    seconds: Mapped[float] = mapped_column(Real)


class ProvenanceRow(Base):
    """One attempt at a run, and what it ran on; the columns of `Provenance`.

    A run that was interrupted and resumed has several. An attempt that was killed has no end.
    `step` says in which way its steps were made: captured, eager, …; old rows do not.
    """

    __tablename__ = "provenance"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    wall_seconds: Mapped[float | None] = mapped_column(Real)
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    host: Mapped[str]
    device: Mapped[str]
    threads: Mapped[int]
    python: Mapped[str]
    torch: Mapped[str]
    cuda: Mapped[str | None]
    package: Mapped[str]
    git_commit: Mapped[str | None]
    git_clean: Mapped[bool | None]
    command: Mapped[str]
    data_sha256: Mapped[str]
    from_epoch: Mapped[int]
    step: Mapped[str | None]
    deterministic: Mapped[bool | None]


class LeaseRow(Base):
    """Who trains a run, while somebody does: one row a run that is under way.

    `lock_id` is the identity of the lease's lock (`leasing.lock_id`), so that a process that holds
    the same lock knows that its holder is dead. `beats` counts up while the holder lives: others
    tell its death by a count that stands still, not by a clock. `token` is random, and known to the
    holder alone: numbers are the same in another database that takes this one's place.
    """

    __tablename__ = "leases"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(ForeignKey("provenance.id", ondelete="CASCADE"))
    lock_id: Mapped[str]
    beats: Mapped[int]
    token: Mapped[str]


# Those of the gradients that are recorded while a run trains, a part for each epoch.
GRADIENTS_SETTINGS = '{"kind": "gradients"}'


class AnalysisRow(Base):
    """An analysis of a run's network, done once for each of its `settings`.

    `settings` is canonical JSON of what its result depends on, its kind first among it;
    `circumstances` is JSON of what it was done on.
    """

    __tablename__ = "analyses"
    __table_args__ = (UniqueConstraint("run_id", "settings"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    settings: Mapped[str]
    circumstances: Mapped[str]
    begun_at: Mapped[datetime]


class AnalysisPartRow(Base):
    """One part of an analysis, as it was done; `content` is JSON, `seconds` is computing time."""

    __tablename__ = "analysis_parts"

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True
    )
    part: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[str]
    seconds: Mapped[float] = mapped_column(Real)
