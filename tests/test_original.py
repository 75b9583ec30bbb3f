"""The scenarios of the Go library's own tests, restated. Each names the Go test that it restates."""

from __future__ import annotations

import threading
import time

import pytest
from helpers import HANG, Worker, run_concurrently, take_all, wait_consumers, wait_producers

from inflight import (
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedWidthError,
)

WINDOWS = [0, 0.001, 0.01, 0.1, 0.5, 1.0]


class Counter:
    """A reducer that counts its calls and the responses it was given."""

    def __init__(self):
        self.completed = 0
        self.responses = 0

    def __call__(self, results):
        self.completed += 1
        self.responses += len(results)


@pytest.fixture(params=["OpQueue", "DedupeQueue"])
def make(request, impl):
    """The Go library tests both with the same scenarios."""
    return getattr(impl, request.param)


def test_completion(impl):
    """TestCompletion."""
    counter = Counter()
    group = impl.CallGroup(counter)
    first, second = group.add(1, "message"), group.add(2, "message")
    assert (counter.completed, counter.responses) == (0, 0)
    first.finish()
    assert (counter.completed, counter.responses) == (0, 0)
    second.finish()
    assert (counter.completed, counter.responses) == (1, 2)


def test_concurrent_done(impl):
    """TestConcurrentDone: 1000 operations, finished by 16 threads at once."""
    counter = Counter()
    group = impl.CallGroup(counter)
    ops = [group.add(number) for number in range(1000)]

    def finish(start):
        for op in ops[start::16]:
            op.finish()

    run_concurrently([lambda start=start: finish(start) for start in range(16)])
    assert (counter.completed, counter.responses) == (1, 1000)


def test_queue(impl, make):
    """TestOpQueue, TestDedupeQueue: two groups over two keys."""
    counters = [Counter(), Counter()]
    groups = [impl.CallGroup(counter) for counter in counters]
    with make(10, 10) as queue:
        for key in (1, 2):
            for group in groups:
                queue.enqueue(key, group.add(key))
        assert len(queue) == 2
        first, second = queue.dequeue(), queue.dequeue()
        assert (len(first), len(second)) == (2, 2)
        for op in first:
            op.finish()
        assert [counter.completed for counter in counters] == [0, 0]
        second.finish_all()
        assert [counter.completed for counter in counters] == [1, 1]


def test_queue_close(impl, make):
    """TestOpQueueClose, TestDedupeQueueClose: close drains, then ends; a blocked dequeue waits for it."""
    group = impl.CallGroup()
    queue = make(10, 10)
    for key in range(9):
        op = group.add(key)
        queue.enqueue(op.key, op)
    for _ in range(9):
        with queue.dequeue(HANG) as row:
            assert len(row) == 1
    worker = Worker(queue.dequeue)
    wait_consumers(queue, 1)
    assert worker.running()
    queue.close()
    assert isinstance(worker.exception(), QueueClosedError)


def enqueue_and_count(queue, group, keys):
    """How many were accepted, refused for depth, refused for width."""
    accepted = depth = width = 0
    kept = []
    for key in keys:
        op = group.add(key)
        kept.append(op)
        try:
            queue.enqueue(key, op)
            accepted += 1
        except QueueSaturatedDepthError:
            depth += 1
        except QueueSaturatedWidthError:
            width += 1
    return accepted, depth, width


def test_full_depth(impl, make):
    """TestOpQueueFullDepth, TestDedupeQueueFullDepth: 110 against a depth of 10."""
    queue = make(10, 10)
    counts = enqueue_and_count(queue, impl.CallGroup(), [*range(100), *range(10)])
    assert counts == (20, 90, 0)
    for _ in range(10):
        assert len(queue.dequeue(HANG)) == 2


def test_full_width(impl, make):
    """TestOpQueueFullWidth, TestDedupeQueueFullWidth: 109 against a width of 10."""
    queue = make(10, 10)
    counts = enqueue_and_count(queue, impl.CallGroup(), [0] * 100 + list(range(1, 10)))
    assert counts == (19, 0, 90)
    assert [len(row) for row in queue.dequeue_many(100)] == [10] + [1] * 9


def test_for_race_detection(impl, make):
    """TestOpQueueForRaceDetection, TestDedupeQueueForRaceDetection: two producers, two consumers, two seconds."""
    queue = make(300, 500)
    stop = threading.Event()

    def produce():
        accepted = number = 0
        while not stop.is_set():
            number += 1
            try:
                queue.submit(number)
                accepted += 1
            except (QueueSaturatedDepthError, QueueSaturatedWidthError):
                pass
        return accepted

    def consume():
        taken = 0
        for row in queue:
            with row:
                taken += len(row)
        return taken

    producers = [Worker(produce) for _ in range(2)]
    consumers = [Worker(consume) for _ in range(2)]
    stop.wait(2)
    stop.set()
    accepted = sum(worker.result() for worker in producers)
    queue.close()
    assert sum(worker.result() for worker in consumers) == accepted > 0


