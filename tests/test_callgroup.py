"""CallGroup: runs one reducer when the last of its operations has finished."""

from __future__ import annotations

import copy
import logging
import threading
import time
import traceback

import pytest
from helpers import HANG, Worker, run_concurrently, wait_blocked

from inflight import GroupClosedError, Results


def test_the_reducer_runs_when_the_last_operation_finishes(impl):
    calls = []
    group = impl.CallGroup(calls.append)
    first, second = group.add(1), group.add(2)
    first.finish("a")
    assert not calls
    assert not group.done()
    second.finish("b")
    (results,) = calls
    assert isinstance(results, Results)
    assert [response.result for response in results.responses] == ["a", "b"]
    assert group.done()
    assert group.result() is results


def test_results_are_in_add_order_whatever_finishes_first(impl):
    group = impl.CallGroup()
    ops = group.add_many((key, None) for key in range(10))
    for op in reversed(ops):
        op.finish(op.key)
    assert [response.op for response in group.result().responses] == ops
    assert list(group.result()) == list(range(10))


def test_the_reducer_runs_in_the_thread_of_the_last_finisher(impl):
    threads = []
    group = impl.CallGroup(lambda results: threads.append(threading.get_ident()))
    first, second = group.add(1), group.add(2)
    first.finish()
    ident = Worker(lambda: (second.finish(), threading.get_ident())).result()[1]
    assert threads == [ident]


def test_works_without_a_reducer(impl):
    group = impl.CallGroup()
    group.add(1).finish(5)
    assert group.result()[1].result == 5


def test_operations_know_their_group(impl):
    group = impl.CallGroup()
    op = group.add("k", "m")
    assert (op.key, op.msg, op.group) == ("k", "m", group)
    assert isinstance(op, impl.Op)


def test_counts(impl):
    group = impl.CallGroup()
    assert (len(group), group.outstanding) == (0, 0)
    ops = [group.add(key) for key in range(3)]
    assert (len(group), group.outstanding) == (3, 3)
    ops[1].finish()
    assert (len(group), group.outstanding) == (3, 2)
    ops[0].finish()
    ops[2].finish()
    assert (len(group), group.outstanding) == (3, 0)


def test_is_always_true(impl):
    assert impl.CallGroup()


def test_outstanding_is_read_only(impl):
    with pytest.raises(AttributeError):
        impl.CallGroup().outstanding = 1


def test_add_takes_keywords(impl):
    op = impl.CallGroup().add(key=1, msg=2)
    assert (op.key, op.msg) == (1, 2)


def test_add_after_completion_is_refused(impl):
    group = impl.CallGroup()
    group.add(1).finish()
    with pytest.raises(GroupClosedError, match="^the group is complete$"):
        group.add(2)
    with pytest.raises(GroupClosedError):
        group.add_many([(2, None)])
    with pytest.raises(RuntimeError):
        group.add(2)
    assert len(group) == 1


def test_seal_refuses_more_and_is_idempotent(impl):
    group = impl.CallGroup()
    op = group.add(1)
    group.seal()
    group.seal()
    with pytest.raises(GroupClosedError, match="^the group is sealed$"):
        group.add(2)
    assert not group.done()
    op.finish()
    assert group.done()
    group.seal()


def test_seal_completes_an_empty_group(impl):
    calls = []
    group = impl.CallGroup(calls.append)
    assert not group.done()
    group.seal()
    assert group.done()
    assert len(calls) == 1
    assert calls[0].responses == ()
    group.seal()
    assert len(calls) == 1


def test_a_block_holds_completion_back(impl):
    calls = []
    group = impl.CallGroup(calls.append)
    with group as entered:
        assert entered is group
        group.add(1).finish()
        assert not group.done()
        group.add(2).finish()
        assert not calls
    assert len(calls) == 1
    assert group.done()


