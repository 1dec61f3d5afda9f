"""Residual blocks: what all families share, and the bottleneck that several have."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from dia_repro.models.attention.registry import AttentionFactory


@dataclass(frozen=True)
class Options:
    """Options of all blocks of a network.

    Attributes:
        norm: whether there is BN; no bias takes its place.
        skip: whether there are shortcuts.
        conv_bias: whether convolutions have a bias.
    """

    norm: bool = True
    skip: bool = True
    conv_bias: bool = False

    def conv(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> nn.Conv2d:
        """Return a convolution, padded to keep the image's size at stride 1."""
        padding, bias = kernel // 2, self.conv_bias
        return nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias
        )

    def bn(self, channels: int) -> list[nn.Module]:
        """Return BN, or nothing."""
        if not self.norm:
            return []
        bn = nn.BatchNorm2d(channels)
        # A counter that nothing reads, which takes an operation at every step.
        bn.num_batches_tracked = None
        return [bn]

    def conv_bn(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> list[nn.Module]:
        """Return a convolution and BN."""
        conv = self.conv(in_channels, out_channels, kernel, stride, groups)
        return [conv, *self.bn(out_channels)]

    def bn_relu(self, channels: int) -> list[nn.Module]:
        """Return BN and ReLU; without BN out of place: its input goes around the block, too."""
        return [*self.bn(channels), nn.ReLU(inplace=self.norm)]


@dataclass(frozen=True)
class Geometry:
    """Channels and stride of a block.

    Attributes:
        in_channels: channels of x_t.
        width: inner width of the stage; its meaning depends on the family.
        stride: stride of the block.
    """

    in_channels: int
    width: int
    stride: int


class ResidualBlock(nn.Module):
    """A residual block: enter, residual branch, attention (applied by the stage), merge.

    Args:
        layers: layers of the residual branch.
        shortcut: layers that make x_t fit the branch's output; None where it fits as it is.
        out_channels: C of the branch's output.
        relu: whether ReLU follows the addition.
        entry: layers before branch and shortcut alike.
    """

    def __init__(
        self,
        layers: list[nn.Module],
        shortcut: list[nn.Module] | None,
        options: Options,
        out_channels: int,
        *,
        relu: bool,
        entry: list[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.entry = nn.Sequential(*entry) if entry else None
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(*shortcut) if shortcut and options.skip else None
        self.attention: nn.Module | None = None
        self.skip, self.relu, self.out_channels = options.skip, relu, out_channels
        self.options = options

    def attach(self, attention: AttentionFactory, stage: int) -> None:
        """Give the block its own attention unit, and the extra BN of F_ext = BN + GAP."""
        self.attention = attention.make(stage, self.out_channels, shared=False)
        if attention.normalises(stage):
            self.layers.extend(self.options.bn(self.out_channels))

    def carried(self, x: Tensor) -> Tensor | None:
        """Return what goes around the branch: x_t, made to fit it; None without skips."""
        if self.shortcut is not None:
            x = self.shortcut(x)
        return x if self.skip else None

    def enter(self, x: Tensor) -> Tensor:
        """Return what branch and shortcut see: x_t itself, but for some pre-activation blocks."""
        return x if self.entry is None else self.entry(x)

    def residual(self, x: Tensor) -> Tensor:
        """(a) of Table 2: a_t = f(x_t), (B, C_in, H, W) → (B, C, H/stride, W/stride)."""
        a: Tensor = self.layers(x)
        return a

    def merge(self, x: Tensor, a: Tensor) -> Tensor:
        """(c) of Table 2: x_{t+1} from x_t and the recalibrated branch, (B, C, H, W)."""
        carried = self.carried(x)
        a = a if carried is None else a + carried
        return a.relu() if self.relu else a


class Bottleneck(ResidualBlock):
    """1×1 → BN → ReLU → 3×3 (stride) → BN → ReLU → 1×1 → BN; attention; shortcut; ReLU.

    Args:
        inner: channels of the 3×3 convolution.
        out: channels of the block's output.
        groups: groups of the 3×3 convolution (ResNeXt's cardinality).
    """

    def __init__(
        self, geometry: Geometry, options: Options, inner: int, out: int, groups: int = 1
    ) -> None:
        layers = [
            *options.conv_bn(geometry.in_channels, inner, 1),
            nn.ReLU(inplace=True),
            *options.conv_bn(inner, inner, 3, geometry.stride, groups=groups),
            nn.ReLU(inplace=True),
            *options.conv_bn(inner, out, 1),
        ]
        super().__init__(layers, projection(geometry, out, options), options, out, relu=True)


def projection(geometry: Geometry, out: int, options: Options) -> list[nn.Module] | None:
    """Return 1×1 convolution (stride) → BN where the shape changes; None where it does not."""
    if geometry.stride == 1 and geometry.in_channels == out:
        return None
    return options.conv_bn(geometry.in_channels, out, 1, geometry.stride)
