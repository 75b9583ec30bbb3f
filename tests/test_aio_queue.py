"""Every queue from coroutines: what is ready needs no loop, what is not suspends, and says what threads are told.

What windows, ownership, keys and wrong arguments add is in test_aio_rows, aprocess in test_aio_process, cancellation in
test_aio_cancel, several loops, and threads beside them, in test_aio_loops.
"""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest
from aio import (
    cancelled,
    drive,
    ended,
    finished,
    in_thread,
    nobody_waits,
    parked_consumers,
    parked_producers,
    turns,
    wait_parked,
)
from helpers import BRIEF, HANG, keys, put, take_all

from inflight import (
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedWidthError,
)
from inflight._invariants import check_invariants

# The timers of a loop are about this exact.
EXACT = 0.002

FOR_EVER = [None, float("inf"), 1e300, 10**400, HANG]


async def collect_keys(queue):
    seen = []
    async for row in queue:
        with row:
            seen.append(row.key)
    return seen


def test_what_is_ready_needs_no_loop_and_does_not_suspend(impl, make_queue):
    queue = make_queue()
    op = impl.Op(1)
    assert drive(queue.aenqueue("a", op)) is None
    other = drive(queue.asubmit("a", "message"))
    assert (type(other), other.key, other.msg, other.group) == (impl.Op, "a", "message", None)
    row = drive(queue.adequeue())
    assert isinstance(row, impl.OpSet)
    assert tuple(row) == (op, other)
    row.release()
    assert drive(queue.ajoin()) is True
    put(queue, 1, 2, 3)
    assert [each.key for each in drive(queue.adequeue_many(2))] == [1, 2]
    assert drive(anext(aiter(queue))).key == 3


def test_processing_what_is_ready_needs_no_loop(make_queue):
    async def work(row):
        row.finish_all(row.key)

    queue = make_queue()
    (op,) = put(queue, 1)
    assert drive(queue.aprocess(work)) is True
    assert op.result(0) == 1
    queue.close()
    assert drive(queue.aprocess(work)) is False


def test_the_end_of_a_queue_needs_no_loop(make_queue):
    queue = make_queue()
    queue.close()
    for call in (queue.adequeue, lambda: queue.adequeue_many(3), lambda: queue.asubmit(1)):
        with pytest.raises(QueueClosedError):
            drive(call())
    with pytest.raises(StopAsyncIteration):
        drive(anext(aiter(queue)))
    assert drive(queue.ajoin()) is True


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -float("inf")])
def test_not_waiting_needs_no_loop(make_queue, timeout):
    queue = make_queue(1, 1)
    for call in (queue.adequeue, lambda timeout: queue.adequeue_many(3, timeout)):
        with pytest.raises(QueueEmptyError, match="^no row is ready$"):
            drive(call(timeout))
    put(queue, 1)
    with pytest.raises(QueueSaturatedDepthError):
        drive(queue.asubmit(2, timeout=timeout))
    assert drive(queue.ajoin(timeout)) is False
    assert drive(queue.adequeue(timeout)).key == 1


@pytest.mark.parametrize("call", ["adequeue", "adequeue_many", "aprocess", "anext", "asubmit", "aenqueue", "ajoin"])
def test_waiting_needs_a_loop(impl, make_queue, call):
    async def work(row):
        raise AssertionError

    queue = make_queue(1, None)
    full = make_queue(1, None)
    put(full, 1)
    op = impl.Op(2)
    calls = {
        "adequeue": queue.adequeue,
        "adequeue_many": lambda: queue.adequeue_many(2),
        "aprocess": lambda: queue.aprocess(work, HANG),
        "anext": lambda: anext(aiter(queue)),
        "asubmit": lambda: full.asubmit(2),
        "aenqueue": lambda: full.aenqueue(2, op, timeout=1),
        "ajoin": full.ajoin,
    }
    with pytest.raises(RuntimeError, match="no running event loop"):
        drive(calls[call]())
    # Nobody is left in a line.
    for each in (queue, full):
        assert (each.stats().consumers_waiting, each.stats().producers_waiting) == (0, 0)
        check_invariants(each)
    put(queue, "next")
    assert keys(take_all(queue)) == ["next"]
    assert keys(take_all(full)) == [1]
    assert not op.done()


def test_calls_make_coroutines(make_queue):
    async def work(row):
        raise AssertionError

    queue = make_queue()
    for call in (
        queue.adequeue,
        queue.ajoin,
        lambda: queue.adequeue_many(1),
        lambda: queue.asubmit(1),
        lambda: queue.aprocess(work),
    ):
        coroutine = call()
        assert asyncio.iscoroutine(coroutine)
        assert inspect.isawaitable(coroutine)
        coroutine.close()
    assert len(queue) == 0


