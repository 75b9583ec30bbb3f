"""Queues: calls that do not wait, and run into each other.

See racing.py: each race is repeated until every order of events has been seen, and until it has been
counted (witness.py) that the two met. An order that never occurs within the time limit fails the test:
it would prove nothing.
"""

from __future__ import annotations

import random
import threading
import time

import pytest
from helpers import GIL, HANG, Worker, of_proof_build, put, run_concurrently, take_all, wait_consumers
from racing import LIMIT, race, run_both

from inflight import (
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedError,
)
from inflight._invariants import check_invariants

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")


def test_enqueue_against_dequeue(make_queue):
    total, sides = 1500, 3
    queue = make_queue(8, 4)
    accepted = [0] * sides

    def produce(me):
        for number in range(total):
            try:
                queue.submit(number % 20, (me, number), timeout=HANG if number % 3 else 0)
                accepted[me] += 1
            except QueueSaturatedError:
                pass

    def consume():
        ops = []
        rows = 0
        for row in queue:
            with row:
                ops.extend(op.msg for op in row)
                rows += 1
        return ops, rows

    consumers = [Worker(consume) for _ in range(sides)]
    # All consumers park first: the race is on from the first row.
    wait_consumers(queue, sides)
    run_concurrently([lambda me=me: produce(me) for me in range(sides)])
    queue.close()
    taken = [worker.result() for worker in consumers]
    ops = [op for ops, _ in taken for op in ops]
    assert len(ops) == len(set(ops)) == sum(accepted)
    for me in range(sides):
        assert sum(op[0] == me for op in ops) == accepted[me]
    stats = queue.stats()
    assert stats.enqueued == stats.dequeued_ops == len(ops)
    assert stats.dequeued_rows == sum(rows for _, rows in taken)
    assert (stats.keys, stats.ops, stats.owned) == (0, 0, 0)
    assert (stats.consumers_waiting, stats.producers_waiting) == (0, 0)


def test_close_against_dequeue(make_queue, rounds):
    def round_(spin):
        queue = make_queue()
        put(queue, 1)

        def consume():
            spin(0)
            closed = queue.closed
            with queue.dequeue(HANG) as row:
                assert row.key == 1
            with pytest.raises(QueueClosedError):
                queue.dequeue(HANG)
            return closed

        def close():
            spin(1)
            queue.close()

        return run_both(consume, close)[0]

    race(False, True, round_, 120 * rounds)


def test_close_against_enqueue(make_queue, rounds):
    def round_(spin):
        queue = make_queue()

        def produce():
            spin(0)
            try:
                queue.submit(1)
                return True
            except QueueClosedError:
                return False

        def close():
            spin(1)
            queue.close()

        accepted = run_both(produce, close)[0]
        assert len(take_all(queue)) == accepted
        with pytest.raises(QueueClosedError):
            queue.dequeue()
        return accepted

    race(True, False, round_, 120 * rounds)


@pytest.mark.parametrize("window", [0, 0.0005])
def test_release_against_enqueue(impl, window, witness, rounds):
    def round_(spin):
        queue = impl.DedupeQueue(None, None, window=window)
        put(queue, "a")
        row = queue.dequeue(HANG)

        def release():
            spin(0)
            row.release()

        def produce():
            spin(1)
            queue.submit("a", "new")

        run_both(release, produce)
        again = queue.dequeue(HANG)
        assert [op.msg for op in again] == ["new"]
        again.release()
        assert queue.join(0)
        return queue.stats().requeued

    race(0, 1, round_, 120 * rounds, lambda: witness.unseen("REQUEUED"))


# Where everything is slow, three threads do not meet within ten instructions.
@pytest.mark.parametrize("events", [(), pytest.param(("LOCK_CONTENDED",), marks=pytest.mark.instrumented)])
def test_release_against_release(impl, witness, rounds, events):
    for _ in witness.until(*events, rounds=100 * rounds):
        queue = impl.DedupeQueue(None, None)
        put(queue, "a")
        row = queue.dequeue(0)
        put(queue, "a")
        run_concurrently([row.release] * 3)
        assert queue.stats().requeued == 1
        assert queue.dequeue(0).key == "a"


