"""Seeds of choice: what a text, a number or a list means, and how captions name them."""

from __future__ import annotations

import numpy as np
import pytest

from dia_repro.errors import UsageError
from dia_repro.execution.options import Selection, command_line, options_of
from dia_repro.experiments.seeds import Seeds


@pytest.mark.parametrize(
    ("value", "numbers", "text", "words"),
    [
        ("1", (0,), "1", "1 seed"),
        ("5", (0, 1, 2, 3, 4), "5", "5 seeds (0 to 4)"),
        (2, (0, 1), "2", "2 seeds (0 and 1)"),
        (np.array(2), (0, 1), "2", "2 seeds (0 and 1)"),
        (np.array([0, 2]), (0, 2), "0,2", "seeds 0 and 2"),
        ("5-9", (5, 6, 7, 8, 9), "5-9", "seeds 5 to 9"),
        ("0,3", (0, 3), "0,3", "seeds 0 and 3"),
        (" 7, 0-2 ,1", (0, 1, 2, 7), "0-2,7", "seeds 0 to 2 and 7"),
        ("0-1", (0, 1), "0-1", "seeds 0 and 1"),
        ([5], (5,), "5-5", "seed 5"),
        (range(3, 7), (3, 4, 5, 6), "3-6", "seeds 3 to 6"),
        (",".join(["3"] * 1001 + ["0"]), (0, 3), "0,3", "seeds 0 and 3"),  # repeated: no other
    ],
)
def test_seeds_by_number_range_and_list(
    value: object, numbers: tuple[int, ...], text: str, words: str
) -> None:
    selection = options_of(Selection, {"seeds": value})
    assert selection.trained_seeds == numbers
    assert selection.seeds is not None
    assert (str(selection.seeds), selection.seeds.words) == (text, words)
    assert Seeds.of(text) == selection.seeds
    assert command_line("run", options=selection) == f"dia-repro run --seeds {text}"


TEXTS = ["", "0", "many", "9-5", "-1", "1,,2", "1-", "٣", "1001", "2147483648-2147483648"]
TOO_MANY = ["0-1000", "0,0,0-1000"]  # a number that is repeated takes no other's place
VALUES = [0, -1, True, 2.5, b"5", [], [-1], ["a"], [0, 2**31], {"a": 1}, range(10**12)]
VALUES += [np.array(2.5), np.array([2.5])]


@pytest.mark.parametrize("value", [*TEXTS, *TOO_MANY, *VALUES])
def test_impossible_seeds_are_one_line(value: object) -> None:
    with pytest.raises(UsageError, match=r"^seeds: [^\n]*, not ") as refused:
        options_of(Selection, {"seeds": value})
    assert "Value error" not in str(refused.value)


def test_results_of_other_seeds_are_left_out_only_by_choice() -> None:
    assert Seeds.of(2).shows(7)
    assert not Seeds.of("0-1").shows(7)
    assert Seeds.of(2).joined([7]).words == "seeds 0, 1 and 7"
    assert Seeds(()).joined([]) == Seeds()
