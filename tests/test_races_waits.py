"""Queues: calls that wait, and what ends their waits, run into each other, on threads.

See racing.py: each race is repeated until every order of events has been seen, and until it has been
counted (witness.py) that the two met. An order that never occurs within the time limit fails the test:
it would prove nothing.
"""

from __future__ import annotations

import random
import threading

import pytest
from helpers import (
    HANG,
    Worker,
    key_if_accepted,
    key_of_next,
    keys,
    put,
    run_concurrently,
    take_all,
    wait_consumers,
    wait_producers,
    wait_until,
)
from racing import race, run_both

from inflight import (
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedError,
)

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")


def test_enqueue_against_a_dequeue_that_times_out(make_queue, witness, rounds):
    def round_(spin):
        queue = make_queue()

        def consume():
            spin(1)
            return key_of_next(queue, 0.0002)

        def produce():
            spin(0)
            queue.submit("k")

        taken = run_both(consume, produce)[0]
        left = [row.key for row in take_all(queue)]
        assert left == (["k"] if taken is None else [])
        return taken is None

    race(False, True, round_, 120 * rounds, lambda: witness.unseen("ROW_PROMISED", "ROW_TAKEN_UNWOKEN"))


@pytest.mark.parametrize(
    "take", [lambda queue: [queue.dequeue(0)], lambda queue: queue.drain()], ids=["dequeue", "drain"]
)
def test_dequeue_against_an_enqueue_that_times_out(make_queue, witness, rounds, take):
    def round_(spin):
        queue = make_queue(1, None)
        put(queue, "old")

        def produce():
            spin(1)
            try:
                queue.submit("new", timeout=0.0002)
                return True
            except QueueSaturatedDepthError:
                return False

        def consume():
            spin(0)
            for row in take(queue):
                row.release()

        accepted = run_both(produce, consume)[0]
        assert [row.key for row in take_all(queue)] == (["new"] if accepted else [])
        # No slot stays reserved for a producer that has gone.
        put(queue, "next")
        assert len(take_all(queue)) == 1
        return accepted

    race(True, False, round_, 120 * rounds, lambda: witness.unseen("SLOT_PROMISED", "SLOT_USED_UNWOKEN"))


def against_one_in_line(waits, acts, waiting):
    """Run ``waits()``, which gets in line, and ``acts()`` once ``waiting()`` says that it has, or it has ended."""
    ended = threading.Event()

    def first():
        try:
            return waits()
        finally:
            ended.set()

    def second():
        while not (waiting() or ended.is_set()):
            pass
        return acts()

    return run_both(first, second)


def test_drain_against_a_consumer_that_times_out(make_queue, witness, rounds):
    def round_(spin):
        queue = make_queue()

        def produce():
            spin(0)
            queue.submit("k")
            return keys(queue.drain())

        taken, drained = against_one_in_line(
            lambda: key_of_next(queue, 0.002), produce, lambda: queue.stats().consumers_waiting
        )
        # What is promised to the consumer is not drained; and it does not give up what it was promised.
        assert (taken, drained) in [("k", []), (None, ["k"])]
        return taken is None

    race(False, True, round_, 120 * rounds, lambda: witness.unseen("ROW_PROMISED"))


def test_a_newcomer_against_a_producer_that_times_out(make_queue, witness, rounds):
    def round_(spin):
        queue = make_queue(1, None)
        put(queue, "old")

        def produce(key, timeout):
            try:
                queue.submit(key, timeout=timeout)
                return True
            except QueueSaturatedDepthError:
                return False

        def consume():
            spin(0)
            queue.dequeue(0).release()
            return produce("newcomer", 0)

        accepted, newcomer = against_one_in_line(
            lambda: produce("first", 0.002), consume, lambda: queue.stats().producers_waiting
        )
        # The free place is promised to the first; and it does not give up what it was promised.
        assert accepted != newcomer
        assert keys(take_all(queue)) == ["first" if accepted else "newcomer"]
        return newcomer

    race(False, True, round_, 120 * rounds, lambda: witness.unseen("SLOT_PROMISED"))


