"""Squeeze-and-Excitation, one module for each block (SE) or for each stage (DIA-SE).

Hu, Shen, Sun: Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507, eq. 2-4. DIA-SE, which
all blocks of a stage share: Huang, Liang, Liang, Yang: DIANet, AAAI 2020, "Our Framework", Table 1.
SE is the paper's column "SENet". Whether the linear layers have a bias follows from its parameter
counts: they do on ResNet and WRN, they do not on PreResNet and the CIFAR ResNeXt.

Layer recipe: pooled vector → Linear(C, C/r) → ReLU → Linear(C/r, C) → sigmoid.
"""

from __future__ import annotations

from torch import Tensor, nn

from dia_repro.models.attention.registry import reduced, register


@register("se")
class SqueezeExcitation(nn.Module):
    """Channel weights from the pooled features of one block, without memory of other blocks.

    Args:
        channels: C, the channels of the residual branch's output.
        reduction: r, the ratio of the bottleneck; C/r is rounded down.
        bias: whether both linear layers have a bias.
    """

    def __init__(self, channels: int, reduction: int = 16, *, bias: bool = True) -> None:
        super().__init__()
        inner = reduced(channels, reduction)
        self.squeeze = nn.Linear(channels, inner, bias=bias)
        self.excite = nn.Linear(inner, channels, bias=bias)

    def forward(self, pooled: Tensor, state: None = None) -> tuple[Tensor, None]:
        """(B, C) pooled features → (B, C) channel weights in (0, 1), and no state."""
        return self.excite(self.squeeze(pooled).relu()).sigmoid(), state


@register("dia-se", shared=True)
class DIASqueezeExcitation(SqueezeExcitation):
    """Squeeze-and-Excitation module that is applied to every block of a stage (Table 1)."""
