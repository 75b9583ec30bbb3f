"""Windows, closing, releasing, looking, making and dropping queues, without memory. As in test_nomemory_enqueue."""

from __future__ import annotations

from functools import partial

import pytest
from helpers import HANG, Key, Worker, of_proof_build, put, wait_blocked, wait_consumers, wait_producers
from nomemory import WAYS, Table, insisting
from nomemory_queues import EXCLUSIVE, KINDS, Done, audit, consume, make

from inflight import QueueClosedError
from inflight._invariants import check_invariants

table = Table()


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
    check_invariants(queue)
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
    check_invariants(queue)
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
    check_invariants(queue)
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
    if impl.name != "native":
        pytest.skip("the pure implementation has no allocations of its own")
    refuse = of_proof_build("_refuse_after")
    queue = impl.OpQueue(None, None)
    ops = {}
    for key in range(100_000):
        ops[key] = queue.submit(key)
    found = 0
    for row in queue:
        refuse(0)
        found += row.finish_all()
        if found == 100_000:
            break
    refuse(-1)
    check_invariants(queue)
    put(queue, *range(100))
    check_invariants(queue)
    assert [row.finish_all() for row in queue.drain()] == [1] * 100


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", table.cases)
def test_nothing_is_lost_for_want_of_memory(impl, name, way):
    table.run(impl, way, name)
