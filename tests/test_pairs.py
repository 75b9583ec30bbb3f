"""Queues: every pair of these calls, none of which waits, at the same time; see pairs.py.

Sequences by contract: ``enqueue_many`` enqueues one operation after the other, ``process`` takes a row and
then gives it back. Everything else is one step.
"""

from __future__ import annotations

from functools import partial

import pytest
from helpers import Key
from pairs import Call, contest, name, pairs

from inflight import InflightError, QueueClosedError, QueueEmptyError, QueueSaturatedError
from inflight._invariants import check_invariants

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")

WINDOW = 1.0


class World:
    """A queue with a ready row "r", an open row "a" and two more, and, if exclusive, an owned "o".

    Of a ``last`` one nothing is left but "r", or an owned "o". A ``full`` one has no room for another
    key, and its rows, but "a", none for another operation. An open row is ready where there is no
    window.
    """

    def __init__(self, impl, kind, clock, owns):
        parts = kind.split("-")
        self.impl = impl
        self.clock = clock
        self.exclusive = "exclusive" in parts
        self.windowed = "windowed" in parts
        self.last = "last" in parts
        self.full = "full" in parts
        self.compared = "compared" in parts
        self.ops = []
        self.held = []
        self.depth = None
        if self.full:
            self.depth = 5 if self.exclusive else 4
        window = WINDOW if self.windowed else 0
        self.queue = impl.OpWindow(self.depth, 2 if self.full else None, window, exclusive=self.exclusive)
        if self.exclusive and not owns:
            self.held.append(self.own("o"))

    def key(self, name):
        return Key(name) if self.compared else name

    def op(self, key, msg):
        op = self.impl.Op(key, msg)
        self.ops.append(op)
        return op

    def enqueue(self, name, msg):
        key = self.key(name)
        self.queue.enqueue(key, self.op(key, msg))

    def own(self, name):
        """Have the row of a key handed out; of "o", one operation gathers behind it."""
        self.enqueue(name, "owned")
        self.queue.flush()
        row = self.queue.dequeue(0)
        if name == "o" and not self.last:
            self.enqueue("o", "behind")
            # Its window is over, so that it is ready once its key is free.
            self.queue.flush()
        return row

    def begin(self):
        """The rest, once the calls are prepared."""
        queue = self.queue
        if self.last and self.exclusive:
            return
        self.enqueue("r", "r1")
        queue.flush()
        if self.last:
            return
        for key in ("a", "b", "c"):
            self.enqueue(key, key + "1")
        if self.full:
            for key in ("r", "b", "c"):
                self.enqueue(key, key + "2")

    def shown(self, answer):
        if isinstance(answer, Exception):
            assert isinstance(answer, InflightError), answer
            return type(answer).__name__
        if isinstance(answer, self.impl.OpSet):
            return str(answer.key), [op.msg for op in answer]
        if isinstance(answer, self.impl.Op):
            self.ops.append(answer)
            return answer.msg
        if isinstance(answer, list):
            return [self.shown(each) for each in answer]
        if isinstance(answer, tuple) and type(answer) is tuple:
            return tuple(self.shown(each) for each in answer)
        return answer

    def outcome(self, answers):
        """Answers and final state; empties the queue."""
        queue = self.queue
        check_invariants(queue)
        state = [self.shown(answers), queue.stats(), queue.closed, len(queue), queue.join(0)]
        rows = self.held
        for answer in answers:
            rows += [answer] if isinstance(answer, self.impl.OpSet) else answer if isinstance(answer, list) else []
        # What is ready first, then what was open; then what waited behind the owners.
        while True:
            ready = []
            while True:
                try:
                    ready.append(queue.dequeue(0))
                except (QueueEmptyError, QueueClosedError):
                    break
            opened = queue.drain()
            state += [self.shown(ready), self.shown(opened)]
            rows += ready + opened
            if not rows:
                break
            while rows:
                row = rows.pop(0)
                if isinstance(row, self.impl.OpSet):
                    row.release()
        check_invariants(queue)
        for op in self.ops:
            op.try_finish()
        return state


def enqueue(key):
    def prepare(world, side):
        return partial(world.queue.enqueue, world.key(key), world.op(key, "AB"[side]))

    return prepare


def submit(world, side):
    return partial(world.queue.submit, world.key("n"), "AB"[side])


def enqueue_many(world, side):
    world.many = getattr(world, "many", [None, None])
    world.many[side] = ops = [world.op(world.key(key), f"{'AB'[side]}{key}") for key in ("r", "n")]
    return partial(world.queue.enqueue_many, ops)


