"""A coroutine that is closed, dropped or thrown into in the middle of its wait, and a row whose work is cancelled."""

from __future__ import annotations

import asyncio
import weakref

import pytest
from aio import (
    cancelled,
    drive,
    ended,
    finished,
    nobody_waits,
    parked_consumers,
    parked_producers,
    record_reports,
    turns,
    until,
)
from helpers import keys, put, take_all

from inflight import OpCancelledError


@pytest.mark.parametrize("how", ["close", "drop", "throw"])
@pytest.mark.parametrize("promised", [False, True])
async def test_a_coroutine_that_is_destroyed_in_its_wait(make_queue, collect, how, promised):
    """What it was promised goes to the next."""
    queue = make_queue()
    coroutine = queue.adequeue()
    coroutine.send(None)
    assert queue.stats().consumers_waiting == 1
    (task,) = await parked_consumers(queue, 1)
    if promised:
        put(queue, 1)
    if how == "close":
        coroutine.close()
    elif how == "drop":
        del coroutine
        collect()
    else:
        with pytest.raises(LookupError):
            coroutine.throw(LookupError())
    if not promised:
        put(queue, 1)
    assert keys(await ended(task)) == [1]
    assert nobody_waits(queue)


@pytest.mark.parametrize("how", ["close", "drop", "throw"])
@pytest.mark.parametrize("granted", [False, True])
async def test_a_coroutine_of_a_producer_that_is_destroyed_in_its_wait(make_queue, collect, how, granted):
    queue = make_queue(1, None)
    put(queue, "old")
    coroutine = queue.asubmit("destroyed")
    coroutine.send(None)
    (task,) = await parked_producers(queue, ["next"])
    if granted:
        queue.dequeue(0)
    if how == "close":
        coroutine.close()
    elif how == "drop":
        del coroutine
        collect()
    else:
        with pytest.raises(LookupError):
            coroutine.throw(LookupError())
    if not granted:
        queue.dequeue(0)
    await finished(task)
    assert keys(take_all(queue)) == ["next"]
    assert nobody_waits(queue)


@pytest.mark.parametrize("older", [False, True], ids=["before the cycle", "after the cycle"])
@pytest.mark.parametrize("promised", [False, True])
@pytest.mark.parametrize("kind", ["consumer", "producer", "joiner"])
async def test_a_coroutine_that_is_collected_with_a_cycle(make_queue, collect, dropped, kind, promised, older):
    """Whichever part of the cycle the collector comes to first."""
    queue = make_queue(1, None)
    if kind != "consumer":
        put(queue, "old")
    cycle = []
    coroutine = {"consumer": queue.adequeue, "producer": lambda: queue.asubmit("new"), "joiner": queue.ajoin}[kind]()
    coroutine.send(None)
    if not older:
        cycle = []
    cycle += [cycle, coroutine]
    if promised:
        if kind == "consumer":
            put(queue, "old")
        else:
            queue.dequeue(0)
    del coroutine, cycle
    collect()
    # It was never accepted: nobody is to hear of it.
    assert not any("'new'" in text for text in dropped())
    assert nobody_waits(queue)
    if not promised or kind != "consumer":
        take_all(queue)
        put(queue, "next")
    assert len(take_all(queue)) == 1


@pytest.mark.parametrize("kind", ["consumer", "row", "producer", "slot", "joiner", "end", "closed", "op", "group"])
async def test_a_coroutine_that_nobody_resumes_is_collected_with_what_it_waits_for(impl, collect, kind):
    """In line, promised something, or woken and out of line."""

    class Queue(impl.OpQueue):
        """Has attributes."""

    class Op(impl.Op):
        pass

    class Group(impl.CallGroup):
        pass

    thing = {"op": lambda: Op("a"), "group": Group}.get(kind, lambda: Queue(1, None))()
    if kind in ("producer", "slot", "joiner", "end"):
        put(thing, "old")
    if kind in ("op", "group"):
        coroutine = thing.__await__()
    elif kind in ("producer", "slot"):
        coroutine = thing.asubmit("new")
    elif kind in ("joiner", "end"):
        coroutine = thing.ajoin()
    else:
        coroutine = thing.adequeue()
    coroutine.send(None)
    thing.cycle = coroutine
    if kind == "row":
        put(thing, "new")
    elif kind in ("slot", "end"):
        take_all(thing)
    elif kind == "closed":
        thing.close()
    elif kind == "op":
        thing.finish()
    elif kind == "group":
        thing.seal()
    ref = weakref.ref(thing)
    del thing, coroutine
    # The wake-up is on its way until then.
    await turns(2)
    collect()
    assert ref() is None


