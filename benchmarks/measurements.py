"""Results of benchmarks: measurements with their goals, and outcomes of checks."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from dia_repro.errors import DiaReproError


class BenchmarkError(DiaReproError):
    """A measurement failed."""


class NotRunnable(Exception):  # noqa: N818 - not an error: the machine lacks something
    """A check cannot run on this machine; the message gives the reason."""


@dataclass(frozen=True)
class Window:
    """A measurement window: images processed in a wall time in seconds."""

    images: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Series:
    """The measurement windows of one candidate.

    Attributes:
        how: execution mode of its steps.
        start_seconds: from the start of its process to the end of its first step: data, network,
            compilation and capture.
    """

    windows: tuple[Window, ...]
    how: str
    start_seconds: float

    @property
    def rate(self) -> float:
        """Median of images a second."""
        return statistics.median(window.rate for window in self.windows)

    def described(self, reference: Series | None = None) -> str:
        """Return the mode, and the range of the rates, or of their ratios to a reference's."""
        values = [window.rate for window in self.windows]
        if reference is not None:
            values = ratios(self, reference)
        return f"{self.how}; {len(values)} windows, {min(values):,.4g} to {max(values):,.4g}"


def ratios(above: Series, below: Series) -> list[float]:
    """Return the ratios of rates of windows that were taken one after the other."""
    pairs = zip(above.windows, below.windows, strict=True)
    return [window.rate / other.rate for window, other in pairs]


def ratio(above: Series, below: Series) -> float:
    """Return the median of `ratios`."""
    return statistics.median(ratios(above, below))


@dataclass(frozen=True)
class Measurement:
    """A measured value.

    Attributes:
        name: quantity measured.
        unit: `x` for a ratio.
        least, most: the goal, if there is one.
        how: execution mode, windows and their range.
    """

    name: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None
    how: str = ""

    @classmethod
    def of_rate(cls, name: str, series: Series) -> Measurement:
        """Return a candidate's images a second."""
        return cls(name, series.rate, "images/s", how=series.described())

    @property
    def met(self) -> bool | None:
        """True if the goal is reached; None without one."""
        if self.least is None and self.most is None:
            return None
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)


@dataclass(frozen=True)
class CheckResult:
    """Result of a check of `python -m benchmarks storage`.

    Attributes:
        check: description of the check.
        found: what was found.
        good: whether the check passed; None if it cannot run here.
        seconds: duration.
    """

    check: str
    found: str
    good: bool | None
    seconds: float = 0.0
