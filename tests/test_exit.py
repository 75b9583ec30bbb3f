"""The interpreter exits whatever waits, is owned or half done: at once, without a crash, and without a word.

Each test is a script of its own. Daemon threads are stopped by the interpreter wherever they are.
"""

from __future__ import annotations

import pytest
from helpers import GIL, run_script

# One of everything that can be pending, and a wait for each kind of it.
PENDING = """
import asyncio

def told(*arguments):
    print("ran at exit")

def fail(*arguments):
    raise AssertionError("ran at exit")

queue, full = OpQueue(None, None), OpQueue(1, None)
empty, empty_owned = OpQueue(None, None), DedupeQueue(None, None)
owned, window = DedupeQueue(None, None), OpWindow(None, None, 1000, exclusive=True)
group, sealed, held = CallGroup(told), CallGroup(told), CallGroup(told)
with sealed:
    late = sealed.add("late")
held.__enter__()
group.add_done_callback(told)
ops = [group.add(key) for key in range(5)]
for op in ops:
    op.add_done_callback(told)
    for each in (queue, owned, window):
        each.enqueue(op.key, op)
full.submit("full").add_done_callback(told)
row = owned.dequeue()
owned.submit(row.key).add_done_callback(told)
WAITS = {
    "dequeue": empty.dequeue,
    "dequeue with a timeout": lambda: empty_owned.dequeue(1000),
    "dequeue_many": lambda: empty.dequeue_many(5),
    "iterate": lambda: list(empty_owned),
    "process": lambda: empty.process(fail),
    "window": window.dequeue,
    "enqueue": lambda: full.enqueue("new", Op("new"), timeout=None),
    "submit": lambda: full.submit("new", timeout=1000),
    "join": owned.join,
    "result": ops[0].result,
    "exception": late.exception,
    "group": group.result,
    "sealed": lambda: sealed.result(1000),
}

# Who is woken in time finds its queue closed, say, and nobody who hears of it.
threading.excepthook = lambda arguments: None

def daemon(function):
    threading.Thread(target=function, daemon=True).start()

async def wait(awaitable):
    await awaitable

async def park():
    calls = [empty.adequeue(), empty.adequeue(1000), empty.adequeue_many(2), full.asubmit("new"), owned.ajoin(),
             window.adequeue(), empty_owned.aprocess(wait), wait(ops[1]), wait(group)]
    return [asyncio.ensure_future(call) for call in calls]

def parked():
    stats = [each.stats() for each in (empty, empty_owned, full, window)]
    return sum(each.consumers_waiting + each.producers_waiting for each in stats)
"""


def run(impl, source):
    run_script(impl, PENDING + source, "-W", "always")


