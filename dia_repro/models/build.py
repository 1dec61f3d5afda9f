"""From a model spec to a network."""

from __future__ import annotations

from typing import assert_never

from dia_repro.experiments.spec import (
    Attention,
    DIALSTMAttention,
    ImageNetBackbone,
    ModelSpec,
    NoAttention,
    PreResNetBackbone,
    ResNetBackbone,
    ResNeXtBackbone,
    SEAttention,
    WRNBackbone,
)
from dia_repro.models.attention import AttentionFactory
from dia_repro.models.blocks import Options
from dia_repro.models.imagenet import imagenet_resnet
from dia_repro.models.network import StagedNetwork
from dia_repro.models.preresnet import preresnet
from dia_repro.models.resnet import resnet
from dia_repro.models.resnext import resnext
from dia_repro.models.wrn import wrn


def attention_factory(attention: Attention) -> AttentionFactory:
    """The factory of the units that a spec asks for."""
    match attention:
        case SEAttention():
            return AttentionFactory(
                attention.kind, attention.reduction, attention.bias, extraction="gap"
            )
        case DIALSTMAttention():
            return AttentionFactory(
                attention.kind,
                attention.reduction,
                activation=attention.activation,
                cells=attention.cells,
                stages=attention.stages,
                extraction=attention.extraction,
            )
        case NoAttention():
            return AttentionFactory()
        case _:  # never another network under its spec's id
            assert_never(attention)


def from_spec(model: ModelSpec, classes: int) -> StagedNetwork:
    """The network a model spec describes, with weights from torch's global random state.

    Args:
        model: backbone, attention, norm and skip.
        classes: outputs of the classifier.

    Raises:
        ImpossibleNetworkError: the backbone's depth does not divide into whole blocks, or it has
            fewer stages than are to have attention.
    """
    units = attention_factory(model.attention)
    options = Options(norm=model.norm, skip=model.skip)
    match model.backbone:
        case ResNetBackbone(depth=depth, block=block):
            return resnet(depth, block, classes, units, options)
        case PreResNetBackbone(depth=depth):
            return preresnet(depth, classes, units, options)
        case WRNBackbone() as wide:
            return wrn(wide.depth, wide.widen_factor, wide.dropout, classes, units, options)
        case ResNeXtBackbone() as next_:
            return resnext(
                next_.depth, next_.cardinality, next_.widen_factor, classes, units, options
            )
        case ImageNetBackbone(family=name, conv_bias=bias):
            options = Options(norm=model.norm, skip=model.skip, conv_bias=bias)
            return imagenet_resnet(name, classes, units, options)
        case _:
            assert_never(model.backbone)
