"""One stage of each family against the paper's formulas, written out in plain tensor code.

Table 2: (a) a_t = f(x_t); (b) h_t from GAP(a_t) and, for the DIA kinds, what the unit keeps;
(c) x_{t+1} = x_t + a_t * h_t. Everything in float64, BN with the statistics of the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dia_repro.experiments.spec import (
    Attention,
    Backbone,
    DIALSTMAttention,
    ImageNetBackbone,
    ModelSpec,
    PreResNetBackbone,
    ResNetBackbone,
    ResNeXtBackbone,
    SEAttention,
    WRNBackbone,
)
from dia_repro.models import from_spec
from dia_repro.models.network import StagedNetwork

Weights = dict[str, Tensor]
B = 3


def bn(x: Tensor, w: Weights, name: str) -> Tensor:
    mean = x.sum((0, 2, 3), keepdim=True) / (x.numel() / x.shape[1])
    variance = ((x - mean) ** 2).sum((0, 2, 3), keepdim=True) / (x.numel() / x.shape[1])
    scale, shift = w[f"{name}.weight"], w[f"{name}.bias"]
    return (x - mean) / (variance + 1e-5).sqrt() * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


def conv(x: Tensor, w: Weights, name: str, stride: int = 1) -> Tensor:
    """A convolution group by group, padded by half its kernel."""
    weight, bias = w[f"{name}.weight"], w.get(f"{name}.bias")
    groups = x.shape[1] // weight.shape[1]
    parts = [
        functional.conv2d(part, kernel, stride=stride, padding=weight.shape[2] // 2)
        for part, kernel in zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True)
    ]
    y = torch.cat(parts, 1)
    return y if bias is None else y + bias.view(1, -1, 1, 1)


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def basic(x: Tensor, w: Weights, stride: int) -> tuple[Tensor, Tensor]:
    a = relu(bn(conv(x, w, "layers.0", stride), w, "layers.1"))
    a = bn(conv(a, w, "layers.3"), w, "layers.4")
    return a, projected(x, w, stride)


def bottleneck(x: Tensor, w: Weights, stride: int) -> tuple[Tensor, Tensor]:
    a = relu(bn(conv(x, w, "layers.0"), w, "layers.1"))
    a = relu(bn(conv(a, w, "layers.3", stride), w, "layers.4"))
    a = bn(conv(a, w, "layers.6"), w, "layers.7")
    return a, projected(x, w, stride)


def projected(x: Tensor, w: Weights, stride: int) -> Tensor:
    if "shortcut.0.weight" not in w:
        return x
    return bn(conv(x, w, "shortcut.0", stride), w, "shortcut.1")


def preactivation(x: Tensor, w: Weights, stride: int) -> tuple[Tensor, Tensor]:
    a = conv(relu(bn(x, w, "layers.0")), w, "layers.2")
    a = conv(relu(bn(a, w, "layers.3")), w, "layers.5", stride)
    a = conv(relu(bn(a, w, "layers.6")), w, "layers.8")
    a = bn(a, w, "layers.9")  # F_ext = BN + GAP
    return a, conv(x, w, "shortcut.0", stride) if "shortcut.0.weight" in w else x


def wide(x: Tensor, w: Weights, stride: int) -> tuple[Tensor, Tensor]:
    """Without dropout. Where the shape changes, the shortcut sees the activated input."""
    changes = "shortcut.0.weight" in w
    names = [f"layers.{i}" for i in ((0, 1, 4, 5) if changes else (2, 3, 6, 7))]
    activated = relu(bn(x, w, "entry.0" if changes else "layers.0"))
    a = relu(bn(conv(activated, w, names[0], stride), w, names[1]))
    a = bn(conv(a, w, names[2]), w, names[3])
    return a, conv(activated, w, "shortcut.0", stride) if changes else x


class LSTM:
    """eq. 1, with h and c at zero before the first block."""

    def __init__(self, w: Weights, channels: int) -> None:
        self.w, self.h, self.c = w, *torch.zeros(2, B, channels).double()

    def __call__(self, y: Tensor, _block: Weights) -> Tensor:
        gates = torch.zeros(B, 4 * y.shape[1]).double()
        for source, name in ((y, "from_input"), (self.h, "from_hidden")):
            first, second = (f"unit.cells.0.{name}.{layer}" for layer in (0, 2))
            inner = relu(source @ self.w[f"{first}.weight"].T + self.w[f"{first}.bias"])
            gates += inner @ self.w[f"{second}.weight"].T + self.w[f"{second}.bias"]
        i, f, g, o = gates.split(y.shape[1], dim=1)
        self.c = sigmoid(f) * self.c + sigmoid(i) * g.tanh()
        h = self.h = sigmoid(o) * sigmoid(self.c)
        return h


class SE:
    """h_t from each block's own module, or from the stage's."""

    def __init__(self, w: Weights, channels: int) -> None:
        self.shared = {name.removeprefix("unit."): v for name, v in w.items() if "unit" in name}

    def __call__(self, y: Tensor, block: Weights) -> Tensor:
        own = {n.removeprefix("attention."): v for n, v in block.items() if "attention" in n}
        w = self.shared or own
        y = relu(y @ w["squeeze.weight"].T + w.get("squeeze.bias", torch.zeros(()).double()))
        return sigmoid(y @ w["excite.weight"].T + w.get("excite.bias", torch.zeros(()).double()))


BLOCK = Callable[[Tensor, Weights, int], tuple[Tensor, Tensor]]
SE8 = SEAttention(kind="se", reduction=8)
DIA_SE = SEAttention(kind="dia-se", reduction=8, bias=False)
DIA, DIA_BN = DIALSTMAttention(), DIALSTMAttention(extraction="bn+gap")
CASES: dict[str, tuple[Backbone, Attention, BLOCK]] = {
    "resnet dia-lstm": (ResNetBackbone(depth=20), DIA, bottleneck),
    "resnet se": (ResNetBackbone(depth=20), SE8, bottleneck),
    "resnet dia-se": (ResNetBackbone(depth=20), DIA_SE, bottleneck),
    "basic dia-lstm": (ResNetBackbone(depth=14, block="basic"), DIA, basic),
    "preresnet dia-lstm": (PreResNetBackbone(depth=20), DIA_BN, preactivation),
    "wrn dia-lstm": (WRNBackbone(depth=16, widen_factor=2, dropout=0.0), DIA_BN, wide),
    "resnext dia-lstm": (
        ResNeXtBackbone(depth=20, cardinality=4, widen_factor=2),
        DIA,
        bottleneck,
    ),
    "imagenet resnet34 dia-lstm": (
        ImageNetBackbone(family="resnet34", conv_bias=True),
        DIA,
        basic,
    ),
    "imagenet resnet50 se": (ImageNetBackbone(family="resnet50"), SE8, bottleneck),
    "imagenet resnext50 dia-lstm": (ImageNetBackbone(family="resnext50"), DIA, bottleneck),
}


@pytest.mark.parametrize("case", CASES)
def test_a_stage_is_the_papers_formulas(case: str) -> None:
    backbone, attention, block_formula = CASES[case]
    torch.manual_seed(0)
    network = from_spec(ModelSpec(backbone=backbone, attention=attention), 10).double()
    assert isinstance(network, StagedNetwork)
    stage = network.stages[1]
    weights = {name: value.detach() for name, value in stage.named_parameters()}
    for value in weights.values():
        value.copy_(torch.randn_like(value) * 0.2)
    blocks = [list(part.blocks) for part in network.stages]  # type: ignore[arg-type]
    channels: int = blocks[1][0].out_channels
    unit = (SE if isinstance(attention, SEAttention) else LSTM)(weights, channels)

    x = torch.randn(B, blocks[0][-1].out_channels, 8, 8).double()
    expected = x
    for index in range(len(blocks[1])):
        w = {
            name.removeprefix(f"blocks.{index}."): value
            for name, value in weights.items()
            if name.startswith(f"blocks.{index}.")
        }
        a, shortcut = block_formula(expected, w, 2 if index == 0 else 1)
        pooled = a.sum((2, 3)) / (a.shape[2] * a.shape[3])
        expected = shortcut + a * unit(pooled, w)[:, :, None, None]
        if block_formula not in (preactivation, wide):
            expected = relu(expected)
    assert index > 0
    assert (stage(x) - expected).abs().max() < 1e-10
