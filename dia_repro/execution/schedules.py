"""Runs of the same networks by another schedule, which cannot be reused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from dia_repro.experiments.spec import InvalidSpecError, RecipeSpec, Spec
from dia_repro.results.database import Database
from dia_repro.results.queries import all_spec_json, runs_of
from dia_repro.results.schema import DONE


def other_lengths(database: Database, wanted: Iterable[Spec]) -> str | None:
    """Return a sentence on runs that differ from wanted ones in the number of epochs alone, if any.

    It says why nothing of them is reused: the number of epochs sets the schedule of the learning
    rate, and a training over more epochs does not begin as one over fewer goes on.
    """
    pairs, count = _begun(database, wanted, _longer)
    if not pairs:
        return None
    parted = [epoch for own, other in pairs if (epoch := _parted(own.recipe, other.recipe))]
    why = "the number of epochs is part of an experiment"
    if parted:
        why = f"the learning rate differs from epoch {min(parted)} on"
    return (
        f"{database.name} has {count} run{'' if count == 1 else 's'} of these networks over "
        f"{_lengths(other for _, other in pairs)}. Over {_lengths(own for own, _ in pairs)} it is "
        f"another experiment, which reuses nothing of them: {why}."
    )


def other_rates(database: Database, wanted: Iterable[Spec]) -> str | None:
    """Return a sentence on runs that differ from wanted ones in the learning rate alone, if any."""
    pairs, count = _begun(database, wanted, _at_another_rate)
    if not pairs:
        return None
    rates = ", ".join(f"{rate:g}" for rate in sorted({other.recipe.lr for _, other in pairs}))
    runs = f"{count} run{'' if count == 1 else 's'}"
    return f"{database.name} has {runs} of these networks at another learning rate ({rates})."


def _begun(
    database: Database, wanted: Iterable[Spec], alike: Callable[[Spec, Spec], bool]
) -> tuple[list[tuple[Spec, Spec]], int]:
    """Return pairs of a wanted experiment and one like it with runs, and the number of these runs.

    Args:
        alike: whether a stored experiment (second) is like a wanted one (first).
    """
    specs = set(wanted)
    pairs = [(own, other) for other in _stored(database) for own in specs if alike(own, other)]
    begun = {
        spec_id: sum(run.epochs > 0 or run.state in DONE for run in runs)
        for spec_id, runs in runs_of(database, {other.spec_id for _, other in pairs}).items()
    }
    pairs = [(own, other) for own, other in pairs if begun[other.spec_id]]
    return pairs, sum(begun[spec_id] for spec_id in {other.spec_id for _, other in pairs})


def _stored(database: Database) -> Iterator[Spec]:
    for text in all_spec_json(database):
        with suppress(InvalidSpecError):  # it is none of the networks that can be trained here
            yield Spec.from_stored(text)


def _longer(own: Spec, other: Spec) -> bool:
    """Return whether two experiments differ in the number of epochs and its consequences alone."""
    length = {"epochs": own.recipe.epochs, "milestones": own.recipe.milestones}
    as_long = other.model_copy(update={"recipe": other.recipe.model_copy(update=length)})
    return own.recipe.epochs != other.recipe.epochs and as_long == own


def _at_another_rate(own: Spec, other: Spec) -> bool:
    """Return whether two experiments differ in the initial learning rate alone."""
    rate = {"lr": own.recipe.lr}
    as_fast = other.model_copy(update={"recipe": other.recipe.model_copy(update=rate)})
    return own.recipe.lr != other.recipe.lr and as_fast == own


def _parted(own: RecipeSpec, other: RecipeSpec) -> int | None:
    """Return the first epoch, from 1, in which both train and learning rates differ."""
    both = range(min(own.epochs, other.epochs))
    return next((e + 1 for e in both if own.rate_in(e) != other.rate_in(e)), None)


def _lengths(specs: Iterable[Spec]) -> str:
    """Return numbers of epochs, e.g. "2 and 8 epochs"."""
    *most, last = sorted({spec.recipe.epochs for spec in specs})
    epochs = "epoch" if not most and last == 1 else "epochs"
    return f"{', '.join(map(str, most))} and {last} {epochs}" if most else f"{last} {epochs}"
