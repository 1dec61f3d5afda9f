"""Work in threads that can be left behind: an image may take a decoder a long time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from dia_repro.data.registry import OnProgress
from dia_repro.processors import cores

AHEAD = 500  # items that threads may have begun before the first of them is taken
PROGRESS = 64  # items between two reports of progress
LOOK_SECONDS = 0.2  # how often progress is reported while a slow item is waited for

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Result]:
    """Yield what `work` returns for each item, in order.

    An exception of `work`, or one that a signal raises, ends this at once: threads that are still
    busy with an item are left behind, and do not keep the process from ending, as those of
    `ThreadPoolExecutor` would.

    Args:
        threads: number of threads; None for one a core.
        on_progress: called with items done and items in all, now and then and several times a
            second while an item is waited for; may raise.
    """
    say = on_progress or (lambda _done, _of: None)
    queue: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()
    waiting: deque[Future[Result]] = deque()
    left = iter(items)
    started: list[Thread] = []

    try:
        for _ in range(min(threads or cores(), len(items))):
            started.append(Thread(target=_serve, args=(work, queue), daemon=True))
            started[-1].start()
        for done in range(1, len(items) + 1):
            for item in islice(left, AHEAD - len(waiting)):
                waiting.append(Future())
                queue.put((waiting[-1], item))
            while not wait([waiting[0]], LOOK_SECONDS).done:
                say(done - 1, len(items))
            yield waiting.popleft().result()
            if done % PROGRESS == 0 or done == len(items):
                say(done, len(items))
    finally:
        for future in waiting:
            future.cancel()
        for _ in started:
            queue.put(None)
    for thread in started:
        thread.join()  # a process that forks should have no other threads


def _serve(
    work: Callable[[Item], Result], queue: SimpleQueue[tuple[Future[Result], Item] | None]
) -> None:
    while (task := queue.get()) is not None:
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work(item))
            except BaseException as error:  # raised where the result is taken
                future.set_exception(error)
