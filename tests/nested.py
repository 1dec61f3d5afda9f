"""Fork servers of what tests start, forked instead of started anew.

A command or a worker that starts processes has a fork server of its own, which imports torch, numba
and this package once more: eight seconds of processor time that a test gains nothing by.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import socket
from collections.abc import Sequence
from multiprocessing import forkserver as python_forkserver
from multiprocessing import util
from typing import Any

from dia_repro.interrupts import STOPPING

MOST_BYTES = 2**20
MOST_DESCRIPTORS = 8
_spawn = util.spawnv_passfds
_is_reserve = False


def install() -> None:
    """Give each process that is forked from this one a reserve: its first fork server."""
    os.register_at_fork(after_in_child=prepare)


def forget() -> None:
    """Have this process's fork server started anew, so that its libraries read the environment."""
    util.spawnv_passfds = _spawn


def prepare() -> None:
    """Fork the reserve before the process does anything: it copies no thread, lock or database."""
    global _is_reserve  # noqa: PLW0603 - a process is one or is none
    if _is_reserve:
        return
    ours, theirs = socket.socketpair()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    _is_reserve = True
    number = os.fork()
    if number == 0:
        ours.detach()
        _wait(theirs)
    _is_reserve = False
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
    theirs.close()

    def spawn(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
        if "multiprocessing.forkserver" in args[-1]:
            forget()
            request = pickle.dumps((args[-1], dict(os.environ), list(passfds)))
            with ours:
                try:
                    socket.send_fds(ours, [request], list(passfds))
                except OSError:  # it was killed
                    return _spawn(path, args, passfds)
                return number
        return _spawn(path, args, passfds)

    util.spawnv_passfds = spawn


def _wait(channel: socket.socket) -> None:
    """Wait for the request to be a fork server, and be it; end without one."""
    kept = channel.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    try:
        request, received, *_ = socket.recv_fds(channel, MOST_BYTES, MOST_DESCRIPTORS)
        channel.close()
        if request:
            _serve(request, received)
    finally:
        os._exit(0)


def _serve(request: bytes, received: Sequence[int]) -> None:
    """Do what an interpreter would do that is started with the code in the request."""
    code, environment, names = pickle.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    descriptors = dict(zip(names, received, strict=True))
    serve = python_forkserver.main

    def main(listener: int, alive: int, *arguments: Any, **options: Any) -> None:
        serve(descriptors[listener], descriptors[alive], *arguments, **options)

    python_forkserver.main = main  # type: ignore[assignment]
    # Importing it protects the process from signals: what is imported here must not do that before.
    importlib.reload(importlib.import_module("dia_repro.execution.shield"))
    exec(code, {})
