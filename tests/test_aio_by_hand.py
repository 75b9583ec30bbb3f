"""A coroutine that is stepped by hand, and what it waits on, behave as coroutines and futures do."""

from __future__ import annotations

import asyncio
import copy
import pickle
import warnings

import pytest
from aio import turns
from helpers import keys, put, take_all

from inflight import GroupClosedError, QueueClosedError
from inflight._invariants import check_invariants


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


async def test_what_nobody_resumes_cannot_be_cancelled(make_queue):
    coroutine = make_queue().adequeue()
    waiter = coroutine.send(None)
    assert not waiter.cancel()
    assert not waiter.cancelled()
    coroutine.close()


def test_what_comes_after_its_loop_is_closed_goes_to_others(impl, clock):
    """Also if it did not look when it was told to."""
    queue = impl.OpWindow(None, None, 1)
    loop = asyncio.new_event_loop()

    async def wait_without_looking():
        coroutine = queue.adequeue()
        coroutine.send(None)
        # Its window ends before that of the call: whoever watches the windows is told.
        put(queue, "a")
        await turns()
        check_invariants(queue)
        return coroutine

    coroutine = loop.run_until_complete(wait_without_looking())
    loop.close()
    clock.advance(1)
    put(queue, "b")
    assert queue.dequeue(0).key == "a"
    coroutine.close()
    clock.advance(1)
    assert keys(take_all(queue)) == ["b"]


ITERATIONS = {
    "for": lambda call: [each for each in call],  # noqa: C416
    "list": list,
    "unpacked": lambda call: [*call],
    "yield from": lambda call: next(yield_from(call)),
    "in": lambda call: None in call,
}


def yield_from(call):
    yield from call


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("how", ITERATIONS)
@pytest.mark.parametrize("name", ["adequeue", "adequeue_many", "aenqueue", "asubmit", "ajoin", "__anext__"])
def test_a_forgotten_await_takes_nothing(make_queue, name, how):
    """And is no loop that iterates over a row."""
    queue = make_queue()
    put(queue, "a")
    op = make_queue.impl.Op("b")
    call = {
        "adequeue": queue.adequeue,
        "adequeue_many": lambda: queue.adequeue_many(5),
        "aenqueue": lambda: queue.aenqueue("b", op),
        "asubmit": lambda: queue.asubmit("b"),
        "ajoin": queue.ajoin,
        "__anext__": aiter(queue).__anext__,
    }[name]()
    with pytest.raises(TypeError, match="iterable|cannot 'yield from' a coroutine object"):
        ITERATIONS[how](call)
    assert keys(take_all(queue)) == ["a"]
    op.finish()
    del call


async def test_a_call_can_be_neither_copied_nor_made(make_queue):
    queue = make_queue()
    coroutine = queue.adequeue()
    coroutine.send(None)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="^cannot pickle 'coroutine' object$"):
            copied(coroutine)
    assert queue.stats().consumers_waiting == 1
    kind = type(coroutine)
    with pytest.raises(TypeError, match="^cannot create 'coroutine' instances$"):
        kind()
    with pytest.raises(TypeError):
        object.__new__(kind)
    coroutine.close()
    for iterator in (iter(queue), aiter(queue)):
        with pytest.raises((TypeError, AttributeError)):
            type(iterator)(None).__anext__().send(None)


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
