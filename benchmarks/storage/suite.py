"""All checks of storage, quick and full."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.measurements import CheckResult, NotRunnable
from benchmarks.storage.faults import broken_among, killed_trainings, killed_upgrades
from benchmarks.storage.files import damaged_checkpoints, full_disk
from benchmarks.storage.scale import large_database
from benchmarks.storage.writers import lease_the_same, write_and_read

Check = Callable[[], CheckResult]


def checks(*, full: bool, folder: Path) -> Iterator[CheckResult]:
    """Run all checks, one after the other.

    Args:
        full: run the checks of the README's table (ten minutes); otherwise smaller ones (two).
        folder: folder on the disk to check; left as it was.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="storage-") as place:
        location = str(Path(place) / "runs.db")
        named: dict[str, Check] = {
            "writers and readers": partial(
                write_and_read, location, *((16, 200) if full else (8, 40))
            ),
            "leases": partial(lease_the_same, *((8, 40) if full else (4, 8))),
            "kills while training": partial(killed_trainings, 50 if full else 8),
            "damaged checkpoints": partial(damaged_checkpoints, 1000),
            "full disk": full_disk,
            "kills while upgrading": partial(killed_upgrades, 30 if full else 8),
            "broken runs": partial(broken_among, 20 if full else 8),
        }
        for name, check in named.items():
            yield timed(name, check)
    if full:
        yield from large_database(10_000, 200)


def timed(name: str, check: Check) -> CheckResult:
    """Return the result of a check with its duration, or the reason why it cannot run here."""
    begun = time.perf_counter()
    try:
        result = check()
    except NotRunnable as reason:
        result = CheckResult(name, str(reason), None)
    return replace(result, seconds=time.perf_counter() - begun)
