"""Tasks that are cancelled, time out and lose their loops at random instants, against threads: counts are equal.

The seeds are fixed, the threads are not: each run meets other instants.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter

import pytest
from aio import LoopThread, loop_factory, turns, until
from helpers import HANG, Worker, keys, take_all

from inflight import QueueEmptyError, QueueSaturatedError
from inflight._invariants import check_invariants

ROWS = 100_000


class Crowd:
    """Tasks of one loop: some are always cancelled at a random instant, and others take their place."""

    def __init__(self, size, seed, work):
        self.size = size
        self.random = random.Random(seed)
        self.work = work
        self.cancelled = 0

    async def run(self, done):
        tasks = set()
        while not done():
            while len(tasks) < self.size:
                task = asyncio.ensure_future(self.work(self.random))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await turns(self.random.choice((0, 1, 1, 2, 3, 10)))
            for task in self.random.sample(list(tasks), min(len(tasks), self.random.randrange(10))):
                self.cancelled += task.cancel()
            # Now and then the loop has nothing to do and sleeps.
            await asyncio.sleep(self.random.choice((0, 0, 0, 0.0002)))
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(outcome, asyncio.CancelledError) and outcome is not None:
                raise outcome


def consume_at_random(queue, seen):
    """A consumer that uses one way to take rows after the other."""

    async def consume(random_):
        while True:
            how = random_.randrange(8)
            if how >= 5:
                # Where there is always a row, it would never let others run.
                await asyncio.sleep(0)
                continue
            if how == 0:
                rows = await queue.adequeue_many(random_.randrange(1, 6))
            elif how == 1:
                try:
                    rows = [await queue.adequeue(random_.choice((0, 0.0001, 0.001)))]
                except QueueEmptyError:
                    await asyncio.sleep(0)
                    continue
            elif how == 2:
                try:
                    async with asyncio.timeout(random_.choice((0, 0.0001, 0.001))):
                        row = await queue.adequeue()
                        # What it has been handed out it has: nothing can be cancelled from here on.
                        seen.append(row.key)
                        row.release()
                except TimeoutError:
                    pass
                continue
            else:
                rows = [await queue.adequeue()]
            for row in rows:
                seen.append(row.key)
                row.release()

    return consume


@pytest.mark.parametrize(("kind", "threads"), [("OpQueue", 0), ("DedupeQueue", 1)])
def test_cancelled_consumers_against_producing_threads(impl, kind, threads):
    """Rows through two loops in which consumers are cancelled at random instants, with and without a thread."""
    queue = getattr(impl, kind)(50, None)
    shares = [[], [], []]

    def produce(start):
        number = start
        # A loop may hardly get to run, on a busy machine: there is work until enough was cancelled.
        while number < ROWS or sum(crowd.cancelled for crowd in crowds) <= 100:
            queue.submit(number, timeout=HANG)
            number += 2
        return range(start, number, 2)

    def consume():
        for row in queue:
            with row:
                shares[2].append(row.key)

    with LoopThread() as one, LoopThread(second_loop()) as other:
        crowds = [Crowd(30, seed, consume_at_random(queue, shares[seed])) for seed in range(2)]
        workers = [Worker(produce, 0), Worker(produce, 1)] + [Worker(consume) for _ in range(threads)]
        done = [False]
        futures = [loop.submit(crowd.run(lambda: done[0])) for loop, crowd in zip((one, other), crowds, strict=True)]
        produced = [worker.result(4 * HANG) for worker in workers[:2]]
        assert queue.join(HANG)
        done[0] = True
        for future in futures:
            future.result(HANG)
        queue.close()
        for worker in workers[2:]:
            worker.result()
    check_invariants(queue)
    total = sum(map(len, produced))
    counts = Counter(key for share in shares for key in share)
    assert counts == Counter(itertools.chain(*produced))
    stats = queue.stats()
    assert (stats.enqueued, stats.dequeued_rows, stats.dequeued_ops) == (total, total, total)
    assert (stats.consumers_waiting, stats.producers_waiting, stats.owned) == (0, 0, 0)


def second_loop():
    """A uvloop beside the asyncio loop, if there is one."""
    try:
        return loop_factory("uvloop")
    except pytest.skip.Exception:
        return asyncio.new_event_loop


def test_cancelled_producers_against_consuming_threads(impl):
    """What a producer was told is what the rows hold: a cancelled one has enqueued nothing."""
    queue = impl.OpQueue(8, 3)
    total = 30_000
    accepted = []
    landed = []

    def produce_at_random(name):
        numbers = itertools.count()

        async def produce(random_):
            while True:
                op = impl.Op((name, next(numbers)))
                try:
                    await queue.aenqueue(random_.randrange(50), op, timeout=random_.choice((None, None, 0.0001, HANG)))
                except QueueSaturatedError:
                    op.finish()
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    op.finish()
                    raise
                else:
                    accepted.append(op.key)

        return produce

    def consume():
        for row in queue:
            with row:
                landed.extend(op.key for op in row)
                row.finish_all()

    with LoopThread() as one, LoopThread(second_loop()) as other:
        workers = [Worker(consume) for _ in range(2)]
        crowds = [Crowd(30, seed, produce_at_random(seed)) for seed in range(2)]
        futures = [
            loop.submit(crowd.run(lambda crowd=crowd: len(accepted) >= total and crowd.cancelled > 10))
            for loop, crowd in zip((one, other), crowds, strict=True)
        ]
        for future in futures:
            future.result(2 * HANG)
        queue.close()
        for worker in workers:
            worker.result()
    check_invariants(queue)
    assert Counter(landed) == Counter(accepted)
    assert set(Counter(landed).values()) == {1}
    assert queue.stats().producers_waiting == 0


def test_loops_that_die_with_their_consumers(impl):
    """One loop after the other is closed with tasks in the middle of their waits; rows come from a thread."""
    queue = impl.OpQueue(50, None)
    total = 30_000
    random_ = random.Random(3)
    seen = []

    async def consume():
        while True:
            seen.append((await queue.adequeue()).key)

    def produce():
        for number in range(total):
            queue.submit(number, timeout=HANG)

    def live_and_die():
        loop = random_.choice((asyncio.new_event_loop, second_loop()))()
        loop.set_exception_handler(lambda loop, context: None)
        tasks = [loop.create_task(consume()) for _ in range(random_.randrange(1, 10))]
        for _ in range(random_.randrange(1, 20)):
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.close()
        return tasks

    worker = Worker(produce)
    graves = [live_and_die() for _ in range(100)]
    while worker.running() or len(queue):
        seen += keys(take_all(queue))
        graves.append(live_and_die())
        del graves[:-50]
    worker.result()
    seen += keys(take_all(queue))
    assert Counter(seen) == dict.fromkeys(range(total), 1)
    check_invariants(queue)


def test_20000_items_from_a_thread_to_a_task_in_order(make_queue, loop_factory):
    total = 20_000
    queue = make_queue(1000, None)

    async def consume():
        seen = []
        async for row in queue:
            seen.append(row.key)
            row.release()
        return seen

    with LoopThread(loop_factory) as loop:
        future = loop.submit(consume())
        for number in range(total):
            queue.submit(number, timeout=HANG)
        queue.close()
        assert future.result(HANG) == list(range(total))


def test_operations_finished_by_threads_while_their_awaiters_are_cancelled(impl, tiny_switch_interval):
    total = 2000

    async def wait(op):
        return await op

    async def main():
        random_ = random.Random(4)
        ops = [impl.Op(number) for number in range(total)]
        tasks = [[asyncio.ensure_future(wait(op)) for _ in range(3)] for op in ops]
        await turns(2)
        worker = Worker(lambda: [op.finish(op.key) for op in ops])
        told = set()
        # Where the other thread is, about.
        for number in range(1, total):
            await until(ops[number - 1].done)
            told.update(task for task in tasks[number][:2] if random_.random() < 0.5 and task.cancel())
            await turns(random_.randrange(2))
        worker.result()
        await until(lambda: all(task.done() for three in tasks for task in three))
        for op, three in zip(ops, tasks, strict=True):
            for task in three:
                # A task that was told to cancel is cancelled, and nobody else.
                assert task.cancelled() == (task in told)
                if not task.cancelled():
                    assert task.result() == op.key
        return len(told)

    with contextlib.ExitStack() as stack:
        loops = [stack.enter_context(LoopThread(factory)) for factory in (asyncio.new_event_loop, second_loop())]
        assert sum(loop.run(main(), 2 * HANG) for loop in loops) > 0
