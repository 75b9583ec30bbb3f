"""Op: a promise that knows its key, finished exactly once."""

from __future__ import annotations

import concurrent.futures
import copy
import logging
import threading
import time
import traceback

import pytest
from helpers import HANG, Worker, run_concurrently, wait_blocked

from inflight import AlreadyFinishedError, OpCancelledError


def test_knows_its_key_and_message(impl):
    op = impl.Op("key", "message")
    assert (op.key, op.msg, op.group) == ("key", "message", None)


def test_message_defaults_to_none(impl):
    assert impl.Op(1).msg is None


def test_takes_keyword_arguments(impl):
    op = impl.Op(key=1, msg=2)
    assert (op.key, op.msg) == (1, 2)


@pytest.mark.parametrize("name", ["key", "msg", "group"])
def test_attributes_are_read_only(impl, name):
    op = impl.Op(1)
    with pytest.raises(AttributeError):
        setattr(op, name, 2)
    with pytest.raises(AttributeError):
        delattr(op, name)


def test_has_no_dict(impl):
    op = impl.Op(1)
    assert not hasattr(op, "__dict__")
    with pytest.raises(AttributeError):
        op.other = 1


def test_unhashable_key_is_refused_at_once(impl):
    with pytest.raises(TypeError, match="unhashable"):
        impl.Op([])


def test_the_key_is_hashed_by_construction_only_once_and_not_compared(impl):
    class Key:
        def __hash__(self):
            hashed.append(self)
            return 1

        def __eq__(self, other):
            raise AssertionError

    hashed = []
    op = impl.Op(Key())
    op.finish()
    assert len(hashed) == 1


def test_finish_with_a_result(impl):
    op = impl.Op(1)
    assert not op.done()
    assert op.finish(5) is None
    assert op.done()
    assert op.result() == 5
    assert op.result(timeout=0) == 5
    assert op.exception() is None
    assert not op.cancelled()


def test_finish_without_a_result(impl):
    op = impl.Op(1)
    op.finish()
    assert op.result() is None


def test_finish_with_an_error(impl):
    error = ValueError("no")
    op = impl.Op(1)
    op.finish(error=error)
    assert op.done()
    assert op.exception() is error
    with pytest.raises(ValueError, match="^no$"):
        op.result()


