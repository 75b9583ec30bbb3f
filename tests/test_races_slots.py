"""Producers that wait as tasks: a promised place runs into what ends the wait. See racing_tasks.py and witness.py."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from aio import wait_parked
from helpers import HANG, Worker, put, take_all, wait_producers
from racing import Meeting, race, run_both
from racing_tasks import PRODUCERS, against, balanced, cancel, ops_of, produce_by, release

from inflight import QueueClosedError, QueueSaturatedDepthError

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")


def race_for_a_slot(make_queue, loop, spin, produce):
    """The only key is taken while ``produce(queue, op, meeting)`` waits for its place, and returns what it has added in
    the end; whether that is anything.
    """
    queue = make_queue(1, None)
    before = put(queue, "old")
    op = make_queue.impl.Op("new")
    taken = []
    added = against(loop, partial(produce, queue, op), lambda: taken.append(release(queue.dequeue(0))), spin)
    assert ops_of(taken) == before
    assert ops_of(take_all(queue)) == added
    produced = bool(added)
    # No slot stays reserved for who has gone.
    added += put(queue, "next")
    assert ops_of(take_all(queue)) == added[-1:]
    assert balanced(queue, *before, *added)
    return produced


@pytest.mark.parametrize("call", PRODUCERS)
def test_a_promised_slot_against_a_cancellation(make_queue, loops, witness, rounds, call):
    """The task uses its slot, or gives it up: then it has enqueued nothing, and there is room."""

    def round_(spin):
        async def produce(queue, op, meeting):
            task = asyncio.ensure_future(produce_by(queue, call, op))
            await wait_parked(queue, producers=1)
            return [] if await cancel(task, meeting, spin) else [task.result() or op]

        return race_for_a_slot(make_queue, loops[0], spin, produce)

    race(True, False, round_, 30 * rounds, lambda: witness.unseen("SLOT_USED", "SLOT_GIVEN_UP"))


def test_a_promised_slot_against_the_timeout_of_aenqueue(make_queue, loops, witness, rounds):
    def round_(spin):
        async def produce(queue, op, meeting):
            meeting.wait(1)
            spin(1)
            try:
                await queue.aenqueue("new", op, timeout=0.0003)
                return [op]
            except QueueSaturatedDepthError:
                return []

        return race_for_a_slot(make_queue, loops[0], spin, produce)

    race(True, False, round_, 30 * rounds, lambda: witness.unseen("SLOT_PROMISED", "SLOT_USED"))


@pytest.mark.parametrize("call", PRODUCERS)
def test_a_promised_slot_of_a_task_against_close(make_queue, loops, witness, rounds, call):
    """It uses the slot, or finds the queue closed."""

    def round_(spin):
        queue = make_queue(1, None)
        before = put(queue, "old")
        op = make_queue.impl.Op("new")

        async def produce():
            try:
                return [await produce_by(queue, call, op) or op]
            except QueueClosedError:
                return []

        future = loops[0].submit(produce())
        wait_producers(queue, 1)

        def consume():
            spin(0)
            return release(queue.dequeue(0))

        def close():
            spin(1)
            queue.close()

        taken = run_both(consume, close)[0]
        added = future.result(HANG)
        assert ops_of([taken]) == before
        assert ops_of(take_all(queue)) == added
        assert balanced(queue, *before, *added)
        return bool(added)

    race(True, False, round_, 30 * rounds, lambda: witness.unseen("SLOT_USED", "SLOT_GIVEN_UP", "DELIVERED"))


def test_a_promised_slot_that_is_given_up_goes_to_the_next(make_queue, loops, witness, rounds):
    def round_(spin):
        queue = make_queue(1, None)
        put(queue, "old")
        parked = threading.Semaphore(0)

        async def produce(meeting):
            task = asyncio.ensure_future(queue.asubmit("first"))
            await wait_parked(queue, producers=1)
            parked.release()
            return await cancel(task, meeting, spin)

        meeting = Meeting()
        future = loops[0].submit(produce(meeting))
        assert parked.acquire(timeout=HANG)
        second = Worker(queue.submit, "second", timeout=HANG)
        wait_producers(queue, 2)
        meeting.wait(0)
        spin(0)
        queue.dequeue(0).release()
        cancelled = future.result(HANG)
        if not cancelled:
            row = queue.dequeue(0)
            assert row.key == "first"
            row.release()
        second.result()
        assert [row.key for row in take_all(queue)] == ["second"]
        return cancelled

    race(False, True, round_, 30 * rounds, lambda: witness.unseen("SLOT_PROMISED", "SLOT_GIVEN_UP"))
