"""Weights for code outside the package are those that a run was tested with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import dia_repro
from dia_repro.analysis.states import NoWeightsError
from dia_repro.data.sources.digits import load_digits
from dia_repro.execution.maintenance import checkpoint_store, folder_of
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import open_database
from dia_repro.results.queries import run_detail
from dia_repro.training import checkpoint
from dia_repro.training.trainer import Trainer
from tests.artifacts.courses import add
from tests.helpers import cli, one_line
from tests.training.test_validation import validated_spec

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A database with one run whose best epoch is not its last, and its test accuracy."""
    folder = tmp_path_factory.mktemp("trained")
    spec = validated_spec(epochs=3, lr=0.05, milestones=(2,))
    worse_at_the_end = spec.recipe.model_copy(update={"gamma": 30.0})
    spec = spec.model_copy(update={"recipe": worse_at_the_end})
    trainer = Trainer(spec, 0, load_digits().with_validation(144), CPU)
    while not trainer.finished:
        trainer.run_epoch()
    database = open_database(str(folder / "runs.db"), create=True)
    run = run_detail(database, add(database, spec, 0, [50.0, 60.0, 40.0]))
    checkpoint.save(folder_of(checkpoint_store(database), run.summary), trainer.state(), 3, 0)
    accuracy = trainer.history[-1].test_top1
    assert accuracy is not None
    assert accuracy > 1.2 * (trainer.history[-1].validation_top1 or 0.0)
    return folder, accuracy


def accuracy_of(network: torch.nn.Module) -> float:
    digits = load_digits()
    pixels = digits.test.pixels / 255
    with torch.no_grad():
        logits = network((pixels - digits.mean[0]) / digits.std[0])
    return 100 * float((logits.argmax(1) == digits.test.labels).float().mean())


def test_a_network_of_the_api_has_the_accuracy_of_its_run(trained: tuple[Path, float]) -> None:
    folder, accuracy = trained
    with dia_repro.open_results(folder / "runs.db") as results:
        assert accuracy_of(results.network(1)) == pytest.approx(accuracy, abs=0.3)
        with pytest.raises(NoWeightsError, match="is gone"):
            results.network(1, checkpoints=folder / "elsewhere")


def test_a_file_of_weights(trained: tuple[Path, float], tmp_path: Path) -> None:
    folder, accuracy = trained
    file = tmp_path / "one.safetensors"
    done = cli("runs", "weights", "1", str(file), cwd=folder)
    assert done.returncode == 0, done.stderr
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    spec = Spec.from_json(about["spec"])
    assert spec.data.validation == 10
    assert (about["seed"], about["epochs"]) == ("0", "2")  # the epoch that did best
    with dia_repro.open_results(folder / "runs.db") as results:
        network = results.network(1)
    for weight in network.parameters():
        torch.nn.init.zeros_(weight)
    network.load_state_dict(load_file(file))
    assert accuracy_of(network) == pytest.approx(accuracy, abs=0.3)
    before = file.read_bytes()
    refused = cli("runs", "weights", "1", str(file), cwd=folder)
    assert refused.returncode == 2
    assert one_line(refused.stderr)
    assert file.read_bytes() == before
    assert cli("runs", "weights", "1", str(file), "--overwrite", cwd=folder).returncode == 0
    assert json.loads(about["spec"])["model"]["backbone"]["depth"] == 11
    missing = cli("runs", "weights", "2", str(tmp_path / "two.safetensors"), cwd=folder)
    assert missing.returncode == 2
    assert not (tmp_path / "two.safetensors").exists()
