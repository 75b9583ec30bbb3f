"""Nothing is kept by what tasks await: answers, refusals, cancellations, loops that close."""

from __future__ import annotations

import asyncio

import pytest
from aio import ended, finished, in_thread, nobody_waits, parked_consumers, parked_producers, turns
from helpers import HANG
from leaking import Raising, Table, raises

from inflight import (
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedWidthError,
)

table = Table()


@table.scenario
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


@table.scenario
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


@table.slowly
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


@table.scenario
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


@table.scenario
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


@table.scenario
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


@table.scenario
async def aio_closed_under_tasks(kit):
    queue, full = kit.queue(), kit.queue(1, None)
    full.submit(0)
    tasks = await parked_consumers(queue, 2) + await parked_producers(full, [kit.key])
    queue.close()
    full.close()
    await ended(*tasks)


@table.scenario
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


@table.scenario
async def aio_row_left_by(kit):
    async def work(error):
        async with kit.row(kit.key, kit.twin):
            raise error

    for error in (ValueError, KeyboardInterrupt, GeneratorExit):
        await araises(error, work(error))


@table.slowly
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


@table.slowly
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


@pytest.mark.parametrize("name", table.scenarios)
def test_nothing_is_left_by(impl, request, name):
    table.check(name, impl, request.config.getoption("--operations"))
