"""Operations and groups without memory: whatever allocation fails, what is finished is finished once and for
all, and whoever waits for it gets to know.

As in test_nomemory_enqueue. Callbacks and reducers here are functions that allocate nothing: what calls them is to
be tested. (One that fails itself has been called: that is its own error.)
"""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
from helpers import Worker, wait_blocked
from nomemory import WAYS, HandOver, Table, insisting, same

from inflight import OpAbandonedError
from inflight._invariants import check_invariants

table = Table()


class Calls:
    """How often its function was called."""

    def __init__(self):
        self.count = 0

        def call(_):
            self.count += 1

        self.call = call


def error_of(op):
    return insisting(op.exception)


FINISHING = {
    "result": lambda op: op.finish("result"),
    "error": lambda op: op.finish(error=ERROR),
    "try": lambda op: op.try_finish("result"),
    "cancel": lambda op: op.cancel(),
}
ERROR = ValueError("an error")


def check_finished(op, how):
    if how == "error":
        assert op.exception() is ERROR
    elif how == "cancel":
        assert op.cancelled()
    else:
        assert op.result() == "result"


@table.case(*FINISHING)
def finish(impl, how):
    """With waiting threads, callbacks and a group, which it completes."""
    reduced, op_calls, group_calls = Calls(), [Calls(), Calls()], Calls()
    group = impl.CallGroup(reduced.call)
    with group:
        op, other = group.add("a", 1), group.add("b")
    other.finish()
    for calls in op_calls:
        op.add_done_callback(calls.call)
    group.add_done_callback(group_calls.call)
    workers = [Worker(error_of, op), Worker(insisting, group.result)]
    wait_blocked(*workers)
    finishing = FINISHING[how]
    outcome = yield lambda: finishing(op)
    if not op.done():
        assert outcome.refused
        assert reduced.count == group_calls.count == sum(calls.count for calls in op_calls) == 0
        finishing(op)
    check_finished(op, how)
    assert workers[0].result() is op.exception()
    assert [calls.count for calls in op_calls] == [1, 1]
    assert same((response.op for response in workers[1].result().responses), [op, other])
    assert reduced.count == group_calls.count == 1
    assert group.outstanding == 0


@table.case(*FINISHING)
def finish_again(impl, how):
    op = impl.Op("a")
    op.finish("result")
    finishing = FINISHING[how]
    yield lambda: finishing(op)
    assert op.result() == "result"


@table.case()
def finish_with_callbacks_that_raise(impl):
    calls = Calls()
    group = impl.CallGroup(fail)
    op = group.add("a")
    op.add_done_callback(fail)
    op.add_done_callback(calls.call)
    group.add_done_callback(fail)
    group.add_done_callback(calls.call)
    outcome = yield lambda: op.finish("result")
    if not op.done():
        assert outcome.refused
        op.finish("result")
    assert calls.count == 2
    with pytest.raises((ZeroDivisionError, MemoryError, SystemError)):
        group.result(0)


def fail(_):
    raise ZeroDivisionError


@table.case("all", "all_error", "each", "with", "with_cancel")
def finish_a_row(impl, how):
    reduced, calls = Calls(), Calls()
    group = impl.CallGroup(reduced.call)
    queue = impl.DedupeQueue(None, None)
    with group:
        ops = group.add_many([(key, key) for key in range(3)])
    for op in ops:
        queue.enqueue("a", op)
        op.add_done_callback(calls.call)
    row = queue.dequeue(0)
    results = [1, ERROR, 3]
    call = {
        "all": lambda: row.finish_all("result"),
        "all_error": lambda: row.finish_all(error=ERROR),
        "each": lambda: row.finish_each(results),
        "with": partial(row.__exit__, ValueError, ERROR, None),
        "with_cancel": partial(row.__exit__, KeyboardInterrupt, KeyboardInterrupt(), None),
    }[how]
    outcome = yield call
    done = [op for op in ops if op.done()]
    if impl.name == "native" or how.startswith("with"):
        # All of them, or none.
        assert done in ([], ops)
    if not done:
        assert outcome.refused
        assert not how.startswith("with")
    if how.startswith("with"):
        assert queue.stats().owned == 0
    if len(done) < 3:
        row.finish_all("late")
    row.release()
    assert calls.count == 3
    assert reduced.count == 1
    assert len(group.result(0).responses) == 3


# ---- waiting --------------------------------------------------------------------------------------


@table.case(*[(how, call) for how in FINISHING for call in ("result", "exception")])
def ask_what_is_finished(impl, how, call):
    op = impl.Op("a")
    FINISHING[how](op)
    yield (op.result if call == "result" else op.exception)
    check_finished(op, how)


