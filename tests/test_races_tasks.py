"""Queues, operations and groups: waits of tasks, and what ends them, run into calls of threads.

See racing_tasks.py and witness.py; producers that wait for room are in test_races_slots.py.
"""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
from aio import parked_consumers, run_once, turns, wait_parked
from helpers import HANG, Worker, put, run_concurrently, take_all, wait_consumers
from racing import Meeting, race, run_both
from racing_tasks import CONSUMERS, PRODUCERS, against, balanced, cancel, consume_by, ops_of, produce_by

from inflight import OpCancelledError, QueueClosedError, QueueEmptyError

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")


def test_a_hand_over_against_a_cancellation(make_queue, loops, witness, rounds):
    """The row is the task's, or it is put back."""

    def round_(spin):
        queue = make_queue()

        async def consume(meeting):
            (task,) = await parked_consumers(queue, 1)
            if await cancel(task, meeting, spin):
                return "cancelled"
            row = task.result()
            row.release()
            return row.key

        outcome = against(loops[0], consume, lambda: queue.submit("k"), spin)
        assert [row.key for row in take_all(queue)] == (["k"] if outcome == "cancelled" else [])
        return outcome

    race("k", "cancelled", round_, 30 * rounds, lambda: witness.unseen("ROW_PUT_BACK", "DELIVERED"))


def test_a_hand_over_against_a_cancellation_with_another_in_line(make_queue, loops, witness, rounds):
    """The row is the task's, or the next one's, be that a thread or a task of another loop."""
    kinds = [0, 0]

    def round_(spin):
        queue = make_queue()

        async def consume(meeting):
            (task,) = await parked_consumers(queue, 1)
            parked.release()
            if await cancel(task, meeting, spin):
                return None
            return task.result().key

        async def consume_there():
            return (await queue.adequeue()).key

        kind = random.randrange(2)
        parked = threading.Semaphore(0)
        meeting = Meeting()
        future = loops[0].submit(consume(meeting))
        assert parked.acquire(timeout=HANG)
        next_ = loops[1].submit(consume_there()) if kind else Worker(lambda: queue.dequeue(HANG).key)
        wait_consumers(queue, 2)
        meeting.wait(0)
        spin(0)
        queue.submit(1)
        first = future.result(HANG)
        if first is not None:
            queue.submit(2)
        assert next_.result(HANG) == (1 if first is None else 2)
        kinds[kind] += 1
        return first

    race(1, None, round_, 30 * rounds, lambda: witness.unseen("ROW_PASSED_ON", "DELIVERED"))
    assert all(kinds)


def test_rows_for_adequeue_many_against_a_cancellation(make_queue, loops, witness, rounds):
    """The first row is handed over, and both may be taken; what is not is there, in order."""

    def round_(spin):
        queue = make_queue()
        ops = []

        async def consume(meeting):
            (task,) = await parked_consumers(queue, 1, lambda: queue.adequeue_many(2))
            cancelled = await cancel(task, meeting, spin)
            return cancelled, [] if cancelled else task.result()

        cancelled, rows = against(loops[0], consume, lambda: ops.extend(put(queue, "a", "b")), spin)
        assert cancelled or len(rows) in (1, 2)
        assert [*ops_of(rows), *ops_of(take_all(queue))] == ops
        assert balanced(queue, *ops)
        return cancelled

    race(False, True, round_, 30 * rounds, lambda: witness.unseen("ROW_PUT_BACK", "DELIVERED"))


def test_rows_for_adequeue_many_against_its_timeout(make_queue, loops, witness, rounds):
    def round_(spin):
        queue = make_queue()
        ops = []

        async def consume(meeting):
            meeting.wait(1)
            spin(1)
            try:
                return await queue.adequeue_many(2, 0.0003)
            except QueueEmptyError:
                return []

        rows = against(loops[0], consume, lambda: ops.extend(put(queue, "a", "b")), spin)
        assert [*ops_of(rows), *ops_of(take_all(queue))] == ops
        assert balanced(queue, *ops)
        return bool(rows)

    race(True, False, round_, 30 * rounds, lambda: witness.unseen("ROW_PROMISED", "DELIVERED"))


