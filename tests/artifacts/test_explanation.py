"""Where cells come from: every one, back to the epochs of its runs."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from dia_repro.artifacts import ARTIFACTS, Cell, Entry, TableArtifact, choose
from dia_repro.artifacts.explanation import Experiment, Findings, explain, gather
from dia_repro.artifacts.lookup import UnknownCellError, find_entry
from dia_repro.artifacts.selection import Wanted
from dia_repro.artifacts.sizes import sizes
from dia_repro.execution.options import Selection
from dia_repro.execution.requests import chosen_entries, narrowed
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import GPU_PRECISION, Request
from dia_repro.experiments.seeds import Seeds
from dia_repro.rendering.explanations import EXPLANATION_FIELDS, explanation_records
from dia_repro.reports.chosen import training_command
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import all_runs, run_detail
from tests.artifacts.known_runs import accuracies, fill, runs_in
from tests.artifacts.test_table5 import DEMO, PAPER

ALL_ENTRIES = [
    (artifact, entry)
    for artifact in ARTIFACTS.values()
    for entry in artifact.entries
    if entry.shown
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("known") / "runs.db"
    specs = [spec for table in ARTIFACTS.values() for spec in table.specs(DEMO).values()]
    fill(path, specs).close()
    return path


@pytest.fixture
def database(path: Path) -> Database:
    return open_database(str(path), create=False)


def finished(path: Path, experiment: Experiment) -> dict[int, int]:
    """Runs that finished, by seed."""
    runs = runs_in(path, experiment.spec.spec_id)
    return {seed: run for run, (seed, state, _) in runs.items() if state == "finished"}


def own(found: Findings) -> Experiment:
    """The explained network's experiment."""
    return next(iter(found.experiments.values()))


def compared(found: Findings) -> Experiment:
    """The experiment that changes are counted from."""
    _, experiment = found.experiments.values()
    return experiment


def counted(path: Path, experiment: Experiment) -> list[int]:
    """#P of the runs with a result."""
    runs = runs_in(path, experiment.spec.spec_id)
    return [p for _, state, p in runs.values() if state in ("finished", "diverged")]


def recomputed(path: Path, found: Findings, cell: Cell) -> list[float]:
    """The values behind a cell, from the rows of the runs that are named for it."""
    metric = cell.metric
    if metric.startswith("params"):
        ours = counted(path, own(found))
        if metric == "params":
            return [ours[0] / 1e6] if ours else []
        theirs = counted(path, compared(found))
        sign = 1 if metric == "params_delta" else -1
        return [sign * (ours[0] - theirs[0]) / 1e6] if ours and theirs else []
    epoch_of = {
        source.run.id: source.epoch_for(metric)
        for experiment in found.experiments.values()
        for source in experiment.runs
    }

    def at_its_epoch(run: int) -> float:
        epoch = epoch_of[run]
        assert epoch is not None
        return accuracies(path, run)[epoch]

    ours_by_seed = finished(path, own(found))
    if metric == "top1_drop":
        before = finished(path, compared(found))
        seeds = sorted(ours_by_seed.keys() & before.keys())
        used = {ours_by_seed[seed] for seed in seeds} | {before[seed] for seed in seeds}
        assert cell.used == used
        return [at_its_epoch(before[s]) - at_its_epoch(ours_by_seed[s]) for s in seeds]
    assert cell.used == set(ours_by_seed.values())
    return [at_its_epoch(run) for run in ours_by_seed.values()]


@pytest.mark.parametrize("name", list(ARTIFACTS))
def test_every_cell_leads_back_to_the_epochs_of_its_runs(
    name: str, path: Path, database: Database
) -> None:
    artifact = ARTIFACTS[name]
    table = artifact.compute(database, DEMO)
    walked = 0
    for entry in (entry for entry in artifact.entries if entry.shown):
        found = explain(artifact, database, DEMO, entry)
        for cell in found.value.cells:
            values = recomputed(path, found, cell)
            # As text: nan is not equal to itself.
            assert repr(cell) == repr(table.find(entry.row, entry.column, cell.metric))
            assert cell.n == len(values)
            if values:
                assert cell.ours_mean == pytest.approx(statistics.fmean(values), abs=1e-12)
            else:
                assert cell.ours_mean is None or math.isnan(cell.ours_mean)
            spread = len(values) > 1 and cell.metric.startswith("top1")
            assert (cell.ours_std is not None) == spread
            if spread:
                assert cell.ours_std == pytest.approx(statistics.stdev(values))
            walked += 1
    assert walked == len(table.cells)


