"""User code that comes back: what every call may run of keys and finalizers uses the same queue, or raises.

The keys of test_keys.py meet one call at a time; here every call meets every action, and what was accepted is
counted in the end.
"""

from __future__ import annotations

import pytest
from aio import drive
from helpers import HANG, Worker, wait_producers

from inflight import InflightError, QueueClosedError, QueueEmptyError
from inflight._invariants import check_invariants


class Key:
    """Equal to those of the same name; ``on_eq`` runs once, at the first comparison."""

    def __init__(self, name, on_eq=None):
        self.name = name
        self.on_eq = on_eq

    def __hash__(self):
        return 7

    def __eq__(self, other):
        action, self.on_eq = self.on_eq, None
        if action is not None:
            action()
        return isinstance(other, Key) and self.name == other.name


def divide_by_zero():
    raise ZeroDivisionError


def take(queue):
    with queue.dequeue(0) as row:
        row.finish_all()


def drain(queue):
    for row in queue.drain():
        with row:
            row.finish_all()


ACTIONS = {
    "raise": lambda queue, op: divide_by_zero(),
    "exit": lambda queue, op: exec("raise KeyboardInterrupt"),
    "enqueue the same": lambda queue, op: queue.enqueue(Key("b"), op),
    "enqueue another": lambda queue, op: queue.enqueue(Key("z"), op),
    "take": lambda queue, op: take(queue),
    "drain": lambda queue, op: drain(queue),
    "flush": lambda queue, op: queue.flush(Key("b")),
    "close": lambda queue, op: queue.close(),
    "look": lambda queue, op: (check_invariants(queue), queue.stats(), Key("c") in queue, len(queue), repr(queue)),
    "grow": lambda queue, op: [queue.enqueue(number, op) for number in range(500)],
    "collect": lambda queue, op: __import__("gc").collect(),
}

# Of a queue, a key that acts when it is compared, and an operation.
CALLS = {
    "enqueue": lambda queue, key, op: queue.enqueue(key, op),
    "enqueue with a timeout": lambda queue, key, op: queue.enqueue(key, op, timeout=HANG),
    "enqueue_many": lambda queue, key, op: queue.enqueue_many([type(op)(key, "made") for _ in range(2)]),
    "submit": lambda queue, key, op: queue.submit(key),
    "in": lambda queue, key, op: key in queue,
    "flush": lambda queue, key, op: queue.flush(key),
    "aenqueue": lambda queue, key, op: drive(queue.aenqueue(key, op)),
    "asubmit": lambda queue, key, op: drive(queue.asubmit(key)),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("call", CALLS)
def test_a_comparison_comes_back(impl, make_queue, call, action):
    queue = make_queue(None, None)
    op = impl.Op("op")
    for name in "abc":
        queue.enqueue(Key(name), op)
    if make_queue.exclusive:
        owned = queue.dequeue(0)
        queue.enqueue(Key("a"), op)
    for name in "abcd":
        key = Key(name, lambda: ACTIONS[action](queue, op))
        try:
            CALLS[call](queue, key, op)
        except (InflightError, ZeroDivisionError, KeyboardInterrupt):
            assert action in ("raise", "exit", "close", "take", "drain")
        check_invariants(queue)
    if make_queue.exclusive:
        owned.release()
    check_invariants(queue)
    queue.close()
    received = 0
    for row in queue:
        with row:
            received += len(row)
    stats = queue.stats()
    assert (stats.keys, stats.ops, stats.owned) == (0, 0, 0)
    assert stats.enqueued == stats.dequeued_ops >= received
    assert queue.join(0)
    op.try_finish()


@pytest.mark.parametrize("action", ["raise", "take", "drain", "close"])
def test_a_comparison_of_a_parked_producer_comes_back(impl, action):
    """It compares again when its key comes to wait."""
    queue = impl.OpQueue(1, None)
    op = impl.Op("op")
    queue.enqueue("old", op)

    def act():
        try:
            ACTIONS[action](queue, op)
        except QueueEmptyError:
            pass

    worker = Worker(lambda: queue.enqueue(Key("new", act), op, timeout=HANG))
    wait_producers(queue, 1)
    other = Worker(lambda: queue.enqueue(Key("other"), op, timeout=HANG))
    wait_producers(queue, 2)
    for _ in range(2):
        try:
            take(queue)
        except (QueueEmptyError, QueueClosedError):
            pass
    errors = [worker.exception(), other.exception()] if action in ("raise", "close") else []
    queue.close()
    errors += [each.exception() for each in (worker, other)]
    assert all(isinstance(error, ZeroDivisionError | QueueClosedError | None) for error in errors)
    drain(queue)
    check_invariants(queue)
    stats = queue.stats()
    assert (stats.keys, stats.producers_waiting) == (0, 0)
    op.try_finish()


class Loud:
    """Comes back when it is dropped."""

    def __init__(self, action):
        self.action = action

    def __call__(self, *arguments):
        pass

    def __del__(self):
        self.action()


class LoudError(Exception):
    def __init__(self, loud):
        super().__init__()
        self.loud = loud


class LoudKey(Loud):
    def __hash__(self):
        return 7

    def __eq__(self, other):
        return isinstance(other, LoudKey)


# Of a queue and what acts when it is dropped: the call that drops it.
DROPS = {
    "a duplicate's key": lambda impl, queue, action: [queue.submit(LoudKey(action)) for _ in range(2)],
    "a message": lambda impl, queue, action: queue.submit("m", Loud(action)).finish(),
    "a result": lambda impl, queue, action: queue.submit("r").finish(Loud(action)),
    "an error": lambda impl, queue, action: queue.submit("e").finish(error=LoudError(Loud(action))),
    "a callback": lambda impl, queue, action: queue.submit("c").add_done_callback(Loud(action)),
    "a refused operation": lambda impl, queue, action: queue.enqueue_many([impl.Op("k", Loud(action))] * 3),
    "a reducer": lambda impl, queue, action: impl.CallGroup(Loud(action)).add("g").finish(),
    "a key that is looked for": lambda impl, queue, action: LoudKey(action) in queue,
}


@pytest.mark.parametrize("action", [each for each in ACTIONS if each not in ("raise", "exit")])
@pytest.mark.parametrize("drop", DROPS)
def test_a_finalizer_comes_back(impl, make_queue, collect, drop, action, monkeypatch):
    queue = make_queue(None, 2)
    kept = impl.Op("kept")
    calls = []
    # A queue that is closed or full refuses the finalizer, whose error the interpreter reports.
    monkeypatch.setattr("sys.unraisablehook", lambda caught: None)

    def act():
        calls.append(1)
        ACTIONS[action](queue, kept)

    queue.enqueue("first", kept)
    for _ in range(2):
        try:
            DROPS[drop](impl, queue, act)
        except InflightError:
            assert action == "close"
        check_invariants(queue)
        drain(queue)
        check_invariants(queue)
    queue.close()
    for row in queue:
        with row:
            row.finish_all()
    row = None
    if not calls:
        collect()
    assert calls
    drain(queue)
    assert queue.join(0)
    check_invariants(queue)
    kept.try_finish()
