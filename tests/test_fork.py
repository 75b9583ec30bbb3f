"""After a fork the child has working objects with the parent's content, and no waiters."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest
from helpers import GIL, run_script

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

TOOLS = """
import signal, traceback
from inflight._invariants import check_invariants

def in_child(function):
    '''Run it in a forked child, which must end well and in time.'''
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(20)
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}"

def keys(rows):
    return [row.key for row in rows]
"""


def run(impl, source):
    # Threads and forks together are the point here.
    run_script(impl, TOOLS + textwrap.dedent(source), "-W", "ignore::DeprecationWarning")


@pytest.mark.parametrize("make", ["OpQueue(3, 3)", "DedupeQueue(3, 3)", "OpWindow(3, 3, 1000)"])
def test_the_child_has_the_parents_content(impl, make):
    run(
        impl,
        f"""
        def child():
            assert len(queue) == 2
            assert queue.stats() == stats
            queue.submit("b", 3)
            queue.flush()
            rows = queue.dequeue_many(5)
            assert keys(rows) == ["a", "b"]
            assert [op.msg for op in rows[1]] == [2, 3]
            rows[0].finish_all("child")
            assert first.result() == "child"
            check_invariants(queue)

        queue = {make}
        first = queue.submit("a", 1)
        queue.submit("b", 2)
        stats = queue.stats()
        in_child(child)
        assert not first.done()
        assert queue.stats() == stats
        """,
    )


@pytest.mark.parametrize("make", ["OpQueue(1, None)", "DedupeQueue(1, None)", "OpWindow(1, 1, 1000)"])
def test_waiting_consumers_do_not_exist_in_the_child(impl, make):
    run(
        impl,
        f"""
        def child():
            assert queue.stats().consumers_waiting == 0
            queue.submit("child")
            queue.flush()
            # Promised to nobody.
            assert queue.dequeue(0).key == "child"
            result = start(queue.dequeue)
            wait_until(lambda: queue.stats().consumers_waiting == 1)
            queue.submit("again")
            queue.flush()
            assert result().key == "again"
            check_invariants(queue)

        def consume():
            try:
                return queue.dequeue().key
            except QueueClosedError:
                return None

        queue = {make}
        results = [start(consume) for _ in range(3)]
        wait_until(lambda: queue.stats().consumers_waiting == 3)
        in_child(child)
        assert queue.stats().consumers_waiting == 3
        queue.submit("parent")
        queue.close()
        assert [result() for result in results].count("parent") == 1
        """,
    )


def test_waiting_producers_do_not_exist_in_the_child(impl):
    run(
        impl,
        """
        def child():
            assert queue.stats().producers_waiting == 0
            assert queue.dequeue(0).key == "old"
            queue.submit("child")
            assert keys(queue.drain()) == ["child"]
            check_invariants(queue)

        queue = OpQueue(1, None)
        queue.submit("old")
        results = [start(lambda key: queue.submit(key, timeout=None).key, key) for key in "ab"]
        wait_until(lambda: queue.stats().producers_waiting == 2)
        in_child(child)
        assert queue.stats().producers_waiting == 2
        assert queue.dequeue(0).key == "old"
        assert sorted(queue.dequeue(20).key for _ in "ab") == ["a", "b"]
        assert [result() for result in results] == ["a", "b"]
        """,
    )


@pytest.mark.skipif(not GIL, reason="only with the GIL is the promise surely open at the fork")
@pytest.mark.parametrize("others", [0, 5, 49, 60])
def test_a_row_promised_in_the_parent_is_free_in_the_child(impl, others):
    """Wherever the row is: others may have made the index grow since."""
    run(
        impl,
        """
        others = list(range(OTHERS))

        def child():
            assert keys(queue.drain()) == ["a", "b", *others]
            check_invariants(queue)

        queue = OpQueue(None, None)
        result = start(lambda: queue.dequeue().key)
        wait_until(lambda: queue.stats().consumers_waiting == 1)
        sys.setswitchinterval(1000)
        queue.submit("a")
        for key in ["b", *others]:
            queue.submit(key)
        in_child(child)
        sys.setswitchinterval(0.005)
        assert result() == "a"
        assert keys(queue.drain()) == ["b", *others]
        """.replace("OTHERS", str(others)),
    )


@pytest.mark.skipif(not GIL, reason="only with the GIL is the slot surely open at the fork")
def test_a_slot_reserved_in_the_parent_is_free_in_the_child(impl):
    run(
        impl,
        """
        def child():
            queue.submit("child")
            assert keys(queue.drain()) == ["child"]
            check_invariants(queue)

        queue = OpQueue(1, None)
        queue.submit("old")
        result = start(lambda: queue.submit("new", timeout=None).key)
        wait_until(lambda: queue.stats().producers_waiting == 1)
        sys.setswitchinterval(1000)
        queue.dequeue(0)
        in_child(child)
        sys.setswitchinterval(0.005)
        assert result() == "new"
        assert keys(queue.drain()) == ["new"]
        """,
    )


def test_owned_rows_stay_owned_in_the_child(impl):
    run(
        impl,
        """
        def child():
            assert "a" in queue
            queue.submit("a")
            try:
                queue.dequeue(0)
            except QueueEmptyError:
                pass
            else:
                raise AssertionError
            assert queue.stats().owned == 1
            # The child's copy of the row can give the key back in the child.
            row.release()
            assert queue.dequeue(0).key == "a"
            check_invariants(queue)

        queue = DedupeQueue(None, None)
        queue.submit("a")
        row = queue.dequeue(0)
        in_child(child)
        assert queue.stats().owned == 1
        row.release()
        assert queue.join(0)
        """,
    )


def test_operations_and_groups_in_the_child(impl):
    run(
        impl,
        """
        def child():
            result = start(group.result)
            op.finish("child")
            assert result()[1].result == "child"
            assert calls == ["child"]

        calls = []
        group = CallGroup(lambda results: calls.append(results[1].result))
        op = group.add(1)
        results = [start(op.result), start(lambda: group.result()[1].result)]
        time.sleep(0.05)
        in_child(child)
        assert not op.done()
        op.finish("parent")
        assert [result() for result in results] == ["parent", "parent"]
        assert calls == ["parent"]
        """,
    )


def test_join_in_the_child(impl):
    run(
        impl,
        """
        def child():
            queue.dequeue(0)
            assert queue.join(20)

        queue = OpQueue(None, None)
        queue.submit("a")
        result = start(queue.join)
        time.sleep(0.05)
        in_child(child)
        queue.dequeue(0)
        assert result() is True
        """,
    )


def test_a_fork_in_a_signal_handler_while_the_interrupted_call_joins(impl):
    run(
        impl,
        """
        def handler(*_):
            global child
            child = os.fork()

        queue = OpQueue(3, 3)
        op = queue.submit("a")
        child = None
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        joined = queue.join(0.3)
        if child == 0:
            os._exit(joined)
        _, status = os.waitpid(child, 0)
        assert (joined, status) == (False, 0), "there is a row that waits"
        op.finish()
        """,
    )


@pytest.mark.parametrize("make", ["OpQueue(8, 8)", "DedupeQueue(8, 8)", "OpWindow(8, 8, 0.001)"])
def test_a_fork_while_other_threads_hold_locks(impl, make):
    run(
        impl,
        f"""
        warnings.simplefilter("ignore", ResourceWarning)
        stop = False

        def hammer():
            number = 0
            while not stop:
                number += 1
                try:
                    queue.submit(number % 12, timeout=0.0005)
                    group.add(number).finish()
                except QueueSaturatedError:
                    pass
                try:
                    row = queue.dequeue(0.0005)
                    row.finish_all()
                    row.release()
                except QueueEmptyError:
                    pass
                op.try_finish(number)

        def child():
            check_invariants(queue)
            queue.close()
            while True:
                try:
                    row = queue.dequeue(0.01)
                    row.finish_all()
                    row.release()
                except (QueueEmptyError, QueueClosedError):
                    break
            stats = queue.stats()
            assert stats.keys <= stats.owned
            assert stats.enqueued == stats.dequeued_ops + stats.ops
            len(group), group.outstanding
            group.add("child").finish()
            check_invariants(queue)

        sys.setswitchinterval(1e-6)
        queue = {make}
        group = CallGroup()
        held = group.add("held")
        op = Op(1)
        results = [start(hammer) for _ in range(3)]
        for _ in range(30):
            in_child(child)
        stop = True
        for result in results:
            result()
        check_invariants(queue)
        """,
    )


def test_a_fork_inside_a_reducer(impl):
    run(
        impl,
        """
        def child():
            queue.submit("child")
            assert queue.dequeue(0).key == "child"
            assert not group.done()

        def reducer(results):
            in_child(child)

        queue = OpQueue(None, None)
        group = CallGroup(reducer)
        group.add(1).finish()
        assert group.result(0)
        """,
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="fork without exec is unreliable there")
def test_a_grandchild(impl):
    run(
        impl,
        """
        def grandchild():
            queue.submit("grandchild")
            assert keys(queue.drain()) == ["parent", "child", "grandchild"]

        def child():
            result = start(queue.join)
            queue.submit("child")
            in_child(grandchild)
            assert keys(queue.drain()) == ["parent", "child"]
            result()

        queue = OpQueue(None, None)
        queue.submit("parent")
        in_child(child)
        assert keys(queue.drain()) == ["parent"]
        """,
    )


@pytest.mark.parametrize("make", ["OpQueue(1, None)", "DedupeQueue(1, None)", "OpWindow(1, None, 1000)"])
def test_a_fork_in_a_signal_handler_while_a_slot_is_reserved_for_the_interrupted_producer(impl, make):
    """The child's producer goes on, too, but what was reserved for it was so in the parent."""
    run(
        impl,
        f"""
        pids = []

        def handler(number, frame):
            for row in queue.drain():
                row.release()
            pids.append(os.fork())
            if pids == [0]:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)

        queue = {make}
        op = Op(1)
        op.finish()
        queue.enqueue("old", op)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        status = 1
        try:
            queue.enqueue("new", op, timeout=20)
            assert len(queue) == 1
            for key in range(3):
                try:
                    queue.enqueue(key, op)
                except QueueSaturatedDepthError:
                    pass
                else:
                    raise AssertionError("more keys wait than depth allows")
            assert queue.stats().keys == 1
            check_invariants(queue)
            assert keys(queue.drain()) == ["new"]
            check_invariants(queue)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            if pids == [0]:
                sys.stderr.flush()
                os._exit(status)
        assert status == 0
        assert os.waitpid(pids[0], 0)[1] == 0
        """,
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="fork without exec is unreliable there")
@pytest.mark.parametrize("make", ["OpQueue(None, None)", "DedupeQueue(None, None)"])
def test_forks_while_many_threads_contend_for_one_lock(impl, make):
    """A lock may just have been handed over to a thread that waited for long, which the child has not."""
    run(
        impl,
        f"""
        def hammer(number):
            while not stop:
                queue.enqueue(number, op)
                try:
                    queue.dequeue(0).release()
                except QueueEmptyError:
                    pass

        def child():
            fresh.enqueue(1, op)
            fresh.dequeue(0).release()
            queue.stats()
            queue.enqueue("child", op)
            assert "child" in keys(queue.drain())
            check_invariants(queue)

        stop = False
        sys.setswitchinterval(1e-5)
        op = Op(1)
        op.finish()
        queue = {make}
        fresh = {make}
        results = [start(hammer, number) for number in range(24)]
        for _ in range(20):
            in_child(child)
        stop = True
        for result in results:
            result()
        check_invariants(queue)
        """,
    )


