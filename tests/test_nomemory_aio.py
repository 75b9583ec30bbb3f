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


CALLS = {
    "adequeue": lambda queue, op: queue.adequeue(),
    "adequeue_timeout": lambda queue, op: queue.adequeue(100),
    "adequeue_many": lambda queue, op: queue.adequeue_many(2),
    "anext": lambda queue, op: queue.__aiter__().__anext__(),
}


def rows_of(value):
    return value if type(value) is list else [] if value is None else [value]


def taken_from(value):
    ops = []
    for row in rows_of(value):
        ops += row
        row.release()
    return ops


KINDS = {"fifo": "OpQueue", "dedupe": "DedupeQueue"}


@table.case(*[(kind, call) for kind in KINDS for call in CALLS])
def take_what_is_ready(impl, kind, call):
    queue = getattr(impl, KINDS[kind])(None, None)
    before = put(queue, *"aab")
    kept = Kept(CALLS[call](queue, None))
    yield kept.step
    kept.hand.close()
    queue._check()
    taken = taken_from(kept.value)
    assert same([*taken, *contents(queue)], before)
    for op in before:
        op.finish()


@table.case(*CALLS)
def be_suspended(impl, call):
    queue = impl.OpQueue(None, None)
    hand = Hand(CALLS[call](queue, None))
    outcome = yield hand.step
    queue._check()
    if outcome.refused:
        assert queue.stats().consumers_waiting == 0
    else:
        assert queue.stats().consumers_waiting == 1
    hand.close()
    assert queue.stats().consumers_waiting == 0
    before = put(queue, "a")
    assert same(contents(queue), before)
    before[0].finish()


@table.case(*CALLS)
def be_resumed(impl, call):
    queue = impl.DedupeQueue(None, None)
    kept = Kept(CALLS[call](queue, None))
    hand = kept.hand
    hand.park()
    before = put(queue, "a", "b")
    hand.turn()
    assert hand.woken == 1
    yield kept.step
    hand.close()
    queue._check()
    taken = taken_from(kept.value)
    assert same([*taken, *contents(queue)], before)
    for op in before:
        op.finish()


@table.case(*[(call, how) for call in CALLS for how in ("throw", "close")])
def be_ended(impl, call, how):
    """With a row promised, which goes to the next in line: a task."""
    queue = impl.OpQueue(None, None)
    hand = Hand(CALLS[call](queue, None))
    hand.park()
    before = put(queue, "a")
    cancellation = asyncio.CancelledError()
    ending = partial(hand.steps.throw, cancellation) if how == "throw" else hand.steps.close
    outcome = yield ending
    assert outcome.refused or outcome.kind is (asyncio.CancelledError if how == "throw" else None)
    hand.close()
    queue._check()
    assert queue.stats().consumers_waiting == 0
    assert same(contents(queue), before)
    before[0].finish()


@table.case(*CALLS)
def cancel_a_task(impl, call):
    """With a row promised, which goes to the next in line."""
    queue = impl.OpQueue(None, None)
    loop = asyncio.new_event_loop()

    async def run(awaitable):
        return await awaitable

    tasks = [loop.create_task(run(CALLS[call](queue, None))) for _ in range(2)]
    turn(loop)
    turn(loop)
    before = put(queue, "a")
    outcome = yield tasks[0].cancel
    queue._check()
    if outcome.refused:
        # Or it was cancelled after all: then this does nothing.
        tasks[0].cancel()
    loop.run_until_complete(asyncio.wait(tasks, timeout=HANG))
    assert tasks[0].cancelled()
    assert same(taken_from(tasks[1].result()), before)
    loop.close()
    queue._check()
    before[0].finish()


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


@table.case("ready", "waiting", "woken", "vain", "submit_ready", "submit_waiting", "submit_woken", "submit_vain")
def add(impl, state):
    queue = impl.OpQueue(1, None)
    submits = state.startswith("submit")
    state = state.removeprefix("submit_")
    before = [] if state == "ready" else put(queue, "a")
    op = impl.Op("b")
    timeout = 0 if state == "vain" else None
    kept = Kept(queue.asubmit("b", timeout=timeout) if submits else queue.aenqueue("b", op, timeout=timeout))
    hand = kept.hand
    taken = []
    if state == "woken":
        hand.park()
        taken += queue.dequeue(0)
        hand.turn()
        assert hand.woken == 1
    outcome = yield kept.step if state in ("ready", "woken") else hand.step
    hand.close()
    queue._check()
    assert queue.stats().producers_waiting == 0
    if submits:
        op.finish()
        op = kept.value
    accepted = [op] if state in ("ready", "woken") and kept.over else []
    found = [*taken, *contents(queue)]
    if impl.name == "native" or same(found, [*before, *accepted]):
        assert same(found, [*before, *accepted])
    else:
        # Accepted all the same.
        assert outcome.refused
        assert same(found[: len(before)], before)
        assert len(found) == len(before) + 1
    for each in (*found, *before, op):
        assert each is None or each.try_finish() or True


@table.case("ready", "waiting", "vain")
def join(impl, state):
    queue = impl.OpQueue(None, None)
    before = [] if state == "ready" else put(queue, "a")
    kept = Kept(queue.ajoin(0 if state == "vain" else None))
    outcome = yield kept.hand.step if state == "waiting" else kept.step
    kept.hand.close()
    queue._check()
    assert outcome.refused or state == "waiting" or kept.value is (state == "ready")
    assert same(contents(queue), before)
    for op in before:
        op.finish()


@table.case(*[(what, state) for what in ("op", "group") for state in ("ready", "failed", "waiting", "woken")])
def wait_for(impl, what, state):
    def fail(_):
        raise ZeroDivisionError

    group = impl.CallGroup(fail if state == "failed" else None)
    op = group.add("a")
    error = ZeroDivisionError() if state == "failed" else None
    if state in ("ready", "failed"):
        op.finish(error=error)
    hand = Hand(op if what == "op" else group)
    if state == "woken":
        hand.park()
        op.finish()
        hand.turn()
        assert hand.woken == 1
    yield hand.step
    hand.close()
    op.try_finish()
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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", table.cases)
def test_nothing_is_lost_for_want_of_memory(impl, name, way):
    table.run(impl, way, name)
