"""Who waits is served first come, first served, and a promise given to one is not taken by another."""

from __future__ import annotations

import pytest
from helpers import BRIEF, GIL, HANG, Worker, keys, put, take_all, wait_consumers, wait_producers

from inflight import QueueEmptyError, QueueSaturatedDepthError
from inflight._invariants import check_invariants

needs_gil = pytest.mark.skipif(not GIL, reason="only with the GIL does a woken thread surely wait for this one")


def parked_consumers(queue, number, call=None):
    """Consumers that have parked one after the other."""
    workers = []
    for index in range(number):
        workers.append(Worker(call or queue.dequeue, HANG))
        wait_consumers(queue, index + 1)
    return workers


def parked_producers(queue, keys):
    workers = []
    for index, key in enumerate(keys):
        workers.append(Worker(queue.submit, key, timeout=HANG))
        wait_producers(queue, index + 1)
    return workers


def test_the_consumer_that_came_first_gets_the_row_that_came_first(make_queue):
    queue = make_queue()
    workers = parked_consumers(queue, 10)
    put(queue, *range(10))
    assert [worker.result().key for worker in workers] == list(range(10))


def test_the_consumer_that_came_first_gets_the_row_that_came_first_one_by_one(make_queue):
    queue = make_queue()
    workers = parked_consumers(queue, 5)
    for key, worker in enumerate(workers):
        put(queue, key)
        assert worker.result().key == key
        assert all(other.running() for other in workers[key + 1 :])


def test_consumers_of_a_window_are_served_in_order(impl):
    queue = impl.OpWindow(None, 2, 1000)
    workers = parked_consumers(queue, 4)
    put(queue, "a", "b", "c", "d")
    put(queue, "c", "a", "d", "b")
    assert [worker.result().key for worker in workers] == ["c", "a", "d", "b"]


def test_consumers_of_an_ended_window_are_served_in_order(impl):
    queue = impl.OpWindow(None, None, 0.02)
    workers = parked_consumers(queue, 4)
    put(queue, "a", "b", "c", "d")
    assert [worker.result().key for worker in workers] == ["a", "b", "c", "d"]


def test_dequeue_many_takes_its_place_in_the_line(make_queue):
    queue = make_queue()
    first = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    many = Worker(queue.dequeue_many, 5, HANG)
    wait_consumers(queue, 2)
    last = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 3)
    put(queue, 0, 1, 2)
    assert first.result().key == 0
    assert last.result().key == 2
    assert keys(many.result()) == [1]


def test_released_rows_go_to_the_consumer_that_came_first(impl):
    queue = impl.DedupeQueue(None, None)
    put(queue, "a", "b")
    row_a, row_b = take_all(queue)
    put(queue, "a", "b")
    workers = parked_consumers(queue, 2)
    row_b.release()
    row_a.release()
    assert [worker.result().key for worker in workers] == ["b", "a"]


def test_a_newcomer_does_not_take_a_promised_row(make_queue):
    queue = make_queue()
    (worker,) = parked_consumers(queue, 1)
    put(queue, 1)
    # Promised to the parked consumer, whether it has run yet or not.
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0)
    with pytest.raises(QueueEmptyError):
        queue.dequeue_many(5, 0)
    assert queue.drain() == []
    assert worker.result().key == 1


def test_a_newcomer_takes_the_rows_that_nobody_is_promised(make_queue):
    queue = make_queue()
    (worker,) = parked_consumers(queue, 1)
    put(queue, 1, 2, 3)
    assert keys(take_all(queue)) == [2, 3]
    assert worker.result().key == 1


@needs_gil
def test_a_promised_row_stays_queued_and_keeps_merging(make_queue, huge_switch_interval):
    queue = make_queue(1, None)
    (worker,) = parked_consumers(queue, 1)
    put(queue, 1)
    assert len(queue) == 1
    assert 1 in queue
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, 2)
    put(queue, 1)
    stats = queue.stats()
    assert (stats.keys, stats.ops, stats.merged, stats.dequeued_rows) == (1, 2, 1, 0)
    assert stats.consumers_waiting == 0
    check_invariants(queue)
    assert len(worker.result()) == 2


@needs_gil
def test_a_promised_row_does_not_end_a_join(make_queue, huge_switch_interval):
    queue = make_queue()
    (worker,) = parked_consumers(queue, 1)
    put(queue, 1)
    assert queue.join(0) is False
    worker.result()


@needs_gil
def test_close_leaves_promises_alone(make_queue, huge_switch_interval):
    queue = make_queue()
    (worker,) = parked_consumers(queue, 1)
    put(queue, 1)
    queue.close()
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0)
    assert worker.result().key == 1


def test_the_producer_that_came_first_gets_the_first_slot(make_queue):
    queue = make_queue(1, None)
    put(queue, "old")
    workers = parked_producers(queue, range(8))
    order = [queue.dequeue(HANG).key for _ in range(9)]
    assert order == ["old", *range(8)]
    for worker in workers:
        worker.result()


def test_a_newcomer_does_not_take_a_reserved_slot(impl, make_queue):
    queue = make_queue(1, None)
    put(queue, "old")
    (worker,) = parked_producers(queue, ["waited"])
    queue.dequeue(0)
    # Reserved for the parked producer, or filled by it already.
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, "newcomer")
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, "newcomer")
    worker.result()
    assert keys(take_all(queue)) == ["waited"]


def test_many_slots_are_given_in_order(make_queue):
    queue = make_queue(3, None)
    put(queue, "x", "y", "z")
    workers = parked_producers(queue, range(5))
    assert keys(queue.dequeue_many(3)) == ["x", "y", "z"]
    for worker in workers[:3]:
        worker.result()
    assert [worker.running() for worker in workers[3:]] == [True, True]
    assert sorted(keys(queue.dequeue_many(3))) == [0, 1, 2]
    for worker in workers[3:]:
        worker.result()
    assert sorted(keys(take_all(queue))) == [3, 4]


def test_a_producer_that_gives_up_leaves_its_place_to_the_next(impl, make_queue):
    queue = make_queue(1, None)
    put(queue, "old")
    short = Worker(queue.submit, "short", timeout=BRIEF)
    wait_producers(queue, 1)
    long = Worker(queue.submit, "long", timeout=HANG)
    assert isinstance(short.exception(), QueueSaturatedDepthError)
    wait_producers(queue, 1)
    assert queue.dequeue(0).key == "old"
    long.result()
    assert keys(take_all(queue)) == ["long"]


def test_a_consumer_that_gives_up_leaves_its_place_to_the_next(make_queue):
    queue = make_queue()
    short = Worker(queue.dequeue, BRIEF)
    wait_consumers(queue, 1)
    long = Worker(queue.dequeue, HANG)
    assert isinstance(short.exception(), QueueEmptyError)
    wait_consumers(queue, 1)
    put(queue, 1)
    assert long.result().key == 1