def test_the_error_wins_over_the_result(impl):
    op = impl.Op(1)
    op.finish(5, error=ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        op.result()


def test_finishing_twice_raises_and_the_first_outcome_stands(impl):
    op = impl.Op("k")
    op.finish(1)
    with pytest.raises(AlreadyFinishedError, match="^operation 'k' is already finished$"):
        op.finish(2)
    with pytest.raises(AlreadyFinishedError):
        op.finish(error=ValueError())
    assert op.result() == 1
    assert op.exception() is None


def test_try_finish_tells_who_was_first(impl):
    op = impl.Op(1)
    assert op.try_finish(1) is True
    assert op.try_finish(2) is False
    assert op.try_finish(error=ValueError()) is False
    assert op.result() == 1


def test_try_finish_with_an_error(impl):
    op = impl.Op(1)
    error = ValueError()
    assert op.try_finish(error=error) is True
    assert op.exception() is error


def test_cancel(impl):
    op = impl.Op("k")
    assert op.cancel() is True
    assert op.cancel() is False
    assert op.done()
    assert op.cancelled()
    assert isinstance(op.exception(), OpCancelledError)
    with pytest.raises(OpCancelledError, match="^operation 'k' was cancelled$"):
        op.result()
    with pytest.raises(concurrent.futures.CancelledError):
        op.result()


def test_cancel_after_finish(impl):
    op = impl.Op(1)
    op.finish(1)
    assert op.cancel() is False
    assert not op.cancelled()
    assert op.result() == 1


def test_finish_after_cancel(impl):
    op = impl.Op(1)
    op.cancel()
    assert op.try_finish(1) is False
    with pytest.raises(AlreadyFinishedError):
        op.finish(1)


def test_cancelled_is_told_by_the_error(impl):
    op = impl.Op(1)
    op.finish(error=OpCancelledError("by hand"))
    assert op.cancelled()


@pytest.mark.parametrize("error", [ValueError, StopIteration(), "text", 1, object()])
def test_a_refused_error_leaves_the_operation_pending(impl, error):
    op = impl.Op(1)
    for method in (op.finish, op.try_finish):
        with pytest.raises(TypeError, match="^error must"):
            method(error=error)
    assert not op.done()
    op.finish(1)
    assert op.result() == 1


def test_a_finished_operation_still_checks_the_error_argument(impl):
    op = impl.Op(1)
    op.finish()
    with pytest.raises(TypeError, match="error"):
        op.try_finish(error=ValueError)


def test_base_exceptions_are_errors_too(impl):
    op = impl.Op(1)
    op.finish(error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        op.result()


@pytest.mark.parametrize("method", ["result", "exception"])
@pytest.mark.parametrize("timeout", [0, 0.0, -1, -float("inf"), 0.01])
def test_waiting_times_out(impl, method, timeout):
    op = impl.Op("k")
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="^operation 'k' is not finished after"):
        getattr(op, method)(timeout=timeout)
    assert time.monotonic() - began >= timeout
    # The wait left nothing behind.
    op.finish(1)
    assert op.result() == 1


@pytest.mark.parametrize("method", ["result", "exception"])
@pytest.mark.parametrize("timeout", [None, float("inf"), 1e300, 10**400, HANG])
def test_waits_for_another_thread_to_finish_it(impl, method, timeout):
    op = impl.Op(1)
    workers = [Worker(getattr(op, method), timeout) for _ in range(3)]
    wait_blocked(*workers)
    op.finish(7)
    expected = 7 if method == "result" else None
    assert [worker.result() for worker in workers] == [expected] * 3


def test_every_waiter_raises_with_its_own_traceback(impl):
    def fail():
        raise ValueError("origin")

    op = impl.Op(1)
    try:
        fail()
    except ValueError as error:
        op.finish(error=error)

    def wait():
        try:
            op.result(HANG)
        except ValueError as error:
            return error, [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    raised = run_concurrently([wait] * 8)
    for error, names in raised:
        assert type(error) is ValueError
        assert error.args == ("origin",)
        assert names.count("wait") == 1
        assert names[-1] == "fail"


def test_tracebacks_do_not_grow(impl):
    op = impl.Op(1)
    op.finish(error=ValueError())
    lengths = []
    for _ in range(5):
        try:
            op.result()
        except ValueError as error:
            lengths.append(len(traceback.extract_tb(error.__traceback__)))
    # The first may have an entry more: it gets the instance itself.
    assert len(set(lengths[1:])) == 1
    assert abs(lengths[0] - lengths[1]) <= 1


def test_callbacks_run_in_order_in_the_finishing_thread(impl):
    op = impl.Op(1)
    calls = []
    for number in range(3):
        op.add_done_callback(lambda done, number=number: calls.append((number, done, threading.get_ident())))
    worker = Worker(lambda: (op.finish(1), threading.get_ident()))
    finisher = worker.result()[1]
    assert calls == [(0, op, finisher), (1, op, finisher), (2, op, finisher)]


def test_a_callback_sees_the_finished_operation(impl):
    op = impl.Op(1)
    seen = []
    op.add_done_callback(lambda op: seen.append((op.done(), op.result(0))))
    op.finish(3)
    assert seen == [(True, 3)]


def test_a_callback_added_late_is_called_at_once_in_the_adding_thread(impl):
    op = impl.Op(1)
    op.finish(1)
    calls = []
    op.add_done_callback(lambda op: calls.append(threading.get_ident()))
    assert calls == [threading.get_ident()]


def test_the_same_callback_added_twice_runs_twice(impl):
    op = impl.Op(1)
    calls = []
    op.add_done_callback(calls.append)
    op.add_done_callback(calls.append)
    op.finish()
    assert calls == [op, op]


def test_a_failing_callback_is_logged_and_hurts_nobody(impl, caplog):
    op = impl.Op(1)
    calls = []
    op.add_done_callback(lambda op: 1 / 0)
    op.add_done_callback(calls.append)
    with caplog.at_level(logging.ERROR, "inflight"):
        op.finish(1)
    assert calls == [op]
    assert op.result() == 1
    (record,) = caplog.records
    assert record.name == "inflight"
    assert record.exc_info[0] is ZeroDivisionError


def test_a_late_failing_callback_is_logged(impl, caplog):
    op = impl.Op(1)
    op.finish()
    op.add_done_callback(lambda op: 1 / 0)
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_in_callbacks_reach_the_finisher_after_everything_else(impl, kind):
    def interrupt(op):
        raise kind("first")

    def interrupt_again(op):
        raise kind("second")

    group = impl.CallGroup()
    op = group.add(1)
    calls = []
    op.add_done_callback(interrupt)
    op.add_done_callback(interrupt_again)
    op.add_done_callback(calls.append)
    with pytest.raises(kind, match="first"):
        op.finish(1)
    assert calls == [op]
    assert group.done()
    assert op.result() == 1


def test_an_interrupt_in_a_late_callback_propagates(impl):
    def interrupt(op):
        raise KeyboardInterrupt

    op = impl.Op(1)
    op.finish()
    with pytest.raises(KeyboardInterrupt):
        op.add_done_callback(interrupt)


def test_waiters_are_woken_before_callbacks_run(impl):
    op = impl.Op(1)
    woken = threading.Event()
    worker = Worker(lambda: (op.result(HANG), woken.set()))
    wait_blocked(worker)
    seen = []
    op.add_done_callback(lambda op: seen.append(woken.wait(HANG)))
    op.finish()
    worker.result()
    assert seen == [True]


def test_a_callback_may_use_its_operation(impl):
    op = impl.Op(1)
    seen = []

    def callback(op):
        seen.append(op.try_finish(2))
        seen.append(op.cancel())
        op.add_done_callback(lambda op: seen.append("nested"))

    op.add_done_callback(callback)
    op.finish(1)
    assert seen == [False, False, "nested"]


def test_a_refused_callback(impl):
    op = impl.Op(1)
    with pytest.raises(TypeError, match="fn must be callable, not int"):
        op.add_done_callback(1)
    op.finish()
    with pytest.raises(TypeError, match="fn must be callable, not int"):
        op.add_done_callback(1)


def test_representation(impl):
    op = impl.Op("k")
    assert repr(op) == "<Op key='k' pending>"
    op.finish(1)
    assert repr(op) == "<Op key='k' finished>"
    op = impl.Op(1)
    op.finish(error=ValueError("x"))
    assert repr(op) == "<Op key=1 failed: ValueError('x')>"
    op = impl.Op(1)
    op.cancel()
    assert repr(op) == "<Op key=1 cancelled>"


def test_compares_and_hashes_by_identity(impl):
    one, other = impl.Op(1), impl.Op(1)
    assert one == one
    assert one != other
    assert len({one, other}) == 2


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy])
def test_cannot_be_copied(impl, copying):
    with pytest.raises(TypeError, match="Op objects cannot be pickled"):
        copying(impl.Op(1))


