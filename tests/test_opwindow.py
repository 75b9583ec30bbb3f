"""OpWindow: rows become ready when their window has passed, or when they are full."""

from __future__ import annotations

import threading
import time
import tracemalloc
from datetime import timedelta
from fractions import Fraction

import pytest
from helpers import BRIEF, HANG, Worker, keys, put, take_all, wait_consumers, wait_producers, wait_until

from inflight import QueueClosedError, QueueEmptyError, QueueSaturatedDepthError, QueueSaturatedWidthError


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0.0),
        (2, 2.0),
        (0.25, 0.25),
        (Fraction(1, 4), 0.25),
        (timedelta(milliseconds=250), 0.25),
        (timedelta(0), 0.0),
        (float("inf"), float("inf")),
        (10**400, float("inf")),
    ],
)
def test_window_in_seconds(impl, given, seconds):
    queue = impl.OpWindow(1, 1, given)
    assert queue.window == seconds
    assert type(queue.window) is float
    with pytest.raises(AttributeError):
        queue.window = 1


def test_exclusive_is_readable(impl):
    assert impl.OpWindow(1, 1, 1).exclusive is False
    queue = impl.OpWindow(depth=1, width=1, window=1, exclusive=True)
    assert queue.exclusive is True
    with pytest.raises(AttributeError):
        queue.exclusive = False
    with pytest.raises(TypeError):
        impl.OpWindow(1, 1, 1, True)


@pytest.fixture(params=["OpWindow", "OpWindow-exclusive", "DedupeQueue"])
def make(request, impl):
    """Makes windowed queues of each kind."""

    def make(depth=None, width=None, window=10):
        if request.param == "OpWindow":
            return impl.OpWindow(depth, width, window)
        if request.param == "DedupeQueue":
            return impl.DedupeQueue(depth, width, window=window)
        return impl.OpWindow(depth, width, window, exclusive=True)

    return make


def test_a_row_is_ready_when_its_window_has_passed(clock, make):
    queue = make(window=10)
    put(queue, "a")
    assert take_all(queue) == []
    clock.advance(9.99)
    assert take_all(queue) == []
    assert len(queue) == 1
    clock.advance(0.01)
    assert keys(take_all(queue)) == ["a"]


def test_a_window_starts_at_the_first_operation(clock, make):
    queue = make(window=10)
    put(queue, "a")
    clock.advance(6)
    put(queue, "a")
    clock.advance(4)
    assert len(queue.dequeue(0)) == 2


def test_each_key_has_its_own_window(clock, make):
    queue = make(window=10)
    put(queue, "a")
    clock.advance(5)
    put(queue, "b")
    clock.advance(5)
    assert keys(take_all(queue)) == ["a"]
    clock.advance(5)
    assert keys(take_all(queue)) == ["b"]


def test_rows_whose_windows_end_together_leave_in_the_order_of_their_first_operations(clock, make):
    queue = make(window=10)
    put(queue, "b", "a", "c")
    clock.advance(10)
    assert keys(take_all(queue)) == ["b", "a", "c"]


def test_a_full_row_is_ready_at_once(clock, make):
    queue = make(width=2, window=10)
    put(queue, "a")
    assert take_all(queue) == []
    put(queue, "a")
    assert len(queue.dequeue(0)) == 2


def test_a_full_row_does_not_wait_behind_an_open_one(clock, make):
    queue = make(width=2, window=10)
    put(queue, "a", "b", "b")
    assert keys(take_all(queue)) == ["b"]


def test_rows_leave_in_the_order_they_became_ready(clock, make):
    queue = make(width=2, window=10)
    put(queue, "a", "b", "c")
    clock.advance(1)
    put(queue, "c", "b")
    clock.advance(9)
    put(queue, "d", "d")
    assert keys(take_all(queue)) == ["c", "b", "a", "d"]


def test_a_ready_row_still_merges_until_it_is_taken(clock, make):
    queue = make(window=10)
    put(queue, "a")
    clock.advance(10)
    put(queue, "b", "a")
    assert len(queue) == 2
    assert len(queue.dequeue(0)) == 2


def test_width_and_depth_bound_open_rows(clock, make):
    queue = make(depth=1, width=2, window=10)
    put(queue, "a", "a")
    with pytest.raises(QueueSaturatedWidthError):
        put(queue, "a")
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, "b")


