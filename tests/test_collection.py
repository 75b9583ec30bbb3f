"""What nobody holds is free: by its references, or by the collector where they go in circles."""

from __future__ import annotations

import gc
import weakref

import pytest
from helpers import HANG, KINDS, Worker, one_of, put, run_script, take_all, wait_consumers

from inflight import QueueClosedError, QueueSaturatedError
from inflight._invariants import check_invariants


@pytest.mark.parametrize("kind", KINDS)
def test_everything_can_be_weakly_referenced(impl, kind, collect):
    thing = one_of(impl, kind)
    calls = []
    ref = weakref.ref(thing, lambda ref: calls.append(1))
    assert ref() is thing
    del thing
    collect()
    assert ref() is None
    assert calls == [1]


class Marker:
    """Something to see collected."""


def test_messages_and_keys_are_free_after_a_row_is_dropped(make_queue, collect):
    class Key:
        pass

    queue = make_queue()
    key, msg = Key(), Marker()
    refs = [weakref.ref(key), weakref.ref(msg)]
    queue.submit(key, msg)
    del key, msg
    collect()
    assert None not in [ref() for ref in refs]
    with queue.dequeue(0) as row:
        row.finish_all()
    del row
    collect()
    assert [ref() for ref in refs] == [None, None]


def test_a_duplicates_key_is_not_kept(make_queue, collect):
    class Key:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            return isinstance(other, Key)

    queue = make_queue()
    op = make_queue.impl.Op(1)
    queue.enqueue(Key(), op)
    key = Key()
    ref = weakref.ref(key)
    queue.enqueue(key, op)
    assert key in queue
    del key
    collect()
    assert ref() is None
    assert len(queue) == 1


def test_a_refused_operation_is_not_kept(make_queue, collect):
    queue = make_queue(1, None)
    put(queue, 1)
    op = make_queue.impl.Op(2)
    ref = weakref.ref(op)
    for timeout in (0, 0.001):
        with pytest.raises(QueueSaturatedError):
            queue.enqueue(2, op, timeout=timeout)
    op.finish()
    del op
    collect()
    assert ref() is None


def test_results_and_errors_are_free_after_the_operation(impl, collect):
    result = Marker()
    ref = weakref.ref(result)
    op = impl.Op(1)
    op.finish(result)
    del result
    assert ref() is op.result()
    del op
    collect()
    assert ref() is None


def test_callbacks_are_free_after_they_ran(impl, collect):
    class Callback:
        def __call__(self, done):
            pass

    op = impl.Op(1)
    group = impl.CallGroup()
    callbacks = [Callback(), Callback()]
    op.add_done_callback(callbacks[0])
    group.add_done_callback(callbacks[1])
    refs = [weakref.ref(callback) for callback in callbacks]
    callbacks.clear()
    op.finish()
    group.seal()
    collect()
    assert [ref() for ref in refs] == [None] * 2


def test_cycles_through_callbacks_are_collected(impl, collect, dropped):
    op = impl.Op(1)
    op.finish()
    group = impl.CallGroup()
    group.add_done_callback(lambda done, group=group: None)
    queue = impl.OpQueue(None, None)
    finished = impl.Op(2, queue)
    finished.finish(finished)
    queue.enqueue(1, finished)
    pending = impl.Op(3)
    pending.add_done_callback(lambda done, pending=pending: None)
    refs = [weakref.ref(each) for each in (group, queue, finished, pending)]
    del group, queue, finished, pending
    collect()
    assert [ref() for ref in refs] == [None] * 4


def test_a_cycle_of_group_reducer_and_operation_is_collected(impl, collect, dropped):
    class Job:
        def __init__(self):
            self.group = impl.CallGroup(self.reduce)
            self.op = self.group.add(1, self)
            self.errors = None

        def reduce(self, results):
            calls.append(results.errors)

    calls = []
    ref = weakref.ref(Job())
    collect()
    # The operation was abandoned with everything else, and the reducer was told.
    assert len(calls) == 1
    calls.clear()
    collect()
    assert ref() is None