async def test_a_coroutine_that_nobody_awaited_and_that_is_collected_with_a_cycle(make_queue, collect):
    cycle = [make_queue().adequeue()]
    cycle.append(cycle)
    del cycle
    with pytest.warns(RuntimeWarning, match="'OpQueue.adequeue' was never awaited") as caught:
        collect()
    assert len(caught) == 1


@pytest.mark.parametrize("kind", ["consumer", "process", "producer", "joiner", "op", "group"])
async def test_a_task_whose_inner_coroutine_is_finalized_first(impl, collect, kind):
    """The task must not go, and close the outer coroutine, while the collector closes the inner one."""

    async def inner(target, awaitable):
        await awaitable

    async def outer(coroutine):
        try:
            await coroutine
        except BaseException as error:
            ended_by.append(type(error))
            raise

    async def work(row):
        raise AssertionError

    def park():
        queue = impl.OpQueue(1, None)
        if kind in ("producer", "joiner"):
            queue.submit("old").add_done_callback(lambda op: None)
        target, awaitable = {
            "consumer": lambda: (queue, queue.adequeue()),
            "process": lambda: (queue, queue.aprocess(work)),
            "producer": lambda: (queue, queue.asubmit("new")),
            "joiner": lambda: (queue, queue.ajoin()),
            "op": lambda: (op := impl.Op(1), op),
            "group": lambda: (group := impl.CallGroup(), group),
        }[kind]()
        # Made before the outer one, and so before it in the collector's list.
        return weakref.ref(asyncio.ensure_future(outer(inner(target, awaitable))))

    ended_by = []
    record_reports(asyncio.get_running_loop())
    collect()
    task = park()
    await turns()
    collect()
    assert ended_by == [GeneratorExit]
    assert task() is None


async def test_a_coroutine_that_never_began_can_be_closed(make_queue):
    queue = make_queue()
    put(queue, 1)
    for coroutine in (queue.adequeue(), queue.asubmit(2)):
        coroutine.close()
        with pytest.raises(RuntimeError):
            await coroutine
    coroutine = queue.adequeue()
    with pytest.raises(asyncio.CancelledError):
        coroutine.throw(asyncio.CancelledError())
    assert keys(take_all(queue)) == [1]


async def test_a_coroutine_is_awaited_once(make_queue):
    queue = make_queue()
    put(queue, 1, 2)
    coroutine = queue.adequeue()
    assert drive(coroutine).key == 1
    with pytest.raises(RuntimeError):
        await coroutine
    assert keys(take_all(queue)) == [2]


async def test_a_cancelled_block_of_a_row_cancels_its_operations_and_frees_the_key(make_queue):
    async def work(kind):
        if kind == "with":
            with await queue.adequeue():
                await asyncio.Event().wait()
        elif kind == "async with":
            async with await queue.adequeue():
                await asyncio.Event().wait()
        else:
            async for row in queue:
                with row:
                    await asyncio.Event().wait()

    queue = make_queue()
    for kind in ("with", "async with", "async for"):
        ops = put(queue, "k", "k")
        task = asyncio.ensure_future(work(kind))
        await until(lambda: not len(queue))
        await turns()
        assert ("k" in queue) == make_queue.exclusive
        (behind,) = put(queue, "k") if make_queue.exclusive else (None,)
        task.cancel()
        assert await cancelled(task)
        for op in ops:
            assert type(op.exception(0)) is OpCancelledError
            assert isinstance(op.exception(0).__cause__, asyncio.CancelledError)
        if behind is not None:
            assert tuple(queue.dequeue(0)) == (behind,)
        assert "k" not in queue