def test_consumers_that_time_out_lose_nothing(make_queue):
    queue = make_queue()
    total = 1000
    done = threading.Event()

    def consume():
        taken = []
        gave_up = 0
        while True:
            try:
                row = queue.dequeue(random.random() * 0.001)
            except QueueEmptyError:
                gave_up += 1
                if done.is_set() and not len(queue):
                    return taken, gave_up
            else:
                with row:
                    taken.append(row.key)

    def produce(start):
        for number in range(start, total, 2):
            queue.submit(number)
            if number % 10 == 0:
                # Lets the consumers run into their timeouts.
                wait_until(lambda: queue.stats().keys == 0)

    consumers = [Worker(consume) for _ in range(3)]
    run_both(lambda: produce(0), lambda: produce(1))
    done.set()
    results = [worker.result() for worker in consumers]
    assert sorted(key for taken, _ in results for key in taken) == list(range(total))
    assert sum(gave_up for _, gave_up in results) > 0


def test_close_against_a_waiting_producer_and_a_consumer(make_queue, witness, rounds):
    def round_(spin):
        queue = make_queue(1, None)
        put(queue, "old")

        def produce():
            try:
                queue.submit("new", timeout=HANG)
                return True
            except QueueClosedError:
                return False

        def close():
            spin(0)
            queue.close()

        def consume():
            spin(1)
            queue.dequeue(HANG).release()

        accepted = run_concurrently([produce, close, consume])[0]
        assert [row.key for row in take_all(queue)] == (["new"] if accepted else [])
        with pytest.raises(QueueClosedError):
            queue.dequeue()
        return accepted

    race(False, True, round_, 120 * rounds, lambda: witness.unseen("SLOT_PROMISED", "SLOT_USED"))


def test_join_against_consumers(make_queue, witness, rounds):
    def round_(spin):
        queue = make_queue()
        put(queue, 1, 2)

        def consume():
            spin(0)
            for _ in range(2):
                queue.dequeue(0).release()

        def join():
            spin(1)
            early = queue.join(0)
            assert queue.join(HANG)
            assert len(queue) == 0
            return early

        return run_both(consume, join)[1]

    race(True, False, round_, 120 * rounds, lambda: witness.unseen("PARKED"))


def test_flush_against_the_end_of_a_window(impl, witness, rounds):
    def round_(spin):
        queue = impl.OpWindow(None, None, 0.002)
        put(queue, "a")

        def flush():
            spin(0)
            return queue.flush()

        flushed, row = run_both(flush, lambda: queue.dequeue(HANG))
        assert row.key == "a"
        assert take_all(queue) == []
        return flushed

    race(1, 0, round_, 120 * rounds, lambda: witness.unseen("WINDOW_OVER", "ROW_PROMISED"))


def test_the_filling_operation_against_the_end_of_a_window(impl, witness, rounds):
    def round_(spin):
        queue = impl.OpWindow(None, 2, 0.002)
        put(queue, "a")

        def fill():
            spin(0)
            queue.submit("a")

        row = run_both(lambda: queue.dequeue(HANG), fill)[0]
        rest = queue.drain()
        assert len(row) + sum(map(len, rest)) == 2
        return len(row)

    race(2, 1, round_, 120 * rounds, lambda: witness.unseen("WINDOW_OVER"))


def test_windows_under_fire(impl):
    queue = impl.OpWindow(50, 3, 0.0003)
    total = 600

    def produce(me):
        for number in range(total):
            while True:
                try:
                    queue.submit(number % 7, (me, number), timeout=HANG)
                    break
                except QueueSaturatedError:
                    wait_until(lambda: number % 7 not in queue)  # noqa: B023

    def consume():
        return [op.msg for row in queue for op in row]

    consumers = [Worker(consume) for _ in range(3)]
    run_concurrently([lambda me=me: produce(me) for me in range(2)])
    queue.close()
    ops = [op for worker in consumers for op in worker.result()]
    assert len(ops) == len(set(ops)) == 2 * total


