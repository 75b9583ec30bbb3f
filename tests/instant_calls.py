"""What the signals of test_instants.py strike: calls of a queue in every state that it takes another way in.

Each entry of CALLS prepares a Scene, a queue with operations that it has accepted, and returns the call. In
the end the scene accounts for all of them.
"""

from __future__ import annotations

import asyncio

from helpers import Key
from instant_scene import DEPTH

# Each prepares a scene and returns the call that the signal strikes.
CALLS = {}


def call(function):
    CALLS[function.__name__] = function
    return function


def enqueues(scene, key, **options):
    op = scene.struck = scene.bring(key)
    return lambda: scene.queue.enqueue(key, op, **options)


@call
def enqueue(scene):
    scene.put("a")
    return enqueues(scene, "new")


@call
def enqueue_merges(scene):
    scene.put("a", "b")
    return enqueues(scene, "a")


@call
def enqueue_fills_the_row(scene):
    scene.put("a", "a", "b")
    return enqueues(scene, "a")


@call
def enqueue_behind_an_owned_key(scene):
    scene.ready("a")
    scene.take()
    return enqueues(scene, "a")


@call
def enqueue_merges_behind_an_owned_key(scene):
    scene.ready("a")
    scene.take()
    scene.put("a", "a")
    return enqueues(scene, "a")


@call
def enqueue_refused_for_depth(scene):
    scene.put(*range(DEPTH))
    return enqueues(scene, "new")


@call
def enqueue_refused_for_width(scene):
    scene.put("a", "a", "a")
    return enqueues(scene, "a")


@call
def enqueue_refused_for_closing(scene):
    scene.put("a")
    scene.queue.close()
    return enqueues(scene, "a")


@call
def enqueue_compares(scene):
    scene.put(Key("a"), Key("b"))
    return enqueues(scene, Key("b"))


@call
def enqueue_wakes_a_consumer(scene):
    scene.park(scene.queue.adequeue())
    op = scene.bring("a")

    def fill():
        scene.queue.enqueue("a", op)
        if scene.windowed:
            scene.queue.flush()

    return fill


@call
def enqueue_waits_and_wakes_a_producer_of_its_key(scene):
    scene.ready(*range(DEPTH))
    second = scene.bring("new")

    def make_room():
        scene.park(scene.queue.aenqueue("new", second))
        scene.take()

    scene.when_parked = make_room
    return enqueues(scene, "new", timeout=scene.patience)


@call
def enqueue_waits_in_vain(scene):
    scene.put(*range(DEPTH))
    return enqueues(scene, "new", timeout=0.0005)


@call
def enqueue_waits_for_room(scene):
    scene.ready(*range(DEPTH))
    scene.when_parked = scene.take
    return enqueues(scene, "new", timeout=scene.patience)


@call
def enqueue_waits_for_its_key(scene):
    scene.put(*range(DEPTH))

    def come():
        # The first of the two gets the place, and the second merges.
        scene.take()
        for _ in range(5):
            scene.loop.run_until_complete(asyncio.sleep(0))

    scene.park(scene.queue.aenqueue("new", scene.bring("new")))
    scene.when_parked = come
    return enqueues(scene, "new", timeout=scene.patience)


@call
def enqueue_waits_for_the_end(scene):
    scene.put(*range(DEPTH))
    scene.when_parked = scene.queue.close
    return enqueues(scene, "new", timeout=scene.patience)


@call
def enqueue_many(scene):
    scene.put("a", *range(DEPTH - 2))
    ops = [scene.bring(key) for key in ("a", "b", "c", "b")]
    return lambda: scene.queue.enqueue_many(ops)


@call
def submit(scene):
    def submits():
        op = scene.queue.submit("new")
        scene.brought.append(op)
        return op

    return submits


@call
def submit_waits_for_room(scene):
    scene.ready(*range(DEPTH))
    scene.when_parked = scene.take

    def submits():
        op = scene.queue.submit("new", timeout=scene.patience)
        scene.brought.append(op)
        return op

    return submits


@call
def dequeue(scene):
    scene.ready("a", "a", "b")
    return lambda: scene.queue.dequeue(0)


@call
def dequeue_finds_nothing(scene):
    return lambda: scene.queue.dequeue(0)


@call
def dequeue_finds_the_end(scene):
    scene.queue.close()
    return lambda: scene.queue.dequeue(0)


@call
def dequeue_makes_room(scene):
    scene.ready(*range(DEPTH))
    for key in ("first", "second"):
        scene.park(scene.queue.aenqueue(key, scene.bring(key)))
    return lambda: scene.queue.dequeue(0)


@call
def dequeue_ends_a_join(scene):
    if not scene.exclusive:
        scene.ready("a")
        scene.park(scene.queue.ajoin())
        scene.tasks[-1].set_name("join")
    return lambda: scene.queue.dequeue(0)


@call
def dequeue_waits_in_vain(scene):
    return lambda: scene.queue.dequeue(0.0005)


@call
def dequeue_waits_for_a_row(scene):
    scene.when_parked = lambda: scene.ready("a", "b")
    return lambda: scene.queue.dequeue(scene.patience)


@call
def dequeue_waits_for_the_end(scene):
    scene.when_parked = scene.queue.close
    return lambda: scene.queue.dequeue(scene.patience)