@table.case("result", "exception")
def ask_in_vain(impl, call):
    op = impl.Op("a")
    yield partial(op.result if call == "result" else op.exception, 0.0001)
    op.finish()


@table.case(*[(how, call) for how in ("result", "error") for call in ("result", "exception")])
def ask_until_it_is_finished(impl, how, call):
    op = impl.Op("a")
    other = HandOver(lambda: FINISHING[how](op))
    asking = {"result": lambda: other.ready() or op.result(), "exception": lambda: other.ready() or op.exception()}
    yield asking[call]
    other.join()
    check_finished(op, how)


@table.case("ready", "failed", "vain", "late")
def ask_a_group(impl, state):
    group = impl.CallGroup(fail if state == "failed" else None)
    op = group.add("a")
    other = HandOver(op.finish)
    if state in ("ready", "failed"):
        op.finish()
    if state == "late":
        yield lambda: other.ready() or group.result()
        other.join()
    else:
        yield partial(group.result, 0.0001)
        op.try_finish()
        other.ready()
        Worker(other.join).exception()
    assert group.done()


# ---- callbacks ------------------------------------------------------------------------------------


@table.case(*[(what, late) for what in ("op", "group") for late in (False, True)])
def add_a_callback(impl, what, late):
    group = impl.CallGroup()
    op = group.add("a")
    calls = Calls()
    if late:
        op.finish()
    adding = (op if what == "op" else group).add_done_callback
    outcome = yield lambda: adding(calls.call)
    op.try_finish()
    if outcome.kind is None:
        assert calls.count == 1
    else:
        # The pure one may have kept it.
        assert calls.count == 0 or impl.name == "pure"
        assert calls.count <= 1


@table.case(False, True)
def drop_an_operation(impl, alone):
    """Nobody can be told that memory is short: it must be finished all the same."""
    reduced, calls, group_calls = Calls(), Calls(), Calls()
    group = impl.CallGroup(reduced.call)
    held = [impl.Op("a") if alone else group.add("a")]
    held[0].add_done_callback(calls.call)
    group.add_done_callback(group_calls.call)
    yield held.clear
    assert calls.count == 1
    if not alone:
        assert reduced.count == group_calls.count == 1
        assert isinstance(group.result(0).responses[0].error, OpAbandonedError)
    return 1


@table.case()
def drop_a_row(impl):
    calls = Calls()
    group = impl.CallGroup(calls.call)
    queue = impl.DedupeQueue(None, None)
    with group:
        for _ in range(3):
            queue.enqueue("a", group.add("a"))
    behind = impl.Op("a")
    held = [queue.dequeue(0)]
    queue.enqueue("a", behind)
    yield held.clear
    check_invariants(queue)
    # CPython 3.11 leaks what a call was given whose frame it could not make: then it is never dropped.
    assert calls.count == 1 or impl.name == "pure"
    assert list(queue.dequeue(0)) == [behind]
    behind.finish()
    return 3


# ---- groups ---------------------------------------------------------------------------------------


@table.case("str", "int", "tuple")
def make_an_operation(impl, key):
    key = {"str": "a", "int": 12345, "tuple": ("a", 1)}[key]
    outcome = yield lambda: impl.Op(key, "message")
    if outcome.value is not None:
        assert (outcome.value.key, outcome.value.msg) == (key, "message")
        outcome.value.finish()


@table.case(False, True)
def make_a_group(impl, reducer):
    calls = Calls()
    argument = calls.call if reducer else None
    outcome = yield lambda: impl.CallGroup(argument)
    if outcome.value is not None:
        outcome.value.seal()
        assert calls.count == int(reducer)


@table.case("add", "add_many")
def add(impl, call):
    calls = Calls()
    group = impl.CallGroup(calls.call)
    with group:
        kept = group.add("kept")
        items = [("a", 1), ("b", 2)]
        adding = {"add": lambda: group.add("a", 1), "add_many": lambda: group.add_many(items)}[call]
        outcome = yield adding
        ops = [] if outcome.value is None else outcome.value if call == "add_many" else [outcome.value]
        if impl.name == "native" or outcome.kind is None:
            assert group.outstanding == len(group) == 1 + len(ops)
        for op in ops:
            op.finish()
        del ops, outcome
    kept.finish()
    assert group.done()
    assert calls.count == 1
    assert kept in [response.op for response in group.result(0).responses]
    # The pure one may have added them before it failed: then they were dropped.
    return 2 if impl.name == "pure" else 0


