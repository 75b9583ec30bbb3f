"""Nothing is kept and nothing leaks: every call, every way it can end, cycles through whatever users hand in.

In the short form each scenario makes some hundred rounds. ``--operations 1000000 --timeout 0`` makes a million of each
(a tenth of that where it waits, or starts threads), and looks at resident memory, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from aio import ended, finished, in_thread, nobody_waits, parked_consumers, parked_producers, turns
from helpers import GIL, HANG, Worker, wait_blocked, wait_consumers, wait_producers
from leaking import Kit, Raising, left_by, raises, resident

from inflight import (
    AlreadyFinishedError,
    GroupClosedError,
    OpCancelledError,
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedWidthError,
)

SCENARIOS: dict[str, tuple[Callable[[Kit], Any], int]] = {}


def scenario(function: Callable[[Kit], Any], slow: int = 1) -> Callable[[Kit], Any]:
    SCENARIOS[function.__name__] = (function, slow)
    return function


def slowly(function: Callable[[Kit], Any]) -> Callable[[Kit], Any]:
    """For what waits, or starts threads or loops: fewer rounds."""
    return scenario(function, 10)


# --- operations -----------------------------------------------------------------------------------


@scenario
def op_finished(kit):
    op = kit.op()
    assert not op.done()
    op.finish(kit.result)
    assert (op.result(), op.exception(), op.key, op.msg) == (kit.result, None, kit.key, kit.msg)
    assert (op.done(), op.cancelled(), op.group, op.try_finish()) == (True, False, None, False)
    raises(AlreadyFinishedError, op.finish, kit.result)
    raises(AlreadyFinishedError, op.finish, error=kit.error)


@scenario
def op_failed(kit):
    op = kit.op()
    op.finish(error=kit.error)
    raises(ValueError, op.result)
    assert op.exception() is kit.error
    assert not op.cancel()


@scenario
def op_failed_with_what_was_raised(kit):
    def work():
        try:
            raise ValueError(kit.msg)
        except ValueError as error:
            op.finish(error=error)

    op = kit.op()
    work()
    raises(ValueError, op.result)


@scenario
def op_cancelled(kit):
    op = kit.op()
    assert op.cancel()
    assert op.cancelled()
    raises(OpCancelledError, op.result, 0)
    op.cancel()


@scenario
def op_abandoned(kit):
    op = kit.op()
    op.add_done_callback(kit.callback)


@scenario
def op_refused_error(kit):
    op = kit.op()
    for error in (ValueError, StopIteration(), kit.msg):
        raises(TypeError, op.finish, error=error)
        raises(TypeError, op.try_finish, error=error)
    op.finish()


@scenario
def op_of_a_bad_key(kit):
    raises(TypeError, kit.impl.Op, [kit.msg])
    raises(KeyboardInterrupt, kit.impl.Op, Raising(KeyboardInterrupt, hashed=True), kit.msg)
    op = kit.op()
    raises(RuntimeError, op.__init__, kit.other, kit.msg)
    op.finish()


@scenario
def op_callbacks(kit):
    def interrupt(done):
        raise KeyboardInterrupt

    def fail(done):
        raise ValueError(done)

    for finish in (lambda op: op.finish(kit.result), lambda op: op.finish(error=kit.error), lambda op: op.cancel()):
        op = kit.op()
        for callback in (kit.callback, fail, kit.callback):
            op.add_done_callback(callback)
        finish(op)
        op.add_done_callback(kit.callback)
        op.add_done_callback(fail)
        raises(KeyboardInterrupt, op.add_done_callback, interrupt)
    op = kit.op()
    op.add_done_callback(interrupt)
    op.add_done_callback(kit.callback)
    raises(TypeError, op.add_done_callback, kit.msg)
    raises(KeyboardInterrupt, op.finish, kit.result)


@scenario
def op_shown_pickled_referenced(kit):
    op = kit.op()
    ref = weakref.ref(op, kit.callback)
    for _ in range(2):
        assert repr(op)
        op.try_finish(error=kit.error)
    for how in (pickle.dumps, copy.copy, copy.deepcopy):
        raises(TypeError, how, op)
    assert kit.impl.Op[int, str, bytes]
    assert ref() is op


@scenario
def op_of_a_subclass(kit):
    op = kit.subclass(kit.key, kit.msg)
    op.itself = op
    op.finish(op)


@slowly
def op_times_out(kit):
    op = kit.op()
    for timeout in (0, 0.0005):
        raises(TimeoutError, op.result, timeout)
        raises(TimeoutError, op.exception, timeout)
    raises(ValueError, op.result, float("nan"))
    op.finish()


@slowly
def op_and_group_awaited_by_threads(kit):
    group = kit.impl.CallGroup(kit.reducer)
    op = group.add(kit.key, kit.msg)
    workers = [Worker(call, HANG) for call in (op.result, op.exception, group.result)]
    wait_blocked(*workers)
    op.finish(kit.result)
    assert workers[0].result() is kit.result
    for worker in workers[1:]:
        worker.result()


# --- groups ---------------------------------------------------------------------------------------


@scenario
def group_reduced(kit):
    with kit.impl.CallGroup(kit.reducer) as group:
        ops = [group.add(kit.key, kit.msg), *group.add_many([(kit.other, kit.msg), (kit.twin, kit.msg)])]
        group.add_done_callback(kit.callback)
    raises(GroupClosedError, group.add, kit.key, kit.msg)
    raises(GroupClosedError, group.add_many, [(kit.key, kit.msg)])
    assert repr(group)
    for op in ops:
        op.finish(kit.result)
    group.add_done_callback(kit.callback)
    raises(GroupClosedError, group.add, kit.key, kit.msg)
    raises(GroupClosedError, group.__enter__)
    raises(RuntimeError, group.__exit__, None, None, None)
    results = group.result()
    assert results[kit.key].op is ops[-1]
    assert (len(results), len(results.responses), len(results.errors), list(results)[1]) == (2, 3, 0, kit.other)
    results.raise_for_errors()
    assert (group.outstanding, len(group), group.done()) == (0, 3, True)


@scenario
def group_of_failed_operations(kit):
    group = kit.impl.CallGroup()
    ops = group.add_many([(kit.key, None), (kit.other, None), (1, None)])
    ops[0].finish(error=kit.error)
    ops[1].cancel()
    del ops  # the third is abandoned
    results = group.result()
    raises(BaseExceptionGroup, results.raise_for_errors)
    assert len(results.errors) == 3
    assert repr(results)
    raises(KeyError, results.__getitem__, kit.msg)
    raises(TypeError, pickle.dumps, results)
    raises(AttributeError, setattr, results, "x", kit.msg)
    raises(TypeError, pickle.dumps, group)


@scenario
def group_whose_reducer_raises(kit):
    def reduce(results):
        raise kind(results)

    for kind in (ValueError, KeyboardInterrupt, SystemExit):
        group = kit.impl.CallGroup(reduce)
        op = group.add(kit.key, kit.msg)
        if kind is ValueError:
            op.finish(kit.result)
        else:
            raises(kind, op.finish, kit.result)
        for _ in range(2):
            raises(kind, group.result)
        group = kit.impl.CallGroup(reduce)
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            group.seal()


@scenario
def group_whose_reducer_waits_for_it(kit):
    group = kit.impl.CallGroup(lambda results: raises(RuntimeError, group.result, 0))
    group.add(kit.key, kit.msg).finish(kit.result)
    group.result()


@scenario
def group_whose_callbacks_raise(kit):
    def fail(done):
        raise ValueError(done)

    def interrupt(done):
        raise KeyboardInterrupt(done)

    for callback in (fail, interrupt):
        group = kit.impl.CallGroup(kit.reducer)
        group.add_done_callback(callback)
        with contextlib.suppress(KeyboardInterrupt):
            group.seal()
        with contextlib.suppress(KeyboardInterrupt):
            group.add_done_callback(callback)
    raises(TypeError, group.add_done_callback, kit.msg)
    raises(TypeError, kit.impl.CallGroup, kit.msg)
    raises(RuntimeError, group.__init__, kit.reducer)


@scenario
def group_filled_half_way(kit):
    def items(last):
        yield kit.key, kit.msg
        yield kit.other, kit.msg
        if isinstance(last, BaseException):
            raise last
        yield last

    group = kit.impl.CallGroup(kit.reducer)
    interrupting = Raising(KeyboardInterrupt, hashed=True)
    for last, kind in [
        (ValueError(), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (kit.msg, TypeError),
        (([], kit.msg), TypeError),
        ((interrupting, kit.msg), KeyboardInterrupt),
    ]:
        raises(kind, group.add_many, items(last))
    raises(TypeError, group.add, [], kit.msg)
    raises(KeyboardInterrupt, group.add, interrupting, kit.msg)
    assert group.add_many([]) == []
    assert len(group) == 0
    raises(ZeroDivisionError, _leave_by, group, ZeroDivisionError)
    assert group.done()


def _leave_by(block, error):
    with block:
        raise error


@slowly
def group_times_out(kit):
    group = kit.impl.CallGroup(kit.reducer)
    op = group.add(kit.key, kit.msg)
    for timeout in (0, 0.0005):
        raises(TimeoutError, group.result, timeout)
    raises(ValueError, group.result, float("nan"))
    op.finish()


# --- queues ---------------------------------------------------------------------------------------


@scenario
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


@scenario
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


@scenario
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


@scenario
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


@scenario
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


@scenario
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


@scenario
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


@scenario
def queue_dropped_with_what_waits(kit):
    with kit.impl.CallGroup(kit.reducer) as group:
        queue = kit.queue()
        for key in (kit.key, kit.other, kit.twin, 1):
            queue.enqueue(key, group.add(key, kit.msg))
    del queue
    assert len(group.result(HANG).errors) == 4


@scenario
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


@slowly
def queue_of_windows_that_pass(kit):
    queue = kit.impl.OpWindow(None, None, 0.0005, exclusive=kit.number % 2 == 0)
    queue.submit(kit.key, kit.msg)
    queue.submit(kit.other, kit.msg)
    row = queue.dequeue(HANG)
    queue.submit(kit.twin, kit.msg)
    row.release()
    for _ in range(2):
        queue.dequeue(HANG).finish_all(kit.result)


@slowly
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


@slowly
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


@slowly
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


@slowly
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
    queue._check()


# --- rows -----------------------------------------------------------------------------------------


@scenario
def row_looked_at(kit):
    row = kit.row(kit.key, kit.twin, kit.key)
    assert (len(row), len(row[1:]), row.key) == (3, 2, kit.key)
    assert (row[0], row[-1]) == (row[:1][0], [*row][2])
    assert next(reversed(row)) is row[2]
    assert (row.index(row[1]), row.count(row[0]), kit.msg in row, row[2] in row) == (1, 1, False, True)
    assert repr(row)
    raises(IndexError, row.__getitem__, 3)
    raises(TypeError, row.__getitem__, kit.msg)
    raises(ValueError, row.index, kit.msg)
    raises(TypeError, pickle.dumps, row)
    raises(TypeError, kit.impl.OpSet)
    ref = weakref.ref(row, kit.callback)
    assert ref() is row
    row.finish_all()


@scenario
def row_finished(kit):
    row = kit.row(kit.key, kit.twin, kit.key)
    raises(TypeError, row.finish_all, error=ValueError)
    raises(ValueError, row.finish_each, [kit.result])
    raises(TypeError, row.finish_each, [kit.result, kit.result, StopIteration()])
    row[0].finish(kit.result)
    assert row.finish_each([kit.result, kit.error, kit.result]) == 2
    assert row.finish_all(kit.result) == 0
    assert kit.row().finish_all(error=kit.error) == 1


@scenario
def row_left_by(kit):
    for error in (ValueError, KeyboardInterrupt, StopIteration, GeneratorExit):
        row = kit.row(kit.key, kit.twin)
        raises(error, _leave_by, row, error)
        assert row[0].done()
        row.release()
    with kit.row():
        pass


@scenario
def row_whose_callbacks_and_reducers_raise(kit):
    def fail(done):
        raise KeyboardInterrupt(done)

    queue = kit.queue()
    group = kit.impl.CallGroup(fail)
    for key in (kit.key, kit.twin, kit.key):
        op = group.add(key, kit.msg)
        op.add_done_callback(fail)
        queue.enqueue(key, op)
    row = queue.dequeue()
    raises(KeyboardInterrupt, row.finish_all, kit.result)
    raises(KeyboardInterrupt, group.result)


# --- tasks ----------------------------------------------------------------------------------------


@scenario
async def aio_ready(kit):
    queue = kit.queue()
    op = kit.op()
    await queue.aenqueue(kit.key, op)
    await queue.asubmit(kit.twin, kit.msg)
    for number in range(4):
        await queue.asubmit(number, kit.msg)
    async with await queue.adequeue() as row:
        row.finish_all(kit.result)
    assert await op is kit.result
    for row in await queue.adequeue_many(2):
        row.release()

    async def work(row):
        row.finish_all(kit.result)

    assert await queue.aprocess(work)
    async for row in queue:
        row.release()
        break
    del row
    assert await queue.ajoin()
    async with queue:
        pass
    async with kit.impl.CallGroup(kit.reducer) as group:
        pass
    await group
    async for _ in queue:
        raise AssertionError
    assert not await queue.aprocess(work)


async def araises(kind, coroutine):
    try:
        await coroutine
    except kind:
        return
    raise AssertionError(f"did not raise {kind.__name__}")


@scenario
async def aio_refused(kit):
    async def fail(row):
        raise kind(row)

    queue = kit.queue(1, 1)
    op = kit.op()
    await araises(QueueEmptyError, queue.adequeue(0))
    await araises(QueueEmptyError, queue.adequeue_many(3, 0))
    await araises(ValueError, queue.adequeue(float("nan")))
    await queue.aenqueue(kit.key, op)
    await araises(QueueSaturatedWidthError, queue.aenqueue(kit.twin, op))
    await araises(QueueSaturatedDepthError, queue.aenqueue(kit.other, op, timeout=0))
    await araises(QueueSaturatedDepthError, queue.asubmit(kit.other, kit.msg, timeout=0))
    await araises(KeyboardInterrupt, queue.asubmit(Raising(KeyboardInterrupt), kit.msg))
    await araises(RuntimeError, queue.asubmit(Raising(StopIteration), kit.msg))
    assert not await queue.ajoin(0)
    queue.drain()
    for kind in (ValueError, KeyboardInterrupt):
        queue = kit.queue()
        queue.submit(kit.key, kit.msg)
        await araises(kind, queue.aprocess(fail))
    queue.close()
    await araises(QueueClosedError, queue.aenqueue(kit.key, op))
    await araises(QueueClosedError, queue.asubmit(kit.key, kit.msg))
    await araises(QueueClosedError, queue.adequeue())
    failed = kit.op()
    failed.finish(error=kit.error)
    await araises(ValueError, failed)
    op.try_finish()


@slowly
async def aio_times_out(kit):
    queue = kit.queue(1, None)
    await araises(QueueEmptyError, queue.adequeue(0.0005))
    await araises(QueueEmptyError, queue.adequeue_many(2, 0.0005))
    queue.submit(kit.key, kit.msg)
    await araises(QueueSaturatedDepthError, queue.asubmit(kit.other, kit.msg, timeout=0.0005))
    assert not await queue.ajoin(0.0005)
    for awaitable in (op := kit.op(), kit.impl.CallGroup(kit.reducer)):
        await araises(TimeoutError, asyncio.wait_for(awaitable, 0.0005))
    op.finish()


@scenario
async def aio_handed_over(kit):
    queue, full = kit.queue(), kit.queue(1, None)
    full.submit(0)
    group = kit.impl.CallGroup(kit.reducer)
    op = group.add(kit.key, kit.msg)
    tasks = await parked_consumers(queue, 2) + await parked_producers(full, [kit.key, kit.other])
    tasks += [asyncio.ensure_future(queue.adequeue(HANG)), asyncio.ensure_future(full.ajoin())]
    tasks += [asyncio.ensure_future(_wait(each)) for each in (op, op, group)]
    await turns()
    for number in range(3):
        queue.submit(number, kit.msg)
    op.finish(kit.result)
    for _ in range(3):
        (await full.adequeue()).release()
    await finished(*tasks)


async def _wait(awaitable):
    await awaitable


@scenario
async def aio_failed_while_awaited(kit):
    group = kit.impl.CallGroup(_divide)
    ops = [kit.op(), kit.op(), group.add(kit.key, kit.msg)]
    tasks = [asyncio.ensure_future(_wait(each)) for each in (ops[0], ops[1], ops[0], group)]
    await turns(2)
    ops[0].finish(error=kit.error)
    ops[1].cancel()
    ops.clear()  # the last is abandoned
    await asyncio.wait(tasks)
    assert all(task.exception() is not None or task.cancelled() for task in tasks)


def _divide(results):
    raise ZeroDivisionError(results)


@scenario
async def aio_cancelled(kit):
    """Before the start, in the wait, and once woken."""
    for woken in (None, False, True):
        queue, full = kit.queue(), kit.queue(1, None)
        full.submit(0)
        group = kit.impl.CallGroup(kit.reducer)
        op = group.add(kit.key, kit.msg)
        calls = [queue.adequeue(), queue.adequeue(HANG), queue.adequeue_many(5), full.asubmit(kit.key, kit.msg)]
        calls += [full.ajoin(), _wait(op), _wait(group), queue.aprocess(_wait)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        if woken is not None:
            await turns(3)
        if woken:
            queue.submit(kit.key, kit.msg)
            queue.submit(kit.other, kit.msg)
            full.dequeue().release()
            op.finish(kit.result)
        for task in tasks:
            task.cancel("told")
        await asyncio.wait(tasks)
        op.try_finish()
        assert nobody_waits(queue)
        assert nobody_waits(full)


@scenario
async def aio_closed_under_tasks(kit):
    queue, full = kit.queue(), kit.queue(1, None)
    full.submit(0)
    tasks = await parked_consumers(queue, 2) + await parked_producers(full, [kit.key])
    queue.close()
    full.close()
    await ended(*tasks)


@scenario
async def aio_closed_thrown_and_never_awaited(kit):
    queue, full = kit.queue(), kit.queue(1, None)
    full.submit(0)
    op = kit.op()
    makers = (queue.adequeue, lambda: queue.adequeue_many(3, 5), lambda: full.asubmit(kit.key, kit.msg), full.ajoin)
    makers += (lambda: full.aenqueue(kit.key, op), lambda: _wait(op), lambda: queue.aprocess(_wait))
    for make in makers:
        make()
        make().close()
        raises(LookupError, make().throw, LookupError())
        for end in ("close", "drop", "throw"):
            coroutine = make()
            coroutine.send(None)
            if end == "close":
                coroutine.close()
            elif end == "throw":
                raises(LookupError, coroutine.throw, LookupError())
            del coroutine
    assert nobody_waits(queue)
    assert nobody_waits(full)
    op.finish()


@scenario
async def aio_row_left_by(kit):
    async def work(error):
        async with kit.row(kit.key, kit.twin):
            raise error

    for error in (ValueError, KeyboardInterrupt, GeneratorExit):
        await araises(error, work(error))


@slowly
def aio_loop_closed_under_tasks(kit):
    async def park():
        calls = [queue.adequeue(), queue.adequeue(HANG), full.asubmit(kit.key, kit.msg), full.ajoin(), _wait(op)]
        calls += [queue.aprocess(_wait), _wait(group)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await turns()
        return tasks

    queue, full, group = kit.queue(), kit.queue(1, None), kit.impl.CallGroup(kit.reducer)
    full.submit(0)
    op = group.add(kit.key, kit.msg)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    tasks = loop.run_until_complete(park())
    if kit.number % 2:
        queue.submit(kit.key, kit.msg)
        full.drain()
        op.finish(kit.result)
    loop.close()
    del tasks
    queue.submit(kit.other, kit.msg)
    full.drain()


@slowly
def aio_woken_by_other_threads(kit):
    async def main():
        tasks = await parked_consumers(queue, 2)
        op = kit.op()
        tasks.append(asyncio.ensure_future(_wait(op)))
        await turns(2)
        await in_thread(lambda: (queue.submit(1, kit.msg), queue.submit(2, kit.msg), op.finish(kit.result)))
        await finished(*tasks)

    queue = kit.queue()
    # Not a Runner: what it does with signals fills a cache of the interpreter for some hundred rounds.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_left_by(impl, monkeypatch, request, name):
    # Records of what callbacks raise would be kept by pytest.
    monkeypatch.setattr(logging.getLogger("inflight"), "disabled", True)
    function, slow = SCENARIOS[name]
    operations = request.config.getoption("--operations")
    rounds = max(operations // slow, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = resident()
        assert left_by(function, impl, rounds) == []
    if operations >= 10_000:
        # What is traced itself takes memory while it is.
        assert resident() - before < 16 * 2**20


def test_what_leaks_is_found(impl):
    """The counting itself: one reference, one object, one block a round."""

    def reference(kit):
        kept.append(kit.msg)

    def instance(kit):
        kept.append(kit.op())
        kept[-1].finish()

    def number(kit):
        kept.append(10**6 + kit.number)

    for leak, words in ((reference, "references"), (instance, "of Op"), (number, "blocks")):
        kept: list[Any] = []
        found = left_by(leak, impl, 100, times=1)
        if leak is not reference or GIL:
            assert any(words in each for each in found), found


# --- cycles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["message", "result", "error", "traceback", "callback", "reducer"])
@pytest.mark.parametrize("kind", ["DedupeQueue", "OpWindow"])
def test_a_row_that_only_its_own_operations_refer_to_gives_its_key_back(impl, collect, kind, through):
    """Its queue lives on, and must not hold it by what the row is made of."""

    def work():
        holder = []
        group = impl.CallGroup((lambda results, holder=holder: None) if through == "reducer" else None)
        op = group.add("a", holder)
        queue.enqueue("a", op)
        row = queue.dequeue(0)
        queue.submit("a", "behind")
        if through in ("message", "reducer"):
            holder.append(row)
        elif through == "callback":
            op.add_done_callback(lambda done, row=row: None)
        elif through == "result":
            op.finish(row)
        elif through == "error":
            op.finish(error=ValueError(row))
        else:
            try:
                raise ValueError(len(row))
            except ValueError as error:
                # By its traceback to this frame.
                row.finish_all(error=error)

    queue = impl.DedupeQueue(10, 10) if kind == "DedupeQueue" else impl.OpWindow(10, 10, 0, exclusive=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        work()
        collect()
        assert queue.stats().owned == 0
        assert queue.dequeue(0)[0].msg == "behind"
        collect()
    assert "a" not in queue
    queue._check()
