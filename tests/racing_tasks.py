"""Tools for races between a task and the main thread: the loop runs in a thread of its own.

The task is cancelled there, at an instant that the race chooses, while the main thread does the rest. See racing.py.
"""

from __future__ import annotations

import asyncio
import random

from aio import nobody_waits, turns
from helpers import HANG
from racing import Meeting

from inflight import QueueClosedError

TURNS = (0, 0, 1, 2, 3)

CONSUMERS = ("adequeue", "adequeue_many", "aprocess")
PRODUCERS = ("aenqueue", "asubmit")


def against(loop, coroutine, act, spin):
    """``coroutine(meeting)`` on the loop against ``act()`` here; the result of the first."""
    meeting = Meeting()
    future = loop.submit(coroutine(meeting))
    try:
        meeting.wait(0)
        spin(0)
        act()
    except BaseException:
        meeting.leave()
        raise
    return future.result(HANG)


async def cancel(task, meeting, spin):
    """Cancel it when both sides are there, or some turns of the loop later; whether that ended it."""
    meeting.wait(1)
    spin(1)
    # The wake-up may be on its way, or delivered, or not sent.
    await turns(random.choice(TURNS))
    task.cancel()
    await asyncio.wait({task}, timeout=HANG)
    assert task.done(), "a task hangs"
    return task.cancelled()


async def consume_by(queue, call):
    """The operations that one call takes, their keys released; none once the queue is closed."""
    taken = []

    async def work(row):
        taken.append(row)

    try:
        if call == "aprocess":
            assert await queue.aprocess(work) is bool(taken)
        elif call == "adequeue_many":
            taken += await queue.adequeue_many(2)
        else:
            taken.append(await queue.adequeue())
    except QueueClosedError:
        pass
    for row in taken:
        row.release()
    return ops_of(taken)


def produce_by(queue, call, op):
    """A coroutine that enqueues under the key of ``op``: that one, or one of its own."""
    return queue.aenqueue(op.key, op) if call == "aenqueue" else queue.asubmit(op.key)


def ops_of(rows):
    return [op for row in rows for op in row]


def balanced(queue, *ops):
    """Whether these operations, of a row each, are all that ever went through a queue, which is empty."""
    stats = queue.stats()
    handed_out = stats.enqueued == stats.dequeued_ops == stats.dequeued_rows == len(set(ops)) == len(ops)
    return nobody_waits(queue) and handed_out and stats.keys == 0


def release(row):
    row.release()
    return row
