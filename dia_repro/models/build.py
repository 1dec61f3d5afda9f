"""From a model spec to a network."""

from __future__ import annotations

from torch import nn

from dia_repro.experiments.spec import DIALSTMAttention, ModelSpec, SEAttention
from dia_repro.models.attention import AttentionFactory
from dia_repro.models.resnet import ResNet


def attention_factory(model: ModelSpec) -> AttentionFactory:
    """The factory of the units that a model spec asks for."""
    match model.attention:
        case SEAttention(kind=kind, reduction=reduction):
            return AttentionFactory(kind, reduction)
        case DIALSTMAttention() as lstm:
            return AttentionFactory(
                lstm.kind, lstm.reduction, lstm.activation, lstm.cells, lstm.stages
            )
        case _:
            return AttentionFactory("none")


def build(model: ModelSpec, classes: int) -> nn.Module:
    """The network a model spec describes, with weights from torch's global random state.

    Args:
        model: backbone, attention, norm and skip.
        classes: outputs of the classifier.

    Raises:
        ValueError: the backbone's depth does not divide into whole blocks.
    """
    backbone = model.backbone
    return ResNet(
        backbone.depth,
        classes,
        attention_factory(model),
        block=backbone.block,
        norm=model.norm,
        skip=model.skip,
    )