def test_a_row_for_aprocess_against_a_cancellation(make_queue, loops, witness, rounds):
    """Cancelled while it waits, it has not begun, and the row is put back; at work, its operations are cancelled."""
    unseen = {"cancelled while waiting", "cancelled at work", "finished"}

    def round_(spin):
        queue = make_queue()
        ops = []
        begun = []

        async def work(row):
            begun.extend(row)
            # Where it can be cancelled, too.
            await turns(2)
            row.finish_all("worked")

        async def consume(meeting):
            (task,) = await parked_consumers(queue, 1, lambda: queue.aprocess(work))
            cancelled = await cancel(task, meeting, spin)
            assert cancelled or task.result() is True
            return cancelled

        cancelled = against(loops[0], consume, lambda: ops.extend(put(queue, "k")), spin)
        (op,) = ops
        if not begun:
            assert cancelled
            assert not op.done()
            assert ops_of(take_all(queue)) == ops
        else:
            assert begun == ops
            if cancelled:
                assert type(op.exception(0)) is OpCancelledError
            else:
                assert op.result(0) == "worked"
            assert queue.stats().owned == 0
        assert balanced(queue, op)
        unseen.discard("finished" if not cancelled else "cancelled at work" if begun else "cancelled while waiting")
        return bool(begun)

    race(True, False, round_, 30 * rounds, lambda: [*witness.unseen("ROW_PUT_BACK", "DELIVERED"), *unseen])


@pytest.mark.parametrize("call", CONSUMERS)
def test_a_hand_over_to_a_task_against_close(make_queue, loops, witness, rounds, call):
    def round_(spin):
        queue = make_queue()
        future = loops[0].submit(consume_by(queue, call))
        wait_consumers(queue, 1)

        def produce():
            spin(0)
            try:
                return [queue.submit("k")]
            except QueueClosedError:
                return []

        def close():
            spin(1)
            queue.close()

        accepted = run_both(produce, close)[0]
        assert future.result(HANG) == accepted
        assert balanced(queue, *accepted)
        return bool(accepted)

    race(True, False, round_, 30 * rounds, lambda: witness.unseen("ROW_PROMISED", "DELIVERED"))


@pytest.mark.parametrize("call", [*CONSUMERS, *PRODUCERS])
def test_close_against_the_cancellation_of_a_task(make_queue, loops, witness, rounds, call):
    """Whichever ends it, it has taken nothing and added nothing."""

    def round_(spin):
        queue = make_queue(1, None)
        produces = call in PRODUCERS
        before = put(queue, "old") if produces else []
        op = make_queue.impl.Op("new")

        async def wait(meeting):
            awaited = produce_by(queue, call, op) if produces else consume_by(queue, call)
            task = asyncio.ensure_future(awaited)
            await wait_parked(queue, **{"producers" if produces else "consumers": 1})
            if await cancel(task, meeting, spin):
                return True
            assert type(task.exception()) is QueueClosedError if produces else task.result() == []
            return False

        cancelled = against(loops[0], wait, queue.close, spin)
        assert ops_of(take_all(queue)) == before
        assert balanced(queue, *before)
        return cancelled

    race(False, True, round_, 30 * rounds, lambda: witness.unseen("DELIVERED"))


def test_a_hand_over_against_the_timeout_of_a_task(make_queue, loops, witness, rounds):
    """Cancelled by ``asyncio.timeout``: it has the row, or the queue has."""

    def round_(spin):
        queue = make_queue()

        async def consume(meeting):
            meeting.wait(1)
            spin(1)
            try:
                async with asyncio.timeout(0.0003):
                    row = await queue.adequeue()
                    row.release()
                    return row.key
            except TimeoutError:
                return None

        outcome = against(loops[0], consume, lambda: queue.submit("k"), spin)
        assert [row.key for row in take_all(queue)] == (["k"] if outcome is None else [])
        return outcome

    race("k", None, round_, 30 * rounds, lambda: witness.unseen("ROW_PROMISED"))


def test_a_release_against_a_cancellation(impl, loops, witness, rounds):
    def round_(spin):
        queue = impl.DedupeQueue(None, None)
        put(queue, "k")
        owned = queue.dequeue(0)
        put(queue, "k")

        async def consume(meeting):
            (task,) = await parked_consumers(queue, 1)
            return await cancel(task, meeting, spin) or task.result().key

        outcome = against(loops[0], consume, owned.release, spin)
        assert [row.key for row in take_all(queue)] == (["k"] if outcome is True else [])
        return outcome

    race("k", True, round_, 30 * rounds, lambda: witness.unseen("REQUEUED", "ROW_PUT_BACK"))


def test_a_flush_against_a_cancellation(impl, loops, witness, rounds):
    def round_(spin):
        queue = impl.OpWindow(None, None, 3600)
        put(queue, "k")

        async def consume(meeting):
            (task,) = await parked_consumers(queue, 1)
            return await cancel(task, meeting, spin) or task.result().key

        outcome = against(loops[0], consume, queue.flush, spin)
        assert [row.key for row in take_all(queue)] == (["k"] if outcome is True else [])
        return outcome

    race("k", True, round_, 30 * rounds, lambda: witness.unseen("WINDOW_ENDED", "ROW_PUT_BACK"))