def test_a_cycle_of_queue_row_and_message_is_collected(impl, collect, dropped):
    queue = impl.DedupeQueue(None, None)
    holder = Marker()
    queue.submit("a", holder)
    queue.submit("b", queue)
    holder.row = queue.dequeue(0)
    refs = [weakref.ref(queue), weakref.ref(holder)]
    del queue, holder
    collect()
    collect()
    assert [ref() for ref in refs] == [None, None]


def test_a_subclass_with_attributes_is_collected(impl, collect, dropped):
    class Mine(impl.OpQueue):
        pass

    queue = Mine(None, None)
    queue.itself = queue
    queue.submit(1, queue)
    ref = weakref.ref(queue)
    del queue
    collect()
    assert ref() is None


def test_objects_are_tracked_by_the_collector(impl):
    queue = impl.OpQueue(None, None)
    queue.submit(1)
    for thing in (queue, impl.CallGroup(), impl.Op(object()), queue.dequeue(0)):
        assert gc.is_tracked(thing)


def test_a_parked_consumer_keeps_its_queue(impl, collect):
    queue = impl.OpQueue(None, None)
    ref = weakref.ref(queue)
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    del queue
    collect()
    ref().close()
    assert isinstance(worker.exception(), QueueClosedError)


def test_the_collector_may_run_anywhere(impl, dropped):
    """Operations in cycles are abandoned by collections that start inside calls of the same queue and group."""
    queue = impl.OpQueue(None, None)
    group = impl.CallGroup()
    thresholds = gc.get_threshold()
    total = 1500

    def cycle(number):
        op = group.add(("cycle", number))
        # Its callback uses what the collector has interrupted.
        op.add_done_callback(lambda done, op=op: queue.submit(number))

    gc.set_threshold(1)
    try:
        with group:
            for number in range(total):
                cycle(number)
                op = group.add(number)
                queue.enqueue(number % 7, op)
                if number % 5 == 0:
                    for row in take_all(queue):
                        row.finish_all()
            del op
            for row in take_all(queue):
                row.finish_all()
            gc.set_threshold(*thresholds)
            gc.collect()
            queue.drain()
    finally:
        gc.set_threshold(*thresholds)
    results = group.result(HANG)
    assert len(results.responses) == 2 * total
    abandoned = [response.op.key for response in results.responses if response.error is not None]
    assert sorted(abandoned) == [("cycle", number) for number in range(total)]
    check_invariants(queue)


CHAINS = {
    "results": """
        for number in range(total):
            op = Op(number)
            op.finish(chain)
            chain = op
        del op
    """,
    "messages": """
        for number in range(total):
            chain = Op(number, chain)
            chain.finish()
    """,
    "errors": """
        for number in range(total):
            error = ValueError(chain)
            chain = Op(number)
            chain.finish(error=error)
        del error
    """,
    "rows": """
        queue = OpQueue(None, None)
        for number in range(total):
            queue.submit(number, chain)
            chain = queue.dequeue(0)
            chain.finish_all()
    """,
    "owned rows": """
        queue = DedupeQueue(None, None)
        for number in range(total):
            queue.submit(number, chain)
            chain = queue.dequeue(0)
            chain.finish_all()
    """,
    "queues": """
        shared = Op("of all")
        for number in range(total // 10):
            link = OpQueue(None, None)
            link.enqueue(chain, shared)
            chain = link
        del link
    """,
}


@pytest.mark.instrumented
@pytest.mark.parametrize("links", CHAINS)
def test_a_long_chain_of_operations_is_dropped_without_recursion(impl, links):
    """As a long chain of tuples is: deep recursion in C ends the process."""
    run_script(
        impl,
        """
        # Frames of C may be small.
        total = 1_000_000 if inflight.IMPLEMENTATION == "native" else 100_000
        chain = None
        """
        + CHAINS[links]
        + """
        chains = [chain]
        del chain
        # The depth of some thousand that the interpreter itself allows fits, a frame for each link does not.
        threading.stack_size(4 * 2**20)
        thread = threading.Thread(target=chains.clear)
        thread.start()
        thread.join()
        if "queue" in globals():
            assert queue.join(0)
            check_invariants(queue)
        if "shared" in globals():
            shared.finish()
        print("survived")
        """,
        expect="survived\n",
    )


