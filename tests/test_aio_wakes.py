"""What a wake costs, and from where it may come: a thread, a task, a plain callback, a signal handler."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time

import pytest
from aio import (
    LoopThread,
    counting,
    ended,
    finished,
    in_thread,
    parked_consumers,
    parked_producers,
    run,
    turns,
    until,
    wait_parked,
)
from helpers import HANG, Worker, keys, put, wait_consumers, wait_producers

from inflight import QueueSaturatedDepthError


@contextlib.contextmanager
def blocked(loop):
    """The loop runs nothing meanwhile."""
    entered, go_on = threading.Event(), threading.Event()

    def block():
        entered.set()
        assert go_on.wait(HANG)

    loop.loop.call_soon_threadsafe(block)
    assert entered.wait(HANG)
    try:
        yield
    finally:
        go_on.set()


def test_many_waiters_of_one_loop_cost_one_call(impl, make_queue, loop_factory):
    """Those of several queues, operations and groups together; and again once the loop has run."""

    async def wait(awaitable):
        return await awaitable

    with LoopThread(counting(loop_factory)) as loop:
        for number in range(3):
            queue, full = make_queue(), make_queue(5, None)
            put(full, *range(5))
            group = impl.CallGroup()
            op = group.add(number)
            waits = [loop.submit(wait(op)) for _ in range(10)] + [loop.submit(wait(group))]
            waits += [loop.submit(queue.adequeue()) for _ in range(50)]
            waits += [loop.submit(full.asubmit(key)) for key in "abcde"]
            wait_consumers(queue, 50)
            wait_producers(full, 5)
            loop.run(turns())
            with blocked(loop):
                before = loop.loop.wakes
                put(queue, *range(30))
                op.finish("result")
                full.drain()
                put(queue, *range(30, 50))
                assert loop.loop.wakes - before == 1
            results = [future.result(HANG) for future in waits]
            assert results[:10] == ["result"] * 10
            assert keys(results[11:61]) == list(range(50))


def test_each_loop_costs_one_call(make_queue, loop_factory):
    queue = make_queue()
    factory = counting(loop_factory)
    with LoopThread(factory) as one, LoopThread(factory) as other:
        waits = [loop.submit(queue.adequeue()) for _ in range(10) for loop in (one, other)]
        wait_consumers(queue, 20)
        with blocked(one), blocked(other):
            before = [loop.loop.wakes for loop in (one, other)]
            put(queue, *range(20))
            assert [loop.loop.wakes for loop in (one, other)] == [count + 1 for count in before]
        assert sorted(future.result(HANG).key for future in waits) == list(range(20))


def test_waking_from_a_task_of_the_same_loop_costs_no_call(impl, make_queue, loop_factory):
    async def wait(awaitable):
        return await awaitable

    async def main():
        loop = asyncio.get_running_loop()
        queue, full = make_queue(), make_queue(1, None)
        put(full, "old")
        op = impl.Op(1)
        tasks = await parked_consumers(queue, 10)
        producers = await parked_producers(full, ["a"])
        awaiting = [asyncio.ensure_future(wait(op)) for _ in range(5)]
        await turns()
        before = loop.wakes
        put(queue, *range(5))
        for key in range(5, 10):
            await queue.asubmit(key)
        await full.adequeue()
        op.finish(5)
        assert keys(await ended(*tasks)) == list(range(10))
        assert await ended(*awaiting) == [5] * 5
        await finished(*producers)
        # To and fro.
        partner = asyncio.ensure_future(queue.adequeue())
        await turns()
        await queue.asubmit("x")
        await finished(partner)
        return loop.wakes - before

    assert run(main(), counting(loop_factory)) == 0


async def test_a_plain_callback_wakes_a_task(make_queue):
    queue = make_queue()
    (task,) = await parked_consumers(queue, 1)
    asyncio.get_running_loop().call_later(0.001, put, queue, 1)
    assert keys(await ended(task)) == [1]


def test_waking_from_a_callback_of_the_same_loop_costs_no_call(make_queue, loop_factory):
    async def main():
        loop = asyncio.get_running_loop()
        queue = make_queue()
        tasks = await parked_consumers(queue, 10)
        before = loop.wakes
        for key in range(5):
            loop.call_soon(put, queue, key)
        # Which of them comes first is the loop's affair.
        loop.call_later(0.001, put, queue, *range(5, 10))
        assert sorted(keys(await ended(*tasks))) == list(range(10))
        return loop.wakes - before

    assert run(main(), counting(loop_factory)) == 0


async def test_many_wakes_from_threads_reach_a_busy_loop(make_queue):
    queue = make_queue()
    total = 500
    worker = Worker(lambda: [put(queue, number) for number in range(total)])
    seen = []
    while len(seen) < total:
        rows = await queue.adequeue_many(7, HANG)
        for row in rows:
            row.release()
        seen += keys(rows)
        if len(seen) % 3 == 0:
            await asyncio.sleep(0)
    worker.result()
    assert seen == list(range(total))


needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@contextlib.contextmanager
def on_signal(function):
    before = signal.signal(signal.SIGUSR1, lambda number, frame: function())
    try:
        yield lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@needs_signals
@pytest.mark.parametrize("action", ["submit", "close", "dequeue", "finish"])
async def test_a_signal_handler_wakes_a_task_while_the_loop_sleeps(impl, make_queue, action):
    async def wait(awaitable):
        return await awaitable

    queue, full = make_queue(), make_queue(1, None)
    put(full, "old")
    op = impl.Op(1)
    begin, function = {
        "submit": (queue.adequeue, lambda: queue.submit(1)),
        "close": (lambda: anext(aiter(queue), "the end"), queue.close),
        "dequeue": (lambda: full.asubmit(2), lambda: full.dequeue(0)),
        "finish": (lambda: op, op.finish),
    }[action]
    handled = []
    ended_in_time = threading.Event()

    def handle():
        if not handled:
            handled.append(time.monotonic())
            function()

    with on_signal(handle) as send:
        task = asyncio.ensure_future(wait(begin()))
        await turns()

        def interrupt():
            # Once this loop sleeps; again, because a signal just before that does not end the sleep.
            while not ended_in_time.wait(0.01) and not handled:
                send()

        worker = Worker(interrupt)
        # Nothing else would wake it.
        await asyncio.wait([task], timeout=HANG / 2)
        ended_in_time.set()
        worker.result()
    assert task.done()
    assert task.exception() is None
    assert time.monotonic() - handled[0] < HANG / 4


@needs_signals
async def test_a_signal_handler_may_use_the_queue_that_a_running_task_uses(make_queue):
    queue = make_queue(20, None)
    seen, sent, handled, refused = [], [], [], []

    def handle():
        try:
            queue.submit(("signal", len(handled)))
        except QueueSaturatedDepthError:
            refused.append(len(handled))
        handled.append(len(handled))

    async def consume():
        async for row in queue:
            with row:
                seen.append(row.key)

    with on_signal(handle) as send:
        tasks = await parked_consumers(queue, 3, consume)
        stop = threading.Event()

        def interrupt():
            while not stop.wait(0.0005):
                # One at a time: where handling takes longer than that, there would be time for nothing else.
                if len(handled) == len(sent):
                    sent.append(len(sent))
                    send()

        worker = Worker(interrupt)
        for number in range(1000):
            await queue.asubmit(number)
        stop.set()
        await in_thread(worker.result)
        await until(lambda: len(handled) == len(sent))
        queue.close()
        await finished(*tasks)
    assert sorted(key for key in seen if isinstance(key, int)) == list(range(1000))
    assert sum(isinstance(key, tuple) for key in seen) == len(handled) - len(refused)
    await wait_parked(queue, consumers=0, producers=0)
