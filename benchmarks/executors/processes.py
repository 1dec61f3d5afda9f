"""Processor time of processes, from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def cpu_seconds() -> float:
    """Return the time of this process and its descendants, ended ones included; nan without /proc.

    A descendant whose parent has ended is not counted.
    """
    if not (PROC / "self/stat").exists():
        return float("nan")
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (fields := _fields(folder)):
            number = int(folder.name)
            parents[number] = int(fields[1])
            ticks[number] = sum(map(int, fields[11:15]))  # with its children's that it waited for
    ours = {os.getpid()}
    found = ours
    while found:
        found = {number for number, parent in parents.items() if parent in found} - ours
        ours |= found
    return sum(ticks.get(number, 0) for number in ours) / os.sysconf("SC_CLK_TCK")


def _fields(folder: Path) -> list[str]:
    """Return the fields of a process's stat after its name, or none if the process is gone."""
    try:
        text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()  # the name may contain anything
