"""Real signals at random instants of every wait: Ctrl-C, and one whose handler uses what it interrupts.

In each round a thread ends the wait about when the signal comes, so that both the ends of the wait and the signal
strike first, last and at the same time; it goes on until each did often enough. In the end all is accounted for:
each operation finished once, those of a row that was lost between the return of the call and the caller's own
statement as abandoned; no slot, key or place in a line is left behind.
"""

from __future__ import annotations

import sys

import pytest
from helpers import run_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

SCENE = """
import asyncio, gc, queue as queues, random, signal
from inflight._invariants import check_invariants

warnings.simplefilter("ignore", ResourceWarning)
# An interrupt may strike a finalizer, which the interpreter tells and forgets.
sys.unraisablehook = lambda caught: None

class Scene:
    def __init__(self, kind):
        self.queue = {
            "OpQueue": lambda: OpQueue(2, None),
            "DedupeQueue": lambda: DedupeQueue(2, None),
            "OpWindow": lambda: OpWindow(2, None, 0.0002, exclusive=True),
        }[kind]()
        self.group = CallGroup()
        self.group.__enter__()
        self.got = []
        self.op = None

    def put(self, key, **options):
        op = self.group.add(key)
        try:
            self.queue.enqueue(key, op, **options)
        except QueueSaturatedError:
            op.finish()
            raise

    def fill(self):
        self.put("old")
        self.put("older")

    def take(self, timeout=0):
        with self.queue.dequeue(timeout) as row:
            row.finish_all("taken")

    def account(self):
        check_invariants(self.queue)
        stats = self.queue.stats()
        assert (stats.consumers_waiting, stats.producers_waiting) == (0, 0), stats
        for row in self.got:
            with row:
                row.finish_all("got")
        self.got.clear()
        row = None
        gc.collect()
        self.queue.flush()
        for row in self.queue.drain():
            with row:
                row.finish_all("left")
        row = None
        gc.collect()
        # No slot and no key stays taken.
        assert self.queue.join(0), self.queue.stats()
        free = [self.queue.submit(key) for key in range(2)]
        assert len(self.queue) == 2
        self.queue.close()
        for row in self.queue:
            with row:
                row.finish_all()
        row = None
        stats = self.queue.stats()
        assert stats.enqueued == stats.dequeued_ops
        self.group.__exit__(None, None, None)
        assert self.group.done(), self.group
        errors = self.group.result(0).errors
        self.cancelled = sum(type(each) is OpCancelledError for each in errors)
        self.lost = sum(type(each) is OpAbandonedError for each in errors)
        assert len(errors) == self.cancelled + self.lost, errors
        check_invariants(self.queue)

gc.collect()
gc.freeze()
"""

CTRL_C = """
armed = False

def handler(number, frame):
    global armed
    if armed:
        # Once in a round, so that no except clause of ours is interrupted.
        armed = False
        raise KeyboardInterrupt
"""

USES = """
armed = False
handled = 0

def handler(number, frame):
    global handled
    if armed:
        handled += 1
        scene.group.outstanding, repr(scene.queue), scene.queue.stats()
        try:
            scene.put(handled % 3)
        except QueueSaturatedError:
            pass
        try:
            scene.take()
        except QueueEmptyError:
            pass
"""

ROUNDS = """
tasks = queues.SimpleQueue()
ended = threading.Semaphore(0)

def partner():
    while True:
        delay, call = tasks.get()
        time.sleep(delay)
        call()
        ended.release()

threading.Thread(target=partner, daemon=True).start()
signal.signal(signal.SIGALRM, handler)
random.seed(5)
raised = returned = lost = cancelled = 0
number = 0
while number < rounds or not enough():
    number += 1
    scene = Scene(("OpQueue", "DedupeQueue", "OpWindow")[number % 3])
    before(scene)
    armed = True
    # Of the same size, so that each is often the first.
    tasks.put((random.choice((0, 0.0002, 0.0006)) * random.random(), lambda: end(scene)))
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.choice((0.00003, 0.0003, 0.001)) * (0.02 + random.random()))
            call(scene)
            returned += 1
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        raised += 1
    assert ended.acquire(timeout=20), "the partner hangs"
    scene.account()
    lost += scene.lost
    cancelled += scene.cancelled

# Lost on the way to the caller's statement, or in the block of a row: each time by an interrupt.
assert lost + cancelled <= raised, (lost, cancelled, raised)
"""

ASYNC_ROUNDS = """
# Ctrl-C cancels the main task of asyncio.run.
tasks = queues.SimpleQueue()
ended = threading.Semaphore(0)

def partner():
    while True:
        delay, call = tasks.get()
        time.sleep(delay)
        call()
        ended.release()

for _ in range(2):
    threading.Thread(target=partner, daemon=True).start()
random.seed(5)
raised = returned = lost = cancelled = 0
# What a shell starts in the background ignores it; asyncio.run then leaves it so.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    global armed
    cancel_main = signal.getsignal(signal.SIGINT)

    def once(number, frame):
        global armed
        # Not what asyncio.run does after its task, nor what we do.
        if armed:
            armed = False
            cancel_main(number, frame)

    signal.signal(signal.SIGINT, once)
    armed = True
    tasks.put((random.choice((0, 0.0002, 0.0006)) * random.random(), lambda: end(scene)))
    tasks.put((random.choice((0, 0.0003, 0.001)) * random.random(), interrupt))
    try:
        await call(scene)
    finally:
        armed = False

number = 0
while number < rounds or not enough():
    number += 1
    scene = Scene(("OpQueue", "DedupeQueue", "OpWindow")[number % 3])
    before(scene)
    try:
        asyncio.run(main())
        returned += 1
    except KeyboardInterrupt:
        raised += 1
    for _ in range(2):
        assert ended.acquire(timeout=20), "a partner hangs"
    # Which asyncio.run replaces by its own.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    scene.account()
    lost += scene.lost
    cancelled += scene.cancelled

# Lost on the way to the caller's statement, or in the block of a row: each time by an interrupt.
assert lost + cancelled <= raised, (lost, cancelled, raised)
"""

