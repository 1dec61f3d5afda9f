"""A network of stages: stem, stages of residual blocks, classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from dia_repro.errors import UsageError
from dia_repro.models import fast
from dia_repro.models.attention import AttentionFactory
from dia_repro.models.blocks import Geometry, ResidualBlock
from dia_repro.models.stage import Stage

# The most versions of the block's code that a network may need: stages, first and other blocks.
COMPILED_VERSIONS = 64

BlockMaker = Callable[[Geometry], ResidualBlock]


class ImpossibleNetworkError(UsageError, ValueError):
    """There is no network of that depth, or it has fewer stages than are to have attention."""


@dataclass(frozen=True)
class StagePlan:
    """One stage: how many blocks, their inner width, the stride of the first."""

    blocks: int
    width: int
    stride: int


class StagedNetwork(nn.Module):
    """Stem → stages → what follows the last stage → GAP → classifier.

    Args:
        stem: first layers.
        channels: that the stem gives.
        plan: the stages.
        make_block: the family's block for a geometry.
        attention: which units to build, and where.
        classes: outputs of the classifier.
        tail: of the channels after the last stage, the layers before GAP.

    Raises:
        ImpossibleNetworkError: attention is wanted at a stage that the plan lacks.
    """

    def __init__(
        self,
        stem: list[nn.Module],
        channels: int,
        plan: Sequence[StagePlan],
        make_block: BlockMaker,
        attention: AttentionFactory,
        classes: int,
        tail: Callable[[int], list[nn.Module]] | None = None,
    ) -> None:
        super().__init__()
        if max(attention.stages or (1,)) > len(plan):
            raise ImpossibleNetworkError(
                f"stage {max(attention.stages or ())} is to have attention, of {len(plan)} stages"
            )
        self.fast = False
        self.stem = nn.Sequential(*stem)
        self.stages = nn.ModuleList()
        for number, stage in enumerate(plan, start=1):
            members: list[nn.Module] = []
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                block = make_block(Geometry(channels, stage.width, stride))
                block.attach(attention, number)
                channels = block.out_channels
                members.append(block)
            self.stages.append(Stage(members, attention.for_stage(number, channels)))
        self.tail = nn.Sequential(*(tail(channels) if tail else []))
        self.classifier = nn.Linear(channels, classes)

    def use_fast(self, yes: bool = True) -> None:
        """Train by `dia_repro.models.fast`, or by the plain modules."""
        self.fast = yes
        for stage in cast("list[Stage]", self.stages):
            stage.fast = yes

    def use_compiled(self, compiled: bool = True, **options: Any) -> None:
        """Run the plain modules block by block through torch's compiler, or not.

        Args:
            options: for `torch.compile`.
        """
        if compiled:
            import torch._dynamo
            import torch._inductor.config

            deterministic = torch.are_deterministic_algorithms_enabled()
            torch._inductor.config.deterministic = deterministic
            # The compiler counts the versions of a function, and all networks share the block's:
            # those of networks trained before in this process would use up the limit.
            torch._dynamo.reset()
            torch._dynamo.config.recompile_limit = COMPILED_VERSIONS
        for stage in cast("list[Stage]", self.stages):
            if compiled:
                stage.compile_blocks(**options)
            else:
                stage.compiled = None

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) → logits (B, classes)."""
        run = fast.run if self.fast and fast.suits(self) else nn.Sequential.forward
        x = run(self.stem, x)
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.classifier(run(self.tail, x).mean((2, 3)))
        return logits


def blocks_for_depth(depth: int, stages: int, layers: int, extra: int) -> int:
    """Blocks a stage of a CIFAR network of a depth.

    Args:
        layers: convolutions a block.
        extra: layers outside the blocks (2 in 9n+2).

    Raises:
        ImpossibleNetworkError: the depth does not divide into whole blocks.
    """
    blocks, rest = divmod(depth - extra, stages * layers)
    if rest or blocks < 1:
        raise ImpossibleNetworkError(f"depth {depth} is not {stages * layers}n+{extra}")
    return blocks