def test_the_end_of_a_join_against_a_cancellation(make_queue, loops, witness, rounds):
    def round_(spin):
        queue = make_queue()
        put(queue, "k")

        async def join(meeting):
            task = asyncio.ensure_future(queue.ajoin())
            await turns()
            if await cancel(task, meeting, spin):
                return "cancelled"
            assert task.result() is True
            return "joined"

        outcome = against(loops[0], join, lambda: queue.dequeue(0).release(), spin)
        assert queue.join(0)
        return outcome

    race("joined", "cancelled", round_, 30 * rounds, lambda: witness.unseen("DELIVERED"))


@pytest.mark.parametrize("what", ["op", "group"])
def test_finish_against_the_cancellation_of_who_awaits(impl, loops, witness, rounds, what):
    """The awaiter is cancelled, or has the result; the operation is finished either way."""

    def round_(spin):
        group = impl.CallGroup()
        op = group.add(1)

        async def wait(meeting):
            async def awaiter():
                return await (op if what == "op" else group)

            tasks = [asyncio.ensure_future(awaiter()) for _ in range(2)]
            await turns(2)
            cancelled = await cancel(tasks[0], meeting, spin)
            await asyncio.wait({tasks[1]}, timeout=HANG)
            # Nobody else is hurt.
            assert tasks[1].result() == 5 if what == "op" else len(tasks[1].result().responses) == 1
            return cancelled

        cancelled = against(loops[0], wait, lambda: op.finish(5), spin)
        assert op.result(0) == 5
        return cancelled

    race(False, True, round_, 30 * rounds, lambda: witness.unseen("DELIVERED"))


def test_rows_for_tasks_of_one_loop_come_with_one_delivery(make_queue, loops, witness, rounds):
    """Wake-ups that meet on their way to the loop: who comes second needs no call of its own."""

    def round_(spin):
        queue = make_queue()

        async def consume():
            return [row.key for row in await asyncio.gather(*tasks)]

        async def park():
            return await parked_consumers(queue, 2)

        tasks = loops[0].run(park())

        def produce(side):
            spin(side)
            queue.submit(side)

        run_both(lambda: produce(0), lambda: produce(1))
        got = loops[0].run(consume())
        assert sorted(got) == [0, 1]
        return got[0]

    race(0, 1, round_, 30 * rounds, lambda: witness.unseen("POSTED_TO_SCHEDULED", "DELIVERED"))


def test_a_hand_over_against_the_close_of_the_loop(make_queue, witness, rounds):
    """The loop goes with its task: whatever was on its way to it is there for the next."""

    def round_():
        queue = make_queue()
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)
        task = loop.create_task(consume(queue))
        while not queue.stats().consumers_waiting:
            run_once(loop)
        # In threads that end: without the GIL, what one thread has made and another drops is freed
        # when the first runs again, or ends; and it is being freed that a delivery notices.
        run_concurrently([lambda: queue.submit("k"), loop.close])
        # The one has found the loop closed, or the other has dropped what it was sent.
        row = queue.dequeue(HANG)
        assert row.key == "k"
        row.release()
        return task

    async def consume(queue):
        return await queue.adequeue()

    for _ in witness.until("RETURNED", rounds=30 * rounds):
        round_()


def test_two_loops_and_threads_in_one_line(make_queue, loops, witness, rounds):
    """Everybody gets one row, or has been cancelled; and no row is lost, or comes twice."""

    def round_():
        queue = make_queue()

        async def park(number):
            return await parked_consumers(queue, number)

        async def settle(tasks, cancelled):
            for task in cancelled:
                task.cancel()
            await asyncio.wait(tasks, timeout=HANG)
            return [task.result().key for task in tasks if not task.cancelled()]

        first = loops[0].run(park(2))
        threads = [Worker(queue.dequeue, HANG)]
        wait_consumers(queue, 3)
        second = loops[1].run(park(2))
        threads.append(Worker(queue.dequeue, HANG))
        wait_consumers(queue, 6)

        def produce(start):
            for number in range(start, 6, 2):
                queue.submit(number)

        # Two of the four tasks leave while six rows come for six.
        leaving = [
            lambda: loops[0].run(settle(first, first[:1])),
            lambda: loops[1].run(settle(second, second[1:])),
        ]
        got = run_concurrently([lambda: produce(0), lambda: produce(1), *leaving])
        taken = got[2] + got[3] + [thread.result().key for thread in threads]
        assert sorted(taken + [row.key for row in take_all(queue)]) == list(range(6))

    for _ in witness.until("ROW_PASSED_ON", "ROW_PUT_BACK", "POSTED_TO_SCHEDULED", rounds=30 * rounds):
        round_()
