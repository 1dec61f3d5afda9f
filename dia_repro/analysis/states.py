"""Hidden states h_1 … h_T of a network's DIA units on test images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dia_repro.analysis.runs import NotAnalysableError, finished_spec
from dia_repro.data import load
from dia_repro.data.dataset import AnyDataset, Images, StreamedDataset
from dia_repro.errors import AbsentError
from dia_repro.experiments.names import DataLocation, Precision
from dia_repro.experiments.spec import Spec
from dia_repro.models.attention.dia_lstm import DIALSTM
from dia_repro.models.stage import Stage
from dia_repro.results.parts import Source
from dia_repro.results.queries import RunDetail
from dia_repro.training import checkpoint
from dia_repro.training.probing import check_reachable
from dia_repro.training.store import Store
from dia_repro.training.trainer import TEST_BATCH, Trainer


class NoWeightsError(AbsentError):
    """The run's last checkpoint is gone or damaged."""


States = NDArray[np.float32]


def check_run(run: RunDetail) -> Spec:
    """Return the spec of a run whose network can be analysed.

    Raises:
        NotAnalysableError: the run is not finished, or its network has no DIA unit.
        InvalidSpecError: the unit has options that this version lacks.
    """
    spec = finished_spec(run)
    if spec.model.attention.kind != "dia-lstm":
        raise NotAnalysableError(
            f"run {run.summary.id} has no DIA unit: its attention is {spec.model.attention.kind}"
        )
    return Spec.from_json(run.spec_json)  # unlike `finished_spec`, a network that can be built


def collect(
    run: RunDetail, data: DataLocation, folder: Store, samples: int, seed: int, source: Source
) -> dict[int, States]:
    """Return hidden states on random test images, in evaluation mode.

    Where images were held out for validation, the network is that of the epoch that did best on
    them, as everywhere in the results.

    Args:
        folder: checkpoints of the run.
        samples: number of images; if there are fewer, all are used.
        seed: seed of the choice of images and of the shuffling.

    Returns:
        (B, T, C) by stage, for stages with a DIA unit.

    Raises:
        NotAnalysableError: see `check_run`; or a hidden state is not finite.
        NoWeightsError: the checkpoint is gone or damaged.
        NoStoreError: the folder cannot be reached.
    """
    spec = check_run(run)
    # Weights before data: they are missing more often, and data may be large.
    trained = None if source is Source.INITIAL else _last_state(run, folder, spec)
    dataset = _choose(load(spec.data, data), samples, seed)
    # In fp32: states are read on a CPU, which has neither the TF32 nor the BF16 of a GPU.
    exact = spec.model_copy(update={"precision": Precision.FP32})
    trainer = Trainer(exact, run.summary.seed, dataset, torch.device("cpu"))
    if trained is not None:
        trainer.load_state(trained)
        if chosen := trained.get("chosen"):
            trainer.model.load_state_dict(chosen)
    states = _walk(trainer)
    for stage, found in states.items():
        if not np.isfinite(found).all():
            raise NotAnalysableError(f"hidden states of stage {stage} are not all finite")
    if source is Source.SHUFFLED:
        random = np.random.default_rng(seed)
        for found in states.values():
            for layer in range(found.shape[1]):
                found[:, layer] = found[random.permutation(len(found)), layer]
    return states


def _choose(dataset: AnyDataset, samples: int, seed: int) -> AnyDataset:
    """Return the data set with some of its test images."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(dataset.test))[:samples]
    if isinstance(dataset, StreamedDataset):
        return dataset.with_test_images(chosen)
    return replace(dataset, test=Images(dataset.test.pixels[chosen], dataset.test.labels[chosen]))


def checkpoint_of(run: RunDetail, folder: Store) -> dict[str, Any]:
    """Return the content of a run's newest checkpoint, see `Trainer.state`.

    Raises:
        NoWeightsError: it is gone, damaged, or another run's.
        NoStoreError: the folder cannot be reached.
    """
    number = run.summary.id
    check_reachable(folder)
    loaded = checkpoint.load_newest(folder)
    if loaded is None:
        names = checkpoint.sorted_names(folder)
        if names:
            raise NoWeightsError(
                f"the checkpoint of run {number} is damaged: {folder.shown(names[0])}"
            )
        raise NoWeightsError(f"the checkpoint of run {number} in {folder} is gone")
    identity = {"spec_id": run.summary.spec_id, "seed": run.summary.seed}
    if loaded.content.get(checkpoint.RUN, identity) != identity:
        raise NoWeightsError(f"{folder.shown(loaded.name)} belongs to another run than {number}")
    return loaded.content


def _last_state(run: RunDetail, folder: Store, spec: Spec) -> dict[str, Any]:
    content = checkpoint_of(run, folder)
    if len(content["history"]) < spec.recipe.epochs:
        raise NoWeightsError(f"the last checkpoint of run {run.summary.id} in {folder} is gone")
    return content


def _walk(trainer: Trainer) -> dict[int, States]:
    network = trainer.model
    network.use_fast(False)  # there a unit is not called as a module
    network.eval()
    units: dict[nn.Module, int] = {
        stage.unit: number
        for number, stage in enumerate(cast("list[Stage]", network.stages), start=1)
        if isinstance(stage.unit, DIALSTM)
    }
    batches: dict[int, list[list[Tensor]]] = {number: [] for number in units.values()}

    def keep(unit: nn.Module, _arguments: object, result: tuple[Tensor, object]) -> None:
        batches[units[unit]][-1].append(result[0])

    for unit in units:  # the network is used for nothing else
        unit.register_forward_hook(keep)
    with torch.no_grad():
        for images, _ in trainer.data.test_batches(TEST_BATCH):
            for layers in batches.values():
                layers.append([])
            network(images)
    return {
        number: torch.cat([torch.stack(layers, 1) for layers in found]).numpy()
        for number, found in batches.items()
    }
