"""Queues without memory: whatever allocation fails, the call raises MemoryError and nothing is lost.

Each case makes one call, and nomemory.py lets one allocation of it fail after the other. Then: the
invariants hold; what was accepted before is there, once; the operation of the failing call is not in the
queue. The pure implementation may have accepted it all the same, as it may when a signal handler raises.
"""

from __future__ import annotations

import sys
from functools import partial

import pytest
from helpers import HANG, Worker, put, wait_blocked, wait_consumers, wait_producers
from nomemory import WAYS, HandOver, Table, insisting, same

from inflight import QueueClosedError, QueueEmptyError

table = Table()
KINDS = ("fifo", "dedupe", "window", "window_exclusive")
EXCLUSIVE = ("dedupe", "window_exclusive")


def make(impl, kind, depth=None, width=None):
    return {
        "fifo": lambda: impl.OpQueue(depth, width),
        "dedupe": lambda: impl.DedupeQueue(depth, width),
        "window": lambda: impl.OpWindow(depth, width, 1000),
        "window_exclusive": lambda: impl.OpWindow(depth, width, 1000, exclusive=True),
    }[kind]()


def contents(queue):
    """All operations in a queue, which is closed and emptied."""
    queue._check()
    queue.close()
    queue._check()
    ops = []
    while True:
        try:
            row = queue.dequeue(0)
        except (QueueEmptyError, QueueClosedError):
            break
        ops += row
        row.release()
    queue._check()
    stats = queue.stats()
    assert (stats.keys, stats.ops, stats.owned, stats.consumers_waiting, stats.producers_waiting) == (0,) * 5
    assert stats.enqueued == stats.dequeued_ops >= len(ops)
    assert stats.enqueued == stats.merged + stats.dequeued_rows
    return ops


def audit(impl, queue, before, op, outcome, *taken):
    """What was accepted is there once, in the queue or `taken` from it, and everything is pending."""
    found = [*taken, *contents(queue)]
    expected = list(before)
    if outcome.kind is None or (impl.name == "pure" and outcome.refused and op in found):
        expected.append(op)
    assert same(found, expected)
    for each in (*before, op):
        assert each is None or each.try_finish() or impl.name == "pure"


# ---- adding ---------------------------------------------------------------------------------------


@table.case(*KINDS)
def enqueue_a_new_key(impl, kind):
    queue = make(impl, kind)
    before = put(queue, "a")
    op = impl.Op("b")
    outcome = yield lambda: queue.enqueue("b", op)
    audit(impl, queue, before, op, outcome)


@table.case(*[(kind, count) for kind in KINDS for count in (1, 2, 4)], ("fifo", 8))
def enqueue_to_a_row(impl, kind, count):
    queue = make(impl, kind)
    before = put(queue, *["a"] * count)
    op = impl.Op("a")
    outcome = yield lambda: queue.enqueue("a", op)
    audit(impl, queue, before, op, outcome)


@table.case(*KINDS)
def enqueue_what_fills_a_row(impl, kind):
    queue = make(impl, kind, width=2)
    before = put(queue, "a")
    op = impl.Op("a")
    outcome = yield lambda: queue.enqueue("a", op)
    audit(impl, queue, before, op, outcome)


@table.case(6, 7, 48, 49, 50)
def enqueue_where_the_index_grows(impl, count):
    queue = impl.OpQueue(None, None)
    before = put(queue, *range(count))
    op = impl.Op("b")
    outcome = yield lambda: queue.enqueue(-1, op)
    audit(impl, queue, before, op, outcome)


class Key:
    """All have one hash."""

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return isinstance(other, Key) and self.name == other.name


@table.case(*[(kind, key) for kind in ("fifo", "dedupe") for key in ("a", "c")])
def enqueue_under_a_key_with_code_of_its_own(impl, kind, key):
    queue = make(impl, kind)
    before = put(queue, Key("a"), Key("b"))
    op = impl.Op("c")
    outcome = yield lambda: queue.enqueue(Key(key), op)
    audit(impl, queue, before, op, outcome)


