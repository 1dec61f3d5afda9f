"""One network trained by several processes, as one process trains it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dia_repro.data.sources.digits import load_digits
from dia_repro.execution import forkserver
from dia_repro.experiments.attention import parse_attention
from dia_repro.experiments.spec import DIALSTMAttention, Spec
from dia_repro.models import register_attention
from dia_repro.training.distributed import (
    ALONE,
    Group,
    UnsharedRunError,
    _Normalise,
    check_group,
    joined,
    share_statistics,
)
from dia_repro.training.trainer import Diverged, Trainer
from tests.helpers import few_digits, tiny_spec

CPU = torch.device("cpu")
IMAGES, TEST_IMAGES = 263, 100
ODD = 131  # of a batch: one image is left for the last
Outcome = dict[str, object]


def spec(batch: int = 128, epochs: int = 2, lr: float = 0.01, norm: bool = True) -> Spec:
    attention = DIALSTMAttention(reduction=4, stages=(1, 2, 3))
    whole = tiny_spec(attention=attention, epochs=epochs, lr=lr, norm=norm)
    recipe = whole.recipe.model_copy(update={"batch_size": batch})
    return whole.model_copy(update={"recipe": recipe})


def outcome(spec: Spec, group: Group, *, double: bool) -> Outcome:
    """What a training comes to, in float64 on request: there, ways differ by mistakes alone."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64 if double else torch.float32)
    try:
        trainer = Trainer(spec, 0, few_digits(IMAGES, TEST_IMAGES), CPU, 0, group)
        if double:
            trainer.model.use_fast(False)
            network: nn.Module = trainer.step.model
            network.register_forward_pre_hook(lambda _, images: (images[0].double(),))
        ending = "finished"
        try:
            while not trainer.finished:
                trainer.run_epoch()
        except Diverged as diverged:
            ending = str(diverged)
    finally:
        torch.set_default_dtype(torch.float32)
    figures = [(m.train_loss, m.train_top1, m.test_loss, m.test_top1) for m in trainer.history]
    return {
        "ending": ending,
        "figures": figures,
        "evaluated": trainer.step.tally.sums[2].item(),
        "weights": trainer.model.state_dict(),
    }


def one_of(size: int, rank: int, port: int, folder: Path, work: Callable[[Group], Outcome]) -> None:
    """Joins the others as a process that `torchrun` started, and leaves what comes out."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), GLOO_SOCKET_IFNAME="lo")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(TORCHELASTIC_USE_AGENT_STORE="True")
    leave(folder, work)


def leave(folder: Path, work: Callable[[Group], Outcome]) -> None:
    with joined(CPU) as group:
        torch.save(work(group), folder / f"{group.rank}.pt")


def together(size: int, folder: Path, work: Callable[[Group], Outcome]) -> list[Outcome]:
    forkserver.start()
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    processes = [
        forkserver.CONTEXT.Process(target=one_of, args=(size, rank, store.port, folder, work))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


class Normalising(nn.Module):
    """An own attention that normalises pooled features, and has a parameter that it leaves out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.norm = nn.BatchNorm1d(channels)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        return self.norm(self.linear(pooled)).sigmoid(), state


class Averaging(Normalising):
    """One that keeps what it has seen in a buffer of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("seen", torch.zeros(channels))


class Cumulative(Normalising):
    """One whose BN averages over all batches."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.BatchNorm1d(channels, momentum=None)


def own_spec(unit: type[nn.Module], **options: Any) -> Spec:
    register_attention(unit.__name__.lower())(unit)
    made = spec(**options)
    attention = parse_attention(unit.__name__.lower())
    return made.model_copy(update={"model": made.model.model_copy(update={"attention": attention})})


def outcome_of_own(group: Group) -> Outcome:
    return outcome(own_spec(Normalising), group, double=True)


def test_an_own_attention_with_a_bn_is_trained_by_several_processes_as_by_one(
    tmp_path: Path,
) -> None:
    theirs, alone = together(2, tmp_path, outcome_of_own), outcome_of_own(ALONE)
    for result in theirs:
        figures = (torch.tensor(found["figures"], dtype=torch.float64) for found in (result, alone))
        torch.testing.assert_close(*figures, rtol=1e-9, atol=0.0)
        assert result["weights"].keys() == alone["weights"].keys()  # type: ignore[attr-defined]
        for name, value in alone["weights"].items():  # type: ignore[attr-defined]
            torch.testing.assert_close(result["weights"][name], value)  # type: ignore[index]


@pytest.mark.parametrize("unit", [Averaging, Cumulative])
def test_an_own_attention_with_other_buffers_is_refused(unit: type[nn.Module]) -> None:
    check_group(own_spec(Normalising), Group(0, 2))
    check_group(own_spec(unit), ALONE)
    with pytest.raises(UnsharedRunError, match="buffers"):
        check_group(own_spec(unit), Group(0, 2))


def said_at_the_start(group: Group) -> Outcome:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        Trainer(spec(), 0, load_digits(), CPU, 0, group)
    return {"said": [str(warning.message) for warning in said]}


def test_processes_of_a_run_warn_of_nothing(tmp_path: Path) -> None:
    assert [result["said"] for result in together(2, tmp_path, said_at_the_start)] == [[], []]


