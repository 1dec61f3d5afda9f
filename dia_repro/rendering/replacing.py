"""Tables that a report would replace although they answer another question."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from dia_repro.errors import UsageError
from dia_repro.experiments.spec import Spec


class ReplacedError(UsageError):
    """Results of another protocol, data set, schedule or precision would be lost."""


def is_another(path: Path, specs: Mapping[tuple[str, str], Spec]) -> bool:
    """Return whether a CSV file of a table has results of other experiments, or is no such file.

    Args:
        path: where the table is to be written; nothing need be there.
        specs: the experiment of each (row, column) that is to be written.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open(encoding="utf-8", newline="") as file:
            cells = [
                (cell["row"], cell["column"], cell["spec_id"]) for cell in csv.DictReader(file)
            ]
    except OSError:  # writing it says what is wrong
        return False
    except (KeyError, UnicodeDecodeError, csv.Error):
        return True
    known = {at: spec.spec_id for at, spec in specs.items()}
    return any(known.get((row, column), spec_id) != spec_id for row, column, spec_id in cells)
