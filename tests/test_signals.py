"""Ctrl-C ends every wait, and what was meant for the interrupted call goes to the next.

Each test is a script of its own: what goes wrong here hangs the main thread.
"""

from __future__ import annotations

import sys

import pytest
from signal_tools import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.mark.parametrize(
    "call", ["dequeue()", "dequeue(100)", "dequeue_many(3)", "process(print)", "__iter__().__next__()"]
)
@pytest.mark.parametrize("kind", ["OpQueue", "DedupeQueue", "OpWindow"])
def test_ctrl_c_ends_a_waiting_consumer(impl, kind, call):
    run(
        impl,
        f"""
        queue = QUEUES[{kind!r}](None)
        thread = interrupt_when(lambda: queue.stats().consumers_waiting == 1)
        try:
            queue.{call}
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        thread.join()
        assert queue.stats().consumers_waiting == 0
        queue.submit("a")
        queue.flush()
        assert queue.dequeue(0).key == "a"
        check_invariants(queue)
        """,
    )


@pytest.mark.parametrize("call", ["submit('b', timeout=None)", "enqueue('b', op, timeout=100)"])
def test_ctrl_c_ends_a_waiting_producer(impl, call):
    run(
        impl,
        f"""
        queue = OpQueue(1, None)
        queue.submit("a")
        op = Op("b")
        thread = interrupt_when(lambda: queue.stats().producers_waiting == 1)
        try:
            queue.{call}
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        thread.join()
        assert queue.stats().producers_waiting == 0
        assert not op.done()
        assert queue.dequeue(0).key == "a"
        # No slot stays reserved.
        queue.submit("c")
        assert queue.dequeue(0).key == "c"
        check_invariants(queue)
        """,
    )


@pytest.mark.parametrize(
    "call", ["op.result()", "op.exception(100)", "group.result()", "queue.join()", "queue.join(100)"]
)
def test_ctrl_c_ends_the_other_waits(impl, call):
    run(
        impl,
        f"""
        queue = OpQueue(None, None)
        group = CallGroup()
        op = group.add(1)
        queue.enqueue(1, op)
        interrupt_soon()
        try:
            {call}
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        # The interrupted waits left nothing that hurts the next.
        queue.dequeue(0).finish_all(5)
        assert op.result(0) == 5
        assert group.result(0)[1].result == 5
        assert queue.join(0)
        """,
    )


def test_an_interrupted_consumer_passes_its_promise_on(impl):
    run(
        impl,
        """
        def handler():
            # Promised to the consumer that this interrupts.
            queue.submit("a")
            raise KeyboardInterrupt

        queue = OpQueue(None, None)
        on_alarm(handler, 0.2)
        def second():
            wait_until(lambda: queue.stats().consumers_waiting == 1)
            return queue.dequeue(20).key
        result = start(second)
        try:
            queue.dequeue()
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        assert result() == "a"
        check_invariants(queue)
        """,
    )


def test_an_interrupted_consumer_puts_its_row_back_at_its_old_place(impl):
    run(
        impl,
        """
        def handler():
            for key in "abc":
                queue.submit(key)
            raise KeyboardInterrupt

        queue = OpQueue(None, None)
        on_alarm(handler, 0.05)
        try:
            queue.dequeue()
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        assert [row.key for row in queue.drain()] == ["a", "b", "c"]
        check_invariants(queue)
        """,
    )


def test_an_interrupted_producer_passes_its_slot_on(impl):
    run(
        impl,
        """
        def handler():
            # The slot is reserved for the producer that this interrupts.
            queue.dequeue(0)
            raise KeyboardInterrupt

        queue = OpQueue(1, None)
        queue.submit("old")
        on_alarm(handler, 0.2)
        def second():
            wait_until(lambda: queue.stats().producers_waiting == 1)
            queue.submit("second", timeout=20)
        result = start(second)
        try:
            queue.submit("first", timeout=None)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        result()
        assert [row.key for row in queue.drain()] == ["second"]
        check_invariants(queue)
        """,
    )


def test_the_next_consumer_keeps_time_when_the_first_is_interrupted(impl):
    run(
        impl,
        """
        def handler():
            raise KeyboardInterrupt

        queue = OpWindow(None, None, 0.3)
        queue.submit("a")
        on_alarm(handler, 0.1)
        def second():
            wait_until(lambda: queue.stats().consumers_waiting == 1)
            return queue.dequeue(20).key
        result = start(second)
        try:
            queue.dequeue()
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        assert result() == "a"
        """,
    )
