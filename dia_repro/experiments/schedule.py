"""The learning rate: cut by gamma at the start of the listed epochs (Tables 10 and 11)."""

from __future__ import annotations

from dia_repro.experiments.spec import RecipeSpec


def learning_rate(recipe: RecipeSpec, epoch: int) -> float:
    """The rate during an epoch, counted from 0."""
    cuts = sum(epoch >= milestone for milestone in recipe.milestones)
    return recipe.lr * recipe.gamma**cuts
