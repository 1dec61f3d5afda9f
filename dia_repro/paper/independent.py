"""Results of others on networks of the paper, shown next to ours and never mixed with them.

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

from pydantic import TypeAdapter

SOURCE = "imgclsmob, 2021, one training each under its own recipe"
# By the numbers of parameters; `tests/paper/test_independent.py` counts them.
REMARKS = {
    "PreResNet164": "its SENet and DIANet are built differently: other numbers of parameters"
}
COLUMNS = {"none": "original", "se": "SENet", "dia-lstm": "DIANet"}
DATASETS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN"}


@dataclass(frozen=True)
class IndependentResult:
    """A network that another author trained.

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


@cache
def independent() -> tuple[IndependentResult, ...]:
    """Return all independent results, in their source's order."""
    text = files(__package__).joinpath("independent.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return TypeAdapter(tuple[IndependentResult, ...]).validate_python(rows)


def independent_row(row: str) -> dict[str, float]:
    """Return others' test accuracy in a row of Table 3 by its column, %; empty without any."""
    return {COLUMNS[found.attention]: found.top1 for found in independent() if found.row == row}


def remark_on(row: str) -> str:
    """Return how others' networks of a row differ from the paper's; "" where they do not."""
    return REMARKS.get(row.split(maxsplit=1)[0], "")


def tallied(first: str, second: str) -> str:
    """Return in words how often others found the first attention better than the second."""
    above, equal, below = tally(first, second)
    return (
        f"elsewhere ({SOURCE}) {COLUMNS[first]} is above {COLUMNS[second]} in {above} of "
        f"{above + equal + below} pairs of network and data set, equal in {equal}, below in {below}"
    )


def tally(first: str, second: str) -> tuple[int, int, int]:
    """Count pairs of network and data set by the test accuracies of two kinds of attention.

    Returns:
        The numbers of pairs in which the first is above, equal to and below the second.
    """
    top1: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for found in independent():
        top1[found.dataset, found.network][found.attention] = found.top1
    gains = [of[first] - of[second] for of in top1.values() if {first, second} <= of.keys()]
    above, equal = sum(gain > 0 for gain in gains), sum(gain == 0 for gain in gains)
    return above, equal, len(gains) - above - equal
