"""What the library promises, one test for each promise that no other file is about.

Who waits and who is served first: test_fairness. Interrupts: test_signals. Dropped objects: test_lifetime,
test_collection. Forks: test_fork. Calls that run into each other: test_races.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest
from helpers import HANG, Worker, keys, other_thread_can, put, take_all, wait_blocked, wait_consumers, wait_producers

from inflight import QueueClosedError, QueueEmptyError, QueueSaturatedDepthError, QueueSaturatedWidthError


def test_a_row_is_handed_out_to_one_consumer_and_every_enqueue_lands_in_one_row(make_queue):
    queue = make_queue()
    ops = [op for _ in range(3) for op in put(queue, *range(50))]
    workers = [Worker(take_all, queue) for _ in range(4)]
    rows = [row for worker in workers for row in worker.result()]
    assert sorted(keys(rows)) == list(range(50))
    assert sorted(map(id, (op for row in rows for op in row))) == sorted(map(id, ops))


def test_every_wake_up_reaches_somebody(make_queue):
    """As many rows as consumers are parked: none stays parked."""
    queue = make_queue()
    for _ in range(20):
        workers = [Worker(queue.dequeue, HANG) for _ in range(4)]
        wait_consumers(queue, 4)
        put(queue, *range(4))
        for worker in workers:
            worker.result().release()
    assert queue.join(0)


def test_rows_leave_in_the_order_in_which_their_keys_were_first_enqueued(make_queue):
    queue = make_queue()
    put(queue, "c", "a", "b", "a", "c")
    assert keys(take_all(queue)) == ["c", "a", "b"]


def test_a_duplicate_is_merged_even_when_depth_is_exhausted(make_queue):
    queue = make_queue(1, None)
    put(queue, "a")
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, "b")
    put(queue, "a")
    assert len(queue.dequeue(0)) == 2


def test_closed_is_reported_before_saturated(make_queue):
    queue = make_queue(1, 1)
    put(queue, "a")
    queue.close()
    for key in ("a", "b"):
        with pytest.raises(QueueClosedError):
            put(queue, key)


def test_waiting_rows_of_owned_keys_count_in_depth_and_length(impl):
    queue = impl.DedupeQueue(2, None)
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a", "b")
    assert len(queue) == 2
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, "c")
    row.release()


def test_the_reducer_runs_once_in_the_thread_of_the_last_finisher_outside_every_lock(impl):
    queue = impl.OpQueue(None, None)
    seen = []

    def reducer(results):
        seen.append(threading.get_ident())
        # Another thread gets through to everything that the finisher has its hands on.
        assert other_thread_can(lambda: (group.done(), len(group), group.seal(), op.done(), repr(group)))
        assert other_thread_can(lambda: (queue.submit(2), queue.dequeue(0)))
        assert other_thread_can(lambda: op.add_done_callback(lambda op: None))

    group = impl.CallGroup(reducer)
    op = group.add(1)
    queue.enqueue(1, op)
    row = queue.dequeue(0)
    row.finish_all()
    group.result(0)
    assert seen == [threading.get_ident()]


def test_what_a_reducer_raises_never_reaches_the_worker(impl, caplog):
    group = impl.CallGroup(lambda results: 1 / 0)
    group.add(1).finish()
    assert len(caplog.records) == 1
    with pytest.raises(ZeroDivisionError):
        group.result()


def test_a_group_completes_when_nothing_is_outstanding_nothing_holds_it_and_it_had_an_operation_or_was_sealed(impl):
    empty = impl.CallGroup()
    assert not empty.done()
    empty.seal()
    assert empty.done()

    held = impl.CallGroup()
    with held:
        held.add(1).finish()
        assert not held.done()
    assert held.done()

    unsealed = impl.CallGroup()
    unsealed.add(1).finish()
    assert unsealed.done()


def test_a_group_counts_operations_and_not_keys(impl):
    group = impl.CallGroup()
    one, other = group.add("k"), group.add("k")
    one.finish()
    assert not group.done()
    other.finish()
    assert group.done()


def test_a_group_may_span_queues_and_a_row_may_hold_many_groups(impl):
    queues = [impl.OpQueue(None, None), impl.DedupeQueue(None, None), impl.OpWindow(None, 2, 1000)]
    groups = [impl.CallGroup(), impl.CallGroup()]
    for queue in queues:
        for group in groups:
            queue.enqueue("k", group.add("k"))
    for queue in queues:
        assert not any(group.done() for group in groups)
        assert queue.dequeue(0).finish_all() == 2
    assert all(group.done() for group in groups)


@pytest.mark.parametrize("call", ["dequeue", "dequeue_many", "process", "enqueue", "join", "op", "group"])
def test_waits_honour_their_timeout_against_a_monotonic_clock(impl, call):
    queue = impl.OpQueue(1, None)
    busy = impl.OpQueue(1, None)
    put(busy, 1)
    op = impl.Op(1)
    group = impl.CallGroup()
    calls = {
        "dequeue": (QueueEmptyError, lambda: queue.dequeue(0.02)),
        "dequeue_many": (QueueEmptyError, lambda: queue.dequeue_many(2, 0.02)),
        "process": (QueueEmptyError, lambda: queue.process(print, 0.02)),
        "enqueue": (QueueSaturatedDepthError, lambda: busy.enqueue(2, op, timeout=0.02)),
        "join": (None, lambda: busy.join(0.02)),
        "op": (TimeoutError, lambda: op.result(0.02)),
        "group": (TimeoutError, lambda: group.result(0.02)),
    }
    error, function = calls[call]
    began = time.monotonic()
    if error is None:
        assert function() is False
    else:
        with pytest.raises(error):
            function()
    assert time.monotonic() - began >= 0.02


def test_a_window_starts_at_the_first_operation_also_while_its_key_is_owned(impl, clock):
    queue = impl.DedupeQueue(None, None, window=10)
    put(queue, "a")
    queue.flush()
    row = queue.dequeue(0)
    put(queue, "a")
    clock.advance(10)
    row.release()
    assert queue.dequeue(0).key == "a"


def test_a_ready_row_merges_until_it_is_taken(impl, clock):
    queue = impl.OpWindow(None, None, 10)
    put(queue, "a")
    clock.advance(10)
    put(queue, "a")
    assert len(queue.dequeue(0)) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_no_hidden_thread(impl):
    def threads():
        return len(os.listdir("/proc/self/task"))

    before = threads()
    queue = impl.OpWindow(1, None, 0.01, exclusive=True)
    group = impl.CallGroup()
    queue.enqueue("a", group.add("a"))
    assert threads() == before
    with queue.dequeue(HANG) as row:
        row.finish_all()
    group.result(HANG)
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0.01)
    workers = [Worker(queue.dequeue, HANG), Worker(queue.dequeue, HANG)]
    wait_consumers(queue, 2)
    assert threads() == before + 2
    queue.close()
    for worker in workers:
        assert isinstance(worker.exception(), QueueClosedError)


class Probe:
    """A key whose hash and comparison go where another thread must get through."""

    def __init__(self, number, visit):
        self.number = number
        self.visit = visit

    def __hash__(self):
        assert self.visit()
        return 7

    def __eq__(self, other):
        assert self.visit()
        return isinstance(other, Probe) and self.number == other.number


def test_no_user_hash_or_comparison_runs_under_a_lock(make_queue):
    queue = make_queue(None, None)
    calls = []

    def visit():
        calls.append(1)
        return other_thread_can(lambda: (queue.stats(), len(queue), queue.flush(), repr(queue)))

    put(queue, Probe(1, visit), Probe(2, visit), Probe(1, visit))
    assert Probe(2, visit) in queue
    assert Probe(3, visit) not in queue
    queue.flush(Probe(2, visit))
    rows = queue.dequeue_many(5, 0)
    assert [len(row) for row in rows] == [2, 1]
    put(queue, Probe(1, visit))
    for row in rows:
        row.release()
    assert calls


def test_no_user_callback_runs_under_a_lock(impl):
    queue = impl.DedupeQueue(None, None)
    group = impl.CallGroup()
    op = group.add(1)
    seen = []

    def visit(_):
        seen.append(other_thread_can(lambda: (queue.stats(), queue.submit(2), group.done(), len(group), repr(op))))

    op.add_done_callback(visit)
    group.add_done_callback(visit)
    queue.enqueue(1, op)
    with pytest.raises(ZeroDivisionError), queue.dequeue(0):
        raise ZeroDivisionError
    assert seen == [True, True]


def test_no_finalizer_of_a_user_object_runs_under_a_lock(make_queue, collect):
    queue = make_queue()
    seen = []

    class Loud:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            return isinstance(other, Loud)

        def __del__(self):
            seen.append(other_thread_can(lambda: (queue.stats(), len(queue))))

    # As the key that stays, as the key of a duplicate, and as a message.
    queue.submit(Loud(), Loud())
    queue.submit(Loud(), Loud())
    queue.flush(Loud())
    assert Loud() in queue
    rows = take_all(queue)
    queue.submit(Loud(), Loud())
    del rows
    rows = take_all(queue)
    del rows
    queue.submit("other", Loud())
    queue.close()
    queue.drain()
    collect()
    assert len(seen) >= 8
    assert all(seen)


def test_dropping_a_full_queue_runs_finalizers_that_use_other_queues(make_queue):
    queue, other = make_queue(), make_queue()
    seen = []

    class Loud:
        def __del__(self):
            other.submit(len(other))
            seen.append(other_thread_can(lambda: other.stats()))

    for number in range(10):
        queue.submit(number, Loud())
    del queue
    assert seen == [True] * 10
    assert len(other) == 10


def test_the_cost_of_a_call_does_not_grow_with_depth(make_queue):
    """A cost that grew with depth would take hours here."""
    queue = make_queue()
    total = 60_000
    put(queue, *range(total))
    put(queue, *range(total))
    half = [queue.dequeue(0) for _ in range(total // 2)]
    put(queue, *range(total // 2))
    rest = take_all(queue)
    for row in half:
        row.finish_all()
        row.release()
    rest += take_all(queue)
    for row in rest:
        row.finish_all()
        row.release()
    assert len(queue) == 0
    assert queue.stats().dequeued_ops == total * 2 + total // 2


def test_the_cost_of_windows_does_not_grow_with_depth(impl, clock):
    queue = impl.OpWindow(None, 2, 10)
    total = 30_000
    for number in range(total):
        put(queue, number)
        clock.advance(0.0001)
    # Fill every other row, from the back: each leaves the middle of the list.
    put(queue, *range(total - 1, 0, -2))
    assert len(take_all(queue)) == total // 2
    clock.advance(10)
    assert len(take_all(queue)) == total // 2


def test_the_number_of_comparisons_does_not_grow_with_depth(impl):
    class Key:
        def __init__(self, number):
            self.number = number

        def __hash__(self):
            return hash(self.number)

        def __eq__(self, other):
            compared.append(1)
            return self.number == other.number

    queue = impl.OpQueue(None, None)
    compared = []
    total = 5000
    for number in range(total):
        queue.submit(Key(number))
    assert not compared
    for number in range(total):
        queue.submit(Key(number))
    assert len(compared) <= 2 * total
    compared.clear()
    assert len(take_all(queue)) == total
    assert not compared


def test_width_is_refused_at_once_even_with_a_timeout(make_queue):
    queue = make_queue(1, 1)
    put(queue, 1)
    with pytest.raises(QueueSaturatedWidthError):
        queue.submit(1, timeout=HANG)


def test_every_kind_of_waiter_may_wait_on_one_queue(impl):
    queue = impl.DedupeQueue(1, None)
    put(queue, "a")
    owner = queue.dequeue(0)
    put(queue, "a")
    consumer = Worker(queue.dequeue, HANG)
    producer = Worker(queue.submit, "b", timeout=HANG)
    joiner = Worker(queue.join, HANG)
    wait_consumers(queue, 1)
    wait_producers(queue, 1)
    wait_blocked(joiner)
    owner.release()
    consumer.result().release()
    producer.result()
    queue.dequeue(HANG).release()
    assert joiner.result() is True
