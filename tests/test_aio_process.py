"""aprocess: takes a row, awaits a function, and leaves the row as its block would."""

from __future__ import annotations

import asyncio
import contextlib
import types

import pytest
from aio import (
    ended,
    turns,
    wait_parked,
)
from helpers import HANG, put

from inflight import OpCancelledError, QueueClosedError, QueueEmptyError


async def finish_with_key(row):
    await asyncio.sleep(0)
    row.finish_all(row.key)


async def test_aprocess(make_queue):
    queue = make_queue()
    ops = put(queue, 1, 1)
    assert await queue.aprocess(finish_with_key) is True
    assert [op.result(0) for op in ops] == [1, 1]
    assert 1 not in queue
    task = asyncio.ensure_future(queue.aprocess(finish_with_key, HANG))
    await wait_parked(queue, consumers=1)
    (op,) = put(queue, 2)
    assert await ended(task) == [True]
    assert op.result(0) == 2
    with pytest.raises(QueueEmptyError, match="no row is ready"):
        await queue.aprocess(finish_with_key, timeout=0)
    queue.close()
    assert await queue.aprocess(finish_with_key) is False


@pytest.mark.parametrize("error", [ValueError("x"), QueueClosedError("of another"), QueueEmptyError("of another")])
async def test_aprocess_fails_the_operations_with_what_the_function_raises(make_queue, error):
    """Its own queue errors too: only the end of this very queue is answered with False."""

    async def fail(row):
        await asyncio.sleep(0)
        raise error

    queue = make_queue()
    (op,) = put(queue, 1)
    with pytest.raises(type(error)) as info:
        await queue.aprocess(fail)
    assert info.value is error
    assert op.exception(0) is error
    assert 1 not in queue


async def test_aprocess_cancelled_in_its_function_cancels_the_operations(make_queue):
    entered = asyncio.Event()

    async def work(row):
        entered.set()
        await asyncio.Event().wait()

    queue = make_queue()
    (op,) = put(queue, 1)
    task = asyncio.ensure_future(queue.aprocess(work))
    await entered.wait()
    assert (1 in queue) == make_queue.exclusive
    task.cancel()
    assert isinstance((await ended(task))[0], asyncio.CancelledError)
    assert type(op.exception(0)) is OpCancelledError
    assert isinstance(op.exception(0).__cause__, asyncio.CancelledError)
    assert 1 not in queue


async def test_aprocess_with_a_function_that_is_not_async(make_queue):
    queue = make_queue()
    (op,) = put(queue, 1)
    with pytest.raises(TypeError):
        await queue.aprocess(lambda row: None)
    assert isinstance(op.exception(0), TypeError)
    assert 1 not in queue


async def test_aprocess_takes_anything_that_can_be_awaited(impl, make_queue):
    queue = make_queue()
    (op,) = put(queue, 1)
    done = impl.Op("stands for the work")
    task = asyncio.ensure_future(queue.aprocess(lambda row: done))
    await turns()
    assert not task.done()
    done.finish()
    assert await ended(task) == [True]
    # What the function leaves unfinished is left alone.
    assert not op.done()
    op.finish()


@pytest.mark.parametrize(
    ("raised", "ended"),
    [(ValueError, ValueError), (MemoryError, MemoryError), (KeyboardInterrupt, OpCancelledError),
     (SystemExit, OpCancelledError), (asyncio.CancelledError, OpCancelledError), (TypeError, TypeError)],
)  # fmt: skip
def test_aprocess_lets_out_what_its_work_raises_before_it_waits(impl, raised, ended):
    """Not a coroutine's work, which begins later, but an object's whose `__await__` is code of its own."""

    class Work:
        def __init__(self, row):
            pass

        def __await__(self):
            raise raised("at once")

    queue = impl.DedupeQueue(None, None)
    op = queue.submit("a")

    async def step():
        with pytest.raises(raised, match="at once") as caught:
            await queue.aprocess(Work)
        assert type(caught.value) is raised
        assert caught.value.__cause__ is None

    ended_with = pytest.raises(ended, match="at once" if ended is raised else None)
    with contextlib.closing(step()) as steps, pytest.raises(StopIteration):
        steps.send(None)
    with ended_with:
        op.result(0)
    assert queue.stats().owned == 0


@pytest.mark.parametrize("wrong", [5, object(), [], lambda: None])
def test_aprocess_of_what_cannot_be_awaited(impl, wrong):
    queue = impl.DedupeQueue(None, None)
    op = queue.submit("a")
    with pytest.raises(TypeError, match=f"object {type(wrong).__name__} can't be used in 'await' expression"):
        asyncio.run(queue.aprocess(lambda row: wrong))
    with pytest.raises(TypeError):
        op.result(0)


@pytest.mark.parametrize("what", ["generator", "iterator", "future", "op", "wrong"])
def test_aprocess_awaits_whatever_can_be(impl, what):
    @types.coroutine
    def generator():
        yield

    class Work:
        def __await__(self):
            return {"iterator": iter([None]), "wrong": [1]}[what]

    async def main():
        queue = impl.DedupeQueue(None, None)
        op, other = queue.submit("a"), impl.Op("b")
        asyncio.get_running_loop().call_soon(other.finish)
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        work = {"generator": generator, "future": lambda: future, "op": lambda: other}.get(what, Work)
        try:
            return await queue.aprocess(lambda row: work())
        finally:
            op.try_finish()

    if what == "wrong":
        with pytest.raises(TypeError, match="returned non-iterator of type 'list'"):
            asyncio.run(main())
    else:
        assert asyncio.run(main())
