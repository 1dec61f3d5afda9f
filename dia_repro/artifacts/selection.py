"""Which protocol and precision to show where the user has not said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dia_repro.artifacts import ARTIFACTS, CONTROLS
from dia_repro.artifacts.table import TableArtifact
from dia_repro.data import DataChoice, known_data, own_images
from dia_repro.errors import UsageError
from dia_repro.experiments.names import Precision, Protocol
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
    """Choices that the user has fixed; None leaves one to the database's content.

    Attributes:
        data: other data than the artifact's own; None for its own.
        epochs: another length than the protocol's; None for its own.
        seeds: those whose results are shown; None for all.
    """

    protocol: Protocol | None = None
    precision: Precision | None = None
    data: DataChoice | None = None
    epochs: int | None = None
    seeds: Seeds | None = None


def best_covered(artifact: TableArtifact, database: Database, wanted: Wanted) -> Request:
    """Return the request that most runs in the database answer, within what the user has fixed.

    One request is chosen for the whole artifact: its cells never mix protocols or precisions.
    Runs with a result count before runs under way, and a protocol before a precision.
    """
    return best_covered_by_all((artifact,), database, wanted)


def best_covered_by_all(
    artifacts: Sequence[TableArtifact], database: Database, wanted: Wanted
) -> Request:
    """Return the same request for several artifacts, chosen as by `best_covered`."""
    asked = wanted.precision is not None
    alone = wanted.seeds.numbers if wanted.seeds and wanted.seeds.chosen else None
    candidates = [
        Request(protocol, precision, wanted.data, precision_asked=asked, epochs=wanted.epochs)
        for protocol in ((wanted.protocol,) if wanted.protocol else PROTOCOLS)
        for precision in ((wanted.precision,) if wanted.precision else _precisions(protocol))
    ]

    def coverage(request: Request) -> tuple[int, int]:
        specs = [spec for one in artifacts for spec in one.specs(request).values()]
        states = states_of(database, (spec.spec_id for spec in specs), alone)
        return sum(state in DONE for state in states), len(states)

    return max(candidates, key=coverage)


def is_needed(spec: Spec, artifact: TableArtifact) -> bool:
    """Return whether an artifact needs an experiment, by any protocol, length and precision.

    On other data than the artifact's own, the artifact needs it if they were asked for.
    """
    epochs, precision = spec.recipe.epochs, Precision(spec.precision)
    requests = (
        Request(protocol, precision, asked, precision_asked=True, epochs=epochs)
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
    """Return what is shown where nothing is named: `all`, and the controls that have runs.

    Runs of the paper's networks are none of a control.
    """
    papers = {entry.model for artifact in ARTIFACTS.values() for entry in artifact.entries}
    names = ["all"]
    for control in CONTROLS.values():
        request = best_covered(control, database, wanted)
        own = [entry for entry in control.entries if entry.model not in papers]
        if states_of(database, (entry.spec(request).spec_id for entry in own)):
            names.append(control.name)
    return names


def _precisions(protocol: Protocol) -> list[Precision]:
    return sorted(PRECISIONS, key=lambda precision: precision is not GPU_PRECISION[protocol])
