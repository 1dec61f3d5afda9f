"""Artifacts that a selection chooses, with their results in a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dia_repro.artifacts import TableArtifact, TableValue, choose
from dia_repro.artifacts.explanation import Experiment, Findings, explain
from dia_repro.artifacts.lookup import find_entry
from dia_repro.artifacts.selection import best_covered, usual_names
from dia_repro.claims.verdicts import ClaimVerdict, Epoch
from dia_repro.errors import UsageError
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.options import DEFAULT_DATA, DEFAULT_DATABASE, Selection, command_line
from dia_repro.execution.requests import find_data, names_of_claims, narrowed, wanted
from dia_repro.execution.schedules import other_lengths, other_rates
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.results.database import Database
from dia_repro.results.schema import OURS


class Chosen:
    """Artifacts that a selection chooses, and the database with their results.

    Args:
        names: names of artifacts; by default `all`, and the controls that have runs.
        data: folder of downloaded data sets.

    Raises:
        DiaReproError: there is no such artifact, attention kind, network or data set.
    """

    def __init__(
        self,
        names: Sequence[str] | None,
        selection: Selection,
        database: Database,
        data: Path = DEFAULT_DATA,
        dialogue: Dialogue | None = None,
    ) -> None:
        self.selection, self.database, self.data = selection, database, data
        self.dialogue = dialogue or Dialogue()
        choose(names or (), selection.attention)  # refused before folders are looked through
        self.wanted = wanted(selection, find_data(selection, data, self.dialogue, database))
        artifacts = choose(names or usual_names(database, self.wanted), selection.attention)
        self.artifacts = narrowed(artifacts, selection.only)

    @property
    def one(self) -> TableArtifact:
        """Return the artifact.

        Raises:
            UsageError: there are several.
        """
        if len(self.artifacts) != 1:
            raise UsageError("name one table or figure: a cell is in one")
        return self.artifacts[0]

    @property
    def places(self) -> dict[str, object]:
        """Return the options that say where database and data are, where it is not the default."""
        here = self.database.location == DEFAULT_DATABASE
        return {
            "db": None if here else self.database.name,
            "data": None if self.data == DEFAULT_DATA else self.data,
        }

    def request(self, artifact: TableArtifact) -> Request:
        """Return the request that most runs of an artifact answer, as far as nothing is fixed."""
        return best_covered(artifact, self.database, self.wanted)

    def value(self, artifact: TableArtifact) -> TableValue:
        """Return an artifact's cells."""
        return artifact.compute(self.database, self.request(artifact), self.selection.seeds)

    def told(self, artifact: TableArtifact) -> TableValue:
        """Return an artifact's cells; say how to train its runs where there are none."""
        value = self.value(artifact)
        if not any(cell.n or cell.diverged for cell in value.cells):
            asked = replace(self.selection, protocol=value.request.protocol)
            command = command_line("run", artifact.name, options=asked, **self.places)
            name = f"{artifact.name} in {self.database.name}"
            self.dialogue.notice(f"No finished runs for {name} yet: {command}")
            requests = [value.request]
            if self.selection.protocol is None:
                demo = replace(value.request, protocol=Protocol.DEMO, precision=Precision.FP32)
                requests.append(demo)
            specs = [spec for asked in requests for spec in artifact.specs(asked).values()]
            if found := other_lengths(self.database, specs):
                self.dialogue.notice(f"{found} --epochs shows them.")
            if found := other_rates(self.database, specs):
                self.dialogue.notice(f"{found} --rate shows them.")
            if others := self.database.origins() if self.database.origin == OURS else ():
                self.dialogue.notice(f"It has runs of {', '.join(others)}: --origin shows them.")
        return value

    def explain(self, row: str, column: str, metric: str | None) -> Findings:
        """Return where a cell of the one artifact comes from; see `Results.explain`."""
        entry, request = find_entry(self.one, row, column), self.request(self.one)
        seeds = self.selection.seeds
        return explain(self.one, self.database, request, entry, metric=metric, seeds=seeds)

    def claims(self, by: Epoch) -> tuple[ClaimVerdict, ...]:
        """Return the verdicts on claims on the artifacts."""
        from dia_repro.claims.evaluate import evaluate_claims

        about = names_of_claims(self.artifacts, self.selection.only)
        verdicts = evaluate_claims(self.database, self.wanted, by)
        return tuple(verdict for verdict in verdicts if verdict.claim in about)


def training_command(
    value: TableValue, experiment: Experiment, selection: Selection, **places: object
) -> str:
    """Return the command that trains one experiment of an artifact, and no other.

    Args:
        selection: by which the experiment was chosen.
        places: further options of the command, by name.
    """
    protocol = value.request.protocol
    chosen = replace(
        selection,
        protocol=None if protocol is Protocol.PAPER else protocol,
        seeds=None if value.seeds.numbers == (0,) else value.seeds,
        only=(experiment.words,),
        precision=Precision(experiment.spec.precision) if experiment.precision_said else None,
    )
    return command_line("run", value.artifact.name, options=chosen, **places)
