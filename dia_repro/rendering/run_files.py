"""The runs behind a report with logs and weights, as collections of models list them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dia_repro.rendering.escaping import markdown
from dia_repro.rendering.records import Record, to_csv
from dia_repro.rendering.trackers import epochs_by_run, name_of
from dia_repro.results.database import Database
from dia_repro.results.frames import EPOCHS, RUNS, records_of
from dia_repro.results.schema import EpochRow, RunRow

PAGE, LOGS, WEIGHTS = "runs.md", "logs", "weights"
HEADINGS = ("network", "data", "seed", "state", "#P (M)", "best %", "last %", "log", "weights")


def write_run_files(
    database: Database,
    runs: Sequence[int],
    folder: Path,
    weights: Callable[[int], bytes | None] | None = None,
) -> dict[str, Path]:
    """Write a log of each run, its weights where they are, and a page that links to them.

    Args:
        runs: their numbers.
        folder: an empty folder.
        weights: returns the content of a run's file of weights, None where there is none; without
            it no weights are written.

    Returns:
        The files by their names relative to the folder.
    """
    with database.reading() as session:
        records = records_of(session, RUNS, RunRow.id.in_(runs))
        epochs = epochs_by_run(session, EpochRow.run_id.in_(runs))
    files: dict[str, Path] = {}

    def write(name: str, content: bytes) -> None:  # at once: weights need not fit into memory
        files[name] = path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    lines = [f"| {' | '.join(HEADINGS)} |", f"|{' --- |' * len(HEADINGS)}"]
    for run in records:
        name = name_of(run)
        log, stored = f"{LOGS}/{name}.csv", f"{WEIGHTS}/{name}.safetensors"
        write(log, to_csv(EPOCHS.names, epochs.get(run["run"], [])).encode())
        content = weights(run["run"]) if weights else None
        if content is not None:
            write(stored, content)
        links = (f"[log]({log})", f"[weights]({stored})" if content is not None else "–")
        lines.append(f"| {' | '.join((*_values(run), *links))} |")
    write(PAGE, ("\n".join(lines) + "\n").encode())
    return files


def _values(run: Record) -> tuple[str, ...]:
    accuracies = (run["best_top1"], run["last_top1"])
    return (
        markdown(run["network"]),
        markdown(run["data"]),
        str(run["seed"]),
        run["state"],
        "–" if run["parameters"] is None else f"{run['parameters'] / 1e6:.2f}",
        *("–" if top1 is None else f"{top1:.2f}" for top1 in accuracies),
    )