@table.case(*[(kind, count) for kind in EXCLUSIVE for count in (0, 1)])
def enqueue_behind_an_owner(impl, kind, count):
    queue = make(impl, kind)
    put(queue, "a")[0].finish()
    queue.flush()
    row = queue.dequeue(0)
    before = put(queue, *["a"] * count)
    op = impl.Op("a")
    outcome = yield lambda: queue.enqueue("a", op)
    queue._check()
    row.release()
    audit(impl, queue, before, op, outcome)


def consume(queue):
    """In a thread: the operations of one row, or none."""
    try:
        row = insisting(queue.dequeue)
    except QueueClosedError:
        return ()
    ops = insisting(tuple, row)
    insisting(row.release)
    return ops


@table.case(*KINDS)
def enqueue_for_a_waiting_consumer(impl, kind):
    queue = make(impl, kind)
    workers = [Worker(consume, queue) for _ in range(2)]
    wait_consumers(queue, 2)
    op = impl.Op("a")
    outcome = yield lambda: queue.enqueue("a", op)
    queue._check()
    queue.close()
    taken = [op for worker in workers for op in worker.result()]
    audit(impl, queue, [], op, outcome, *taken)


@table.case(("depth", 1, None), ("width", None, 1), ("closed", None, None))
def enqueue_what_is_refused(impl, why, depth, width):
    queue = impl.OpQueue(depth, width)
    before = put(queue, "a")
    if why == "closed":
        queue.close()
    op = impl.Op("b")
    outcome = yield lambda: queue.enqueue("b" if why == "depth" else "a", op)
    audit(impl, queue, before, op, outcome)


@table.case()
def enqueue_waiting_in_vain(impl):
    queue = impl.OpQueue(1, None)
    before = put(queue, "a")
    op = impl.Op("b")
    outcome = yield lambda: queue.enqueue("b", op, timeout=0.0001)
    audit(impl, queue, before, op, outcome)


@table.case(*KINDS)
def enqueue_many(impl, kind):
    queue = make(impl, kind, depth=2, width=2)
    ops = [impl.Op(key) for key in "aabbac"]
    outcome = yield lambda: queue.enqueue_many(ops)
    refused = [] if outcome.refused else [op for op, error in outcome.value]
    found = contents(queue)
    # Those before the one that failed are in the queue: which, its contents tell.
    accepted = ops[:4] if not outcome.refused else [op for op in ops if op in found]
    assert same(found, accepted)
    assert outcome.refused or same(refused, ops[4:])
    assert accepted == ops[: len(accepted)]
    for op in ops:
        op.finish()


@table.case(*[(kind, key) for kind in KINDS for key in "ab"])
def submit(impl, kind, key):
    queue = make(impl, kind)
    before = put(queue, "a")
    outcome = yield lambda: queue.submit(key, "message")
    found = contents(queue)
    if outcome.kind is None:
        assert same(found, [*before, outcome.value])
        outcome.value.finish()
    else:
        # In the pure implementation it may be there, finished: nobody has it.
        assert impl.name == "pure" or same(found, before)
        assert all(op in before or op.done() for op in found)
        assert all(op in found for op in before)
    for op in before:
        op.finish()


@table.case(0, 0.0001)
def submit_what_is_refused(impl, timeout):
    queue = impl.OpQueue(1, None)
    before = put(queue, "a")
    outcome = yield lambda: queue.submit("b", timeout=timeout)
    audit(impl, queue, before, None, outcome)


# ---- taking ---------------------------------------------------------------------------------------


