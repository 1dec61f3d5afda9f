"""Pictures beside the paper's own: learning curves, losses, accuracy against parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.cli.output import notice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dia_repro.artifacts.findings import Findings
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.results.database import Database

WITH_EXPLOSIONS = "table8"
SIZES = "accuracy-parameters"


def draw_pictures(
    database: Database,
    figures: Path,
    findings: Mapping[str, Findings],
    wanted: Wanted,
    seeds: int | None = None,
) -> list[Path]:
    """Draw learning curves of artifacts, Table 8's losses, and Tables 3 to 5 in one picture.

    Args:
        findings: of the artifacts, by name; those without any run have no curves.
        wanted, seeds: as they were asked for.

    Returns:
        The PNG files that were written.
    """
    from dia_repro.artifacts.learning import Measure, learning
    from dia_repro.artifacts.sizes import TABLES, sizes
    from dia_repro.rendering.learning import draw_learning
    from dia_repro.rendering.sizes import draw_sizes

    written = []
    for name, one in findings.items():
        measures: dict[str, Measure] = {f"{name}-curves": "test_top1"}
        if name == WITH_EXPLOSIONS:
            measures[f"{name}-loss"] = "train_loss"
        for file, measure in measures.items():
            found = learning(one, measure)
            if not found.empty:
                written.append(write_picture(draw_learning(found), figures / file))
    if {table.name for table in TABLES} & findings.keys():
        picture = draw_sizes(sizes(database, wanted, seeds))
        written.append(write_picture(picture, figures / SIZES))
    return written


def write_picture(figure: Figure, path: Path) -> Path:
    """Write a picture as every kind of file, and say so; gives the PNG.

    Args:
        path: without a suffix.
    """
    from dia_repro.rendering.files import write_bytes
    from dia_repro.rendering.images import KINDS, to_bytes

    for kind in KINDS:
        write_bytes(path.with_name(f"{path.name}.{kind}"), to_bytes(figure, kind))
    notice(f"Written: {path}.{{{','.join(KINDS)}}}")
    return path.with_name(f"{path.name}.png")