def test_a_hand_over_against_close(make_queue, witness, rounds):
    def round_(spin):
        queue = make_queue()

        def consume():
            try:
                return queue.dequeue(HANG).key
            except QueueClosedError:
                return None

        consumer = Worker(consume)
        wait_consumers(queue, 1)

        def produce():
            spin(0)
            return key_if_accepted(queue, "k")

        def close():
            spin(1)
            queue.close()

        accepted = run_both(produce, close)[0]
        assert consumer.result() == accepted
        return accepted

    race("k", None, round_, 30 * rounds, lambda: witness.unseen("ROW_PROMISED", "PARKED"))


def test_a_hand_over_against_the_leaving_of_who_is_first_in_line(make_queue, witness, rounds):
    """The row is for who was first, unless that one has timed out: then it is for the next."""

    def round_(spin):
        queue = make_queue()
        gone = []

        def leave():
            try:
                return key_of_next(queue, 0.0005)
            finally:
                gone.append(True)

        def produce():
            while not gone and not queue.stats().consumers_waiting:
                pass
            stayer = Worker(lambda: queue.dequeue(HANG).key)
            spin(0)
            queue.submit(1)
            return stayer

        first, stayer = run_both(leave, produce)
        if first is not None:
            queue.submit(2)
        assert (first, stayer.result()) in ((1, 2), (None, 1))
        assert take_all(queue) == []
        return first

    race(1, None, round_, 30 * rounds, lambda: witness.unseen("ROW_PROMISED", "PARKED"))


def test_a_promised_slot_against_close(make_queue, witness, rounds):
    """A producer that was promised the place uses it, or finds the queue closed and gives it up."""

    def round_(spin):
        queue = make_queue(1, None)
        put(queue, "old")

        def produce():
            try:
                queue.submit("new", timeout=HANG)
                return True
            except QueueClosedError:
                return False

        producer = Worker(produce)
        wait_producers(queue, 1)

        def consume():
            spin(0)
            queue.dequeue(0).release()

        def close():
            spin(1)
            queue.close()

        run_both(consume, close)
        accepted = producer.result()
        assert [row.key for row in take_all(queue)] == (["new"] if accepted else [])
        return accepted

    race(True, False, round_, 30 * rounds, lambda: witness.unseen("SLOT_USED", "SLOT_GIVEN_UP"))


def test_a_promised_slot_against_the_same_key(impl, witness, rounds):
    """A waiting producer whose key comes to wait meanwhile merges, and leaves its slot to the next."""
    for _ in witness.until("SLOT_PROMISED", "SLOT_USED", "SLOT_GIVEN_UP", rounds=30 * rounds):
        queue = impl.OpQueue(2, None)
        put(queue, "one", "two")
        producers = [Worker(queue.submit, key, timeout=HANG) for key in ("key", "key", "other")]
        wait_producers(queue, 3)
        run_both(lambda queue=queue: queue.dequeue(0), lambda queue=queue: queue.dequeue(0))
        # "key" takes one place, "other" the next, whoever of them comes first.
        for producer in producers:
            producer.result()
        assert {row.key: len(row) for row in take_all(queue)} == {"key": 2, "other": 1}


def test_an_operation_merges_into_a_row_that_is_promised(make_queue, witness, rounds):
    """A row that was handed over merges until its consumer runs."""

    def round_(spin):
        queue = make_queue()
        consumer = Worker(queue.dequeue, HANG)
        wait_consumers(queue, 1)

        def produce(side):
            spin(side)
            queue.submit("k", side)

        run_both(lambda: produce(0), lambda: produce(1))
        row = consumer.result()
        first = row[0].msg
        row.release()
        rest = [op.msg for row in take_all(queue) for op in row]
        assert sorted([op.msg for op in row] + rest) == [0, 1]
        return first

    race(0, 1, round_, 30 * rounds, lambda: witness.unseen("ROW_PROMISED", "MERGED_INTO_PROMISED"))


