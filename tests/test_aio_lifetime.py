"""What waiting tasks keep alive, and what they leave behind: no thread, no task, no loop, no noise at exit."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import weakref

import pytest
from aio import (
    ended,
    finished,
    in_thread,
    park_and_stop,
    parked_consumers,
    parked_producers,
    record_reports,
    turns,
    wait_parked,
)
from helpers import HANG, keys, put, run_script, take_all

from inflight import QueueEmptyError


async def test_no_hidden_thread_and_no_hidden_task(impl, make_queue):
    def threads():
        return set(os.listdir("/proc/self/task") if sys.platform == "linux" else threading.enumerate())

    async def work(row):
        assert asyncio.all_tasks() == before | {asyncio.current_task()}

    before = asyncio.all_tasks()
    # One of an earlier test may still be ending.
    running, counted = set(threading.enumerate()), threads()
    queue, full, window = make_queue(), make_queue(1, None), impl.OpWindow(None, None, 0.01)
    put(full, 1)
    group = impl.CallGroup()
    op = group.add(1)
    tasks = await parked_consumers(queue, 3)
    tasks += await parked_producers(full, [2])
    tasks += await parked_consumers(window, 1, lambda: window.adequeue(HANG))
    tasks += [asyncio.ensure_future(full.ajoin()), asyncio.ensure_future(asyncio.wait_for(op, HANG))]
    await turns()
    # Theirs is the one of wait_for, in versions that make one.
    assert len(asyncio.all_tasks() - before - set(tasks)) <= 1
    assert set(threading.enumerate()) <= running
    assert threads() <= counted
    put(queue, *range(3))
    put(window, 1)
    op.finish()
    for _ in range(2):
        (await full.adequeue(HANG)).release()
    await finished(*tasks)
    put(queue, 5)
    await queue.aprocess(work)
    await group
    await turns()
    assert asyncio.all_tasks() == before
    assert set(threading.enumerate()) <= running
    assert threads() <= counted


@pytest.mark.parametrize("kind", ["consumer", "producer", "joiner", "op", "group"])
async def test_a_waiting_task_lives_as_long_as_what_it_waits_for(impl, make_queue, collect, kind):
    """Nobody else refers to it: event loops keep weak references only."""

    async def wait(awaitable):
        ran.append(await awaitable)

    ran = []
    queue = make_queue(1, None)
    group = impl.CallGroup()
    op = group.add(1)
    if kind in ("producer", "joiner"):
        put(queue, "old")
    begin, end = {
        "consumer": (queue.adequeue, lambda: put(queue, 1)),
        "producer": (lambda: queue.asubmit("new"), lambda: queue.dequeue(0).release()),
        "joiner": (queue.ajoin, lambda: queue.dequeue(0).release()),
        "op": (lambda: op, op.finish),
        "group": (lambda: group, op.finish),
    }[kind]
    ref = weakref.ref(asyncio.ensure_future(wait(begin())))
    await turns()
    collect()
    assert ref() is not None
    assert not ref().done()
    end()
    await turns()
    assert len(ran) == 1
    collect()
    assert ref() is None


@pytest.mark.parametrize("kind", ["consumer", "producer", "joiner", "op", "group"])
async def test_a_cycle_of_a_task_and_what_it_waits_for_is_collected(impl, make_queue, collect, kind):
    """Nobody could ever wake it. That a task is destroyed is told by asyncio itself."""

    async def wait(target, awaitable):
        await awaitable

    def park():
        queue = make_queue(1, None)
        group = impl.CallGroup()
        if kind in ("producer", "joiner"):
            put(queue, "old")
        target, awaitable = {
            "consumer": lambda: (queue, queue.adequeue()),
            "producer": lambda: (queue, queue.asubmit("new")),
            "joiner": lambda: (queue, queue.ajoin()),
            "op": lambda: (op := impl.Op(1), op),
            "group": lambda: (group, group),
        }[kind]()
        return weakref.ref(target), weakref.ref(asyncio.ensure_future(wait(target, awaitable)))

    reports = record_reports(asyncio.get_running_loop())
    refs = park()
    await turns()
    collect()
    assert [ref() for ref in refs] == [None, None]
    assert [text.partition("!")[0] for text in reports] == ["Task was destroyed but it is pending"]


async def test_a_task_that_was_served_is_not_kept(make_queue, collect):
    queue, full = make_queue(), make_queue(1, None)
    put(full, "old")
    tasks = await parked_consumers(queue, 3, lambda: queue.adequeue(HANG)) + await parked_producers(full, ["new"])
    put(queue, 1, 2)
    tasks[2].cancel()
    full.dequeue(0).release()
    await ended(*tasks)
    refs = [weakref.ref(task) for task in tasks]
    refs += [weakref.ref(tasks[0].result()), weakref.ref(tasks[3].result())]
    take_all(full)
    tasks.clear()
    await turns()
    collect()
    assert [ref() for ref in refs] == [None] * 6


async def test_a_coroutine_that_waits_keeps_its_queue(impl, collect):
    ref = weakref.ref(queue := impl.OpQueue(None, None))
    (task,) = await parked_consumers(queue, 1)
    del queue
    collect()
    put(ref(), 1)
    assert keys(await ended(task)) == [1]
    del task
    collect()
    assert ref() is None


async def test_waiters_are_seen_by_the_collector(impl):
    queue = impl.OpQueue(None, None)
    (task,) = await parked_consumers(queue, 1)
    seen, new = set(), [queue]
    # The task is among what can be reached from the queue, some steps away.
    for _ in range(6):
        new = [each for each in gc.get_referents(*new) if id(each) not in seen and not isinstance(each, type)]
        seen.update(map(id, new))
    assert id(task) in seen
    put(queue, 1)
    await finished(task)


def test_a_closed_loop_is_not_kept(impl, make_queue, loop_factory, collect):
    """By nobody: neither by what its tasks waited for, nor by what makes waking cheap."""

    async def use():
        tasks = await parked_consumers(queue, 4) + await parked_producers(full, ["new"])
        awaiting = [asyncio.ensure_future(asyncio.wait_for(each, HANG)) for each in (op, group)]
        with contextlib.suppress(QueueEmptyError):
            await queue.adequeue(0.001)
        with contextlib.suppress(QueueEmptyError):
            await window.adequeue(0.001)
        await in_thread(put, queue, 1)
        await queue.asubmit(2)
        tasks[2].cancel()
        full.dequeue(0).release()
        op.finish()
        await in_thread(put, queue, 3)
        await ended(*tasks, *awaiting)

    queue, full, window = make_queue(), make_queue(1, None), impl.OpWindow(None, None, 1000)
    put(full, "old")
    put(window, "a")
    group = impl.CallGroup()
    op = group.add(1)
    loop = loop_factory()
    loop.run_until_complete(use())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    ref = weakref.ref(loop)
    del loop
    collect()
    assert ref() is None


@pytest.mark.parametrize("woken", [False, True])
def test_a_dead_loop_is_not_kept_once_its_waiters_were_passed_over(make_queue, loop_factory, collect, woken):
    queue = make_queue()
    loop = loop_factory()
    loop.set_exception_handler(lambda loop, context: None)
    task = park_and_stop(loop, queue, queue.adequeue())
    if woken:
        put(queue, 1)
    loop.close()
    if not woken:
        put(queue, 1)
    assert keys(take_all(queue)) == [1]
    ref = weakref.ref(loop)
    del loop, task
    collect()
    assert ref() is None


def test_a_queue_is_used_by_one_loop_after_the_other(make_queue, loop_factory):
    queue = make_queue(1, None)

    async def use(number):
        (task,) = await parked_consumers(queue, 1)
        await queue.asubmit(number)
        (row,) = await ended(task)
        row.release()
        # Left to be cancelled with the loop.
        await parked_consumers(queue, 2)
        return row.key

    for number in range(5):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(use(number)) == number
        assert queue.stats().consumers_waiting == 0
    put(queue, "in the end")
    assert keys(take_all(queue)) == ["in the end"]


PARK = """
import asyncio