def test_a_new_row_of_a_taken_key_has_a_window_of_its_own(clock, make):
    queue = make(window=10)
    put(queue, "a")
    clock.advance(10)
    queue.dequeue(0).release()
    put(queue, "a")
    assert take_all(queue) == []
    clock.advance(10)
    assert keys(take_all(queue)) == ["a"]


def test_flush_ends_every_window(clock, make):
    queue = make(window=10)
    assert queue.flush() == 0
    put(queue, "a", "b")
    assert queue.flush() == 2
    assert queue.flush() == 0
    put(queue, "c")
    assert keys(take_all(queue)) == ["a", "b"]


def test_flush_of_one_key(clock, make):
    queue = make(window=10)
    put(queue, "a", "b")
    assert queue.flush("b") == 1
    assert queue.flush("b") == 0
    assert queue.flush("nothing") == 0
    assert keys(take_all(queue)) == ["b"]
    clock.advance(10)
    assert keys(take_all(queue)) == ["a"]


def test_flush_of_the_key_none(clock, make):
    queue = make(window=10)
    put(queue, None, "a")
    assert queue.flush(None) == 1
    assert keys(take_all(queue)) == [None]


def test_flush_does_not_count_what_the_clock_made_ready(clock, make):
    queue = make(window=10)
    put(queue, "a")
    clock.advance(5)
    put(queue, "b")
    clock.advance(5)
    assert queue.flush() == 1
    assert keys(take_all(queue)) == ["a", "b"]


def test_flush_wakes_a_consumer(make):
    queue = make(window=1000)
    put(queue, "a")
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    assert queue.flush() == 1
    assert worker.result().key == "a"


def test_a_consumer_that_was_woken_to_watch_a_window_is_woken_again_for_its_row(monkeypatch, make):
    looks = []

    def clock():
        looks.append(threading.get_ident())
        return 1000.0

    monkeypatch.setattr("inflight._clock.monotonic", clock)
    queue = make(window=1000)
    worker = Worker(queue.dequeue, 10 * HANG)
    wait_consumers(queue, 1)
    looks.clear()
    put(queue, "a")
    wait_until(lambda: worker.thread.ident in looks)
    assert queue.flush() == 1
    assert worker.result().key == "a"


def test_close_ends_windows_now(clock, make):
    queue = make(window=10)
    put(queue, "a", "b")
    queue.close()
    rows = take_all(queue)
    assert keys(rows) == ["a", "b"]
    for row in rows:
        row.release()
    with pytest.raises(QueueClosedError):
        queue.dequeue(0)


def test_close_wakes_consumers_of_open_windows(make):
    queue = make(window=1000)
    put(queue, "a", "b")
    workers = [Worker(queue.dequeue, HANG) for _ in range(2)]
    wait_consumers(queue, 2)
    queue.close()
    assert sorted(worker.result().key for worker in workers) == ["a", "b"]


def test_drain_does_not_wait_for_windows(clock, make):
    queue = make(width=2, window=10)
    put(queue, "a", "b", "b", "c")
    rows = queue.drain()
    assert sorted(keys(rows)) == ["a", "b", "c"]
    assert keys(rows)[0] == "b"
    assert len(queue) == 0


def test_join_counts_open_windows(clock, make):
    queue = make(window=10)
    put(queue, "a")
    assert queue.join(0) is False
    queue.drain()[0].release()
    assert queue.join(0) is True


def test_a_window_of_zero_is_an_opqueue(make):
    queue = make(window=0)
    put(queue, "a", "b", "a")
    rows = take_all(queue)
    assert keys(rows) == ["a", "b"]
    assert len(rows[0]) == 2


def test_an_infinite_window_ends_by_width_flush_or_close(clock, make):
    queue = make(width=2, window=float("inf"))
    put(queue, "a", "b", "b", "c")
    assert keys(take_all(queue)) == ["b"]
    clock.advance(1e12)
    assert take_all(queue) == []
    assert queue.flush("a") == 1
    queue.close()
    assert keys(take_all(queue)) == ["a", "c"]


@pytest.mark.parametrize("window", [float("inf"), 1e300])
def test_a_consumer_waits_beside_a_window_without_end(make, window):
    queue = make(width=2, window=window)
    put(queue, "a")
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    put(queue, "a")
    assert len(worker.result()) == 2