@pytest.mark.parametrize("exclusive", [False, True])
def test_flush_against_a_dequeue_that_times_out(impl, witness, rounds, exclusive):
    def round_(spin):
        queue = impl.OpWindow(None, None, 3600, exclusive=exclusive)
        put(queue, "k")

        def consume():
            spin(1)
            return key_of_next(queue, 0.0002)

        def flush():
            spin(0)
            assert queue.flush() == 1

        taken = run_both(consume, flush)[0]
        assert [row.key for row in take_all(queue)] == (["k"] if taken is None else [])
        return taken

    race("k", None, round_, 120 * rounds, lambda: witness.unseen("ROW_PROMISED", "ROW_TAKEN_UNWOKEN"))


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_end_of_a_window_against_a_dequeue_that_times_out(impl, witness, rounds, exclusive):
    """Who keeps the time for a row times out itself at about that time."""

    def round_(spin):
        queue = impl.OpWindow(None, None, 0.0005, exclusive=exclusive)

        def consume():
            spin(1)
            return key_of_next(queue, 0.0005)

        def produce():
            spin(0)
            queue.submit("k")

        taken = run_both(consume, produce)[0]
        if taken is None:
            assert queue.dequeue(HANG).key == "k"
        assert take_all(queue) == []
        return taken

    race("k", None, round_, 30 * rounds, lambda: witness.unseen("WINDOW_OVER", "PARKED"))


def test_release_against_a_dequeue_that_times_out(impl, witness, rounds):
    def round_(spin):
        queue = impl.DedupeQueue(None, None)
        put(queue, "k")
        row = queue.dequeue(0)
        put(queue, "k")

        def consume():
            spin(1)
            return key_of_next(queue, 0.0002)

        def release():
            spin(0)
            row.release()

        taken = run_both(consume, release)[0]
        assert [row.key for row in take_all(queue)] == (["k"] if taken is None else [])
        return taken

    race("k", None, round_, 120 * rounds, lambda: witness.unseen("REQUEUED", "ROW_PROMISED", "ROW_TAKEN_UNWOKEN"))


def test_join_against_enqueue_and_release(impl, witness, rounds):
    """Who joins returns once the queue was empty, and not before, whatever has come since."""

    def round_(spin):
        queue = impl.DedupeQueue(None, None)
        put(queue, "old")
        row = queue.dequeue(0)
        joiner = Worker(queue.join, HANG)

        def produce():
            spin(0)
            queue.submit("new")

        def release():
            spin(1)
            row.release()

        run_both(produce, release)
        left = take_all(queue)
        assert [row.key for row in left] == ["new"]
        for row in left:
            row.release()
        assert joiner.result() is True

    for _ in witness.until("PARKED", rounds=30 * rounds):
        round_(lambda side: None)


def test_the_last_release_against_a_join_that_times_out(make_queue, witness, rounds):
    def round_(spin):
        queue = make_queue()
        put(queue, "k")

        def join():
            spin(1)
            return queue.join(0.0002)

        def consume():
            spin(0)
            queue.dequeue(0).release()

        joined = run_both(join, consume)[0]
        assert queue.join(0)
        return joined

    race(True, False, round_, 120 * rounds, lambda: witness.unseen("PARKED"))


def test_the_index_moves_its_rows_while_others_look_for_them(make_queue, witness, rounds):
    total = 3000
    for _ in witness.until("ROWS_MOVED", rounds=rounds):
        queue = make_queue()

        def produce(me, queue=queue):
            for number in range(me, total, 2):
                queue.submit(number)
                assert number in queue

        run_both(lambda: produce(0), lambda: produce(1))
        assert len(queue) == total
        rows = run_concurrently([lambda queue=queue: [row.key for row in take_all(queue)]] * 2)
        assert sorted(rows[0] + rows[1]) == list(range(total))
