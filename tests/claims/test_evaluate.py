"""Verdicts on databases of which it is known what they must say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dia_repro.artifacts.selection import Wanted
from dia_repro.claims.evaluate import evaluate_claims
from dia_repro.claims.evidence import cells_of
from dia_repro.claims.statistics import detectable_difference, images_error
from dia_repro.claims.verdicts import ClaimVerdict, Epoch, Evidence, Verdict
from dia_repro.data import known_data
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.seeds import Seeds
from dia_repro.experiments.spec import Spec
from dia_repro.paper.claims import CellKey, Kind, all_claims, all_controls
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import runs_of
from dia_repro.results.schema import EpochRow, ProvenanceRow
from tests.claims.results import (
    DEMO,
    DIVERGED,
    MANY_IMAGES,
    MOMENT,
    add,
    analyse,
    as_printed,
    at,
    claim,
    noisy,
)
from tests.results.rows import PROVENANCE, binned, epoch

SUPPORTED, REFUTED, UNDECIDED, NOT_RUN = Verdict
COUNTED = {
    "table1-parameters",
    "table1-cost",
    "table4-parameters",
    "table5-parameters",
    "table5-growth",
    "table8-parameters",
}
ORDERS = [stated.name for stated in all_claims() if stated.kind is Kind.HIGHER]
ON_TABLES = [stated.name for stated in all_claims() if not stated.artifact.startswith("figure")]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


def verdicts(database: Database) -> dict[str, ClaimVerdict]:
    return {verdict.claim: verdict for verdict in evaluate_claims(database, Wanted())}


def main(verdict: ClaimVerdict) -> Evidence:
    assert verdict.main is not None
    return verdict.evidence[verdict.main]


def test_without_runs_only_counts_are_decided(database: Database) -> None:
    found = verdicts(database)
    assert list(found) == [stated.name for stated in (*all_claims(), *all_controls())]
    assert {name for name, verdict in found.items() if verdict.verdict is SUPPORTED} == COUNTED
    # By the paper's own Table 5 DIANet164 has more parameters than two of the SENets.
    assert [name for name, verdict in found.items() if verdict.verdict is REFUTED] == [
        "table5-savings"
    ]
    trained = found.keys() - COUNTED - {"table5-savings"}
    assert {found[name].verdict for name in trained} == {NOT_RUN}
    assert all(verdict.reason.endswith(".") and verdict.conditions for verdict in found.values())
    assert {verdict.papers_own for verdict in found.values()} == {True}


def test_counts_are_exact(database: Database) -> None:
    found = verdicts(database)
    shared = main(found["table1-parameters"])
    assert shared.effect == (1_738_512 - 1_929_388) / 1e6
    assert main(found["table1-cost"]).effect == 0
    growth = found["table5-growth"].evidence
    # 3 stages of N channels at r = 4: 10 N²/r weights and 8N + 2N/r biases of N = 64, 128, 256.
    added = sum(10 * n * n // 4 + 8 * n + 2 * n // 4 for n in (64, 128, 256))
    assert [comparison.effect for comparison in growth] == [added / 1e6] * 4
    assert [comparison.in_favour for comparison in growth] == [True] * 4


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_decide_nothing_however_clear(database: Database, seeds: int) -> None:
    as_printed(database, ORDERS, seeds)
    found = verdicts(database)
    for name in ORDERS:
        judged = found[name]
        assert judged.verdict is UNDECIDED, name
        assert {e.n for e in judged.evidence} == {seeds}
        assert all(e.in_favour for e in judged.evidence)
        assert {e.low is None for e in judged.evidence} == {seeds == 1}
        assert "3 needed" in judged.reason


def test_ten_seeds_as_printed_support_every_order(database: Database) -> None:
    as_printed(database, ORDERS, 10)
    found = verdicts(database)
    for name in ORDERS:
        judged = found[name]
        assert judged.verdict is SUPPORTED, name
        assert all((e.low or 0) > 0 and (e.p or 1) <= 0.05 for e in judged.evidence)
        assert {len(e.runs) for e in judged.evidence} == {20}


def test_ten_contrary_seeds_refute_every_order(database: Database) -> None:
    as_printed(database, ORDERS, 10, sign=-1)
    found = verdicts(database)
    for name in ORDERS:
        assert found[name].verdict is REFUTED, name
        assert (main(found[name]).high or 0) < 0
        assert main(found[name]).in_favour is False


def test_one_contrary_row_refutes_and_is_named(database: Database) -> None:
    for row in ("ResNet83", "ResNet164", "ResNet245", "ResNet407"):
        senet, dianet = (at(CellKey("table5", row, column)) for column in ("SENet", "DIANet"))
        add(database, senet, noisy(75, 10, senet, 0.1))
        add(database, dianet, noisy(74 if row == "ResNet245" else 76, 10, dianet, 0.1))
    judged = verdicts(database)["table5-depth"]
    assert judged.verdict is REFUTED
    assert main(judged).compared == "ResNet245: DIANet − SENet"
    assert "ResNet245" in judged.reason


def test_noise_is_undecided_and_says_what_so_many_seeds_can_find(database: Database) -> None:
    pair = claim("table1-accuracy").comparisons[0]
    first, second = at(pair.first), at(pair.second)
    differences = [1.0, -0.4, 0.9, -0.5, 0.8, 0.1, 0.6, -0.7]
    add(database, first, [75 + difference for difference in differences])
    add(database, second, [75.0] * 8)
    judged = verdicts(database)["table1-accuracy"]
    assert judged.verdict is UNDECIDED
    assert main(judged).effect == pytest.approx(np.mean(differences))
    assert main(judged).detectable == pytest.approx(
        detectable_difference(8, float(np.std(differences, ddof=1)))
    )
    assert "not clear of 0" in judged.reason


def test_half_missing_is_undecided_and_says_so(database: Database) -> None:
    rows = ("ResNet83", "ResNet164", "ResNet245", "ResNet407")
    for row in rows[:2]:
        senet, dianet = (at(CellKey("table5", row, column)) for column in ("SENet", "DIANet"))
        add(database, senet, noisy(75, 10, senet, 0.1))
        add(database, dianet, noisy(76, 10, dianet, 0.1))
    add(database, at(CellKey("table5", rows[2], "DIANet")), [76.0] * 10)
    judged = verdicts(database)["table5-depth"]
    assert judged.verdict is UNDECIDED
    assert "2 of 4 comparisons have no seed with both sides" in judged.reason
    assert [e.n for e in judged.evidence] == [10, 10, 0, 0]


def test_one_side_alone_is_not_run(database: Database) -> None:
    pair = claim("table1-accuracy").comparisons[0]
    add(database, at(pair.first), [76.0, None])
    add(database, at(pair.second), [None, 75.0])
    judged = verdicts(database)["table1-accuracy"]
    assert judged.verdict is NOT_RUN
    assert "no two of a comparison with the same seed" in judged.reason


def test_seeds_that_are_left_out_are_no_evidence(database: Database) -> None:
    """With seeds 0 to 2 DIANet is behind at every depth, with the others ahead."""
    for place in cells_of(claim("table5-depth")):
        ours = [70.0, 70.2, 70.1, 80.0, 80.2, 80.1] if place.column == "DIANet" else [75.0] * 6
        add(database, at(place), ours)
    few, others = (
        {
            verdict.claim: verdict
            for verdict in evaluate_claims(database, Wanted(seeds=Seeds.of(seeds)))
        }
        for seeds in ("0-2", "3-5")
    )
    assert few["table5-depth"].verdict is REFUTED
    assert others["table5-depth"].verdict is SUPPORTED
    assert few["table5-depth"].conditions.endswith(", seeds 0 to 2 only")
    assert main(verdicts(database)["table5-depth"]).n == 6
    assert "seeds" not in verdicts(database)["table5-depth"].conditions


def test_only_seeds_of_both_are_compared(database: Database) -> None:
    pair = claim("table1-accuracy").comparisons[0]
    add(database, at(pair.first), [76.0, None, 77.0, 78.0])
    add(database, at(pair.second), [75.0, 10.0, 74.5])
    evidence = main(verdicts(database)["table1-accuracy"])
    assert evidence.n == 2
    assert evidence.effect == pytest.approx((1.0 + 2.5) / 2)
    assert len(evidence.runs) == 4


def test_pairs_that_were_not_trained_alike_are_counted(database: Database) -> None:
    """A pair trained with two versions of torch differs by more than the network."""
    pair = claim("table1-accuracy").comparisons[0]
    ours, theirs = (
        add(database, at(pair.first), [*[76.0] * 4, DIVERGED]),
        add(database, at(pair.second), [*[75.0] * 4, DIVERGED]),
    )
    diverged = "1 run of the first diverged; 1 run of the second diverged"
    assert main(verdicts(database)["table1-accuracy"]).note == diverged
    with database.writing() as session:
        for run, changes in (
            (ours[4], {"torch": "3"}),  # diverged: in no pair
            (ours[0], {"torch": "3"}),
            (theirs[0], {"torch": "3"}),  # both alike: another seed's pair is of no concern
            (ours[1], {"torch": "3", "threads": 2}),
            (theirs[2], {"capability": "AVX2"}),  # that of the other is not known
        ):
            chosen = session.query(ProvenanceRow).filter_by(run_id=run).one()
            for name, value in changes.items():
                setattr(chosen, name, value)
        # Gone on with elsewhere: the run was trained with both.
        attempt = {**PROVENANCE, "device": "e", "from_epoch": 1, "test_images": MANY_IMAGES}
        session.add(ProvenanceRow(run_id=theirs[3], started_at=MOMENT, **attempt))
    assert main(verdicts(database)["table1-accuracy"]).note == (
        f"{diverged}; 2 of 4 pairs trained with different devices, numbers of threads, versions of "
        "torch"
    )


def test_where_all_diverge_no_order_is_decided(database: Database) -> None:
    specs = {at(place) for name in ORDERS for place in cells_of(claim(name))}
    for spec in specs:
        add(database, spec, [DIVERGED] * 10)
    found = verdicts(database)
    for name in ORDERS:
        assert found[name].verdict is UNDECIDED
        assert "diverged, which have no value" in found[name].reason
        assert main(found[name]).effect is None
        assert main(found[name]).note == (
            "10 runs of the first diverged; 10 runs of the second diverged"
        )


@pytest.mark.parametrize(
    ("better", "diverged", "verdict"),
    [(1, 0, UNDECIDED), (1, 1, SUPPORTED), (-1, 1, UNDECIDED), (-1, 0, REFUTED)],
)
def test_a_network_that_diverges_cannot_win(
    database: Database, better: int, diverged: int, verdict: Verdict
) -> None:
    pair = claim("table1-accuracy").comparisons[0]
    for place, (network, mean) in enumerate([(pair.first, 75 + better), (pair.second, 75)]):
        accuracies = noisy(mean, 12, at(network), 0.1)
        add(database, at(network), [*accuracies, *([DIVERGED] if place == diverged else [70.0])])
    judged = verdicts(database)["table1-accuracy"]
    assert judged.verdict is verdict
    assert main(judged).n == 12


def about_equal(database: Database, difference: float, seeds: int, spread: float) -> ClaimVerdict:
    pair = claim("table5-equal").comparisons[0]
    add(database, at(pair.first), noisy(75 + difference, seeds, at(pair.first), spread))
    add(database, at(pair.second), [75.0] * seeds)
    return verdicts(database)["table5-equal"]


@pytest.mark.parametrize(
    ("difference", "seeds", "spread", "verdict"),
    [
        (0.05, 10, 0.1, SUPPORTED),
        (-0.05, 10, 0.1, SUPPORTED),
        (1.0, 10, 0.1, REFUTED),
        (-1.0, 10, 0.1, REFUTED),
        (0.4, 10, 0.2, UNDECIDED),
        (0.05, 10, 2.0, UNDECIDED),
        (0.0, 5, 0.01, SUPPORTED),
        (0.0, 2, 0.01, UNDECIDED),
        (0.0, 1, 0.01, UNDECIDED),
    ],
)
def test_equal_accuracy_is_judged_by_difference_seeds_and_spread(
    database: Database, difference: float, seeds: int, spread: float, verdict: Verdict
) -> None:
    assert about_equal(database, difference, seeds, spread).verdict is verdict


@pytest.mark.parametrize(
    ("means", "seeds", "verdict"),
    [
        ((76.88, 76.67, 76.42, 76.5), 20, SUPPORTED),
        ((78.0, 76.67, 76.42, 76.5), 10, REFUTED),
        ((77.3, 76.67, 76.42, 76.5), 10, UNDECIDED),
        ((76.88, 76.67, 76.42, 76.5), 2, UNDECIDED),
    ],
)
def test_not_sensitive_to_the_ratio(
    database: Database, means: tuple[float, ...], seeds: int, verdict: Verdict
) -> None:
    for place, mean in zip(cells_of(claim("table4-ratio")), means, strict=True):
        add(database, at(place), noisy(mean, seeds, at(place), 0.15))
    judged = verdicts(database)["table4-ratio"]
    assert judged.verdict is verdict
    assert [e.n for e in judged.evidence] == [seeds] * 6  # every two of four
    assert judged.evidence[0].compared == "DIANet164: r=1 − r=4"


TABLE8 = ["table8-diverge", "table8-trains", "table8-limit"]


@pytest.mark.parametrize(("seeds", "verdict"), [(6, SUPPORTED), (5, UNDECIDED), (1, UNDECIDED)])
def test_table_8_as_printed_takes_six_seeds(
    database: Database, seeds: int, verdict: Verdict
) -> None:
    as_printed(database, TABLE8, seeds)
    found = verdicts(database)
    assert {found[name].verdict for name in TABLE8} == {verdict}
    assert all(e.n == seeds for e in found["table8-diverge"].evidence)
    assert [e.effect for e in found["table8-trains"].evidence] == [100.0] * 3


def test_the_seed_that_chose_the_demonstrations_rate_is_not_counted(database: Database) -> None:
    as_printed(database, TABLE8, 6, request=DEMO)
    found = verdicts(database)
    assert {found[name].verdict for name in TABLE8} == {UNDECIDED}
    assert main(found["table8-limit"]).n == 5
    assert main(found["table8-limit"]).note == "seed 0 chose the learning rate: not counted"


def test_a_network_that_only_guesses_has_not_trained(database: Database) -> None:
    for place in claim("table8-trains").cells:
        add(database, at(place), [10.9, 10.5, 9.0] * 3)  # of 100 classes; 11 are asked for
    found = verdicts(database)["table8-trains"]
    assert found.verdict is REFUTED
    assert main(found).note == "9 runs less than 10 points above guessing"
    assert main(found).effect == 0.0


def test_table_8_with_divergence_and_training_exchanged_is_refuted(database: Database) -> None:
    for name in TABLE8:
        for place in claim(name).cells:
            add(database, at(place), [DIVERGED if name == "table8-trains" else 70.0] * 9)
    found = verdicts(database)
    assert {found[name].verdict for name in TABLE8} == {REFUTED}
    assert main(found["table8-trains"]).effect == 0.0


def test_table_8_that_depends_on_the_seed_or_lacks_networks(database: Database) -> None:
    cells = claim("table8-diverge").cells
    add(database, at(cells[0]), [DIVERGED] * 6)
    partly = verdicts(database)["table8-diverge"]
    assert partly.verdict is UNDECIDED
    assert "7 of 8 networks" in partly.reason
    add(database, at(cells[1]), [*[DIVERGED] * 5, 70.0])
    mixed = verdicts(database)["table8-diverge"]
    assert mixed.verdict is UNDECIDED
    assert "diverged with 5 of 6 seeds" in mixed.reason
    evidence = mixed.evidence[1]
    assert evidence.in_favour
    assert evidence.p == pytest.approx(2 * 7 / 2**6)
    assert (evidence.low, evidence.high) == pytest.approx((35.88, 99.58), abs=0.01)


def gini_parts(shares: float) -> dict[int, str]:
    """Of five layers: the given share of the importance is not on the first source."""
    parts = {}
    for target in (2, 3, 4, 5):
        row = np.full(target - 1, shares / max(1, target - 2))
        row[0] = 1 - shares if target > 2 else 1
        content = {"layers": 5, "samples": 20, "shares": [row.tolist()]}
        parts[target] = json.dumps(content)
    return parts


def analyse_stages(
    database: Database,
    run: int,
    shares: dict[int, float],
    trees: int = 1,
    source: str = "trained",
    seed: int = 0,
    circumstances: str = "{}",
) -> None:
    for stage, share in shares.items():
        settings = {
            "kind": "gini",
            "stage": stage,
            "source": source,
            "samples": 20,
            "trees": trees,
            "seed": seed,
            "library": False,
        }
        analyse(database, run, settings, gini_parts(share), circumstances)


@pytest.mark.parametrize(
    ("seeds", "third", "before", "verdict"),
    [
        (8, 0.6, 0.3, SUPPORTED),
        (8, 0.6, 0.75, UNDECIDED),  # stage 3 is denser as claimed, but it was before training, too
        (8, 0.1, 0.3, REFUTED),
        (1, 0.6, 0.3, UNDECIDED),
    ],
)
def test_figure_5_from_what_is_stored(
    database: Database, seeds: int, third: float, before: float, verdict: Verdict
) -> None:
    runs = add(database, at(claim("figure5-stage3").cells[0]), [76.0] * (seeds + 1))
    assert verdicts(database)["figure5-stage3"].verdict is NOT_RUN
    for seed, run in enumerate(runs[:-1]):
        analyse_stages(database, run, {1: 0.3 + seed / 100, 2: 0.3, 3: third + seed / 50})
        analyse_stages(database, run, {1: 0.3, 2: 0.3, 3: before}, source="initial")
        analyse_stages(database, run, {1: 0.3, 2: 0.3, 3: 0.3 + seed / 900}, source="shuffled")
    analyse_stages(database, runs[-1], {1: 0.3, 2: 0.3}, trees=50)  # the third stage is missing
    found = verdicts(database)
    assert found["figure5-stage3"].verdict is verdict
    assert [e.n for e in found["figure5-stage3"].evidence] == [seeds] * 6
    assert "20 images, 1 forest of 1 trees" in main(found["figure5-stage3"]).note
    beaten = "2 of 6 comparisons with controls are on the other side"
    assert (beaten in found["figure5-stage3"].reason) is (before == 0.75)
    early = main(found["figure5-early"])
    assert early.effect == pytest.approx(100 * (0.5 - 0.5 / 4))
    assert early.n == seeds


@pytest.mark.parametrize(
    ("other", "note"),
    [
        ('{"torch": "2", "command": "b"}', "stages or controls of 2 runs analysed in different"),
        ('{"torch": "1", "command": "b"}', ""),
    ],
)
def test_figure_5_says_what_was_analysed_in_different_environments(
    database: Database, other: str, note: str
) -> None:
    runs = add(database, at(claim("figure5-stage3").cells[0]), [76.0] * 3)
    for number, run in enumerate(runs):
        first = '{"torch": "1", "command": "a"}'
        analyse_stages(database, run, {1: 0.3, 2: 0.3}, circumstances=first)
        analyse_stages(database, run, {3: 0.6}, circumstances=other if number else first)
    said = main(verdicts(database)["figure5-stage3"]).note
    assert note in said
    assert ("environments" in said) is bool(note)


def test_figure_5_without_controls_is_undecided(database: Database) -> None:
    for run in add(database, at(claim("figure5-stage3").cells[0]), [76.0] * 8):
        analyse_stages(database, run, {1: 0.3 + run / 100, 2: 0.3, 3: 0.6 + run / 50})
    judged = verdicts(database)["figure5-stage3"]
    assert judged.verdict is UNDECIDED
    assert "4 of 6 comparisons have no seed with both sides" in judged.reason


def test_an_analysis_that_is_not_done_to_the_end_does_not_count(database: Database) -> None:
    (run,) = add(database, at(claim("figure5-stage3").cells[0]), [76.0])
    analyse_stages(database, run, {1: 0.3, 2: 0.3})
    settings = {"kind": "gini", "stage": 3, "source": "trained", "samples": 20, "trees": 1}
    rest = dict(list(gini_parts(0.6).items())[:2])
    analyse(database, run, {**settings, "seed": 0, "library": False}, rest)
    found = verdicts(database)
    assert found["figure5-stage3"].verdict is NOT_RUN
    assert "dia-repro analyze gini" in found["figure5-stage3"].reason
    assert main(found["figure5-early"]).n == 1


def test_settings_with_all_stages_go_before_those_with_more_trees(database: Database) -> None:
    runs = add(database, at(claim("figure5-stage3").cells[0]), [76.0] * 4)
    for run in runs:
        analyse_stages(database, run, {1: 0.3, 2: 0.3}, trees=50)
        analyse_stages(database, run, {1: 0.9, 2: 0.9, 3: 0.1}, trees=99, source="shuffled")
    analyse_stages(database, runs[0], {1: 0.3, 2: 0.3, 3: 0.6})
    evidence = main(verdicts(database)["figure5-stage3"])
    assert (evidence.n, evidence.in_favour) == (1, True)


def record(database: Database, run: int, *means: float) -> None:
    counts = {"count": 1, "zeros": 0, "not_finite": 0, "quantiles": []}
    stages = [
        {"mean": mean, "variance": mean**2, **counts, "histogram": binned(1, mean)}
        for mean in means
    ]
    last = at(claim("figure6-initial").comparisons[0].first).recipe.epochs - 1
    parts = {0: json.dumps(stages), last: json.dumps(stages[::-1])}
    analyse(database, run, {}, parts)


def test_figure_6_from_what_runs_recorded(database: Database) -> None:
    pair = claim("figure6-initial").comparisons[0]
    dianet, original = (add(database, at(p), [60.0] * 8) for p in (pair.first, pair.second))
    assert verdicts(database)["figure6-initial"].verdict is NOT_RUN
    for run, other in zip(dianet, original, strict=True):
        record(database, run, 10 + run / 10, 20 + run / 10, 0.5)
        record(database, other, 1.0, 2.0, 1.0)
    found = verdicts(database)
    for name, stage in (("figure6-initial", 3), ("figure6-trained", 1)):
        judged = found[name]
        assert judged.verdict is REFUTED
        assert main(judged).compared.startswith(f"stage {stage}")
        assert main(judged).n == 8
    mean, variance = found["figure6-initial"].evidence[:2]
    assert variance.effect == pytest.approx(2 * (mean.effect or 0))


def test_gradients_without_their_last_record_do_not_count(database: Database) -> None:
    pair = claim("figure6-initial").comparisons[0]
    for place in (pair.first, pair.second):
        for run in add(database, at(place), [60.0] * 8):
            record(database, run, 3.0, 3.0, 3.0)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("delete from analysis_parts where part > 0")
    for name in ("figure6-initial", "figure6-trained"):
        assert verdicts(database)[name].verdict is NOT_RUN


@pytest.mark.parametrize(
    ("scales", "vanished", "verdict"),
    [
        ((3.0, 1.0), None, SUPPORTED),
        ((3.0, 1.0), 0, UNDECIDED),  # DIANet's gradients are 0 with a seed: not the larger ones
        ((3.0, 1.0), 1, SUPPORTED),
        ((1.0, 3.0), 0, REFUTED),
        ((1.0, 3.0), 1, REFUTED),  # by the other stages
    ],
)
def test_a_network_whose_gradients_vanish_cannot_have_the_larger_ones(
    database: Database, scales: tuple[float, float], vanished: int | None, verdict: Verdict
) -> None:
    pair = claim("figure6-initial").comparisons[0]
    for network, place in enumerate((pair.first, pair.second)):
        for seed, run in enumerate(add(database, at(place), [60.0] * 10)):
            value = scales[network] + seed * (network + 1) / 1000
            record(database, run, 0.0 if (network, seed) == (vanished, 0) else value, value, value)
    judged = verdicts(database)["figure6-initial"]
    assert judged.verdict is verdict
    lost = vanished is not None
    assert [e.n for e in judged.evidence] == [10 - lost, 10 - lost, 10, 10, 10, 10]
    assert [len(e.runs) for e in judged.evidence[::2]] == [20, 20, 20]
    assert ("0 or not finite for the" in judged.evidence[0].note) is lost


def test_a_network_that_diverges_cannot_have_the_larger_gradients(database: Database) -> None:
    pair = claim("figure6-trained").comparisons[0]
    for network, place in enumerate((pair.first, pair.second)):
        accuracies = [60.0] * 8 + ([DIVERGED] if network == 0 else [60.0])
        for seed, run in enumerate(add(database, at(place), accuracies)):
            value = (3.0 if network == 0 else 1.0) + seed * (network + 1) / 1000
            record(database, run, value, value, value)
    judged = verdicts(database)["figure6-trained"]
    assert judged.verdict is UNDECIDED
    assert "1 run of the first diverged" in main(judged).note


def test_one_stage_that_is_analysed_is_not_all(database: Database) -> None:
    for run in add(database, at(claim("figure5-stage3").cells[0]), [76.0] * 8):
        analyse_stages(database, run, {3: 0.6})
    found = verdicts(database)
    assert found["figure5-stage3"].verdict is found["figure5-early"].verdict is NOT_RUN


def test_forests_of_other_seeds_are_not_averaged(database: Database) -> None:
    for run in add(database, at(claim("figure5-stage3").cells[0]), [76.0] * 8):
        for source, third in (("trained", 0.6), ("initial", 0.4), ("shuffled", 0.4)):
            shares = {1: 0.3 + run / 100, 2: 0.3, 3: third + run / 50}
            analyse_stages(database, run, shares, source=source)
        analyse_stages(database, run, {3: 0.01}, seed=1)  # as an interrupted analysis leaves it
    judged = verdicts(database)["figure5-stage3"]
    assert judged.verdict is SUPPORTED
    assert "20 images, 1 forest of 1 trees" in main(judged).note


def test_verdicts_on_other_data_say_so(database: Database) -> None:
    as_printed(database, ["table5-depth", "table3-senet"], 10, request=DEMO)
    found = verdicts(database)
    judged = found["table5-depth"]
    assert judged.verdict is SUPPORTED
    assert not judged.papers_own
    assert judged.conditions.startswith("demo protocol, digits, fp32, 8 epochs")
    assert "not on the paper's data and schedule" in judged.reason
    assert found["table1-parameters"].papers_own
    # On the digits a network is the same in the rows of CIFAR-100 and CIFAR-10.
    # They count once.
    evidence = found["table3-senet"].evidence
    assert len(evidence) < len(claim("table3-senet").comparisons)
    first = next(e for e in evidence if e.compared == "ResNet164 CIFAR100: DIANet − SENet")
    assert first.note == "the same networks as ResNet164 CIFAR10: DIANet − SENet"


def test_the_papers_data_on_another_schedule_are_not_the_papers_own(database: Database) -> None:
    for wanted in (
        Wanted(Protocol.DEMO, data=known_data("cifar100")),
        Wanted(Protocol.PAPER, epochs=3),
        Wanted(Protocol.PAPER, data=known_data("cifar10")),
    ):
        found = {verdict.claim: verdict for verdict in evaluate_claims(database, wanted)}
        assert not found["table5-depth"].papers_own


def test_steps_and_test_images_come_from_what_runs_recorded(database: Database) -> None:
    pair = claim("table1-accuracy").comparisons[0]
    shift = [1.5, 1.2, 1.8, 1.4, 1.6, 1.5]
    for place, accuracies in (
        (pair.first, [75 + points for points in shift]),
        (pair.second, [75.0] * 6),
    ):
        for run in add(database, at(place), accuracies):
            recorded(database, run, 400)
    evidence = main(verdicts(database)["table1-accuracy"])
    assert (evidence.low, evidence.high) == pytest.approx((1.2 - 0.125, 1.8 + 0.125))
    assert (evidence.images_low or 1) < 0
    assert (evidence.detectable or 0) > 0.125


def test_by_the_last_epoch_another_verdict_is_said(database: Database) -> None:
    pair = claim("table1-accuracy").comparisons[0]
    runs = add(database, at(pair.first), [76.0, 76.1, 75.9, 76.0, 76.2, 75.8])
    add(database, at(pair.second), [75.0] * 6)
    with database.writing() as session:
        for run in runs:
            session.add(EpochRow(run_id=run, **epoch(2, 74.0)))
    best = verdicts(database)["table1-accuracy"]
    assert (best.by, best.verdict, best.otherwise) == (Epoch.BEST, SUPPORTED, REFUTED)
    found = evaluate_claims(database, Wanted(), Epoch.LAST)
    last = next(verdict for verdict in found if verdict.claim == "table1-accuracy")
    assert (last.by, last.verdict, last.otherwise) == (Epoch.LAST, REFUTED, SUPPORTED)
    assert last.conditions.endswith("accuracy of the last epoch")


def test_gains_are_compared_by_seed(database: Database) -> None:
    for pair in claim("table3-gain").comparisons:
        gains = (3.0, 1.0)
        for ours, baseline, gain in zip(pair.cells[:2], pair.baselines, gains, strict=True):
            for place, mean in ((ours, 70 + gain), (baseline, 70.0)):
                if not known(database, at(place)):
                    add(database, at(place), noisy(mean, 8, at(place), 0.1))
    judged = verdicts(database)["table3-gain"]
    assert judged.verdict is SUPPORTED
    assert all(e.effect == pytest.approx(2.0, abs=0.3) and e.n == 8 for e in judged.evidence)
    assert {len(e.runs) for e in judged.evidence} == {32}
    assert judged.evidence[0].compared.startswith(
        "gain of ResNet164 CIFAR100 − gain of PreResNet164"
    )


def known(database: Database, spec: Spec) -> bool:
    return bool(runs_of(database, [spec.spec_id])[spec.spec_id])


@pytest.mark.parametrize(("mean", "verdict"), [(71.0, SUPPORTED), (69.0, REFUTED)])
def test_an_accuracy_is_reached_or_not_on_the_papers_data(
    database: Database, mean: float, verdict: Verdict
) -> None:
    for place in claim("table8-accuracy").cells:
        add(database, at(place), noisy(mean, 8, at(place), 0.3))
        add(database, at(place, DEMO), noisy(mean, 8, at(place), 0.3))
    assert verdicts(database)["table8-accuracy"].verdict is verdict
    demo = {o.claim: o for o in evaluate_claims(database, Wanted(Protocol.DEMO))}["table8-accuracy"]
    assert demo.verdict is NOT_RUN
    assert "paper's data only" in demo.reason


@pytest.mark.parametrize(("gap", "verdict"), [(5.0, SUPPORTED), (15.0, REFUTED)])
def test_overfitting_is_training_minus_test_accuracy_of_the_last_epoch(
    database: Database, gap: float, verdict: Verdict
) -> None:
    for column in ("CIFAR-10", "CIFAR-100"):
        for row, tested in (("DIANet", 50 - gap), ("SENet", 40.0), ("ResNet164", 40.0)):
            spec = at(CellKey("table9", row, column))
            add(database, spec, noisy(tested, 8, spec, 0.1))  # trained to 50 %
    judged = verdicts(database)["table9-overfitting"]
    assert judged.verdict is verdict
    assert judged.evidence[0].effect == pytest.approx(10 - gap, abs=0.2)


@pytest.mark.parametrize(
    ("baseline", "verdict"),
    [(0, SUPPORTED), (1, UNDECIDED)],  # a lost baseline of the second hides gains of the second
)
def test_a_gain_over_a_baseline_that_diverges(
    database: Database, baseline: int, verdict: Verdict
) -> None:
    specs: dict[str, tuple[Spec, float, bool]] = {}
    for pair in claim("table3-gain").comparisons:
        for side, gain in ((0, 3.0), (1, 1.0)):
            ours, other = at(pair.cells[side]), at(pair.baselines[side])
            specs.setdefault(ours.spec_id, (ours, 70 + gain, False))
            specs.setdefault(other.spec_id, (other, 70.0, side == baseline))
    for spec, mean, diverges in specs.values():
        accuracies = noisy(mean, 8, spec, 0.1)
        add(database, spec, [*accuracies, DIVERGED if diverges else mean])
    assert verdicts(database)["table3-gain"].verdict is verdict


def with_images(evidence: Evidence, error: float) -> float:
    """The upper end of an interval over seeds and test images."""
    assert evidence.effect is not None
    assert evidence.high is not None
    return evidence.effect + math.hypot(evidence.high - evidence.effect, 1.959964 * error)


def test_a_gain_has_the_errors_of_both_differences_over_test_images(database: Database) -> None:
    pair = claim("table3-gain").comparisons[0]
    means = {pair.first: 73.0, pair.baselines[0]: 70.0, pair.second: 61.0, pair.baselines[1]: 60.0}
    for place, mean in means.items():
        spread = [0.1 * seed - 0.25 for seed in range(6)]
        for run in add(
            database, at(place), [mean + (mean == 73) * deviation for deviation in spread]
        ):
            recorded(database, run, 400)
    evidence = verdicts(database)["table3-gain"].evidence[0]
    assert evidence.effect == pytest.approx(2.0)
    error = images_error(73.0, 70.0, 400) + images_error(61.0, 60.0, 400)
    assert evidence.images_high == pytest.approx(with_images(evidence, error))


def test_an_accuracy_that_is_to_be_reached_has_the_error_of_its_test_set(
    database: Database,
) -> None:
    cell = claim("table8-accuracy").cells[0]
    for run in add(database, at(cell), [71.0, 71.5, 72.0, 72.5, 73.0, 72.0]):
        recorded(database, run, 400)
    evidence = verdicts(database)["table8-accuracy"].evidence[0]
    assert evidence.effect == pytest.approx(2.0)
    assert evidence.images_high == pytest.approx(
        with_images(evidence, images_error(72.0, 100.0, 400))
    )


def test_runs_that_do_not_say_their_test_set_take_that_of_the_others(database: Database) -> None:
    pair = claim("table1-accuracy").comparisons[0]
    numbers = add(database, at(pair.first), [75.01, 75.01, 75.01, 75.02], images=None)
    numbers += add(database, at(pair.second), [75.0] * 4, images=None)
    unknown = verdicts(database)["table1-accuracy"]
    assert unknown.verdict is UNDECIDED
    assert "the size of the test set is not recorded" in unknown.reason
    assert main(unknown).images_low is None
    for run in numbers[1:]:
        recorded(database, run, 10_000)
    judged = verdicts(database)["table1-accuracy"]
    assert judged.verdict is UNDECIDED
    assert main(judged).images_low is not None
    recorded(database, numbers[0], 9_000)
    other = verdicts(database)["table1-accuracy"]
    assert other.verdict is UNDECIDED
    assert "test sets of 9000 and 10000 images" in other.reason


def recorded(database: Database, run: int, images: int) -> None:
    attempt = {**PROVENANCE, "test_images": images}
    with database.writing() as session:
        session.add(ProvenanceRow(run_id=run, started_at=MOMENT, **attempt))


def test_the_same_database_gives_the_same_verdicts_twice(database: Database) -> None:
    as_printed(database, ON_TABLES, 7, spread=0.4)
    assert evaluate_claims(database, Wanted()) == evaluate_claims(database, Wanted())
