"""Controls: experiments that the paper did not run, and that separate explanations of its results.

Where a network of theirs is one of the paper's, its spec is that of the paper's table or figure:
it is trained once, and runs of either serve both.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

from dia_repro.artifacts import figure6, table5, table8
from dia_repro.artifacts.networks import CIFAR_FAMILIES, DIANET, ORIGINAL, SE16, SENET, resnet
from dia_repro.artifacts.table import Drawing, Entry, TableArtifact
from dia_repro.experiments.attention import AttentionSpec
from dia_repro.experiments.controls import (
    BranchScale,
    ConstantAttention,
    DIALSTMStart,
    ExtraBN,
    LSTMVariant,
)
from dia_repro.experiments.spec import (
    Attention,
    DIALSTMAttention,
    NoAttention,
    ResNetBackbone,
    SEAttention,
)

DIA_SE, CONSTANT = "DIA-SE", "constant 0.25"
MATCHED_SE, UNSHARED, EXTRA_BN = "SE, as many parameters", "LSTM per block", "extra BN"
# By depth, r with which SENet's count comes nearest to DIANet's (r = 4): within 0.5 %. Of several
# with the same count, since C/r is rounded down, the smallest.
MATCHING = {83: 7, 164: 14, 245: 20, 407: 33}


def _without_norm(depth: int) -> dict[str, Attention]:
    """Return what stands in the unit's place without BN, by row; r as in Table 8."""
    blocks = ResNetBackbone(depth=depth).blocks * ResNetBackbone.stages
    return {
        **table8.ATTENTIONS,
        CONSTANT: ConstantAttention(value=0.25),
        "constant 0.5": ConstantAttention(value=0.5),
        "DIA-LSTM frozen": LSTMVariant(kind="dia-lstm-frozen", reduction=16),
        DIA_SE: SEAttention(kind="dia-se", reduction=16),
        "SkipInit": BranchScale(start=0.0),
        "scale 1/sqrt(L)": BranchScale(start=1 / sqrt(blocks)),
        "DIA-LSTM from 0.5": DIALSTMStart(reduction=16, start=0.5),
        "DIA-LSTM from 0.95": DIALSTMStart(reduction=16, start=0.95),
    }


def _of_one_size(depth: int) -> dict[str, Attention]:
    """Return the attention that DIA-LSTM is compared with for its size and sharing, by row."""
    return {
        SENET: SE16,
        MATCHED_SE: SEAttention(kind="se", reduction=MATCHING[depth]),
        DIA_SE: SEAttention(kind="dia-se", reduction=16),
        UNSHARED: LSTMVariant(kind="lstm-per-block", reduction=4),
        DIANET: DIALSTMAttention(reduction=4),
    }


def initial_scale(attention: AttentionSpec) -> float:
    """Return what a residual branch is multiplied by at the start, where pre-activations are 0.

    SE gives σ(0) = 1/2, DIA-LSTM with sigmoid σ(0)·σ(0) = 1/4 (eq. 1).

    Raises:
        TypeError: the attention is none of this file's.
    """
    match attention:
        case NoAttention():
            return 1.0
        case SEAttention():
            return 0.5
        case DIALSTMAttention(activation="sigmoid") | LSTMVariant():
            return 0.25
        case ConstantAttention(value=scale) | BranchScale(start=scale) | DIALSTMStart(start=scale):
            return scale
        case _:
            raise TypeError(f"the initial scale of {attention.kind} is not known")


NORM = TableArtifact(
    name="controls-norm",
    title="Without batch normalisation: sharing, the LSTM, learning, or the initial scale",
    row_heading="In the unit's place (r=16)",
    attention_in="row",
    best_of="column",
    drawings=(Drawing.ACCURACY, Drawing.LOSS),
    entries=tuple(
        Entry(
            row=row,
            column=f"ResNet{depth}",
            model=resnet(depth, attention, norm=False),
            numerics_matter=True,
        )
        for depth in table8.DEPTHS
        for row, attention in _without_norm(depth).items()
    ),
)

CAPACITY = TableArtifact(
    name="controls-capacity",
    title="As many parameters, shared or not",
    row_heading="Attention",
    attention_in="row",
    best_of="column",
    entries=tuple(
        Entry(
            row=row,
            column=f"ResNet{depth}",
            model=resnet(depth, attention),
        )
        for depth in table5.DEPTHS
        for row, attention in _of_one_size(depth).items()
    ),
)


def _extraction() -> Iterator[Entry]:
    for label, dataset in (("CIFAR100", "cifar100"), ("CIFAR10", "cifar10")):
        for name in ("PreResNet164", "WRN52-4"):
            family = CIFAR_FAMILIES[name]
            with_bn = family.model(ORIGINAL).with_attention(ExtraBN())
            for column, model in {
                ORIGINAL: family.model(ORIGINAL),
                EXTRA_BN: with_bn,
                DIANET: family.model(DIANET),
            }.items():
                yield Entry(
                    row=f"{name} {label}",
                    column=column,
                    model=model,
                    network=family.network,
                    dataset=dataset,
                )


EXTRACTION = TableArtifact(
    name="controls-extraction",
    title="The BN of F_ext without a unit",
    row_heading="Model, data set",
    best_of="row",
    entries=tuple(_extraction()),
)


def _skips() -> Iterator[Entry]:
    original, dianet, _ = figure6.FIGURE6.entries
    model = original.model.with_attention(ConstantAttention(value=0.25))
    for column, network in {
        ORIGINAL: original.model,
        CONSTANT: model,
        DIANET: dianet.model,
    }.items():
        yield Entry(row=original.row, column=column, model=network, numerics_matter=True)


SKIPS = TableArtifact(
    name="controls-skips",
    title="Without skip connections: gradients of a constant in the unit's place",
    row_heading="Network",
    drawings=(Drawing.ACCURACY, Drawing.HISTOGRAMS),
    entries=tuple(_skips()),
)

CONTROLS = {artifact.name: artifact for artifact in (NORM, CAPACITY, EXTRACTION, SKIPS)}
