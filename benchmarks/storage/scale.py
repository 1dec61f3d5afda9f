"""Commands on a database of ten thousand runs."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import insert

from benchmarks.measurements import CheckResult
from benchmarks.storage.writers import PROVENANCE
from dia_repro.artifacts import choose
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import EpochRow, ProvenanceRow, RunRow, SpecRow, State, now

# Seconds on two cores.
BOUNDS = {
    ("show", "table5"): 2.0,
    ("runs", "list"): 2.0,
    ("report",): 20.0,
    ("runs", "export", "exported"): 60.0,
}


def large_database(runs: int, epochs: int) -> Iterator[CheckResult]:
    """Fill a database with runs of the paper's experiments, and time commands on it."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        _fill(Path(folder) / "runs.db", runs, epochs)
        size = (Path(folder) / "runs.db").stat().st_size
        yield CheckResult(
            f"a database of {runs:,} runs with {epochs} epochs each",
            f"{size / 1e6:,.0f} MB",
            True,
            time.perf_counter() - begun,
        )
        for command, bound in BOUNDS.items():
            seconds, memory, code = _timed(command, Path(folder))
            yield CheckResult(
                f"dia-repro {' '.join(command)}, {runs:,} runs",
                f"{seconds:.1f} s of {bound:g} s, {memory / 1e6:,.0f} MB",
                code == 0 and seconds <= bound,
                seconds,
            )


def _timed(command: tuple[str, ...], folder: Path) -> tuple[float, int, int]:
    """Return the seconds, peak memory in bytes, and exit code of a command."""
    begun = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-P", "-c", _WITH_MEMORY, *command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begun
    memory = process.stderr.rpartition("memory ")[2].strip()
    return seconds, int(memory) if memory.isdigit() else 0, process.returncode


# The kernel counts a child's memory from its parent's, so the command reports its own peak.
_WITH_MEMORY = """
import sys
from dia_repro.cli.main import main
try:
    main()
finally:
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            print("memory", 1024 * int(line.split()[1]), file=sys.stderr)
"""


def _fill(path: Path, runs: int, epochs: int) -> None:
    specs = _specs()
    seeds = math.ceil(runs / len(specs))
    rng = random.Random(0)
    database = open_database(str(path), create=True)
    moment = now()
    with database.writing() as session:
        rows = [{"spec_id": spec.spec_id, "json": spec.canonical_json()} for spec in specs]
        session.execute(insert(SpecRow), rows)
    number = 0
    for spec in specs:
        numbers = range(number + 1, min(number + seeds, runs) + 1)
        number = numbers[-1] if numbers else number
        if numbers:
            _fill_spec(database, spec, numbers, epochs, rng, moment)
    database.close()


def _fill_spec(
    database: Database, spec: Spec, numbers: range, epochs: int, rng: random.Random, moment: object
) -> None:
    runs = [
        {
            "id": number,
            "uid": f"{number:032x}",
            "spec_id": spec.spec_id,
            "seed": seed,
            "state": State.FINISHED.value,
            "parameters": 1_700_000,
            "created_at": moment,
            "changed_at": moment,
        }
        for seed, number in enumerate(numbers)
    ]
    attempts = [{**PROVENANCE, "run_id": run["id"], "started_at": moment} for run in runs]
    values = [
        {
            "run_id": run["id"],
            "epoch": epoch,
            "lr": 0.1,
            "train_loss": 1.0 / epoch,
            "train_top1": 90.0,
            "test_loss": 1.0,
            "test_top1": 70.0 + 5 * rng.random(),
            "seconds": 30.0,
        }
        for run in runs
        for epoch in range(1, epochs + 1)
    ]
    with database.writing() as session:
        session.execute(insert(RunRow), runs)
        session.execute(insert(ProvenanceRow), attempts)
        session.execute(insert(EpochRow), values)


def _specs() -> list[Spec]:
    """Return the experiments of the paper and the demo, without duplicates."""
    found: dict[str, Spec] = {}
    for protocol in (Protocol.PAPER, Protocol.DEMO):
        precision = Precision.TF32 if protocol is Protocol.PAPER else Precision.FP32
        request = Request(protocol, precision, None, precision_asked=False)
        for artifact in choose(["all"]):
            found |= {spec.spec_id: spec for spec in artifact.specs(request).values()}
    return list(found.values())
