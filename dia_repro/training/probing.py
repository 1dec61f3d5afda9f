"""Checks that a store of checkpoints is there and can be written to, before a training."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from dia_repro.errors import AbsentError, DiaReproError
from dia_repro.training.store import Store

Answer = TypeVar("Answer")
# Clients of object stores try again for minutes where no server answers.
ANSWER_SECONDS = 20.0


class NoStoreError(AbsentError):
    """Checkpoints cannot be kept there."""


@contextmanager
def probe(store: Store) -> Iterator[str]:
    """Write a small file, and remove it at the end; gives its name, for others to look for.

    Raises:
        NoStoreError: it cannot be written or removed, or the store does not answer.
    """
    name = f"probe-{secrets.token_hex(8)}"
    _in_time(store, lambda: store.write(name, name.encode()))
    try:
        yield name
    finally:
        _in_time(store, lambda: store.remove(name))


def check_reachable(store: Store) -> None:
    """Read the names in the store, which may be empty still.

    Raises:
        NoStoreError: it cannot be read, or does not answer.
    """
    _in_time(store, store.names)


def check_shared(store: Store, name: str) -> None:
    """Read on another machine the name of the file that `probe` wrote, and write another file.

    Raises:
        NoStoreError: this machine does not see it, or cannot write there.
    """
    if name not in _in_time(store, store.names):
        raise NoStoreError(
            f"{store.name} is not the one of the machine that started this: "
            "name a folder that all nodes share, or a URL, with --checkpoints"
        )
    with probe(store):
        pass


def _in_time(store: Store, action: Callable[[], Answer]) -> Answer:
    """Return what a store answers; raise `NoStoreError` for its errors, or without an answer."""
    answer: Future[Answer] = Future()

    def act() -> None:
        try:
            answer.set_result(action())
        except Exception as error:  # raised where the answer is waited for
            answer.set_exception(error)

    threading.Thread(target=act, name="probe", daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except TimeoutError as error:
        raise NoStoreError(
            f"{store.name} gives no answer within {ANSWER_SECONDS:.0f} seconds"
        ) from error
    except DiaReproError as error:
        raise NoStoreError(str(error)) from error