@call
def dequeue_waits_for_a_release(scene):
    if scene.exclusive:
        scene.ready("a")
        row = scene.take()
        scene.ready("a")
        scene.when_parked = row.release
    else:
        scene.when_parked = lambda: scene.ready("a")
    return lambda: scene.queue.dequeue(scene.patience)


@call
def dequeue_of_collided_keys(scene):
    scene.ready(Key("a"), Key("b"), Key("c"))
    return lambda: scene.queue.dequeue(0)


@call
def dequeue_many(scene):
    scene.ready("a", "b", "b", "c")
    return lambda: scene.queue.dequeue_many(2, scene.patience)


@call
def dequeue_many_waits(scene):
    scene.when_parked = lambda: scene.ready("a", "b", "c")
    return lambda: scene.queue.dequeue_many(2, scene.patience)


@call
def iterate(scene):
    scene.ready("a", "b")
    # It has no timeout.
    scene.queue.close()
    return iter(scene.queue).__next__


@call
def process(scene):
    scene.ready("a", "b")
    return lambda: scene.queue.process(scene.rows.append, scene.patience)


@call
def drain(scene):
    scene.ready("a", "b")
    scene.put("c", "d", "d")
    return scene.queue.drain


@call
def drain_makes_room(scene):
    scene.put(*range(DEPTH))
    for key in ("first", "second"):
        scene.park(scene.queue.aenqueue(key, scene.bring(key)))
    return scene.queue.drain


@call
def flush(scene):
    scene.put("a", "b")
    return scene.queue.flush


@call
def flush_of_a_key(scene):
    scene.put(Key("a"), Key("b"))
    return lambda: scene.queue.flush(Key("b"))


@call
def flush_wakes_consumers(scene):
    if scene.windowed:
        scene.put("a", "b")
    for _ in range(3):
        scene.park(scene.queue.adequeue())
    return scene.queue.flush


@call
def close(scene):
    scene.put("a", "b")
    return scene.queue.close


@call
def close_wakes_all(scene):
    scene.put(*range(DEPTH))
    if not scene.windowed:
        scene.rows += scene.queue.drain()
        scene.put(*range(10, 10 + DEPTH))
    scene.park(scene.queue.aenqueue("new", scene.bring("new")))
    if scene.windowed:
        scene.park(scene.queue.adequeue())
    scene.park(scene.queue.ajoin())
    scene.tasks[-1].set_name("join")
    return scene.queue.close


@call
def close_ends_consumers(scene):
    for _ in range(2):
        scene.park(scene.queue.adequeue())
    return scene.queue.close


@call
def leave_the_block(scene):
    scene.put("a")

    def block():
        with scene.queue:
            pass

    return block


@call
def join(scene):
    scene.put("a")
    return lambda: scene.queue.join(0)


@call
def join_waits_in_vain(scene):
    scene.put("a")
    return lambda: scene.queue.join(0.0005)


@call
def join_waits(scene):
    scene.ready("a")

    def end():
        scene.take().release()

    scene.when_parked = end
    return lambda: scene.queue.join(scene.patience)


@call
def looks(scene):
    scene.put("a", Key("b"))

    def look():
        scene.queue.stats(), len(scene.queue), Key("b") in scene.queue, repr(scene.queue), scene.queue.closed

    return look


@call
def release(scene):
    scene.ready("a", "b")
    return scene.take().release


@call
def release_requeues(scene):
    scene.ready("a")
    row = scene.take()
    scene.park(scene.queue.adequeue())
    if scene.exclusive:
        scene.put("a", "a")
        scene.queue.flush()
    return row.release


@call
def release_of_collided_keys(scene):
    scene.ready(Key("a"), Key("b"))
    row = scene.take()
    scene.put(Key("a"), Key("c"))
    return row.release


@call
def release_ends_a_join(scene):
    scene.ready("a")
    row = scene.take()
    if scene.exclusive:
        scene.park(scene.queue.ajoin())
        scene.tasks[-1].set_name("join")
    return row.release


@call
def cancel_a_woken_consumer(scene):
    scene.park(scene.queue.adequeue())
    scene.park(scene.queue.adequeue())
    scene.ready("a")
    return scene.tasks[0].cancel


@call
def cancel_a_woken_producer(scene):
    scene.ready(*range(DEPTH))
    for key in ("first", "second"):
        scene.park(scene.queue.aenqueue(key, scene.bring(key)))
    scene.take()
    return scene.tasks[0].cancel


@call
def adequeue_needs_no_loop(scene):
    scene.ready("a", "b")
    return lambda: drive(scene.queue.adequeue(0))


@call
def aiter_needs_no_loop(scene):
    scene.ready("a", "b")
    scene.queue.close()
    rows = scene.queue.__aiter__()
    return lambda: drive(rows.__anext__())


@call
def aenqueue_needs_no_loop(scene):
    op = scene.bring("new")
    return lambda: drive(scene.queue.aenqueue("new", op))


@call
def asubmit_needs_no_loop(scene):
    def submits():
        op = drive(scene.queue.asubmit("new"))
        if op is not None:
            scene.brought.append(op)

    return submits


def drive(coroutine):
    """Not that of aio.py: there must be nothing between its end and our return."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    except RuntimeError:
        # A handler took what was there, and there is no loop to wait in.
        return None