@pytest.mark.parametrize(
    ("size", "batch", "norm"),
    [
        pytest.param(2, 128, False, marks=pytest.mark.exhaustive),
        pytest.param(3, ODD, True, marks=pytest.mark.slow),
    ],
)
def test_several_processes_train_as_one_does(
    tmp_path: Path, size: int, batch: int, norm: bool
) -> None:
    work = partial(outcome, spec(batch, norm=norm), double=True)
    theirs, alone = together(size, tmp_path, work), work(ALONE)
    for result in theirs:
        assert result["ending"] == "finished"
        assert result["evaluated"] == TEST_IMAGES, "each counted by one process"
        torch.testing.assert_close(result["figures"], alone["figures"], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(result["weights"], alone["weights"], rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_losses_under_torchrun_agree_with_one_process(tmp_path: Path) -> None:
    """In single precision, by torch's own launcher of processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "tests.training.test_distributed", str(tmp_path)]
    subprocess.run(command, check=True, timeout=240, cwd=Path(__file__).parents[2])
    theirs = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = outcome(spec(epochs=1), ALONE, double=False)
    assert theirs[0]["figures"] == theirs[1]["figures"]
    torch.testing.assert_close(theirs[0]["figures"], alone["figures"], rtol=1e-5, atol=0)


@pytest.mark.slow
def test_all_see_a_loss_diverge_at_the_same_step(tmp_path: Path) -> None:
    work = partial(outcome, spec(16, lr=1e30), double=True)
    theirs, alone = together(2, tmp_path, work), work(ALONE)
    assert "epoch 1" in str(alone["ending"])
    assert {str(result["ending"]) for result in theirs} == {str(alone["ending"])}


def test_a_network_whose_gradients_are_recorded_is_not_shared() -> None:
    whole = spec()
    no_skip = whole.model_copy(update={"model": whole.model.model_copy(update={"skip": False})})
    with pytest.raises(UnsharedRunError, match="skip"):
        Trainer(no_skip, 0, load_digits(), CPU, 0, Group(0, 2))


class Context:
    """What autograd gives a function to keep tensors in."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors


class Operations(TorchDispatchMode):
    """Notes each operation, its tensors' shapes, and copies between devices."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[str, list[torch.Size]]] = []

    def __torch_dispatch__(
        self, function: Any, _types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [tensor for tensor in tree_leaves((args, result)) if isinstance(tensor, Tensor)]
        assert {str(tensor.device) for tensor in tensors} <= {"cuda:1"}, (
            f"{function} leaves the GPU"
        )
        self.seen.append((str(function), [tensor.shape for tensor in tensors]))
        return result


@pytest.mark.parametrize("alike", [True, False])
def test_bn_on_a_gpu_takes_four_passes_without_waiting(alike: bool) -> None:
    """On tensors that know their device only, with the shapes of torch's own kernels.

    A gradient that lies otherwise than what was normalised takes a copy more.
    """

    def channels(u: Tensor) -> Tensor:
        return torch.empty(u.shape[1], device=u.device)

    def reduced(g: Tensor, u: Tensor) -> tuple[Tensor, ...]:
        assert g.stride() == u.stride()
        return tuple(channels(u) for _ in range(4))

    shapes = {
        "batch_norm_stats": lambda u, _eps: (channels(u),) * 2,
        "batch_norm_elemt": lambda u, *_: torch.empty_like(u),
        "batch_norm_backward_reduce": lambda g, u, *_: reduced(g, u),
        "batch_norm_backward_elemt": lambda _g, u, *_: torch.empty_like(u),
    }
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        with torch.library._scoped_library("aten", "IMPL") as library, FakeTensorMode():
            for name, kernel in shapes.items():
                library.impl(name, kernel, "Meta")
            with torch.device("cuda:1"):
                network = nn.Sequential(nn.BatchNorm2d(8))
                u = torch.randn(4, 8, 5, 5).contiguous(memory_format=torch.channels_last)
                g = torch.empty_like(u) if alike else torch.empty(4, 8, 5, 5)
            share_statistics(network)
            bn = network[0]
            context = Context()
            with Operations() as operations:
                y = _Normalise.forward(context, u, bn.weight, bn.bias, bn)  # type: ignore[arg-type]
                g_u, g_weight, g_bias, _ = _Normalise.backward(context, g)
    finally:
        distributed.destroy_process_group()
    assert (y.shape, g_u.shape) == (u.shape, u.shape)
    assert (g_weight.shape, g_bias.shape) == ((8,), (8,))
    names = {name for name, _ in operations.seen}
    assert not names & {"aten._local_scalar_dense.default", "aten.nonzero.default"}
    whole = [name for name, of in operations.seen if u.shape in of and "empty" not in name]
    passes = [name for name in whole if not name.startswith("prim.")]
    kernels = [f"aten.{name}.default" for name in shapes]
    assert [name for name in passes if name in kernels] == kernels
    assert len(passes) == len(kernels) + (not alike)


if __name__ == "__main__":
    leave(Path(sys.argv[1]), partial(outcome, spec(epochs=1), double=False))
