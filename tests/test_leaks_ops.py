"""Nothing is kept by operations and groups, however they end."""

from __future__ import annotations

import contextlib
import copy
import pickle
import weakref

import pytest
from helpers import HANG, Worker, wait_blocked
from leaking import Raising, Table, leave_by, raises

from inflight import (
    AlreadyFinishedError,
    GroupClosedError,
    OpCancelledError,
)

table = Table()


@table.scenario
def op_finished(kit):
    op = kit.op()
    assert not op.done()
    op.finish(kit.result)
    assert (op.result(), op.exception(), op.key, op.msg) == (kit.result, None, kit.key, kit.msg)
    assert (op.done(), op.cancelled(), op.group, op.try_finish()) == (True, False, None, False)
    raises(AlreadyFinishedError, op.finish, kit.result)
    raises(AlreadyFinishedError, op.finish, error=kit.error)


@table.scenario
def op_failed(kit):
    op = kit.op()
    op.finish(error=kit.error)
    raises(ValueError, op.result)
    assert op.exception() is kit.error
    assert not op.cancel()


@table.scenario
def op_failed_with_what_was_raised(kit):
    def work():
        try:
            raise ValueError(kit.msg)
        except ValueError as error:
            op.finish(error=error)

    op = kit.op()
    work()
    raises(ValueError, op.result)


@table.scenario
def op_cancelled(kit):
    op = kit.op()
    assert op.cancel()
    assert op.cancelled()
    raises(OpCancelledError, op.result, 0)
    op.cancel()


@table.scenario
def op_abandoned(kit):
    op = kit.op()
    op.add_done_callback(kit.callback)


@table.scenario
def op_refused_error(kit):
    op = kit.op()
    for error in (ValueError, StopIteration(), kit.msg):
        raises(TypeError, op.finish, error=error)
        raises(TypeError, op.try_finish, error=error)
    op.finish()


@table.scenario
def op_of_a_bad_key(kit):
    raises(TypeError, kit.impl.Op, [kit.msg])
    raises(KeyboardInterrupt, kit.impl.Op, Raising(KeyboardInterrupt, hashed=True), kit.msg)
    op = kit.op()
    raises(RuntimeError, op.__init__, kit.other, kit.msg)
    op.finish()


@table.scenario
def op_callbacks(kit):
    def interrupt(done):
        raise KeyboardInterrupt

    def fail(done):
        raise ValueError(done)

    for finish in (lambda op: op.finish(kit.result), lambda op: op.finish(error=kit.error), lambda op: op.cancel()):
        op = kit.op()
        for callback in (kit.callback, fail, kit.callback):
            op.add_done_callback(callback)
        finish(op)
        op.add_done_callback(kit.callback)
        op.add_done_callback(fail)
        raises(KeyboardInterrupt, op.add_done_callback, interrupt)
    op = kit.op()
    op.add_done_callback(interrupt)
    op.add_done_callback(kit.callback)
    raises(TypeError, op.add_done_callback, kit.msg)
    raises(KeyboardInterrupt, op.finish, kit.result)


@table.scenario
def op_shown_pickled_referenced(kit):
    op = kit.op()
    ref = weakref.ref(op, kit.callback)
    for _ in range(2):
        assert repr(op)
        op.try_finish(error=kit.error)
    for how in (pickle.dumps, copy.copy, copy.deepcopy):
        raises(TypeError, how, op)
    assert kit.impl.Op[int, str, bytes]
    assert ref() is op


@table.scenario
def op_of_a_subclass(kit):
    op = kit.subclass(kit.key, kit.msg)
    op.itself = op
    op.finish(op)


@table.slowly
def op_times_out(kit):
    op = kit.op()
    for timeout in (0, 0.0005):
        raises(TimeoutError, op.result, timeout)
        raises(TimeoutError, op.exception, timeout)
    raises(ValueError, op.result, float("nan"))
    op.finish()


@table.slowly
def op_and_group_awaited_by_threads(kit):
    group = kit.impl.CallGroup(kit.reducer)
    op = group.add(kit.key, kit.msg)
    workers = [Worker(call, HANG) for call in (op.result, op.exception, group.result)]
    wait_blocked(*workers, looks=2)  # a hundred thousand rounds, of which most shall wait
    op.finish(kit.result)
    assert workers[0].result() is kit.result
    for worker in workers[1:]:
        worker.result()


