"""What every queue does: merge by key, hand out rows oldest key first, bound depth and width.

These tests run over each kind of queue, with no window; what windows and ownership add is in
test_opwindow and test_dedupequeue.
"""

from __future__ import annotations

import copy
from queue import Full

import pytest
from helpers import HANG, Worker, keys, put, take_all, wait_consumers, wait_producers

from inflight import (
    QueueClosedError,
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


def test_a_queue_is_initialised_once(make_queue):
    queue = make_queue(2, 2)
    put(queue, "a")
    with pytest.raises(RuntimeError, match="a queue cannot be initialised again"):
        type(queue).__init__(queue, 1, 1, *([0] if type(queue).__name__ == "OpWindow" else []))
    assert queue.depth == 2
    assert len(queue.dequeue(0)) == 1
