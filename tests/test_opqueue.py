"""What every queue does: merge by key, hand out rows oldest key first, bound depth and width.

These tests run over each kind of queue, with no window; what windows and ownership add is in
test_opwindow and test_dedupequeue.
"""

from __future__ import annotations

import copy
import time
from queue import Empty, Full

import pytest
from helpers import HANG, Worker, keys, put, take_all, wait_blocked, wait_consumers, wait_producers

from inflight import (
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedError,
    QueueSaturatedWidthError,
    QueueStats,
)


def test_rows_leave_in_the_order_their_keys_came(make_queue):
    queue = make_queue()
    put(queue, 3, 1, 2, 1, 3)
    assert keys(take_all(queue)) == [3, 1, 2]


def test_operations_of_one_key_are_one_row_in_enqueue_order(impl, make_queue):
    queue = make_queue()
    ops = [impl.Op(index) for index in range(4)]
    for op in ops:
        queue.enqueue("k", op)
    assert len(queue) == 1
    assert tuple(queue.dequeue(0)) == tuple(ops)
    assert len(queue) == 0


def test_enqueue_returns_none_and_takes_keywords(impl, make_queue):
    queue = make_queue()
    assert queue.enqueue(key=1, op=impl.Op(1), timeout=None) is None


def test_a_row_is_an_opset(impl, make_queue):
    queue = make_queue()
    put(queue, 1)
    assert isinstance(queue.dequeue(0), impl.OpSet)


def test_a_key_that_was_taken_starts_a_new_row(make_queue):
    queue = make_queue()
    put(queue, "a", "b")
    queue.dequeue(0).release()
    put(queue, "a")
    assert keys(take_all(queue)) == ["b", "a"]


def test_length_counts_distinct_waiting_keys(make_queue):
    queue = make_queue()
    assert len(queue) == 0
    put(queue, 1, 2, 1)
    assert len(queue) == 2
    queue.dequeue(0)
    assert len(queue) == 1


def test_is_always_true(make_queue):
    queue = make_queue()
    assert queue
    queue.close()
    assert queue


def test_contains_tells_what_waits(make_queue):
    queue = make_queue()
    put(queue, "a")
    assert "a" in queue
    assert "b" not in queue
    row = queue.dequeue(0)
    assert ("a" in queue) == make_queue.exclusive
    row.release()
    assert "a" not in queue
    with pytest.raises(TypeError, match="unhashable"):
        [] in queue  # noqa: B015


def test_bounds_are_readable_and_read_only(make_queue):
    queue = make_queue(3, 4)
    assert (queue.depth, queue.width) == (3, 4)
    assert (make_queue().depth, make_queue().width) == (None, None)
    for name in ("depth", "width", "closed"):
        with pytest.raises(AttributeError):
            setattr(queue, name, 1)


def test_depth_refuses_a_new_key(impl, make_queue):
    queue = make_queue(2, None)
    put(queue, 1, 2)
    op = impl.Op(3)
    with pytest.raises(QueueSaturatedDepthError) as info:
        queue.enqueue("new", op)
    assert (info.value.key, info.value.limit) == ("new", 2)
    assert isinstance(info.value, QueueSaturatedError)
    assert isinstance(info.value, Full)
    assert not op.done()
    assert len(queue) == 2
    queue.dequeue(0)
    queue.enqueue("new", op)
    assert keys(take_all(queue)) == [2, "new"]


def test_a_duplicate_is_merged_although_depth_is_exhausted(make_queue):
    queue = make_queue(1, None)
    put(queue, 1, 1, 1)
    assert len(queue.dequeue(0)) == 3


def test_width_refuses_a_duplicate(impl, make_queue):
    queue = make_queue(None, 2)
    put(queue, "k", "k")
    op = impl.Op(3)
    with pytest.raises(QueueSaturatedWidthError) as info:
        queue.enqueue("k", op)
    assert (info.value.key, info.value.limit) == ("k", 2)
    assert not op.done()
    put(queue, "other")
    assert len(queue.dequeue(0)) == 2


