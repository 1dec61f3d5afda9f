"""Network of stages: stem, stages of residual blocks, classifier; the registry of backbones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any, cast

import torch
from torch import Tensor, nn

from dia_repro.experiments.backbones import BackboneSpec, ImpossibleNetworkError
from dia_repro.models import fast
from dia_repro.models.attention.registry import AttentionFactory
from dia_repro.models.blocks import Geometry, Options, ResidualBlock
from dia_repro.models.stage import Stage

# The most versions of a block's code that a network may need: by stage, for first and other blocks.
COMPILED_VERSIONS = 64
Layers = Callable[[Tensor], Tensor]
Run = Callable[[nn.Sequential, Tensor], Tensor]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def initialise_he(network: nn.Module) -> None:
    """Draw convolutions with std sqrt(2 / (k·k·out)), set BN to 1 and 0; Linear layers stay.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers, ICCV 2015, eq. 14, without regard to groups.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class StagePlan:
    """Number of a stage's blocks, their inner width, and the stride of the first."""

    blocks: int
    width: int
    stride: int


def stages(blocks: Sequence[int], widths: Sequence[int], factor: int = 1) -> list[StagePlan]:
    """Return the stages of a network: the first keeps the image's size, others halve it."""
    return [
        StagePlan(number, width * factor, 1 if width == widths[0] else 2)
        for number, width in zip(blocks, widths, strict=True)
    ]


@dataclass(frozen=True)
class Architecture:
    """Parts of a backbone.

    Attributes:
        stem: first layers.
        channels: channels that the stem gives.
        make_block: the family's block for a geometry.
        tail: layers between the last stage and GAP, for its channels.
        initialise: draws the network's weights.
    """

    stem: list[nn.Module]
    channels: int
    stages: list[StagePlan]
    make_block: Callable[[Geometry], ResidualBlock]
    tail: Callable[[int], list[nn.Module]] | None = None
    initialise: Callable[[StagedNetwork], None] = initialise_he


@singledispatch
def architecture(spec: BackboneSpec, _options: Options) -> Architecture:
    """Return the architecture that a backbone's spec describes; each family registers its own."""
    raise NotImplementedError(f"no backbone is registered for {type(spec).__name__}")


class StagedNetwork(nn.Module):
    """Stem → stages → what follows the last stage → GAP → classifier.

    Args:
        attention: makes the units of blocks and stages.
        classes: outputs of the classifier.

    Raises:
        ImpossibleNetworkError: attention is wanted at a stage that the architecture lacks.
    """

    def __init__(
        self, architecture: Architecture, attention: AttentionFactory, classes: int
    ) -> None:
        super().__init__()
        plan, channels = architecture.stages, architecture.channels
        if max(attention.stages or (1,)) > len(plan):
            raise ImpossibleNetworkError(
                f"stage {max(attention.stages or ())} is to have attention, of {len(plan)} stages"
            )
        self.fast = False
        self._compiled: tuple[Layers, Layers] | None = None  # what is before and after the stages
        self.stem = nn.Sequential(*architecture.stem)
        self.stages = nn.ModuleList()
        for number, stage in enumerate(plan, start=1):
            blocks: list[ResidualBlock] = []
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                block = architecture.make_block(Geometry(channels, stage.width, stride))
                block.attach(attention, number)
                channels = block.out_channels
                blocks.append(block)
            self.stages.append(Stage(blocks, attention.make(number, channels, shared=True)))
        self.tail = nn.Sequential(*(architecture.tail(channels) if architecture.tail else []))
        self.classifier = nn.Linear(channels, classes)
        if not self.classifier.weight.is_meta:  # torch would load its compiler to fill nothing
            architecture.initialise(self)

    def use_fast(self, yes: bool = True) -> None:
        """Train by `dia_repro.models.fast`, or by the plain modules."""
        self.fast = yes
        for stage in cast("list[Stage]", self.stages):
            stage.fast = yes

    def use_compiled(self, compiled: bool = True, **options: Any) -> None:
        """Run the plain modules through torch's compiler, or not.

        They are compiled block by block, and what comes before and after the blocks.

        Args:
            options: for `torch.compile`.
        """
        if compiled:
            import torch._dynamo
            import torch._inductor.config

            deterministic = torch.are_deterministic_algorithms_enabled()
            torch._inductor.config.deterministic = deterministic
            torch._inductor.config.combo_kernels = True  # launches are what small layers wait for
            # The compiler counts the versions of a function, and all networks share the block's:
            # those of networks trained before in this process would use up the limit.
            torch._dynamo.reset()
            torch._dynamo.config.recompile_limit = COMPILED_VERSIONS
        self._compiled = None
        if compiled:
            whole = partial(torch.compile, dynamic=False, fullgraph=True, **options)
            run = nn.Sequential.forward
            self._compiled = (whole(partial(self._enter, run)), whole(partial(self._leave, run)))
        for stage in cast("list[Stage]", self.stages):
            if compiled:
                stage.compile_blocks(**options)
            else:
                stage.compiled = None

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights, also where they lost the versions of their modules, as in safetensors.

        Without these torch expects a counter of batches in each BN, which these networks have not.
        Buffers of a unit that were set or enlarged while it was trained become like them.
        """
        if strict:
            self._fit_buffers(state_dict)
        if not hasattr(state_dict, "_metadata"):
            state_dict = OrderedDict(state_dict)
            state_dict._metadata = self.state_dict()._metadata  # type: ignore[attr-defined]
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def buffer_values(self) -> dict[str, Tensor]:
        """Return copies of all buffers by name."""
        named = self.named_buffers(remove_duplicate=False)
        return {name: buffer.clone() for name, buffer in named}

    def set_buffers(self, values: Mapping[str, Tensor]) -> None:
        """Set all buffers to what `buffer_values` returned, in place where they still fit."""
        self._fit_buffers(values)
        with torch.no_grad():
            for name, value in values.items():
                self.get_buffer(name).copy_(value)

    def _fit_buffers(self, values: Mapping[str, Tensor]) -> None:
        """Let each buffer of a unit hold the value of its name: None, or of another shape."""
        device = next(self.parameters()).device
        for place, module in self.named_modules():
            of_bn = STATISTICS if isinstance(module, nn.modules.batchnorm._BatchNorm) else ()
            for name, buffer in [*module._buffers.items()]:
                if name in of_bn:
                    continue  # a BN that lacks its statistics is an error
                value = values.get(f"{place}.{name}")
                if value is None:
                    module.register_buffer(name, None)
                elif buffer is None or (buffer.shape, buffer.dtype) != (value.shape, value.dtype):
                    module.register_buffer(name, torch.empty_like(value, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) → logits (B, classes)."""
        run = fast.run if self.fast and fast.suits(self) else nn.Sequential.forward
        enter, leave = self._compiled or (partial(self._enter, run), partial(self._leave, run))
        x = enter(x)
        for stage in self.stages:
            x = stage(x)
        return leave(x)

    def _enter(self, run: Run, x: Tensor) -> Tensor:
        return run(self.stem, x)

    def _leave(self, run: Run, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(run(self.tail, x).mean((2, 3)))
        return logits