ENDINGS = {
    "the end": "",
    "exit": "sys.exit(0)",
    "exit in a block": """
with window, queue:
    sys.exit(0)
""",
    "no names left": """
# Everything is known to the parked threads only.
for name in list(globals()):
    if name not in ("sys", "__builtins__", "name", "threading", "time"):
        del globals()[name]
""",
    "a queue in atexit": """
import atexit

kept = []

@atexit.register
def use():
    kept.append(queue.submit("at exit"))
    queue.dequeue(0)
    kept.append(queue.drain())
    len(group), queue.stats(), repr(owned)
""",
    "woken just before": """
kept = [empty.submit("for one"), empty_owned.submit("for another"), full.dequeue(0), window.flush()]
empty.close(), empty_owned.close(), row.release()
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_threads_are_parked_in_every_wait(impl, ending):
    run(
        impl,
        f"""
for call in WAITS.values():
    daemon(call)
wait_until(lambda: parked() == 8)
{ENDINGS[ending]}
""",
    )


# Where no name is left, some of what tasks do not wait for is dropped before the exit.
@pytest.mark.parametrize("ending", [each for each in ENDINGS if each != "no names left"])
def test_loops_in_daemon_threads_have_parked_tasks(impl, ending):
    """Of tasks and loops that are left behind asyncio itself has something to say, which is silenced here."""
    run(
        impl,
        f"""
import logging

logging.disable()

async def main():
    tasks = await park()
    await asyncio.Event().wait()

for _ in range(3):
    daemon(lambda: asyncio.run(main()))
wait_until(lambda: parked() == 18)
warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
warnings.filterwarnings("ignore", "coroutine", RuntimeWarning)
{ENDINGS[ending]}
""",
    )


HAMMERS = {
    "queues": """
def hammer(number):
    while True:
        for each in (empty, empty_owned):
            op = each.submit(number % 7)
            try:
                with each.dequeue(0.0001) as row:
                    row.finish_all()
            except QueueEmptyError:
                pass
            op.try_finish()
        number += 1
""",
    "groups": """
def hammer(number):
    while True:
        with CallGroup(lambda results: None) as group:
            ops = group.add_many((key, None) for key in range(10))
            for op in ops:
                op.add_done_callback(lambda op: None)
        for op in ops:
            op.finish()
        group.result(1)
""",
    "waits": """
def hammer(number):
    while True:
        with CallGroup() as group:
            op = group.add(1)
        thread = threading.current_thread()
        op.add_done_callback(lambda op: empty.submit(op.key).finish())
        op.finish()
        empty.dequeue_many(3, 1)
        empty.join(0.0001)
""",
    "loops": """
import logging

logging.disable()
warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
warnings.filterwarnings("ignore", "coroutine", RuntimeWarning)

async def produce():
    while True:
        (await empty.asubmit(1)).try_finish()
        await asyncio.sleep(0)

async def consume():
    async for row in empty:
        async with row:
            row.finish_all()

async def both():
    await asyncio.gather(produce(), consume(), consume())

def hammer(number):
    asyncio.run(both())
""",
}


@pytest.mark.parametrize("what", HAMMERS)
def test_daemon_threads_are_at_work(impl, what):
    """They are stopped in the middle of any call."""
    run(
        impl,
        f"""
warnings.simplefilter("ignore", ResourceWarning)
{HAMMERS[what]}
sys.setswitchinterval(1e-5)
for number in range(4):
    daemon(lambda: hammer(number))
time.sleep(0.03)
""",
    )


@pytest.mark.skipif(not GIL, reason="only with the GIL is the promise surely open")
def test_promises_are_open(impl):
    run(
        impl,
        """
taken = []
for call in (empty.dequeue, empty_owned.dequeue, window.dequeue):
    daemon(lambda: taken.append(call()))
daemon(lambda: full.submit("new", timeout=None))
wait_until(lambda: parked() == 4)
sys.setswitchinterval(1000)
kept = [empty.submit("a"), empty_owned.submit("b")]
window.flush()
kept += full.drain()
assert not taken
""",
    )


def test_nothing_runs_and_nothing_warns_at_interpreter_exit(impl):
    run_script(
        impl,
        """
        def told(*arguments):
            print("ran at exit")

        class Job:
            pass

        queue = OpQueue(None, None)
        owned = DedupeQueue(None, None)
        window = OpWindow(None, None, 1000, exclusive=True)
        group = CallGroup(told)
        group.add_done_callback(told)
        ops = [group.add(key) for key in range(5)]
        for op in ops:
            op.add_done_callback(told)
            for each in (queue, owned, window):
                each.enqueue(op.key, op)
        row = owned.dequeue()
        queue.submit("only in the queue").add_done_callback(told)
        job = Job()
        job.itself = job
        job.op = Op("in a cycle")
        job.op.add_done_callback(told)
        for wait in (OpQueue(None, None).dequeue, ops[0].result, group.result, queue.join, window.dequeue):
            threading.Thread(target=wait, daemon=True).start()
        time.sleep(0.05)
        """,
        "-W",
        "always",
    )


def test_nothing_happens_at_exit_after_sys_exit_in_a_with_block(impl):
    run_script(
        impl,
        """
        queue = DedupeQueue(None, None)
        group = CallGroup()
        queue.enqueue("a", group.add("a"))
        kept = group.add("b")
        try:
            with queue.dequeue() as row:
                sys.exit(0)
        finally:
            assert row[0].cancelled()
        """,
        "-W",
        "always",
    )


def test_a_released_row_of_a_windowed_queue_makes_no_noise_at_exit(impl):
    run_script(
        impl,
        """
        import threading

        queue = OpWindow(10, 10, 60, exclusive=True)
        ops = [queue.submit(key) for key in "ab"]
        queue.flush()
        released = queue.dequeue()
        released.finish_all()
        released.release()
        owned = queue.dequeue()
        owned.finish_all()
        # Cycles, which only the collector of the exiting interpreter takes apart; and a daemon
        # thread that still has a row then.
        released_cycle, owned_cycle = [released, queue], [owned, queue]
        released_cycle.append(released_cycle)
        owned_cycle.append(owned_cycle)
        threading.Thread(target=lambda row=released: threading.Event().wait(), daemon=True).start()
        """,
    )