@pytest.mark.parametrize("timeout", FOR_EVER)
async def test_adequeue_waits_for_a_row(make_queue, timeout):
    queue = make_queue()
    (task,) = await parked_consumers(queue, 1, lambda: queue.adequeue(timeout))
    await turns()
    assert not task.done()
    (op,) = put(queue, 1)
    (row,) = await ended(task)
    assert (row.key, tuple(row)) == (1, (op,))
    assert queue.stats().consumers_waiting == 0


async def test_adequeue_waits_for_a_row_that_a_thread_brings(make_queue):
    queue = make_queue()
    (task,) = await parked_consumers(queue, 1)
    await in_thread(put, queue, 1)
    assert (await ended(task))[0].key == 1


async def test_consumers_time_out(make_queue):
    async def work(row):
        raise AssertionError

    queue = make_queue()
    for call in (queue.adequeue(0.02), queue.adequeue_many(2, timeout=0.02), queue.aprocess(work, 0.02)):
        began = time.monotonic()
        with pytest.raises(QueueEmptyError, match=r"^no row became ready within 0\.02 seconds$"):
            await call
        assert time.monotonic() - began >= 0.02 - EXACT
        assert queue.stats().consumers_waiting == 0
    put(queue, 1)
    assert (await queue.adequeue()).key == 1


async def test_a_consumer_that_timed_out_leaves_its_place_to_the_next(make_queue):
    queue = make_queue()
    tasks = await parked_consumers(queue, 1, lambda: queue.adequeue(BRIEF))
    tasks += await parked_consumers(queue, 1)
    await wait_parked(queue, consumers=1)
    put(queue, 1)
    empty, row = await ended(*tasks)
    assert isinstance(empty, QueueEmptyError)
    assert row.key == 1


@pytest.mark.parametrize("timeout", FOR_EVER)
async def test_aenqueue_waits_for_depth(impl, make_queue, timeout):
    queue = make_queue(1, None)
    put(queue, 1)
    op = impl.Op(2)
    task = asyncio.ensure_future(queue.aenqueue(2, op, timeout=timeout))
    await wait_parked(queue, producers=1)
    assert queue.dequeue(0).key == 1
    assert await ended(task) == [None]
    assert queue.dequeue(0)[0] is op
    assert queue.stats().producers_waiting == 0


async def test_by_default_producers_wait_for_ever(impl, make_queue):
    """Unlike their twins for threads, which do not wait."""
    queue = make_queue(1, None)
    put(queue, "old")
    op = impl.Op("a")
    tasks = [asyncio.ensure_future(call) for call in (queue.aenqueue("a", op), queue.asubmit("b", "message"))]
    await wait_parked(queue, producers=2)
    assert [(await queue.adequeue(HANG)).key for _ in range(3)] == ["old", "a", "b"]
    none, submitted = await ended(*tasks)
    assert none is None
    assert (submitted.key, submitted.msg) == ("b", "message")


async def test_producers_time_out(impl, make_queue):
    queue = make_queue(1, None)
    put(queue, 1)
    op = impl.Op(2)
    for call in (queue.aenqueue(2, op, timeout=0.02), queue.asubmit(2, timeout=0.02)):
        began = time.monotonic()
        with pytest.raises(QueueSaturatedDepthError) as info:
            await call
        assert (info.value.key, info.value.limit) == (2, 1)
        assert time.monotonic() - began >= 0.02 - EXACT
        assert queue.stats().producers_waiting == 0
    assert not op.done()
    assert queue.stats().refused_depth == 2
    assert keys(take_all(queue)) == [1]
    put(queue, 3)
    assert keys(take_all(queue)) == [3]


async def test_a_producer_merges_at_once_although_depth_is_exhausted(make_queue):
    queue = make_queue(1, None)
    put(queue, 1)
    drive(queue.asubmit(1))
    assert len(queue.dequeue(0)) == 2


async def test_a_parked_producer_merges_when_its_key_comes_to_wait(make_queue):
    """The slot goes to the first of them; the second needs none any more."""
    queue = make_queue(1, None)
    put(queue, "old")
    tasks = await parked_producers(queue, ["same", "same", "other"])
    assert queue.dequeue(0).key == "old"
    first, second = await ended(*tasks[:2])
    await turns()
    assert not tasks[2].done()
    assert tuple(queue.dequeue(0)) == (first, second)
    await finished(tasks[2])
    assert keys(take_all(queue)) == ["other"]