TAKING = {
    "dequeue": lambda queue: queue.dequeue(0),
    "dequeue_many": lambda queue: queue.dequeue_many(2, 0),
    "dequeue_more": lambda queue: queue.dequeue_many(100, 0),
    "drain": lambda queue: queue.drain(),
    "iteration": lambda queue: next(iter(queue)),
    "waiting": lambda queue: queue.dequeue(HANG),
}


def rows_of(value):
    """What a call that takes has returned, as a list."""
    return value if type(value) is list else [] if value is None else [value]


@table.case(*[(kind, call) for kind in KINDS for call in TAKING])
def take(impl, kind, call):
    queue = make(impl, kind)
    before = put(queue, *"aabcd")
    if call != "drain":
        queue.flush()
    taking = TAKING[call]
    outcome = yield lambda: taking(queue)
    queue._check()
    taken = []
    for row in rows_of(outcome.value):
        taken += row
        row.release()
    audit(impl, queue, before, None, Done(), *taken)


class Done:
    kind = MemoryError
    refused = True


@table.case(*KINDS)
def process(impl, kind):
    queue = make(impl, kind)
    before = put(queue, *"aab")
    queue.flush()
    worked = False

    def work(row):
        nonlocal worked
        worked = True

    outcome = yield lambda: queue.process(work, 0)
    row = before[:2]
    failed = [op for op in before if op.done()]
    if worked or failed:
        # Once it is taken, whatever fails is an error of the operations, or comes after the work.
        assert failed in ([], row) if outcome.refused else not failed
        assert all(isinstance(op.exception(), (MemoryError, SystemError)) for op in failed)
        assert same(contents(queue), before[2:])
    else:
        assert outcome.refused
        assert same(contents(queue), before)
    for op in before:
        op.try_finish()


@table.case(*[(kind, call) for kind in ("fifo", "dedupe") for call in ("dequeue", "dequeue_many", "drain")])
def take_for_a_waiting_producer(impl, kind, call):
    queue = make(impl, kind, depth=1)
    before = put(queue, "a")
    op = impl.Op("b")
    worker = Worker(insisting, queue.enqueue, "b", op, timeout=HANG)
    wait_producers(queue, 1)
    taking = TAKING[call]
    outcome = yield lambda: taking(queue)
    queue._check()
    taken = []
    if outcome.refused:
        assert impl.name == "pure" or queue.stats().producers_waiting == 1
        taken += queue.dequeue(0)
    for row in rows_of(outcome.value):
        taken += row
        row.release()
    worker.result()
    assert same([*taken, *contents(queue)], [*before, op])
    for each in (*before, op):
        each.finish()


@table.case(*[(call, timeout) for call in ("dequeue", "dequeue_many", "process", "join") for timeout in (0, 0.0001)])
def wait_in_vain(impl, call, timeout):
    queue = impl.OpWindow(None, None, 1000)
    before = put(queue, "a")
    calls = {
        "dequeue": lambda: queue.dequeue(timeout),
        "dequeue_many": lambda: queue.dequeue_many(2, timeout),
        "process": lambda: queue.process(id, timeout),
        "join": lambda: queue.join(timeout),
    }
    yield calls[call]
    audit(impl, queue, before, None, Done())


@table.case("dequeue", "dequeue_many", "process", "iteration")
def take_at_the_end(impl, call):
    queue = impl.OpQueue(None, None)
    queue.close()
    calls = {**TAKING, "process": lambda queue: queue.process(id)}
    taking = calls[call]
    yield lambda: taking(queue)
    queue._check()


@table.case(*[(kind, call) for kind in ("fifo", "dedupe") for call in ("dequeue", "dequeue_many", "iteration")])
def take_what_is_handed_over(impl, kind, call):
    queue = make(impl, kind)
    op = impl.Op("a")
    other = HandOver(lambda: queue.enqueue("a", op))
    calls = {
        "dequeue": lambda: other.ready() or queue.dequeue(HANG),
        "dequeue_many": lambda: other.ready() or queue.dequeue_many(2, HANG),
        "iteration": lambda: other.ready() or next(iter(queue)),
    }
    outcome = yield calls[call]
    other.join()
    queue._check()
    taken = []
    for row in rows_of(outcome.value):
        taken += row
        row.release()
    audit(impl, queue, [op], None, Done(), *taken)