def test_width_never_waits(impl, make_queue):
    queue = make_queue(None, 1)
    put(queue, "k")
    with pytest.raises(QueueSaturatedWidthError):
        queue.enqueue("k", impl.Op(1), timeout=None)


def test_width_of_one(make_queue):
    queue = make_queue(None, 1)
    put(queue, 1, 2)
    with pytest.raises(QueueSaturatedWidthError):
        put(queue, 1)
    assert [len(row) for row in take_all(queue)] == [1, 1]


def test_unbounded(make_queue):
    queue = make_queue()
    put(queue, *range(1000), *([0] * 999))
    rows = take_all(queue)
    assert len(rows) == 1000
    assert len(rows[0]) == 1000


def test_the_same_operation_may_be_enqueued_again(impl, make_queue):
    queue = make_queue()
    op = impl.Op(1)
    for key in ("a", "b", "a"):
        queue.enqueue(key, op)
    first, second = take_all(queue)
    assert tuple(first) == (op, op)
    assert tuple(second) == (op,)
    assert first.finish_all(1) == 1
    assert second.finish_all(2) == 0


def test_a_finished_operation_may_be_enqueued(impl, make_queue):
    queue = make_queue()
    op = impl.Op(1)
    op.finish("before")
    queue.enqueue(1, op)
    row = queue.dequeue(0)
    assert row.finish_all("after") == 0
    assert op.result() == "before"


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -float("inf")])
def test_dequeue_without_waiting(make_queue, timeout):
    queue = make_queue()
    with pytest.raises(QueueEmptyError, match="no row is ready") as info:
        queue.dequeue(timeout)
    assert isinstance(info.value, Empty)
    put(queue, 1)
    assert queue.dequeue(timeout).key == 1


def test_dequeue_times_out(make_queue):
    queue = make_queue()
    began = time.monotonic()
    with pytest.raises(QueueEmptyError, match="within 0.02 seconds"):
        queue.dequeue(timeout=0.02)
    assert time.monotonic() - began >= 0.02
    assert queue.stats().consumers_waiting == 0
    put(queue, 1)
    assert queue.dequeue(0).key == 1


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e300, 10**400, HANG])
def test_dequeue_waits_for_a_row(make_queue, timeout):
    queue = make_queue()
    worker = Worker(queue.dequeue, timeout)
    wait_consumers(queue, 1)
    put(queue, 1)
    assert worker.result().key == 1


def test_a_consumer_that_timed_out_is_forgotten(make_queue):
    queue = make_queue()
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0.001)
    put(queue, 1)
    assert worker.result().key == 1


def test_enqueue_without_a_timeout_does_not_wait_for_depth(make_queue):
    queue = make_queue(1, None)
    put(queue, 1)
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, 2)
    assert queue.stats().producers_waiting == 0


def test_enqueue_times_out_waiting_for_depth(impl, make_queue):
    queue = make_queue(1, None)
    put(queue, 1)
    op = impl.Op(2)
    began = time.monotonic()
    with pytest.raises(QueueSaturatedDepthError):
        queue.enqueue(2, op, timeout=0.02)
    assert time.monotonic() - began >= 0.02
    assert queue.stats().producers_waiting == 0
    assert not op.done()
    assert keys(take_all(queue)) == [1]
    put(queue, 3)
    assert keys(take_all(queue)) == [3]


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e300, HANG])
def test_enqueue_waits_for_depth(impl, make_queue, timeout):
    queue = make_queue(1, None)
    put(queue, 1)
    op = impl.Op(2)
    worker = Worker(queue.enqueue, 2, op, timeout=timeout)
    wait_producers(queue, 1)
    assert queue.dequeue(0).key == 1
    worker.result()
    assert queue.dequeue(0)[0] is op


def test_a_parked_producer_merges_when_its_key_comes_to_wait(impl, make_queue):
    """Another producer gets the slot, with the same key: the parked one needs no slot any more."""
    queue = make_queue(1, None)
    put(queue, "old")
    workers = [Worker(queue.submit, "same", index, timeout=HANG) for index in range(2)]
    wait_producers(queue, 2)
    assert queue.dequeue(0).key == "old"
    ops = [worker.result() for worker in workers]
    row = queue.dequeue(0)
    assert set(row) == set(ops)


