"""What is recorded of the gradients at the stages' outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dia_repro.data.sources.digits import load_digits
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from dia_repro.experiments.names import BINS_PER_DECADE, HIGHEST, LOWEST, QUANTILES
from dia_repro.experiments.spec import DIALSTMAttention, Spec
from dia_repro.models import from_spec
from dia_repro.results.queries import all_runs, analysis_parts
from dia_repro.results.schema import GRADIENTS_SETTINGS
from dia_repro.training.gradients import recorded, summarise
from dia_repro.training.trainer import Stopped, Trainer
from tests.execution.tiny_runs import make_jobs
from tests.helpers import tiny_spec


def without_skips(epochs: int = 2) -> Spec:
    spec = tiny_spec(attention=DIALSTMAttention(), epochs=epochs)
    return spec.model_copy(update={"model": spec.model.model_copy(update={"skip": False})})


def trainer(spec: Spec) -> Trainer:
    return Trainer(spec, 0, load_digits(), torch.device("cpu"))


def test_a_tensor_is_summed_up_exactly() -> None:
    values = torch.cat([torch.linspace(-1, 1, 200), torch.tensor([0, 1e-20, 1e9])])
    record = summarise(values.reshape(7, 29))
    expected = values.abs().double()
    assert (record["count"], record["zeros"], record["not_finite"]) == (203, 1, 0)
    assert record["mean"] == pytest.approx(expected.mean().item())
    assert record["variance"] == pytest.approx(expected.var(correction=0).item())
    places = [round(q * 202) for q in QUANTILES]
    assert record["quantiles"] == pytest.approx(expected.sort().values[places].tolist())
    assert len(record["histogram"]) == (HIGHEST - LOWEST) * BINS_PER_DECADE + 2
    assert (record["histogram"][0], record["histogram"][-1]) == (1, 1)
    edges = np.linspace(LOWEST, HIGHEST, (HIGHEST - LOWEST) * BINS_PER_DECADE + 1)
    theirs, _ = np.histogram(np.log10(expected[expected > 0].numpy()), edges)
    assert record["histogram"][1:-1] == theirs.tolist()


def test_values_on_an_edge_belong_to_the_upper_bin() -> None:
    record = summarise(torch.tensor([10.0**LOWEST, 1.0, 10.0**HIGHEST], dtype=torch.float64))
    bins = record["histogram"]
    below, first, last, above = bins[0], bins[1], bins[-2], bins[-1]
    # In float32, as gradients are, 10^-12 is a little less than it.
    assert (below + first, last, above) == (1, 1, 0)
    assert bins[1 - LOWEST * BINS_PER_DECADE] == 1
    assert sum(bins) == 3


def test_what_is_not_finite_is_counted_apart() -> None:
    record = summarise(torch.tensor([1.0, float("nan"), float("inf"), -3.0, 0.0]))
    assert (record["count"], record["zeros"], record["not_finite"]) == (5, 1, 2)
    assert record["mean"] == pytest.approx(4 / 3)
    nothing = summarise(torch.tensor([float("nan")]))
    assert nothing["quantiles"] == []
    assert np.isnan(nothing["mean"])
    assert not any(nothing["histogram"])


@pytest.mark.parametrize("fast", [False, True])
def test_gradients_are_those_of_the_stages_outputs(fast: bool) -> None:
    torch.manual_seed(0)
    network = from_spec(without_skips().model, 10)
    network.use_fast(fast)
    images = torch.randn(8, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(8)
    with recorded(list(network.stages)) as records:
        functional.cross_entropy(network(images), labels).backward()

    network.use_fast(False)
    x, outputs = network.stem(images), []
    for stage in network.stages:
        x = stage(x)
        x.retain_grad()
        outputs.append(x)
    functional.cross_entropy(network.classifier(x.mean((2, 3))), labels).backward()
    for output, record in zip(outputs, records, strict=True):
        assert output.grad is not None
        expected = summarise(output.grad)
        assert record["count"] == expected["count"] == output.numel()
        assert record["mean"] == pytest.approx(expected["mean"], rel=1e-3)
        assert record["variance"] == pytest.approx(expected["variance"], rel=1e-3)


def test_recording_each_epoch_changes_no_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched, spec = trainer(without_skips()), without_skips()
    with recorded(list(watched.model.stages)) as first:
        images, labels = next(iter(watched.batches(0)))
        watched.model.train()
        functional.cross_entropy(watched.model(images), labels).backward()
    watched = trainer(spec)
    while not watched.finished:
        watched.run_epoch()
    assert list(watched.gradients) == [0, 1]
    assert watched.gradients[0] == first
    assert watched.gradients[1] != first
    monkeypatch.setattr("dia_repro.training.gradients.summarise", lambda _gradient: {})
    plain = trainer(spec)
    while not plain.finished:
        plain.run_epoch()
    theirs = plain.model.state_dict()
    assert all(torch.equal(t, theirs[name]) for name, t in watched.model.state_dict().items())


def test_networks_with_skips_record_nothing() -> None:
    trained = trainer(tiny_spec(epochs=1))
    trained.run_epoch()
    assert trained.gradients == {}


@pytest.mark.slow
def test_a_resumed_training_has_all_records() -> None:
    whole, stopped = trainer(without_skips()), trainer(without_skips())
    with pytest.raises(Stopped):
        stopped.run_epoch(lambda steps: steps == 3)
    resumed = trainer(without_skips())
    resumed.load_state(stopped.state())
    for trained in (whole, resumed):
        while not trained.finished:
            trained.run_epoch()
    assert resumed.gradients == whole.gradients


def test_records_go_to_the_database(tmp_path: Path) -> None:
    database, orders = make_jobs(tmp_path, [without_skips()], 1)
    LocalSupervisor(database, Slots.on_cpu(1), lambda _order, _message: None).run(orders)
    (run,) = all_runs(database)
    parts = analysis_parts(database, run.id, GRADIENTS_SETTINGS)
    assert sorted(parts) == [0, 1]