async def test_a_parked_producer_whose_row_is_full_when_it_comes_to_wait_is_refused(make_queue):
    queue = make_queue(1, 1)
    put(queue, "old")
    tasks = await parked_producers(queue, ["same", "same"])
    assert queue.dequeue(0).key == "old"
    first, second = await ended(*tasks)
    assert isinstance(second, QueueSaturatedWidthError)
    assert (second.key, second.limit) == ("same", 1)
    assert tuple(queue.dequeue(0)) == (first,)


def test_width_is_never_waited_for(impl, make_queue):
    queue = make_queue(None, 2)
    put(queue, "k", "k")
    op = impl.Op(3)
    for call in (queue.aenqueue("k", op), queue.asubmit("k", timeout=HANG)):
        with pytest.raises(QueueSaturatedWidthError) as info:
            drive(call)
        assert (info.value.key, info.value.limit) == ("k", 2)
    assert not op.done()
    assert len(queue.dequeue(0)) == 2


async def test_the_consumer_that_came_first_gets_the_row_that_came_first(make_queue):
    queue = make_queue()
    tasks = await parked_consumers(queue, 10)
    put(queue, *range(10))
    assert keys(await ended(*tasks)) == list(range(10))


async def test_the_producer_that_came_first_gets_the_first_slot(make_queue):
    queue = make_queue(1, None)
    put(queue, "old")
    tasks = await parked_producers(queue, range(8))
    assert [(await queue.adequeue(HANG)).key for _ in range(9)] == ["old", *range(8)]
    await finished(*tasks)


async def test_a_promised_row_merges_until_the_task_runs_and_newcomers_do_not_get_it(make_queue):
    queue = make_queue(1, None)
    (task,) = await parked_consumers(queue, 1)
    put(queue, 1, 1)
    stats = queue.stats()
    assert (stats.keys, stats.ops, stats.dequeued_rows, stats.consumers_waiting) == (1, 2, 0, 0)
    for call in (queue.adequeue, lambda timeout: queue.adequeue_many(5, timeout)):
        with pytest.raises(QueueEmptyError):
            drive(call(0))
    assert queue.drain() == []
    assert drive(queue.ajoin(0)) is False
    with pytest.raises(QueueSaturatedDepthError):
        drive(queue.asubmit(2, timeout=0))
    drive(queue.asubmit(1))
    queue.close()
    (row,) = await ended(task)
    assert len(row) == 3


async def test_a_newcomer_waits_behind_a_promise(make_queue):
    queue = make_queue()
    first = await parked_consumers(queue, 1)
    put(queue, "promised")
    second = asyncio.ensure_future(queue.adequeue())
    await wait_parked(queue, consumers=1)
    put(queue, "new")
    assert keys(await ended(*first, second)) == ["promised", "new"]


async def test_a_newcomer_does_not_take_a_reserved_slot(make_queue):
    queue = make_queue(1, None)
    put(queue, "old")
    (task,) = await parked_producers(queue, ["waited"])
    queue.dequeue(0)
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, "newcomer")
    await finished(task)
    assert keys(take_all(queue)) == ["waited"]


async def test_adequeue_many_waits_for_one_and_takes_its_place_in_the_line(make_queue):
    queue = make_queue()
    tasks = await parked_consumers(queue, 1)
    tasks += await parked_consumers(queue, 1, lambda: queue.adequeue_many(5, HANG))
    tasks += await parked_consumers(queue, 1)
    put(queue, 0, 1, 2, 3)
    first, many, last = await ended(*tasks)
    assert (first.key, last.key) == (0, 2)
    assert type(many) is list
    # Its own, and with it what nobody else was promised.
    assert keys(many) == [1, 3]


async def test_close_ends_waiting_consumers_producers_and_joiners(make_queue):
    async def work(row):
        raise AssertionError

    queue = make_queue(1, None)
    tasks = await parked_consumers(queue, 2)
    tasks += await parked_consumers(queue, 1, lambda: queue.adequeue_many(3, HANG))
    processing, iterating = await parked_consumers(queue, 1, lambda: queue.aprocess(work)) + await parked_consumers(
        queue, 1, lambda: collect_keys(queue)
    )
    queue.close()
    for error in await ended(*tasks):
        assert isinstance(error, QueueClosedError)
        assert str(error) == "the queue is closed and drained"
    assert await ended(processing, iterating) == [False, []]

    full = make_queue(1, None)
    put(full, 1)
    producers = await parked_producers(full, [2, 3])
    joiner = asyncio.ensure_future(full.ajoin())
    await turns()
    full.close()
    for error in await ended(*producers):
        assert isinstance(error, QueueClosedError)
        assert str(error) == "the queue is closed"
    assert not joiner.done()
    full.dequeue(0).release()
    assert await ended(joiner) == [True]