def enqueue_one_by_one(world, side):
    def steps():
        refused = []
        for number, op in enumerate(world.many[side]):
            if number:
                yield
            try:
                world.queue.enqueue(op.key, op)
            except QueueSaturatedError as error:
                refused.append((op, error))
        return refused

    return steps


def process(world, side):
    taken = []
    return lambda: (world.queue.process(lambda row: taken.append(world.shown(row)), 0), taken)


def take_and_give_back(world, side):
    def steps():
        try:
            row = world.queue.dequeue(0)
        except QueueClosedError:
            return False, []
        yield
        taken = [world.shown(row)]
        row.release()
        return True, taken

    return steps


def release(world, side):
    # Both sides may release the same row: that is the race.
    if side == 0:
        world.held.append(world.own("o"))
    return world.held[0].release


def drop(world, side):
    return [world.own("op"[side])].clear


def pass_time(world, side):
    # A call that looks at the clock, as any does.
    def call():
        world.clock.advance(2 * WINDOW)
        world.queue.flush(world.key("nobody's"))

    return call


def time_passes(world, side):
    def steps():
        world.clock.advance(2 * WINDOW)
        yield
        world.queue.flush(world.key("nobody's"))

    return steps


KINDS = [
    "plain", "plain-last", "plain-full", "plain-compared", "exclusive", "exclusive-last", "exclusive-full",
    "exclusive-compared", "windowed", "windowed-full", "windowed-exclusive", "windowed-exclusive-full",
]  # fmt: skip
EXCLUSIVE = tuple(kind for kind in KINDS if "exclusive" in kind)
WINDOWED = tuple(kind for kind in KINDS if "windowed" in kind)
ANY = tuple(KINDS)
# Where it matters that a row is the last one, that there is no room, that keys are compared.
PLAIN = tuple(kind for kind in KINDS if kind.split("-")[-1] not in ("last", "full", "compared"))
COUNTED = PLAIN + tuple(kind for kind in KINDS if kind.endswith("last"))
FOUND = PLAIN + tuple(kind for kind in KINDS if kind.endswith("compared"))
FILLED = PLAIN + tuple(kind for kind in KINDS if kind.endswith("full"))


def both(kinds, others):
    return tuple(kind for kind in kinds if kind in others)


def method(name, *arguments, **options):
    return lambda world, side: partial(getattr(world.queue, name), *arguments, **options)


def keyed(name, key):
    return lambda world, side: partial(getattr(world.queue, name), world.key(key))


# Those that own come first: then the other side is the one that meets their key.
CALLS = [
    Call("release", release, owns=True, kinds=EXCLUSIVE),
    Call("drop", drop, owns=True, alone=True, kinds=EXCLUSIVE),
    Call("enqueue", enqueue("n"), kinds=ANY),
    Call("enqueue_ready", enqueue("r"), kinds=ANY),
    Call("enqueue_open", enqueue("a"), kinds=WINDOWED),
    Call("enqueue_owned", enqueue("o"), kinds=EXCLUSIVE),
    Call("enqueue_many", enqueue_many, enqueue_one_by_one, 2, kinds=ANY),
    Call("submit", submit, kinds=FILLED),
    Call("dequeue", method("dequeue", 0), kinds=ANY),
    Call("dequeue_many", method("dequeue_many", 3, 0), kinds=ANY),
    Call("drain", method("drain"), kinds=ANY),
    Call("process", process, take_and_give_back, 2, kinds=ANY),
    Call("flush", method("flush"), kinds=WINDOWED),
    Call("flush_key", keyed("flush", "a"), kinds=WINDOWED),
    Call("pass_time", pass_time, time_passes, 2, kinds=WINDOWED),
    Call("close", method("close"), kinds=ANY),
    Call("stats", method("stats"), kinds=PLAIN),
    Call("contains", keyed("__contains__", "r"), kinds=FOUND),
    Call("contains_owned", keyed("__contains__", "o"), kinds=both(EXCLUSIVE, FOUND)),
    Call("len", method("__len__"), kinds=PLAIN),
    Call("join", method("join", 0), kinds=COUNTED),
]


@pytest.mark.parametrize("pair", pairs(CALLS, KINDS), ids=name)
def test_pair(impl, pair, duo, clock, rounds, witness):
    kind, *calls = pair
    owns = any(call.owns for call in calls)
    plain = kind in PLAIN
    contest(
        lambda: World(impl, kind, clock, owns),
        tuple(calls),
        duo,
        rounds,
        meeting=plain and impl.name == "pure",
        unseen=lambda: witness.unseen("LOCK_CONTENDED") if plain else [],
    )
