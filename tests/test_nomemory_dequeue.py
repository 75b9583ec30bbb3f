"""What takes rows out of queues, and waits for them, without memory. As in test_nomemory_enqueue."""

from __future__ import annotations

import pytest
from helpers import HANG, Worker, put, wait_producers
from nomemory import WAYS, HandOver, Table, insisting, same
from nomemory_queues import KINDS, Done, audit, audit_process, contents, make

from inflight._invariants import check_invariants

table = Table()


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
    check_invariants(queue)
    taken = []
    for row in rows_of(outcome.value):
        taken += row
        row.release()
    audit(impl, queue, before, None, Done(), *taken)


@table.case("dequeue_many", "drain")
def take_what_others_take_meanwhile(impl, call):
    """While the clock of the windows is read, once there is room for all of them: the last is left."""
    number = 40
    reads = number
    stolen = [()] * (number - 1)

    def clock():
        nonlocal reads
        reads += 1
        if reads == 2:
            for i in range(number - 1):
                stolen[i] = queue.dequeue(0)
        return 1000.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inflight._clock.monotonic", clock)
        queue = impl.OpWindow(None, 1, 1000)
    before = put(queue, *range(number))
    reads = 0
    outcome = yield lambda: queue.drain() if call == "drain" else queue.dequeue_many(number, 0)
    reads = number
    check_invariants(queue)
    taken = [op for row in (*stolen, *rows_of(outcome.value)) for op in row]
    audit(impl, queue, before, None, Done(), *taken)


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
    failed = audit_process(queue, before, worked, outcome)
    assert outcome.refused or not failed
    assert all(isinstance(op.exception(), (MemoryError, SystemError)) for op in failed)


@table.case(*[(kind, call) for kind in ("fifo", "dedupe") for call in ("dequeue", "dequeue_many", "drain")])
def take_for_a_waiting_producer(impl, kind, call):
    queue = make(impl, kind, depth=1)
    before = put(queue, "a")
    op = impl.Op("b")
    worker = Worker(insisting, queue.enqueue, "b", op, timeout=HANG)
    wait_producers(queue, 1)
    taking = TAKING[call]
    outcome = yield lambda: taking(queue)
    check_invariants(queue)
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
    check_invariants(queue)


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
    check_invariants(queue)
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
    check_invariants(queue)
    assert outcome.refused or outcome.value is True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", table.cases)
def test_nothing_is_lost_for_want_of_memory(impl, name, way):
    table.run(impl, way, name)
