"""Options of reports and analyses; loaded with the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.execution.options import option

if TYPE_CHECKING:
    from dia_repro.artifacts import TableArtifact

FIGURES = Path("figures")  # default folder of pictures


@dataclass(frozen=True)
class Folders:
    """Folders of a report's files."""

    tables: Path = option("Folder for table5.csv, table5.md, table5.tex, …", Path("tables"))
    figures: Path = option("Folder for figure5.pdf, table5-curves.pdf, …", FIGURES)

    def table_of(self, artifact: TableArtifact) -> Path:
        """Return where an artifact's table is written, without the suffix."""
        if artifact.is_figure:
            return self.figures / f"{artifact.name}-networks"
        return self.tables / artifact.name


@dataclass(frozen=True)
class Forests:
    """Settings of Figure 5's random forests.

    Heatmaps of two seeds agree: Spearman's rank correlation over the cells of a stage is 0.957 or
    more (DIANet164, demo protocol; with 60 trees 0.942). 100 trees are scikit-learn's default.
    """

    samples: int = option("Test images; all where there are fewer.", 200, min=1)
    trees: int = option("Trees of each random forest.", 100, min=1)
    seed: int = option("Seed of the choice of images and of the forests.", 0, min=0)
    library: bool = option(
        "Have scikit-learn grow the trees: the same estimator, slower.", default=False
    )