def test_closed_ends_waiting_producers(make_queue):
    queue = make_queue(1, None)
    put(queue, 1)
    workers = [Worker(queue.submit, key, timeout=HANG) for key in (2, 3)]
    wait_producers(queue, 2)
    queue.close()
    for worker in workers:
        assert isinstance(worker.exception(), QueueClosedError)
    assert keys(take_all(queue)) == [1]


def test_close_refuses_new_operations_and_drains_the_old(impl, make_queue):
    queue = make_queue()
    put(queue, 1, 2)
    assert queue.closed is False
    assert queue.close() is None
    queue.close()
    assert queue.closed is True
    op = impl.Op(1)
    for key in (1, 3):
        with pytest.raises(QueueClosedError, match="^the queue is closed$"):
            queue.enqueue(key, op)
        with pytest.raises(QueueClosedError):
            queue.enqueue(key, op, timeout=None)
    assert not op.done()
    for key in (1, 2):
        row = queue.dequeue()
        assert row.key == key
        row.release()
    for timeout in (None, 0, 1):
        with pytest.raises(QueueClosedError, match="^the queue is closed and drained$"):
            queue.dequeue(timeout)


def test_closed_is_reported_before_saturated(impl, make_queue):
    queue = make_queue(1, 1)
    put(queue, 1)
    queue.close()
    for key in (1, 2):
        with pytest.raises(QueueClosedError):
            queue.enqueue(key, impl.Op(1))


def test_close_wakes_waiting_consumers(make_queue):
    queue = make_queue()
    workers = [Worker(queue.dequeue, HANG) for _ in range(3)]
    wait_consumers(queue, 3)
    queue.close()
    for worker in workers:
        assert isinstance(worker.exception(), QueueClosedError)


def test_leaving_the_block_closes(make_queue):
    queue = make_queue()
    with queue as entered:
        assert entered is queue
        put(queue, 1)
    assert queue.closed
    assert keys(take_all(queue)) == [1]
    with pytest.raises(ZeroDivisionError), make_queue() as other:
        raise ZeroDivisionError
    assert other.closed


def test_dequeue_many_takes_up_to_its_limit(make_queue):
    queue = make_queue()
    put(queue, *range(5))
    assert keys(queue.dequeue_many(3)) == [0, 1, 2]
    rows = queue.dequeue_many(3, timeout=0)
    assert isinstance(rows, list)
    assert keys(rows) == [3, 4]


def test_dequeue_many_waits_for_one(make_queue):
    queue = make_queue()
    worker = Worker(queue.dequeue_many, 3, HANG)
    wait_consumers(queue, 1)
    put(queue, 1)
    assert keys(worker.result()) == [1]


def test_dequeue_many_raises_as_dequeue(make_queue):
    queue = make_queue()
    with pytest.raises(QueueEmptyError):
        queue.dequeue_many(3, 0)
    with pytest.raises(QueueEmptyError):
        queue.dequeue_many(limit=3, timeout=0.01)
    queue.close()
    with pytest.raises(QueueClosedError):
        queue.dequeue_many(3)


def test_drain_takes_everything(make_queue):
    queue = make_queue()
    assert queue.drain() == []
    put(queue, 1, 2, 1)
    rows = queue.drain()
    assert keys(rows) == [1, 2]
    assert len(rows[0]) == 2
    assert len(queue) == 0
    stats = queue.stats()
    assert stats.owned == (2 if make_queue.exclusive else 0)
    assert stats.dequeued_rows == 2


def test_drain_of_a_closed_queue(make_queue):
    queue = make_queue()
    put(queue, 1)
    queue.close()
    assert keys(queue.drain()) == [1]
    assert queue.drain() == []


def test_drain_makes_room_for_producers(make_queue):
    queue = make_queue(2, None)
    put(queue, 1, 2)
    workers = [Worker(queue.submit, key, timeout=HANG) for key in (3, 4)]
    wait_producers(queue, 2)
    assert keys(queue.drain()) == [1, 2]
    for worker in workers:
        worker.result()
    assert sorted(keys(take_all(queue))) == [3, 4]


