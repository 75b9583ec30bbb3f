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
from inflight._invariants import check_invariants
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
            check_invariants(current[0].queue)
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


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_wait_in_vain_gives_up_is_for_a_handler(scenes, signals, kind):
    """A row, or a place, that comes while a call looks for the last time goes to one of the two."""

    def put_and_drain():
        scene.put("late")
        handler.extend(row.key for row in scene.queue.drain())

    def make_room_and_put():
        scene.take().release()
        try:
            handler.append(scene.queue.submit("late", timeout=0))
            scene.kept += handler
        except QueueSaturatedError:
            pass

    for action, name in ((put_and_drain, "dequeue_waits_in_vain"), (make_room_and_put, "enqueue_waits_in_vain")):
        for number in itertools.count(1):
            scene, handler = scenes(kind), []
            call = CALLS[name](scene)
            scene.queue.flush()
            signals.action = action
            reached, value, error = signals.run(number, call)
            if not reached:
                break
            assert isinstance(error, InflightError | None)
            assert (error is None) != bool(handler), f"instant {number}, in {signals.last}: {value!r}, {error!r}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_ends_what_a_call_joins(scenes, signals, kind):
    """It is not left behind in a line that nobody looks at any more: see ``scenes``."""
    for number in itertools.count(1):
        scene = scenes(kind)
        scene.ready("a")
        ended = []

        def end(scene=scene, ended=ended):
            scene.take().release()
            ended.append(None)

        signals.action = end
        reached, value, error = signals.run(number, lambda scene=scene: scene.queue.join(0.0005))
        if not reached:
            break
        assert error is None
        assert ended
        assert value in (True, False)


@pytest.mark.parametrize("kind", KINDS)
def test_who_brings_the_same_key_merges_after_an_interrupt(scenes, signals, kind):
    """Of a call that has made the key wait: by a new row, or by one that it gives back."""

    def interrupt_another(scene):
        if len(scene.queue) == 0:
            # Taken by the call that is to give it back.
            for key in range(scene.queue.depth):
                scene.put(key)
            scene.park(scene.queue.aenqueue("new", scene.bring("new")))
        interrupt()

    def enqueue(scene):
        def park():
            scene.park(scene.queue.aenqueue("new", scene.bring("new")))
            scene.take().release()

        scene.ready(*range(scene.queue.depth))
        scene.when_parked = park
        return lambda: scene.queue.enqueue("new", scene.bring("new"), timeout=scene.patience), interrupt

    def dequeue(scene):
        scene.ready("new")
        return lambda: scene.queue.dequeue(0), lambda: interrupt_another(scene)

    for begin in (enqueue, dequeue):
        met = 0
        for number in itertools.count(1):
            scene = scenes(kind)
            call, signals.action = begin(scene)
            reached, value, error = signals.run(number, call)
            scene.receive(value)
            if not reached:
                break
            waits = "new" in scene.queue and all(row.key != "new" for row in scene.rows)
            scene.run_tasks()
            assert not (waits and scene.queue.stats().producers_waiting), f"instant {number}, in {signals.last}"
            met += waits and bool(scene.tasks)
            scene.account()
        assert met, "no call was interrupted where that mattered"


def test_stats_are_of_one_moment_whatever_a_handler_does(scenes, signals):
    def change():
        scene.queue.dequeue(0).finish_all()
        scene.ready("c", "d")

    seen = set()
    for number in itertools.count(1):
        scene = scenes("OpQueue")
        scene.ready("a", "b")
        before, signals.action = scene.queue.stats(), change
        reached, stats, error = signals.run(number, scene.queue.stats)
        assert error is None
        if not reached:
            break
        after = before._replace(keys=3, ops=3, enqueued=4, dequeued_rows=1, dequeued_ops=1)
        assert stats in (before, after), f"instant {number}, in {signals.last}"
        seen.add(stats)
    assert len(seen) == 2


ACTIONS = {
    "put": put,
    "take": take,
    "drain": lambda scene: scene.rows.extend(scene.queue.drain()),
    "release": release_all,
    "flush": lambda scene: scene.queue.flush(),
    "close": lambda scene: scene.queue.close(),
    "look": lambda scene: (scene.queue.stats(), check_invariants(scene.queue), "a" in scene.queue),
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
