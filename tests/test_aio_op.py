"""``await op`` and ``await group``: from any loop, any number of times, and without harm to each other."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import traceback

import pytest
from aio import LoopThread, drive, ended, finished, in_thread, turns
from helpers import HANG, Worker, run_concurrently, wait_blocked

from inflight import GroupClosedError, OpAbandonedError, OpCancelledError, Results

# What a careless `raise StopIteration(result)` or an `isinstance` would mistake for something else.
RESULTS = [
    None,
    (),
    (1, 2),
    ValueError("a result, and no error"),
    StopIteration(5),
    StopAsyncIteration(),
    StopIteration,
    GeneratorExit(),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    [],
    {"key": 1},
]


async def wait_for(awaitable):
    """As a task of its own: it runs to its first suspension at once."""
    return await awaitable


def test_a_wait_that_runs_out_sees_what_nobody_has_told_it_yet(impl):
    """Who finishes it is held up in waking another one."""

    class Loop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *arguments, **options):
            go_on.wait(HANG)
            return super().call_soon_threadsafe(*arguments, **options)

    async def park():
        task = asyncio.ensure_future(wait_for(op))
        await turns()
        return task

    go_on = threading.Event()
    op = impl.Op("a")
    loop = Loop()
    try:
        task = loop.run_until_complete(park())
        waiter = Worker(op.result, 0.2)
        wait_blocked(waiter)
        finisher = Worker(op.finish, 7)
        assert waiter.result() == 7
        go_on.set()
        finisher.result()
        assert loop.run_until_complete(task) == 7
    finally:
        go_on.set()
        loop.close()


async def awaiting(awaitable, number):
    tasks = [asyncio.ensure_future(wait_for(awaitable)) for _ in range(number)]
    await turns()
    assert not any(task.done() for task in tasks)
    return tasks


@pytest.mark.parametrize("result", RESULTS, ids=repr)
def test_the_result_of_a_finished_operation_needs_no_loop(impl, result):
    op = impl.Op(1)
    op.finish(result)
    for _ in range(3):
        assert drive(op) is result
        assert drive(wait_for(op)) is result


@pytest.mark.parametrize("result", RESULTS, ids=repr)
async def test_a_result_is_returned_as_it_is(impl, result):
    op = impl.Op(1)
    tasks = await awaiting(op, 2)
    op.finish(result)
    await asyncio.wait(tasks, timeout=HANG)
    assert all(task.result() is result for task in tasks)
    assert await op is result


async def test_a_finished_operation_or_group_does_not_suspend(impl):
    group = impl.CallGroup()
    op = group.add(1)
    op.finish(5)
    ran = asyncio.ensure_future(turns())
    assert await op == 5
    assert (await group)[1].result == 5
    await op
    assert not ran.done()
    await ran


def test_an_unfinished_one_needs_a_loop(impl):
    op, group = impl.Op(1), impl.CallGroup()
    for awaitable in (op, group):
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no running event loop"):
                drive(awaitable)
    # Nothing was left behind.
    op.finish(1)
    group.seal()
    assert drive(op) == 1
    assert drive(group).responses == ()


async def test_an_error_is_raised(impl):
    error = ValueError("no")
    op = impl.Op(1)
    (task,) = await awaiting(op, 1)
    op.finish(error=error)
    (raised,) = await ended(task)
    assert type(raised) is ValueError
    assert raised.args == ("no",)
    with pytest.raises(ValueError, match="^no$"):
        await op


def test_an_error_needs_no_loop(impl):
    op = impl.Op(1)
    op.finish(error=KeyError("k"))
    with pytest.raises(KeyError, match="k"):
        drive(op)


async def test_every_awaiter_raises_with_its_own_traceback(impl):
    def fail():
        raise ValueError("origin")

    async def wait():
        try:
            await op
        except ValueError as error:
            return error, [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    op = impl.Op(1)
    tasks = [asyncio.ensure_future(wait()) for _ in range(5)]
    await turns()
    try:
        fail()
    except ValueError as error:
        op.finish(error=error)
    # Those that were parked, and those that come later.
    for error, names in [*(await ended(*tasks)), await wait(), await wait()]:
        assert error.args == ("origin",)
        assert names.count("wait") == 1
        assert names[-1] == "fail"


async def test_a_cancelled_operation_is_an_error_and_no_cancellation(impl):
    op = impl.Op("k")
    (task,) = await awaiting(op, 1)
    assert op.cancel()
    (error,) = await ended(task)
    assert not task.cancelled()
    assert type(error) is OpCancelledError
    assert isinstance(error, concurrent.futures.CancelledError)
    assert not isinstance(error, asyncio.CancelledError)
    with pytest.raises(OpCancelledError, match="^operation 'k' was cancelled$"):
        await op


async def test_cancelling_an_awaiter_leaves_the_operation_and_the_others_alone(impl):
    group = impl.CallGroup()
    op = group.add("k")
    for awaitable in (op, group):
        tasks = await awaiting(awaitable, 5)
        tasks[0].cancel()
        tasks[3].cancel()
        await asyncio.wait([tasks[0], tasks[3]], timeout=HANG)
        assert tasks[0].cancelled()
        assert tasks[3].cancelled()
        assert not awaitable.done()
        await turns()
        assert not any(tasks[index].done() for index in (1, 2, 4))
    waiting = [tasks[index] for index in (1, 2, 4)] + await awaiting(op, 1)
    op.finish("result")
    *results, result = await ended(*waiting)
    assert result == "result"
    assert all(each["k"].result == "result" for each in results)


async def test_an_awaiter_cancelled_in_the_step_of_the_finish_is_cancelled(impl):
    for finish_first in (False, True):
        group = impl.CallGroup()
        op = group.add(1)
        tasks = await awaiting(op, 2) + await awaiting(group, 2)
        if finish_first:
            op.finish("result")
        tasks[0].cancel()
        tasks[2].cancel()
        if not finish_first:
            op.finish("result")
        await asyncio.wait(tasks, timeout=HANG)
        assert tasks[0].cancelled()
        assert tasks[2].cancelled()
        assert tasks[1].result() == "result"
        assert tasks[3].result()[1].result == "result"


async def test_the_tools_of_asyncio_take_operations_and_groups(impl):
    group = impl.CallGroup()
    ops = [group.add(key) for key in range(3)]
    gathered = asyncio.gather(*ops, group, asyncio.shield(ops[0]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ops[0], 0.005)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(group, 0.005)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await ops[0]
    assert not any(op.done() for op in ops)
    for op in ops:
        op.finish(op.key * 10)
    assert await asyncio.wait_for(gathered, HANG) == [0, 10, 20, group.result(0), 0]
    assert await asyncio.wait_for(ops[1], HANG) == 10
    assert await asyncio.gather(*ops) == [0, 10, 20]
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(wait_for(group))
    assert task.result() is group.result(0)


async def test_a_cancelled_shield_leaves_the_operation_pending(impl):
    op = impl.Op(1)
    inner = asyncio.ensure_future(op)
    (outer,) = await awaiting(asyncio.shield(inner), 1)
    outer.cancel()
    await asyncio.wait([outer], timeout=HANG)
    assert outer.cancelled()
    assert not op.done()
    op.finish(1)
    assert await inner == 1


async def test_waiters_are_woken_in_the_order_in_which_they_came(impl):
    async def wait(number):
        await op
        order.append(number)

    op = impl.Op(1)
    order = []
    tasks = [asyncio.ensure_future(wait(number)) for number in range(10)]
    await turns()
    await in_thread(op.finish)
    await finished(*tasks)
    assert order == list(range(10))


def test_threads_and_loops_wait_for_one_operation_and_its_group(impl):
    group = impl.CallGroup()
    op = group.add("k")
    with LoopThread() as one, LoopThread() as other:
        futures = [loop.submit(wait_for(op)) for loop in (one, other) for _ in range(3)]
        group_futures = [loop.submit(wait_for(group)) for loop in (one, other)]
        workers = [Worker(op.result, HANG), Worker(op.result, HANG)]
        wait_blocked(*workers)
        for loop in (one, other):
            loop.run(turns())
        op.finish("result")
        assert [future.result(HANG) for future in futures] == ["result"] * 6
        assert [worker.result() for worker in workers] == ["result"] * 2
        assert {id(future.result(HANG)) for future in group_futures} == {id(group.result(0))}


def test_finished_by_a_thread_while_tasks_come(impl):
    """Each round a race: an awaiter sees the result at once, or parks and is woken."""
    with LoopThread() as one, LoopThread() as other:
        for number in range(200):
            op = impl.Op(number)
            results = run_concurrently(
                [
                    lambda op=op: one.run(wait_for(op)),
                    lambda op=op: other.run(wait_for(op)),
                    lambda op=op, number=number: op.finish(number),
                ]
            )
            assert results == [number, number, None]


async def test_await_group(impl):
    group = impl.CallGroup()
    one, other = group.add("a"), group.add("b")
    tasks = await awaiting(group, 3)
    one.finish(1)
    await turns()
    assert not any(task.done() for task in tasks)
    await in_thread(other.finish, 2)
    for results in await ended(*tasks):
        assert isinstance(results, Results)
        assert results is group.result(0)
    assert {key: response.result for key, response in (await group).items()} == {"a": 1, "b": 2}


async def test_errors_of_operations_are_not_raised_by_their_group(impl):
    group = impl.CallGroup()
    op = group.add("a")
    (task,) = await awaiting(group, 1)
    op.finish(error=ValueError("x"))
    (results,) = await ended(task)
    assert [str(error) for error in results.errors] == ["x"]


async def test_what_the_reducer_raises_is_raised_by_every_await(impl, caplog):
    def reduce(results):
        raise LookupError("in the reducer")

    async def wait():
        try:
            await group
        except LookupError as error:
            return [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    caplog.set_level(logging.ERROR, "inflight")
    group = impl.CallGroup(reduce)
    op = group.add(1)
    tasks = [asyncio.ensure_future(wait()) for _ in range(3)]
    await turns()
    op.finish()
    for names in [*(await ended(*tasks)), await wait()]:
        assert names.count("wait") == 1
        assert names[-1] == "reduce"
    assert [record.name for record in caplog.records] == ["inflight"]


async def test_the_reducer_runs_on_the_loop_of_the_finisher_before_anybody_is_woken(impl):
    async def wait(awaitable, name):
        await awaitable
        order.append(name)

    order = []
    threads = []

    def reduce(results):
        order.append("reducer")
        threads.append(threading.current_thread())
        assert asyncio.current_task() is finisher

    group = impl.CallGroup(reduce)
    op = group.add(1)
    op.add_done_callback(lambda op: order.append("op's callback"))
    group.add_done_callback(lambda group: order.append("group's callback"))
    tasks = [asyncio.ensure_future(wait(op, "op's waiter")), asyncio.ensure_future(wait(group, "group's waiter"))]
    await turns()
    finisher = asyncio.current_task()
    op.finish()
    # Tasks run when this one lets them.
    assert order == ["op's callback", "reducer", "group's callback"]
    await finished(*tasks)
    assert order[3:] == ["op's waiter", "group's waiter"]
    assert threads == [threading.current_thread()]


async def test_a_dropped_operation_ends_the_wait_for_its_group(impl, collect):
    group = impl.CallGroup()
    op = group.add("k")
    (task,) = await awaiting(group, 1)
    del op
    collect()
    (results,) = await ended(task)
    assert type(results["k"].error) is OpAbandonedError


async def test_an_awaited_operation_is_not_dropped(impl, collect):
    group = impl.CallGroup()
    tasks = await awaiting(group.add("k"), 1)
    collect()
    await turns()
    assert not tasks[0].done()
    assert not group.done()
    tasks[0].cancel()
    await asyncio.wait(tasks, timeout=HANG)
    del tasks
    collect()
    assert type((await group)["k"].error) is OpAbandonedError


async def test_async_with_group_holds_it_open_and_seals(impl):
    calls = []
    group = impl.CallGroup(calls.append)
    async with group as entered:
        assert entered is group
        for key in range(3):
            group.add(key).finish(key)
            await turns()
            assert not group.done()
    assert len(calls) == 1
    assert [response.result for response in (await group).responses] == [0, 1, 2]
    with pytest.raises(GroupClosedError):
        group.add(4)
    with pytest.raises(GroupClosedError):
        async with group:
            raise AssertionError


async def test_blocks_of_one_group_may_nest_and_overlap(impl):
    async def work(number):
        async with group:
            op = group.add(number)
            await turns()
            op.finish(number)

    group = impl.CallGroup()
    async with group:
        with group:
            tasks = [asyncio.ensure_future(work(number)) for number in range(3)]
            await turns(1)
        await finished(*tasks)
        assert not group.done()
    assert len((await group).responses) == 3


async def test_async_with_group_lets_exceptions_pass_and_an_empty_one_completes(impl):
    group = impl.CallGroup()
    (task,) = await awaiting(group, 1)
    with pytest.raises(ZeroDivisionError):
        async with group:
            raise ZeroDivisionError
    assert group.done()
    assert (await ended(task))[0].responses == ()
    other = impl.CallGroup()
    (task,) = await awaiting(other, 1)
    other.seal()
    await finished(task)


async def test_a_task_may_await_the_same_operation_again_and_again(impl):
    op = impl.Op(1)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await op
    one, other = op.__await__(), op.__await__()
    assert one is not other
    op.finish(1)
    assert [await op for _ in range(3)] == [1, 1, 1]


async def test_many_awaiters_that_give_up_leave_nothing_behind(impl, collect):
    op = impl.Op(1)
    for _ in range(20):
        tasks = await awaiting(op, 50)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=HANG)
    (task,) = await awaiting(op, 1)
    op.finish(1)
    assert await ended(task) == [1]


async def test_a_subclass_can_be_awaited(impl):
    class Mine(impl.Op):
        pass

    op = Mine(1)
    (task,) = await awaiting(op, 1)
    op.finish(1)
    assert await ended(task) == [1]
