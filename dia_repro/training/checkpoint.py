"""Checkpoints that are whole or not there.

A file's name carries the first 32 hexadecimal digits of the SHA-256 of its bytes, since
`torch.load` verifies nothing: `epoch-0007-step-00000-<sha256>.pt`. So a half-written one is
recognised in any store; the one before it is kept.
"""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import torch

from dia_repro.atomic import PARTIAL
from dia_repro.errors import reason_of
from dia_repro.experiments.names import Keep
from dia_repro.training.store import CheckpointError, Store

KEEP = 2
RUN = "run"  # in a checkpoint: spec_id and seed of its run
DIGEST_DIGITS = 32
# Parts of a path. A database may come from anywhere, and could hold "/.." instead.
SPEC_ID, UID = re.compile(r"\d{1,4}-[0-9a-f]{16}"), re.compile(r"[0-9a-f]{32}")
NAME = re.compile(rf"epoch-\d+-step-\d+-[0-9a-f]{{{DIGEST_DIGITS}}}\.pt")
DAMAGED = ".damaged"


@dataclass(frozen=True)
class Loaded:
    """The newest sound checkpoint.

    Attributes:
        damaged: names of newer files that were skipped: their bytes do not match their name.
    """

    name: str
    content: dict[str, Any]
    damaged: tuple[str, ...]


def run_folder(store: Store, spec_id: str, seed: int, uid: str, *, ours: bool = True) -> Store:
    """Return the folder of a run's checkpoints; copies of a database name the same one.

    Args:
        ours: False for a run of others, which may have the spec and seed of one of ours: its folder
            has its whole uid, so that it is never that of ours.

    Raises:
        CheckpointError: an id is not one that dia-repro makes.
    """
    if not (SPEC_ID.fullmatch(spec_id) and UID.fullmatch(uid) and seed >= 0):
        raise CheckpointError(
            f"run {uid!r} of spec {spec_id!r} was not made by dia-repro: see 'dia-repro db check'"
        )
    return store.part(f"{spec_id}/seed-{seed}-{uid[:8] if ours else uid}")


def save(
    folder: Store, content: dict[str, Any], epoch: int, step: int, *, spare: int | None = None
) -> str:
    """Write a checkpoint, keep `KEEP` files in all, and return the name of the new one.

    Args:
        folder: folder of one run; made if need be.
        content: tensors and plain values.
        epoch, step: number of epochs done, and of steps in the epoch under way.
        spare: epoch whose end is kept too.

    Raises:
        CheckpointError: it cannot be written; the earlier files are untouched.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    whole = buffer.getvalue()
    name = f"epoch-{epoch:04d}-step-{step:05d}-{_digest(whole)}.pt"
    folder.write(name, whole)
    with suppress(CheckpointError):  # what is left now is removed with the next one
        found = folder.names()
        unfinished = [other for other in found if other.endswith(PARTIAL)]  # of killed writes
        old = [other for other in _sorted(found)[KEEP:] if _parse(other)[:2] != (spare, 0)]
        for other in unfinished + old:
            folder.remove(other)
    return name


def retain(folder: Store, keep: Keep, best: int | None) -> bool:
    """Remove what is no longer needed of a run that is done, damaged files too.

    Args:
        best: the best epoch; where the checkpoint of its end is missing, the last one is kept.

    Returns:
        Whether the checkpoint that was to stay is there.
    """
    names = sorted_names(folder)
    kept = names[:1] if keep is not Keep.NONE else []
    if keep is Keep.BEST:
        kept = [name for name in names if _parse(name)[:2] == (best, 0)][:1] or kept
    for name in folder.names():
        if name not in kept and (name in names or name.endswith(DAMAGED)):
            folder.remove(name)
    return keep is not Keep.BEST or any(_parse(name)[:2] == (best, 0) for name in kept)


def load_newest(folder: Store) -> Loaded | None:
    """Return the newest checkpoint whose bytes match its name, None without one.

    Raises:
        CheckpointError: a file cannot be read, or matches its name and torch does not load it:
            memory or the environment is at fault. The file stays, and training must not restart.
    """
    damaged: list[str] = []
    for name in sorted_names(folder):
        content = folder.read(name)
        if _digest(content) == _parse(name)[2]:
            return Loaded(name, _load(content, folder.shown(name)), tuple(damaged))
        damaged.append(name)
    return None


def _load(content: bytes, shown: str) -> dict[str, Any]:
    """Return the content of a sound checkpoint."""
    try:
        # Weights alone: a checkpoint runs no code.
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's or torch's, and MemoryError
        reason = reason_of(error)
        raise CheckpointError(f"{shown} is sound, but torch cannot load it: {reason}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{shown} holds no training state: dia-repro did not write it")
    return loaded


def put_aside(folder: Store, name: str) -> None:
    """Rename a damaged checkpoint, which would otherwise count among those that are kept."""
    folder.write(name + DAMAGED, folder.read(name))
    folder.remove(name)


def sorted_names(folder: Store) -> list[str]:
    """Return the names of a run's finished checkpoints, newest first."""
    return _sorted(folder.names())


def _sorted(names: list[str]) -> list[str]:
    return sorted(filter(NAME.fullmatch, names), key=_parse, reverse=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS]


def _parse(name: str) -> tuple[int, int, str]:
    """Return epoch, step and digest of the name of a checkpoint."""
    _, epoch, _, step, digest = PurePath(name).stem.split("-")
    return int(epoch), int(step), digest
