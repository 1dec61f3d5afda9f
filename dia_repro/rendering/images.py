"""Look of pictures, and their files: PDF, PNG and SVG.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which people with any of the
common colour-vision deficiencies tell apart. Of their eight, networks have those that differ in
lightness, too (L* of 0, 46 and 70): printed in grey they stay apart, and lines and markers differ
besides.
"""

from __future__ import annotations

import io
import logging
import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dia_repro.artifacts.paper import DIANET, ORIGINAL, SENET
from dia_repro.errors import UsageError
from dia_repro.rendering.escaping import visible

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Read by matplotlib when it is imported. Jupyter sets its own backend for all programs that it
# starts, which is refused where its package is missing; files are drawn without any.
os.environ["MPLBACKEND"] = "agg"
# Files have no date, and matplotlib reads this one all the same: it may be no number.
os.environ.pop("SOURCE_DATE_EPOCH", None)
# Its own settings in place of the user's, which are not used, and may be no text.
_PACKAGE = find_spec("matplotlib")
if _PACKAGE is not None and _PACKAGE.origin is not None:
    os.environ["MATPLOTLIBRC"] = str(Path(_PACKAGE.origin).parent / "mpl-data" / "matplotlibrc")
_FILE = Path("matplotlibrc")  # read when matplotlib is imported, if it is in the working folder
try:
    if _FILE.is_file():
        _FILE.read_text(encoding="utf-8")
except (OSError, UnicodeDecodeError) as error:
    raise UsageError(
        f"{_FILE.absolute()} cannot be read as UTF-8, and matplotlib reads it: move it away"
    ) from error
# Warnings are of the user's own settings, which are not used, and of caches that cannot be written.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

V = TypeVar("V")
# Kinds of files, and metadata of each that would differ from one time to the next.
KINDS = {"pdf": ("CreationDate",), "png": ("Software",), "svg": ("Date", "Creator")}
STYLE = "assets/dia-repro.mplstyle"
COLUMN_INCHES = 3.3  # of a paper with two columns
SMALL, LARGE = 7.0, 8.0  # points
LINE_HEIGHT, POINTS_PER_INCH = 1.3, 72  # of the size of the text
CHARACTERS, TITLE_CHARACTERS = 55, 48  # of small text and of titles that fit into a column
LEGEND_COLUMNS = 3
COLUMN_DPI, WIDE_DPI = 300, 150  # of PNG, for pictures of a column and wider ones
BLACK, BLUE, ORANGE, GREEN, SKY = "#000000", "#0072B2", "#E69F00", "#009E73", "#56B4E9"
VERMILION, PURPLE = "#D55E00", "#CC79A7"
CONTEXT = "0.8"  # grey of what is there to compare with


@dataclass(frozen=True)
class Look:
    """Colour, line and marker of one network."""

    colour: str
    line: Literal["solid"] | tuple[int, tuple[float, ...]]
    marker: str

    def handle(self, label: str, **options: Any) -> Line2D:
        """Return its entry of a legend, with further options of the line."""
        from matplotlib.lines import Line2D

        return Line2D([], [], color=self.colour, marker=self.marker, label=label, **options)


LOOKS = {
    DIANET: Look(BLUE, "solid", "D"),
    SENET: Look(ORANGE, (0, (4.0, 1.5)), "s"),
    ORIGINAL: Look(BLACK, (0, (1.0, 1.2)), "o"),
}
LOOKS |= {"Org": LOOKS[ORIGINAL], "SE": LOOKS[SENET], "ResNet164": LOOKS[ORIGINAL]}
OTHER_LOOKS = (
    Look(GREEN, (0, (5.0, 1.2, 1.0, 1.2)), "^"),
    Look(SKY, (0, (2.5, 1.0)), "v"),
    Look(VERMILION, (0, (6.0, 1.5)), "<"),
    Look(PURPLE, (0, (1.0, 2.0)), ">"),
)
LOOKS |= {"DIANet164": LOOKS[DIANET], "DIA-SE": OTHER_LOOKS[0]}


