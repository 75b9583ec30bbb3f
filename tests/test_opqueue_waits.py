"""OpQueue: what waits, how long, and what ends it: dequeue, enqueue, join, iteration."""

from __future__ import annotations

import time
from queue import Empty

import pytest
from helpers import HANG, Worker, keys, put, take_all, wait_blocked, wait_consumers, wait_producers

from inflight import (
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
)


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
