"""Parts of a table that are shown, as a user chooses it; loaded with the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dia_repro.errors import UsageError


class NothingShownError(UsageError):
    """A table would have no column."""


METRICS = ("params", "top1", "top1_last")  # metrics with a column each


class Columns(StrEnum):
    """Whose values a table has."""

    ALL = "all"
    OURS = "ours"


@dataclass(frozen=True)
class Layout:
    """Parts of a table that are shown; a field's metadata are its option's help.

    Raises:
        NothingShownError: there is no such metric.
    """

    columns: Columns = field(
        default=Columns.ALL,
        metadata={"help": "all; or ours: without the paper's values and differences from them."},
    )
    metrics: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "Only these columns: params (#P), top1 (best epoch) or top1_last; may be "
            "repeated."
        },
    )
    trained: bool = field(
        default=False, metadata={"help": "Leave out rows in which nothing was trained."}
    )

    def __post_init__(self) -> None:
        for metric in self.metrics:
            if metric not in METRICS:
                raise NothingShownError(f"no column shows {metric!r}, only {', '.join(METRICS)}")

    def shows(self, whose: str, metric: str) -> bool:
        """Return whether a column is shown: with the paper's values, ours, or a difference."""
        theirs = whose != "ours" and self.columns is Columns.OURS
        return not theirs and (not self.metrics or metric in self.metrics)


WHOLE = Layout()