queue, owned, full = OpQueue(None, None), DedupeQueue(None, None), OpQueue(1, None)
window = OpWindow(None, None, 1000)
group = CallGroup()
op = group.add(1)
kept = [full.submit("old"), window.submit("a"), op]

async def iterate():
    async for row in owned:
        raise AssertionError

async def wait(awaitable):
    await awaitable

async def park():
    calls = [queue.adequeue(), queue.adequeue(1000), queue.adequeue_many(5), full.asubmit("new"), full.ajoin(),
             window.adequeue(), window.adequeue(1000), iterate(), wait(op), wait(group), wait(group)]
    tasks = [asyncio.ensure_future(call) for call in calls]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return tasks
"""


def script(impl, source, **options):
    run_script(impl, f"{PARK}\n{source}", "-W", "always", **options)


def test_nothing_is_printed_when_a_loop_ends_with_parked_tasks(impl):
    script(
        impl,
        """
async def main():
    tasks = await park()
    return [asyncio.current_task()]

asyncio.run(main())
for each in (queue, owned, full, window):
    check_invariants(each)
    stats = each.stats()
    assert (stats.consumers_waiting, stats.producers_waiting) == (0, 0)
# They outlive the loop.
queue.submit(1).finish()
print(queue.dequeue(0).key)
""",
        expect="1\n",
    )


def test_nothing_is_printed_when_main_fails_or_exits(impl):
    script(
        impl,
        """