@table.case("enqueue", "submit")
def enqueue_where_room_is_made(impl, call):
    queue = impl.OpQueue(1, None)
    before = put(queue, "a")
    op = impl.Op("b") if call == "enqueue" else None
    taken = []
    other = HandOver(lambda: taken.extend(queue.dequeue(0)))
    calls = {
        "enqueue": lambda: other.ready() or queue.enqueue("b", op, timeout=HANG),
        "submit": lambda: other.ready() or queue.submit("b", timeout=HANG),
    }
    outcome = yield calls[call]
    other.join()
    op = op or outcome.value
    audit(impl, queue, before, op, outcome, *taken)


@table.case()
def join_what_comes_to_an_end(impl):
    queue = impl.OpQueue(None, None)
    put(queue, "a")[0].finish()
    other = HandOver(lambda: queue.dequeue(0))
    outcome = yield lambda: other.ready() or queue.join(HANG)
    other.join()
    queue._check()
    assert outcome.refused or outcome.value is True


# ---- the rest -------------------------------------------------------------------------------------


@table.case(*[(kind, call) for kind in ("window", "window_exclusive") for call in ("all", "key", "code", "close")])
def end_windows(impl, kind, call):
    queue = make(impl, kind)
    before = put(queue, "a", "b", Key("c"))
    workers = [Worker(consume, queue) for _ in range(2)]
    wait_consumers(queue, 2)
    calls = {
        "all": lambda: queue.flush(),
        "key": lambda: queue.flush("a"),
        "code": lambda: queue.flush(Key("c")),
        "close": lambda: queue.close(),
    }
    outcome = yield calls[call]
    queue._check()
    assert outcome.kind is not None or outcome.value == {"all": 3, "key": 1, "code": 1, "close": None}[call]
    queue.close()
    taken = [op for worker in workers for op in worker.result()]
    audit(impl, queue, before, None, Done(), *taken)


@table.case("producer", "consumer", "joiner")
def close_where_somebody_waits(impl, who):
    queue = impl.DedupeQueue(1, None)
    before = put(queue, "a")
    row = queue.dequeue(0) if who != "producer" else ()
    op = impl.Op("b")
    op.finish()
    calls = {"producer": (queue.enqueue, "b", op), "consumer": (consume, queue), "joiner": (queue.join, HANG)}
    worker = Worker(insisting, *calls[who], **({"timeout": HANG} if who == "producer" else {}))
    wait_until_parked(queue, who, worker)
    yield lambda: queue.close()
    queue._check()
    queue.close()
    if row:
        row.release()
    assert type(worker.exception()) is (QueueClosedError if who == "producer" else type(None))
    audit(impl, queue, before, None, Done(), *row)


def wait_until_parked(queue, who, worker):
    if who == "producer":
        wait_producers(queue, 1)
    elif who == "consumer":
        wait_consumers(queue, 1)
    else:
        wait_blocked(worker)


@table.case(*[(kind, how) for kind in EXCLUSIVE for how in ("release", "with", "drop")])
def give_a_key_back(impl, kind, how):
    queue = make(impl, kind)
    first = put(queue, "a")
    queue.flush()
    held = [queue.dequeue(0)]
    before = put(queue, "a")
    queue.flush()
    workers = [Worker(consume, queue) for _ in range(2)]
    wait_consumers(queue, 2)
    calls = {
        "release": held[0].release,
        "with": partial(held[0].__exit__, None, None, None),
        "drop": held.clear,
    }
    call = calls[how]
    if how == "drop":
        calls.clear()
    yield call
    queue._check()
    if how != "drop":
        held[0].release()
    queue.close()
    taken = [op for worker in workers for op in worker.result()]
    audit(impl, queue, before, None, Done(), *taken)
    first[0].finish()


