"""Operations and groups: every pair of these calls, none of which waits, at the same time; see pairs.py.

A sequence by contract: ``with group:`` enters and leaves.
"""

from __future__ import annotations

import threading
from functools import partial

import pytest
from helpers import wait_until
from pairs import Call, contest, name, pairs

from inflight import GroupClosedError

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")


class Callbacks:
    """Callbacks that tell when they ran: in the call that added them, or not."""

    def __init__(self):
        self.ran = []
        self._adding = {}

    def adder(self, add, side):
        def call():
            me = threading.get_ident()
            self._adding[side] = me

            def callback(_):
                late = self._adding[side] == me and threading.get_ident() == me
                self.ran.append((side, "late" if late else "in time"))

            add(callback)
            self._adding[side] = None

        return call


class OpWorld:
    """One operation: pending, finished, or held by nothing but the calls that are made."""

    def __init__(self, impl, kind):
        self.impl = impl
        self.callbacks = Callbacks()
        self.ended = []
        self.op = impl.Op("key")
        ended = self.ended
        self.op.add_done_callback(lambda op: ended.append((op.exception(0).__class__.__name__, op.cancelled())))
        if kind == "finished":
            self.op.finish("early")
        self.dropped = kind == "dropped"

    def begin(self):
        if self.dropped:
            self.op = None

    def outcome(self, answers):
        shown = [type(answer).__name__ if isinstance(answer, Exception) else answer for answer in answers]
        if self.op is None:
            # Finished by its own end, maybe in the other thread, which has still to notice.
            wait_until(lambda: self.ended)
            return shown, self.ended, sorted(self.callbacks.ran)
        done = self.op.done()
        self.op.try_finish("end")
        result = None if self.op.exception(0) else self.op.result(0)
        return shown, done, result, self.ended, self.callbacks.ran


def of_op(name_, *arguments, **options):
    return lambda world, side: partial(getattr(world.op, name_), *arguments, **options)


OP_KINDS = ["pending", "finished", "dropped"]
ANY_OP = tuple(OP_KINDS)

OP_CALLS = [
    Call("finish", lambda world, side: partial(world.op.finish, "AB"[side]), kinds=ANY_OP),
    Call("fail", lambda world, side: partial(world.op.finish, error=ValueError("AB"[side])), kinds=ANY_OP),
    Call("try_finish", lambda world, side: partial(world.op.try_finish, "AB"[side]), kinds=ANY_OP),
    Call("cancel", of_op("cancel"), kinds=ANY_OP),
    Call("result", of_op("result", 0), kinds=ANY_OP),
    Call("exception", lambda world, side: lambda op=world.op: repr(op.exception(0)), kinds=("pending", "finished")),
    Call(
        "add_done_callback",
        lambda world, side: world.callbacks.adder(world.op.add_done_callback, side),
        kinds=ANY_OP,
    ),
    Call("done", of_op("done"), kinds=ANY_OP),
    Call("cancelled", of_op("cancelled"), kinds=ANY_OP),
    Call("drop", lambda world, side: [world.op].clear, kinds=("dropped",)),
]


def keep_nothing(pair):
    """Calls on an operation that nothing else holds must not be kept either."""
    kind, first, second = pair
    if kind != "dropped":
        return pair
    return kind, *(Call(call.name, call.prepare, alone=True, kinds=call.kinds) for call in (first, second))


@pytest.mark.parametrize("pair", pairs(OP_CALLS, OP_KINDS), ids=name)
def test_pair_of_an_operation(impl, pair, duo, rounds):
    kind, *calls = keep_nothing(pair)
    contest(lambda: OpWorld(impl, kind), tuple(calls), duo, rounds, meeting=False)


class GroupWorld:
    """A group: empty, with one operation outstanding, sealed with one or two of them, or held open."""

    def __init__(self, impl, kind):
        self.impl = impl
        self.kind = kind
        self.calls = []
        self.group = impl.CallGroup(self.calls.append)
        self.callbacks = Callbacks()
        self.ops = []
        if kind == "empty":
            return
        self.ops = self.group.add_many([(0, "s0"), (1, "s1")] if kind == "sealed2" else [(0, "s0")])
        if kind == "held":
            self.group.__enter__()

    def begin(self):
        if self.kind.startswith("sealed"):
            self.group.seal()

    def op(self, side):
        return self.ops[min(side, len(self.ops) - 1)]

    def shown(self, answer):
        if isinstance(answer, Exception):
            return type(answer).__name__
        if isinstance(answer, self.impl.Op):
            self.ops.append(answer)
            return answer.msg
        if isinstance(answer, list):
            return [self.shown(each) for each in answer]
        if answer is not None and type(answer) not in (bool, int):
            return self.shown_results(answer)
        return answer

    def shown_results(self, results):
        return [(response.op.msg, response.result, type(response.error).__name__) for response in results.responses]

    def outcome(self, answers):
        group = self.group
        state = [self.shown(answers), len(self.calls), group.outstanding, len(group), group.done()]
        try:
            # Whether it takes one more.
            self.ops.append(group.add("probe", "probe"))
            state.append("open")
        except GroupClosedError as error:
            state.append(str(error))
        for op in self.ops:
            op.try_finish("end")
        if self.kind == "held":
            assert not self.calls
            self.group.__exit__(None, None, None)
        group.seal()
        assert len(self.calls) == 1
        assert group.result(0) is self.calls[0]
        return state, self.shown_results(self.calls[0]), self.callbacks.ran


GROUP_KINDS = ["empty", "open", "sealed", "sealed2", "held"]
ANY_GROUP = tuple(GROUP_KINDS)
WITH_OPS = ANY_GROUP[1:]


def of_group(name_, *arguments):
    return lambda world, side: partial(getattr(world.group, name_), *arguments)


def block(world, side):
    def call():
        with world.group:
            pass

    return call


def enter_and_leave(world, side):
    def steps():
        world.group.__enter__()
        yield
        world.group.__exit__(None, None, None)

    return steps


def drop_op(world, side):
    return [world.group.add("dropped", "dropped")].clear


GROUP_CALLS = [
    Call("drop", drop_op, alone=True, kinds=WITH_OPS),
    Call("finish", lambda world, side: partial(world.op(side).finish, "AB"[side]), kinds=WITH_OPS),
    Call("cancel", lambda world, side: world.op(side).cancel, kinds=WITH_OPS),
    Call("add", lambda world, side: partial(world.group.add, "k", "AB"[side]), kinds=ANY_GROUP),
    Call(
        "add_many",
        lambda world, side: partial(world.group.add_many, [("k", "AB"[side] + number) for number in "12"]),
        kinds=ANY_GROUP,
    ),
    Call("seal", of_group("seal"), kinds=ANY_GROUP),
    Call("block", block, enter_and_leave, 2, kinds=ANY_GROUP),
    Call("result", of_group("result", 0), kinds=ANY_GROUP),
    Call(
        "add_done_callback",
        lambda world, side: world.callbacks.adder(world.group.add_done_callback, side),
        kinds=ANY_GROUP,
    ),
    Call("outstanding", lambda world, side: lambda: world.group.outstanding, kinds=ANY_GROUP),
    Call("len", of_group("__len__"), kinds=ANY_GROUP),
    Call("done", of_group("done"), kinds=ANY_GROUP),
]


@pytest.mark.parametrize("pair", pairs(GROUP_CALLS, GROUP_KINDS), ids=name)
def test_pair_of_a_group(impl, pair, duo, rounds):
    kind, *calls = pair
    contest(lambda: GroupWorld(impl, kind), tuple(calls), duo, rounds, meeting=False)