def test_the_epoch_is_the_first_best_or_the_last(path: Path, database: Database) -> None:
    for artifact, entry in ALL_ENTRIES[:20]:
        for source in own(explain(artifact, database, DEMO, entry)).runs:
            figures = accuracies(path, source.run.id)
            best = min(e for e, top1 in figures.items() if top1 == max(figures.values()))
            assert source.epoch_for("top1") == source.epoch_for("top1_drop") == best
            assert source.epoch_for("top1_last") == max(figures)
            assert source.epoch_for("params") is None


def test_a_change_lists_the_runs_it_is_counted_from(path: Path, database: Database) -> None:
    artifact = ARTIFACTS["table7"]
    entry = find_entry(artifact, "stage3", "DIANet164")
    found = explain(artifact, database, DEMO, entry)
    assert (compared(found).entry.row, compared(found).entry.shown) == ("none", False)
    assert {source.run.id for source in compared(found).runs} == set(
        runs_in(path, artifact.specs(DEMO)["none", "DIANet164"].spec_id)
    )
    assert len(explain(artifact, database, DEMO, entry, metric="top1").experiments) == 1
    (fall,) = explain(artifact, database, DEMO, entry, metric="top1_drop").value.cells
    assert "DIANet164 none" in fall.how


def test_records_have_the_stated_fields_and_name_every_run(database: Database) -> None:
    artifact, entry = ARTIFACTS["table5"], ARTIFACTS["table5"].entries[1]
    found = explain(artifact, database, DEMO, entry)
    commands = {experiment.spec.spec_id: "c" for experiment in found.experiments.values()}
    records = explanation_records(found, commands)
    assert {tuple(sorted(record)) for record in records} == {tuple(sorted(EXPLANATION_FIELDS))}
    ours = {source.run.id for source in own(found).runs}
    theirs = {source.run.id for source in compared(found).runs}
    for cell in found.value.cells:
        named = {record["run"] for record in records if record["metric"] == cell.metric}
        assert named == (ours | theirs if cell.metric == "params_delta" else ours)
    used = {record["run"] for record in records if record["metric"] == "top1" and record["used"]}
    assert used == {source.run.id for source in own(found).runs if source.run.state == "finished"}


def test_without_runs_a_figure_has_a_record_all_the_same(tmp_path: Path) -> None:
    empty = open_database(str(tmp_path / "runs.db"), create=False)
    artifact, entry = ARTIFACTS["table1"], ARTIFACTS["table1"].entries[0]
    found = explain(artifact, empty, PAPER, entry)
    commands = {own(found).spec.spec_id: "dia-repro run table1"}
    records = explanation_records(found, commands)
    assert [record["metric"] for record in records] == ["params", "top1", "top1_last"]
    assert {record["run"] for record in records} == {None}
    assert {record["command"] for record in records} == {"dia-repro run table1"}


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("artifact", "entry"), ALL_ENTRIES, ids=[f"{a.name}-{e.label}" for a, e in ALL_ENTRIES]
)
def test_every_place_is_found_by_its_names(
    artifact: TableArtifact, entry: Entry, swap: bool
) -> None:
    names = (entry.row.upper(), entry.column.lower())
    assert find_entry(artifact, *(reversed(names) if swap else names)) is entry
    heading = artifact.headings.get(entry.column, entry.column)
    assert find_entry(artifact, entry.row, heading) is entry


@pytest.mark.parametrize(
    ("name", "first", "second", "place"),
    [
        ("table5", "DIANet", "164", ("ResNet164", "DIANet")),
        ("table5", "407", "se", ("ResNet407", "SENet")),
        ("table4", "r=1", "dianet164", ("r=1", "DIANet164")),
        ("table4", "16", "dianet164", ("r=16", "DIANet164")),
        ("table9", "dia", "cifar10", ("DIANet", "CIFAR-10")),
        ("table3", "wrn52-4 cifar100", "original", ("WRN52-4 CIFAR100", "original")),
        ("table6", "relu", "dianet164", ("ReLU, 1 cell", "DIANet164")),
        ("figure5", "dianet", "dianet164", ("DIANet164", "DIANet")),
    ],
)
def test_a_part_of_a_name_will_do(
    name: str, first: str, second: str, place: tuple[str, str]
) -> None:
    entry = find_entry(ARTIFACTS[name], first, second)
    assert (entry.row, entry.column) == place