@table.case("empty", "ready", "closed")
def join(impl, state):
    queue = impl.OpQueue(None, None)
    before = put(queue, *["a"] * (state == "ready"))
    if state == "closed":
        queue.close()
    outcome = yield lambda: queue.join(0)
    assert outcome.refused or outcome.value is (state != "ready")
    audit(impl, queue, before, None, Done())


LOOKS = {
    "stats": lambda queue: queue.stats(),
    "len": len,
    "contains": lambda queue: "a" in queue,
    "contains_not": lambda queue: "z" in queue,
    "compares": lambda queue: Key("c") in queue,
    "compares_not": lambda queue: Key("d") in queue,
    "repr": repr,
    "closed": lambda queue: queue.closed,
    "iter": iter,
    "with": lambda queue: queue.__enter__(),
    "reduce": lambda queue: queue.__reduce__(),
    "flush_none": lambda queue: queue.flush("z"),
}


@table.case(*[(kind, look) for kind in ("fifo", "window_exclusive") for look in LOOKS])
def look(impl, kind, look):
    queue = make(impl, kind)
    before = put(queue, "a", "a", Key("c"))
    looking = LOOKS[look]
    yield lambda: looking(queue)
    audit(impl, queue, before, None, Done())


@table.case("OpQueue", "DedupeQueue", "OpWindow")
def make_a_queue(impl, name):
    kind = getattr(impl, name)
    arguments = {"OpQueue": (3, 3), "DedupeQueue": (3, 3), "OpWindow": (3, 3, 0.5)}[name]
    outcome = yield lambda: kind(*arguments)
    if outcome.value is not None:
        audit(impl, outcome.value, put(outcome.value, "a"), None, Done())


@table.case(*KINDS)
def drop_a_queue(impl, kind):
    """Its operations are dropped as well: those that nobody has are finished."""
    held = [make(impl, kind)]
    group = impl.CallGroup()
    with group:
        kept = group.add("a")
        held[0].enqueue("a", kept)
        held[0].enqueue("b", group.add("b"))
        held[0].enqueue("b", group.add("b"))
    yield held.clear
    assert not kept.done()
    assert group.outstanding == 1
    kept.finish()
    assert group.done()
    return 2


OPSETS = {
    "len": len,
    "item": lambda row: row[1],
    "slice": lambda row: row[:1],
    "iter": list,
    "reversed": lambda row: list(reversed(row)),
    "contains": lambda row: None in row,
    "index": lambda row: row.index(row[1]),
    "count": lambda row: row.count(row[1]),
    "repr": repr,
    "key": lambda row: row.key,
}


@table.case(*OPSETS)
def look_at_a_row(impl, look):
    queue = impl.DedupeQueue(None, None)
    before = put(queue, "a", "a")
    row = queue.dequeue(0)
    looking = OPSETS[look]
    yield lambda: looking(row)
    assert list(row) == before
    row.release()
    audit(impl, queue, before, None, Done(), *row)


def test_a_large_index_that_cannot_shrink_stays_large(impl):
    queue = impl.OpQueue(None, None)
    ops = {}
    for key in range(100_000):
        ops[key] = queue.submit(key)
    found = 0
    refuse = getattr(sys.modules.get("inflight._native"), "_refuse_after", None)
    if impl.name != "native" or refuse is None:
        pytest.skip("not a proof build of the native implementation")
    for row in queue:
        refuse(0)
        found += row.finish_all()
        if found == 100_000:
            break
    refuse(-1)
    queue._check()
    put(queue, *range(100))
    queue._check()
    assert [row.finish_all() for row in queue.drain()] == [1] * 100


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", table.cases)
def test_nothing_is_lost_for_want_of_memory(impl, name, way):
    table.run(impl, way, name)
