"""Weights of trained networks, for code outside this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dia_repro
from dia_repro.analysis.runs import finished_spec
from dia_repro.analysis.states import checkpoint_of
from dia_repro.experiments.spec import Spec
from dia_repro.models import from_spec
from dia_repro.results.queries import RunDetail
from dia_repro.training.metrics import EpochMetrics, chosen_epoch
from dia_repro.training.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from dia_repro.models.network import StagedNetwork


def stored_weights(run: RunDetail, folder: Store) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return weights and statistics of a run's newest checkpoint by name, and what they are of.

    Where images were held out for validation, they are those of the epoch that did best on them.
    Otherwise they are the last ones; of a run that is not done, after some steps of an epoch.

    Args:
        folder: checkpoints of the run.

    Raises:
        NoWeightsError: the checkpoint is gone, damaged, or another run's.
    """
    content = checkpoint_of(run, folder)
    weights, history = content["model"], [EpochMetrics(**epoch) for epoch in content["history"]]
    epochs, steps = len(history), content["position"]
    if chosen := content.get("chosen"):
        weights, epochs, steps = chosen, chosen_epoch(history) or 0, 0
    about = {
        "format": "pt",
        "dia_repro": dia_repro.__version__,
        "spec": run.spec_json,
        "run": run.summary.uid,
        "seed": str(run.summary.seed),
        "epochs": str(epochs),
        "steps": str(steps),
    }
    return {name: tensor.contiguous() for name, tensor in weights.items()}, about


def trained_network(run: RunDetail, folder: Store) -> StagedNetwork:
    """Return a run's network with its weights, on the CPU and in evaluation mode.

    It takes images (B, 3, H, W), normalised as in training, and returns logits (B, classes).

    Raises:
        NotAnalysableError: the run is not finished.
        NoWeightsError: see `stored_weights`.
        InvalidSpecError, KindNotRegisteredError: the network cannot be built by this version.
    """
    finished_spec(run)
    weights, _ = stored_weights(run, folder)
    spec = Spec.from_json(run.spec_json)
    network = from_spec(spec.model, spec.data.classes)
    network.load_state_dict(weights)
    return network.eval()
