"""Calls that run into each other.

Each test repeats its race, with threads that change places as often as the interpreter can, until
every order of events has been seen and a number of rounds is done. An order that never occurs
within the time limit fails the test: it would prove nothing.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from helpers import GIL, HANG, Worker, put, run_concurrently, take_all, wait_consumers, wait_until

from inflight import (
    AlreadyFinishedError,
    GroupClosedError,
    OpAbandonedError,
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedError,
)

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")

LIMIT = 20.0
"""Seconds in which each order of events must have been seen; it takes milliseconds."""


def race(first: Any, second: Any, round_: Callable[[Callable[[int], None]], Any], rounds: int = 120) -> None:
    """Repeat a race of two sides until both of its outcomes have been seen, and some rounds are done.

    ``first`` is the outcome where side 0 was first. ``round_(spin)`` returns the outcome; each side
    calls ``spin(side)`` before it acts, which holds back the side that was first lately.
    """
    seen: Counter[Any] = Counter()
    lead = 0

    def spin(side: int) -> None:
        # By work and not by sleep, which is much too coarse.
        for _ in range(lead if side == 0 else -lead):
            pass

    end = time.monotonic() + LIMIT
    while sum(seen.values()) < rounds or len(seen) < 2:
        assert time.monotonic() < end, f"only {dict(seen)} of {first!r}, {second!r}"
        outcome = round_(spin)
        assert outcome in (first, second)
        seen[outcome] += 1
        step = random.randrange(50 + abs(lead) // 2)
        lead = max(-100_000, min(lead + (step if outcome == first else -step), 100_000))


def test_finish_against_finish(impl):
    def round_(spin):
        op = impl.Op(1)
        calls = []
        op.add_done_callback(calls.append)

        def finish(side):
            spin(side)
            return op.try_finish(side)

        won = run_concurrently([lambda: finish(0), lambda: finish(1)])
        assert sorted(won) == [False, True]
        assert won[op.result(0)]
        assert calls == [op]
        return op.result(0)

    race(0, 1, round_)


def test_many_finishers_of_many_operations(impl):
    ops = [impl.Op(number) for number in range(2000)]

    def finish(me):
        won = 0
        for op in ops:
            try:
                op.finish(me)
                won += 1
            except AlreadyFinishedError:
                pass
        return won

    won = run_concurrently([lambda me=me: finish(me) for me in range(4)])
    assert sum(won) == len(ops)
    assert Counter(op.result(0) for op in ops) == Counter({me: number for me, number in enumerate(won) if number})


def test_finish_against_add_done_callback(impl):
    def round_(spin):
        op = impl.Op(1)
        calls = []

        def finish():
            spin(0)
            op.finish()
            return threading.get_ident()

        def add():
            spin(1)
            op.add_done_callback(lambda op: calls.append(threading.get_ident()))
            return threading.get_ident()

        finisher, adder = run_concurrently([finish, add])
        assert len(calls) == 1
        assert calls[0] in (finisher, adder)
        return "finished last" if calls[0] == finisher else "added last"

    race("added last", "finished last", round_)


def test_finish_against_result(impl):
    def round_(spin):
        op = impl.Op(1)

        def wait():
            spin(0)
            early = op.done()
            assert op.result(HANG) == 5
            return early

        def finish():
            spin(1)
            op.finish(5)

        return run_concurrently([wait, finish])[0]

    race(False, True, round_)


def test_finish_against_a_result_that_times_out(impl):
    def round_(spin):
        op = impl.Op(1)

        def wait():
            spin(1)
            try:
                return op.result(0.0002)
            except TimeoutError:
                return "timeout"

        def finish():
            spin(0)
            op.finish("result")

        answer = run_concurrently([wait, finish])[0]
        assert op.result(0) == "result"
        return answer

    race("result", "timeout", round_)


def test_add_against_the_last_finish(impl):
    def round_(spin):
        calls = []
        group = impl.CallGroup(calls.append)
        op = group.add(1)

        def finish():
            spin(0)
            op.finish()

        def add():
            spin(1)
            try:
                return group.add(2)
            except GroupClosedError:
                return None

        added = run_concurrently([finish, add])[1]
        assert len(calls) == (1 if added is None else 0)
        if added is not None:
            added.finish()
        assert len(calls) == 1
        assert len(calls[0].responses) == len(group)
        return added is None

    race(True, False, round_)


def test_add_against_seal(impl):
    def round_(spin):
        calls = []
        group = impl.CallGroup(calls.append)

        def seal():
            spin(0)
            group.seal()

        def add():
            spin(1)
            try:
                return group.add(2)
            except GroupClosedError:
                return None

        added = run_concurrently([seal, add])[1]
        if added is not None:
            assert not calls
            added.finish()
        assert len(calls) == 1
        return added is None

    race(True, False, round_)


def test_seal_against_the_last_finish(impl):
    def round_(spin):
        calls = []
        group = impl.CallGroup(lambda results: calls.append(threading.get_ident()))
        with group:
            op = group.add(1)

            def finish():
                spin(0)
                op.finish()
                return threading.get_ident()

            # The main thread leaves the block while the worker finishes.
            worker = Worker(finish)
            spin(1)
        finisher = worker.result()
        group.result(HANG)
        assert len(calls) == 1
        return "worker" if calls[0] == finisher else "block"

    race("block", "worker", round_)


def test_many_adders_and_finishers_complete_once(impl):
    calls = []
    group = impl.CallGroup(calls.append)
    total = 400

    def add_and_finish(me):
        with group:
            for number in range(total):
                group.add((me, number)).finish(me)

    with group:
        run_concurrently([lambda me=me: add_and_finish(me) for me in range(4)])
        assert group.outstanding == 0
        assert not calls
    assert len(calls) == 1
    assert len(calls[0].responses) == 4 * total
    assert Counter(response.result for response in calls[0].responses) == dict.fromkeys(range(4), total)


def test_drop_against_finish(impl):
    """Operations of one group are finished in one thread while others are dropped in another."""
    for _ in range(20):
        calls = []
        group = impl.CallGroup(calls.append)
        with group:
            finished = group.add_many((number, None) for number in range(50))
            dropped = group.add_many((number, None) for number in range(50))

        def finish(finished=finished):
            for op in finished:
                op.finish()

        run_concurrently([finish, dropped.clear])
        group.result(HANG)
        assert len(calls) == 1
        assert len(calls[0].responses) == 100
        assert [type(error) for error in calls[0].errors] == [OpAbandonedError] * 50


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


def test_enqueue_against_a_dequeue_that_times_out(make_queue):
    def round_(spin):
        queue = make_queue()

        def consume():
            spin(1)
            try:
                return queue.dequeue(0.0002).key
            except QueueEmptyError:
                return None

        def produce():
            spin(0)
            queue.submit("k")

        taken = run_concurrently([consume, produce])[0]
        left = [row.key for row in take_all(queue)]
        assert left == (["k"] if taken is None else [])
        return taken is None

    race(False, True, round_)


def test_dequeue_against_an_enqueue_that_times_out(make_queue):
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
            queue.dequeue(0).release()

        accepted = run_concurrently([produce, consume])[0]
        assert [row.key for row in take_all(queue)] == (["new"] if accepted else [])
        # No slot stays reserved for a producer that has gone.
        put(queue, "next")
        assert len(take_all(queue)) == 1
        return accepted

    race(True, False, round_)


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
    run_concurrently([lambda: produce(0), lambda: produce(1)])
    done.set()
    results = [worker.result() for worker in consumers]
    assert sorted(key for taken, _ in results for key in taken) == list(range(total))
    assert sum(gave_up for _, gave_up in results) > 0


def test_close_against_dequeue(make_queue):
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

        return run_concurrently([consume, close])[0]

    race(False, True, round_)


def test_close_against_enqueue(make_queue):
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

        accepted = run_concurrently([produce, close])[0]
        assert len(take_all(queue)) == accepted
        with pytest.raises(QueueClosedError):
            queue.dequeue()
        return accepted

    race(True, False, round_)


def test_close_against_a_waiting_producer_and_a_consumer(make_queue):
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

    race(False, True, round_)


@pytest.mark.parametrize("window", [0, 0.0005])
def test_release_against_enqueue(impl, window):
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

        run_concurrently([release, produce])
        again = queue.dequeue(HANG)
        assert [op.msg for op in again] == ["new"]
        again.release()
        assert queue.join(0)
        return queue.stats().requeued

    race(0, 1, round_)


def test_release_against_release(impl):
    for _ in range(100):
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
                # Time for the key to come again.
                queue.stats()
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


def test_drain_against_dequeue(make_queue):
    def round_(spin):
        queue = make_queue()
        put(queue, *range(20))

        def drain():
            spin(0)
            return [row.key for row in queue.drain()]

        def dequeue():
            spin(1)
            return [row.key for row in take_all(queue)]

        drained, dequeued = run_concurrently([drain, dequeue])
        assert sorted(drained + dequeued) == list(range(20))
        return bool(drained)

    race(True, False, round_)


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


def test_flush_against_the_end_of_a_window(impl):
    def round_(spin):
        queue = impl.OpWindow(None, None, 0.002)
        put(queue, "a")

        def flush():
            spin(0)
            return queue.flush()

        flushed, row = run_concurrently([flush, lambda: queue.dequeue(HANG)])
        assert row.key == "a"
        assert take_all(queue) == []
        return flushed

    race(1, 0, round_)


def test_the_filling_operation_against_the_end_of_a_window(impl):
    def round_(spin):
        queue = impl.OpWindow(None, 2, 0.002)
        put(queue, "a")

        def fill():
            spin(0)
            queue.submit("a")

        row = run_concurrently([lambda: queue.dequeue(HANG), fill])[0]
        rest = queue.drain()
        assert len(row) + sum(map(len, rest)) == 2
        return len(row)

    race(2, 1, round_)


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


def test_join_against_consumers(make_queue):
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

        return run_concurrently([consume, join])[1]

    race(True, False, round_)


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


def test_invariants_hold_under_fire(make_queue):
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
                queue._check()
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