def test_leaving_the_block_seals(impl):
    group = impl.CallGroup()
    with group:
        op = group.add(1)
    with pytest.raises(GroupClosedError):
        group.add(2)
    assert not group.done()
    op.finish()
    assert group.done()


def test_only_the_last_of_nested_blocks_seals(impl):
    group = impl.CallGroup()
    with group:
        with group:
            group.add(1).finish()
        group.add(2).finish()
        assert not group.done()
    assert group.done()


def test_an_empty_block_completes_the_group(impl):
    group = impl.CallGroup()
    with group:
        pass
    assert group.done()


def test_a_block_left_by_an_exception_seals_and_lets_it_pass(impl):
    group = impl.CallGroup()
    with pytest.raises(ZeroDivisionError), group:
        op = group.add(1)
        raise ZeroDivisionError
    with pytest.raises(GroupClosedError):
        group.add(2)
    op.finish()
    assert group.done()


def test_entering_a_complete_group_is_refused(impl):
    group = impl.CallGroup()
    group.seal()
    with pytest.raises(GroupClosedError, match="complete"), group:
        raise AssertionError


def test_entering_a_sealed_group_only_holds_it(impl):
    group = impl.CallGroup()
    op = group.add(1)
    group.seal()
    with group:
        op.finish()
        assert not group.done()
        with pytest.raises(GroupClosedError):
            group.add(2)
    assert group.done()


def test_seal_inside_a_block_still_waits_for_its_end(impl):
    group = impl.CallGroup()
    with group:
        group.seal()
        assert not group.done()
    assert group.done()


def test_add_many(impl):
    group = impl.CallGroup()
    ops = group.add_many([("a", 1), ["b", 2], iter(("c", 3))])
    assert [(op.key, op.msg, op.group) for op in ops] == [("a", 1, group), ("b", 2, group), ("c", 3, group)]
    assert (len(group), group.outstanding) == (3, 3)


def test_add_many_of_nothing_is_no_operation(impl):
    group = impl.CallGroup()
    assert group.add_many([]) == []
    assert not group.done()
    assert len(group) == 0


@pytest.mark.parametrize("bad", [1, None, (1,), (1, 2, 3), ()])
def test_add_many_refuses_what_is_not_a_pair_before_anything_is_added(impl, bad):
    group = impl.CallGroup()
    with pytest.raises(TypeError, match="item"):
        group.add_many([(1, 1), bad])
    assert len(group) == 0
    group.seal()
    assert group.done()


def test_add_many_with_an_unhashable_key_adds_nothing(impl):
    group = impl.CallGroup()
    with pytest.raises(TypeError, match="unhashable"):
        group.add_many([(1, 1), ([], 2)])
    assert len(group) == 0


def test_add_many_with_a_failing_iterator_adds_nothing(impl):
    def items():
        yield 1, 1
        raise ZeroDivisionError

    group = impl.CallGroup()
    with pytest.raises(ZeroDivisionError):
        group.add_many(items())
    assert len(group) == 0


def test_add_many_whose_items_seal_the_group(impl):
    def items():
        yield 1, 1
        group.seal()
        yield 2, 2

    group = impl.CallGroup()
    with pytest.raises(GroupClosedError):
        group.add_many(items())
    assert len(group) == 0


def test_add_with_an_unhashable_key_adds_nothing(impl):
    group = impl.CallGroup()
    with pytest.raises(TypeError, match="unhashable"):
        group.add([])
    assert (len(group), group.outstanding) == (0, 0)


def test_failed_and_cancelled_operations_count_as_finished(impl):
    group = impl.CallGroup()
    first, second = group.add_many([(1, None), (2, None)])
    first.cancel()
    assert group.outstanding == 1
    second.finish(error=ValueError())
    assert group.done()


def test_errors_reach_the_results(impl):
    group = impl.CallGroup()
    ops = group.add_many([(1, None), (2, None), (3, None)])
    error = ValueError()
    ops[0].finish(error=error)
    ops[1].cancel()
    ops[2].finish(3)
    results = group.result()
    assert results[1].error is error
    assert results[1].result is None
    assert results.errors == (error, ops[1].exception())
    assert results[3].error is None