def test_a_fork_while_another_thread_is_given_an_error(impl):
    run(
        impl,
        """
        def hold():
            with _report._claims:
                held.set()
                released.wait(20)

        def child():
            for _ in range(2):
                try:
                    op.result()
                except OSError as error:
                    assert str(error) == "of the parent"

        from inflight import _report

        op = Op("a")
        op.finish(error=OSError("of the parent"))
        # Where a thread is when it may be interrupted by another.
        held, released = threading.Event(), threading.Event()
        holding = start(hold)
        assert held.wait(20)
        in_child(child)
        released.set()
        holding()
        """,
    )


# What waits, and what ends it.
WAITS = {
    "dequeue": ("queue.dequeue(20).key", "queue.submit('a')"),
    "dequeue_many": ("keys(queue.dequeue_many(2))", "queue.submit('a')"),
    "iterate": ("next(iter(queue)).key", "queue.submit('a')"),
    "process": ("queue.process(lambda row: row.finish_all(), 20)", "queue.submit('a')"),
    "the end": ("list(queue)", "queue.close()"),
    "window": ("keys([window.dequeue()])", "window.flush()"),
    "release": ("owned.dequeue(20).key", "row.release()"),
    "enqueue": ("full.enqueue('new', op, timeout=None)", "full.dequeue(0)"),
    "submit": ("full.submit('new', timeout=20).key", "full.dequeue(0)"),
    "closed": ("closed(lambda: full.submit('new', timeout=20))", "full.close()"),
    "join": ("full.join()", "full.drain()"),
    "join with an owner": ("owned.join(20)", "row.release(), owned.drain()[0].release()"),
    "result": ("op.result(20)", "op.finish(5)"),
    "exception": ("type(op.exception())", "op.finish(error=OSError())"),
    "group": ("len(group.result())", "op.finish(5)"),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_fork_while_threads_wait_and_hold(impl, wait):
    """The child waits anew, and the parent goes on; each ends the wait for itself."""
    call, end = WAITS[wait]
    run(
        impl,
        f"""
        def closed(function):
            try:
                function()
            except QueueClosedError:
                return "closed"

        def state():
            stats = [each.stats() for each in (queue, window, owned, full)]
            return [(each.keys, each.owned, each.enqueued) for each in stats]

        def waiting():
            return sum(each.consumers_waiting + each.producers_waiting for each in
                       (queue.stats(), window.stats(), owned.stats(), full.stats()))

        def wait():
            parked = waiting()
            result = start(lambda: {call})
            if parks:
                wait_until(lambda: waiting() == parked + 1)
            else:
                time.sleep(0.01)
            return result

        def child():
            assert waiting() == 0
            assert state() == before
            for each in (queue, window, owned, full):
                check_invariants(each)
            assert not op.done()
            again = wait()
            {end}
            told = again()
            for each in (queue, window, owned, full):
                check_invariants(each)
            print(told, flush=True)

        queue, full = OpQueue(None, None), OpQueue(1, None)
        window, owned = OpWindow(None, None, 1000), DedupeQueue(None, None)
        group = CallGroup()
        with group:
            op = group.add(1)
        window.submit("a"), full.submit("a"), owned.submit("a")
        row = owned.dequeue(0)
        owned.submit("a")
        parks = {wait!r} not in ("join", "join with an owner", "result", "exception", "group")
        first, second = wait(), (wait() if {wait!r} in ("result", "exception", "group", "join") else None)
        before = state()
        out, sys.stdout = sys.stdout, open(os.devnull, "w")
        in_child(child)
        sys.stdout = out
        assert state() == before
        {end}
        first()
        if second is not None:
            second()
        for each in (queue, window, owned, full):
            check_invariants(each)
        """,
    )
