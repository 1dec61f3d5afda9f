"""Where a SQLite file lies: a network file system keeps its locks badly."""

from __future__ import annotations

from pathlib import Path

NETWORK_FILE_SYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "glusterfs",
    "gpfs",
    "lustre",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.s3fs",
)


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The kind of network file system that a path is on; None on others, or where unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:  # not Linux
        return None
    best, kind = "", ""
    place = str(path.resolve())  # a link may lead to a network file system
    for line in filter(None, lines):
        _, mounted, file_system, *_ = line.split(" ")
        folder = mounted.replace("\\040", " ").rstrip("/")
        if (place == folder or place.startswith(f"{folder}/")) and len(folder) >= len(best):
            best, kind = folder, file_system
    return kind if kind in NETWORK_FILE_SYSTEMS else None