def looks(names: list[tuple[str, ...]]) -> list[Look]:
    """Return a look for each network: its own if one of its names has one, else another.

    Args:
        names: of each network, the telling ones first.
    """
    spare = cycle(OTHER_LOOKS)
    own = [next((LOOKS[name] for name in known if name in LOOKS), None) for known in names]
    return [look or next(spare) for look in own]


@contextmanager
def style() -> Iterator[None]:
    """Use matplotlib's defaults, whatever the user has set, and our style on top of them.

    Functions that draw have it as their decorator.
    """
    import matplotlib

    with matplotlib.rc_context(), as_file(files("dia_repro.rendering") / STYLE) as path:
        matplotlib.rcdefaults()  # backend apart
        matplotlib.rcParams.update(matplotlib.rc_params_from_file(path, use_default_template=False))
        yield


def column(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Return a figure of a column's width with panels below each other, of these inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_INCHES, sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    return figure, list(panels.flat)


def frame(figure: Figure, title: str, caption: str, handles: Sequence[Artist] = ()) -> None:
    """Add title and legend above a figure's panels and a caption below, without overlap.

    The figure, whose height is that of its panels, gets as much higher. The layout of its panels
    is fixed.
    """
    inches = figure.get_figheight()
    columns = figure.get_figwidth() / COLUMN_INCHES
    title = "\n".join(textwrap.wrap(title, int(TITLE_CHARACTERS * columns)))
    caption = "\n".join(textwrap.wrap(caption, int(CHARACTERS * columns)))
    above = 2 + (title.count("\n") + 1) * LARGE * LINE_HEIGHT
    legend = -(-len(handles) // LEGEND_COLUMNS) * (SMALL * LINE_HEIGHT + 2)
    below = 3 + (caption.count("\n") + 1 if caption else 0) * SMALL * LINE_HEIGHT
    height = inches * POINTS_PER_INCH + above + legend + below
    figure.set_size_inches(figure.get_figwidth(), height / POINTS_PER_INCH)
    figure.text(0.5, 1 - 2 / height, title, fontsize=LARGE, ha="center", va="top")
    figure.text(0.02, 3 / height, caption, fontsize=SMALL, va="bottom")
    if handles:
        figure.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, 1 - above / height),
            ncols=LEGEND_COLUMNS,
            handlelength=3,
            columnspacing=1.2,
            borderpad=0.2,
            borderaxespad=0,
        )
    literal_texts(figure)
    engine = figure.get_layout_engine()
    if engine is not None:  # once for all files
        rectangle = (0, below / height, 1, inches * POINTS_PER_INCH / height)
        engine.set(rect=rectangle)  # type: ignore[call-arg]
        engine.execute(figure)
    # Not "none": that would leave a placeholder, for which each file is drawn twice.
    figure.set_layout_engine(None)
    # The layout's solver adds up in an order that differs between processes, and with it the last
    # digits do; SVG names its clipping after them.
    for axes in figure.axes:
        left, bottom, width, height = axes.get_position(original=True).bounds
        axes.set_position((round(left, 6), round(bottom, 6), round(width, 6), round(height, 6)))


def literal_texts(figure: Figure) -> None:
    """Draw every text but the axes' numbers as it is: a $ in a name begins no formula."""
    from matplotlib.axis import Axis, Tick
    from matplotlib.text import Text

    numbers = {label for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}
    numbers |= {axis.offsetText for axis in figure.findobj(Axis)}
    for text in figure.findobj(Text):
        if text not in numbers:
            text.set_parse_math(False)
            text.set_text(visible(text.get_text()))


def draw(how: Callable[[V], Figure], value: V) -> dict[str, bytes]:
    """Return the files of a value's picture by kind; what a process that draws has to import."""
    return to_files(how(value))


def to_files(figure: Figure) -> dict[str, bytes]:
    """Return a figure's files by kind."""
    return {kind: to_bytes(figure, kind) for kind in KINDS}


@style()
def to_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as one of `KINDS`; the same bytes for the same figure."""
    literal_texts(figure)
    buffer = io.BytesIO()
    dpi = COLUMN_DPI if figure.get_figwidth() <= COLUMN_INCHES else WIDE_DPI
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=dict.fromkeys(KINDS[kind]))
    return buffer.getvalue()
