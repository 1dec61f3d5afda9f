"""Artifacts of one's own, and networks with another attention next to an artifact's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dia_repro import plugins
from dia_repro.analysis.parameters import parameter_counts
from dia_repro.artifacts import (
    ARTIFACTS,
    ArtifactError,
    Drawing,
    Entry,
    TableArtifact,
    choose,
    own_artifacts,
    register_artifact,
)
from dia_repro.artifacts.paper import SE16, resnet
from dia_repro.artifacts.selection import Wanted
from dia_repro.claims.evaluate import evaluate_claims
from dia_repro.claims.verdicts import Verdict
from dia_repro.experiments.attention import NoAttention, parse_attention
from dia_repro.experiments.backbones import ImpossibleNetworkError
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.spec import DIALSTMAttention
from dia_repro.rendering.grid import make_grid
from dia_repro.rendering.tables import to_latex, to_terminal
from dia_repro.results.database import Database, open_database
from tests.artifacts.test_table5 import DEMO, PAPER, add

NAME = "shallow"
PLUGIN = '''"""SE against no attention on shallow networks."""
from dia_repro.artifacts import Entry, TableArtifact, register_artifact
from dia_repro.artifacts.paper import SE16, resnet
from dia_repro.experiments.spec import NoAttention

register_artifact(TableArtifact(
    name="shallow",
    title="SE on shallow networks",
    row_heading="Depth",
    entries=tuple(
        Entry(
            row=f"ResNet{depth}",
            column=column,
            model=resnet(depth, attention),
            compared_with=(f"ResNet{depth}", "original") if column == "SENet" else None,
        )
        for depth in (11, 20)
        for column, attention in (("original", NoAttention()), ("SENet", SE16))
    ),
))
'''


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    artifacts, loaded = dict(ARTIFACTS), set(plugins._LOADED)
    yield
    ARTIFACTS.clear()
    ARTIFACTS.update(artifacts)
    plugins._LOADED.clear()
    plugins._LOADED.update(loaded)


@pytest.fixture
def shallow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TableArtifact:
    (tmp_path / "shallow.py").write_text(PLUGIN)
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "shallow.py"))
    (artifact,) = choose([NAME])
    return artifact


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


def test_an_own_artifact_is_no_table_of_the_paper(
    shallow: TableArtifact, database: Database
) -> None:
    value = shallow.compute(database, DEMO)
    assert (shallow.label, shallow.in_paper, value.printed) == (NAME, False, False)
    grid = make_grid(value)
    for text in (to_terminal(grid), to_latex(grid), " ".join(grid.notes), grid.title):
        assert "paper's figures" not in str(text)
        assert "of the paper" not in str(text)
    assert not any("paper" in heading.text for heading in grid.headings)
    assert {len(group) for row in grid.rows for group in row.groups} == {len(grid.headings)}
    assert len(grid.rows) == 2
    assert own_artifacts() == [shallow]
    assert [artifact.name for artifact in choose(["all"])] == list(ARTIFACTS)


@pytest.mark.usefixtures("shallow")
def test_comparisons_of_an_own_artifact_get_a_verdict(
    shallow: TableArtifact, database: Database
) -> None:
    specs = shallow.specs(DEMO)
    for seed in range(7):
        for (_, column), spec in specs.items():
            top1 = 60.0 + seed / 10 + (5 + seed / 7 if column == "SENet" else 0)
            add(database, spec, seed, [top1])
    *_, verdict = evaluate_claims(database, Wanted(Protocol.DEMO))
    assert verdict.artifact == NAME
    assert verdict.text == "SENet is more accurate than original in SE on shallow networks"
    assert verdict.verdict is Verdict.SUPPORTED
    assert [evidence.n for evidence in verdict.evidence] == [7, 7]


def test_parameter_counts_without_a_printed_value_are_acceptable(shallow: TableArtifact) -> None:
    counts = parameter_counts([shallow])
    assert [count.matches for count in counts] == [None] * 4
    assert all(count.acceptable and count.parameters for count in counts)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "table5"}, "'table5' is registered already"),
        ({"name": "all"}, "lower-case"),
        ({"name": "My table"}, "lower-case"),
        ({"entries": ()}, "its own row and column"),
    ],
)
def test_what_cannot_be_registered_is_refused(changes: dict[str, object], words: str) -> None:
    entry = Entry(row="a", column="b", model=resnet(11, SE16))
    fields = {"name": "own", "row_heading": "Row", "entries": (entry,), **changes}
    with pytest.raises(ArtifactError, match=words):
        register_artifact(TableArtifact(**fields))  # type: ignore[arg-type]
    twice = TableArtifact(name="own", row_heading="Row", entries=(entry, entry))
    with pytest.raises(ArtifactError, match="its own row and column"):
        register_artifact(twice)


def test_another_attention_is_a_column_of_table_5() -> None:
    (table,) = choose(["table5"], ["dia-se:reduction=4"])
    assert table.paper.columns == ("SENet", "DIANet", "DIA-SE r=4")
    (same,) = choose(["table5"])
    before, after = same.specs(PAPER), table.specs(PAPER)
    assert {cell: after[cell] for cell in before} == before
    added = after["ResNet407", "DIA-SE r=4"].model
    assert (added.attention.kind, added.backbone) == (
        "dia-se",
        before["ResNet407", "SENet"].model.backbone,
    )
    assert len(after) == len(before) + 4


@pytest.mark.parametrize("name", list(ARTIFACTS))
def test_every_artifact_takes_another_attention(name: str, database: Database) -> None:
    attention = parse_attention("dia-se:reduction=2")
    (extended,) = choose([name], ["dia-se:reduction=2"])
    own = len(ARTIFACTS[name].entries)
    added = extended.entries[own:]
    assert extended.entries[:own] == ARTIFACTS[name].entries
    assert added
    assert all(entry.model.attention == attention for entry in added)
    specs = {entry.spec(PAPER).spec_id for entry in added}
    assert len(specs) == len(added)
    grid = make_grid(extended.compute(database, PAPER))
    assert {len(row.groups) for row in grid.rows} == {len(grid.groups)}


def test_the_same_network_is_added_once_and_another_one_has_another_name() -> None:
    same = ARTIFACTS["table5"].with_attention(DIALSTMAttention(), DIALSTMAttention())
    assert same.entries == ARTIFACTS["table5"].entries
    table8 = ARTIFACTS["table8"].with_attention(DIALSTMAttention())
    assert table8.paper.columns == ("original", "SENet", "DIANet", "DIANet r=4")
    bare = ARTIFACTS["table1"].with_attention(NoAttention())
    assert bare.paper.rows == ("Org", "SE", "DIA-SE", "original")


def test_a_stage_that_only_some_networks_have_is_added_to_these() -> None:
    (table3,) = choose(["table3"], ["dia-lstm:stages=[4]"])
    added = table3.entries[len(ARTIFACTS["table3"].entries) :]
    assert {type(entry.model.backbone).__name__ for entry in added} == {"ImageNetBackbone"}
    with pytest.raises(ImpossibleNetworkError, match="stage 4 is to have attention, of 3 stages"):
        choose(["table5"], ["dia-lstm:stages=[4]"])


def test_artifacts_say_what_is_drawn() -> None:
    drawn = {name: set(artifact.drawings) for name, artifact in ARTIFACTS.items()}
    assert all(Drawing.ACCURACY in drawings for drawings in drawn.values())
    assert [name for name, drawings in drawn.items() if Drawing.HEATMAP in drawings] == ["figure5"]


@pytest.mark.parametrize(
    "kinds",
    [
        ("branch-scale:start=0.1361", "branch-scale:start=0.1364"),
        ("constant:value=0.1234567", "constant:value=0.1234568"),
    ],
)
def test_networks_whose_names_are_rounded_alike_are_all_there(kinds: tuple[str, str]) -> None:
    table = ARTIFACTS["table5"].with_attention(*map(parse_attention, kinds))
    added = table.entries[len(ARTIFACTS["table5"].entries) :]
    assert {entry.model.attention for entry in added} == set(map(parse_attention, kinds))
    assert len({entry.position for entry in added}) == len(added) == 8
    assert table.paper.columns[-1] == kinds[1]


def test_a_network_that_is_only_compared_with_is_shown_when_asked_for() -> None:
    def shown(table: TableArtifact) -> set[object]:
        return {entry.model.attention for entry in table.entries if entry.shown}

    figure, se = ARTIFACTS["figure6"], parse_attention("se")
    assert se not in shown(figure)
    extended = figure.with_attention(se)
    assert shown(extended) == {*shown(figure), se}
    assert len(extended.entries) == len(figure.entries)