@pytest.mark.parametrize("window", [0, 0.0005])
def test_a_key_is_never_in_two_hands(impl, window):
    queue = impl.DedupeQueue(6, 20, window=window)
    busy = dict.fromkeys(range(5), 0)
    end = time.monotonic() + LIMIT

    def consume():
        ops = 0
        for row in queue:
            with row:
                busy[row.key] += 1
                assert busy[row.key] == 1
                ops += len(row)
                # Time for the key to come again, also where there is one processor for all.
                time.sleep(0)
                busy[row.key] -= 1
        return ops

    def produce(me):
        number = accepted = 0
        # Until keys have often come while they were owned.
        while queue.stats().requeued < 100:
            assert time.monotonic() < end
            number += 1
            try:
                queue.submit((number + me) % 5, timeout=HANG)
                accepted += 1
            except QueueSaturatedError:
                pass
        return accepted

    consumers = [Worker(consume) for _ in range(3)]
    accepted = run_concurrently([lambda me=me: produce(me) for me in range(3)])
    queue.close()
    assert sum(worker.result() for worker in consumers) == sum(accepted)
    assert queue.join(0)


def test_drain_against_dequeue(make_queue, rounds):
    def round_(spin):
        queue = make_queue()
        put(queue, *range(20))

        def drain():
            spin(0)
            return [row.key for row in queue.drain()]

        def dequeue():
            spin(1)
            return [row.key for row in take_all(queue)]

        drained, dequeued = run_both(drain, dequeue)
        assert sorted(drained + dequeued) == list(range(20))
        return bool(drained)

    race(True, False, round_, 120 * rounds)


def test_dequeue_many_against_dequeue(make_queue):
    queue = make_queue()
    total = 1000
    taken = []

    def one():
        for row in queue:
            with row:
                taken.append(row.key)

    def many():
        while True:
            try:
                rows = queue.dequeue_many(7, HANG)
            except QueueClosedError:
                return
            for row in rows:
                with row:
                    taken.append(row.key)

    workers = [Worker(one), Worker(many), Worker(many)]
    for start in range(0, total, 10):
        put(queue, *range(start, start + 10))
    queue.close()
    for worker in workers:
        worker.result()
    assert sorted(taken) == list(range(total))


def test_statistics_are_one_consistent_snapshot(make_queue):
    queue = make_queue(10, 3)
    stop = threading.Event()

    def produce():
        while not stop.is_set():
            queue.enqueue_many([queue_op(number) for number in range(12)])

    def consume():
        while not stop.is_set():
            for row in take_all(queue):
                row.release()

    def watch():
        try:
            states = set()
            end = time.monotonic() + LIMIT
            looks = 0
            while looks < 1000 or len(states) < 10:
                assert time.monotonic() < end
                looks += 1
                stats = queue.stats()
                assert stats.enqueued == stats.dequeued_ops + stats.ops
                assert stats.keys <= stats.ops
                assert stats.dequeued_rows <= stats.dequeued_ops
                assert 0 <= stats.keys <= 10
                states.add(stats)
        finally:
            stop.set()

    queue_op = make_queue.impl.Op
    run_concurrently([produce, produce, consume, watch])


def test_invariants_hold_under_fire(impl, make_queue):
    if impl.name == "native":
        of_proof_build("_check")
    queue = make_queue(5, 2)
    stop = threading.Event()

    def work(seed):
        random_ = random.Random(seed)
        while not stop.is_set():
            try:
                if random_.random() < 0.5:
                    queue.submit(random_.randrange(8), timeout=random_.choice([0, 0.0001]))
                else:
                    queue.dequeue(random_.choice([0, 0.0001])).release()
            except (QueueSaturatedError, QueueEmptyError):
                pass

    def check():
        try:
            for _ in range(300):
                check_invariants(queue)
        finally:
            stop.set()

    run_concurrently([lambda: work(1), lambda: work(2), lambda: work(3), check])


@pytest.mark.skipif(GIL, reason="for builds without the GIL: everything really at once")
def test_everything_at_once(make_queue):
    queue = make_queue(20, 5)
    group = make_queue.impl.CallGroup()
    total = 3000
    accepted = []

    def produce(me):
        count = 0
        for number in range(total):
            op = group.add((me, number))
            try:
                queue.enqueue(number % 30, op)
                count += 1
            except QueueSaturatedError:
                op.cancel()
        accepted.append(count)

    def consume():
        for row in queue:
            with row:
                row.finish_all(row.key)

    def look():
        for number in range(total):
            len(queue), number in queue, repr(queue), queue.stats(), repr(group), group.outstanding

    with group:
        consumers = [Worker(consume) for _ in range(2)]
        run_concurrently([lambda: produce(1), lambda: produce(2), look])
        queue.close()
        for worker in consumers:
            worker.result()
    results = group.result(HANG)
    assert len(results.responses) == 2 * total
    assert len(results.errors) == 2 * total - sum(accepted)
