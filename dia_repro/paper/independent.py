"""Results of others on networks of the paper, shown beside ours and never mixed with them.

Test accuracy and parameters as printed in the tables of imgclsmob (O. Sémery,
github.com/osmr/imgclsmob, `chainer_/README.md`, December 2021), 100 minus the printed error. One
model each, trained in another framework under its author's own recipe: one seed, no spread.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCE = "imgclsmob, 2021, one training each under its own recipe"
COLUMNS = {"none": "original", "se": "SENet", "dia-lstm": "DIANet"}
DATASETS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN"}


@dataclass(frozen=True)
class IndependentResult:
    """One trained network of somebody else.

    Attributes:
        dataset: `cifar10`, `cifar100` or `svhn`.
        network: e.g. `ResNet164`, `PreResNet20`.
        attention: `none`, `se` or `dia-lstm`.
        parameters: number of trainable parameters.
        top1: test accuracy, %.
    """

    dataset: str
    network: str
    attention: str
    parameters: int
    top1: float

    @property
    def row(self) -> str:
        """The row's label as in Table 3, e.g. "ResNet164 CIFAR100"."""
        return f"{self.network} {DATASETS[self.dataset]}"


@dataclass(frozen=True)
class Tally:
    """How many networks are better with one attention than with another.

    Attributes:
        above, equal, below: pairs of network and data set, by test accuracy.
    """

    above: int
    equal: int
    below: int

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return self.above + self.equal + self.below


@cache
def independent() -> tuple[IndependentResult, ...]:
    """Return all independent results, in their source's order."""
    text = (files("dia_repro.paper") / "independent.csv").read_text(encoding="utf-8")
    return tuple(
        IndependentResult(
            row["dataset"],
            row["network"],
            row["attention"],
            int(row["parameters"]),
            float(row["top1"]),
        )
        for row in csv.DictReader(text.splitlines())
    )


def independent_row(row: str) -> dict[str, float]:
    """Return others' test accuracy in a row of Table 3 by its column, %; empty without any."""
    return {COLUMNS[one.attention]: one.top1 for one in independent() if one.row == row}


def tallied(first: str, second: str) -> str:
    """Return in words how often others found the first attention better than the second."""
    found, pair = tally(first, second), f"{COLUMNS[first]} is above {COLUMNS[second]}"
    rest = f"equal in {found.equal}, below in {found.below}"
    return (
        f"elsewhere ({SOURCE}) {pair} in {found.above} of {found.pairs} pairs of network and "
        f"data set, {rest}"
    )


def tally(first: str, second: str) -> Tally:
    """Count networks that are better with the first attention than with the second."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for one in independent():
        found[one.dataset, one.network][one.attention] = one.top1
    gains = [of[first] - of[second] for of in found.values() if {first, second} <= of.keys()]
    above, equal = sum(gain > 0 for gain in gains), sum(gain == 0 for gain in gains)
    return Tally(above, equal, len(gains) - above - equal)