@pytest.mark.parametrize("bad", [1, "text", [], object()])
def test_the_reducer_must_be_callable(impl, bad):
    with pytest.raises(TypeError, match="on_complete must be callable"):
        impl.CallGroup(bad)


def test_the_reducer_may_be_given_by_name(impl):
    calls = []
    group = impl.CallGroup(on_complete=calls.append)
    group.seal()
    assert len(calls) == 1
    assert impl.CallGroup(on_complete=None)


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
def test_result_times_out(impl, timeout):
    group = impl.CallGroup()
    op = group.add(1)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="^the group is not complete after"):
        group.result(timeout)
    assert time.monotonic() - began >= timeout
    op.finish()
    assert group.result(0)[1].op is op


@pytest.mark.parametrize("timeout", [None, float("inf"), HANG])
def test_result_waits(impl, timeout):
    group = impl.CallGroup()
    op = group.add(1)
    workers = [Worker(group.result, timeout=timeout) for _ in range(3)]
    wait_blocked(*workers)
    op.finish(5)
    for worker in workers:
        assert worker.result() is group.result()


def test_what_the_reducer_raises_is_logged_and_raised_by_result(impl, caplog):
    def reducer(results):
        raise ValueError("broken reducer")

    group = impl.CallGroup(reducer)
    op = group.add(1)
    with caplog.at_level(logging.ERROR, "inflight"):
        op.finish(1)
    (record,) = caplog.records
    assert record.name == "inflight"
    assert record.exc_info[0] is ValueError
    assert group.done()
    assert op.result() == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="broken reducer"):
            group.result()


