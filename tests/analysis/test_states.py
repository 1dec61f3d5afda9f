"""Hidden states are those of the run's own weights."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from dia_repro.analysis.runs import NotAnalysableError
from dia_repro.analysis.states import NoWeightsError, collect
from dia_repro.artifacts.paper import FIGURE5
from dia_repro.data import load
from dia_repro.execution.maintenance import folder_of
from dia_repro.experiments.names import DataLocation, Precision, Protocol, SelectOn
from dia_repro.experiments.protocols import Request
from dia_repro.results.database import open_database
from dia_repro.results.parts import Source
from dia_repro.results.queries import run_detail
from dia_repro.training import checkpoint
from dia_repro.training.metrics import EpochMetrics
from dia_repro.training.store import store_at
from dia_repro.training.trainer import Trainer
from tests.artifacts.courses import add


@pytest.mark.parametrize("other", [{"seed": 1}, {"spec_id": "1-0123456789abcdef"}])
def test_weights_of_another_run_are_refused(other: dict[str, object], tmp_path: Path) -> None:
    """As when folders of checkpoints were put together by hand."""
    (spec,) = FIGURE5.specs(Request(Protocol.DEMO, epochs=1)).values()
    database = open_database(str(tmp_path / "runs.db"), create=True)
    run = run_detail(database, add(database, spec, 0, [50.0]))
    folder = folder_of(store_at(str(tmp_path / "weights")), run.summary)
    identity = {"spec_id": spec.spec_id, "seed": 0, **other}
    checkpoint.save(folder, {checkpoint.RUN: identity, "history": [{}]}, 1, 0)
    with pytest.raises(NoWeightsError, match=f"belongs to another run than {run.summary.id}"):
        collect(run, DataLocation(tmp_path), folder, 24, 0, Source.TRAINED)


def test_states_of_a_run_in_tf32_are_read_on_a_cpu(tmp_path: Path) -> None:
    """The paper's protocol trains in TF32 on a GPU."""
    (spec,) = FIGURE5.specs(Request(Protocol.DEMO, epochs=1)).values()
    database = open_database(str(tmp_path / "runs.db"), create=True)
    found = []
    for precision in (Precision.FP32, Precision.TF32):
        there = spec.model_copy(update={"precision": precision})
        run = run_detail(database, add(database, there, 0, [50.0]))
        folder = folder_of(store_at(str(tmp_path / "weights")), run.summary)
        found.append(collect(run, DataLocation(tmp_path), folder, 4, 0, Source.INITIAL))
    plain, fast = found
    for stage, states in plain.items():
        np.testing.assert_array_equal(states, fast[stage])


def test_states_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """A run may be finished whose next step would diverge; forests need an order of values."""
    (spec,) = FIGURE5.specs(Request(Protocol.DEMO, epochs=1)).values()
    database = open_database(str(tmp_path / "runs.db"), create=True)
    run = run_detail(database, add(database, spec, 0, [50.0]))
    folder = folder_of(store_at(str(tmp_path / "weights")), run.summary)
    trained = Trainer(spec, 0, load(spec.data, DataLocation(tmp_path)), torch.device("cpu"))
    with torch.no_grad():
        for weight in trained.model.stages[1].unit.parameters():  # type: ignore[union-attr]
            weight.fill_(math.nan)
    epoch = asdict(EpochMetrics(1, 0.1, 1.0, 50.0, 1.0, 50.0, 1.0))
    identity = {"spec_id": spec.spec_id, "seed": 0}
    state = {**trained.state(), "history": [epoch], checkpoint.RUN: identity}
    checkpoint.save(folder, state, 1, 0)
    with pytest.raises(NotAnalysableError, match="stage 2 are not all finite"):
        collect(run, DataLocation(tmp_path), folder, 24, 0, Source.TRAINED)


def test_states_are_those_of_the_chosen_epoch(tmp_path: Path) -> None:
    """Where images are held out for validation: as all results of the run are."""
    request = Request(Protocol.DEMO, epochs=1, select=SelectOn.VALIDATION)
    (spec,) = FIGURE5.specs(request).values()
    database = open_database(str(tmp_path / "runs.db"), create=True)
    run = run_detail(database, add(database, spec, 0, [50.0]))
    folder = folder_of(store_at(str(tmp_path / "weights")), run.summary)
    trained = Trainer(spec, 0, load(spec.data, DataLocation(tmp_path)), torch.device("cpu"))
    chosen = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    with torch.no_grad():
        for weight in trained.model.parameters():
            weight.add_(0.1)
    epoch = asdict(EpochMetrics(1, 0.1, 1.0, 50.0, 1.0, 50.0, 1.0, 1.0, 50.0))
    identity = {"spec_id": spec.spec_id, "seed": 0}
    state = {**trained.state(), "history": [epoch], "chosen": chosen, checkpoint.RUN: identity}
    checkpoint.save(folder, state, 1, 0)
    asked = (run, DataLocation(tmp_path), folder, 4, 0)
    found, expected = (collect(*asked, source) for source in (Source.TRAINED, Source.INITIAL))
    for stage, states in expected.items():
        np.testing.assert_array_equal(found[stage], states)
