"""Queues between threads, ours and the others', with the same loops for all.

Every loop is the plain one: bound methods in locals, keys from a sequence made before, what was
taken bound to a name and dropped by the next. Ours and the others' differ in nothing but that an
operation goes in with a key. Within one thread it is one and the same, finished, operation: the
queue is measured, not the making of what goes through it. Between threads every key has its own
(`items`), as the threads would fight for the reference count of a common one.
"""

from __future__ import annotations

import asyncio
import queue
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from threading import Condition, Lock
from time import perf_counter_ns
from typing import Any

from scenarios import IMPLEMENTATIONS, KEYS, Contender, Key, Round, finished_op, finished_ops, implementation, need


class LockedRows:
    """What merges without a library: rows by key, the oldest first, under a lock. Nobody can wait."""

    def __init__(self) -> None:
        self.rows: OrderedDict[Key, list[Any]] = OrderedDict()
        self.lock = Lock()

    def put(self, key: Key) -> None:
        with self.lock:
            row = self.rows.get(key)
            if row is None:
                self.rows[key] = [key]
            else:
                row.append(key)

    def get(self) -> tuple[Key, list[Any]]:
        with self.lock:
            return self.rows.popitem(last=False)


class WaitedRows(LockedRows):
    """The same where consumers can wait."""

    def __init__(self) -> None:
        super().__init__()
        self.filled = Condition(self.lock)

    def put(self, key: Key) -> None:
        with self.filled:
            row = self.rows.get(key)
            if row is None:
                self.rows[key] = [key]
                self.filled.notify()
            else:
                row.append(key)

    def get(self) -> tuple[Key, list[Any]]:
        with self.filled:
            while not self.rows:
                self.filled.wait()
            return self.rows.popitem(last=False)


class Rival:
    """A queue that takes a key for an item."""

    def __init__(self, put: Callable[[Any], object], get: Callable[[], object]) -> None:
        self.put = put
        self.get = get

    def items(self, keys: Iterable[Key]) -> list[Any]:
        """What `put_items` takes."""
        return list(keys)

    def put_items(self, items: Iterable[Any]) -> None:
        self.put_all(items)

    def put_all(self, keys: Iterable[Key]) -> None:
        put = self.put
        for key in keys:
            put(key)

    def get_all(self, keys: Iterable[Key]) -> None:
        """As many as there are keys."""
        get = self.get
        for _key in keys:
            _item = get()

    def in_turn(self, keys: Iterable[Key]) -> None:
        put, get = self.put, self.get
        for key in keys:
            put(key)
            _item = get()

    def ask(self, back: Rival, keys: Iterable[Key]) -> list[int]:
        """Put here, wait for what comes back: nanoseconds of each round trip."""
        put, get, clock = self.put, back.get, perf_counter_ns
        times = []
        for key in keys:
            start = clock()
            put(key)
            _item = get()
            times.append(clock() - start)
        return times

    def answer(self, back: Rival, keys: Iterable[Key]) -> None:
        get, put = self.get, back.put
        for key in keys:
            _item = get()
            put(key)

    def grow(self, keys: Iterable[Key], times: Any) -> None:
        """Put all, and note the nanoseconds of each call."""
        put, clock = self.put, perf_counter_ns
        for number, key in enumerate(keys):
            start = clock()
            put(key)
            times[number] = clock() - start


