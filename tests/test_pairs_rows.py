"""Rows: every pair of these calls, none of which waits, at the same time; see pairs.py.

Sequences by contract: all that ends more than one operation ends them in order, one after the other.
Leaving a block by an exception gives the key back after that.
"""

from __future__ import annotations

from functools import partial

import pytest
from pairs import Call, contest, name, pairs

from inflight._invariants import check_invariants

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")


class World:
    """A row of two operations, both of one sealed group; if its key is owned, another waits behind it."""

    def __init__(self, impl, kind):
        self.impl = impl
        self.completed = []
        self.ended = []
        group = impl.CallGroup(self.completed.append)
        self.ops = group.add_many([("key", 0), ("key", 1)])
        group.seal()
        for op in self.ops:
            op.add_done_callback(lambda op: self.ended.append((op.msg, self.ending(op))))
        self.queue = getattr(impl, kind)(None, None)
        self.queue.enqueue_many(self.ops)
        self.row = self.queue.dequeue(0)
        self.behind = self.queue.submit("key", "behind")

    def begin(self):
        pass

    def ending(self, op):
        error = op.exception(0)
        return op.result(0) if error is None else self.shown(error)

    def shown(self, answer):
        return f"{type(answer).__name__}: {answer}" if isinstance(answer, Exception) else answer

    def outcome(self, answers):
        queue = self.queue
        check_invariants(queue)
        state = [[self.shown(answer) for answer in answers], [op.done() for op in self.ops], queue.stats()]
        for op in self.ops:
            op.try_finish("end")
        # Each callback once, whoever ended it; the group once, with what they were ended with.
        results = [[(each.op.msg, each.result) for each in results.responses] for results in self.completed]
        state += [sorted(self.ended), results]
        self.row.release()
        assert list(queue.dequeue(0)) == [self.behind]
        self.behind.finish()
        check_invariants(queue)
        return state


def end_one_by_one(end, leave=False):
    """The steps of what ends both operations by ``end(op, side)``, and then gives the key back."""

    def prepare(world, side):
        def steps():
            ended = 0
            for op in world.ops:
                if op.msg:
                    yield
                ended += end(op, side)
            if leave:
                yield
                world.row.release()
            return None if leave else ended

        return steps

    return prepare


def error_of(side):
    return ValueError("AB"[side])


def fail(op, side):
    return op.try_finish(error=error_of(side))


ANY = ("OpQueue", "DedupeQueue")

CALLS = [
    Call(
        "finish_all",
        lambda world, side: partial(world.row.finish_all, "AB"[side]),
        end_one_by_one(lambda op, side: op.try_finish("AB"[side])),
        2,
        kinds=ANY,
    ),
    Call(
        "fail_all",
        lambda world, side: partial(world.row.finish_all, error=error_of(side)),
        end_one_by_one(fail),
        2,
        kinds=ANY,
    ),
    Call(
        "finish_each",
        lambda world, side: partial(world.row.finish_each, [f"{'AB'[side]}{number}" for number in range(2)]),
        end_one_by_one(lambda op, side: op.try_finish(f"{'AB'[side]}{op.msg}")),
        2,
        kinds=ANY,
    ),
    Call(
        "leave_by_error",
        lambda world, side: partial(world.row.__exit__, ValueError, error_of(side), None),
        end_one_by_one(fail, leave=True),
        3,
        kinds=ANY,
    ),
    Call("leave", lambda world, side: partial(world.row.__exit__, None, None, None), kinds=ANY),
    Call("release", lambda world, side: world.row.release, kinds=ANY),
    Call("finish_first", lambda world, side: partial(world.ops[0].finish, "AB"[side]), kinds=ANY),
    Call("finish_last", lambda world, side: partial(world.ops[1].finish, "AB"[side]), kinds=ANY),
    Call("cancel_first", lambda world, side: world.ops[0].cancel, kinds=ANY),
    Call("cancel_last", lambda world, side: world.ops[1].cancel, kinds=ANY),
    Call("result_of_last", lambda world, side: partial(world.ops[1].result, 0), kinds=ANY),
]


@pytest.mark.parametrize("pair", pairs(CALLS, list(ANY)), ids=name)
def test_pair_of_a_row(impl, pair, duo, rounds):
    kind, *calls = pair
    contest(lambda: World(impl, kind), tuple(calls), duo, rounds, meeting=False)
