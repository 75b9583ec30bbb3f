"""From coroutines: the rows of windowed and exclusive queues, keys with code of their own, arguments."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import warnings

import pytest
from aio import (
    cancelled,
    drive,
    ended,
    finished,
    in_thread,
    parked_consumers,
    parked_producers,
    turns,
    until,
    wait_parked,
)
from helpers import HANG, Worker, keys, put, take_all

from inflight import OpCancelledError, QueueClosedError, QueueEmptyError, QueueSaturatedError
from inflight._invariants import check_invariants


async def test_a_block_of_a_row_ends_as_one_of_threads_does(make_queue):
    queue = make_queue()
    ops = put(queue, "left", "failed", "cancelled")
    async with await queue.adequeue() as row:
        assert row.key == "left"
    error = ValueError("x")
    with pytest.raises(ValueError, match="x"):
        async with await queue.adequeue():
            raise error
    with pytest.raises(KeyboardInterrupt):
        async with await queue.adequeue():
            raise KeyboardInterrupt
    assert not ops[0].done()
    assert ops[1].exception(0) is error
    assert type(ops[2].exception(0)) is OpCancelledError
    assert isinstance(ops[2].exception(0).__cause__, KeyboardInterrupt)
    assert queue.stats().owned == 0
    ops[0].finish()


async def test_a_released_key_wakes_a_task(impl):
    queue = impl.DedupeQueue(None, None)
    put(queue, "a", "b")
    row_a, row_b = take_all(queue)
    put(queue, "a", "b")
    tasks = await parked_consumers(queue, 2)
    joiner = asyncio.ensure_future(queue.ajoin())
    await turns()
    row_b.release()
    with row_a:
        pass
    rows = await ended(*tasks)
    assert keys(rows) == ["b", "a"]
    rows[0].release()
    await turns()
    assert not joiner.done()
    await in_thread(rows[1].release)
    assert await ended(joiner) == [True]


async def test_a_dropped_row_releases_its_key_to_a_task(impl, collect):
    queue = impl.DedupeQueue(None, None)
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a")
    (task,) = await parked_consumers(queue, 1)
    del row
    collect()
    assert keys(await ended(task)) == ["a"]


async def test_the_end_of_an_exclusive_queue_is_seen_only_when_nothing_is_owned(impl):
    queue = impl.DedupeQueue(None, None)
    put(queue, "a")
    row = queue.dequeue(0)
    tasks = await parked_consumers(queue, 2)
    put(queue, "a")
    queue.close()
    await turns()
    assert not any(task.done() for task in tasks)
    row.release()
    assert keys(await ended(tasks[0])) == ["a"]
    await turns()
    assert not tasks[1].done()
    tasks[0].result().release()
    assert isinstance((await ended(tasks[1]))[0], QueueClosedError)


async def test_a_full_row_wakes_a_task(impl):
    queue = impl.OpWindow(None, 2, 1000)
    tasks = await parked_consumers(queue, 4)
    put(queue, "a", "b", "c", "d")
    await turns()
    assert not any(task.done() for task in tasks)
    put(queue, "c", "a", "d", "b")
    assert keys(await ended(*tasks)) == ["c", "a", "d", "b"]


async def test_a_task_keeps_the_time_of_a_window(impl):
    """It wakes by itself when the window ends, and after it the next in line."""
    queue = impl.OpWindow(None, None, 0.01)
    tasks = await parked_consumers(queue, 3)
    put(queue, "a", "b", "c")
    assert keys(await ended(*tasks)) == ["a", "b", "c"]


async def test_a_task_that_comes_while_a_window_is_open_keeps_its_time(impl):
    queue = impl.OpWindow(None, None, 0.01)
    put(queue, "a")
    assert (await queue.adequeue(HANG)).key == "a"


async def test_the_next_in_line_keeps_the_time_when_the_first_leaves(impl):
    queue = impl.OpWindow(None, None, 0.02)
    tasks = await parked_consumers(queue, 1)
    thread = Worker(queue.dequeue, HANG)
    await wait_parked(queue, consumers=2)
    tasks += await parked_consumers(queue, 1)
    put(queue, "a", "b")
    tasks[0].cancel()
    await until(lambda: not thread.running())
    assert thread.result().key == "a"
    assert keys(await ended(tasks[1])) == ["b"]


async def test_a_timeout_that_ends_before_the_window(impl):
    queue = impl.OpWindow(None, None, 1000)
    put(queue, "a")
    with pytest.raises(QueueEmptyError, match=r"^no row became ready within 0\.01 seconds$"):
        await queue.adequeue(0.01)
    assert queue.flush() == 1
    assert keys(take_all(queue)) == ["a"]


@pytest.mark.parametrize("exclusive", [False, True])
async def test_every_call_that_looks_ends_the_windows_that_are_over(impl, clock, exclusive):
    queue = impl.OpWindow(None, None, 1000, exclusive=exclusive)
    tasks = await parked_consumers(queue, 2)
    put(queue, "a")
    await turns()
    clock.advance(999)
    put(queue, "b")
    await turns()
    assert not tasks[0].done()
    clock.advance(1)
    queue.stats()
    assert keys(await ended(tasks[0])) == ["a"]
    assert not tasks[1].done()
    clock.advance(999)
    put(queue, "c")
    assert keys(await ended(tasks[1])) == ["b"]


async def test_flush_and_close_wake_tasks(impl):
    queue = impl.OpWindow(None, None, math.inf)
    tasks = await parked_consumers(queue, 3)
    put(queue, "a", "b", "c")
    queue.flush("b")
    await turns()
    queue.flush()
    assert keys(await ended(*tasks)) == ["b", "a", "c"]
    tasks = await parked_consumers(queue, 2)
    put(queue, "d")
    queue.close()
    row, error = await ended(*tasks)
    assert row.key == "d"
    assert isinstance(error, QueueClosedError)


async def test_a_row_filled_while_it_was_promised_stays_promised(impl, clock):
    queue = impl.OpWindow(None, 3, 10)
    (task,) = await parked_consumers(queue, 1)
    put(queue, "a")
    clock.advance(10)
    put(queue, "a", "a")
    assert len((await ended(task))[0]) == 3


class Key:
    """All have the same hash. Its comparison does what it is told."""

    def __init__(self, name, compare=None):
        self.name = name
        self.compare = compare

    def __hash__(self):
        return 7

    def __eq__(self, other):
        for each in (self, other):
            if each.compare is not None:
                each.compare()
        return self.name == other.name


def divide_by_zero():
    raise ZeroDivisionError


def test_a_key_whose_comparison_raises_fails_that_one_call(make_queue):
    queue = make_queue()
    put(queue, Key("a"))
    with pytest.raises(ZeroDivisionError):
        drive(queue.asubmit(Key("b", divide_by_zero)))
    check_invariants(queue)
    drive(queue.asubmit(Key("a")))
    assert [len(row) for row in take_all(queue)] == [2]


async def test_a_comparison_that_raises_when_a_slot_is_granted_passes_the_slot_on(make_queue):
    queue = make_queue(2, None)
    key = Key("b")
    put(queue, "old", Key("a"))
    tasks = await parked_producers(queue, [key, "next"])
    key.compare = divide_by_zero
    assert queue.dequeue(0).key == "old"
    await turns()
    key.compare = None
    if tasks[0].exception() is None:
        # It did not have to look again.
        assert queue.dequeue(0).key.name == "a"
    else:
        assert isinstance(tasks[0].exception(), ZeroDivisionError)
    await finished(tasks[1])
    assert take_all(queue)[-1].key == "next"
    assert queue.stats().producers_waiting == 0


async def test_a_comparison_may_use_the_queue(make_queue):
    queue = make_queue(2, None)
    compared = []

    def visit():
        if len(compared) < 20:
            compared.append(len(queue))
            with contextlib.suppress(QueueSaturatedError):
                drive(queue.asubmit("a", timeout=0))
            queue.stats()
            "b" in queue  # noqa: B015

    put(queue, "a", Key("k"))
    assert drive(queue.asubmit(Key("k", visit))).key.name == "k"
    assert compared
    (task,) = await parked_producers(queue, [Key("waits", visit)])
    compared.clear()
    rows = [queue.dequeue(0)]
    await finished(task)
    rows += take_all(queue)
    assert [len(row) for row in rows if isinstance(row.key, Key)] == [2, 1]


@pytest.mark.parametrize("key", [[], {}, ([],)])
def test_unhashable_keys(impl, make_queue, key):
    queue = make_queue()
    for call in (queue.aenqueue(key, impl.Op(1)), queue.asubmit(key)):
        with pytest.raises(TypeError, match="unhashable"):
            drive(call)
    assert len(queue) == 0
    assert queue.stats().enqueued == 0


CALLS = ["aenqueue", "asubmit", "adequeue", "adequeue_many", "ajoin", "aprocess"]


def calls(queue, op):
    """Each call, with the timeout as its parameter."""
    return {
        "aenqueue": lambda timeout: queue.aenqueue(1, op, timeout=timeout),
        "asubmit": lambda timeout: queue.asubmit(1, timeout=timeout),
        "adequeue": lambda timeout: queue.adequeue(timeout),
        "adequeue_many": lambda timeout: queue.adequeue_many(1, timeout),
        "ajoin": lambda timeout: queue.ajoin(timeout),
        "aprocess": lambda timeout: queue.aprocess(finish_ready, timeout),
    }


@pytest.mark.parametrize("call", CALLS)
def test_wrong_timeouts_are_told_when_awaited(impl, make_queue, call):
    queue = make_queue(1, None)
    function = calls(queue, impl.Op(1))[call]
    for ready in (False, True):
        if ready and call in ("adequeue", "adequeue_many", "aprocess"):
            put(queue, 2)
        before = queue.stats()
        for value, error, text in (
            (float("nan"), ValueError, "^timeout must not be NaN$"),
            ("1", TypeError, "^timeout must be a number of seconds or None, not str$"),
        ):
            coroutine = function(value)
            with pytest.raises(error, match=text):
                drive(coroutine)
        assert queue.stats() == before


def test_wrong_arguments_are_told_when_awaited(impl, make_queue):
    queue = make_queue()
    put(queue, 1)
    for coroutine, error, text in (
        (queue.aenqueue(2, "no op"), TypeError, "^op must be an Op, not str$"),
        (queue.adequeue_many(0), ValueError, "^limit must be an int of at least 1, got 0$"),
        (queue.adequeue_many("1"), TypeError, "^limit must be an int of at least 1, not str$"),
        (queue.adequeue_many(True), TypeError, "^limit must be an int of at least 1, not bool$"),
        (queue.aprocess(None), TypeError, "^fn must be callable, not NoneType$"),
    ):
        with pytest.raises(error, match=text):
            drive(coroutine)
    assert keys(take_all(queue)) == [1]


def test_missing_and_superfluous_arguments_are_told_at_the_call(impl, make_queue):
    queue = make_queue()
    for call in (
        queue.aenqueue,
        queue.asubmit,
        queue.adequeue_many,
        queue.aprocess,
        lambda: queue.aenqueue(1),
        lambda: queue.aenqueue(1, impl.Op(1), 0),
        lambda: queue.asubmit(1, None, 0),
        lambda: queue.adequeue(1, 2),
        lambda: queue.adequeue(time=1),
    ):
        with pytest.raises(TypeError):
            call()


def test_arguments_have_the_names_of_their_twins(impl, make_queue):
    queue = make_queue()
    op = impl.Op(1)
    drive(queue.aenqueue(key=1, op=op, timeout=None))
    drive(queue.asubmit(key=2, msg="m", timeout=0))
    rows = drive(queue.adequeue_many(limit=5, timeout=1))
    assert keys(rows) == [1, 2]
    assert drive(queue.ajoin(timeout=0)) is not make_queue.exclusive
    put(queue, 3)
    assert drive(queue.adequeue(timeout=0)).key == 3
    put(queue, 4)
    assert drive(queue.aprocess(fn=finish_ready, timeout=0)) is True


async def finish_ready(row):
    row.finish_all()


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_was_never_awaited_warns_and_did_nothing(impl, make_queue, call):
    queue = make_queue()
    put(queue, "ready")
    op = impl.Op(1)
    before = queue.stats()

    def forget():
        calls(queue, op)[call](None)
        gc.collect()

    with pytest.warns(RuntimeWarning, match=rf"^coroutine 'OpQueue\.{call}' was never awaited$"):
        forget()
    assert queue.stats() == before
    assert keys(take_all(queue)) == ["ready"]


async def test_a_refused_or_cancelled_submit_leaves_no_abandoned_operation(make_queue, collect):
    collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        queue = make_queue(1, 1)
        kept = queue.submit(1)
        for key, timeout in ((1, None), (2, 0), (2, 0.001)):
            with pytest.raises(QueueSaturatedError):
                await queue.asubmit(key, timeout=timeout)
        for key, timeout, error in (([], None, TypeError), (2, float("nan"), ValueError)):
            with pytest.raises(error):
                await queue.asubmit(key, timeout=timeout)
        (task,) = await parked_producers(queue, [2])
        task.cancel()
        assert await cancelled(task)
        (task,) = await parked_producers(queue, [2])
        queue.close()
        assert isinstance((await ended(task))[0], QueueClosedError)
        del task
        collect()
    assert [each.message for each in caught if each.category is ResourceWarning] == []
    kept.finish()
