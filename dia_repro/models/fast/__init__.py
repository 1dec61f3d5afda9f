"""A block's training by hand-written forward and backward passes: fewer operations, same figures.

`dia_repro.models.stage` says when a block goes this way; the plain modules define what it computes.
"""

from dia_repro.models.fast.norm import Recalibration, norm_add, run
from dia_repro.models.fast.unit import attend

__all__ = ["Recalibration", "attend", "norm_add", "run"]
