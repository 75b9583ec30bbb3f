"""Awaited calls for the cases of test_nomemory_aio: how they are stepped, and what each waits for.

The coroutine of each call is stepped by hand, as a task would step it, so that what fails is the call and
not its loop: a loop that has no memory for its own work is out of our reach.
"""

from __future__ import annotations

import asyncio
from asyncio import _set_running_loop

from helpers import put
from nomemory import same
from nomemory_queues import audit_process, contents

from inflight._invariants import check_invariants


class Hand:
    """A coroutine on a loop that stands still; ``step`` runs it until it is suspended, or ends."""

    def __init__(self, coroutine):
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)
        self.steps = coroutine if hasattr(coroutine, "send") else coroutine.__await__()
        self.woken = 0
        _set_running_loop(self.loop)

    def step(self):
        return self.steps.send(None)

    def park(self):
        """Run it to its suspension, and wait as its task does."""
        self.wait(self.step())

    def wait(self, future):
        assert future is not None
        future._asyncio_future_blocking = False
        future.add_done_callback(self._wake)

    def _wake(self, future):
        self.woken += 1

    def turn(self):
        """Let the loop look at its callbacks."""
        _set_running_loop(None)
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        _set_running_loop(self.loop)

    def close(self):
        _set_running_loop(None)
        self.steps.close()
        self.loop.close()


class Kept:
    """A coroutine that leaves what it awaited in ``value``: returning it would take memory of the test's own."""

    def __init__(self, awaitable):
        self.value = None
        self.over = False

        async def run():
            self.value = await awaitable
            self.over = True

        self.hand = Hand(run())

    def step(self):
        try:
            self.hand.step()
        except StopIteration:
            pass


CONSUMERS = {
    "adequeue": lambda queue, work: queue.adequeue(),
    "adequeue_timeout": lambda queue, work: queue.adequeue(100),
    "adequeue_many": lambda queue, work: queue.adequeue_many(2),
    "anext": lambda queue, work: queue.__aiter__().__anext__(),
    "aprocess": lambda queue, work: queue.aprocess(work),
}


class Scene:
    """What a call waits for. It starts the calls, provides what the first of them waits for, and accounts for it: with
    ``kept`` after the call was resumed, with ``account_next`` where another got it.
    """

    queue = None

    def check(self):
        if self.queue is not None:
            check_invariants(self.queue)

    def waiting(self):
        """How many wait; None where no statistics tell."""
        return


class Rows(Scene):
    """Calls that wait for a row, of a queue that has none."""

    def __init__(self, impl, call, kind="DedupeQueue"):
        self.queue = getattr(impl, kind)(None, None)
        self.call = call
        self.worked = False
        self.before = []

    def start(self):
        async def work(row):
            self.worked = True

        return CONSUMERS[self.call](self.queue, work)

    def provide(self, keys="aa"):
        self.before = put(self.queue, *keys)

    def waiting(self):
        return self.queue.stats().consumers_waiting

    def account(self, outcome, kept=None):
        self.check()
        assert self.waiting() == 0
        if kept is not None and self.call == "aprocess":
            audit_process(self.queue, self.before, self.worked, outcome)
            return
        assert not self.worked
        taken = [] if kept is None else taken_from(kept.value)
        assert same([*taken, *contents(self.queue)], self.before)
        for op in self.before:
            op.finish()

    def account_next(self, value):
        if self.call == "aprocess":
            assert self.worked
        else:
            assert same(taken_from(value), self.before)
        assert contents(self.queue) == []
        for op in self.before:
            op.finish()


class Room(Scene):
    """Calls that wait for room, in a queue that has none."""

    def __init__(self, impl, call):
        self.impl = impl
        self.queue = impl.OpQueue(1, None)
        self.call = call
        self.before = put(self.queue, "old")
        self.ops = []
        self.taken = []

    def start(self):
        key = f"new {len(self.ops)}"
        self.ops.append(self.impl.Op(key))
        return self.queue.aenqueue(key, self.ops[-1]) if self.call == "aenqueue" else self.queue.asubmit(key)

    def provide(self):
        self.taken += self.queue.dequeue(0)

    def waiting(self):
        return self.queue.stats().producers_waiting

    def account(self, outcome, kept=None):
        self.check()
        assert self.waiting() == 0
        accepted = [kept.value or self.ops[0]] if kept is not None and kept.over else []
        self._end(accepted, kept is not None and self.impl.name == "pure" and outcome.refused)

    def account_next(self, value):
        self._end([value or self.ops[1]], False)

    def _end(self, accepted, perhaps_another):
        found = [*self.taken, *contents(self.queue)]
        if perhaps_another and len(found) == 2:
            # Accepted all the same.
            accepted = found[1:]
        assert same(found, [*self.before, *accepted])
        for op in {*found, *self.ops}:
            op.finish()


class End(Scene):
    """A join of a queue with a row."""

    def __init__(self, impl, call):
        self.queue = impl.OpQueue(None, None)
        (self.op,) = put(self.queue, "a")
        self.taken = []

    def start(self):
        return self.queue.ajoin()

    def provide(self):
        self.taken += self.queue.dequeue(0)

    def account(self, outcome, kept=None):
        assert kept is None or kept.value is (True if kept.over else None)
        assert [*self.taken, *contents(self.queue)] == [self.op]
        self.op.finish()

    def account_next(self, value):
        assert value is True
        self.account(None)


class Finish(Scene):
    """Waits for an operation, or for its group."""

    def __init__(self, impl, call):
        self.group = impl.CallGroup()
        self.op = self.group.add("a")
        self.awaited = self.op if call == "op" else self.group
        self.of_group = call == "group"

    def start(self):
        return self.awaited

    def provide(self):
        self.op.finish("result")

    def account(self, outcome, kept=None):
        assert self.group.done()
        if kept is not None and kept.over:
            self.account_next(kept.value)
        assert self.op.result(0) == "result"

    def account_next(self, value):
        assert (value["a"].result if self.of_group else value) == "result"


SCENES = {
    **dict.fromkeys(CONSUMERS, Rows),
    **dict.fromkeys(("aenqueue", "asubmit"), Room),
    "ajoin": End,
    **dict.fromkeys(("op", "group"), Finish),
}


def scene_of(impl, call):
    return SCENES[call](impl, call)


def rows_of(value):
    return value if type(value) is list else [] if value is None else [value]


def taken_from(value):
    ops = []
    for row in rows_of(value):
        ops += row
        row.release()
    return ops
