"""Controls: experiments that the paper did not run, and that separate explanations of its results.

Where a network of theirs is one of the paper's, its spec is that of the paper's table or figure:
it is trained once, and runs of either serve both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt

from dia_repro.artifacts.paper import (
    CIFAR_FAMILIES,
    DEPTHS,
    DEPTHS_WITHOUT_BN,
    DIA4,
    DIA_SE16,
    DIANET,
    FIGURE6,
    ORIGINAL,
    SE16,
    SENET,
    attentions,
    resnet,
)
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


def _without_norm(depth: int) -> dict[str, AttentionSpec]:
    """Return the attention of networks without BN by row; r as in Table 8."""
    blocks = ResNetBackbone(depth=depth).blocks * ResNetBackbone.stages
    return {
        **attentions(16),
        "constant 0.1": ConstantAttention(value=0.1),
        CONSTANT: ConstantAttention(value=0.25),
        "constant 0.5": ConstantAttention(value=0.5),
        "DIA-LSTM frozen": LSTMVariant(kind="dia-lstm-frozen", reduction=16),
        DIA_SE: DIA_SE16,
        "SkipInit": BranchScale(start=0.0),
        "scale 1/sqrt(L)": BranchScale(start=1 / sqrt(blocks)),
        "DIA-LSTM from 0.5": DIALSTMStart(reduction=16, start=0.5),
        "DIA-LSTM from 0.95": DIALSTMStart(reduction=16, start=0.95),
    }


def _of_one_size(depth: int) -> dict[str, AttentionSpec]:
    """Return DIA-LSTM, and the attention that it is compared with for size and sharing, by row."""
    return {
        SENET: SE16,
        MATCHED_SE: SEAttention(kind="se", reduction=MATCHING[depth]),
        DIA_SE: DIA_SE16,
        UNSHARED: LSTMVariant(kind="lstm-per-block", reduction=4),
        DIANET: DIA4,
    }


def initial_scale(attention: AttentionSpec) -> float | None:
    """Return the initial factor of a residual branch, where pre-activations are 0.

    SE gives σ(0) = 1/2, DIA-LSTM with sigmoid σ(0)·σ(0) = 1/4 (eq. 1). Of other kinds it is not
    known: None.
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
            return None


NORM = TableArtifact(
    name="controls-norm",
    title="Without batch normalisation: sharing, the LSTM, learning, or the initial scale",
    row_heading="In the unit's place (r=16)",
    attention_in="row",
    best_of="column",
    drawings=(Drawing.ACCURACY, Drawing.LOSS),
    entries=tuple(
        Entry(row, f"ResNet{depth}", resnet(depth, attention, norm=False), numerics_matter=True)
        for depth in DEPTHS_WITHOUT_BN
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
        Entry(row, f"ResNet{depth}", resnet(depth, attention))
        for depth in DEPTHS
        for row, attention in _of_one_size(depth).items()
    ),
)


def _extraction() -> Iterator[Entry]:
    for label, dataset in (("CIFAR100", "cifar100"), ("CIFAR10", "cifar10")):
        for name in ("PreResNet164", "WRN52-4"):
            family = CIFAR_FAMILIES[name]
            original = family.model(ORIGINAL)
            models = {
                ORIGINAL: original,
                EXTRA_BN: original.with_attention(ExtraBN()),
                CONSTANT: original.with_attention(ConstantAttention(value=0.25)),
                DIANET: family.model(DIANET),
            }
            for column, model in models.items():
                yield Entry(f"{name} {label}", column, model, family.network, dataset)


EXTRACTION = TableArtifact(
    name="controls-extraction",
    title="The BN of F_ext without a unit, and the initial scale without either",
    row_heading="Model, data set",
    best_of="row",
    entries=tuple(_extraction()),
)

_ORIGINAL56, _DIANET56, _ = FIGURE6.entries
_CONSTANT56 = replace(
    _ORIGINAL56,
    column=CONSTANT,
    model=_ORIGINAL56.model.with_attention(ConstantAttention(value=0.25)),
)
SKIPS = TableArtifact(
    name="controls-skips",
    title="Without skip connections: gradients of a constant in the unit's place",
    row_heading="Network",
    drawings=(Drawing.ACCURACY, Drawing.HISTOGRAMS),
    entries=(_ORIGINAL56, _CONSTANT56, _DIANET56),
)

CONTROLS = {artifact.name: artifact for artifact in (NORM, CAPACITY, EXTRACTION, SKIPS)}
