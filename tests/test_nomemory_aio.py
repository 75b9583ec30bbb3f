"""Awaited calls without memory: as in test_nomemory_enqueue, for tasks.

The coroutine of each call is stepped by hand, as a task would step it, so that what fails is the call and
not its loop: a loop that has no memory for its own work is out of our reach. Whoever wakes a task is
another matter: the loop is then one that is stopped, and runs with memory afterwards.
"""

from __future__ import annotations

import asyncio
from asyncio import _set_running_loop
from functools import partial

import pytest
from helpers import HANG, put
from nomemory import WAYS, Table, same
from nomemory_queues import audit_process, contents

from inflight import QueueClosedError

table = Table()


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


class Rows:
    """Calls that wait for a row, of a queue that has none.

    As its like below, it starts the calls, provides what the first of them waits for, and accounts for it: with
    ``kept`` after the call was resumed, with ``account_next`` where another got it.
    """

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
        self.queue._check()
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


class Room:
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
        self.queue._check()
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


class End:
    """A join of a queue with a row."""

    def __init__(self, impl, call):
        self.queue = impl.OpQueue(None, None)
        (self.op,) = put(self.queue, "a")
        self.taken = []

    def start(self):
        return self.queue.ajoin()

    def provide(self):
        self.taken += self.queue.dequeue(0)

    def waiting(self):
        # No statistics tell.
        return None

    def account(self, outcome, kept=None):
        assert kept is None or kept.value is (True if kept.over else None)
        assert [*self.taken, *contents(self.queue)] == [self.op]
        self.op.finish()

    def account_next(self, value):
        assert value is True
        self.account(None)


class Finish:
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

    def waiting(self):
        return None

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


@table.case(*[(kind, call) for kind in ("OpQueue", "DedupeQueue") for call in CONSUMERS])
def take_what_is_ready(impl, kind, call):
    scene = Rows(impl, call, kind)
    scene.provide("aab")
    kept = Kept(scene.start())
    outcome = yield kept.step
    kept.hand.close()
    scene.account(outcome, kept)


@table.case(*SCENES)
def be_suspended(impl, call):
    scene = scene_of(impl, call)
    hand = Hand(scene.start())
    outcome = yield hand.step
    assert scene.waiting() in (None, 0 if outcome.refused else 1)
    hand.close()
    assert scene.waiting() in (None, 0)
    scene.provide()
    scene.account(outcome)


@table.case(*SCENES)
def be_resumed(impl, call):
    scene = scene_of(impl, call)
    kept = Kept(scene.start())
    hand = kept.hand
    hand.park()
    if call in CONSUMERS:
        # Two rows, of which some calls take both.
        scene.provide("aab")
    else:
        scene.provide()
    hand.turn()
    assert hand.woken == 1
    outcome = yield kept.step
    hand.close()
    scene.account(outcome, kept)


@table.case(*[(call, how) for call in SCENES for how in ("throw", "close")])
def be_ended(impl, call, how):
    """With what it waits for promised, which goes to the next in line: a task."""
    scene = scene_of(impl, call)
    hand = Hand(scene.start())
    hand.park()
    scene.provide()
    cancellation = asyncio.CancelledError()
    ending = partial(hand.steps.throw, cancellation) if how == "throw" else hand.steps.close
    outcome = yield ending
    assert outcome.refused or outcome.kind is (asyncio.CancelledError if how == "throw" else None)
    hand.close()
    scene.account(outcome)


@table.case(*SCENES)
def cancel_a_task(impl, call):
    """With what it waits for promised, which goes to the next in line."""
    scene = scene_of(impl, call)
    loop = asyncio.new_event_loop()

    async def run(awaitable):
        return await awaitable

    tasks = [loop.create_task(run(scene.start())) for _ in range(2)]
    turn(loop)
    turn(loop)
    scene.provide()
    outcome = yield tasks[0].cancel
    if outcome.refused:
        # Or it was cancelled after all: then this does nothing.
        tasks[0].cancel()
    loop.run_until_complete(asyncio.wait(tasks, timeout=HANG))
    assert tasks[0].cancelled()
    scene.account_next(tasks[1].result())
    loop.close()


@table.case("enqueue", "finish", "close", "release", "seal")
def wake_a_task(impl, what):
    """Of a loop that does not run."""
    queue = impl.DedupeQueue(None, None)
    group = impl.CallGroup()
    op, other = impl.Op("a"), impl.Op("a")
    loop = asyncio.new_event_loop()

    async def run(awaitable):
        return await awaitable

    if what == "release":
        queue.enqueue("a", other)
        row = queue.dequeue(0)
        queue.enqueue("a", op)
    awaited = {"finish": op, "seal": group}.get(what) or queue.adequeue()
    tasks = [loop.create_task(run(awaited))]
    del awaited
    turn(loop)
    turn(loop)
    call = {
        "enqueue": lambda: queue.enqueue("a", op),
        "finish": lambda: op.finish("result"),
        "close": lambda: queue.close(),
        "release": lambda: row.release(),
        "seal": lambda: group.seal(),
    }[what]
    outcome = yield call
    queue._check()
    done = {
        "enqueue": queue.stats().enqueued == 1,
        "finish": op.done(),
        "close": queue.closed,
        "release": queue.stats().owned == 0 or queue.stats().requeued == 1,
        "seal": group.done(),
    }[what]
    if not done:
        assert outcome.refused
        call()
    loop.run_until_complete(asyncio.wait(tasks, timeout=HANG))
    assert tasks[0].done(), "the task was not woken"
    if what in ("enqueue", "release"):
        assert list(tasks[0].result()) == [op]
    elif what == "finish":
        assert tasks[0].result() == "result"
    elif what == "close":
        assert type(tasks[0].exception()) is QueueClosedError
    else:
        tasks[0].result()
    loop.close()
    op.try_finish()
    other.try_finish()


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


