"""Short names of networks and data, for lists."""

from __future__ import annotations

from dia_repro.experiments.spec import DataSpec, InvalidSpecError, ModelSpec, RecipeSpec, Spec


def describe_data(data: DataSpec) -> str:
    """Return e.g. "cifar100" or "cifar100 not augmented", "digits 32×32"."""
    parts = [data.dataset]
    own = data.content_hash is not None
    if own or (data.dataset, data.image_size) == ("digits", 32):
        parts.append(f"{data.image_size}×{data.image_size}")
    if data.augmentation == "none" and data.dataset != "digits":
        parts.append("not augmented")
    return " ".join(parts)


def describe_model(model: ModelSpec) -> str:
    """Return e.g. "resnet164 dia-lstm r=4", with what is unusual about it."""
    parts = [model.backbone.label]
    parts += [model.attention.label] if model.attention.label else []
    parts += [] if model.norm else ["no norm"]
    parts += [] if model.skip else ["no skip"]
    return " ".join(parts)


def describe_stored(spec_id: str, text: str) -> str:
    """Return the network and data of a database's spec, or its id where it cannot be read."""
    try:
        spec = Spec.from_stored(text)
    except InvalidSpecError:
        return f"spec {spec_id}, which cannot be read"
    return f"{describe_model(spec.model)} on {describe_data(spec.data)}"


def describe_recipe(recipe: RecipeSpec) -> str:
    """Return e.g. "180 epochs of batch 128 at rate 0.1, 0.01 after epoch 60, momentum 0.9, …"."""
    epochs = f"{recipe.epochs} epoch{'' if recipe.epochs == 1 else 's'}"
    parts = [f"{epochs} of batch {recipe.batch_size} at rate {recipe.lr:g}"]
    for epoch in sorted(set(recipe.milestones)):  # on a short schedule several cuts can meet
        cuts = sum(milestone <= epoch for milestone in recipe.milestones)
        parts.append(f"{recipe.lr * recipe.gamma**cuts:g} after epoch {epoch}")
    parts += [f"momentum {recipe.momentum:g}", f"weight decay {recipe.weight_decay:g}"]
    return ", ".join(parts)