@table.scenario
def group_reduced(kit):
    with kit.impl.CallGroup(kit.reducer) as group:
        ops = [group.add(kit.key, kit.msg), *group.add_many([(kit.other, kit.msg), (kit.twin, kit.msg)])]
        group.add_done_callback(kit.callback)
    raises(GroupClosedError, group.add, kit.key, kit.msg)
    raises(GroupClosedError, group.add_many, [(kit.key, kit.msg)])
    assert repr(group)
    for op in ops:
        op.finish(kit.result)
    group.add_done_callback(kit.callback)
    raises(GroupClosedError, group.add, kit.key, kit.msg)
    raises(GroupClosedError, group.__enter__)
    raises(RuntimeError, group.__exit__, None, None, None)
    results = group.result()
    assert results[kit.key].op is ops[-1]
    assert (len(results), len(results.responses), len(results.errors), list(results)[1]) == (2, 3, 0, kit.other)
    results.raise_for_errors()
    assert (group.outstanding, len(group), group.done()) == (0, 3, True)


@table.scenario
def group_of_failed_operations(kit):
    group = kit.impl.CallGroup()
    ops = group.add_many([(kit.key, None), (kit.other, None), (1, None)])
    ops[0].finish(error=kit.error)
    ops[1].cancel()
    del ops  # the third is abandoned
    results = group.result()
    raises(BaseExceptionGroup, results.raise_for_errors)
    assert len(results.errors) == 3
    assert repr(results)
    raises(KeyError, results.__getitem__, kit.msg)
    raises(TypeError, pickle.dumps, results)
    raises(AttributeError, setattr, results, "x", kit.msg)
    raises(TypeError, pickle.dumps, group)


@table.scenario
def group_whose_reducer_raises(kit):
    def reduce(results):
        raise kind(results)

    for kind in (ValueError, KeyboardInterrupt, SystemExit):
        group = kit.impl.CallGroup(reduce)
        op = group.add(kit.key, kit.msg)
        if kind is ValueError:
            op.finish(kit.result)
        else:
            raises(kind, op.finish, kit.result)
        for _ in range(2):
            raises(kind, group.result)
        group = kit.impl.CallGroup(reduce)
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            group.seal()


@table.scenario
def group_whose_reducer_waits_for_it(kit):
    group = kit.impl.CallGroup(lambda results: raises(RuntimeError, group.result, 0))
    group.add(kit.key, kit.msg).finish(kit.result)
    group.result()


@table.scenario
def group_whose_callbacks_raise(kit):
    def fail(done):
        raise ValueError(done)

    def interrupt(done):
        raise KeyboardInterrupt(done)

    for callback in (fail, interrupt):
        group = kit.impl.CallGroup(kit.reducer)
        group.add_done_callback(callback)
        with contextlib.suppress(KeyboardInterrupt):
            group.seal()
        with contextlib.suppress(KeyboardInterrupt):
            group.add_done_callback(callback)
    raises(TypeError, group.add_done_callback, kit.msg)
    raises(TypeError, kit.impl.CallGroup, kit.msg)
    raises(RuntimeError, group.__init__, kit.reducer)


@table.scenario
def group_filled_half_way(kit):
    def items(last):
        yield kit.key, kit.msg
        yield kit.other, kit.msg
        if isinstance(last, BaseException):
            raise last
        yield last

    group = kit.impl.CallGroup(kit.reducer)
    interrupting = Raising(KeyboardInterrupt, hashed=True)
    for last, kind in [
        (ValueError(), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (kit.msg, TypeError),
        (([], kit.msg), TypeError),
        ((interrupting, kit.msg), KeyboardInterrupt),
    ]:
        raises(kind, group.add_many, items(last))
    raises(TypeError, group.add, [], kit.msg)
    raises(KeyboardInterrupt, group.add, interrupting, kit.msg)
    assert group.add_many([]) == []
    assert len(group) == 0
    raises(ZeroDivisionError, leave_by, group, ZeroDivisionError)
    assert group.done()


@table.slowly
def group_times_out(kit):
    group = kit.impl.CallGroup(kit.reducer)
    op = group.add(kit.key, kit.msg)
    for timeout in (0, 0.0005):
        raises(TimeoutError, group.result, timeout)
    raises(ValueError, group.result, float("nan"))
    op.finish()


@pytest.mark.parametrize("name", table.scenarios)
def test_nothing_is_left_by(impl, request, name):
    table.check(name, impl, request.config.getoption("--operations"))
