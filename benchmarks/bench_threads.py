"""Threads that send to each other, and threads that have nothing to do with each other.

The threads of a round exist before, and start together. With the GIL they do not run at once, and
who has it gives it up only after `sys.getswitchinterval()` or to wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Barrier, local
from typing import Any

from queues import BETWEEN_THREADS, IN_ONE_THREAD, OURS, Rival, bounded
from scenarios import KEYS, Round, Scenario

FEW = 20_000
MANY = 100_000
APART = 200_000
ROUND_TRIPS = 2_000
PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []


@contextmanager
def together(works: Sequence[Callable[[], Any]]) -> Iterator[Callable[[], list[Any]]]:
    """A round in which every work has a thread; it returns what they returned."""
    start = Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        yield lambda: list(threads.map(run, works))


@contextmanager
def _producers_consumers(kind: Callable[[], Rival], count: int, *, pairs: int) -> Iterator[Round]:
    queue = kind()
    items = queue.items(KEYS["int"](count))
    share = count // pairs
    shares = [items[start : start + share] for start in range(0, share * pairs, share)]
    works = [partial(queue.get_all, each) for each in shares] + [partial(queue.put_items, each) for each in shares]
    with together(works) as one_round:
        yield one_round


@contextmanager
def _hand_off(kind: Callable[[], Rival], count: int) -> Iterator[Round]:
    """One item goes there and back, over two queues; the round returns how long each took. Each thread has a processor
    of its own: with both on one, which the system may decide for any round, it takes a tenth of the time.
    """
    there, back = kind(), kind()
    keys = KEYS["int"](count)
    sides = [partial(there.ask, back, keys), partial(there.answer, back, keys)]
    with together([partial(_on_processor, number, side) for number, side in enumerate(sides)]) as one_round:
        yield lambda: one_round()[0]


def _on_processor(number: int, function: Callable[[], Any]) -> Any:
    """In a thread that ends with the scenario, where the system lets one choose."""
    if PROCESSORS:
        os.sched_setaffinity(0, [PROCESSORS[number % len(PROCESSORS)]])
    return function()


@contextmanager
def _apart(kind: Callable[[], Rival], count: int, *, threads: int) -> Iterator[Round]:
    """Every thread has a queue, and keys, of its own: made by it, since without the GIL others' objects cost more."""
    own = local()

    def work() -> None:
        if not hasattr(own, "queue"):
            own.queue = kind()
            own.keys = KEYS["int"](count // threads)
        own.queue.in_turn(own.keys)

    with together([work] * threads) as one_round:
        yield one_round


def producers_consumers(pairs: int, operations: int) -> Scenario:
    """With the GIL, producers run far ahead: many operations make a deep queue, few stay in the caches."""
    contenders = {name: partial(_producers_consumers, kind, pairs=pairs) for name, kind in BETWEEN_THREADS.items()}
    return Scenario(f"{pairs} to {pairs} threads, {operations:,} operations", contenders, operations, waits=True)


def with_room(bound: int) -> Scenario:
    """The producer waits whenever so many wait."""
    contenders = {name: partial(_producers_consumers, kind, pairs=1) for name, kind in bounded(bound).items()}
    return Scenario(f"1 to 1 threads, {FEW:,} operations, at most {bound:,} wait", contenders, FEW, waits=True)


def apart(threads: int) -> Scenario:
    kinds = OURS | {name: IN_ONE_THREAD[name] for name in ("SimpleQueue", "queue.Queue", "OrderedDict + Lock")}
    contenders = {name: partial(_apart, kind, threads=threads) for name, kind in kinds.items()}
    return Scenario(
        f"{threads} thread{'s'[: threads > 1]}, each with a queue of its own", contenders, APART, waits=True
    )


HAND_OFF = Scenario(
    "hand-off between two threads, there and back",
    {name: partial(_hand_off, kind) for name, kind in BETWEEN_THREADS.items()},
    ROUND_TRIPS,
    waits=True,
    timed=True,
)
SCENARIOS = [
    *(producers_consumers(pairs, operations) for pairs in (1, 2) for operations in (FEW, MANY)),
    with_room(10),
    with_room(1_000),
    HAND_OFF,
    apart(1),
    apart(2),
]


def test_threads(measure: Callable[[], None]) -> None:
    measure()
