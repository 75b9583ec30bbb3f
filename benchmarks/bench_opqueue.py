"""What it costs to send an operation through an OpQueue, from one thread.

Both implementations against the standard library's queues, which merge nothing: the difference is
the price of the key. One round is COUNT times in and COUNT times out.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable
from typing import Any

import pytest

COUNT = 10_000
KEYS = list(range(COUNT))

Round = Callable[[], None]


def _module(name: str) -> Any:
    return pytest.importorskip(f"inflight._{name}", exc_type=ImportError)


def _rounds_of_inflight(name: str, waiting: int) -> tuple[Round, Round]:
    module = _module(name)
    ops = module.OpQueue(None, None)
    op = module.Op(0)
    for key in range(waiting):
        ops.enqueue(key, op)
    enqueue, dequeue = ops.enqueue, ops.dequeue
    fresh = itertools.count(waiting)

    def burst() -> None:
        for key in KEYS:
            enqueue(key, op)
        for _ in KEYS:
            dequeue()

    def in_turn() -> None:
        for key in itertools.islice(fresh, COUNT):
            enqueue(key, op)
            dequeue()

    return burst, in_turn


def _rounds_of_stdlib(kind: type[queue.SimpleQueue[int] | queue.Queue[int]], waiting: int) -> tuple[Round, Round]:
    rival = kind()
    for key in range(waiting):
        rival.put(key)
    put, get = rival.put, rival.get
    fresh = itertools.count(waiting)

    def burst() -> None:
        for key in KEYS:
            put(key)
        for _ in KEYS:
            get()

    def in_turn() -> None:
        for key in itertools.islice(fresh, COUNT):
            put(key)
            get()

    return burst, in_turn


CONTENDERS: dict[str, Callable[[int], tuple[Round, Round]]] = {
    "native": lambda waiting: _rounds_of_inflight("native", waiting),
    "pure": lambda waiting: _rounds_of_inflight("pure", waiting),
    "SimpleQueue": lambda waiting: _rounds_of_stdlib(queue.SimpleQueue, waiting),
    "Queue": lambda waiting: _rounds_of_stdlib(queue.Queue, waiting),
}


@pytest.mark.benchmark(group="distinct int keys, all in, then all out")
@pytest.mark.parametrize("contender", CONTENDERS)
def test_burst(benchmark: Any, contender: str) -> None:
    burst, _ = CONTENDERS[contender](0)
    benchmark(burst)


@pytest.mark.benchmark(group="distinct int keys, in and out in turn")
@pytest.mark.parametrize("contender", CONTENDERS)
def test_in_turn(benchmark: Any, contender: str) -> None:
    _, in_turn = CONTENDERS[contender](0)
    benchmark(in_turn)


@pytest.mark.benchmark(group="distinct int keys, in and out in turn, behind 300,000 keys that wait")
@pytest.mark.parametrize("contender", CONTENDERS)
def test_in_turn_in_a_deep_queue(benchmark: Any, contender: str) -> None:
    _, in_turn = CONTENDERS[contender](300_000)
    benchmark(in_turn)


@pytest.mark.benchmark(group="one str key: merging")
@pytest.mark.parametrize("name", ["native", "pure"])
def test_merge(benchmark: Any, name: str) -> None:
    module = _module(name)
    ops = module.OpQueue(None, None)
    op = module.Op("key")
    enqueue, dequeue = ops.enqueue, ops.dequeue

    def merge() -> None:
        for _ in KEYS:
            enqueue("key", op)
        dequeue()

    benchmark(merge)