async def test_who_was_told_of_the_end_is_not_counted_as_waiting(make_queue):
    queue = make_queue(1, None)
    consumers = await parked_consumers(queue, 2)
    queue.close()
    assert queue.stats().consumers_waiting == 0

    full = make_queue(1, None)
    put(full, 1)
    producers = await parked_producers(full, [2, 3])
    full.close()
    assert full.stats().producers_waiting == 0
    check_invariants(full)

    for error in await ended(*consumers, *producers):
        assert isinstance(error, QueueClosedError)


async def test_ajoin_waits_until_nothing_waits(make_queue):
    queue = make_queue()
    put(queue, 1)
    began = time.monotonic()
    assert await queue.ajoin(timeout=0.02) is False
    assert time.monotonic() - began >= 0.02 - EXACT
    tasks = [asyncio.ensure_future(queue.ajoin(timeout)) for timeout in FOR_EVER]
    await turns()
    assert not any(task.done() for task in tasks)
    queue.dequeue(0).release()
    # Even if something waits again before they run: else a busy queue would never let them go.
    put(queue, 2)
    assert await ended(*tasks) == [True] * len(tasks)


async def test_iteration_waits_and_ends_once_closed_and_drained(make_queue):
    queue = make_queue()
    put(queue, 1, 2, 1)
    task = asyncio.ensure_future(collect_keys(queue))
    await wait_parked(queue, consumers=1)
    put(queue, 3)
    await wait_parked(queue, consumers=1)
    put(queue, 4)
    queue.close()
    assert await ended(task) == [[1, 2, 3, 4]]
    assert await collect_keys(queue) == []


async def test_breaking_out_of_an_iteration_loses_nothing(make_queue):
    queue = make_queue()
    put(queue, 1, 2, 3)
    async for row in queue:
        row.release()
        break
    assert keys(take_all(queue)) == [2, 3]


async def test_an_iteration_over_ready_rows_lets_others_run_after_every_128(make_queue):
    queue = make_queue()
    put(queue, *range(300))
    queue.close()
    seen, seen_by_other = [], []

    async def other():
        while len(seen) < 300:
            seen_by_other.append(len(seen))
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    async for row in queue:
        with row:
            seen.append(row.key)
    await finished(task)
    assert seen == list(range(300))
    assert seen_by_other == [128, 256]


async def test_leaving_the_block_closes(make_queue):
    queue = make_queue()
    async with queue as entered:
        assert entered is queue
        put(queue, 1)
    assert queue.closed
    assert keys(take_all(queue)) == [1]
    with pytest.raises(ZeroDivisionError):
        async with make_queue() as other:
            raise ZeroDivisionError
    assert other.closed


async def test_who_joins_is_told_before_a_producer_has_room(make_queue):
    async def join():
        log.append((await queue.ajoin(), len(queue)))

    async def produce():
        log.append((await queue.asubmit("new")).key)

    queue = make_queue(1, None)
    put(queue, "old")
    log = []
    tasks = [asyncio.ensure_future(call()) for call in (produce, join)]
    await wait_parked(queue, producers=1)
    await turns()
    queue.dequeue(0).release()
    await finished(*tasks)
    # Where its row is owned, that has room first.
    assert log == (["new", (True, 1)] if make_queue.exclusive else [(True, 0), "new"])


async def test_of_many_producers_those_of_one_key_merge(make_queue):
    queue = make_queue(1, None)
    put(queue, "old")
    number = 1100
    tasks = await parked_producers(queue, [*range(number), *range(number)])
    tasks[7].cancel()
    check_invariants(queue)
    queue.dequeue(0).release()
    for key in [*range(7), *range(8, number), 7]:
        await turns(3)
        with queue.dequeue(0) as row:
            assert (row.key, len(row)) == (key, 1 if key == 7 else 2)
        if key % 100 == 0:
            check_invariants(queue)
    assert await cancelled(tasks.pop(7))
    await finished(*tasks)
    assert nobody_waits(queue)


async def test_drain_makes_room_for_producers(make_queue):
    queue = make_queue(2, None)
    put(queue, 1, 2)
    tasks = await parked_producers(queue, [3, 4])
    assert keys(queue.drain()) == [1, 2]
    await finished(*tasks)
    assert keys(take_all(queue)) == [3, 4]


async def test_a_subclass_has_them_too(impl):
    class Mine(impl.OpQueue):
        pass

    queue = Mine(None, None)
    (task,) = await parked_consumers(queue, 1)
    await queue.asubmit(1)
    assert (await ended(task))[0].key == 1