def test_a_consumer_that_waits_already_gets_a_row_when_its_window_ends(make):
    queue = make(window=0.02)
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    began = time.monotonic()
    put(queue, "a")
    assert worker.result().key == "a"
    assert time.monotonic() - began >= 0.02


def test_dequeue_waits_for_a_window(make):
    queue = make(window=0.02)
    began = time.monotonic()
    put(queue, "a")
    assert queue.dequeue(HANG).key == "a"
    assert time.monotonic() - began >= 0.02


def test_a_timeout_shorter_than_the_window(make):
    queue = make(window=1000)
    put(queue, "a")
    began = time.monotonic()
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0.01)
    assert time.monotonic() - began >= 0.01
    assert len(queue) == 1


def test_every_waiting_consumer_gets_its_row_when_windows_end(make):
    queue = make(window=0.02)
    workers = [Worker(queue.dequeue, HANG) for _ in range(4)]
    wait_consumers(queue, 4)
    put(queue, *range(4))
    assert sorted(worker.result().key for worker in workers) == [0, 1, 2, 3]


def test_the_next_consumer_keeps_time_when_the_first_gives_up(make):
    """Somebody must watch the clock: there is no hidden thread."""
    queue = make(window=5 * BRIEF)
    first = Worker(queue.dequeue, BRIEF)
    wait_consumers(queue, 1)
    second = Worker(queue.dequeue, HANG)
    put(queue, "a")
    assert isinstance(first.exception(), QueueEmptyError)
    assert second.result().key == "a"


def test_the_next_consumer_keeps_time_when_the_first_gets_a_row(make):
    queue = make(width=2, window=0.05)
    workers = []
    for number in range(2):
        workers.append(Worker(queue.dequeue, HANG))
        wait_consumers(queue, number + 1)
    put(queue, "open", "full", "full")
    assert workers[0].result().key == "full"
    assert workers[1].result().key == "open"


def test_a_shorter_wait_is_armed_when_a_row_opens_while_consumers_wait(make):
    queue = make(window=0.02)
    workers = [Worker(queue.dequeue, HANG) for _ in range(2)]
    wait_consumers(queue, 2)
    put(queue, "a")
    wait_consumers(queue, 1)
    put(queue, "b")
    assert sorted(worker.result().key for worker in workers) == ["a", "b"]


def test_a_producer_waits_while_windows_hold_the_depth(make):
    queue = make(depth=1, window=0.02)
    put(queue, "a")
    worker = Worker(queue.submit, "b", timeout=HANG)
    wait_producers(queue, 1)
    assert queue.dequeue(HANG).key == "a"
    worker.result()
    assert queue.dequeue(HANG).key == "b"


def test_dequeue_many_takes_what_is_ready_only(clock, make):
    queue = make(window=10)
    put(queue, "a", "b")
    clock.advance(10)
    put(queue, "c")
    assert keys(queue.dequeue_many(5, 0)) == ["a", "b"]
    assert len(queue) == 1


def test_a_clock_that_stands_still_or_runs_back_hurts_nobody(clock, make):
    queue = make(window=10)
    put(queue, "a")
    clock.advance(-5)
    put(queue, "b")
    clock.advance(15)
    assert sorted(keys(take_all(queue))) == ["a", "b"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_taking_ready_rows_allocates_nothing_for_open_ones(impl, clock, exclusive):
    total = 20_000
    queue = impl.OpWindow(None, 2, 1000, exclusive=exclusive)
    op = impl.Op(1)
    op.finish()
    for key in range(total):
        queue.enqueue(key, op)
    # These two are full.
    queue.enqueue(5, op)
    queue.enqueue(3, op)
    tracemalloc.start()
    try:
        rows = queue.dequeue_many(2 * total)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert keys(rows) == [5, 3]
    # Not even a pointer for each.
    assert peak < 4 * total


@pytest.mark.parametrize("exclusive", [False, True])
def test_stats_hands_rows_whose_windows_are_over_to_waiting_consumers(impl, clock, exclusive):
    queue = impl.OpWindow(None, None, 1000, exclusive=exclusive)
    put(queue, "a")
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    clock.advance(1000)
    # Every call notices, this one too; the consumer itself would park on.
    assert queue.stats().keys in (0, 1)
    assert worker.result(HANG / 3).key == "a"
