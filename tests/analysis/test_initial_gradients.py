"""Gradients before training: the first record of a training, over seeds and batches."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from dia_repro.analysis.initial_gradients import initial_gradients
from dia_repro.artifacts import ARTIFACTS
from dia_repro.claims.readings import initial_ratios
from dia_repro.data.sources.digits import load_digits
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.training import gradients
from dia_repro.training.trainer import Trainer
from tests.helpers import cli, one_line

CPU = torch.device("cpu")
SPEC = ARTIFACTS["figure6"].entries[0].spec(Request(Protocol.DEMO))


def test_one_batch_is_what_a_training_records_first() -> None:
    dataset = load_digits()
    trainer = Trainer(SPEC, 3, dataset, CPU)
    trainer.begin_epoch(0)
    trainer.train(*next(trainer.batches(0)))
    (expected,) = trainer.gradients.values()
    found = initial_gradients(SPEC, 3, dataset, 1, CPU)
    for record, moments in zip(expected, found, strict=True):
        assert moments == {"mean": record["mean"], "variance": record["variance"]}


def test_batches_are_averaged_with_the_same_weights() -> None:
    dataset = load_digits()
    first, both = (initial_gradients(SPEC, 0, dataset, batches, CPU) for batches in (1, 2))
    trainer = Trainer(SPEC, 0, dataset, CPU)
    trainer.begin_epoch(0)
    trainer.position = 1  # leaves out the first batch
    images, labels = next(trainer.batches(0))
    trainer.position = 0
    trainer.train(images, labels)
    (second,) = trainer.gradients.values()
    for stage in range(3):
        expected = fmean([first[stage]["mean"], second[stage]["mean"]])
        assert both[stage]["mean"] == pytest.approx(expected, rel=1e-12)


def moments(*means: float) -> tuple[dict[str, float], ...]:
    return tuple({"mean": mean, "variance": mean**2} for mean in means)


def test_ratios_are_geometric_means_with_the_test_of_claims() -> None:
    factors = (2.0, 4.0, 8.0, 2.0, 4.0, 8.0)
    found = {
        "original": {seed: moments(seed + 1.0) for seed in range(6)},
        "other": {seed: moments(factor * (seed + 1)) for seed, factor in enumerate(factors)},
    }
    original, other = initial_ratios(found, "original")
    assert original["mean_ratio"] is None
    assert (other["stage"], other["network"], other["seeds"]) == (1, "other", 6)
    assert other["mean"] == pytest.approx(fmean((seed + 1) * f for seed, f in enumerate(factors)))
    assert other["mean_ratio"] == pytest.approx(4.0)
    assert other["variance_ratio"] == pytest.approx(16.0)
    assert other["mean_p"] == pytest.approx(2 / 64)
    assert 1 < other["mean_low"] < 4 < other["mean_high"]


def test_a_gradient_that_vanishes_has_no_ratio() -> None:
    for lost in (0.0, math.nan, math.inf):
        found = {"original": {0: moments(1.0), 1: moments(1.0)}}
        found["other"] = {0: moments(1.0), 1: moments(lost)}
        assert [*initial_ratios(found, "original")][1]["mean_ratio"] is None
    assert {record["mean_ratio"] for record in initial_ratios(found, None)} == {None}


def test_the_command(tmp_path: Path) -> None:
    names = ("--only", "SENet ResNet56", "--only", "original ResNet56")
    asked = ("analyze", "initial-gradients", "--protocol", "demo", "--batches", "1", *names)
    done = cli(*asked, "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert len(records) == 6
    assert {record["network"].split()[0] for record in records} == {"original", "SENet"}
    assert all(record["mean"] > 0 and record["seeds"] == 1 for record in records)
    ratios = [record["mean_ratio"] for record in records]
    assert [ratio is None for ratio in ratios] == [True, False] * 3
    assert {record["mean_p"] for record in records} == {None}, "one seed decides nothing"
    assert list(tmp_path.iterdir()) == []
    refused = cli("analyze", "initial-gradients", "table5", cwd=tmp_path)
    assert refused.returncode == 2
    assert one_line(refused.stderr)


def test_an_element_that_is_not_finite_leaves_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    summarise = gradients.summarise

    def with_one(gradient: torch.Tensor) -> dict[str, Any]:
        gradient = gradient.flatten().clone()
        gradient[0] = math.inf
        return summarise(gradient)

    monkeypatch.setattr(gradients, "summarise", with_one)
    found = initial_gradients(SPEC, 0, load_digits(), 1, CPU)
    assert {moments["mean"] for moments in found} == {math.inf}
