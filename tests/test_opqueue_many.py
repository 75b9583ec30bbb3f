"""OpQueue: the calls that do more than one step: by many, drain, process, submit."""

from __future__ import annotations

import itertools

import pytest
from aio import drive
from helpers import HANG, Worker, keys, put, take_all, wait_consumers, wait_producers

from inflight import (
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedWidthError,
)


def test_dequeue_many_takes_up_to_its_limit(make_queue):
    queue = make_queue()
    put(queue, *range(5))
    assert keys(queue.dequeue_many(3)) == [0, 1, 2]
    rows = queue.dequeue_many(3, timeout=0)
    assert isinstance(rows, list)
    assert keys(rows) == [3, 4]


@pytest.mark.parametrize("call", ["dequeue_many", "adequeue_many"])
@pytest.mark.parametrize("taken", ["dequeue", "drain"])
def test_dequeue_many_takes_at_once(impl, monkeypatch, call, taken):
    """Whatever others take at the same time, nothing from between its rows."""

    def clock():
        nonlocal reads
        reads += 1
        if reads == number:
            others.extend([queue.dequeue(0)] if taken == "dequeue" else queue.drain())
        return 0.0

    monkeypatch.setattr("inflight._clock.monotonic", clock)
    for number in itertools.count(1):
        reads = number
        queue = impl.OpWindow(None, 1, window=60)
        put(queue, *"abcd")
        others, reads = [], 0
        try:
            rows = queue.dequeue_many(3, 0) if call == "dequeue_many" else drive(queue.adequeue_many(3, 0))
        except QueueEmptyError:
            rows = []
        assert "".join(keys(rows)) in "abcd"
        if reads < number:
            assert keys(rows) == ["a", "b", "c"]
            break
        assert sorted(keys(rows + others + take_all(queue))) == list("abcd")
    assert number > 1


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


def _raise(error):
    def function(row):
        raise error

    return function
