"""Ctrl-C ends every wait and loses nothing, and a signal handler may use what it interrupts.

Each test is a script of its own: what goes wrong here hangs the main thread.
"""

from __future__ import annotations

import sys

import pytest
from helpers import run_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

TOOLS = """
import signal

def interrupt_when(state):
    '''Press Ctrl-C when the state has come.'''
    pressed = threading.Event()
    def on_press(number, frame):
        if not pressed.is_set():
            pressed.set()
            raise KeyboardInterrupt
    signal.signal(signal.SIGINT, on_press)
    def press():
        while not state():
            time.sleep(0.001)
        # Again, because CPython misses a signal that comes just before a thread blocks.
        while not pressed.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
    thread = threading.Thread(target=press)
    thread.start()
    return thread

def interrupt_soon(seconds=0.05):
    '''Ctrl-C, for waits that no statistics show.'''
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)

def on_alarm(function, seconds, interval=0.0):
    signal.signal(signal.SIGALRM, lambda number, frame: function())
    signal.setitimer(signal.ITIMER_REAL, seconds, interval)

def stop_alarm():
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)

QUEUES = {
    "OpQueue": lambda depth: OpQueue(depth, None),
    "DedupeQueue": lambda depth: DedupeQueue(depth, None),
    "OpWindow": lambda depth: OpWindow(depth, None, 1000),
}
"""


def run(impl, source, timeout=60.0):
    import textwrap

    run_script(impl, TOOLS + textwrap.dedent(source), timeout=timeout)


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
        queue._check()
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
        queue._check()
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
        queue._check()
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
        queue._check()
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
        queue._check()
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
        queue._check()
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
        queue._check()
        """,
    )


WAITS = {
    "dequeue": ("queue.dequeue().key == 'new'", "queue.submit('new')"),
    "dequeue_many": ("[row.key for row in queue.dequeue_many(3)] == ['new']", "queue.submit('new')"),
    "join": ("full.join() is True", "full.dequeue(0).release()"),
    "enqueue": ("full.enqueue('b', Op('b'), timeout=None) is None", "full.dequeue(0)"),
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
        queue._check()
        full._check()
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
        queue._check()
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
        queue._check()
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
        queue._check()
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
