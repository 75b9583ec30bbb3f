"""Interrupts again and again, at any instant, lose nothing.

Each test is a script of its own: what goes wrong here hangs the main thread.
"""

from __future__ import annotations

import sys

import pytest
from signal_tools import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.mark.parametrize("kind", ["OpQueue", "DedupeQueue"])
def test_interrupts_at_any_instant_of_a_wait_lose_nothing(impl, kind):
    """A row that was interrupted on its way to the caller's variable is dropped: its operations are abandoned."""
    run(
        impl,
        f"""
        warnings.simplefilter("ignore", ResourceWarning)
        # Without the GIL, finalizers of what other threads dropped may run while this one waits.
        sys.unraisablehook = lambda unraisable: None
        total = 4000
        interrupted = 0
        waiting = False

        def handler():
            global interrupted, waiting
            if waiting:
                # Once for each wait, so that no except clause below is interrupted.
                waiting = False
                interrupted += 1
                raise KeyboardInterrupt

        def produce():
            with group:
                for number in range(total):
                    queue.enqueue(number, group.add(number), timeout=20)
            queue.close()

        queue = QUEUES[{kind!r}](5)
        group = CallGroup()
        result = start(produce)
        on_alarm(handler, 0.001, 0.0003)
        finished = 0
        while True:
            row = None
            try:
                try:
                    waiting = True
                    row = queue.dequeue(20)
                finally:
                    waiting = False
            except KeyboardInterrupt:
                # It may have come just after the row.
                if row is None:
                    continue
            except QueueClosedError:
                break
            with row:
                finished += row.finish_all()
        stop_alarm()
        result()
        results = group.result(20)
        assert len(results.responses) == total
        assert all(type(error) is OpAbandonedError for error in results.errors)
        assert finished + len(results.errors) == total
        assert interrupted > 0
        stats = queue.stats()
        assert (stats.enqueued, stats.dequeued_ops, stats.ops, stats.owned) == (total, total, 0, 0)
        check_invariants(queue)
        """,
    )


def test_interrupts_at_any_instant_of_a_producers_wait_keep_no_slot(impl):
    run(
        impl,
        """
        sys.unraisablehook = lambda unraisable: None
        total = 2000
        interrupted = 0
        waiting = False

        def handler():
            global interrupted, waiting
            if waiting:
                # Once for each wait, so that no except clause below is interrupted.
                waiting = False
                interrupted += 1
                raise KeyboardInterrupt

        def consume():
            return [op.msg for row in queue for op in row]

        queue = OpQueue(2, None)
        result = start(consume)
        on_alarm(handler, 0.001, 0.0003)
        for number in range(total):
            op = Op(number, number)
            while True:
                try:
                    try:
                        waiting = True
                        queue.enqueue(number, op, timeout=20)
                    finally:
                        waiting = False
                    break
                except KeyboardInterrupt:
                    pass
        stop_alarm()
        queue.close()
        # An interrupt after the operation was accepted makes the caller enqueue it again.
        assert sorted(set(result())) == list(range(total))
        assert interrupted > 0
        check_invariants(queue)
        """,
    )


STORM = """
import logging
logging.disable()
# An interrupt that strikes in the finalizer of what was finished long ago is told here.
sys.unraisablehook = lambda unraisable: None
armed = False
interrupted = 0

def handler():
    global armed, interrupted
    if armed:
        # Once for each round, so that no except clause below is interrupted.
        armed = False
        interrupted += 1
        raise KeyboardInterrupt

def fail(*arguments):
    raise ValueError

def interrupted_at(microseconds, call):
    # What is interrupted before it began has not to be done, and what follows sees to it.
    global armed
    try:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, microseconds * 1e-6)
            call()
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass

on_alarm(handler, 0)
"""


@pytest.mark.parametrize("call", ["finish_all(1)", "finish_all(error=OSError())", "finish_each(range(20))"])
def test_interrupts_while_failures_are_logged_leave_no_operation_of_a_row_unfinished(impl, call):
    """Logging is Python code, at whose entry a signal handler may raise: between two operations, too."""
    run(
        impl,
        STORM
        + f"""
end = time.monotonic() + 1.0
rounds = 0
while time.monotonic() < end:
    rounds += 1
    queue = OpQueue(None, None)
    group = CallGroup(fail)
    group.add_done_callback(fail)
    with group:
        ops = group.add_many((number, None) for number in range(20))
    for op in ops:
        op.add_done_callback(fail)
        queue.enqueue("k", op)
    row = queue.dequeue(0)
    interrupted_at(20 + rounds * 7 % 200, lambda: row.{call})
    if any(op.done() for op in ops):
        assert all(op.done() for op in ops), (rounds, [op.done() for op in ops])
        assert group.done(), (rounds, "the group hangs")
    else:
        row.finish_all()
assert interrupted > 0
""",
    )


def test_interrupts_while_failures_are_logged_do_not_keep_a_group_from_completing(impl):
    run(
        impl,
        STORM
        + """
end = time.monotonic() + 1.0
rounds = 0
while time.monotonic() < end:
    rounds += 1
    group = CallGroup(fail)
    with group:
        op = group.add(1)
    for number in range(10):
        op.add_done_callback(fail)
        group.add_done_callback(fail)
    interrupted_at(2 + rounds % 100, op.finish)
    if op.done():
        assert group.done(), rounds
    else:
        op.finish()
assert interrupted > 0
""",
    )
