"""What processes have taken of the processor, from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def cpu_seconds() -> float:
    """Of this process and all its descendants, those included that have ended; nan elsewhere.

    A descendant whose parent has died counts no longer: ask before and after while both live.
    """
    if not (PROC / "self/stat").exists():
        return float("nan")
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (fields := _fields(folder)):
            number = int(folder.name)
            parents[number] = int(fields[1])
            ticks[number] = sum(map(int, fields[11:15]))  # its own and its waited-for children's
    ours = {os.getpid()}
    found = ours
    while found:
        found = {number for number, parent in parents.items() if parent in found} - ours
        ours |= found
    return sum(ticks.get(number, 0) for number in ours) / os.sysconf("SC_CLK_TCK")


def _fields(folder: Path) -> list[str]:
    """Of a process's stat, those behind its name, which may hold anything; none if it is gone."""
    try:
        return (
            (folder / "stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return []