def test_join_waits_until_nothing_waits(make_queue):
    queue = make_queue()
    assert queue.join() is True
    put(queue, 1)
    began = time.monotonic()
    assert queue.join(0) is False
    assert queue.join(timeout=0.01) is False
    assert time.monotonic() - began >= 0.01
    workers = [Worker(queue.join, HANG) for _ in range(2)]
    wait_blocked(*workers)
    queue.dequeue(0).release()
    assert [worker.result() for worker in workers] == [True, True]


def test_join_returns_once_nothing_waited_for_an_instant(make_queue, huge_switch_interval):
    """Even if something waits again before the joiner runs: else a busy queue would never let it go."""
    queue = make_queue()
    put(queue, "a")
    workers = [Worker(queue.join, 10) for _ in range(2)]
    wait_blocked(*workers)
    for key in "bcd":
        queue.dequeue(0).release()
        put(queue, key)
    assert [worker.result() for worker in workers] == [True, True]
    assert queue.join(0) is False


def test_join_can_be_used_again(make_queue):
    queue = make_queue()
    for key in range(3):
        put(queue, key)
        assert queue.join(0) is False
        queue.dequeue(0).release()
        assert queue.join(0) is True


def test_flush_of_a_queue_without_windows_does_nothing(make_queue):
    queue = make_queue()
    put(queue, 1)
    assert queue.flush() == 0
    assert queue.flush(1) == 0
    assert queue.flush(key=2) == 0
    with pytest.raises(TypeError, match="unhashable"):
        queue.flush([])
    assert keys(take_all(queue)) == [1]


def test_process(make_queue):
    queue = make_queue()
    ops = put(queue, 1, 1)
    assert queue.process(lambda row: row.finish_all(row.key)) is True
    assert [op.result(0) for op in ops] == [1, 1]
    assert 1 not in queue
    with pytest.raises(QueueEmptyError):
        queue.process(lambda row: None, timeout=0)
    queue.close()
    assert queue.process(lambda row: None) is False


def test_process_fails_the_operations_with_what_the_function_raises(make_queue):
    queue = make_queue()
    (op,) = put(queue, 1)
    error = ValueError("in the worker")
    with pytest.raises(ValueError, match="in the worker"):
        queue.process(_raise(error))
    assert op.exception() is error
    assert 1 not in queue


def test_process_lets_the_functions_own_queue_errors_pass(make_queue):
    """Only the end of this very queue is answered with False."""
    for error in (QueueClosedError("of another queue"), QueueEmptyError("of another queue")):
        queue = make_queue()
        (op,) = put(queue, 1)
        with pytest.raises(type(error)) as info:
            queue.process(_raise(error))
        assert info.value is error
        assert op.exception() is error


def test_process_checks_its_function_before_it_takes_a_row(make_queue):
    queue = make_queue()
    put(queue, 1)
    with pytest.raises(TypeError, match="fn must be callable"):
        queue.process(None)
    assert len(queue) == 1


def test_iteration_ends_once_closed_and_drained(make_queue):
    queue = make_queue()
    put(queue, 1, 2, 1)
    queue.close()
    seen = []
    for row in queue:
        with row:
            seen.append((row.key, len(row)))
    assert seen == [(1, 2), (2, 1)]
    assert list(queue) == []


def test_iteration_waits(make_queue):
    def consume():
        seen = []
        for row in queue:
            with row:
                seen.append(row.key)
        return seen

    queue = make_queue()
    worker = Worker(consume)
    for key in (1, 2):
        wait_consumers(queue, 1)
        put(queue, key)
    wait_consumers(queue, 1)
    queue.close()
    assert worker.result() == [1, 2]


def test_breaking_out_of_an_iteration_loses_nothing(make_queue):
    queue = make_queue()
    put(queue, 1, 2, 3)
    for row in queue:
        row.release()
        break
    assert keys(take_all(queue)) == [2, 3]


