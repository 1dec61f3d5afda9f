"""Checkpoints that are whole or not there.

A file's name carries the first 32 hexadecimal digits of the SHA-256 of its bytes, since
`torch.load` verifies nothing: `epoch-0007-step-00000-<sha256>.pt`. A new one is written under
another name, flushed to the disk and renamed; the one before it is kept.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dia_repro.errors import DiaReproError
from dia_repro.experiments.names import Keep

KEEP = 2
DIGEST_DIGITS = 32
NAME = re.compile(rf"epoch-(\d+)-step-(\d+)-([0-9a-f]{{{DIGEST_DIGITS}}})\.pt")


class CheckpointError(DiaReproError):
    """A checkpoint cannot be written, or belongs to another run."""


@dataclass(frozen=True)
class Loaded:
    """The newest sound checkpoint.

    Attributes:
        path: its file.
        content: what was saved.
        damaged: newer files that were passed over because their bytes do not match their name.
    """

    path: Path
    content: dict[str, Any]
    damaged: tuple[Path, ...] = field(default=())


def run_folder(checkpoints: Path, spec_id: str, seed: int, uid: str) -> Path:
    """Where a run keeps its lock and checkpoints; no two databases share one."""
    return checkpoints / spec_id / f"seed-{seed}-{uid[:8]}"


def save(
    folder: Path, content: dict[str, Any], epoch: int, step: int, *, spare: int | None = None
) -> Path:
    """Write a checkpoint and keep `KEEP` files in all.

    Args:
        folder: of one run; made if need be.
        content: tensors and plain values.
        epoch: epochs done.
        step: steps done in the epoch under way.
        spare: the end of this epoch is kept too.

    Raises:
        CheckpointError: it cannot be written; the earlier files are untouched.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:DIGEST_DIGITS]
    path = folder / f"epoch-{epoch:04d}-step-{step:05d}-{digest}.pt"
    partial = path.with_suffix(".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            _sync_file(file)
        partial.replace(path)
        _sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = error.strerror or error
        raise CheckpointError(f"cannot write a checkpoint to {folder}: {reason}") from error
    for old in sorted_files(folder)[KEEP:]:
        if _parse(old)[:2] != (spare, 0):
            old.unlink(missing_ok=True)
    return path


def retain(folder: Path, keep: Keep, best: int | None) -> None:
    """Remove what is no longer needed of a run that is done.

    Args:
        best: the epoch whose end is the best; where its file is not there, the last one is kept.
    """
    files = sorted_files(folder)
    kept = files[:1] if keep is not Keep.NONE else []
    if keep is Keep.BEST:
        kept = [path for path in files if _parse(path)[:2] == (best, 0)][:1] or kept
    for path in files:
        if path not in kept:
            path.unlink(missing_ok=True)


def load_newest(folder: Path) -> Loaded | None:
    """The newest checkpoint whose bytes match its name, or None where there is none."""
    damaged: list[Path] = []
    for path in sorted_files(folder):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS] == _parse(path)[2]:
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return Loaded(path, loaded, tuple(damaged))
        damaged.append(path)
    return None


def sorted_files(folder: Path) -> list[Path]:
    """A run's checkpoints, newest first; unfinished writes are none."""
    found = [path for path in folder.glob("epoch-*.pt") if NAME.fullmatch(path.name)]
    return sorted(found, key=_parse, reverse=True)


def _parse(path: Path) -> tuple[int, int, str]:
    match = NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path} is not a checkpoint's name")
    return int(match[1]), int(match[2]), match[3]


def _sync_file(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