class Ours(Rival):
    """An OpQueue, or another class of ours."""

    def __init__(self, name: str, make: Callable[[Any], Any] = lambda module: module.OpQueue(None, None)) -> None:
        self.module = implementation(name)
        self.queue = make(self.module)
        self.op = finished_op(name)
        super().__init__(partial(self.queue.enqueue, op=self.op), self.queue.dequeue)

    def items(self, keys: Iterable[Key]) -> list[Any]:
        return finished_ops(self.module, keys)

    def put_items(self, items: Iterable[Any]) -> None:
        enqueue = self.queue.enqueue
        for op in items:
            enqueue(op.key, op)

    def put_all(self, keys: Iterable[Key]) -> None:
        enqueue, op = self.queue.enqueue, self.op
        for key in keys:
            enqueue(key, op)

    def in_turn(self, keys: Iterable[Key]) -> None:
        enqueue, dequeue, op = self.queue.enqueue, self.queue.dequeue, self.op
        for key in keys:
            enqueue(key, op)
            _row = dequeue()

    def ask(self, back: Rival, keys: Iterable[Key]) -> list[int]:
        enqueue, op, get, clock = self.queue.enqueue, self.op, back.get, perf_counter_ns
        times = []
        for key in keys:
            start = clock()
            enqueue(key, op)
            _row = get()
            times.append(clock() - start)
        return times

    def answer(self, back: Rival, keys: Iterable[Key]) -> None:
        assert isinstance(back, Ours)
        get, enqueue, op = self.get, back.queue.enqueue, back.op
        for key in keys:
            _row = get()
            enqueue(key, op)

    def grow(self, keys: Iterable[Key], times: Any) -> None:
        enqueue, op, clock = self.queue.enqueue, self.op, perf_counter_ns
        for number, key in enumerate(keys):
            start = clock()
            enqueue(key, op)
            times[number] = clock() - start


class OursBounded(Ours):
    """Waits for room, as the others do."""

    def __init__(self, name: str, bound: int | None) -> None:
        super().__init__(name, lambda module: module.OpQueue(bound, None))

    def put_items(self, items: Iterable[Any]) -> None:
        enqueue = self.queue.enqueue
        for op in items:
            enqueue(op.key, op, timeout=None)


def two_faced_queue(name: str, bound: int | None) -> Any:
    """Of janus, and of culsans, which has the same interface."""
    return need(name).Queue(bound or 0)


def aiologic_queue(bound: int | None) -> Any:
    """The cheaper of its queues that does it."""
    aiologic = need("aiologic")
    return aiologic.SimpleQueue() if bound is None else aiologic.Queue(bound)


def _two_faced(name: str, bound: int | None = None) -> Rival:
    face = two_faced_queue(name, bound).sync_q
    return Rival(face.put, face.get)


def _put_get(kind: Callable[[], Any]) -> Rival:
    each = kind()
    return Rival(each.put, each.get)


def _aiologic(bound: int | None = None) -> Rival:
    each = aiologic_queue(bound)
    return Rival(each.green_put, each.green_get)


def _asyncio() -> Rival:
    each = asyncio.Queue[Key]()
    return Rival(each.put_nowait, each.get_nowait)


OURS: dict[str, Callable[[], Rival]] = {name: partial(Ours, name) for name in IMPLEMENTATIONS}
BETWEEN_THREADS: dict[str, Callable[[], Rival]] = OURS | {
    "SimpleQueue": partial(_put_get, queue.SimpleQueue),
    "queue.Queue": partial(_put_get, queue.Queue),
    "OrderedDict + Condition": partial(_put_get, WaitedRows),
    "janus": partial(_two_faced, "janus"),
    "culsans": partial(_two_faced, "culsans"),
    "aiologic": _aiologic,
}
IN_ONE_THREAD: dict[str, Callable[[], Rival]] = BETWEEN_THREADS | {
    "OrderedDict + Lock": partial(_put_get, LockedRows),
    "asyncio.Queue": _asyncio,
}


def bounded(bound: int) -> dict[str, Callable[[], Rival]]:
    """Between threads, with room for so many."""
    ours: dict[str, Callable[[], Rival]] = {name: partial(OursBounded, name, bound) for name in IMPLEMENTATIONS}
    return ours | {
        "queue.Queue": partial(_put_get, partial(queue.Queue, bound)),
        "janus": partial(_two_faced, "janus", bound),
        "culsans": partial(_two_faced, "culsans", bound),
        "aiologic": partial(_aiologic, bound),
    }


def loops_of_ours(
    loop: Callable[[Any, Any, Sequence[Any]], None],
    make: Callable[[Any], Any] = lambda module: module.OpQueue(None, None),
) -> dict[str, Contender]:
    """Contenders of which a round is `loop(queue, op, keys)`."""

    def contender(name: str, count: int) -> Round:
        ours = Ours(name, make)
        return partial(loop, ours.queue, ours.op, KEYS["int"](count))

    return {name: partial(contender, name) for name in IMPLEMENTATIONS}
