"""What goes wrong while tasks are woken harms nobody else: interrupts, deep stacks, dying timekeepers.

Each of these was a fault once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import types

import pytest
from aio import LoopThread, cancelled, drive, finished, nobody_waits, park_and_stop, parked_consumers, run_once
from helpers import BRIEF, HANG, Worker, put, wait_consumers

import inflight


class Interrupt(Exception):
    """Raised by what stands for a signal handler."""


def interrupted_loop(failures):
    """A loop whose ``call_soon_threadsafe`` is interrupted at its entry, once for each of ``failures``."""
    probe = asyncio.new_event_loop()
    probe.close()

    class InterruptedLoop(type(probe)):  # type: ignore[misc]
        def call_soon_threadsafe(self, callback, *arguments, context=None):
            if failures:
                raise failures.pop(0)
            return super().call_soon_threadsafe(callback, *arguments, context=context)

    return InterruptedLoop()


@pytest.mark.instrumented
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, Interrupt])
def test_an_interrupt_during_a_wake_neither_loses_the_wake_nor_is_lost(make_queue, interrupt):
    failures = []
    loop = interrupted_loop(failures)
    queue = make_queue()
    task = park_and_stop(loop, queue, queue.adequeue())
    failures.append(interrupt())
    with pytest.raises(interrupt):
        ops = put(queue, "a")
        # The native implementation raises it when its call has returned.
        for _ in range(1000):
            pass
    ops = [op for row in [loop.run_until_complete(task)] for op in row]
    assert not failures
    assert ops[0].key == "a"
    loop.close()


def test_too_deep_a_stack_is_no_closed_loop(make_queue):
    """Both are RuntimeErrors."""
    failures = []
    loop = interrupted_loop(failures)
    queue = make_queue()
    task = park_and_stop(loop, queue, queue.adequeue())
    failures.append(RecursionError())
    with contextlib.suppress(RecursionError):
        put(queue, "a")
    assert loop.run_until_complete(task).key == "a"
    loop.close()


@pytest.mark.instrumented
def test_a_wake_from_a_deep_stack_reaches_its_task(impl):
    """The next to wake tries again at the latest."""
    if impl.name == "pure":
        pytest.skip("may run out of stack before it has noted whom to wake")

    async def main():
        for headroom in range(1, 40):
            queue = impl.OpQueue(None, None)
            (task,) = await parked_consumers(queue, 1)

            def dive(left, queue=queue):
                if left:
                    dive(left - 1)
                else:
                    queue.submit("deep")

            depth = 0
            frame = sys._getframe()
            while frame is not None:
                depth += 1
                frame = frame.f_back
            try:
                dive(sys.getrecursionlimit() - depth - headroom)
            except RecursionError:
                pass
            queue.submit("other")
            other = impl.OpQueue(None, None)
            (second,) = await parked_consumers(other, 1)
            other.submit("a")
            assert (await finished(second))[0].key == "a"
            assert (await finished(task))[0].key in ("deep", "other"), headroom

    asyncio.run(main())


def test_the_loop_of_the_timekeeper_is_closed(impl):
    """Who is next in line keeps the time of the windows."""
    queue = impl.OpWindow(None, None, 5 * BRIEF)
    loop = asyncio.new_event_loop()
    op = queue.submit("a")
    task = park_and_stop(loop, queue, queue.adequeue())
    thread = Worker(queue.dequeue)
    wait_consumers(queue, 2)
    loop.close()
    assert thread.result().finish_all("late") == 1
    assert op.result() == "late"
    assert not task.done()


def test_an_exit_out_of_one_task_leaves_the_others_woken(make_queue):
    loop = asyncio.new_event_loop()
    queue = make_queue()

    async def leave():
        await queue.adequeue()
        raise SystemExit(3)

    first = park_and_stop(loop, queue, leave())
    others = [park_and_stop(loop, queue, queue.adequeue(HANG)) for _ in range(3)]
    put(queue, *range(4))
    with pytest.raises(SystemExit):
        loop.run_until_complete(first)
    rows = loop.run_until_complete(asyncio.gather(*others))
    assert [row.key for row in rows] == [1, 2, 3]
    assert nobody_waits(queue)
    loop.close()


async def test_tasks_that_wake_each_other_let_others_run(impl):
    queues = [impl.OpQueue(None, None) for _ in range(2)]

    async def pass_on(source, target):
        while True:
            (await source.adequeue()).finish_all()
            target.submit("ball")

    players = [asyncio.ensure_future(pass_on(*order)) for order in (queues, queues[::-1])]
    queues[0].submit("ball")
    await asyncio.sleep(0.01)
    for player in players:
        player.cancel()
    assert await cancelled(*players)


async def test_a_stop_iteration_is_no_result(impl):
    class Key:
        def __hash__(self):
            raise StopIteration("no result")

    queue = impl.OpQueue(None, None)
    for call in (lambda: queue.aenqueue(Key(), impl.Op(1)), lambda: queue.asubmit(Key())):
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            await call()
    assert len(queue) == 0

    class Equal:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise StopIteration("no result")

    queue.submit(Equal())
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await queue.aenqueue(1, impl.Op(1))
    assert len(queue) == 1

    def reduce(results):
        raise StopIteration("no result")

    group = impl.CallGroup(reduce)
    group.seal()
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await group


async def test_a_stop_iteration_that_is_thrown_in_is_no_result(make_queue):
    wait = make_queue().adequeue()
    wait.send(None)
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        wait.throw(StopIteration())


async def test_an_exception_that_cannot_be_made_is_thrown_in(make_queue):
    queue = make_queue()
    wait = queue.adequeue()
    wait.send(None)
    with pytest.raises(TypeError):
        wait.throw(UnicodeDecodeError)
    wait.close()
    del wait
    assert nobody_waits(queue)
    put(queue, "a")
    assert drive(queue.adequeue(0)).key == "a"


class Stopping:
    """A number whose conversion raises StopIteration."""

    def __float__(self):
        raise StopIteration(3)

    def __index__(self):
        raise StopIteration(3)


@pytest.mark.parametrize("call", ["adequeue", "adequeue_many", "limit", "ajoin", "aenqueue", "asubmit", "aprocess"])
async def test_a_stop_iteration_of_a_number_is_no_result(impl, make_queue, call):
    """Let out, a task could not take it, and whoever awaited the task would wait for ever."""
    queue = make_queue()
    op = impl.Op("a")
    calls = {
        "adequeue": lambda: queue.adequeue(Stopping()),
        "adequeue_many": lambda: queue.adequeue_many(1, Stopping()),
        "limit": lambda: queue.adequeue_many(Stopping()),
        "ajoin": lambda: queue.ajoin(Stopping()),
        "aenqueue": lambda: queue.aenqueue("a", op, timeout=Stopping()),
        "asubmit": lambda: queue.asubmit("a", timeout=Stopping()),
        "aprocess": lambda: queue.aprocess(print, Stopping()),
    }
    with pytest.raises(RuntimeError, match="^coroutine raised StopIteration$") as caught:
        await asyncio.create_task(calls[call]())
    assert caught.value.__cause__.value == 3
    assert nobody_waits(queue)
    assert len(queue) == 0


def test_a_number_resumes_the_call_that_converts_it(make_queue):
    """As of any coroutine that is running, ValueError."""

    class Number:
        def __float__(self):
            wait.send(None)

    wait = make_queue().adequeue(Number())
    with pytest.raises(ValueError, match="coroutine already executing"):
        wait.send(None)


async def test_a_worker_that_raises_stop_iteration(make_queue):
    queue = make_queue()
    op = queue.submit("a")

    def work(row):
        raise StopIteration(3)

    with pytest.raises(RuntimeError, match="^coroutine raised StopIteration$"):
        await queue.aprocess(work)
    assert str(op.exception(0)) == "the worker raised StopIteration"


@pytest.mark.parametrize("ends", ["at once", "by an error", "after a wait", "by what is thrown in", "by closing"])
async def test_what_an_operation_is_awaited_by_ends_again_and_again(impl, ends):
    """As a generator: only a coroutine refuses to be used again."""
    op = impl.Op("a")
    steps = op.__await__()
    if ends in ("at once", "by an error"):
        op.finish(error=None if ends == "at once" else ValueError("no"))
    elif ends == "by closing":
        steps.close()
    else:
        steps.send(None)
    if ends == "by what is thrown in":
        with pytest.raises(LookupError):
            steps.throw(LookupError())
    elif ends != "by closing":
        op.try_finish()
        with pytest.raises(ValueError if ends == "by an error" else StopIteration):
            steps.send(None)
    for _ in range(2):
        with pytest.raises(StopIteration) as caught:
            steps.send(None)
        assert caught.value.args == ()
        with pytest.raises(LookupError):
            steps.throw(LookupError())
    op.try_finish()


async def test_what_cannot_be_thrown_ends_only_what_was_started(make_queue):
    queue = make_queue()
    for wrong in (5, int):
        wait = queue.adequeue(0)
        with pytest.raises(
            TypeError, match="^exceptions must be classes or instances deriving from BaseException, not "
        ):
            wait.throw(wrong)
        with pytest.raises(inflight.QueueEmptyError):
            await wait
        wait = queue.adequeue()
        wait.send(None)
        with pytest.raises(
            TypeError, match="^exceptions must be classes or instances deriving from BaseException, not "
        ):
            wait.throw(wrong)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await wait
    assert nobody_waits(queue)


async def test_a_row_that_was_never_awaited_is_named_by_its_queue(make_queue):
    with pytest.warns(RuntimeWarning, match="^coroutine 'OpQueue.__anext__' was never awaited$"):
        aiter(make_queue()).__anext__()


async def test_a_coroutine_that_is_awaited_already_is_refused(make_queue):
    queue = make_queue()
    wait = queue.adequeue()

    async def take():
        return await wait

    (first,) = await parked_consumers(queue, 1, take)
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        await take()
    put(queue, "a")
    assert (await finished(first))[0].key == "a"
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await take()


async def test_a_key_closes_the_call_that_compares_it(impl):
    """As of any coroutine that is running, ValueError."""
    queue = impl.OpQueue(None, None)

    class Key:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            wait.close()
            return False

    queue.submit(Key())
    wait = queue.asubmit(Key())
    with pytest.raises(ValueError, match="coroutine already executing"):
        await wait
    assert len(queue) == 1


@pytest.mark.parametrize("what", ["row", "op", "group", "room"])
async def test_a_cancelled_wait_leaves_no_reference_cycle(impl, what):
    queue, full = impl.OpQueue(None, None), impl.OpQueue(1, None)
    kept = [full.submit("a"), impl.Op("b"), impl.CallGroup()]

    async def wait():
        call = {"row": queue.adequeue, "op": kept[1].__await__, "group": kept[2].__await__, "room": wait_for_room}[what]
        await (call() if what in ("row", "room") else kept[1 if what == "op" else 2])

    async def wait_for_room():
        await full.asubmit("c")

    async def cancel():
        for timeout in (None, 30):
            task = asyncio.ensure_future(wait() if timeout is None else asyncio.wait_for(wait(), timeout))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            assert await cancelled(task)

    await cancel()
    gc.collect()
    gc.disable()
    try:
        await cancel()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [each for each in gc.garbage if type(each).__module__.startswith("inflight") or each in kept]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left


def test_a_delivery_that_a_live_loop_dropped_is_sent_again(make_queue):
    """An interrupt between the loop and the callback: the loop has taken it, and does not call it."""
    dropped = []

    probe = asyncio.new_event_loop()
    probe.close()

    class DroppingLoop(type(probe)):  # type: ignore[misc]
        def call_soon_threadsafe(self, callback, *arguments, context=None):
            if not dropped:
                dropped.append(type(callback).__name__)
                return None
            return super().call_soon_threadsafe(callback, *arguments, context=context)

    loop = DroppingLoop()
    queue = make_queue()
    task = park_and_stop(loop, queue, queue.adequeue())
    put(queue, "a")
    assert len(dropped) == 1
    assert loop.run_until_complete(task).key == "a"
    loop.close()


def test_a_wake_meets_a_waiter_whose_alarm_went_off(impl, clock):
    """A row that fills up while its consumer is resumed by the time."""
    queue = impl.OpWindow(None, 2, 10)
    with LoopThread() as loop:
        take = loop.submit(queue.adequeue(HANG))
        wait_consumers(queue, 1)
        ops = [queue.submit("a"), queue.submit("a")]
        assert len(take.result(HANG)) == 2
    assert not any(op.done() for op in ops)


@pytest.mark.parametrize("module", [None, types.ModuleType("half imported")], ids=["forbidden", "half imported"])
def test_an_event_loop_library_that_is_not_there_yet_disturbs_nobody(make_queue, monkeypatch, module):
    """Another thread imports it just now, or somebody has forbidden the import."""

    async def main():
        queue = make_queue()
        (task,) = await parked_consumers(queue, 1)
        loop = asyncio.get_running_loop()
        # In a callback, no task: the kind of the loop is asked for.
        loop.call_soon(put, queue, "a")
        return (await asyncio.wait_for(task, HANG)).key

    for name in ("uvloop", "trio"):
        monkeypatch.setitem(sys.modules, name, module)
    assert asyncio.run(main()) == "a"
    with pytest.raises(RuntimeError, match="no running event loop"):
        drive(make_queue().adequeue())


def test_the_run_of_trio_that_refuses_is_closed():
    trio = pytest.importorskip("trio")
    loop = trio.run(_current_loop)
    assert not loop.is_closed()
    with pytest.raises(RuntimeError):
        loop.call_soon_threadsafe(run_once)
    assert loop.is_closed()


async def _current_loop():
    return inflight._loops.current_loop()