def test_every_waiter_of_a_failed_group_has_its_own_traceback(impl):
    def reducer(results):
        raise ValueError("origin")

    group = impl.CallGroup(reducer)
    op = group.add(1)

    def wait():
        try:
            group.result(HANG)
        except ValueError as error:
            return [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    for names in run_concurrently([wait] * 6 + [lambda: op.finish()])[:-1]:
        assert names.count("wait") == 1
        assert names[-1] == "reducer"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_reducer_reaches_the_finisher_at_the_very_end(impl, kind):
    def reducer(results):
        raise kind

    group = impl.CallGroup(reducer)
    calls = []
    group.add_done_callback(calls.append)
    other = impl.CallGroup()
    ops = [group.add(1), other.add(1)]
    queue = impl.OpQueue(None, None)
    for op in ops:
        queue.enqueue(1, op)
    with pytest.raises(kind):
        queue.dequeue(0).finish_all()
    assert group.done()
    assert other.done()
    assert calls == [group]
    with pytest.raises(kind):
        group.result()


def test_the_reducer_may_not_wait_for_its_own_group(impl):
    caught = []

    def reducer(results):
        for timeout in (None, 0, 5):
            with pytest.raises(RuntimeError, match="^a group's reducer cannot wait for its own group$") as info:
                group.result(timeout)
            caught.append(info.value)

    group = impl.CallGroup(reducer)
    group.add(1).finish()
    assert len(caught) == 3
    assert group.result()


def test_another_thread_may_wait_while_the_reducer_runs(impl):
    entered, leave = threading.Event(), threading.Event()

    def reducer(results):
        entered.set()
        assert leave.wait(HANG)

    group = impl.CallGroup(reducer)
    op = group.add(1)
    finisher = Worker(op.finish)
    assert entered.wait(HANG)
    assert not group.done()
    with pytest.raises(TimeoutError):
        group.result(0)
    waiter = Worker(group.result, HANG)
    wait_blocked(waiter)
    leave.set()
    finisher.result()
    assert waiter.result() is group.result(0)


def test_done_is_false_inside_the_reducer_and_true_in_callbacks(impl):
    seen = []
    group = impl.CallGroup(lambda results: seen.append(group.done()))
    group.add_done_callback(lambda group: seen.append(group.done()))
    group.add(1).finish()
    assert seen == [False, True]


def test_the_reducer_may_use_its_group(impl):
    seen = []

    def reducer(results):
        seen.append((len(group), group.outstanding))
        group.seal()
        with pytest.raises(GroupClosedError):
            group.add(2)
        with pytest.raises(GroupClosedError), group:
            pass
        group.add_done_callback(lambda group: seen.append("callback"))
        seen.append("end of reducer")

    group = impl.CallGroup(reducer)
    group.add(1).finish()
    assert seen == [(1, 0), "end of reducer", "callback"]


def test_callbacks_of_the_group(impl):
    group = impl.CallGroup()
    calls = []
    group.add_done_callback(calls.append)
    group.add_done_callback(lambda group: calls.append("second"))
    op = group.add(1)
    assert not calls
    op.finish()
    assert calls == [group, "second"]
    group.add_done_callback(lambda group: calls.append("late"))
    assert calls[-1] == "late"


def test_a_failing_callback_of_the_group_is_logged(impl, caplog):
    group = impl.CallGroup()
    calls = []
    group.add_done_callback(lambda group: 1 / 0)
    group.add_done_callback(calls.append)
    group.seal()
    assert calls == [group]
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


def test_a_refused_callback(impl):
    with pytest.raises(TypeError, match="fn must be callable"):
        impl.CallGroup().add_done_callback(None)


def test_the_callback_of_an_operation_may_still_add_to_its_group(impl):
    calls = []
    group = impl.CallGroup(calls.append)
    later = []
    op = group.add(1)
    op.add_done_callback(lambda op: later.append(group.add(2)))
    op.finish()
    assert not calls
    later[0].finish()
    assert len(calls) == 1
    assert list(calls[0]) == [1, 2]


def test_order_at_the_end(impl):
    """Waiters of the operation, its callbacks, the reducer, then waiters and callbacks of the group."""
    order = []
    op_waiter, group_waiter = threading.Event(), threading.Event()

    def reducer(results):
        order.append("reducer")
        assert not group_waiter.is_set()

    group = impl.CallGroup(reducer)
    op = group.add(1)
    workers = [
        Worker(lambda: (op.result(HANG), op_waiter.set())),
        Worker(lambda: (group.result(HANG), group_waiter.set())),
    ]
    wait_blocked(*workers)
    op.add_done_callback(lambda op: order.append(("op callback", op_waiter.wait(HANG))))
    group.add_done_callback(lambda group: order.append(("group callback", group_waiter.wait(HANG))))
    op.finish()
    for worker in workers:
        worker.result()
    assert order == [("op callback", True), "reducer", ("group callback", True)]


def test_representation(impl):
    group = impl.CallGroup()
    ops = [group.add(key) for key in range(3)]
    ops[0].finish()
    assert repr(group) == "<CallGroup open 2 of 3 outstanding>"
    group.seal()
    assert "sealed" in repr(group)
    ops[1].finish()
    ops[2].finish()
    assert "complete" in repr(group)


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy])
def test_cannot_be_copied(impl, copying):
    with pytest.raises(TypeError, match="CallGroup objects cannot be pickled"):
        copying(impl.CallGroup())


def test_has_no_dict_and_can_be_subclassed(impl):
    class Mine(impl.CallGroup):
        pass

    assert not hasattr(impl.CallGroup(), "__dict__")
    group = Mine()
    group.extra = 1
    group.add(1).finish(2)
    assert group.result()[1].result == 2
    assert impl.CallGroup[int, str, float].__origin__ is impl.CallGroup


def test_a_group_is_initialised_once(impl):
    calls = []
    group = impl.CallGroup(calls.append)
    with pytest.raises(RuntimeError, match="a CallGroup cannot be initialised again"):
        group.__init__()
    group.seal()
    assert len(calls) == 1