@table.case("add", "add_many", "add_none", "with")
def add_too_late(impl, call):
    group = impl.CallGroup()
    group.seal()
    items = [("a", 1), ("b", 2)]
    calls = {
        "add": lambda: group.add("a", 1),
        "add_many": lambda: group.add_many(items),
        "add_none": lambda: group.add_many(()),
        "with": lambda: group.__enter__(),
    }
    yield calls[call]
    assert group.outstanding == len(group) == 0
    return 2 if impl.name == "pure" else 0


@table.case("first", "nested")
def enter_a_group(impl, how):
    """Who was refused has not entered, and will not leave."""
    calls = Calls()
    group = impl.CallGroup(calls.call)
    holds = [group.__enter__()] if how == "nested" else []
    outcome = yield lambda: group.__enter__()
    holds += [] if outcome.value is None else [group]
    for _ in holds:
        assert not group.done()
        group.__exit__(None, None, None)
    group.seal()
    assert group.done()
    assert calls.count == 1


@table.case("seal", "with", "nested")
def close_a_group(impl, how):
    reduced, calls = Calls(), Calls()
    group = impl.CallGroup(reduced.call)
    group.add_done_callback(calls.call)
    for _ in range({"seal": 0, "with": 1, "nested": 2}[how]):
        group.__enter__()
    group.add("a").finish() if how != "seal" else None
    closing = group.seal if how == "seal" else partial(group.__exit__, None, None, None)
    outcome = yield closing
    if how == "nested":
        assert not group.done()
    if not group.done():
        assert outcome.refused or how == "nested"
        # An exit that failed may have counted, in the pure implementation.
        for _ in range(2):
            if how != "seal" and not group.done():
                with contextlib.suppress(RuntimeError):
                    group.__exit__(None, None, None)
        group.seal()
    assert group.done()
    assert reduced.count == calls.count == 1
    group.result(0)


LOOKS = {
    "repr": repr,
    "len": len,
    "outstanding": lambda group: group.outstanding,
    "done": lambda group: group.done(),
    "reduce": lambda group: group.__reduce__(),
}


@table.case(*LOOKS)
def look_at_a_group(impl, look):
    group = impl.CallGroup()
    op = group.add("a")
    looking = LOOKS[look]
    yield lambda: looking(group)
    op.finish()
    assert group.done()


OP_LOOKS = {
    "repr": repr,
    "done": lambda op: op.done(),
    "cancelled": lambda op: op.cancelled(),
    "key": lambda op: op.key,
    "group": lambda op: op.group,
    "reduce": lambda op: op.__reduce__(),
}


@table.case(*[(how, look) for how in ("pending", *FINISHING) for look in OP_LOOKS])
def look_at_an_operation(impl, how, look):
    op = impl.Op("a")
    if how != "pending":
        FINISHING[how](op)
    looking = OP_LOOKS[look]
    yield lambda: looking(op)
    assert op.done() is (how != "pending")
    op.try_finish()


RESULTS = {
    "responses": lambda results: results.responses,
    "errors": lambda results: results.errors,
    "item": lambda results: results["a"],
    "iter": list,
    "len": len,
    "values": lambda results: list(results.values()),
    "repr": repr,
    "raise": lambda results: results.raise_for_errors(),
}


@table.case(*RESULTS)
def look_at_results(impl, look):
    with impl.CallGroup() as group:
        ops = group.add_many([("a", 1), ("b", 2), ("a", 3)])
    for op in ops:
        FINISHING["error" if op.msg == 2 else "result"](op)
    looking = RESULTS[look]
    results = group.result()
    yield lambda: looking(results)
    assert [response.op for response in results.responses] == ops
    assert results["a"].op is ops[2]
    assert results.errors == (ERROR,)


@table.case(*[(look, at) for look in ("responses", "item") for at in (1, 3)])
def complete_and_look(impl, look, at):
    """The reducer looks at the results: what fails there is its own error, and the results are whole."""
    seen = []
    looked = Calls()
    looking = RESULTS[look]

    def reduce(results):
        seen.append(results)
        looking(results)
        looked.call(None)

    seen.append(None)
    group = impl.CallGroup(reduce)
    with group:
        ops = group.add_many([("a", number) for number in range(at)])
    for op in ops[1:]:
        op.finish()
    outcome = yield lambda: ops[0].finish()
    if not ops[0].done():
        assert outcome.refused
        ops[0].finish()
    assert group.done()
    if looked.count:
        results = group.result(0)
        assert results is seen[1]
        assert [response.op for response in results.responses] == ops
    else:
        with pytest.raises((MemoryError, SystemError)):
            group.result(0)
        for results in seen[1:]:
            assert [response.op for response in results.responses] == ops


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", table.cases)
def test_nothing_is_lost_for_want_of_memory(impl, name, way):
    table.run(impl, way, name)
