"""Short names of networks, for lists."""

from __future__ import annotations

from dia_repro.experiments.spec import DIALSTMAttention, ModelSpec, SEAttention


def describe_model(model: ModelSpec) -> str:
    """E.g. "resnet164 dia-lstm r=4", with what is unusual about it."""
    parts = [f"{model.backbone.family}{model.backbone.depth}"]
    if model.backbone.block != "bottleneck":
        parts.append(model.backbone.block)
    match model.attention:
        case SEAttention(kind=kind, reduction=reduction):
            parts.append(f"{kind} r={reduction}")
        case DIALSTMAttention() as lstm:
            parts.append(f"{lstm.kind} r={lstm.reduction}")
            if lstm.activation != "sigmoid":
                parts.append(lstm.activation)
            if lstm.cells != 1:
                parts.append(f"{lstm.cells} cells")
            if lstm.stages != (1, 2, 3):
                parts.append(f"stages {','.join(map(str, lstm.stages))}")
    parts += [] if model.norm else ["no norm"]
    parts += [] if model.skip else ["no skip"]
    return " ".join(parts)