def test_who_holds_what_a_row_refers_to_does_not_own_its_key(impl, collect):
    """A debugger or a profiler of memory may hold it; the row is gone all the same."""
    queue = impl.DedupeQueue(10, 10)
    held = []
    for number in range(100):
        key = f"key {number}"
        put(queue, key, key)
        row = queue.dequeue(0)
        (behind,) = put(queue, key)
        held.append(gc.get_referents(row))
        row.finish_all()
        del row
        assert queue.stats().owned == 0
        # Memory that was freed is used again.
        put(queue, *range(3))
        for row in queue.drain():
            row.finish_all()
            row.release()
        assert behind.done()
        del row
        check_invariants(queue)
    held.clear()
    collect()
    check_invariants(queue)
    assert queue.join(0)


def test_a_row_that_is_taken_while_the_collector_clears_another_is_not_cleared_with_it(impl):
    """An OpSet that dies in the middle of a collection must not come back as one that the collector still has."""
    queue = impl.OpQueue(10, 10)
    taken = []

    class Last:
        def __del__(self):
            taken.append(queue.dequeue(0))

    other = impl.OpQueue(None, None)
    for number in range(5):
        # Rows are used again, so many are taken before, to have one that the collector meets last. What takes
        # the next row is too old for the collection, so it is not finalized before anything is cleared, but
        # when the list is, which lets go from its end: the row dies first.
        ops = [other.submit(key) for key in range(2000)]
        others = other.dequeue_many(2000)
        first, second = queue.submit("first", number), queue.submit("second", number)
        first.finish()
        last = Last()
        gc.collect()
        garbage = [last]
        garbage.insert(0, garbage)
        garbage.append(queue.dequeue())
        del garbage, last
        gc.collect(0)
        (row,) = taken
        taken.clear()
        assert row.key == "second"
        assert list(row) == [second]
        row.finish_all(number)
        assert second.result(0) == number
        assert sum(each.finish_all() for each in others) == len(ops)


def test_a_row_in_a_cycle_is_collected_whatever_was_frozen_before(impl):
    """Programs freeze what there is before they fork; a row made of what was spare then is no part of that."""
    queue = impl.DedupeQueue(None, None)
    for key in range(100):
        queue.submit(key).cancel()
    queue.drain()
    gc.collect()
    gc.freeze()
    op = queue.submit("a")
    row = queue.dequeue()
    op.finish(row)
    dead = weakref.ref(row)
    del op, row
    gc.collect()
    assert dead() is None
    assert "a" not in queue


async def test_the_collector_tells_who_holds_what(impl, make_queue):
    """``gc.get_referrers``, with which one looks for what keeps an object alive, finds queues, rows and operations."""
    if impl.name == "pure":
        pytest.skip("holds it by lists and dicts of its own")

    def is_held(thing, *holders):
        found = gc.get_referrers(thing)
        return all(any(each is holder for each in found) for holder in holders)

    queue, empty, op = make_queue(), make_queue(), impl.Op(Marker())
    call, other = lambda done: None, lambda done: None
    ops = [op, impl.Op(op.key), impl.Op(op.key)]
    for each in ops:
        each.add_done_callback(call)
        each.add_done_callback(other)
        queue.enqueue(each.key, each)
    assert is_held(op.key, queue, *ops)
    assert is_held(call, *ops)
    assert is_held(other, *ops)
    assert all(is_held(each, queue) for each in ops)
    row = queue.dequeue(0)
    assert is_held(op.key, row, *ops)
    assert all(is_held(each, row) for each in ops)
    row.finish_all()
    consumers = [empty.adequeue() for _ in range(2)]
    waiters = [consumer.send(None) for consumer in consumers]
    assert all(is_held(waiter, empty) for waiter in waiters)
    promised = impl.Op(Marker())
    empty.enqueue("a", promised)
    # The first is out of line, and the row is its.
    assert all(is_held(waiter, empty) for waiter in waiters)
    promised.finish()
    for consumer in consumers:
        consumer.close()
    empty.drain()
