"""Questions of controls, and what their answers leave of the paper's explanations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from dia_repro.analysis.gradients import recorded_runs
from dia_repro.artifacts import ARTIFACTS, CONTROLS
from dia_repro.artifacts.controls import SKIPS
from dia_repro.artifacts.selection import Wanted, usual_names
from dia_repro.claims.evaluate import evaluate_claims
from dia_repro.claims.evidence import cells_of
from dia_repro.claims.verdicts import ClaimVerdict, Verdict, verdict_records
from dia_repro.experiments.names import Protocol
from dia_repro.paper.claims import CONTROLS_QUESTION, CellKey, Claim, all_claims, all_controls
from dia_repro.paper.facts import read_toml
from dia_repro.rendering.claims import claims_table
from dia_repro.rendering.histograms import draw_gradients
from dia_repro.results.database import Database, open_database
from tests.claims.results import DEMO, DIVERGED, add, at, noisy
from tests.claims.test_evaluate import record

SUPPORTED, REFUTED, UNDECIDED, NOT_RUN = Verdict
DEPTHS = ("ResNet83", "ResNet164", "ResNet245", "ResNet326")
TRAINS, DIVERGES, GUESSES = [70.0] * 8, [DIVERGED] * 8, [1.0] * 8
QUESTIONS = all_controls()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


def verdicts(database: Database) -> dict[str, ClaimVerdict]:
    return {verdict.claim: verdict for verdict in evaluate_claims(database, Wanted())}


def without_norm(database: Database, by_row: Mapping[str, str]) -> None:
    """Add eight seeds a network: by row, a letter a depth: trains, diverges, guesses, or -."""
    results = {"t": TRAINS, "d": DIVERGES, "g": GUESSES, "-": []}
    for row, letters in by_row.items():
        for depth, letter in zip(DEPTHS, letters, strict=True):
            add(database, at(CellKey("controls-norm", row, depth)), results[letter])


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_questions_are_about_cells_of_controls_and_claims_of_the_paper(question: Claim) -> None:
    entries = CONTROLS[question.artifact].entries
    places = cells_of(question)
    assert places
    assert {(p.row, p.column) for p in places} <= {(e.row, e.column) for e in entries}
    assert question.control is not None
    assert set(question.control.controls) <= {claim.name for claim in all_claims()}
    assert question.where == CONTROLS_QUESTION
    assert not question.text.endswith(".")


def test_every_control_asks_and_names_differ() -> None:
    assert {question.artifact for question in QUESTIONS} == set(CONTROLS)
    names = [stated.name for stated in (*all_claims(), *QUESTIONS)]
    assert len(set(names)) == len(names)


def test_rows_and_columns_in_the_facts_are_the_artifacts() -> None:
    known = read_toml("controls.toml")["artifacts"]
    for name, control in CONTROLS.items():
        assert set(known[name]["rows"]) == {entry.row for entry in control.entries}
        assert tuple(known[name]["columns"]) == control.paper.columns


def test_without_runs_nothing_is_said_of_controls(database: Database) -> None:
    found = verdicts(database)
    assert {found[question.name].verdict for question in QUESTIONS} == {NOT_RUN}
    assert not any("ontrols" in verdict.reason for verdict in found.values())
    assert usual_names(database, Wanted()) == ["all"]


def test_where_a_constant_does_the_same_sharing_need_not_be_the_reason(database: Database) -> None:
    table8 = {"original": "dddd", "SENet": "dddd", "DIANet": "tttd"}
    without_norm(database, {**table8, "constant 0.25": "tttd", "DIA-LSTM frozen": "tttt"})
    found = verdicts(database)
    constant = found["controls-norm-constant"]
    assert constant.verdict is SUPPORTED
    assert [comparison.compared for comparison in constant.evidence] == [
        f"constant 0.25: {depth}" for depth in DEPTHS[:3]
    ]
    assert found["table8-trains"].verdict is SUPPORTED
    assert found["table8-trains"].reason.endswith(
        " Controls: a constant 0.25 trains too (3 of 3 networks: ResNet83, ResNet164, ResNet245): "
        "neither sharing nor the LSTM need be the reason; a DIA-LSTM with frozen weights trains "
        "too (3 of 3 networks: ResNet83, ResNet164, ResNet245): learning need not be the reason; "
        "SE diverges (4 of 4 networks): attention alone is not the reason; not run: a constant "
        "0.1 at depths 245 and 326, a constant 0.5, DIA-SE, SkipInit, a scale of 1/sqrt(L), a "
        "start near 0.5, a start near 0.95."
    )
    assert "ontrols" not in found["table8-diverge"].reason


def test_where_what_is_shared_trains_alone_sharing_may_be_the_reason(database: Database) -> None:
    table8 = {"original": "dddd", "SENet": "dddd", "DIANet": "tttd"}
    without_norm(database, {**table8, "constant 0.25": "dddd", "DIA-SE": "tttd"})
    reason = verdicts(database)["table8-trains"].reason
    places = "ResNet83, ResNet164, ResNet245"
    does_not = f"a constant 0.25 does not (0 of 3 networks: {places})"
    assert f"{does_not}: the initial scale alone is not" in reason
    assert "does not diverge everywhere (1 of 4 networks): sharing may be the reason" in reason


def test_a_control_that_only_guesses_is_no_reason(database: Database) -> None:
    without_norm(database, {"DIANet": "tttd", "DIA-SE": "gggg", "SENet": "gggg"})
    found = verdicts(database)
    assert found["controls-norm-dia-se"].verdict is UNDECIDED
    assert found["controls-norm-se"].verdict is found["table8-diverge"].verdict is UNDECIDED
    assert "may be the reason" not in found["table8-trains"].reason


def test_answers_with_the_same_consequence_are_said_together(database: Database) -> None:
    rows = {"DIANet": "tddd", "SkipInit": "tddd", "scale 1/sqrt(L)": "tddd"}
    without_norm(database, rows)
    assert (
        "an original with SkipInit trains too (1 of 1 network: ResNet83), an original scaled by "
        "1/sqrt(L) trains too (1 of 1 network: ResNet83): attention need not be the reason"
    ) in verdicts(database)["table8-trains"].reason


@pytest.mark.parametrize(
    ("dianet", "constant", "verdict", "words"),
    [
        ("tttd", "ttdd", REFUTED, "trained with 0 of 8 seeds"),
        ("tttd", "tt-d", UNDECIDED, "1 of 3 networks not trained yet"),
        ("dddd", "tttt", UNDECIDED, "nowhere shown to train"),
        ("----", "----", NOT_RUN, "no run of its networks has a result"),
        ("tttd", "----", NOT_RUN, "no run of its networks has a result"),
    ],
)
def test_only_depths_at_which_the_method_trains_count(
    database: Database, dianet: str, constant: str, verdict: Verdict, words: str
) -> None:
    without_norm(database, {"DIANet": dianet, "constant 0.25": constant})
    judged = verdicts(database)["controls-norm-constant"]
    assert judged.verdict is verdict
    assert words in judged.reason.lower() or words in judged.reason


def test_a_seed_that_diverges_takes_its_depth_out(database: Database) -> None:
    without_norm(database, {"DIANet": "t---", "constant 0.25": "tt--"})
    mixed = at(CellKey("controls-norm", "DIANet", "ResNet164"))
    add(database, mixed, [70.0, DIVERGED] * 4)
    judged = verdicts(database)["controls-norm-constant"]
    assert judged.verdict is SUPPORTED
    assert len(judged.evidence) == 1


def test_capacity_says_whether_size_or_sharing_matters(database: Database) -> None:
    for depth in ("ResNet83", "ResNet164", "ResNet245", "ResNet407"):
        for row, mean in {
            "DIANet": 76,
            "SENet": 74,
            "SE, as many parameters": 74,
            "LSTM per block": 78,
        }.items():
            spec = at(CellKey("controls-capacity", row, depth))
            add(database, spec, noisy(mean, 8, spec, 0.05))
    found = verdicts(database)
    assert found["controls-capacity-size"].verdict is SUPPORTED
    assert found["controls-capacity-shared"].verdict is REFUTED
    assert found["table5-depth"].verdict is SUPPORTED
    assert (
        "Controls: DIANet is ahead of SE with as many parameters (4 of 4 comparisons): its size "
        "alone is not the reason; DIANet is not ahead of an LSTM per block (0 of 4 comparisons): "
        "sharing need not be the reason; not run: DIA-SE."
    ) in found["table5-depth"].reason


def test_a_control_under_other_conditions_says_nothing(database: Database) -> None:
    without_norm(database, {"original": "dddd", "SENet": "dddd", "DIANet": "tttd"})
    for row in ("constant 0.25", "DIANet"):
        for depth in DEPTHS:
            add(database, at(CellKey("controls-norm", row, depth), DEMO), [70.0] * 13)
    found = verdicts(database)
    assert found["controls-norm-constant"].verdict is SUPPORTED
    assert found["controls-norm-constant"].conditions.startswith("demo")
    assert found["table8-trains"].conditions.startswith("paper")
    assert "ontrols" not in found["table8-trains"].reason


def test_an_undecided_control_is_not_mentioned(database: Database) -> None:
    without_norm(database, {"DIANet": "tttd", "SENet": "dd--", "constant 0.25": "t---"})
    found = verdicts(database)
    assert found["controls-norm-constant"].verdict is UNDECIDED
    assert "ontrols" not in found["table8-trains"].reason


def test_gradients_of_a_constant_are_figure_6s_control(database: Database) -> None:
    for column, mean in {"original": 1.0, "constant 0.25": 30.0, "DIANet": 10.0}.items():
        for run in add(database, at(CellKey("controls-skips", "ResNet56", column)), [60.0] * 8):
            record(database, run, mean + run / 100, mean + run / 100, mean)
    found = verdicts(database)
    control = found["controls-skips-initial"]
    assert control.verdict is REFUTED
    assert control.evidence[0].compared == "stage 1: mean, DIANet ÷ constant"
    assert found["figure6-initial"].verdict is SUPPORTED
    assert found["figure6-initial"].reason.endswith(
        "Controls: DIANet's are not larger than a constant's (0 of 6 comparisons): the initial "
        "scale may be the reason."
    )
    runs = recorded_runs(database, (), SKIPS)
    assert Counter(run.label for run in runs) == {"original": 8, "constant 0.25": 8, "DIANet": 8}
    figure = draw_gradients(runs, SKIPS)
    legend = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert legend == ["original (8 runs)", "constant 0.25 (8 runs)", "DIANet (8 runs)"]
    (title, *_) = [text.get_text() for text in figure.texts]
    assert title.replace("\n", " ").startswith("controls-skips. Gradients without skip connections")


def test_controls_with_runs_of_their_own_are_shown(database: Database) -> None:
    without_norm(database, {"DIANet": "tttd"})  # Table 8's
    assert usual_names(database, Wanted()) == ["all"]
    without_norm(database, {"SkipInit": "t---"})
    assert usual_names(database, Wanted()) == ["all", "controls-norm"]
    assert usual_names(database, Wanted(protocol=Protocol.DEMO)) == ["all"]


def test_a_question_is_marked_as_none_of_the_papers(database: Database) -> None:
    found = verdicts(database)
    marked = {name for name, verdict in found.items() if not verdict.of_paper}
    assert marked == {question.name for question in QUESTIONS}
    shown = [verdict for verdict in found.values() if verdict.artifact == "controls-skips"]
    text = " ".join(
        str(cell)
        for column in claims_table(verdict_records(shown)).columns
        for cell in column.cells
    )
    assert text.count(CONTROLS_QUESTION) == 2
    assert set(ARTIFACTS) == {verdict.artifact for verdict in found.values() if verdict.of_paper}
