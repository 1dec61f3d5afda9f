"""A first signal asks the executor to stop, and a second one to stop at once."""

from __future__ import annotations

import signal

from dia_repro import interrupts


class Signals:
    """Counts SIGINT, SIGTERM and SIGHUP inside its block, whose code has to ask; a context manager.

    Those that came before the block are counted too, whose exception was lost.

    Args:
        raise_at: the signal, from 1, that raises `Interrupted` after all; None for none.
    """

    def __init__(self, raise_at: int | None = None) -> None:
        self.count, self.raise_at = 0, raise_at

    @property
    def stop(self) -> bool:
        """Whether runs are to save and stop."""
        return self.count > 0

    @property
    def kill(self) -> bool:
        """Whether they are not even to save."""
        return self.count > 1

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.count += 1
        interrupts.note_wish()
        if self.raise_at is not None and self.count >= self.raise_at:
            raise interrupts.Interrupted

    def __enter__(self) -> Signals:
        self._before = {
            number: signal.signal(number, self._on_signal)
            for number in interrupts.STOPPING
            # `nohup` has the closing of the terminal ignored.
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
        }
        self.count += interrupts.count()
        interrupts.note_wish(self.stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
