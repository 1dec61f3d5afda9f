"""Trains tiny runs whose fork server is killed or stopped meanwhile; for tests of what follows.

Usage: python -m tests.execution.lost_server (killed | folder | SIGNAL)
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import current_process
from pathlib import Path

from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.forkserver import join, start_process
from dia_repro.execution.machine import Slots
from dia_repro.execution.messages import Ended, Job, Message, Progress
from tests.execution.tiny_runs import make_jobs
from tests.helpers import tiny_spec


def server() -> int:
    number: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return number


def between_runs() -> None:
    """Train two runs one after the other; the server is killed when the first one has ended."""
    known: list[int] = []

    def on_message(_job: Job, message: Message) -> None:
        if isinstance(message, Ended) and not known:
            known.append(server())
            os.kill(known[0], signal.SIGKILL)
        elif isinstance(message, Progress) and known and server() not in known:
            known.append(server())
            process = Path(f"/proc/{known[1]}")
            print((process / "status").read_text())
            print("started safely", "PYTHONSAFEPATH=1" in (process / "environ").read_text())
            os.killpg(0, signal.SIGINT)  # as a terminal sends Ctrl-C to all of them

    database, jobs = make_jobs(Path.cwd(), [tiny_spec(epochs=2)], 2)
    ended = LocalSupervisor(database, Slots.on_cpu(1), on_message).run(jobs)
    Path(f"/proc/{known[1]}/status").read_text()  # it is still there
    print(*(ending.outcome.value for ending in ended.values()))


def under_runs(number: int) -> None:
    """Train on; the server is killed or stopped under two workers, and a third is started."""
    seen: set[int] = set()
    done: list[int] = []

    def on_message(job: Job, message: Message) -> None:
        if not isinstance(message, Progress) or not message.epochs:
            return
        seen.add(job.run_id)
        if len(seen) == 2 and not done:
            os.kill(server(), number)
            done.append(number)
            time.sleep(1)
            first = executor._active[0].process.pid
            assert first is not None
            os.kill(first, signal.SIGTERM)  # so that there is room
        elif len(seen) == 3 and len(done) == 1:  # once: a second one kills workers
            done.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    database, jobs = make_jobs(Path.cwd(), [tiny_spec(epochs=900)], 3)
    executor = LocalSupervisor(database, Slots.on_cpu(2), on_message)
    ended = executor.run(jobs)
    print(*(ending.outcome.value for ending in ended.values()))
    print(*ended.values(), file=sys.stderr)


def _send_later(number: int, connection: Connection) -> None:
    time.sleep(2)
    connection.send(number)


def without_folder() -> None:
    """Start two processes one after the other; the folder of sockets is removed between them."""
    # Of the process that began this one.
    current_process()._config.pop("tempdir", None)  # type: ignore[attr-defined]
    first, from_first = start_process(_send_later, 7)
    folder = Path(current_process()._config["tempdir"])  # type: ignore[attr-defined]
    shutil.rmtree(folder)
    second, from_second = start_process(_send_later, 7)
    print(f"first {from_first.recv()}, second {from_second.recv()}", end=", ")
    for process in (first, second):
        join(process)
    print(f"worker {first.exitcode}")
    shutil.rmtree(folder)  # Python would remove it at the end


def main() -> None:
    if sys.argv[1] == "killed":
        between_runs()
    elif sys.argv[1] == "folder":
        without_folder()
    else:
        under_runs(int(sys.argv[1]))


if __name__ == "__main__":
    main()
