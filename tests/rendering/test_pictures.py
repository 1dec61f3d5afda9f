"""Pictures: the same bytes twice, nothing cut off or too small, whatever the database holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from dia_repro.analysis.gini import Integration
from dia_repro.artifacts import ARTIFACTS, choose
from dia_repro.artifacts.controls import NORM, initial_scale
from dia_repro.artifacts.explanation import gather
from dia_repro.artifacts.learning import Measure, learning
from dia_repro.artifacts.selection import Wanted
from dia_repro.artifacts.sizes import sizes
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.models.attention import DIALSTM
from dia_repro.rendering.heatmaps import Panel, draw_heatmaps, draw_integration
from dia_repro.rendering.images import (
    COLUMN_INCHES,
    KINDS,
    LOOKS,
    OTHER_LOOKS,
    looks,
    style,
    to_bytes,
)
from dia_repro.rendering.initial_scale import draw_initial_scale, scaled
from dia_repro.rendering.learning import draw_learning
from dia_repro.rendering.sizes import draw_sizes, place_label
from dia_repro.results.database import open_database
from dia_repro.results.parts import Settings, Source
from dia_repro.results.queries import run_detail, runs_of
from dia_repro.results.schema import State
from tests.artifacts.courses import FATES, add, fill

REQUESTS = (Request(Protocol.DEMO), Request(Protocol.PAPER, Precision.TF32))
CURVES: tuple[tuple[str, Measure], ...] = (
    ("table1", "test_top1"),
    ("table3", "test_top1"),
    ("table4", "test_top1"),
    ("table8", "test_top1"),
    ("table8", "train_loss"),
    ("table9", "test_top1"),
)
# Those of many runs take as long as all others, and the picture with most panels is the hardest.
MANY = "10 seeds"
FEW_FATES = [fates for fates in FATES if fates != MANY]


def curves(path: Path, name: str, measure: Measure, request: Request, fates: str) -> Figure:
    artifact = ARTIFACTS[name]
    database = fill(path, artifact.specs(request).values(), fates)
    found = gather(database, artifact.compute(database, request))
    return draw_learning(learning(found, measure))


def check(figure: Figure) -> None:
    """All text lies within the picture, is large enough, and hides no other outside panels."""
    assert figure.get_figwidth() == pytest.approx(COLUMN_INCHES)
    with style():  # as files are written: ticks depend on it
        figure.draw_without_rendering()
    page = Bbox([[0, 0], figure.bbox.size])
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert texts
    for text in texts:
        assert float(text.get_fontsize()) >= 6.9 or "$" in text.get_text()
        box = text.get_window_extent()
        # Ticks beyond an axis's limits are kept, but not drawn.
        if "$" not in text.get_text() and not _is_number(text.get_text()):
            assert page.x0 <= box.x0, text.get_text()
            assert box.x1 <= page.x1, text.get_text()
            assert page.y0 <= box.y0, text.get_text()
            assert box.y1 <= page.y1, text.get_text()
    apart = [*figure.texts, *(axes.title for axes in figure.axes), *figure.legends]
    boxes = [artist.get_window_extent() for artist in apart]
    for box, other in combinations([box for box in boxes if box.width > 1], 2):
        assert not box.overlaps(other)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[−\d.]+", text) is not None


@pytest.mark.parametrize(
    ("name", "measure", "fates"),
    [
        *((*curve, fates) for curve in CURVES for fates in FEW_FATES),
        pytest.param("table3", "test_top1", MANY, marks=pytest.mark.slow),
        *(
            pytest.param(*curve, MANY, marks=pytest.mark.exhaustive)
            for curve in CURVES
            if curve[0] != "table3"
        ),
    ],
)
def test_curves_are_whole(name: str, measure: Measure, fates: str, tmp_path: Path) -> None:
    check(curves(tmp_path / "runs.db", name, measure, REQUESTS[0], fates))


@pytest.mark.parametrize("name", ["table1", "table9"])
def test_a_network_looks_alike_in_every_table(name: str, tmp_path: Path) -> None:
    """Rows are the networks of these two: in Table 9 with a column for each data set."""
    figure = curves(tmp_path / "runs.db", name, "test_top1", REQUESTS[0], "one seed")
    colours = [panel.lines[-1].get_color() for panel in figure.axes if panel.lines]
    third = {"table1": "DIA-SE", "table9": "DIANet"}[name]
    assert colours == [LOOKS[network].colour for network in ("original", "SENet", third)]


def test_few_seeds_are_drawn_as_lines_and_many_as_a_shade(tmp_path: Path) -> None:
    """Thirteen of one network and two of another: a shade from lowest to highest, and lines."""
    database = open_database(str(tmp_path / "runs.db"), create=True)
    senet, dianet = list(ARTIFACTS["table5"].specs(REQUESTS[0]).values())[:2]
    for seed in range(13):
        add(database, senet, seed, [50.0 + seed, 70.0 - seed])
    for seed in range(2):
        add(database, dianet, seed, [60.0 + seed, 80.0 + seed])
    table5 = ARTIFACTS["table5"]
    found = gather(database, table5.compute(database, REQUESTS[0]))
    figure = draw_learning(learning(found, "test_top1"))
    check(figure)
    panel = figure.axes[0]
    (shade,) = panel.collections
    corners = set(map(tuple, np.asarray(shade.get_paths()[0].vertices).tolist()))
    assert corners >= {(1.0, 50.0), (1.0, 62.0), (2.0, 58.0), (2.0, 70.0)}
    thin = [line for line in panel.lines if line.get_linewidth() < 1]
    assert len(thin) == 1
    y = np.asarray(thin[0].get_ydata()).tolist()
    assert [y[:2], y[3:5]] == [[60.0, 80.0], [61.0, 81.0]]
    assert y[2] != y[2], "a gap between two seeds"
    assert any("Shade: span of seeds, where over 12" in t.get_text() for t in figure.texts)


def test_axes_show_the_differences_of_the_second_half(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for column, last in (("SENet", [80.0, 94.0]), ("DIANet", [85.0, 96.0])):
        spec = ARTIFACTS["table5"].specs(REQUESTS[0])["ResNet83", column]
        add(database, spec, 0, [10.0, 20.0, 40.0, 60.0, *last, *last])
    found = gather(database, ARTIFACTS["table5"].compute(database, REQUESTS[0]))
    figure = draw_learning(learning(found, "test_top1"))
    assert figure.axes[0].get_ylim() == pytest.approx((80 - 0.06 * 16, 96 + 0.06 * 16))
    assert any("begin at the lowest accuracy" in text.get_text() for text in figure.texts)


def test_divergences_are_told_apart_by_markers(tmp_path: Path) -> None:
    figure = curves(tmp_path / "runs.db", "table8", "test_top1", REQUESTS[0], "all diverged")
    for panel in figure.axes:
        hollow = {
            line.get_marker()
            for line in panel.lines
            if line.get_markerfacecolor() == "white" and line.get_marker() != "x"
        }
        assert len(hollow) == 3  # the original, SENet and DIANet
    check(figure)


def test_curves_of_a_long_schedule_are_whole(tmp_path: Path) -> None:
    database = fill(
        tmp_path / "runs.db", list(ARTIFACTS["table8"].specs(REQUESTS[1]).values())[:6], "one seed"
    )
    table8 = ARTIFACTS["table8"]
    found = gather(database, table8.compute(database, REQUESTS[1]))
    check(draw_learning(learning(found, "train_loss")))


@pytest.mark.parametrize("fates", [*FEW_FATES, pytest.param(MANY, marks=pytest.mark.exhaustive)])
def test_accuracy_against_parameters_is_whole(fates: str, tmp_path: Path) -> None:
    specs = [
        s for name in ("table3", "table5") for s in ARTIFACTS[name].specs(REQUESTS[0]).values()
    ]
    check(draw_sizes(sizes(fill(tmp_path / "runs.db", specs, fates), Wanted())))


def test_the_same_bytes_twice_without_a_date_and_with_fonts_inside(tmp_path: Path) -> None:
    both = [
        curves(tmp_path / f"{again}.db", "table8", "train_loss", REQUESTS[0], "half missing")
        for again in range(2)
    ]
    for kind in KINDS:
        contents = {to_bytes(figure, kind) for figure in both}
        assert len(contents) == 1
        (content,) = contents
        assert b"Date" not in content
        assert b"<dc:date" not in content
        if kind == "pdf":
            assert b"/FontFile2" in content  # TrueType, whole glyphs and no outlines of type 3
            assert b"/Type3" not in content


def test_a_users_settings_of_matplotlib_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    plain = to_bytes(
        curves(tmp_path / "1.db", "table4", "test_top1", REQUESTS[0], "one seed"), "svg"
    )
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "axes.facecolor": "red"}):
        again = curves(tmp_path / "2.db", "table4", "test_top1", REQUESTS[0], "one seed")
        assert to_bytes(again, "svg") == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_networks_differ_without_colour() -> None:
    chosen = looks([("original",), ("SENet",), ("DIANet",), ("CIFAR-10",), ("CIFAR-100",)])
    assert len({look.marker for look in chosen}) == 5
    assert len({str(look.line) for look in chosen}) == 5
    assert len({look.colour for look in chosen}) == 5
    assert looks([("r=4", "DIANet164")]) == [LOOKS["DIANet"]]
    assert looks([("CIFAR-10",)]) == [OTHER_LOOKS[0]]
    depths = looks([(f"ResNet{depth}",) for depth in (83, 164, 245, 326, 407)])
    assert all(
        len({str(getattr(look, part)) for look in depths}) == 5 for part in ("line", "marker")
    )
    greys = sorted(_lightness(LOOKS[name].colour) for name in ("original", "SENet", "DIANet"))
    assert all(b - a > 0.15 for a, b in pairwise(greys))


def _lightness(colour: str) -> float:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def labelled(x: float, taken: Sequence[Bbox]) -> tuple[Annotation, Bbox]:
    """A label at (x, 0.5) of an otherwise empty panel, away from what is taken."""
    figure = Figure(figsize=(2, 2))
    axes = figure.add_axes((0, 0, 1, 1))
    label = axes.annotate("network", (x, 0.5), xytext=(0, 0), textcoords="offset points")
    return label, place_label(axes, label, taken)


def test_labels_avoid_points_and_the_edge() -> None:
    label, box = labelled(0.5, [])
    assert label.get_horizontalalignment() == "left"
    label, other = labelled(0.5, [box])
    assert label.get_horizontalalignment() == "right"
    assert not other.overlaps(box)
    assert labelled(0.95, [])[0].get_horizontalalignment() == "right"
    assert labelled(0.05, [])[0].get_horizontalalignment() == "left"


@pytest.mark.parametrize("across", [1, 3])
def test_titles_of_heatmaps_fit_in(across: int) -> None:
    title = (
        "Figure 5. Feature integration: DIANet ResNet164 r=4 on digits, 8 epochs, run 12 (not it)"
    )
    figure = draw_heatmaps([[Panel("stage 3", np.eye(5))] * across], title, "caption")
    (drawn,) = (text for text in figure.findobj(Text) if text.get_text().startswith("Figure 5."))
    box = drawn.get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1


def test_runs_without_bn_stand_in_the_order_of_their_initial_scale(tmp_path: Path) -> None:
    database, request = open_database(str(tmp_path / "runs.db"), create=True), REQUESTS[0]
    specs = NORM.specs(request)
    rows: dict[str, list[float | None]] = {
        "original": [None] * 3,
        "constant 0.25": [30.0, None, 90.0],
        "SkipInit": [95.0],
    }
    for row, accuracies in rows.items():
        for seed, top1 in enumerate(accuracies):
            state = State.DIVERGED if top1 is None else State.FINISHED
            course = [] if top1 is None else [99.0, top1]  # what the last epoch has, counts
            add(database, specs[row, "ResNet83"], seed, course, state)
    add(database, specs["DIANet", "ResNet164"], 0, [80.0])
    figure = draw_initial_scale(gather(database, NORM.compute(database, request)))
    (axes,) = figure.axes  # no control has runs at depth 164
    assert axes.get_title(loc="left") == "ResNet83"
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["original (1)", "constant 0.25 (0.25)", "SkipInit (0)"]
    drawn: dict[str, list[list[float]]] = {"o": [], "x": []}
    for line in axes.lines:
        drawn.get(str(line.get_marker()), []).extend(line.get_xydata().tolist())  # type: ignore[union-attr]
    assert drawn["o"] == [[30.0, 1.0], [90.0, 1.0], [95.0, 2.0]]
    assert [height for _, height in drawn["x"]] == [0, 0, 0, 1]
    check(figure)


def test_attention_whose_initial_scale_is_not_known_is_left_out(tmp_path: Path) -> None:
    database, request = open_database(str(tmp_path / "runs.db"), create=True), REQUESTS[0]
    (artifact,) = choose(["controls-norm"], ["dia-lstm:activation=tanh,reduction=16"])
    for (_, depth), spec in artifact.specs(request).items():
        if depth == "ResNet83":
            add(database, spec, 0, [80.0])
    drawn = scaled(gather(database, artifact.compute(database, request)))
    assert {row.entry.row for row in drawn["ResNet83"]} == {entry.row for entry in NORM.entries}


def test_every_control_without_bn_has_an_initial_scale() -> None:
    scales = {entry.row: initial_scale(entry.model.attention) for entry in NORM.entries}
    assert scales["DIANet"] == scales["DIA-LSTM frozen"] == scales["constant 0.25"] == 0.25
    assert (scales["SENet"], scales["original"], scales["SkipInit"]) == (0.5, 1.0, 0.0)
    unit = DIALSTM(8)
    for parameter in unit.parameters():
        torch.nn.init.zeros_(parameter)
    assert unit(torch.zeros(1, 8))[0].mean().item() == 0.25


@pytest.mark.parametrize("other", ["a", "b"])
def test_heatmaps_of_different_environments_say_so(tmp_path: Path, other: str) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    spec = ARTIFACTS["figure5"].entries[0].spec(REQUESTS[0])
    add(database, spec, 0, [76.0] * 8)
    (run,) = runs_of(database, [spec.spec_id])[spec.spec_id]
    shares = {2: np.ones((1, 1)), 3: np.full((1, 2), 0.5)}
    found = [
        Integration(Settings(stage, Source.TRAINED, 10, 1, 0, False), 10, shares, environment)
        for stage, environment in ((1, "a"), (2, "a"), (3, other))
    ]
    figure = draw_integration(found, run_detail(database, run.id))
    said = " ".join(text.get_text() for text in figure.texts)
    assert ("not all made in one environment" in " ".join(said.split())) is (other == "b")
