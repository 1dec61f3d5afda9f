"""ResNet for 32×32 images.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2, with
the settings that reproduce the DIANet paper's parameter counts: planes 16/32/64, a 3×3 stem
of 16 channels, projection shortcuts (1×1 convolution and BN) wherever the shape changes.
Bottleneck blocks have expansion 4 and depth 9n+2, basic blocks expansion 1 and depth 6n+2.
"""

from __future__ import annotations

from torch import Tensor, nn

from dia_repro.models.attention import AttentionFactory
from dia_repro.models.initialise import initialise_he
from dia_repro.models.stage import Stage

PLANES = (16, 32, 64)
LAYERS_PER_BLOCK = {"basic": 2, "bottleneck": 3}
EXPANSION = {"basic": 1, "bottleneck": 4}


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, norm: bool
) -> list[nn.Module]:
    """A convolution without bias, padded to keep its size at stride 1, and BN unless removed."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)] if norm else [conv]


class ResNetBlock(nn.Module):
    """A residual block; ReLU after the addition.

    Layer recipe: bottleneck 1×1 → BN → ReLU → 3×3 (stride) → BN → ReLU → 1×1 → BN;
    basic 3×3 (stride) → BN → ReLU → 3×3 → BN. Then attention, shortcut, ReLU.

    Args:
        kind: `basic` or `bottleneck`.
        in_channels: channels of x_t.
        planes: inner width; the output has planes × expansion channels.
        stride: of the block's 3×3 convolution (basic: the first).
        attention: the block's own attention unit, if any.
        norm: False removes every BN.
        skip: False removes the shortcut, so that x_{t+1} = ReLU(a_t ⊗ h_t).
    """

    def __init__(
        self,
        kind: str,
        in_channels: int,
        planes: int,
        stride: int,
        attention: nn.Module | None,
        *,
        norm: bool = True,
        skip: bool = True,
    ) -> None:
        super().__init__()
        out = planes * EXPANSION[kind]
        if kind == "basic":
            layers = [
                *conv_norm(in_channels, planes, 3, stride, norm=norm),
                nn.ReLU(inplace=True),
                *conv_norm(planes, out, 3, norm=norm),
            ]
        else:
            layers = [
                *conv_norm(in_channels, planes, 1, norm=norm),
                nn.ReLU(inplace=True),
                *conv_norm(planes, planes, 3, stride, norm=norm),
                nn.ReLU(inplace=True),
                *conv_norm(planes, out, 1, norm=norm),
            ]
        self.layers = nn.Sequential(*layers)
        self.attention = attention
        self.skip = skip
        self.shortcut: nn.Module | None = None
        if skip and (stride != 1 or in_channels != out):
            self.shortcut = nn.Sequential(*conv_norm(in_channels, out, 1, stride, norm=norm))

    def residual(self, x: Tensor) -> Tensor:
        """a_t = f(x_t): (B, C_in, H, W) → (B, C, H/stride, W/stride)."""
        a: Tensor = self.layers(x)
        return a

    def merge(self, x: Tensor, a: Tensor) -> Tensor:
        """x_{t+1} = ReLU(shortcut(x_t) + a), or ReLU(a) without skips; both (B, C, H, W)."""
        if self.skip:
            a = a + (x if self.shortcut is None else self.shortcut(x))
        return a.relu()


class ResNet(nn.Module):
    """A CIFAR ResNet with attention as asked.

    Args:
        depth: 9n+2 (bottleneck) or 6n+2 (basic).
        classes: outputs of the classifier.
        attention: which units to build, and where.
        block: `bottleneck` or `basic`.
        norm: False removes every BN; no bias takes its place.
        skip: False removes every shortcut.

    Raises:
        ValueError: the depth does not divide into whole blocks.
    """

    def __init__(
        self,
        depth: int,
        classes: int,
        attention: AttentionFactory,
        *,
        block: str = "bottleneck",
        norm: bool = True,
        skip: bool = True,
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, len(PLANES) * LAYERS_PER_BLOCK[block])
        if rest or blocks < 1:
            unit = len(PLANES) * LAYERS_PER_BLOCK[block]
            raise ValueError(f"depth {depth} of a {block} ResNet is not {unit}n+2")
        self.stem = nn.Sequential(*conv_norm(3, PLANES[0], 3, norm=norm), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList()
        channels = PLANES[0]
        for number, planes in enumerate(PLANES, start=1):
            out = planes * EXPANSION[block]
            members: list[nn.Module] = []
            for index in range(blocks):
                stride = 2 if index == 0 and number > 1 else 1
                own = attention.for_block(number, out)
                members.append(
                    ResNetBlock(block, channels, planes, stride, own, norm=norm, skip=skip)
                )
                channels = out
            self.stages.append(Stage(members, attention.for_stage(number, out)))
        self.classifier = nn.Linear(channels, classes)
        initialise_he(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) → logits (B, classes)."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits
