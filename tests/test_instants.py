"""A signal at every instant of every call: the pure implementation is valid between any two bytecodes.

Its handler raises (Ctrl-C), or uses the same queue and returns. Whatever it does: the invariants hold, every
accepted operation is in exactly one place, no slot is lost, and who waits is woken. The compiled implementation
runs no Python code in between; what strikes it is in test_interrupts.py.
"""

from __future__ import annotations

import asyncio
import functools
import itertools

import pytest
from instant_calls import CALLS
from instant_scene import Scene
from instants import instants, interrupt

from inflight import InflightError, QueueClosedError, QueueEmptyError, QueueSaturatedError
from inflight._pure import waiters

# Those that found something: each instant of them, every time.
FOUND = ["enqueue_waits_in_vain", "dequeue_waits_in_vain", "dequeue_makes_room", "close_wakes_all", "close", "process"]

KINDS = ["OpQueue", "DedupeQueue", "OpWindow", "OpWindow-exclusive"]


@pytest.fixture(autouse=True)
def pure_only(impl):
    if impl.name != "pure":
        pytest.skip("has no bytecodes")


@pytest.fixture
def signals():
    with instants() as made:
        yield made


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def scenes(impl, signals, loop, monkeypatch):
    """Makes scenes, whose ``when_parked`` happens when the call that is struck parks."""
    current = []
    park = waiters.ThreadWaiter.park

    def parks(waiter, until):
        with signals.paused():
            happens, current[0].when_parked = getattr(current[0], "when_parked", None), None
            if happens is not None:
                happens()
            if until is None:
                # Without a timeout; the end comes when nothing is owned.
                release_all(current[0])
        return park(waiter, until)

    monkeypatch.setattr(waiters.ThreadWaiter, "park", parks)

    def make(kind, **options):
        for scene in current:
            scene.end()
        current[:] = [Scene(impl, kind, loop, **options)]
        return current[0]

    yield make
    for scene in current:
        scene.end()


@pytest.fixture
def strike_everywhere(scenes, signals):
    def run(kind, name, *, action=None, first=1, step=1):
        """The outcomes of the call, struck at every instant, once it has been accounted for."""
        for number in itertools.count(first, step):
            scene = scenes(kind)
            if action is not None:
                # It may take away what a call waits for.
                scene.patience = 0.0005
            call = CALLS[name](scene)
            signals.action = interrupt if action is None else functools.partial(action, scene)
            reached, value, error = signals.run(number, call)
            scene.receive(value)
            try:
                assert error is None or isinstance(
                    error, KeyboardInterrupt | InflightError | StopIteration | StopAsyncIteration
                )
                received = scene.account()
                if error is None and scene.struck is not None:
                    assert scene.struck in received, "it returned, and the operation is not there"
            except BaseException as failure:
                failure.add_note(f"instant {number}, in {signals.last}: {value!r}, {error!r}")
                raise
            if not reached:
                return
            yield error

    return run


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_at_any_instant_leaves_everything_in_its_place(strike_everywhere, rounds, kind, name):
    if rounds == 1 and kind in ("DedupeQueue", "OpWindow"):
        pytest.skip("the other two have the same policies; needs --rounds 2")
    step = 1 if kind == "OpQueue" and name in FOUND else max(1, 6 // rounds)
    errors = list(strike_everywhere(kind, name, first=1 + len(name) % step, step=step))
    exclusive = kind in ("DedupeQueue", "OpWindow-exclusive")
    assert sum(type(error) is KeyboardInterrupt for error in errors) > 2 or ("release" in name and not exclusive)


def take(scene):
    try:
        scene.take()
    except (QueueEmptyError, QueueClosedError):
        pass


def put(scene):
    if not scene.queue.closed:
        for key in ("a", "new", "handler"):
            op = scene.bring(key)
            try:
                scene.queue.enqueue(key, op)
            except QueueSaturatedError:
                pass


def release_all(scene):
    for row in scene.rows:
        row.release()


ACTIONS = {
    "put": put,
    "take": take,
    "drain": lambda scene: scene.rows.extend(scene.queue.drain()),
    "release": release_all,
    "flush": lambda scene: scene.queue.flush(),
    "close": lambda scene: scene.queue.close(),
    "look": lambda scene: (scene.queue.stats(), scene.queue._check(), "a" in scene.queue),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_uses_the_queue_at_any_instant(strike_everywhere, rounds, kind, action):
    if rounds == 1 and kind in ("DedupeQueue", "OpWindow"):
        pytest.skip("the other two have the same policies; needs --rounds 2")
    # Another stride than that of the bytecodes, so that not always the same are met.
    for number, name in enumerate(CALLS):
        step = max(1, 40 // rounds)
        errors = list(strike_everywhere(kind, name, action=ACTIONS[action], first=1 + number % step, step=step))
        assert not any(type(error) is KeyboardInterrupt for error in errors)
