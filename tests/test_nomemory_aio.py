"""Awaited calls without memory: as in test_nomemory_enqueue, for tasks.

What fails is the call and not its loop (nomemory_tasks.py). Whoever wakes a task is another matter: the loop is
then one that is stopped, and runs with memory afterwards.
"""

from __future__ import annotations

import asyncio
import types
from functools import partial

import pytest
from helpers import HANG, put
from nomemory import WAYS, Table, same
from nomemory_queues import audit_process, contents
from nomemory_tasks import CONSUMERS, SCENES, Hand, Kept, Rows, scene_of

from inflight import QueueClosedError
from inflight._invariants import check_invariants

table = Table()


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
    scene.check()
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
    scene.check()
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
    check_invariants(queue)
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
    check_invariants(queue)
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
    check_invariants(queue)
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


@types.coroutine
def pause():
    yield


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
    check_invariants(queue)


@table.case("queue", "group", "row", "failing_row")
def leave_a_block(impl, what):
    """It is left, whatever it takes to say so, or to await that it was."""
    block, op, queue = block_of(impl, what.removeprefix("failing_"))
    error = ZeroDivisionError() if what == "failing_row" else None
    if what == "group":
        op.finish()
        # One that is not complete yet.
        block = impl.CallGroup()

    async def use():
        async with block:
            await pause()

    hand = Hand(use())
    hand.step()
    outcome = yield (lambda: hand.steps.throw(error)) if error else hand.step
    hand.close()
    check_invariants(queue)
    if what == "queue":
        assert queue.closed
    elif what == "group":
        assert block.done()
    else:
        assert queue.stats().owned == 0
        assert op.done() is (error is not None) or outcome.refused
    op.try_finish()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", table.cases)
def test_nothing_is_lost_for_want_of_memory(impl, name, way):
    table.run(impl, way, name)
