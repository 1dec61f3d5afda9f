"""The step under torch's DistributedDataParallel: two processes, half of a batch each."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from dia_repro.execution import forkserver
from dia_repro.experiments.spec import DIALSTMAttention
from dia_repro.models import from_spec
from dia_repro.models.network import StagedNetwork
from dia_repro.training.step import TrainingStep
from tests.helpers import tiny_spec

HALF = 6


def network() -> StagedNetwork:
    torch.manual_seed(0)
    return from_spec(tiny_spec(attention=DIALSTMAttention()).model, 10)


def batch(half: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(half)
    images = torch.randn(HALF, 3, 8, 8, generator=random)
    labels = torch.randint(0, 10, (HALF,), generator=random)
    return images.contiguous(memory_format=torch.channels_last), labels


def train(rank: int, folder: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    model = network()
    model.use_fast()
    step = TrainingStep(
        DistributedDataParallel(model), tiny_spec().recipe, "fp32", torch.device("cpu")
    )
    step.train(*batch(rank))
    torch.save(model.state_dict(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_move_the_weights_by_the_mean_of_their_gradients(tmp_path: Path) -> None:
    forkserver.start()
    processes = [forkserver.CONTEXT.Process(target=train, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    theirs = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    model = network()
    for half in (0, 1):
        images, labels = batch(half)
        (functional.cross_entropy(model(images), labels) / 2).backward()
    recipe = tiny_spec().recipe
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            moved = parameter - recipe.lr * (parameter.grad + recipe.weight_decay * parameter)
            assert torch.equal(theirs[0][name], theirs[1][name])
            assert torch.allclose(theirs[0][name], moved, rtol=1e-4, atol=1e-6), name
