"""Entry of a worker process; light to import, since its parent imports it too."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from dia_repro import interrupts
from dia_repro.errors import DiaReproError, reason_of
from dia_repro.execution.messages import Ended, Job, Message, Outcome
from dia_repro.results.database import LockedError

if TYPE_CHECKING:
    from dia_repro.execution.attempt import Attempt
    from dia_repro.execution.run_store import RunStore


def attempt(
    job: Job,
    send: Callable[[Message], None],
    should_stop: Callable[[], bool],
    run_store: RunStore | None = None,
    make: Callable[..., Attempt] | None = None,
) -> Ended:
    """Attempt a run in this process, and return its outcome, never a traceback.

    Args:
        make: makes an `Attempt` from the other arguments; by default that class itself.
    """
    from dia_repro.execution.attempt import Attempt  # brings torch

    try:
        return (make or Attempt)(job, send, should_stop, run_store).run()
    except LockedError as error:  # its weights are saved; the run is found dead by the next one
        outcome = Outcome.INTERRUPTED if should_stop() else Outcome.FAILED
        return Ended(outcome, str(error))
    except DiaReproError as error:
        return Ended(Outcome.FAILED, str(error))
    except Exception as error:
        return Ended(Outcome.FAILED, reason_of(error))


def main(job: Job, connection: Connection, how: Callable[..., Ended] = attempt) -> None:
    """Entry of a worker process; sends messages and ends with exactly one `Ended`.

    Args:
        how: `attempt`, or a function of its first three arguments.
    """
    stop = False

    def on_signal(*_: object) -> None:
        nonlocal stop
        stop = True
        interrupts.note_wish()

    def send(message: Message) -> None:
        nonlocal stop
        try:
            connection.send(message)
        except OSError:
            stop = True

    # The process that started this one handles the closing of a terminal (SIGHUP), since under
    # `nohup` it is to be ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    # Slurm's may go to all processes of a task; the one that it is meant for asks this one to stop.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    send(how(job, send, lambda: stop))
    connection.close()