@table.case("ready", "vain", "submit_ready", "submit_vain")
def add(impl, state):
    queue = impl.OpQueue(1, None)
    submits = state.startswith("submit")
    ready = state.endswith("ready")
    before = [] if ready else put(queue, "a")
    op = impl.Op("b")
    timeout = None if ready else 0
    kept = Kept(queue.asubmit("b", timeout=timeout) if submits else queue.aenqueue("b", op, timeout=timeout))
    outcome = yield kept.step if ready else kept.hand.step
    kept.hand.close()
    queue._check()
    assert queue.stats().producers_waiting == 0
    if submits:
        op.finish()
        op = kept.value
    accepted = [op] if ready and kept.over else []
    found = contents(queue)
    if impl.name == "native" or same(found, [*before, *accepted]):
        assert same(found, [*before, *accepted])
    else:
        # Accepted all the same.
        assert outcome.refused
        assert same(found[: len(before)], before)
        assert len(found) == len(before) + 1
    for each in (*found, *before, op):
        assert each is None or each.try_finish() or True


@table.case("ready", "vain")
def join(impl, state):
    queue = impl.OpQueue(None, None)
    before = [] if state == "ready" else put(queue, "a")
    kept = Kept(queue.ajoin(0 if state == "vain" else None))
    outcome = yield kept.step
    kept.hand.close()
    queue._check()
    assert outcome.refused or kept.value is (state == "ready")
    assert same(contents(queue), before)
    for op in before:
        op.finish()


@table.case(*[(what, state) for what in ("op", "group") for state in ("ready", "failed")])
def wait_for(impl, what, state):
    def fail(_):
        raise ZeroDivisionError

    group = impl.CallGroup(fail if state == "failed" else None)
    op = group.add("a")
    op.finish(error=ZeroDivisionError() if state == "failed" else None)
    hand = Hand(op if what == "op" else group)
    yield hand.step
    hand.close()
    assert group.done()


@table.case(False, True)
def process(impl, fails):
    queue = impl.DedupeQueue(None, None)
    before = put(queue, *"aab")
    worked = False

    async def work(row):
        nonlocal worked
        worked = True
        if fails:
            raise ZeroDivisionError

    hand = Hand(queue.aprocess(work))
    outcome = yield hand.step
    hand.close()
    failed = audit_process(queue, before, worked, outcome)
    assert failed or not (worked and fails)


@table.case("resume", "throw", "close")
def end_at_work(impl, how):
    """A call that is suspended within its function: its row is released, and what was cancelled is finished."""
    queue = impl.DedupeQueue(None, None)
    before = put(queue, *"aab")

    async def work(row):
        await wanted

    hand = Hand(queue.aprocess(work))
    wanted = hand.loop.create_future()
    hand.park()
    if how == "resume":
        wanted.set_result(None)
        hand.turn()
    cancellation = asyncio.CancelledError()
    calls = {"resume": hand.step, "throw": partial(hand.steps.throw, cancellation), "close": hand.steps.close}
    ending = calls[how]
    outcome = yield ending
    hand.close()
    failed = audit_process(queue, before, True, outcome)
    assert failed or how == "resume"
    assert not failed or outcome.kind is not StopIteration


def block_of(impl, what):
    """What has a block, with an operation in it, and the queue."""
    queue = impl.DedupeQueue(None, None)
    group = impl.CallGroup()
    op = group.add("a")
    queue.enqueue("a", op)
    return {"queue": lambda: queue, "group": lambda: group, "row": lambda: queue.dequeue(0)}[what](), op, queue


@table.case("queue", "group", "row")
def enter_a_block(impl, what):
    """Who was refused has not entered, and will not leave."""
    block, op, queue = block_of(impl, what)
    kept = Kept(block.__aenter__())
    yield kept.step
    kept.hand.close()
    assert kept.value is (block if kept.over else None)
    op.finish()
    if what == "group":
        assert op.group.done() is not kept.over
        if kept.over:
            op.group.__exit__(None, None, None)
        assert op.group.done()
    queue._check()


@table.case("queue", "group", "row", "failing_row")
def leave_a_block(impl, what):
    """It is left, or it is not, for want of what it takes to await its end: then its user still has what it had."""
    block, op, queue = block_of(impl, what.removeprefix("failing_"))
    error = ZeroDivisionError() if what == "failing_row" else None
    if what == "group":
        op.finish()
        # Not complete, since it has one more.
        block = impl.CallGroup()
        block.__enter__()
    kept = Kept(block.__aexit__(error and type(error), error, None))
    outcome = yield kept.step
    kept.hand.close()
    assert kept.value is None
    queue._check()
    if what == "queue":
        assert queue.closed or outcome.refused
    elif what == "group":
        assert block.done() or outcome.refused
        if not block.done():
            block.__exit__(None, None, None)
        assert block.done()
    else:
        left = queue.stats().owned == 0
        assert left or outcome.refused
        assert op.done() is (left and error is not None)
        block.release()
        assert queue.stats().owned == 0
    op.try_finish()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", table.cases)
def test_nothing_is_lost_for_want_of_memory(impl, name, way):
    table.run(impl, way, name)
