"""DIA-SE: one Squeeze-and-Excitation module that all blocks of a stage share.

Huang, Liang, Liang, Yang: DIANet, AAAI 2020, "Our Framework" and Table 1.
The module is that of `se`; what differs is who owns it: the stage, not the block.
"""

from __future__ import annotations

from dia_repro.models.attention.se import SqueezeExcitation


class DIASqueezeExcitation(SqueezeExcitation):
    """A Squeeze-and-Excitation module that is applied to every block of a stage (Table 1)."""
