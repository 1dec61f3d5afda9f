"""Pages from databases that are known: runs that ended in every way, hostile names, none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dia_repro.artifacts import ARTIFACTS
from dia_repro.artifacts.explanation import gather
from dia_repro.artifacts.selection import Wanted, best_covered
from dia_repro.claims.evaluate import evaluate_claims
from dia_repro.data import DataChoice, own_images
from dia_repro.execution.options import Selection
from dia_repro.experiments.protocols import Request
from dia_repro.reports.chosen import Chosen
from dia_repro.reports.report import write_page
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import ProvenanceRow, RunRow
from tests.artifacts.known_runs import fill
from tests.artifacts.test_table5 import PAPER

HOSTILE = "<script>alert(1)</script>&\"'</title>"
HOSTILE_DATA = own_images(f"folder:{HOSTILE}", 10, 32, "a" * 64)
TABLES = ("table1", "table4", "table5", "table8", "figure5", "figure6")
# The smallest PNG there is: one pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001010000000037 6ef9240000000a49444154789c63"
    "6001000000020001 48afa471 0000000049454e44ae426082".replace(" ", "")
)


def known_database(path: Path, request: Request = PAPER) -> Database:
    """Runs of Tables 1, 4, 5 and 8 and of both figures: finished, diverged, failed, missing."""
    specs = [spec for name in TABLES for spec in ARTIFACTS[name].specs(request).values()]
    return fill(path, specs)


def hostile_database(path: Path) -> Database:
    """The same on a data set, on hosts and with reasons whose names are markup."""
    database = known_database(path, Request(PAPER.protocol, data=DataChoice(HOSTILE_DATA, None)))
    with database.writing() as session:
        for run in session.query(RunRow):
            run.reason = f"no memory {HOSTILE}"
        for attempt in session.query(ProvenanceRow):
            attempt.host = attempt.device = attempt.torch = attempt.package = HOSTILE
            attempt.git_commit = HOSTILE
    return database


def empty_database(path: Path) -> Database:
    return open_database(str(path), create=True)


def page(
    database: Database,
    path: Path,
    wanted: Wanted | None = None,
    names: Sequence[str] = tuple(ARTIFACTS),
    drawn: Mapping[str, Path] | None = None,
) -> str:
    """The page of these artifacts, written to a path and read again."""
    wanted = wanted or Wanted()
    findings = {}
    for name in names:
        artifact = ARTIFACTS[name]
        value = artifact.compute(database, best_covered(artifact, database, wanted))
        findings[name] = gather(database, value)
    claims = evaluate_claims(database, wanted)
    chosen = Chosen((), Selection(), database, path.parent)
    chosen.wanted = wanted
    write_page(path, chosen, findings, claims, drawn or {})
    return path.read_text(encoding="utf-8")


def hostile_page(folder: Path) -> str:
    """A page whose every text from the database is markup."""
    database = hostile_database(folder / "hostile.db")
    return page(database, folder / "hostile.html", Wanted(data=DataChoice(HOSTILE_DATA, None)))


def pictures(folder: Path) -> dict[str, Path]:
    """Figures 5 and 6 as files, of one pixel each."""
    files = {name: folder / f"{name}.png" for name in ("figure5", "figure6")}
    for file in files.values():
        file.write_bytes(PIXEL)
    return files