async def main(error):
    tasks = await park()
    raise error

for error in (ValueError("x"), KeyboardInterrupt("x"), SystemExit("x")):
    try:
        asyncio.run(main(error))
    except BaseException as caught:
        print(type(caught).__name__)
    gc = __import__("gc")
    gc.collect()
""",
        expect="ValueError\nKeyboardInterrupt\nSystemExit\n",
    )


@pytest.mark.parametrize("closed", ["True", "False"])
def test_tasks_parked_at_the_exit_of_the_interpreter(impl, closed):
    """Only asyncio itself has something to say about that, which is silenced here."""
    script(
        impl,
        f"""
import logging

logging.disable()
loop = asyncio.new_event_loop()
tasks = loop.run_until_complete(park())
if {closed}:
    loop.close()
else:
    warnings.simplefilter("ignore", ResourceWarning)
print("exits")
""",
        expect="exits\n",
    )


def test_tasks_parked_in_a_daemon_thread_at_the_exit_of_the_interpreter(impl):
    script(
        impl,
        """
import logging

logging.disable()
parked = threading.Event()

async def main():
    tasks = await park()
    parked.set()
    await asyncio.Event().wait()

threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
assert parked.wait(20)
warnings.simplefilter("ignore", ResourceWarning)
print("exits")
""",
        expect="exits\n",
    )


def test_wakes_meet_loops_that_are_closing(impl):
    """Rows and results arrive while, and after, a loop in another thread ends: nothing is printed."""
    script(
        impl,
        """
async def main():
    tasks = [asyncio.ensure_future(call) for _ in range(10) for call in (queue.adequeue(), wait(ops[-1]))]
    await asyncio.sleep(0.002)

done = threading.Event()
ops = [Op(0)]
def produce():
    while not done.is_set():
        kept.append(queue.submit(len(kept), timeout=10))
        ops.append(Op(len(kept)))
        ops[-2].finish()

thread = threading.Thread(target=produce)
thread.start()
for _ in range(30):
    asyncio.run(main())
done.set()
thread.join()
check_invariants(queue)
stats = queue.stats()
assert stats.consumers_waiting == 0
assert stats.enqueued == stats.dequeued_rows + stats.keys
for each in kept + ops:
    each.try_finish()
print("ended")
""",
        expect="ended\n",
    )


def test_a_fork_leaves_the_tasks_behind(impl):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    script(
        impl,
        """
warnings.simplefilter("ignore", DeprecationWarning)

async def main():
    tasks = await park()
    child = os.fork()
    if child == 0:
        stats = queue.stats()
        assert (stats.consumers_waiting, full.stats().producers_waiting) == (0, 0)
        for each in (queue, owned, full, window):
            check_invariants(each)
        queue.submit("child").finish()
        assert queue.dequeue(0).key == "child"
        assert full.dequeue(0).key == "old"
        op.finish()
        group.result(0)
        print("child", flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    stats = queue.stats()
    assert (stats.consumers_waiting, full.stats().producers_waiting) == (3, 1)
    kept.append(queue.submit("parent"))
    print((await tasks[0]).key)

asyncio.run(main())
""",
        expect="child\nparent\n",
    )


async def test_waiting_again_and_again_does_not_leak(make_queue, collect):
    queue = make_queue()

    async def rounds(number):
        for _ in range(number):
            tasks = await parked_consumers(queue, 4)
            tasks[1].cancel()
            with contextlib.suppress(QueueEmptyError):
                await queue.adequeue(0.0001)
            put(queue, 1, 2, 3)
            for outcome in await ended(*tasks):
                if not isinstance(outcome, BaseException):
                    outcome.finish_all()
                    outcome.release()
            await wait_parked(queue, consumers=0)

    async def count():
        await turns()
        collect()
        return len(gc.get_objects())

    await rounds(20)
    before = await count()
    await rounds(100)
    assert await count() - before < 80