def test_submit(impl, make_queue):
    queue = make_queue()
    op = queue.submit("k", "m")
    assert isinstance(op, impl.Op)
    assert (op.key, op.msg, op.group) == ("k", "m", None)
    other = queue.submit(key="k", msg=2, timeout=None)
    assert queue.submit("k").msg is None
    row = queue.dequeue(0)
    assert row[0] is op
    assert row[1] is other


def test_submit_refused(make_queue):
    queue = make_queue(1, 1)
    put(queue, 1)
    with pytest.raises(QueueSaturatedDepthError):
        queue.submit(2)
    with pytest.raises(QueueSaturatedDepthError):
        queue.submit(2, timeout=0.001)
    with pytest.raises(QueueSaturatedWidthError):
        queue.submit(1)
    with pytest.raises(TypeError, match="unhashable"):
        queue.submit([])
    queue.close()
    with pytest.raises(QueueClosedError):
        queue.submit(2)


def test_submit_waits_for_depth(make_queue):
    queue = make_queue(1, None)
    put(queue, 1)
    worker = Worker(queue.submit, 2, "m", timeout=HANG)
    wait_producers(queue, 1)
    queue.dequeue(0)
    op = worker.result()
    assert queue.dequeue(0)[0] is op


def test_enqueue_many_returns_the_refused(impl, make_queue):
    queue = make_queue(2, 2)
    ops = [impl.Op(key) for key in (1, 2, 3, 1, 1, 2)]
    refused = queue.enqueue_many(iter(ops))
    assert isinstance(refused, list)
    assert [op for op, error in refused] == [ops[2], ops[4]]
    assert isinstance(refused[0][1], QueueSaturatedDepthError)
    assert (refused[0][1].key, refused[0][1].limit) == (3, 2)
    assert isinstance(refused[1][1], QueueSaturatedWidthError)
    assert (refused[1][1].key, refused[1][1].limit) == (1, 2)
    rows = take_all(queue)
    assert [tuple(row) for row in rows] == [(ops[0], ops[3]), (ops[1], ops[5])]
    assert not any(op.done() for op in ops)


def test_enqueue_many_of_nothing(make_queue):
    assert make_queue().enqueue_many([]) == []


def test_enqueue_many_refuses_what_is_no_operation_before_anything_is_enqueued(impl, make_queue):
    queue = make_queue()
    with pytest.raises(TypeError, match="op"):
        queue.enqueue_many([impl.Op(1), "no op"])
    with pytest.raises(TypeError):
        queue.enqueue_many(5)
    assert len(queue) == 0


def test_enqueue_many_with_a_failing_iterator_enqueues_nothing(impl, make_queue):
    def ops():
        yield impl.Op(1)
        raise ZeroDivisionError

    queue = make_queue()
    with pytest.raises(ZeroDivisionError):
        queue.enqueue_many(ops())
    assert len(queue) == 0


def test_enqueue_many_on_a_closed_queue(impl, make_queue):
    queue = make_queue()
    queue.close()
    with pytest.raises(QueueClosedError):
        queue.enqueue_many([impl.Op(1)])


def test_enqueue_many_wakes_consumers(impl, make_queue):
    queue = make_queue()
    workers = []
    for number in range(3):
        workers.append(Worker(queue.dequeue, HANG))
        wait_consumers(queue, number + 1)
    queue.enqueue_many([impl.Op(key) for key in range(3)])
    assert [worker.result().key for worker in workers] == [0, 1, 2]


def test_stats(impl, make_queue):
    queue = make_queue(2, 2)
    assert queue.stats() == QueueStats(*[0] * 12)
    put(queue, 1, 2, 1)
    for key in (1, 3):
        with pytest.raises(QueueSaturatedError):
            queue.enqueue(key, impl.Op(key))
    stats = queue.stats()
    assert isinstance(stats, QueueStats)
    assert stats._asdict() == {
        "keys": 2,
        "ops": 3,
        "owned": 0,
        "consumers_waiting": 0,
        "producers_waiting": 0,
        "enqueued": 3,
        "merged": 1,
        "dequeued_rows": 0,
        "dequeued_ops": 0,
        "refused_depth": 1,
        "refused_width": 1,
        "requeued": 0,
    }
    row = queue.dequeue(0)
    stats = queue.stats()
    assert (stats.keys, stats.ops, stats.dequeued_rows, stats.dequeued_ops) == (1, 1, 1, 2)
    assert stats.owned == (1 if make_queue.exclusive else 0)
    row.release()
    assert queue.stats().owned == 0


