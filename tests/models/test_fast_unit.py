"""DIA-LSTM's hand-written step, its gates by numba, torch and Triton, against the plain unit."""

from __future__ import annotations

import copy
import subprocess
import sys
import weakref

import pytest
import torch
from torch import Tensor

from dia_repro.experiments.spec import (
    DIALSTMAttention,
    ModelSpec,
    ResNetBackbone,
    SEAttention,
    WRNBackbone,
)
from dia_repro.models import from_spec
from dia_repro.models.attention import DIALSTM
from dia_repro.models.fast import attend, gates
from tests.helpers import clean_environment

B, C = 6, 16
CHECK_TRITON = """
import sys, torch
from dia_repro.models.fast import cell, gates, triton_cell_kernels, triton_kernels
device = sys.argv[1]
torch.manual_seed(0)
def weights(channels, inner):
    shapes = ((inner, channels), (inner,)) * 2 + ((4 * channels, 2 * inner), (4 * channels,))
    return cell.Weights(*(torch.randn(*shape, device=device) / 4 for shape in shapes))
for activation in range(3):
    for rows, channels in ((6, 16), (37, 24)):
        before = 3 * torch.randn(rows, 4 * channels, device=device)
        c, g_h, g_next, g_c = torch.randn(4, rows, channels, device=device)
        forward = triton_kernels.forward(before, c, activation)
        expected = gates.forward_plain(before.clone(), c, activation)
        for ours, plain in zip(forward, expected, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
        arguments = (g_h, g_next, g_c, expected[2], c, expected[3], activation)
        for ours, plain in zip(
            triton_kernels.backward(*arguments), gates.backward_plain(*arguments), strict=True
        ):
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    for rows, channels, inner in ((6, 16, 4), (37, 40, 20), (128, 64, 16)):
        given = (*torch.randn(3, rows, channels, device=device), weights(channels, inner))
        outputs = cell.OutputGradients(*torch.randn(3, rows, channels, device=device))
        results = []
        for one_kernel in (False, True):
            cell._is_one_kernel = lambda *_: one_kernel
            *after, kept = cell.forward(*given, activation)
            gradients = cell.backward(outputs, given[2], kept, given[3], activation)
            results.append((*after, *kept, *gradients))
        for plain, ours in zip(*results, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
print("agrees")
"""


def walked(
    unit: DIALSTM, pooled: list[Tensor], weights: list[Tensor], *, fast: bool
) -> list[Tensor]:
    """Attention vectors of every block, and gradients of pooled features and weights."""
    pooled = [y.clone().requires_grad_() for y in pooled]
    state, vectors = None, []
    for y in pooled:
        h, state = attend(unit, y, state) if fast else unit(y, state)
        vectors.append(h)
    unit.zero_grad(set_to_none=True)
    torch.stack([h * w for h, w in zip(vectors, weights, strict=True)]).sum().backward()
    gradients = [parameter.grad for parameter in unit.parameters()]
    return [t.detach() for t in (*vectors, *(y.grad for y in pooled), *gradients) if t is not None]


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_vectors_and_gradients_are_the_plain_ones(
    activation: str, blocks: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    unit = DIALSTM(C, 4, activation).to(dtype)
    pooled = list(torch.randn(blocks, B, C, dtype=dtype))
    weights = list(torch.randn(blocks, B, C, dtype=dtype))
    plain = walked(unit, pooled, weights, fast=False)
    ours = walked(unit, pooled, weights, fast=True)
    assert len(ours) == len(plain) == 2 * blocks + 8
    for value, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=tolerance * other.abs().max().item())


def test_a_units_state_is_freed_after_the_backward_pass() -> None:
    unit = DIALSTM(C, 4)
    h, state = attend(unit, torch.randn(B, C, requires_grad=True), None)
    h, state = attend(unit, torch.randn(B, C, requires_grad=True), state)
    seen = weakref.ref(state[0])
    h.sum().backward()
    del h, state
    assert seen() is None


def test_a_network_in_float64_has_the_plain_gradients() -> None:
    """There the passes are torch's own operations, as on a GPU that cannot compile."""
    torch.manual_seed(0)
    spec = ModelSpec(backbone=ResNetBackbone(depth=20), attention=DIALSTMAttention())
    plain = from_spec(spec, 5).double()
    fast = copy.deepcopy(plain)
    fast.use_fast()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    outputs = []
    for network in (plain, fast):
        output = network(images)
        output.square().sum().backward()
        outputs.append(output.detach())
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-10, atol=1e-10)
    for (name, weight), other in zip(fast.named_parameters(), plain.parameters(), strict=True):
        assert weight.grad is not None
        assert other.grad is not None
        assert (weight.grad - other.grad).abs().max() < 1e-9 * (1 + other.grad.abs().max()), name
    for ours, expected in zip(fast.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", range(3))
def test_gradients_of_the_gates_are_the_plain_ones(activation: int) -> None:
    g_h, g_next, g_c, c = torch.randn(4, B, C)
    _, _, activated, s = gates.forward(torch.randn(B, 4 * C), c, activation)
    arguments = (g_h, g_next, g_c, activated, c, s, activation)
    for ours, plain in zip(
        gates.backward(*arguments), gates.backward_plain(*arguments), strict=True
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_triton_kernels_agree_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", CHECK_TRITON, "cpu"],
        env=clean_environment(TRITON_INTERPRET="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "agrees\n", done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["_forward", "_backward"])
@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_a_steps_kernels_compile_for_a_gpu(name: str, precision: str) -> None:
    """Ahead of time, for compute capability 9.0, at the largest inner width."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from dia_repro.models.fast import triton_cell_kernels as kernels
    from dia_repro.models.fast.cell import LARGEST_INNER

    kernel = getattr(kernels, name)
    constants = {**kernels._constants(0, LARGEST_INNER), "precision": precision}
    options = {key: constants.pop(key) for key in kernels.LAUNCH}
    sizes = dict.fromkeys(("rows", "channels", "width"), "i32") | dict.fromkeys(
        constants, "constexpr"
    )
    signature = {argument: sizes.get(argument, "*fp32") for argument in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert made.asm["cubin"]
    assert made.metadata.shared <= 48 * 1024
    assert ("mma." in made.asm["ptx"]) == (precision == "tf32")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_triton_on_a_gpu() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK_TRITON, "cuda"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "agrees\n", done.stderr[-2000:]


@pytest.mark.parametrize("attention", [DIALSTMAttention(), SEAttention(kind="se")])
def test_blocks_compile_without_a_break(attention: DIALSTMAttention | SEAttention) -> None:
    """Traced whole, which compiling needs; a compiler of machine code comes after that."""
    torch.manual_seed(0)
    spec = ModelSpec(backbone=ResNetBackbone(depth=20), attention=attention)
    network = from_spec(spec, 5)
    images = torch.randn(4, 3, 8, 8)
    plain = copy.deepcopy(network)(images)
    network.use_compiled(backend="eager")
    torch.testing.assert_close(network(images), plain, rtol=1e-5, atol=1e-6)
    network.use_compiled(False)
    assert all(stage.compiled is None for stage in network.stages)


def test_many_networks_compile_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler counts the versions of a function, which all networks share."""
    monkeypatch.setattr("dia_repro.models.network.COMPILED_VERSIONS", 3)
    for width in (1, 2):
        backbone = WRNBackbone(depth=10, widen_factor=width, dropout=0)
        network = from_spec(ModelSpec(backbone=backbone, attention=DIALSTMAttention()), 5)
        network.use_compiled(backend="eager")
        assert network(torch.randn(2, 3, 8, 8)).shape == (2, 5)