def test_can_be_subclassed(impl):
    class Mine(impl.Op):
        def __init__(self, key, extra):
            super().__init__(key, "msg")
            self.extra = extra

    op = Mine(1, "extra")
    op.finish(2)
    assert (op.key, op.msg, op.extra, op.result()) == (1, "msg", "extra", 2)


def test_a_subclass_can_be_enqueued(impl):
    class Mine(impl.Op):
        pass

    queue = impl.OpQueue(1, 1)
    op = Mine(1)
    queue.enqueue(1, op)
    assert queue.dequeue(0)[0] is op


def test_subscription(impl):
    alias = impl.Op[int, str, float]
    assert alias.__origin__ is impl.Op
    assert alias(1).key == 1


def test_an_operation_is_initialised_once(impl):
    op = impl.Op(1, "message")
    with pytest.raises(RuntimeError, match="an Op cannot be initialised again"):
        op.__init__(2)
    op.finish()
    with pytest.raises(RuntimeError, match="an Op cannot be initialised again"):
        op.__init__(2)
    assert (op.key, op.msg) == (1, "message")


def test_all_waiters_see_tracebacks_of_the_same_depth(impl):
    error = ValueError("x")
    ops = [impl.Op(number) for number in range(3)]
    for op in ops:
        op.finish(error=error)
    depths = []
    for op in (*ops, *ops):
        with pytest.raises(ValueError, match="x") as caught:
            op.result()
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(depths)) == 1
