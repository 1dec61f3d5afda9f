"""Number of processors that this process may use: its CPU affinity and its quota of CPU time."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

SELF = Path("/proc/self")
# Lines of its `cgroup` (controllers, path) and `mountinfo` (root, mount point, type, options): see
# proc(5). Unknown lines are left out.
GROUP = re.compile(r"\d+:([^:]*):(/.*)", re.DOTALL)
MOUNT = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) (?:.* )?- (\S+) \S* (\S+)", re.DOTALL)


def cores() -> int:
    """Return the number of CPUs that this process may use, at least 1.

    A container often has a quota of CPU time: with more threads than CPUs' worth of time, all are
    stopped for a part of each period.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.floor(min(bound or 1, cpu_quota())))


def cpu_quota(process: Path = SELF) -> float:
    """Return the CPUs' worth of time that control groups allow, of version 1 or 2; else infinity.

    Args:
        process: folder of /proc with `cgroup` and `mountinfo`.
    """
    return min(map(_quota_of, _folders(process)), default=math.inf)


def _folders(process: Path) -> Iterator[Path]:
    """Yield the process's control groups that can limit CPU time, and the groups around each."""
    try:
        mounts = os.fsdecode((process / "mountinfo").read_bytes()).split("\n")
        groups = os.fsdecode((process / "cgroup").read_bytes()).split("\n")
    except OSError:  # no Linux
        return
    paths = {found[1]: found[2] for found in map(GROUP.fullmatch, groups) if found}
    for root, mount, system, options in (m.groups() for m in map(MOUNT.fullmatch, mounts) if m):
        controls_cpu = system == "cgroup" and "cpu" in options.split(",")
        if not controls_cpu and system != "cgroup2":
            continue
        named = (path for names, path in paths.items() if "cpu" in names.split(","))
        path = paths.get("", "/") if system == "cgroup2" else next(named, "/")
        # What is mounted may be a container's own group, whose path is the host's.
        inside = path.removeprefix(root) if root != "/" else path
        own = Path(mount, inside.lstrip("/"))
        yield from (own, *own.parents[: len(own.parts) - len(Path(mount).parts)])


def _quota_of(group: Path) -> float:
    """Return a group's quota in CPUs, by `cpu.max` or `cpu.cfs_quota_us`; infinity without one."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # no limit: no such file, or "max"
        return math.inf
