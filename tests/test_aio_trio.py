"""The same calls under trio, and under anyio on either backend."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter

import pytest
from aio import LoopThread
from helpers import HANG, Worker, keys, put, run_concurrently, run_script, take_all, wait_consumers

from inflight import OpCancelledError, QueueClosedError, QueueEmptyError, QueueSaturatedDepthError
from inflight._invariants import check_invariants

trio = pytest.importorskip("trio")


def in_trio(body, *arguments):
    """Run it under trio; what hangs fails its test."""

    async def watched():
        with trio.fail_after(HANG):
            return await body(*arguments)

    return trio.run(watched)


def under_trio(test):
    """A test whose body runs under trio."""

    @functools.wraps(test)
    def run(**fixtures):
        in_trio(functools.partial(test, **fixtures))

    return run


async def turns(number=5):
    for _ in range(number):
        await trio.lowlevel.checkpoint()


async def wait_parked(queue, consumers=0, producers=0):
    while (queue.stats().consumers_waiting, queue.stats().producers_waiting) != (consumers, producers):
        await trio.sleep(0.0005)


class Tasks:
    """Started tasks of a nursery, with their results."""

    def __init__(self, nursery):
        self.nursery = nursery
        self.results = {}
        self.scopes = []

    def start(self, call, *arguments):
        scope = trio.CancelScope()
        number = len(self.scopes)

        async def run():
            with scope:
                self.results[number] = await call(*arguments)

        self.scopes.append(scope)
        self.nursery.start_soon(run)


async def wait_for(awaitable):
    return await awaitable


@under_trio
async def test_operations_and_groups(impl):
    group = impl.CallGroup()
    ops = [group.add(key) for key in range(3)]
    async with trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        for awaitable in (ops[0], ops[1], group):
            tasks.start(wait_for, awaitable)
        await turns()
        assert tasks.results == {}
        result = StopIteration(5)
        ops[0].finish((1, 2))
        Worker(ops[1].finish, result).result()
        ops[2].cancel()
        with pytest.raises(OpCancelledError):
            await ops[2]
        # The task that waits for it fails the nursery.
        with pytest.raises(ExceptionGroup) as info:
            async with trio.open_nursery() as other:
                other.start_soon(wait_for, ops[2])
        assert isinstance(info.value.exceptions[0], OpCancelledError)
    assert tasks.results == {0: (1, 2), 1: result, 2: group.result(0)}
    assert await ops[0] == (1, 2)
    assert (await group).responses[0].result == (1, 2)


@under_trio
async def test_results_reach_every_awaiter(impl):
    group = impl.CallGroup()
    op = group.add(1)
    async with trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        for awaitable in (op, op, op, group):
            tasks.start(wait_for, awaitable)
        await turns()
        tasks.scopes[1].cancel()
        await turns()
        await trio.to_thread.run_sync(op.finish, "result")
    assert tasks.results == {0: "result", 2: "result", 3: group.result(0)}


@under_trio
async def test_rows(make_queue):
    queue = make_queue()
    await queue.asubmit("ready")
    with await queue.adequeue() as row:
        assert row.key == "ready"
    async with trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        for index in range(3):
            tasks.start(queue.adequeue)
            await wait_parked(queue, index + 1)
        put(queue, 0)
        await trio.to_thread.run_sync(put, queue, 1)
        await queue.asubmit(2)
        assert queue.stats().consumers_waiting == 0
    assert [tasks.results[index].key for index in range(3)] == [0, 1, 2]


@under_trio
async def test_depth(make_queue):
    queue = make_queue(1, None)
    put(queue, "old")
    async with trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        for index, key in enumerate("abc"):
            tasks.start(queue.asubmit, key)
            await wait_parked(queue, producers=index + 1)
        tasks.scopes[1].cancel()
        await wait_parked(queue, producers=2)
        assert [(await queue.adequeue(HANG)).key for _ in range(3)] == ["old", "a", "c"]
    assert sorted(tasks.results) == [0, 2]


@under_trio
async def test_what_a_cancelled_task_is_promised_is_for_others_before_it_runs(make_queue):
    queue, full = make_queue(), make_queue(1, None)
    put(full, "old")
    async with trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        for timeout in (None, HANG):
            tasks.start(queue.adequeue, timeout)
            tasks.start(functools.partial(full.asubmit, "late", timeout=timeout))
            await wait_parked(queue, consumers=1)
            await wait_parked(full, producers=1)
            for scope in tasks.scopes:
                scope.cancel()
            assert queue.stats().consumers_waiting == full.stats().producers_waiting == 0
            put(queue, "k")
            assert keys(take_all(queue)) == ["k"]
            full.dequeue(0).release()
            put(full, "new")
    assert not tasks.results


@under_trio
async def test_timeouts(make_queue):
    queue, full = make_queue(), make_queue(1, None)
    put(full, 1)
    began = trio.current_time()
    with pytest.raises(QueueEmptyError, match=r"^no row became ready within 0\.02 seconds$"):
        await queue.adequeue(0.02)
    assert trio.current_time() - began >= 0.018
    with pytest.raises(QueueEmptyError, match="^no row is ready$"):
        await queue.adequeue(0)
    with pytest.raises(QueueSaturatedDepthError):
        await full.asubmit(2, timeout=0.01)
    assert await full.ajoin(0.01) is False
    for timeout in (None, float("inf"), 1e300, 10**400, HANG):
        async with trio.open_nursery() as nursery:
            tasks = Tasks(nursery)
            tasks.start(queue.adequeue, timeout)
            await wait_parked(queue, 1)
            put(queue, 1)
        assert tasks.results[0].key == 1
        tasks.results[0].release()
    await wait_parked(queue)


@under_trio
async def test_a_window(impl):
    queue = impl.OpWindow(None, None, 0.01)
    async with trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        for index in range(2):
            tasks.start(queue.adequeue)
            await wait_parked(queue, index + 1)
        put(queue, "a", "b")
    assert [tasks.results[index].key for index in range(2)] == ["a", "b"]


@under_trio
async def test_iteration_closing_and_joining(make_queue):
    seen = []

    async def consume():
        async with queue:
            async for row in queue:
                async with row:
                    seen.append(row.key)
                    if row.key == 2:
                        queue.close()

    queue = make_queue()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        put(queue, 0)
        await wait_parked(queue, 1)
        put(queue, 1, 2)
    assert seen == [0, 1, 2]
    assert await queue.ajoin()
    with pytest.raises(QueueClosedError):
        await queue.adequeue()
    assert await queue.aprocess(turns) is False


@under_trio
async def test_iteration_over_ready_rows_lets_others_run_after_every_128(make_queue):
    queue = make_queue()
    put(queue, *range(300))
    queue.close()
    seen, seen_by_other = [], []

    async def other():
        while len(seen) < 300:
            seen_by_other.append(len(seen))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        async for row in queue:
            seen.append(row.key)
            row.release()
    assert seen == list(range(300))
    # Trio runs those that are ready in any order.
    assert {*seen_by_other} <= {0, 128, 256}
    assert {*seen_by_other} & {128, 256}


@under_trio
async def test_cancellation_loses_nothing(make_queue):
    queue = make_queue()
    with trio.move_on_after(0.005) as scope:
        await queue.adequeue()
    assert scope.cancelled_caught
    assert queue.stats().consumers_waiting == 0
    for number in range(20):
        async with trio.open_nursery() as nursery:
            tasks = Tasks(nursery)
            tasks.start(queue.adequeue)
            await wait_parked(queue, 1)
            if number % 2:
                tasks.scopes[0].cancel()
            put(queue, number)
            tasks.scopes[0].cancel()
        # Trio delivers what has happened already, so that it may have the row; then nobody else has it.
        row = tasks.results.get(0) or queue.dequeue(0)
        assert row.key == number
        row.release()
        check_invariants(queue)
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0)


@under_trio
async def test_a_scope_that_was_cancelled_before_the_wait(make_queue):
    queue = make_queue()
    with trio.CancelScope() as scope:
        scope.cancel()
        await queue.adequeue()
    assert scope.cancelled_caught
    assert queue.stats().consumers_waiting == 0
    put(queue, 1)
    assert keys(take_all(queue)) == [1]


@under_trio
async def test_a_cancelled_block_cancels_its_operations(make_queue):
    queue = make_queue()
    (op,) = put(queue, 1)
    with trio.move_on_after(0.005):
        async with await queue.adequeue():
            await trio.sleep_forever()
    assert op.cancelled()
    assert isinstance(op.exception(0).__cause__, trio.Cancelled)
    assert 1 not in queue
    (op,) = put(queue, 1)
    with trio.move_on_after(0.005):
        await queue.aprocess(lambda row: trio.sleep_forever())
    assert op.cancelled()


def test_20000_items_from_a_thread_to_a_task_in_order(make_queue):
    total = 20_000
    queue = make_queue(1000, None)

    def produce():
        for number in range(total):
            queue.submit(number, timeout=HANG)
        queue.close()

    async def consume():
        seen = []
        async for row in queue:
            seen.append(row.key)
            row.release()
        return seen

    worker = Worker(produce)
    assert in_trio(consume) == list(range(total))
    worker.result()


def test_threads_and_loops_of_both_kinds_share_one_queue(make_queue):
    queue = make_queue(20, None)
    total = 2000

    async def consume():
        seen = []
        async for row in queue:
            seen.append(row.key)
            row.release()
        return seen

    async def consume_asyncio():
        return await asyncio.wait_for(consume(), HANG)

    def consume_in_thread():
        seen = []
        for row in queue:
            seen.append(row.key)
            row.release()
        return seen

    def produce():
        for number in range(total):
            queue.submit(number, timeout=HANG)
        queue.close()
        return []

    calls = [lambda: in_trio(consume), lambda: asyncio.run(consume_asyncio()), consume_in_thread, produce]
    shares = run_concurrently(calls, timeout=2 * HANG)
    assert Counter(key for share in shares for key in share) == dict.fromkeys(range(total), 1)


def test_threads_trio_and_asyncio_stand_in_one_line(make_queue):
    queue = make_queue()

    async def take():
        return (await queue.adequeue()).key

    waits = []
    with LoopThread() as loop:
        for index in range(6):
            if index % 3 == 0:
                waits.append(Worker(in_trio, take))
            elif index % 3 == 1:
                waits.append(loop.submit(take()))
            else:
                waits.append(Worker(lambda: queue.dequeue(HANG).key))
            wait_consumers(queue, index + 1)
        for index, wait in enumerate(waits):
            put(queue, index)
            assert wait.result(HANG) == index


def test_a_run_that_crashed_is_passed_over(impl):
    """Trio ends no run before its tasks have ended, unless it crashes; its own complaints are silenced here."""
    run_script(
        impl,
        """
        import trio

        queue = OpQueue(None, None)

        async def crash():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(queue.adequeue)
                while not queue.stats().consumers_waiting:
                    await trio.lowlevel.checkpoint()
                with trio.move_on_after(0):
                    # What is called to cancel this wait fails, and nobody is there to be told.
                    await trio.lowlevel.wait_task_rescheduled(lambda _: 1 / 0)

        sys.unraisablehook = lambda caught: None
        try:
            trio.run(crash)
        except trio.TrioInternalError as error:
            # Keeps the tasks of the run.
            crashed = error
        ops = [queue.submit(1)]
        print(queue.dequeue(0).key, queue.stats().consumers_waiting)
        ops[0].finish()
        """,
        expect="1 0\n",
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(impl, make_queue, backend):
    anyio = pytest.importorskip("anyio")
    lowlevel, to_thread = (pytest.importorskip(f"anyio.{name}") for name in ("lowlevel", "to_thread"))

    async def main():
        queue = make_queue(2, None)
        results = []

        async def consume():
            async for row in queue:
                async with row:
                    await lowlevel.checkpoint()
                    row.finish_all(row.key)

        with anyio.fail_after(HANG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consume)
                tasks.start_soon(consume)
                ops = [await queue.asubmit(number) for number in range(50)]
                group = impl.CallGroup()
                await queue.aenqueue("group", group.add("group"))
                results += [await op for op in ops]
                assert (await group)["group"].result == "group"
                await to_thread.run_sync(queue.close)
        assert results == list(range(50))

        other = make_queue()
        with anyio.move_on_after(0.005) as scope:
            await other.adequeue()
        assert scope.cancelled_caught
        with anyio.move_on_after(0.005) as scope:
            await impl.Op(1)
        assert scope.cancelled_caught
        put(other, 1)
        assert keys(take_all(other)) == [1]

    anyio.run(main, backend=backend)