@pytest.mark.parametrize(
    ("name", "first", "second", "words"),
    [
        ("table5", "ResNet84", "DIANet", "rows are ResNet83, ResNet164"),
        ("table5", "ResNet83", "ResNet164", "no cell 'ResNet83' 'ResNet164'"),
        ("table5", "ResNet", "DIANet", "any of 'ResNet83' 'DIANet', 'ResNet164' 'DIANet'"),
        ("table3", "164 cifar100", "DIANet", "'PreResNet164 CIFAR100' 'DIANet'"),
        ("table5", "", "DIANet", "no ''"),
        ("table5", "--", "DIANet", "columns are SENet, DIANet"),
        ("table4", "original", "ResNet164", "rows are r=1"),
    ],
)
def test_unknown_and_ambiguous_names_list_the_candidates(
    name: str, first: str, second: str, words: str
) -> None:
    with pytest.raises(UnknownCellError, match=r"could be|has no") as caught:
        find_entry(ARTIFACTS[name], first, second)
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "words"), [("par", "params, params_delta"), ("x", "top1_last")])
def test_an_unclear_metric_lists_the_candidates(name: str, words: str, database: Database) -> None:
    artifact = ARTIFACTS["table5"]
    with pytest.raises(UnknownCellError, match=words):
        explain(artifact, database, DEMO, artifact.entries[1], metric=name)


REQUESTS = [
    PAPER,
    DEMO,
    Request(Protocol.PAPER, Precision.TF32),
    Request(Protocol.PAPER, Precision.BF16, precision_asked=True),
    Request(Protocol.DEMO, epochs=3),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_command_trains_this_very_spec_and_no_other(request_: Request, tmp_path: Path) -> None:
    """On a machine with a GPU and on one without."""
    empty = open_database(str(tmp_path / "runs.db"), create=False)
    for artifact, entry in ALL_ENTRIES:
        found = explain(artifact, empty, request_, entry, seeds=Seeds.of(2))
        for experiment in found.experiments.values():
            epochs = Selection(epochs=request_.epochs)
            text = training_command(found.value, experiment, epochs)
            command = shlex.split(text)
            assert command[:3] == ["dia-repro", "run", artifact.name]
            given = dict(zip(command[3::2], command[4::2], strict=True))
            assert given.pop("--seeds") == "2"
            protocol = Protocol(given.get("--protocol", "paper"))
            ((_, chosen),) = chosen_entries([artifact], [given["--only"]])
            for default in (GPU_PRECISION[protocol], Precision.FP32):
                as_parsed = Request(
                    protocol,
                    Precision(given.get("--precision", default)),
                    precision_asked="--precision" in given,
                    epochs=int(given["--epochs"]) if "--epochs" in given else None,
                )
                assert chosen.spec(as_parsed) == experiment.spec


@pytest.mark.parametrize("name", ["table5", "table9", "controls-norm"])
def test_the_command_trains_no_other_network_where_attention_is_added(
    name: str, tmp_path: Path
) -> None:
    """Among networks whose names are parts of others'."""
    kinds = ("se:reduction=4", "se:reduction=4,bias=false", "dia-lstm:reduction=8", "constant")
    (artifact,) = choose([name], kinds)
    empty = open_database(str(tmp_path / "runs.db"), create=False)
    value = artifact.compute(empty, DEMO)
    for experiment in gather(empty, value).experiments.values():
        command = shlex.split(training_command(value, experiment, Selection(attention=kinds)))
        words = command[command.index("--only") + 1]
        assert [entry for _, entry in chosen_entries([artifact], [words])] == [experiment.entry]
        (shown,) = narrowed([artifact], [words])
        assert [entry.label for entry in shown.entries if entry.shown] == [experiment.entry.label]


def test_a_precision_is_said_only_where_machines_differ(database: Database) -> None:
    def said(name: str, request: Request) -> bool:
        artifact = ARTIFACTS[name]
        return own(explain(artifact, database, request, artifact.entries[0])).precision_said

    assert not said("table5", DEMO)
    assert said("table5", PAPER)
    assert not said("table8", replace(PAPER, precision=Precision.TF32))
    assert said("table8", Request(Protocol.DEMO, Precision.BF16, precision_asked=True))


def test_what_belongs_together_is_read_in_one_transaction(database: Database) -> None:
    """Else epochs that another process adds meanwhile are in one value, and not in the next."""
    begun: list[object] = []
    event.listen(database.engine, "begin", begun.append)
    artifact = ARTIFACTS["table5"]
    number = all_runs(database)[0].id
    reads: list[Callable[[], object]] = [
        lambda: run_detail(database, number),
        lambda: artifact.compute(database, DEMO),
        lambda: explain(artifact, database, DEMO, artifact.entries[0]),
        lambda: gather(database, artifact.compute(database, DEMO)),
        lambda: sizes(database, Wanted()),
    ]
    counts = []
    for read in reads:
        begun.clear()
        read()
        counts.append(len(begun))
    assert counts == [1, 1, 1, 2, 1]
