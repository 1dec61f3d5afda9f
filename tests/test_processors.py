"""How many processors there are to use: affinity, and quotas of both versions of control groups."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from dia_repro.processors import cpu_quota
from tests.helpers import with_mounts

# What /proc/self has where version 1 and 2 are mounted, and in a container of each.
FIRST = ("4:memory:/m\n1:cpu,cpuacct:/outer/inner\n0::/\n", "cgroup", "rw,cpu,cpuacct")
SECOND = ("0::/outer/inner\n", "cgroup2", "rw")


def process_of(folder: Path, kind: tuple[str, str, str], root: str = "/") -> tuple[Path, Path]:
    """A process's folder of /proc, and where its control groups are mounted."""
    groups, system, options = kind
    mount, process = folder / "mount", folder / "self"
    process.mkdir()
    (mount / "outer" / "inner").mkdir(parents=True)
    (process / "cgroup").write_text(groups)
    (process / "mountinfo").write_text(
        "22 1 0:20 / /proc rw,relatime shared:12 - proc proc rw\n"
        f"30 22 0:26 {root} {mount} rw,nosuid shared:9 - {system} cgroup {options}\n"
    )
    return process, mount


def limit(group: Path, kind: tuple[str, str, str], quota: str) -> None:
    if kind is SECOND:
        (group / "cpu.max").write_text(f"{quota} 100000\n")
    else:
        (group / "cpu.cfs_quota_us").write_text(f"{-1 if quota == 'max' else quota}\n")
        (group / "cpu.cfs_period_us").write_text("100000\n")


@pytest.mark.parametrize("kind", [FIRST, SECOND], ids=["version 1", "version 2"])
def test_the_least_quota_of_the_groups_around_counts(
    kind: tuple[str, str, str], tmp_path: Path
) -> None:
    process, mount = process_of(tmp_path, kind)
    assert cpu_quota(process) == math.inf
    limit(mount / "outer" / "inner", kind, "max")
    assert cpu_quota(process) == math.inf
    limit(mount / "outer", kind, "250000")
    assert cpu_quota(process) == 2.5
    limit(mount / "outer" / "inner", kind, "50000")
    assert cpu_quota(process) == 0.5


@pytest.mark.parametrize("kind", [FIRST, SECOND], ids=["version 1", "version 2"])
def test_a_container_sees_its_own_group_at_the_mount(
    kind: tuple[str, str, str], tmp_path: Path
) -> None:
    process, mount = process_of(tmp_path, kind, root="/outer/inner")
    limit(mount, kind, "150000")
    assert cpu_quota(process) == 1.5


@pytest.mark.parametrize("name", ["mountinfo", "cgroup"])
@pytest.mark.parametrize(
    "line", [b"", b"junk", b"1 2 3 - 4", b"\xff\xfe - \xff", b"9 - - -", b"0:"]
)
def test_odd_lines_of_the_kernel_are_left_out(line: bytes, name: str, tmp_path: Path) -> None:
    process, mount = process_of(tmp_path, SECOND)
    limit(mount / "outer", SECOND, "250000")
    known = (process / name).read_bytes()
    (process / name).write_bytes(line + b"\n" + known + line)
    assert cpu_quota(process) == 2.5
    (process / name).write_bytes(line)
    assert cpu_quota(process) == math.inf


def test_mount_without_a_source_is_read(tmp_path: Path) -> None:
    program = "from dia_repro.processors import cores; print(cores())"
    inside = subprocess.run(
        [*with_mounts(f"mount -t tmpfs '' {tmp_path}"), sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert inside.returncode == 0, inside.stderr
    assert int(inside.stdout) >= 1


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf


def test_a_quota_of_one_cpu_leaves_one_of_all_cores(one_cpu: Path) -> None:
    program = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "from dia_repro.execution.machine import find_machine\n"
        "print(find_machine('cpu').cores)"
    )
    inside = subprocess.run(
        [sys.executable, "-c", program, str(one_cpu / "cgroup.procs")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert inside.stdout == "1\n"
