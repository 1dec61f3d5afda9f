"""Fork server: the process that workers are forked from.

It has imported torch once and done nothing else, so that workers start in milliseconds and no
thread or CUDA context is copied into them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess, current_process
from pathlib import Path
from typing import Any

from dia_repro.errors import AbsentError
from dia_repro.interrupts import STOPPING
from dia_repro.training.environment import SAFE_PATH, TRAINING, environment, forget_settings

CONTEXT = multiprocessing.get_context("forkserver")
# Workers import the modules of the program that started them; here that is done once.
PRELOADED = ["dia_repro.execution.shield", "dia_repro.execution.preload", "dia_repro.cli.main"]
CONTEXT.set_forkserver_preload(PRELOADED)
# Bytes of a socket's path: 104 with its end on macOS, 108 on Linux.
LONGEST_SOCKET = 103
# Characters that Python adds to the temporary folder: /pymp-????????/listener-????????.
SOCKET_NAME = 32
WAIT_SECONDS = 0.5
# A process killed a moment ago seems to live until the kernel has torn it down.
KILLED_SECONDS = 5.0
_keeper: int | None = None  # the process that keeps its folder of sockets
SHORT_FOLDER = "/tmp"  # noqa: S108


def start() -> None:
    """Start the server, if it is not running, without the working folder among its import paths.

    Python puts that folder first: a `random.py` in it, or another checkout of this package,
    would be what workers train with.

    Raises:
        NoSocketError: there is no folder for the server's socket.
    """
    shorten_sockets()
    forget_settings()
    _keep_folder_to_the_end()
    # A worker that is killed leaves semaphores, which are removed with a useless warning.
    quiet = {"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}
    with environment({**SAFE_PATH, **quiet, **TRAINING}):
        # SIGHUP would end the tracker; starting it ends the holding back of other signals.
        for ensure_running in (resource_tracker.ensure_running, forkserver.ensure_running):
            with _signals_held_back():
                ensure_running()
    resume()


def _keep_folder() -> None:
    """Make Python's folder of sockets again if it was removed, as cleaners of /tmp do."""
    folder: str | None = current_process()._config.get("tempdir")  # type: ignore[attr-defined]
    if folder is not None:
        with suppress(OSError):
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)


def _keep_folder_to_the_end() -> None:
    """Have Python find the folder at this process's end: it removes it, and fails if it is gone."""
    global _keeper  # noqa: PLW0603 - once in each process
    if _keeper != os.getpid():
        _keeper = os.getpid()
        util.Finalize(None, _keep_folder, exitpriority=-50)  # Python's own has -100


def _leave_lost_server() -> bool:
    """Leave a server whose socket was removed, so that another one is started.

    It goes on until this process ends: it reports how the workers end that it has forked.

    Returns:
        Whether its socket was removed.
    """
    server: Any = forkserver._forkserver
    address = server._forkserver_address
    if not address or address[0] == "\0" or Path(address).exists():
        return False
    _keep_folder()
    server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None
    return True


def resume() -> None:
    """Continue the server if it is stopped: a request for a process would wait without end."""
    number = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if number is not None:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGCONT)


def send_signal(process: BaseProcess, number: int) -> None:
    """Send a signal to a process; its own methods do nothing once its server is gone."""
    if process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def join(process: BaseProcess, on_wait: Callable[[], object] = lambda: None) -> None:
    """Wait for the end of a process, which the server reports; call `on_wait` every half second."""
    while process.exitcode is None:
        on_wait()
        process.join(WAIT_SECONDS)
        resume()


def end_with_parent(code: int) -> None:
    """Have this process end with a code when the process that started it does."""

    def watch(parent: BaseProcess) -> None:
        wait([parent.sentinel])
        os._exit(code)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


def start_process(
    target: Callable[..., object], *arguments: object
) -> tuple[ForkServerProcess, Connection]:
    """Fork a process that calls `target` with arguments and a connection to send through.

    It may start processes itself. A server that was killed meanwhile is started again. Returns the
    process, and the connection to receive from it.

    Raises:
        NoProcessError: the server does not stay alive.
        OSError: the system starts no process.
    """
    begun = time.monotonic()
    while True:
        try:
            start()  # Python itself would start the server again without its protection
            ours, theirs = CONTEXT.Pipe(duplex=False)
            process = CONTEXT.Process(target=target, args=(*arguments, theirs))
            with _no_main_file():
                process.start()
        except (EOFError, ConnectionError, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError) and not _leave_lost_server():
                raise
            if time.monotonic() - begun > KILLED_SECONDS:
                raise NoProcessError(
                    f"no process can be started ({error or 'its server ends'}): see 'ulimit -u', "
                    "and whether there is memory left"
                ) from error
            time.sleep(0.1)
        else:
            theirs.close()
            return process, ours


@contextmanager
def _no_main_file() -> Iterator[None]:
    """Have processes that are started inside the block not import the main program.

    A script that calls `dia_repro.run` outside `if __name__ == "__main__":` would begin again in
    each worker.
    """
    program = vars(sys.modules["__main__"])
    names = {"__file__", "__spec__"} & program.keys()
    hidden: dict[str, object] = {name: program.pop(name) for name in names}
    program["__spec__"] = None
    try:
        yield
    finally:
        program.update(hidden)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Have no signal end a process that is started inside the block before it can handle them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class NoProcessError(AbsentError):
    """No process can be forked."""


class NoSocketError(AbsentError):
    """No folder can hold the sockets through which processes communicate."""


def has_short_sockets() -> bool:
    """Return whether the path of a socket in the folder of temporary files is short enough."""
    return len(os.fsencode(tempfile.gettempdir())) + SOCKET_NAME <= LONGEST_SOCKET


def shorten_sockets() -> None:
    """Put sockets of this process and its workers, and only these, elsewhere if TMPDIR is long.

    Raises:
        NoSocketError: the short folder cannot be written.
    """
    if has_short_sockets():
        return
    long, tempfile.tempdir = tempfile.gettempdir(), SHORT_FOLDER
    try:
        util.get_temp_dir()  # made once for the process, handed on to its children
    except OSError as error:
        raise NoSocketError(
            f"TMPDIR is too long for a socket ({long}), and {SHORT_FOLDER} cannot be written: "
            "set TMPDIR to a short folder"
        ) from error
    finally:
        tempfile.tempdir = long