def test_stats_of_waiters(make_queue):
    queue = make_queue(1, None)
    consumers = [Worker(queue.dequeue, HANG) for _ in range(2)]
    wait_consumers(queue, 2)
    put(queue, 1)
    consumers_left = consumers
    wait_consumers(queue, 1)
    put_second = Worker(queue.submit, 2, timeout=HANG)
    put_second.result()
    for worker in consumers_left:
        worker.result()
    put(queue, 3)
    producers = [Worker(queue.submit, key, timeout=HANG) for key in (4, 5)]
    wait_producers(queue, 2)
    take = [queue.dequeue(HANG).key for _ in range(3)]
    assert take[0] == 3
    assert sorted(take[1:]) == [4, 5]
    for worker in producers:
        worker.result()
    assert queue.stats().producers_waiting == 0


def test_refusals_after_a_wait_are_counted_once(make_queue):
    queue = make_queue(1, None)
    put(queue, 1)
    with pytest.raises(QueueSaturatedDepthError):
        queue.submit(2, timeout=0.001)
    assert queue.stats().refused_depth == 1


def test_representation(make_queue):
    name = make_queue.kind.partition("-")[0]
    queue = make_queue(10, None)
    put(queue, 1, 2, 3)
    assert repr(queue) == f"<{name} 3 of 10 keys waiting>"
    queue = make_queue()
    put(queue, 1, 2, 3)
    queue.close()
    assert repr(queue) == f"<{name} 3 keys waiting, closed>"


def test_compares_and_hashes_by_identity(make_queue):
    one, other = make_queue(), make_queue()
    assert one == one
    assert one != other
    assert len({one, other}) == 2


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy])
def test_cannot_be_copied(make_queue, copying):
    with pytest.raises(TypeError, match="objects cannot be pickled"):
        copying(make_queue())


def test_queues_are_opqueues(impl):
    for cls in (impl.DedupeQueue, impl.OpWindow):
        assert issubclass(cls, impl.OpQueue)


def test_can_be_subclassed(impl):
    class Mine(impl.OpQueue):
        def __init__(self, extra):
            super().__init__(2, None)
            self.extra = extra

    queue = Mine("extra")
    put(queue, 1)
    assert (queue.extra, queue.depth) == ("extra", 2)
    assert queue.dequeue(0).key == 1
    assert repr(queue).startswith("<Mine ")


def test_subscription(impl):
    for cls in (impl.OpQueue, impl.DedupeQueue, impl.OpWindow):
        assert cls[int].__origin__ is cls
    assert impl.OpQueue[int](1, 1).depth == 1


def test_one_row_may_hold_operations_of_many_groups(impl, make_queue):
    queue = make_queue()
    groups = [impl.CallGroup() for _ in range(3)]
    for group in groups:
        queue.enqueue("k", group.add("k"))
    assert queue.dequeue(0).finish_all(1) == 3
    assert all(group.done() for group in groups)


def test_one_group_may_span_many_rows_and_queues(impl, make_queue):
    queues = [make_queue(), make_queue()]
    with impl.CallGroup() as group:
        for queue in queues:
            for key in range(3):
                queue.enqueue(key, group.add(key))
    for queue in queues:
        for row in take_all(queue):
            assert not group.done()
            row.finish_all()
    assert group.done()


def _raise(error):
    def function(row):
        raise error

    return function


def test_a_queue_is_initialised_once(make_queue):
    queue = make_queue(2, 2)
    put(queue, "a")
    with pytest.raises(RuntimeError, match="a queue cannot be initialised again"):
        type(queue).__init__(queue, 1, 1, *([0] if type(queue).__name__ == "OpWindow" else []))
    assert queue.depth == 2
    assert len(queue.dequeue(0)) == 1
