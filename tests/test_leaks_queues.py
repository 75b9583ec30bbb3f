"""Nothing is kept by queues: every call, and every way in which it ends."""

from __future__ import annotations

import pickle
import weakref

import pytest
from helpers import HANG, Worker, wait_consumers, wait_producers
from leaking import Raising, Table, raises

from inflight import (
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedWidthError,
)
from inflight._invariants import check_invariants

table = Table()


@table.scenario
def queue_enqueued_merged_dequeued(kit):
    queue = kit.queue()
    op = kit.op()
    for key in (kit.key, kit.twin, kit.other, kit.key, 1, "text", (1, 2), 2**70):
        queue.enqueue(key, op)
    assert kit.twin in queue
    assert 3 not in queue
    assert (len(queue), queue.stats().merged, bool(queue)) == (6, 2, True)
    assert repr(queue)
    for _ in range(6):
        with queue.dequeue() as row:
            row.finish_all(kit.result)
    raises(QueueEmptyError, queue.dequeue, 0)


@table.scenario
def queue_refuses(kit):
    op = kit.op()
    queue = kit.queue(1, 2)
    for _ in range(2):
        queue.enqueue(kit.key, op)
    for key, error in ((kit.twin, QueueSaturatedWidthError), (kit.other, QueueSaturatedDepthError)):
        raises(error, queue.enqueue, key, op)
        raises(error, queue.submit, key, kit.msg)
        refused = queue.enqueue_many([kit.impl.Op(key, kit.msg)])
        assert type(refused[0][1]) is error
        refused[0][0].finish()
    raises(TypeError, queue.enqueue, kit.key, kit.msg)
    raises(TypeError, queue.enqueue, [], op)
    raises(TypeError, queue.submit, [], kit.msg)
    raises(TypeError, queue.enqueue_many, [op, kit.msg])
    raises(ValueError, queue.enqueue, kit.key, op, timeout=float("nan"))
    with queue:
        pass
    for call in (
        lambda: queue.enqueue(kit.key, op),
        lambda: queue.submit(kit.key, kit.msg),
        lambda: queue.enqueue_many([op]),
        lambda: queue.enqueue(kit.other, op, timeout=1),
    ):
        raises(QueueClosedError, call)
    queue.dequeue().finish_all(kit.result)


@table.scenario
def queue_of_keys_that_raise(kit):
    op = kit.op()
    queue = kit.queue()
    queue.enqueue(kit.key, op)
    queue.enqueue(kit.other, op)
    for kind in (ValueError, KeyboardInterrupt, StopIteration):
        key = Raising(kind)
        raises(kind, queue.enqueue, key, op)
        raises(kind, queue.submit, key, kit.msg)
        raises(kind, queue.__contains__, key)
        raises(kind, queue.flush, key)
        bad = kit.impl.Op(key, kit.msg)
        raises(kind, queue.enqueue_many, [op, bad])
        bad.finish()
        hashed = Raising(kind, hashed=True)
        raises(kind, queue.enqueue, hashed, op)
        raises(kind, queue.submit, hashed, kit.msg)
        raises(kind, queue.flush, hashed)
    op.finish()


@table.scenario
def queue_arguments(kit):
    impl = kit.impl
    raises(ValueError, impl.OpQueue, 0, None)
    raises(TypeError, impl.DedupeQueue, kit.msg, None)
    raises(ValueError, impl.OpWindow, None, None, -1)
    queue = kit.queue(2**80, 5)
    raises(RuntimeError, queue.__init__, *((1, 1) if kit.number % 4 < 2 else (1, 1, 1)))
    raises(ValueError, queue.dequeue, float("nan"))
    raises(ValueError, queue.dequeue_many, 0)
    raises(TypeError, queue.dequeue_many, kit.msg)
    raises(TypeError, queue.process, kit.msg)
    raises(TypeError, queue.flush, [])
    raises(TypeError, queue.__contains__, [])
    raises(TypeError, pickle.dumps, queue)
    assert (queue.depth, queue.width, queue.closed) == (2**80, 5, False)
    assert impl.OpQueue[int]
    ref = weakref.ref(queue, kit.callback)
    assert ref() is queue


@table.scenario
def queue_taken_in_all_ways(kit):
    queue = kit.queue()
    for take in (
        lambda: [queue.dequeue(1)],
        lambda: queue.dequeue_many(10),
        lambda: queue.dequeue_many(2, 0),
        queue.drain,
        lambda: [row for _, row in zip(range(3), queue, strict=False)],
    ):
        ops = [queue.submit(key, kit.msg) for key in (kit.key, kit.other, 3, kit.twin)]
        for row in take():
            row.finish_all(kit.result)
            row.release()
            del row
        queue.drain()
        del ops
    raises(QueueEmptyError, queue.dequeue_many, 5, 0)
    queue.submit(kit.key).finish()
    queue.close()
    for row in queue:
        row.release()
    for call in (queue.dequeue, lambda: queue.dequeue(1), lambda: queue.dequeue_many(3)):
        raises(QueueClosedError, call)
    assert queue.drain() == []


@table.scenario
def queue_processed(kit):
    def fail(row):
        raise kind(row)

    queue = kit.queue()
    for kind in (ValueError, KeyboardInterrupt, StopIteration):
        queue.submit(kit.key, kit.msg)
        raises(kind, queue.process, fail)
    queue.submit(kit.key, kit.msg)
    assert queue.process(lambda row: row.finish_all(kit.result))
    raises(QueueEmptyError, queue.process, fail, 0)
    queue.close()
    assert not queue.process(fail)


