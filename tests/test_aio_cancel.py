"""A cancelled wait returns nothing, loses nothing, and always propagates its cancellation - at whatever instant.

Coroutines that are destroyed instead, and rows in work, are in test_aio_destroyed; instants that are decided
by threads are met at random in test_aio_stress.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from aio import cancelled, ended, finished, nobody_waits, parked_consumers, parked_producers, turns, until, wait_parked
from helpers import HANG, Worker, keys, put, take_all

from inflight import QueueEmptyError, QueueSaturatedDepthError
from inflight._invariants import check_invariants

CONSUMERS = ["adequeue", "adequeue_many", "aprocess", "anext"]


@pytest.fixture(params=CONSUMERS)
def consume(request):
    """Each call that takes a row, as ``consume(queue)``; it tells keys."""

    async def work(row):
        seen.append(row.key)

    seen = []

    async def call(queue):
        if request.param == "adequeue":
            return [(await queue.adequeue()).key]
        if request.param == "adequeue_many":
            return keys(await queue.adequeue_many(1, HANG))
        if request.param == "anext":
            return [(await anext(aiter(queue))).key]
        await queue.aprocess(work)
        return seen

    return call


async def test_before_it_ran(make_queue, consume):
    queue = make_queue()
    put(queue, 1)
    task = asyncio.ensure_future(consume(queue))
    task.cancel()
    assert await cancelled(task)
    assert keys(take_all(queue)) == [1]


async def test_before_it_parked(make_queue, consume):
    """The task has been told, and learns of it at its first suspension."""

    async def wait():
        asyncio.current_task().cancel("early")
        return await consume(queue)

    queue = make_queue()
    task = asyncio.ensure_future(wait())
    await asyncio.wait([task], timeout=HANG)
    assert task.cancelled()
    assert nobody_waits(queue)
    put(queue, 1)
    assert keys(take_all(queue)) == [1]


async def test_while_parked(make_queue, consume):
    queue = make_queue()
    first, second = await parked_consumers(queue, 2, lambda: consume(queue))
    first.cancel()
    assert await cancelled(first)
    assert queue.stats().consumers_waiting == 1
    put(queue, 1, 2)
    assert await ended(second) == [[1]]
    assert keys(take_all(queue)) == [2]
    assert nobody_waits(queue)


@pytest.mark.parametrize("woken", [False, True])
async def test_what_it_is_promised_is_for_others_before_it_runs(make_queue, consume, woken):
    queue = make_queue()
    (task,) = await parked_consumers(queue, 1, lambda: consume(queue))
    if woken:
        put(queue, 1)
    task.cancel()
    if not woken:
        assert queue.stats().consumers_waiting == 0
        put(queue, 1)
    assert keys([queue.dequeue(0)]) == [1]
    assert await cancelled(task)
    assert nobody_waits(queue)


async def test_rows_that_come_back_in_any_order_are_handed_out_in_theirs(make_queue):
    queue = make_queue()
    tasks = await parked_consumers(queue, 40)
    put(queue, *range(50))
    promised = list(enumerate(tasks))
    random.Random(1).shuffle(promised)
    for _, task in promised[:30]:
        task.cancel()
    free = [*sorted(number for number, _ in promised[:30]), *range(40, 50)]
    assert keys(queue.dequeue_many(10)) == free[:10]
    check_invariants(queue)
    for _, task in promised[30:]:
        task.cancel()
    assert keys(take_all(queue)) == sorted([*free[10:], *(number for number, _ in promised[30:])])
    assert await cancelled(*tasks)
    assert nobody_waits(queue)


@pytest.mark.parametrize("woken", [False, True])
@pytest.mark.parametrize("call", ["aenqueue", "asubmit"])
async def test_the_place_it_is_promised_is_for_others_before_it_runs(impl, make_queue, call, woken):
    queue = make_queue(1, None)
    put(queue, 1)
    op = impl.Op(2)
    task = asyncio.ensure_future(queue.aenqueue(2, op) if call == "aenqueue" else queue.asubmit(2))
    await wait_parked(queue, producers=1)
    if woken:
        queue.dequeue(0).release()
    task.cancel()
    if not woken:
        assert queue.stats().producers_waiting == 0
        queue.dequeue(0).release()
    put(queue, 3)
    assert await cancelled(task)
    op.finish()
    assert keys(take_all(queue)) == [3]
    assert nobody_waits(queue)


async def test_who_is_next_is_woken_before_it_runs(make_queue):
    queue = make_queue()
    first, second = await parked_consumers(queue, 2)
    put(queue, 1)
    first.cancel()
    queue.close()
    # What was the first one's is not what ends the wait of the second.
    assert keys(await ended(second)) == [1]
    assert await cancelled(first)


@pytest.mark.parametrize("cancel_first", [False, True])
async def test_in_the_step_of_the_wake(make_queue, consume, cancel_first):
    """Its row goes back to its place, for whoever is next."""
    queue = make_queue()
    (task,) = await parked_consumers(queue, 1, lambda: consume(queue))
    if cancel_first:
        task.cancel()
    put(queue, 1, 2)
    if not cancel_first:
        task.cancel()
    assert await cancelled(task)
    assert keys(take_all(queue)) == [1, 2]
    assert nobody_waits(queue)


@pytest.mark.parametrize("cancel_first", [False, True])
async def test_in_the_step_of_the_wake_with_others_in_line(make_queue, cancel_first):
    queue = make_queue()
    tasks = await parked_consumers(queue, 2)
    thread = Worker(queue.dequeue, HANG)
    await wait_parked(queue, consumers=3)
    tasks += await parked_consumers(queue, 1)
    if cancel_first:
        tasks[0].cancel()
    put(queue, 1)
    if not cancel_first:
        tasks[0].cancel()
    put(queue, 2, 3)
    assert await cancelled(tasks[0])
    # Whether it was promised a row when it left or not, each row goes to one of the others.
    await until(lambda: not thread.running())
    assert sorted([thread.result().key, *keys(await ended(*tasks[1:]))]) == [1, 2, 3]
    assert nobody_waits(queue)


async def test_the_oldest_row_goes_to_the_next_in_line(make_queue):
    queue = make_queue()
    tasks = await parked_consumers(queue, 3)
    put(queue, 1)
    tasks[0].cancel()
    assert await cancelled(tasks[0])
    assert keys(await ended(tasks[1])) == [1]
    put(queue, 2)
    tasks[2].cancel()
    put(queue, 3)
    assert await cancelled(tasks[2])
    assert keys(take_all(queue)) == [2, 3]


async def test_many_rows_are_in_order_though_an_older_one_is_given_back(make_queue):
    queue = make_queue()
    first, second, third = [asyncio.create_task(queue.adequeue_many(limit)) for limit in (9, 4, 9)]
    await wait_parked(queue, consumers=3)
    put(queue, *range(6))
    # What they were promised: rows 0, 1 and 2.
    first.cancel()
    assert keys(await second) == [0, 1, 3, 4]
    assert keys(await third) == [2, 5]
    await cancelled(first)


async def test_a_row_given_back_still_merges(make_queue):
    queue = make_queue(1, None)
    (task,) = await parked_consumers(queue, 1)
    put(queue, 1, 1)
    task.cancel()
    put(queue, 1)
    assert await cancelled(task)
    put(queue, 1)
    assert len(queue.dequeue(0)) == 4


async def test_twice(make_queue):
    queue = make_queue()
    (task,) = await parked_consumers(queue, 1)
    task.cancel()
    put(queue, 1)
    task.cancel()
    assert await cancelled(task)
    assert keys(take_all(queue)) == [1]


async def test_the_message_is_kept(impl, make_queue):
    async def wait(awaitable):
        try:
            await awaitable
        except asyncio.CancelledError as error:
            told.append(error.args)
            raise

    told = []
    queue, full = make_queue(), make_queue(1, None)
    put(full, 1)
    waits = [queue.adequeue(), queue.adequeue(HANG), full.asubmit(2), full.ajoin(), impl.Op(1), impl.CallGroup()]
    tasks = [asyncio.ensure_future(wait(each)) for each in waits]
    await turns()
    for task in tasks:
        task.cancel("the reason")
    assert await cancelled(*tasks)
    assert told == [("the reason",)] * len(tasks)


async def test_a_task_that_goes_on_after_its_cancellation_may_wait_again(make_queue):
    async def consume():
        try:
            await queue.adequeue()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
        return await queue.adequeue()

    queue = make_queue()
    (task,) = await parked_consumers(queue, 1, consume)
    task.cancel()
    put(queue, 1)
    assert keys(await ended(task)) == [1]


async def test_500_consumers(make_queue):
    """Every other one is cancelled, in the step in which rows for all of them come."""
    queue = make_queue()
    tasks = await parked_consumers(queue, 500)
    put(queue, *range(250))
    for task in tasks[::2]:
        task.cancel()
    put(queue, *range(250, 500))
    assert await cancelled(*tasks[::2])
    left = keys(take_all(queue))
    got = keys(await ended(*tasks[1::2]))
    assert sorted(got + left) == list(range(500))
    # Rows of those who left were passed on in order; the rest is in order too.
    assert left == sorted(left)
    assert nobody_waits(queue)


async def test_500_consumers_at_random_instants(make_queue):
    random_ = random.Random(500)
    queue = make_queue()
    seen = []

    async def consume():
        async for row in queue:
            with row:
                seen.append(row.key)
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(consume()) for _ in range(500)]
    victims = tasks[:]
    random_.shuffle(victims)
    for number in range(2000):
        put(queue, number)
        if number % 4 == 0:
            victims.pop().cancel()
        if random_.random() < 0.3:
            await turns(random_.randrange(3))
    assert not victims
    assert await cancelled(*tasks)
    seen += keys(take_all(queue))
    assert sorted(seen) == list(range(2000))
    assert nobody_waits(queue)


async def test_a_parked_producer(make_queue):
    queue = make_queue(1, None)
    put(queue, "old")
    tasks = await parked_producers(queue, ["a", "b"])
    tasks[0].cancel()
    assert await cancelled(tasks[0])
    assert queue.dequeue(0).key == "old"
    await finished(tasks[1])
    assert keys(take_all(queue)) == ["b"]
    assert nobody_waits(queue)


@pytest.mark.parametrize("cancel_first", [False, True])
async def test_a_producer_that_was_granted_a_slot_gives_it_on(make_queue, cancel_first):
    queue = make_queue(1, None)
    put(queue, "old")
    tasks = await parked_producers(queue, ["a", "b", "c"])
    if cancel_first:
        tasks[0].cancel()
    assert queue.dequeue(0).key == "old"
    if not cancel_first:
        tasks[0].cancel()
    assert await cancelled(tasks[0])
    await finished(tasks[1])
    tasks[2].cancel()
    assert await cancelled(tasks[2])
    assert keys(take_all(queue)) == ["b"]
    # The slot is free again.
    put(queue, "d")
    with pytest.raises(QueueSaturatedDepthError):
        put(queue, "e")
    assert nobody_waits(queue)


async def test_a_producer_that_was_woken_to_merge_does_not(make_queue):
    async def submit_and_cancel():
        await queue.asubmit("same")
        tasks[1].cancel()

    queue = make_queue(1, None)
    put(queue, "old")
    tasks = [asyncio.ensure_future(submit_and_cancel()), asyncio.ensure_future(queue.asubmit("same"))]
    await wait_parked(queue, producers=2)
    queue.dequeue(0)
    await finished(tasks[0])
    assert await cancelled(tasks[1])
    assert len(queue.dequeue(0)) == 1
    assert nobody_waits(queue)


async def test_a_joiner(make_queue):
    queue = make_queue()
    put(queue, 1)
    tasks = [asyncio.ensure_future(queue.ajoin()) for _ in range(3)]
    await turns()
    tasks[0].cancel()
    queue.dequeue(0).release()
    tasks[1].cancel()
    assert await cancelled(*tasks[:2])
    assert await ended(tasks[2]) == [True]


async def test_asyncio_timeout(make_queue):
    queue = make_queue()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await queue.adequeue()
    assert nobody_waits(queue)
    put(queue, 1)
    assert keys(take_all(queue)) == [1]


async def test_a_timeout_that_ends_in_the_step_of_the_wake(make_queue):
    """Whatever wins: there is a row, or a TimeoutError and the row still waits."""

    async def wait(how):
        if how == "timeout":
            async with asyncio.timeout(None) as timeouts[0]:
                return await queue.adequeue()
        if how == "wait_for":
            return await asyncio.wait_for(queue.adequeue(), 0.002)
        try:
            return await queue.adequeue(0.002)
        except QueueEmptyError:
            raise TimeoutError from None

    queue = make_queue()
    timeouts = [None]
    for how in ("timeout", "wait_for", "own"):
        for number in range(20):
            task = asyncio.ensure_future(wait(how))
            await turns(3)
            loop = asyncio.get_running_loop()
            # Until the timers are due, without letting them run.
            due = loop.time() + 0.003
            while how != "timeout" and loop.time() < due:
                pass
            if number % 2:
                put(queue, number)
            if how == "timeout":
                timeouts[0].reschedule(loop.time() - 1)
            if not number % 2:
                put(queue, number)
            (outcome,) = await ended(task)
            if isinstance(outcome, TimeoutError):
                outcome = queue.dequeue(0)
            assert outcome.key == number
            outcome.release()
            assert nobody_waits(queue)


async def test_wait_for(make_queue):
    queue = make_queue()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.adequeue(), 0.005)
    task = asyncio.ensure_future(asyncio.wait_for(queue.adequeue(), HANG))
    await wait_parked(queue, consumers=1)
    put(queue, 1)
    assert keys(await ended(task)) == [1]
    task = asyncio.ensure_future(asyncio.wait_for(queue.adequeue(), HANG))
    await wait_parked(queue, consumers=1)
    task.cancel()
    put(queue, 2)
    (outcome,) = await ended(task)
    # The wait_for of some versions prefers the result, if there is one.
    assert (outcome if task.done() and not task.cancelled() else queue.dequeue(0)).key == 2
    assert nobody_waits(queue)


async def test_a_task_group_that_fails(make_queue):
    """Its failure cancels the consumers in the step in which their rows come."""

    async def fail():
        await wait_parked(queue, consumers=4)
        put(queue, *range(3))
        raise ZeroDivisionError

    queue = make_queue()
    with pytest.raises(ExceptionGroup) as info:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(queue.adequeue()) for _ in range(4)]
            group.create_task(fail())
    assert [type(error) for error in info.value.exceptions] == [ZeroDivisionError]
    # Those that ran before they were cancelled have theirs.
    rows = [task.result() for task in tasks if not task.cancelled()]
    assert sorted(keys(rows) + keys(take_all(queue))) == [0, 1, 2]
    assert nobody_waits(queue)


async def test_the_loser_of_two_queues(make_queue):
    one, other = make_queue(), make_queue()
    tasks = await parked_consumers(one, 1) + await parked_consumers(other, 1)
    put(one, 1)
    await asyncio.wait(tasks, timeout=HANG, return_when=asyncio.FIRST_COMPLETED)
    put(other, 2)
    tasks[1].cancel()
    assert await cancelled(tasks[1])
    assert keys(take_all(other)) == [2]
    assert tasks[0].result().key == 1


async def test_an_iteration_cancelled_where_it_lets_others_run(make_queue):
    queue = make_queue()
    put(queue, *range(300))
    seen = []

    async def consume():
        async for row in queue:
            with row:
                seen.append(row.key)

    task = asyncio.ensure_future(consume())
    await asyncio.sleep(0)
    assert len(seen) == 128
    task.cancel()
    assert await cancelled(task)
    assert seen + keys(take_all(queue)) == list(range(300))
    assert nobody_waits(queue)