# The call, what is before it, what ends its wait.
WAITS = {
    "dequeue": ("scene.got.append(scene.queue.dequeue(20))", "", "scene.put('a', timeout=20)"),
    "dequeue_many": ("scene.got.extend(scene.queue.dequeue_many(2, 20))", "", "scene.put('a', timeout=20)"),
    "iterate": ("scene.got.append(next(iter(scene.queue)))", "", "scene.put('a', timeout=20)"),
    "process": ("scene.queue.process(lambda row: count(scene, row), 20)", "", "scene.put('a', timeout=20)"),
    "enqueue": ("scene.put('new', timeout=20)", "scene.fill()", "make_room(scene)"),
    "submit": ("scene.queue.submit('new', timeout=20)", "scene.fill()", "make_room(scene)"),
    "join": ("scene.queue.join(20)", "scene.put('old')", "empty(scene)"),
    "result": ("scene.op.result(20)", "scene.op = scene.group.add(1)", "finish(scene)"),
    "exception": ("scene.op.exception(20)", "scene.op = scene.group.add(1)", "finish(scene)"),
    "group": ("scene.other.result(20)", "others(scene)", "finish(scene)"),
}

ASYNC_WAITS = {
    "adequeue": ("scene.got.append(await scene.queue.adequeue(20))", "", "scene.put('a', timeout=20)"),
    "adequeue_many": ("scene.got.extend(await scene.queue.adequeue_many(2))", "", "scene.put('a', timeout=20)"),
    "aiterate": ("scene.got.append(await anext(aiter(scene.queue)))", "", "scene.put('a', timeout=20)"),
    "aprocess": ("await scene.queue.aprocess(acount)", "", "scene.put('a', timeout=20)"),
    "aenqueue": ("await aput(scene)", "scene.fill()", "make_room(scene)"),
    "asubmit": ("await scene.queue.asubmit('new')", "scene.fill()", "make_room(scene)"),
    "ajoin": ("await scene.queue.ajoin()", "scene.put('old')", "empty(scene)"),
    "await op": ("await scene.op", "scene.op = scene.group.add(1)", "finish(scene)"),
    "await group": ("await scene.other", "others(scene)", "finish(scene)"),
}

TOOLS = """
def count(scene, row):
    row.finish_all("processed")

async def acount(row):
    count(scene, row)

async def aput(scene):
    await scene.queue.aenqueue("new", scene.group.add("new"))

# The handler may have been there first, or come after: then there is something in the queue again, perhaps in a window.

def make_room(scene):
    while armed or not scene.queue.stats().dequeued_rows:
        take_soon(scene)

def empty(scene):
    while armed or not scene.queue.join(0):
        take_soon(scene)

def take_soon(scene):
    try:
        scene.take(0.001)
    except QueueEmptyError:
        pass

def others(scene):
    scene.op = scene.group.add(1)
    scene.other = CallGroup()
    # Finished by the callback of an operation of the other group.
    inner = scene.other.add(1)
    scene.op.add_done_callback(lambda op: inner.finish(5))

def finish(scene):
    scene.op.finish(5)
"""


def define(call, before, end, *, coroutine=False):
    return f"""
{"async " if coroutine else ""}def call(scene):
    {call}

def before(scene):
    {before or "pass"}

def end(scene):
    {end}
"""


def until(rounds, count, enough):
    """So many rounds at least, and on until the count is high enough."""
    return f"""
rounds = {rounds}

def enough():
    return {count} > {enough}
"""


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_at_random_instants(impl, rounds, wait):
    enough = until(300 * rounds, "min(raised, returned)", 15 * rounds)
    source = f"{SCENE}{TOOLS}{CTRL_C}{define(*WAITS[wait])}{enough}{ROUNDS}"
    run_script(impl, source, timeout=60 + 60 * rounds)


@pytest.mark.parametrize("wait", WAITS)
def test_a_handler_uses_the_queue_at_random_instants(impl, rounds, wait):
    source = f"{SCENE}{TOOLS}{USES}{define(*WAITS[wait])}{until(200 * rounds, 'handled', 40 * rounds)}{ROUNDS}"
    run_script(impl, f"{source}\nassert returned == number", timeout=60 + 60 * rounds)


INTERRUPT = """
armed = False

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
"""

USES_IN_LOOP = """
signal.signal(signal.SIGUSR1, handler)

def interrupt():
    os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.parametrize("wait", ASYNC_WAITS)
def test_ctrl_c_at_random_instants_of_a_loop(impl, rounds, wait):
    enough = until(120 * rounds, "min(raised, returned)", 5 * rounds)
    source = f"{SCENE}{TOOLS}{INTERRUPT}{define(*ASYNC_WAITS[wait], coroutine=True)}{enough}{ASYNC_ROUNDS}"
    run_script(impl, source, timeout=60 + 60 * rounds)


@pytest.mark.parametrize("wait", ASYNC_WAITS)
def test_a_handler_uses_the_queue_at_random_instants_of_a_loop(impl, rounds, wait):
    source = (
        f"{SCENE}{TOOLS}{USES}{USES_IN_LOOP}{define(*ASYNC_WAITS[wait], coroutine=True)}"
        f"{until(80 * rounds, 'handled', 10 * rounds)}{ASYNC_ROUNDS}"
    )
    run_script(impl, f"{source}\nassert returned == number", timeout=60 + 60 * rounds)