@table.scenario
def queue_released_requeued_dropped(kit):
    queue = kit.impl.DedupeQueue(None, None) if kit.number % 2 else kit.impl.OpWindow(None, None, 0, exclusive=True)
    for give_back in (lambda row: row.release(), lambda row: row.__exit__(None, None, None), lambda row: None):
        queue.submit(kit.key, kit.msg)
        row = queue.dequeue()
        queue.submit(kit.twin, kit.msg)
        queue.submit(kit.key, kit.msg)
        assert not queue.join(0)
        give_back(row)
        del row
        queue.dequeue().release()
        assert kit.key not in queue
    queue.submit(kit.key, kit.msg)
    row = queue.dequeue()
    queue.submit(kit.key, kit.msg)
    queue.close()
    raises(QueueEmptyError, queue.dequeue, 0)
    # Dropped with a row that is owned, and one behind it.
    del queue
    row.finish_all(kit.result)


@table.scenario
def queue_dropped_with_what_waits(kit):
    with kit.impl.CallGroup(kit.reducer) as group:
        queue = kit.queue()
        for key in (kit.key, kit.other, kit.twin, 1):
            queue.enqueue(key, group.add(key, kit.msg))
    del queue
    assert len(group.result(HANG).errors) == 4


@table.scenario
def queue_of_windows(kit):
    queue = kit.impl.OpWindow(10, 3, 1000, exclusive=kit.number % 2 == 0)
    for key in (kit.key, kit.other, kit.key, 1, kit.twin, 2):
        queue.submit(key, kit.msg)
    raises(QueueSaturatedWidthError, queue.submit, kit.twin)
    with queue.dequeue() as row:  # the full one
        assert len(row) == 3
    raises(QueueEmptyError, queue.dequeue, 0)
    assert (queue.flush(kit.msg), queue.flush(kit.other), queue.flush()) == (0, 1, 2)
    queue.dequeue().finish_all(kit.result)
    queue.submit(kit.key, kit.msg)
    assert len(queue.drain()) == 3
    queue.submit(4, kit.msg)
    queue.submit(5, kit.msg)
    queue.close()
    queue.dequeue()


@table.slowly
def queue_of_windows_that_pass(kit):
    queue = kit.impl.OpWindow(None, None, 0.0005, exclusive=kit.number % 2 == 0)
    queue.submit(kit.key, kit.msg)
    queue.submit(kit.other, kit.msg)
    row = queue.dequeue(HANG)
    queue.submit(kit.twin, kit.msg)
    row.release()
    for _ in range(2):
        queue.dequeue(HANG).finish_all(kit.result)


@table.slowly
def queue_times_out(kit):
    queue = kit.queue(1, None)
    raises(QueueEmptyError, queue.dequeue, 0.0005)
    raises(QueueEmptyError, queue.dequeue_many, 3, 0.0005)
    raises(QueueEmptyError, queue.process, kit.callback, 0.0005)
    queue.submit(kit.key, kit.msg)
    raises(QueueSaturatedDepthError, queue.submit, kit.other, kit.msg, timeout=0.0005)
    assert not queue.join(0.0005)
    queue.dequeue().release()
    assert queue.join(1)


@table.slowly
def queue_hands_over_to_threads(kit):
    queue, full = kit.queue(), kit.queue(1, None)
    consumers = [Worker(call) for call in (queue.dequeue, lambda: queue.dequeue(HANG), lambda: queue.dequeue_many(2))]
    wait_consumers(queue, 3)
    full.submit(0)
    producers = [Worker(full.submit, key, kit.msg, timeout=None) for key in (kit.key, kit.other)]
    joiner = Worker(full.join)
    wait_producers(full, 2)
    for number in range(3):
        queue.submit(number, kit.msg)
    for worker in consumers:
        worker.result()
    for _ in range(3):
        full.dequeue(HANG).release()
    for worker in (*producers, joiner):
        worker.result()


@table.slowly
def queue_closed_under_threads(kit):
    queue, full = kit.queue(), kit.queue(1, None)
    full.submit(0)
    op = kit.op()
    workers = [Worker(queue.dequeue), Worker(next, iter(queue), None), Worker(full.enqueue, 1, op, timeout=None)]
    wait_consumers(queue, 2)
    wait_producers(full, 1)
    queue.close()
    full.close()
    for worker, error in zip(workers, (QueueClosedError, None, QueueClosedError), strict=True):
        assert error is None or isinstance(worker.exception(), error)
        worker.exception()
    op.finish()


@table.slowly
def queue_grown_and_shrunk(kit):
    queue = kit.queue()
    queue.enqueue_many([kit.impl.Op(number, kit.msg) for number in range(300)])
    for number in range(300):
        queue.submit(str(number), kit.msg)
    for row in queue.dequeue_many(200):
        row.finish_all(kit.result)
        row.release()
    if kit.number % 3:
        queue.drain()
    check_invariants(queue)


@pytest.mark.parametrize("name", table.scenarios)
def test_nothing_is_left_by(impl, request, name):
    table.check(name, impl, request.config.getoption("--operations"))
