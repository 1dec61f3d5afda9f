"""Marks in pictures and pages, which say under what conditions their runs were trained.

So results of another protocol, data set, schedule or precision are not written over in silence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from dia_repro.errors import UsageError
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.files import OutputError
from dia_repro.results.schema import OURS

OF_ANOTHER = "of another protocol, data set, schedule or precision"
NOTHING = "nothing"  # in the mark of what shows no run
MARK = re.compile(rf'\bid="(of(?:-(?:[0-9a-f]{{16}}|{NOTHING}))+)"')


def mark_of(specs: Iterable[Spec], origin: str = OURS) -> str:
    """Return the mark of experiments: a hash of each combination of data, recipe and precision.

    It is an id in SVG and HTML. Runs of others have other marks than ours.
    """
    whose = [] if origin == OURS else [origin]
    conditions = {
        json.dumps([spec.data.model_dump(), spec.recipe.model_dump(), spec.precision, *whose])
        for spec in specs
    }
    hashes = (hashlib.sha256(condition.encode()).hexdigest()[:16] for condition in conditions)
    return "-".join(["of", *(sorted(hashes) or [NOTHING])])


class ForeignFileError(UsageError):
    """A file that dia-repro has not written has the name of one that is to be written."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is no file that dia-repro has written: it is not replaced; name another "
            "folder or page, or move it away"
        )


def unreadable(path: Path, error: OSError) -> OutputError:
    """Return the error for a file that would be replaced, as it may be anything."""
    return OutputError(f"cannot read {path}, which would be replaced: {error.strerror or error}")


def picture_shows_another(picture: Path, mark: str) -> bool:
    """Return whether files of a picture are there, drawn under conditions that are not in a mark.

    Only an SVG can have a mark: other kinds of a picture are ours if a marked SVG is next to them.

    Args:
        picture: path of the files, without a suffix.

    Raises:
        ForeignFileError: they have none.
    """
    drawn = picture.with_name(f"{picture.name}.svg")
    if not drawn.is_file():
        check_alone(picture, ("pdf", "png", "csv"))
    return shows_another(drawn, mark)


def check_alone(path: Path, kinds: Iterable[str]) -> None:
    """Refuse files that are there without the one of the same name that says whose they are.

    Raises:
        ForeignFileError: there is one.
    """
    for file in (path.with_name(f"{path.name}.{kind}") for kind in kinds):
        if file.is_file():
            raise ForeignFileError(file)


def shows_another(path: Path, mark: str) -> bool:
    """Return whether a file is there with results under conditions that are not in a mark.

    Raises:
        ForeignFileError: it has none.
    """
    try:
        if not path.is_file():
            return False
        found = MARK.search(path.read_text("utf-8", errors="replace"))
    except OSError as error:
        raise unreadable(path, error) from error
    if found is None:
        raise ForeignFileError(path)
    return not set(found[1].split("-")) <= {NOTHING, *mark.split("-")}
