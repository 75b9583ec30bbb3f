"""DedupeQueue: a key is owned while its row is processed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from helpers import HANG, Worker, keys, put, take_all, wait_blocked, wait_consumers, wait_producers

from inflight import QueueClosedError, QueueEmptyError, QueueSaturatedDepthError, QueueSaturatedWidthError
from inflight._invariants import check_invariants


@pytest.fixture(params=["DedupeQueue", "OpWindow-exclusive"])
def make(request, impl):
    """Makes exclusive queues, under either name."""

    def make(depth=None, width=None, window=0):
        if request.param == "DedupeQueue":
            return impl.DedupeQueue(depth, width, window=window)
        return impl.OpWindow(depth, width, window, exclusive=True)

    return make


def test_nobody_gets_a_key_that_is_owned(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a", "b")
    assert queue.dequeue(0).key == "b"
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0)
    row.release()
    assert queue.dequeue(0).key == "a"


def test_finishing_does_not_release(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a")
    row.finish_all()
    assert take_all(queue) == []
    row.release()
    assert keys(take_all(queue)) == ["a"]


def test_operations_that_arrive_meanwhile_are_merged_and_queued_again_at_the_back(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "b", "a", "c", "a")
    row.release()
    put(queue, "d")
    rows = take_all(queue)
    assert keys(rows) == ["b", "c", "a", "d"]
    assert [len(row) for row in rows] == [1, 1, 2, 1]


def test_what_is_behind_an_owned_key_takes_its_place_while_the_index_grows(make):
    """An index that grows has two tables for a while, and the key may be in either."""
    for others in range(1, 130):
        queue = make()
        put(queue, "a")
        row = queue.dequeue(0)
        put(queue, "a", *range(others), "a")
        row.release()
        check_invariants(queue)
        rows = take_all(queue)
        assert keys(rows) == [*range(others), "a"]
        assert len(rows[-1]) == 2
        check_invariants(queue)


def test_the_release_counts_as_the_arrival(make):
    queue = make()
    put(queue, "a", "b")
    row_a, row_b = take_all(queue)
    put(queue, "a", "b")
    row_b.release()
    row_a.release()
    assert keys(take_all(queue)) == ["b", "a"]


def test_release_wakes_a_waiting_consumer(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a")
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    row.release()
    assert worker.result().key == "a"


def test_release_from_another_thread(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a")
    Worker(row.release).result()
    assert keys(take_all(queue)) == ["a"]


def test_a_second_release_does_not_release_the_next_owner(make):
    queue = make()
    put(queue, "a")
    first = queue.dequeue(0)
    put(queue, "a")
    first.release()
    second = queue.dequeue(0)
    put(queue, "a")
    first.release()
    with first:
        pass
    assert take_all(queue) == []
    second.release()
    assert keys(take_all(queue)) == ["a"]


def test_owned_keys_are_contained_and_not_counted_in_length(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    assert "a" in queue
    assert len(queue) == 0
    put(queue, "a", "a")
    assert len(queue) == 1
    assert queue.stats().keys == 1
    assert queue.stats().ops == 2
    row.release()
    assert "a" in queue
    assert len(queue) == 1


def test_what_waits_behind_an_owned_key_counts_in_depth(make):
    queue = make(depth=1)
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a")
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, "b")
    put(queue, "a")
    row.release()
    assert len(queue.dequeue(0)) == 2


def test_an_owned_key_alone_takes_no_depth_and_its_next_row_needs_it(make):
    queue = make(depth=1)
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "b")
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, "a")
    row.release()
    assert keys(take_all(queue)) == ["b"]


def test_a_producer_waits_for_depth_behind_an_owned_key(make):
    queue = make(depth=1)
    put(queue, "a")
    owner = queue.dequeue(0)
    put(queue, "b")
    worker = Worker(queue.submit, "a", timeout=HANG)
    wait_producers(queue, 1)
    queue.dequeue(0)
    worker.result()
    assert take_all(queue) == []
    owner.release()
    assert keys(take_all(queue)) == ["a"]


def test_width_bounds_the_row_behind_an_owned_key(make):
    queue = make(width=2)
    put(queue, "a", "a")
    row = queue.dequeue(0)
    put(queue, "a", "a")
    with pytest.raises(QueueSaturatedWidthError):
        put(queue, "a")
    assert take_all(queue) == []
    row.release()
    assert len(queue.dequeue(0)) == 2


def test_requeued_rows_are_counted(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    row.release()
    assert queue.stats().requeued == 0
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a", "a")
    assert queue.stats().owned == 1
    row.release()
    assert queue.stats().requeued == 1
    assert queue.stats().merged == 1


def test_drained_rows_are_owned_and_what_is_behind_an_owned_key_stays(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a", "b")
    (drained,) = queue.drain()
    assert drained.key == "b"
    put(queue, "b")
    assert len(queue) == 2
    assert queue.drain() == []
    drained.release()
    row.release()
    assert keys(queue.drain()) == ["b", "a"]


def test_dequeue_many_owns_every_row(make):
    queue = make()
    put(queue, "a", "b")
    rows = queue.dequeue_many(5)
    put(queue, "a", "b")
    assert queue.stats().owned == 2
    assert take_all(queue) == []
    for row in rows:
        row.release()
    assert keys(take_all(queue)) == ["a", "b"]


def test_join_waits_for_owners(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    assert queue.join(0) is False
    worker = Worker(queue.join, HANG)
    wait_blocked(worker)
    assert worker.running()
    put(queue, "a")
    row.release()
    assert queue.join(0) is False
    queue.dequeue(0).release()
    assert worker.result() is True


def test_the_end_comes_when_nothing_waits_and_nothing_is_owned(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a")
    queue.close()
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0)
    row.release()
    row = queue.dequeue(0)
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0.001)
    workers = [Worker(queue.dequeue, HANG) for _ in range(2)]
    wait_consumers(queue, 2)
    row.release()
    for worker in workers:
        assert isinstance(worker.exception(), QueueClosedError)
    with pytest.raises(QueueClosedError):
        queue.dequeue(0)


def test_operations_that_arrived_during_processing_find_a_consumer_after_close(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a")
    seen = []

    def consume():
        for row in queue:
            with row:
                seen.append(row.key)

    worker = Worker(consume)
    wait_consumers(queue, 1)
    queue.close()
    assert worker.running()
    row.release()
    worker.result()
    assert seen == ["a"]


def test_process_releases(make):
    queue = make()
    put(queue, "a")
    seen = []

    def work(row):
        put(queue, "a")
        seen.append(take_all(queue))

    assert queue.process(work)
    assert seen == [[]]
    assert keys(take_all(queue)) == ["a"]


def test_process_releases_when_the_function_fails(make):
    queue = make()
    put(queue, "a")
    with pytest.raises(ZeroDivisionError):
        queue.process(lambda row: 1 / 0)
    put(queue, "a")
    assert keys(take_all(queue)) == ["a"]


def test_process_ends_only_after_the_last_owner(make):
    queue = make()
    put(queue, "a")
    row = queue.dequeue(0)
    queue.close()
    worker = Worker(queue.process, lambda row: None)
    wait_consumers(queue, 1)
    row.release()
    assert worker.result() is False


def test_the_first_key_object_stays_the_key_of_its_row(make):
    queue = make()
    put(queue, 1)
    row = queue.dequeue(0)
    put(queue, 1.0)
    assert type(row.key) is int
    row.release()
    assert type(queue.dequeue(0).key) is float


def test_windows_are_given_by_name(impl):
    assert impl.DedupeQueue(1, 1).window == 0
    assert impl.DedupeQueue(1, 1, window=2).window == 2
    assert impl.DedupeQueue(1, 1, window=timedelta(milliseconds=250)).window == 0.25
    with pytest.raises(TypeError):
        impl.DedupeQueue(1, 1, 2)
    with pytest.raises(AttributeError):
        impl.DedupeQueue(1, 1).window = 3


def test_a_windowed_row_behind_an_owned_key_becomes_ready_at_release_if_its_window_is_over(clock, make):
    queue = make(window=10)
    put(queue, "a")
    clock.advance(10)
    row = queue.dequeue(0)
    put(queue, "a")
    clock.advance(10)
    assert take_all(queue) == []
    row.release()
    assert keys(take_all(queue)) == ["a"]


def test_a_window_runs_while_its_key_is_owned_and_goes_on_after_the_release(clock, make):
    queue = make(window=10)
    put(queue, "a")
    clock.advance(10)
    row = queue.dequeue(0)
    put(queue, "a")
    clock.advance(6)
    row.release()
    assert take_all(queue) == []
    assert "a" in queue
    clock.advance(3)
    assert take_all(queue) == []
    clock.advance(1)
    assert keys(take_all(queue)) == ["a"]


def test_a_full_windowed_row_behind_an_owned_key_waits_for_the_release(clock, make):
    queue = make(width=2, window=10)
    put(queue, "a", "a")
    row = queue.dequeue(0)
    put(queue, "a", "a")
    assert take_all(queue) == []
    row.release()
    assert len(queue.dequeue(0)) == 2


def test_release_order_is_arrival_order_in_a_windowed_queue_too(clock, make):
    queue = make(window=10)
    put(queue, "a", "b")
    clock.advance(10)
    row_a, row_b = take_all(queue)
    put(queue, "a", "b")
    clock.advance(20)
    row_b.release()
    row_a.release()
    assert keys(take_all(queue)) == ["b", "a"]


def test_flush_ends_the_window_of_a_row_behind_an_owned_key_without_making_it_ready(clock, make):
    queue = make(window=10)
    put(queue, "a")
    queue.flush()
    row = queue.dequeue(0)
    put(queue, "a", "b")
    assert queue.flush() == 1
    assert keys(take_all(queue)) == ["b"]
    row.release()
    assert keys(take_all(queue)) == ["a"]


def test_close_ends_the_windows_of_rows_behind_owned_keys(clock, make):
    queue = make(window=10)
    put(queue, "a")
    queue.flush()
    row = queue.dequeue(0)
    put(queue, "a")
    queue.close()
    assert take_all(queue) == []
    row.release()
    last = queue.dequeue(0)
    assert last.key == "a"
    last.release()
    with pytest.raises(QueueClosedError):
        queue.dequeue(0)


def test_drain_of_a_windowed_queue_leaves_what_is_behind_an_owned_key(clock, make):
    queue = make(window=10)
    put(queue, "a")
    queue.flush()
    row = queue.dequeue(0)
    put(queue, "a", "b")
    assert keys(queue.drain()) == ["b"]
    assert len(queue) == 1
    row.release()
    assert keys(queue.drain()) == ["a"]


def test_a_consumer_waits_for_the_window_of_a_released_row(make):
    queue = make(window=0.02)
    put(queue, "a")
    row = queue.dequeue(HANG)
    put(queue, "a")
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    row.release()
    assert worker.result().key == "a"
