"""A coroutine that is stepped by hand, and what it waits on, behave as coroutines and futures do."""

from __future__ import annotations

import asyncio
import warnings

import pytest
from aio import turns
from helpers import put

from inflight import GroupClosedError, QueueClosedError


async def test_what_a_call_waits_on_is_a_future_to_its_task(make_queue):
    queue = make_queue()
    coroutine = queue.adequeue()
    waiter = coroutine.send(None)
    called = []
    callback = called.append
    assert waiter.get_loop() is asyncio.get_running_loop()
    assert waiter._asyncio_future_blocking
    waiter.add_done_callback(callback)
    assert not waiter.done()
    assert not waiter.cancelled()
    assert waiter.remove_done_callback(print) == 0
    assert waiter.remove_done_callback(callback) == 1
    put(queue, "a")
    await turns()
    assert called == []
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    assert end.value.value.key == "a"


async def test_a_wait_that_is_cancelled_by_hand(make_queue):
    queue = make_queue()
    coroutine = queue.adequeue()
    waiter = coroutine.send(None)
    called = []
    waiter.add_done_callback(called.append)
    assert waiter.cancel("enough")
    assert not waiter.cancel()
    assert waiter.cancelled()
    await turns()
    assert called == [waiter]
    with pytest.raises(asyncio.CancelledError, match="enough"):
        waiter.result()
    with pytest.raises(asyncio.CancelledError, match="enough"):
        waiter.exception()
    coroutine.close()
    assert queue.stats().consumers_waiting == 0


async def test_it_tells_what_it_waits_on(make_queue):
    coroutine = make_queue().adequeue()
    assert not coroutine.cr_suspended
    assert coroutine.cr_await is None
    waiter = coroutine.send(None)
    assert waiter is not None
    assert coroutine.cr_suspended
    assert not coroutine.cr_running
    coroutine.close()
    assert coroutine.cr_await is None


async def test_iterating_over_what_is_awaited(impl):
    op = impl.Op("a")
    steps = op.__await__()
    assert iter(steps) is steps
    waiter = next(steps)
    waiter.add_done_callback(lambda waiter: None)
    op.finish(7)
    await turns()
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == 7


async def test_an_exception_is_thrown_with_a_value_or_a_traceback(make_queue):
    try:
        raise KeyError("where it came from")
    except KeyError as error:
        traceback = error.__traceback__
    for arguments in [(ValueError, "no"), (ValueError, ValueError("no")), (ValueError, "no", traceback)]:
        coroutine = make_queue().adequeue()
        coroutine.send(None)
        with warnings.catch_warnings():
            # Python deprecates the three arguments, and takes them still.
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(ValueError, match="no"):
                coroutine.throw(*arguments)


async def test_an_instance_is_not_thrown_with_another_value(make_queue):
    coroutine = make_queue().adequeue()
    coroutine.send(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(TypeError, match="separate value"):
            coroutine.throw(ValueError("one"), "two")
    coroutine.close()


def test_a_group_is_entered_a_million_times_at_most(impl):
    if impl.name == "pure":
        pytest.skip("counts without a limit")
    group = impl.CallGroup()
    for _ in range(0xFFFFF):
        group.__enter__()
    with pytest.raises(RuntimeError, match="too often"):
        group.__enter__()
    for _ in range(0xFFFFF):
        group.__exit__(None, None, None)
    assert group.done()
    with pytest.raises(GroupClosedError):
        group.add(1)


def test_rows_that_are_shared_without_a_loop(make_queue):
    """After so many rows it would let the loop run; where there is none, it goes on."""
    queue = make_queue()
    put(queue, *range(300))
    queue.close()
    rows = queue.__aiter__()
    taken = []
    while True:
        step = rows.__anext__()
        try:
            step.send(None) if hasattr(step, "send") else next(step.__await__())
        except StopIteration as end:
            taken.append(end.value.key)
            end.value.release()
        except StopAsyncIteration:
            break
    assert taken == list(range(300))
    with pytest.raises(QueueClosedError):
        queue.dequeue(0)
