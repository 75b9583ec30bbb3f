"""Threads and any number of loops at one queue: one line for all, cheap wakes, and loops that die.

What a wake costs is in test_aio_wakes; what is left behind in memory and at the exit of the interpreter in
test_aio_lifetime.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter

import pytest
from aio import LoopThread, park_and_stop, run_once, turns
from helpers import GIL, HANG, Worker, keys, put, run_script, take_all, wait_consumers, wait_producers

from inflight import QueueEmptyError, QueueSaturatedDepthError


@contextlib.contextmanager
def doomed(loop_factory):
    """A loop of this thread that the test closes itself, whatever is parked in it."""
    loop = loop_factory()
    loop.set_exception_handler(lambda loop, context: None)
    yield loop
    loop.close()


def test_three_loops_and_threads_share_one_queue(make_queue, loop_factory):
    total = 3000
    queue = make_queue(50, None)

    async def consume():
        return [row.key async for row in released(queue)]

    async def produce(start):
        for number in range(start, total, 6):
            await queue.asubmit(number)

    def consume_in_thread():
        seen = []
        for row in queue:
            with row:
                seen.append(row.key)
        return seen

    def produce_in_thread(start):
        for number in range(start, total, 6):
            queue.submit(number, timeout=HANG)

    with LoopThread(loop_factory) as one, LoopThread(loop_factory) as two, LoopThread(loop_factory) as three:
        loops = [one, two, three]
        consumers = [loop.submit(consume()) for loop in loops for _ in range(3)]
        workers = [Worker(consume_in_thread) for _ in range(2)]
        producers = [loop.submit(produce(start)) for start, loop in enumerate(loops)]
        producing = [Worker(produce_in_thread, start) for start in (3, 4, 5)]
        for producer in producers:
            producer.result(HANG)
        for worker in producing:
            worker.result()
        queue.close()
        shares = [future.result(HANG) for future in consumers] + [worker.result() for worker in workers]
    seen = Counter(key for share in shares for key in share)
    assert seen == dict.fromkeys(range(total), 1)
    stats = queue.stats()
    assert (stats.enqueued, stats.dequeued_rows, stats.consumers_waiting) == (total, total, 0)


async def released(queue):
    async for row in queue:
        with row:
            yield row


def test_threads_and_tasks_stand_in_one_line(make_queue, loop_factory):
    queue = make_queue()
    with LoopThread(loop_factory) as one, LoopThread(loop_factory) as other:
        waits = []
        for index in range(9):
            if index % 3 == 0:
                waits.append(Worker(queue.dequeue, HANG))
            else:
                waits.append((one, other)[index % 2].submit(queue.adequeue()))
            wait_consumers(queue, index + 1)
        for index, wait in enumerate(waits):
            put(queue, index)
            assert wait.result(HANG).key == index
            assert queue.stats().consumers_waiting == len(waits) - index - 1
        assert not len(queue)


def test_producing_threads_and_tasks_stand_in_one_line(make_queue, loop_factory):
    queue = make_queue(1, None)
    put(queue, "old")
    with LoopThread(loop_factory) as one, LoopThread(loop_factory) as other:
        waits = []
        for index in range(9):
            if index % 3 == 0:
                waits.append(Worker(queue.submit, index, timeout=HANG))
            else:
                waits.append((one, other)[index % 2].submit(queue.asubmit(index)))
            wait_producers(queue, index + 1)
        assert queue.dequeue(0).key == "old"
        for index, wait in enumerate(waits):
            assert wait.result(HANG).key == index
            assert queue.dequeue(0).key == index


def test_statistics_count_tasks_and_threads_alike(make_queue, loop_factory):
    queue, full = make_queue(), make_queue(1, None)
    put(full, 1)
    with LoopThread(loop_factory) as loop:
        consumers = [loop.submit(queue.adequeue()), Worker(queue.dequeue, HANG), loop.submit(queue.adequeue_many(2))]
        producers = [loop.submit(full.asubmit(2)), Worker(full.submit, 3, timeout=HANG)]
        wait_consumers(queue, 3)
        wait_producers(full, 2)
        put(queue, 1, 2, 3)
        for _ in range(3):
            full.dequeue(HANG)
        for wait in consumers + producers:
            wait.result(HANG)
    assert queue.stats().consumers_waiting == full.stats().producers_waiting == 0


def test_a_task_and_a_thread_wake_each_other(make_queue, loop_factory):
    there, back = make_queue(1, None), make_queue(1, None)

    async def echo():
        async for row in released(there):
            await back.asubmit(row.key)

    with LoopThread(loop_factory) as loop:
        future = loop.submit(echo())
        for number in range(300):
            there.submit(number, timeout=HANG)
            with back.dequeue(HANG) as row:
                assert row.key == number
        there.close()
        future.result(HANG)


# Loops that die.


def test_a_loop_that_was_closed_while_its_consumer_was_parked_is_passed_over(make_queue, loop_factory):
    queue = make_queue()
    with doomed(loop_factory) as loop:
        task = park_and_stop(loop, queue, queue.adequeue())
        loop.close()
        worker = Worker(queue.dequeue, HANG)
        wait_consumers(queue, 2)
        put(queue, 1, 2)
        assert worker.result().key == 1
        assert keys(take_all(queue)) == [2]
        assert queue.stats().consumers_waiting == 0
        assert not task.done()


def kill(loop, deliver):
    """Close a loop whose task has been woken.

    Before the wake-up was delivered, or just after it: then the task may have run, or it is about to.
    """
    if deliver:
        run_once(loop)
    loop.close()


def had(task):
    """The rows that the task of a dead loop has got, for it may have run before that."""
    return [task.result()] if task.done() else []


@pytest.mark.parametrize("deliver", [False, True])
def test_a_loop_that_was_closed_after_its_consumer_was_woken_is_passed_over(make_queue, loop_factory, deliver):
    """The task is still referred to."""
    queue = make_queue()
    with doomed(loop_factory) as loop:
        task = park_and_stop(loop, queue, queue.adequeue())
        put(queue, 1, 2)
        kill(loop, deliver)
        assert keys(had(task) + take_all(queue)) == [1, 2]
        put(queue, 3)
        assert keys(take_all(queue)) == [3]
        assert deliver or not task.done()


@pytest.mark.parametrize("deliver", [False, True])
@pytest.mark.parametrize("consume", ["dequeue", "drain", "dequeue_many", "iterate", "adequeue"])
def test_what_a_dead_loop_was_promised_goes_to_who_comes_next(make_queue, loop_factory, deliver, consume):
    queue = make_queue()
    with doomed(loop_factory) as loop, LoopThread(loop_factory) as alive:
        task = park_and_stop(loop, queue, queue.adequeue())
        ops = put(queue, 1)
        kill(loop, deliver)
        if task.done():
            # Whoever comes next has to be content with this one.
            ops += put(queue, 2)
        call = {
            "dequeue": lambda: [queue.dequeue(HANG)],
            "drain": queue.drain,
            "dequeue_many": lambda: queue.dequeue_many(5, HANG),
            "iterate": lambda: [next(iter(queue))],
            "adequeue": lambda: [alive.run(queue.adequeue(HANG))],
        }[consume]
        assert [op for row in had(task) + call() for op in row] == ops


@pytest.mark.parametrize("deliver", [False, True])
def test_who_is_parked_behind_a_dead_loop_gets_its_row(make_queue, loop_factory, deliver):
    queue = make_queue()
    with doomed(loop_factory) as loop:
        task = park_and_stop(loop, queue, queue.adequeue())
        worker = Worker(queue.dequeue, HANG)
        wait_consumers(queue, 2)
        put(queue, 1)
        kill(loop, deliver)
        put(queue, 2)
        assert sorted(keys([*had(task), worker.result(), *take_all(queue)])) == [1, 2]


@pytest.mark.parametrize("state", ["parked", "woken", "delivered"])
def test_the_slot_of_a_producer_in_a_dead_loop_goes_to_the_next(make_queue, loop_factory, state):
    queue = make_queue(1, None)
    put(queue, "old")
    with doomed(loop_factory) as loop:
        task = park_and_stop(loop, queue, queue.asubmit("dead"))
        if state == "parked":
            loop.close()
        assert queue.dequeue(0).key == "old"
        if state != "parked":
            kill(loop, state == "delivered")
        if task.done():
            # It was in time.
            assert queue.dequeue(0).key == "dead"
        put(queue, "new")
        with pytest.raises(QueueSaturatedDepthError):
            put(queue, "one too many")
        assert keys(take_all(queue)) == ["new"]
        assert queue.stats().producers_waiting == 0


def test_the_producer_behind_one_in_a_dead_loop_gets_the_slot(make_queue, loop_factory):
    queue = make_queue(1, None)
    put(queue, "old")
    with doomed(loop_factory) as loop:
        task = park_and_stop(loop, queue, queue.asubmit("dead"))
        worker = Worker(queue.submit, "next", timeout=HANG)
        wait_producers(queue, 2)
        loop.close()
        assert queue.dequeue(0).key == "old"
        worker.result()
        assert keys(take_all(queue)) == ["next"]
        assert not task.done()


@pytest.mark.instrumented
@pytest.mark.parametrize("line", ["consumers", "producers"])
def test_a_long_line_of_a_dead_loop_is_passed_over_without_recursion(impl, line):
    """Deep recursion in C ends the process."""
    run_script(
        impl,
        f"""
        import asyncio

        total = 30_000
        queue, full = OpQueue(None, None), OpQueue(1, None)
        ops = [full.submit("old")]

        async def park():
            calls = (queue.adequeue() if {line!r} == "consumers" else full.asubmit(key) for key in range(total))
            tasks = [asyncio.ensure_future(call) for call in calls]
            for _ in range(3):
                await asyncio.sleep(0)
            return tasks

        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)
        tasks = loop.run_until_complete(park())
        loop.close()
        stats = queue.stats(), full.stats()
        assert (stats[0].consumers_waiting, stats[1].producers_waiting) in ((total, 0), (0, total))

        def pass_over():
            ops.append(queue.submit(1))
            assert queue.dequeue(0).key == 1
            assert full.dequeue(0).key == "old"
            ops.append(full.submit("new"))
            assert full.dequeue(0).key == "new"

        # Where some thousand frames of Python fit, one for each waiter does not.
        threading.stack_size(2**20)
        thread = threading.Thread(target=pass_over)
        thread.start()
        thread.join()
        stats = queue.stats(), full.stats()
        assert (stats[0].consumers_waiting, stats[1].producers_waiting) == (0, 0)
        for op in ops:
            op.finish()
        print("passed over")
        """,
        expect="passed over\n",
    )


@pytest.mark.instrumented
@pytest.mark.parametrize("line", ["consumers", "producers"])
def test_a_line_of_thousands_of_dead_loops_is_passed_over_without_recursion(impl, line):
    """What the first cannot take goes to the second, which cannot take it either, and so on."""
    run_script(
        impl,
        f"""
        import asyncio

        class Dead:
            def is_closed(self):
                return True

            def call_soon_threadsafe(self, callback):
                raise RuntimeError("closed")

        total = 30_000
        queue, full = OpQueue(None, None), OpQueue(1, None)
        ops = [full.submit("old")]
        parked = []
        for key in range(total):
            asyncio._set_running_loop(Dead())
            call = queue.adequeue() if {line!r} == "consumers" else full.asubmit(key)
            parked.append((call, call.send(None)))
        asyncio._set_running_loop(None)
        stats = queue.stats(), full.stats()
        assert (stats[0].consumers_waiting, stats[1].producers_waiting) in ((total, 0), (0, total))

        ops.append(queue.submit(1))
        assert queue.dequeue(0).key == 1
        assert full.dequeue(0).key == "old"
        ops.append(full.submit("new"))
        assert full.dequeue(0).key == "new"
        stats = queue.stats(), full.stats()
        assert (stats[0].consumers_waiting, stats[1].producers_waiting) == (0, 0)
        for each in queue, full:
            check_invariants(each)
        for op in ops:
            op.finish()
        print("passed over")
        """,
        expect="passed over\n",
    )


def test_dead_awaiters_of_operations_groups_and_joins_harm_nobody(impl, make_queue, loop_factory):
    queue = make_queue()
    put(queue, 1)
    group = impl.CallGroup()
    op = group.add(1)

    async def wait(awaitable):
        return await awaitable

    with doomed(loop_factory) as loop, LoopThread(loop_factory) as alive:
        tasks = [loop.create_task(wait(each)) for each in (op, group, queue.ajoin())]
        loop.run_until_complete(turns())
        futures = [alive.submit(wait(each)) for each in (op, group, queue.ajoin())]
        alive.run(turns())
        loop.close()
        op.finish(5)
        queue.dequeue(0).release()
        assert [future.result(HANG) for future in futures] == [5, group.result(0), True]
        assert not any(task.done() for task in tasks)


def test_close_passes_dead_loops_over(make_queue, loop_factory):
    queue = make_queue()
    with doomed(loop_factory) as loop:
        task = park_and_stop(loop, queue, queue.adequeue())
        loop.close()
        queue.close()
        assert queue.join(0)
        assert not task.done()


def test_a_window_is_kept_by_the_next_when_the_loop_of_the_first_is_dead(impl, loop_factory):
    queue = impl.OpWindow(None, None, 0.01)
    with doomed(loop_factory) as loop:
        task = park_and_stop(loop, queue, queue.adequeue())
        worker = Worker(queue.dequeue, HANG)
        wait_consumers(queue, 2)
        loop.close()
        put(queue, 1)
        assert worker.result().key == 1
        assert not task.done()


def test_a_wake_up_whose_sender_sleeps_is_passed_on(make_queue, loop_factory):
    """Without the GIL only the sender, who runs no code, or the collector can free what the closed loop has dropped."""
    queue, asleep = make_queue(), make_queue()

    def send():
        put(queue, 1)
        return asleep.dequeue(HANG)

    with contextlib.closing(loop_factory()) as loop:
        task = park_and_stop(loop, queue, queue.adequeue())
        worker = Worker(send)
        wait_consumers(asleep, 1)
        loop.close()
    if not GIL:
        gc.collect()
    assert queue.dequeue(0).key == 1
    assert not task.done()
    put(asleep, 2)
    assert worker.result().key == 2


@pytest.mark.parametrize("kind", ["consumer", "producer"])
def test_a_stopped_loop_keeps_its_promise(make_queue, loop_factory, kind):
    queue = make_queue(1, None)
    with contextlib.closing(loop_factory()) as loop:
        if kind == "consumer":
            task = park_and_stop(loop, queue, queue.adequeue())
            put(queue, 1, 1)
            with pytest.raises(QueueEmptyError):
                queue.dequeue(0.01)
            assert keys(queue.drain()) == []
            row = loop.run_until_complete(asyncio.wait_for(task, HANG))
            assert (row.key, len(row)) == (1, 2)
        else:
            put(queue, "old")
            task = park_and_stop(loop, queue, queue.asubmit("late"))
            assert queue.dequeue(0).key == "old"
            with pytest.raises(QueueSaturatedDepthError):
                queue.submit("newcomer", timeout=0.01)
            loop.run_until_complete(asyncio.wait_for(task, HANG))
            assert keys(take_all(queue)) == ["late"]
