"""Seeds of choice: `5` are seeds 0 to 4, `5-9` a range, `0,3` a list, `0-2,7` both."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

MOST_SEEDS = 1000
HIGHEST_SEED = 2**31 - 1  # that a database's column holds
FORMS = "seeds are a number of them such as 5, a range such as 5-9, or a list such as 0,3"
METAVAR = "5|5-9|0,3"
COUNT, PART = re.compile("[0-9]{1,10}"), re.compile("([0-9]{1,10})(?:-([0-9]{1,10}))?")


@dataclass(frozen=True)
class Seeds:
    """Seeds of trainings, and of the results that are shown.

    Attributes:
        numbers: in rising order, each once.
        chosen: whether they were named one by one or as a range: results of other seeds are left
            out. A number N of seeds means 0 to N-1 and any other that has results.
    """

    numbers: tuple[int, ...] = (0,)
    chosen: bool = False

    @classmethod
    def of(cls, value: object) -> Seeds:
        """Return the seeds that a number of seeds, a text of the command line or a list means.

        Raises:
            ValueError: it means none, too many, or a number that no seed can have.
        """
        match value:
            case Seeds():
                return value
            case str() if COUNT.fullmatch(value.strip()):
                return cls(_checked(range(int(value))))
            case str():
                return cls(_checked(_named(value)), chosen=True)
            case bool() | bytes() | Mapping():
                raise ValueError(FORMS)
            case Iterable() if getattr(value, "ndim", 1):  # numpy's whole numbers may be arrays
                return cls(_checked(map(_whole, value)), chosen=True)
            case _:
                return cls(_checked(range(_whole(value))))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        """Return pydantic's way to make seeds of plain values: `of`."""
        from pydantic_core import core_schema  # later: `dia-repro --help` does without it

        return core_schema.no_info_plain_validator_function(cls.of)

    def __len__(self) -> int:
        return len(self.numbers)

    def __str__(self) -> str:
        """Return the text that `of` reads."""
        if not self.named:
            return str(len(self))
        parts = [str(low) if low == high else f"{low}-{high}" for low, high in self._ranges()]
        text = ",".join(parts)
        return f"{text}-{text}" if COUNT.fullmatch(text) else text  # 5 alone would be 0 to 4

    @property
    def named(self) -> bool:
        """Return whether a caption names them: others are left out, or they are not 0 to N-1."""
        return self.chosen or self.numbers != tuple(range(len(self)))

    @property
    def words(self) -> str:
        """Return a caption's words: "5 seeds (0 to 4)", or "seeds 0 to 2 and 7"."""
        seeds = "seeds" if len(self) > 1 else "seed"
        if not self.named:
            return f"{len(self)} {seeds}{f' ({self._listed()})' if len(self) > 1 else ''}"
        return f"{seeds} {self._listed()}"

    def _listed(self) -> str:
        """Return e.g. "0 to 2 and 7"."""
        parts: list[str] = []
        for low, high in self._ranges():
            parts += [f"{low} to {high}"] if high - low > 1 else map(str, range(low, high + 1))
        *most, last = parts
        return f"{', '.join(most)} and {last}" if most else last

    def shows(self, seed: int) -> bool:
        """Return whether results of a seed are shown."""
        return not self.chosen or seed in self.numbers

    def joined(self, others: Iterable[int]) -> Seeds:
        """Return these seeds with those that results have, none of which is left out."""
        return Seeds(tuple(sorted({*self.numbers, *others})) or (0,), self.chosen)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the first and last of each range without gaps."""
        places = enumerate(self.numbers)
        for _, group in groupby(places, key=lambda pair: pair[1] - pair[0]):
            run = [number for _, number in group]
            yield run[0], run[-1]


def _named(text: str) -> Iterator[int]:
    for part in text.split(","):
        found = PART.fullmatch(part.strip())
        if found is None:
            raise ValueError(FORMS)
        low, high = int(found[1]), int(found[2] or found[1])
        if high < low:
            raise ValueError(f"a range of seeds begins with the lower one: {high}-{low}")
        yield from range(low, high + 1)


def _whole(value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(FORMS) from None


def _checked(numbers: Iterable[int]) -> tuple[int, ...]:
    """Return seeds in order, each once; reads no more different numbers than there may be."""
    different: set[int] = set()
    for number in numbers:
        different.add(number)
        if len(different) > MOST_SEEDS:
            break
    if not 1 <= len(different) <= MOST_SEEDS:
        raise ValueError(f"the number of seeds is 1 to {MOST_SEEDS}")
    if min(different) < 0 or max(different) > HIGHEST_SEED:
        raise ValueError(f"a seed is 0 to {HIGHEST_SEED}")
    return tuple(sorted(different))
