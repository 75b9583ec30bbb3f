"""A signal handler may use what it interrupts.

Each test is a script of its own: what goes wrong here hangs the main thread.
"""

from __future__ import annotations

import sys

import pytest
from signal_tools import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


WAITS = {
    "dequeue": ("queue.dequeue().key == 'new'", "queue.submit('new')"),
    "dequeue_many": ("[row.key for row in queue.dequeue_many(3)] == ['new']", "queue.submit('new')"),
    "join": ("full.join() is True", "full.dequeue(0).release()"),
    "enqueue": ("full.enqueue('b', Op('b'), timeout=None) is None", "full.dequeue(0)"),
    "submit": ("full.submit('b', timeout=None).key == 'b'", "full.dequeue(0)"),
    "op": ("op.result() == 5", "op.finish(5)"),
    "group": ("group.result()[1].result == 5", "op.finish(5)"),
    "close": ("list(queue) == []", "queue.close()"),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_handler_may_end_the_wait_that_it_interrupts(impl, wait):
    condition, action = WAITS[wait]
    run(
        impl,
        f"""
        queue = OpQueue(None, None)
        full = DedupeQueue(1, None)
        full.submit("a")
        group = CallGroup()
        op = group.add(1)
        on_alarm(lambda: {action}, 0.05)
        assert {condition}
        check_invariants(queue)
        check_invariants(full)
        """,
    )


@pytest.mark.parametrize("kind", ["OpQueue", "DedupeQueue", "OpWindow"])
def test_a_signal_handler_may_use_the_queue_that_it_interrupts(impl, kind):
    run(
        impl,
        f"""
        warnings.simplefilter("ignore", ResourceWarning)
        calls = 0
        taken = []
        accepted = []

        def take(row):
            taken.extend(op.msg for op in row)
            row.release()

        def handler():
            global calls
            calls += 1
            accepted.append(queue.submit(calls % 11, ("handler", calls)).msg)
            len(queue), calls % 11 in queue, repr(queue), queue.stats(), queue.flush()
            queue.enqueue_many([Op(calls % 5)])
            if calls % 3 == 0:
                try:
                    take(queue.dequeue(0))
                except QueueEmptyError:
                    pass
            if calls % 50 == 0:
                for row in queue.drain():
                    take(row)

        queue = QUEUES[{kind!r}](None)
        on_alarm(handler, 0.001, 0.0002)
        end = time.monotonic() + 1.0
        number = 0
        while time.monotonic() < end:
            number += 1
            accepted.append(queue.submit(number % 13, ("main", number)).msg)
            if number % 2:
                queue.flush(number % 13)
                try:
                    take(queue.dequeue(0))
                except QueueEmptyError:
                    pass
        stop_alarm()
        check_invariants(queue)
        queue.close()
        while True:
            try:
                take(queue.dequeue(5))
            except QueueClosedError:
                break
        assert calls > 20, calls
        named = [each for each in taken if each is not None]
        assert len(named) == len(set(named))
        assert set(named) == set(accepted)
        assert len(taken) == len(accepted) + calls
        stats = queue.stats()
        assert (stats.enqueued, stats.dequeued_ops) == (len(taken), len(taken))
        check_invariants(queue)
        """,
    )


def test_a_signal_handler_may_use_a_bounded_queue_that_it_interrupts(impl):
    run(
        impl,
        """
        calls = 0
        taken = []
        accepted = 0

        def put(key):
            global accepted
            try:
                queue.submit(key)
            except QueueSaturatedError:
                return
            accepted += 1

        def handler():
            global calls
            calls += 1
            put(calls % 9)
            put(calls % 7)

        queue = OpQueue(3, 2)
        # Statements of the main thread that count are not atomic: both count in their own variables.
        on_alarm(handler, 0.001, 0.0002)
        end = time.monotonic() + 1.0
        number = mine = 0
        while time.monotonic() < end:
            number += 1
            try:
                queue.submit(number % 5)
                mine += 1
            except QueueSaturatedError:
                pass
            try:
                taken.append(len(queue.dequeue(0)))
            except QueueEmptyError:
                pass
            assert len(queue) <= 4
        stop_alarm()
        taken.extend(len(row) for row in queue.drain())
        assert calls > 20, calls
        assert sum(taken) == accepted + mine
        check_invariants(queue)
        """,
    )


def test_a_signal_handler_may_use_the_group_and_operations_that_it_interrupts(impl):
    run(
        impl,
        """
        calls = 0
        completed = []
        late = []

        def handler():
            global calls
            calls += 1
            group, op = current
            try:
                group.add(("handler", calls)).finish()
            except GroupClosedError:
                pass
            op.try_finish("handler")
            op.add_done_callback(late.append)
            group.outstanding, len(group), group.done(), repr(group), repr(op)
            with_reducer = CallGroup(lambda results: None)
            with_reducer.seal()

        current = CallGroup(), Op(0)
        on_alarm(handler, 0.001, 0.0002)
        end = time.monotonic() + 1.0
        rounds = 0
        winners = set()
        while time.monotonic() < end:
            rounds += 1
            group = CallGroup(completed.append)
            with group:
                op = group.add(rounds)
                current = group, op
                op.try_finish("main")
            assert group.done()
            winners.add(op.result(0))
            assert len(completed) == rounds
            assert len(completed[-1].responses) == len(group)
        stop_alarm()
        assert calls > 20, calls
        assert len(late) == calls
        """,
    )