def test_close_concurrent(impl, make):
    """TestOpWindowCloseConcurrent (of OpQueue), TestDedupeQueueCloseConcurrent: 12 consumers."""
    queue = make(300, 500)
    groups = [impl.CallGroup(), impl.CallGroup()]
    taken = []
    ends = []

    def consume():
        while queue.process(taken.append):
            pass
        ends.append(1)

    workers = [Worker(consume) for _ in range(12)]
    wait_consumers(queue, 12)
    assert not taken
    assert not ends
    for key, group in enumerate(groups):
        queue.enqueue(key, group.add(key))
    assert queue.join(HANG)
    wait_consumers(queue, 12)
    assert len(taken) == 2
    assert not ends
    queue.close()
    for worker in workers:
        worker.result()
    assert len(taken) == 2
    assert len(ends) == 12


@pytest.mark.parametrize("window", WINDOWS)
def test_window(impl, window):
    """TestOpWindow, for each of its windows."""
    queue = impl.OpWindow(3, 3, window)
    groups = [impl.CallGroup(), impl.CallGroup()]
    began = time.monotonic()
    for key in (1, 2):
        for group in groups:
            queue.enqueue(key, group.add(key))
    assert len(queue) == 2
    rows = [queue.dequeue(HANG), queue.dequeue(HANG)]
    assert time.monotonic() - began >= window
    assert [len(row) for row in rows] == [2, 2]
    queue.close()


def test_window_close(impl):
    """TestOpWindowClose: 12 consumers wait for a window of 100 hours until close."""
    queue = impl.OpWindow(3, 3, 100 * 3600)
    groups = [impl.CallGroup(), impl.CallGroup()]
    for key in (1, 2):
        for group in groups:
            queue.enqueue(key, group.add(key))
    taken = []

    def consume():
        while True:
            try:
                taken.append(queue.dequeue())
            except QueueClosedError:
                return True

    workers = [Worker(consume) for _ in range(12)]
    wait_consumers(queue, 12)
    assert not taken
    queue.close()
    assert [worker.result() for worker in workers] == [True] * 12
    assert len(taken) == 2
    with pytest.raises(QueueClosedError):
        queue.submit(1)


def test_window_saturated_width(impl):
    """TestOpWindowErrQueueSaturatedWidth."""
    queue = impl.OpWindow(2, 1, 0.001)
    first, second = impl.Op(1), impl.Op(1)
    queue.enqueue(1, first)
    with pytest.raises(QueueSaturatedWidthError):
        queue.enqueue(1, second)
    assert tuple(queue.dequeue(HANG)) == (first,)
    queue.enqueue(1, second)
    assert tuple(queue.dequeue(HANG)) == (second,)


def test_window_saturated_depth(impl):
    """TestOpWindowErrQueueSaturatedDepth."""
    queue = impl.OpWindow(1, 1, 0.001)
    first, second = impl.Op(1), impl.Op(2)
    queue.enqueue(1, first)
    with pytest.raises(QueueSaturatedDepthError):
        queue.enqueue(2, second, timeout=0.005)
    assert tuple(queue.dequeue(HANG)) == (first,)
    queue.enqueue(2, second)
    assert tuple(queue.dequeue(HANG)) == (second,)


def test_window_saturated_depth_close(impl):
    """TestOpWindowErrQueueSaturatedDepthClose: close ends a producer that waits for depth."""
    queue = impl.OpWindow(1, 1, 0.001)
    queue.submit(1)
    worker = Worker(queue.submit, 2, timeout=None)
    wait_producers(queue, 1)
    queue.close()
    assert isinstance(worker.exception(), QueueClosedError)
    assert len(take_all(queue)) == 1


def test_window_dequeue_empty_queue(impl):
    """TestOpWindowDequeueEmptyQueue: a dequeue that does not wait."""
    with pytest.raises(QueueEmptyError):
        impl.OpWindow(1, 1, 3600).dequeue(0)


def test_map_reduce(impl):
    """TestExample1, the map-reduce of the README, which gives 42."""
    data = ["1:2", "5:6:7", "1:2", "5:6:7"]
    totals = []
    group = impl.CallGroup(lambda results: totals.append(sum(each.result for each in results.responses)))

    def work(op):
        op.finish(sum(map(int, op.msg.split(":"))))

    # No starting line, as the original needs: the block holds the group open.
    with group:
        workers = [Worker(work, group.add(number, entry)) for number, entry in enumerate(data)]
    group.result(HANG)
    for worker in workers:
        worker.result()
    assert totals == [42]
