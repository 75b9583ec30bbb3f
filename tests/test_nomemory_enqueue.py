"""What puts operations into queues, without memory: whatever allocation fails, the call raises MemoryError and nothing
is lost.

Each case makes one call, and nomemory.py lets one allocation of it fail after the other. Then: the
invariants hold; what was accepted before is there, once; the operation of the failing call is not in the
queue. The pure implementation may have accepted it all the same, as it may when a signal handler raises.
"""

from __future__ import annotations

import pytest
from helpers import Key, Worker, put, wait_consumers
from nomemory import WAYS, Table, same
from nomemory_queues import EXCLUSIVE, KINDS, audit, consume, contents, make

from inflight._invariants import check_invariants

table = Table()


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
    check_invariants(queue)
    row.release()
    audit(impl, queue, before, op, outcome)


@table.case(*KINDS)
def enqueue_for_a_waiting_consumer(impl, kind):
    queue = make(impl, kind)
    workers = [Worker(consume, queue) for _ in range(2)]
    wait_consumers(queue, 2)
    op = impl.Op("a")
    outcome = yield lambda: queue.enqueue("a", op)
    check_invariants(queue)
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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", table.cases)
def test_nothing_is_lost_for_want_of_memory(impl, name, way):
    table.run(impl, way, name)
