"""Choice of the protocol and precision that are shown where the user has not fixed them."""

from __future__ import annotations

from dataclasses import dataclass

from dia_repro.artifacts import ARTIFACTS, CONTROLS
from dia_repro.artifacts.table import TableArtifact
from dia_repro.data import DataChoice, known_data, own_images
from dia_repro.errors import UsageError
from dia_repro.experiments.names import Precision, Protocol, SelectOn
from dia_repro.experiments.protocols import GPU_PRECISION, Request
from dia_repro.experiments.seeds import Seeds
from dia_repro.experiments.spec import DataSpec, Spec
from dia_repro.results.database import Database
from dia_repro.results.queries import states_of
from dia_repro.results.schema import DONE

# The order breaks ties: the paper's protocol first, a protocol's default on a GPU first.
PROTOCOLS = (Protocol.PAPER, Protocol.DEMO)
PRECISIONS = (Precision.TF32, Precision.FP32, Precision.BF16)


@dataclass(frozen=True)
class Wanted:
    """Choices that the user has fixed; None leaves the choice to the database's content.

    Attributes:
        data: data in place of the artifact's own.
        epochs: length in place of the protocol's.
        seeds: seeds whose results are shown; None for all.
        select: images on which the accuracy chooses a run's epoch.
        rate: initial learning rate in place of the protocol's.
    """

    protocol: Protocol | None = None
    precision: Precision | None = None
    data: DataChoice | None = None
    epochs: int | None = None
    seeds: Seeds | None = None
    select: SelectOn = SelectOn.TEST
    rate: float | None = None


def best_covered(artifact: TableArtifact, database: Database, wanted: Wanted) -> Request:
    """Return the request that most runs in the database answer, within what the user has fixed.

    One request is chosen for the whole artifact: its cells never mix protocols or precisions.
    Runs with a result count before runs under way, and a protocol before a precision.
    """
    alone = wanted.seeds.numbers if wanted.seeds and wanted.seeds.chosen else None

    def coverage(request: Request) -> tuple[int, int]:
        specs = artifact.specs(request).values()
        states = states_of(database, (spec.spec_id for spec in specs), alone)
        return sum(state in DONE for state in states), len(states)

    candidates = []
    for protocol in (wanted.protocol,) if wanted.protocol else PROTOCOLS:
        usual = GPU_PRECISION[protocol]
        by_default = sorted(PRECISIONS, key=lambda precision: precision is not usual)
        for precision in (wanted.precision,) if wanted.precision else by_default:
            asked = wanted.precision is not None
            further = (wanted.epochs, wanted.select, wanted.rate)
            candidates.append(Request(protocol, precision, wanted.data, asked, *further))
    return max(candidates, key=coverage)


def is_needed(spec: Spec, artifact: TableArtifact) -> bool:
    """Return whether an artifact needs an experiment, by any protocol, length, rate and precision.

    On other data than the artifact's own, the artifact needs it if they were asked for.
    """
    epochs, precision = spec.recipe.epochs, Precision(spec.precision)
    select = SelectOn.TEST if spec.data.validation is None else SelectOn.VALIDATION
    further = (epochs, select, spec.recipe.lr)
    requests = (
        Request(protocol, precision, asked, True, *further)
        for protocol in PROTOCOLS
        for asked in (None, _choice_of(spec.data))
    )
    candidates = [entry for entry in artifact.entries if entry.model == spec.model]
    return any(entry.spec(request) == spec for request in requests for entry in candidates)


def _choice_of(data: DataSpec) -> DataChoice | None:
    """Return the data as a user asks for them; None where no such data are registered here."""
    if data.content_hash is not None:
        own = own_images(data.dataset, data.classes, data.image_size, data.content_hash)
        return DataChoice(own, None)
    try:
        return known_data(data.dataset)
    except UsageError:  # of another version of dia-repro, or of a module that is not loaded
        return None


def usual_names(database: Database, wanted: Wanted) -> list[str]:
    """Return the names that are shown by default: `all`, and the controls that have runs.

    Runs of the paper's networks do not count as runs of a control.
    """
    papers = {entry.model for artifact in ARTIFACTS.values() for entry in artifact.entries}
    names = ["all"]
    for control in CONTROLS.values():
        request = best_covered(control, database, wanted)
        own = [entry for entry in control.entries if entry.model not in papers]
        if states_of(database, (entry.spec(request).spec_id for entry in own)):
            names.append(control.name)
    return names
