"""What is dropped ends well: abandoned operations fail, dropped rows release, nothing leaks."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import warnings
import weakref

import pytest
from helpers import HANG, Worker, put, run_script, take_all, wait_blocked, wait_consumers

from inflight import OpAbandonedError, QueueClosedError, QueueSaturatedError


@pytest.fixture
def dropped():
    """The texts of the warnings about dropped operations."""
    # What earlier tests left to the collector is not to be heard here.
    for _ in range(3):
        gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(each.message) for each in caught if each.category is ResourceWarning]


def test_an_abandoned_operation_fails_its_group(impl, collect, dropped):
    group = impl.CallGroup()
    op = group.add("k", "m")
    del op
    collect()
    results = group.result(HANG)
    error = results["k"].error
    assert type(error) is OpAbandonedError
    assert str(error) == "operation 'k' was dropped unfinished"
    assert results["k"].op.msg == "m"
    assert dropped() == ["operation 'k' was dropped unfinished"]


def test_an_abandoned_operation_runs_its_callbacks(impl, collect, dropped):
    calls = []
    op = impl.Op(1)
    op.add_done_callback(lambda op: calls.append(type(op.exception(0))))
    del op
    collect()
    assert calls == [OpAbandonedError]
    assert len(dropped()) == 1


def test_an_abandoned_operation_wakes_who_waits_for_its_group(impl, collect, dropped):
    group = impl.CallGroup()
    ops = [group.add(1)]
    worker = Worker(group.result, HANG)
    wait_blocked(worker)
    ops.clear()
    collect()
    assert len(worker.result().errors) == 1


def test_a_callback_may_keep_an_abandoned_operation(impl, collect, dropped):
    kept = []
    op = impl.Op(1)
    op.add_done_callback(kept.append)
    del op
    collect()
    assert kept[0].done()
    assert "failed" in repr(kept[0])
    del kept[:]
    collect()
    assert len(dropped()) == 1


def test_the_warning_names_where_it_was_made_an_error(impl, collect):
    """With warnings as errors the finalizer still finishes the operation."""
    group = impl.CallGroup()
    op = group.add(1)
    unraisable = []
    import sys

    before, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del op
            collect()
    finally:
        sys.unraisablehook = before
    assert group.done()
    assert type(group.result()[1].error) is OpAbandonedError
    unraisable.clear()


def test_a_finished_operation_is_dropped_silently(impl, collect, dropped):
    for finish in (lambda op: op.finish(), lambda op: op.cancel(), lambda op: op.finish(error=ValueError())):
        op = impl.Op(1)
        finish(op)
        del op
    collect()
    assert dropped() == []


def test_a_refused_submit_leaves_no_abandoned_operation(impl, collect, dropped):
    queue = impl.OpQueue(1, 1)
    kept = queue.submit(1)
    for key in (1, 2):
        with pytest.raises(QueueSaturatedError):
            queue.submit(key)
    with pytest.raises(TypeError):
        queue.submit([])
    with pytest.raises(ValueError, match="timeout"):
        queue.submit(1, timeout=float("nan"))
    queue.close()
    with pytest.raises(QueueClosedError):
        queue.submit(1)
    collect()
    assert dropped() == []
    kept.finish()


def test_a_dropped_queue_abandons_what_waits_in_it(impl, collect, dropped):
    for make in (
        lambda: impl.OpQueue(None, None),
        lambda: impl.DedupeQueue(None, None),
        lambda: impl.OpWindow(None, None, 1000),
        lambda: impl.OpWindow(None, None, 1000, exclusive=True),
    ):
        queue = make()
        group = impl.CallGroup()
        for key in (1, 2, 1):
            queue.enqueue(key, group.add(key))
        del queue
        collect()
        assert len(group.result(HANG).errors) == 3


def test_a_dropped_row_abandons_its_operations(impl, collect, dropped):
    queue = impl.OpQueue(None, None)
    group = impl.CallGroup()
    queue.enqueue(1, group.add(1))
    row = queue.dequeue(0)
    del row
    collect()
    assert len(group.result(HANG).errors) == 1


def test_a_crashed_worker_makes_its_group_fail_instead_of_hang(impl, collect, dropped):
    queue = impl.OpQueue(None, None)
    group = impl.CallGroup()
    queue.enqueue(1, group.add(1))

    def work():
        row = queue.dequeue(0)
        raise RuntimeError(f"crashed with {len(row)}")

    worker = Worker(work)
    with pytest.raises(RuntimeError, match="crashed"):
        worker.result()
    del worker
    collect()
    assert type(group.result(HANG)[1].error) is OpAbandonedError


def test_who_holds_an_operation_keeps_it_pending(impl, collect, dropped):
    group = impl.CallGroup()
    op = group.add(1)
    collect()
    assert not op.done()
    assert not group.done()
    op.finish()


def test_an_operation_does_not_need_its_group_to_be_held(impl, collect):
    calls = []
    op = impl.CallGroup(calls.append).add(1)
    collect()
    op.finish()
    assert len(calls) == 1


def test_a_group_whose_operations_are_abandoned_runs_its_reducer_without_being_held(impl, collect, dropped):
    calls = []
    impl.CallGroup(calls.append).add(1)
    collect()
    assert [type(error) for error in calls[0].errors] == [OpAbandonedError]


@pytest.mark.parametrize("kind", ["DedupeQueue", "OpWindow"])
def test_a_dropped_row_of_an_exclusive_queue_releases_its_key(impl, kind, collect):
    queue = impl.DedupeQueue(None, None) if kind == "DedupeQueue" else impl.OpWindow(None, None, 0, exclusive=True)
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a")
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    del row
    collect()
    row = worker.result()
    assert row.key == "a"
    del row, worker
    collect()
    assert "a" not in queue
    assert queue.join(0)
    assert queue.stats().requeued == 1


def test_a_dropped_row_of_a_dropped_queue(impl, collect):
    queue = impl.DedupeQueue(None, None)
    put(queue, "a")
    row = queue.dequeue(0)
    del queue
    collect()
    row.finish_all()
    row.release()
    del row
    collect()


@pytest.mark.parametrize("kind", ["Op", "CallGroup", "OpSet", "OpQueue", "DedupeQueue", "OpWindow"])
def test_everything_can_be_weakly_referenced(impl, kind, collect):
    queue = impl.OpQueue(None, None)
    queue.submit(1)
    thing = {
        "Op": lambda: impl.Op(1),
        "CallGroup": impl.CallGroup,
        "OpSet": lambda: queue.dequeue(0),
        "OpQueue": lambda: impl.OpQueue(1, 1),
        "DedupeQueue": lambda: impl.DedupeQueue(1, 1),
        "OpWindow": lambda: impl.OpWindow(1, 1, 1),
    }[kind]()
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


@pytest.mark.parametrize("kind", ["Op", "CallGroup", "OpSet", "OpQueue", "DedupeQueue", "OpWindow"])
@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_live_objects_refuse_to_be_pickled_and_copied(impl, kind, how):
    queue = impl.OpQueue(None, None)
    queue.submit(1)
    thing = {
        "Op": lambda: impl.Op(1),
        "CallGroup": impl.CallGroup,
        "OpSet": lambda: queue.dequeue(0),
        "OpQueue": lambda: impl.OpQueue(1, 1),
        "DedupeQueue": lambda: impl.DedupeQueue(1, 1),
        "OpWindow": lambda: impl.OpWindow(1, 1, 1),
    }[kind]()
    with pytest.raises(TypeError, match=f"^{kind} objects cannot be pickled: they are bound to this process$"):
        how(thing)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_is_refused(impl, protocol):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(impl.OpQueue(1, 1), protocol)


def test_stats_pickle(impl):
    queue = impl.OpQueue(None, None)
    put(queue, 1, 1)
    stats = queue.stats()
    assert pickle.loads(pickle.dumps(stats)) == stats


def test_errors_raised_by_queues_pickle(impl):
    queue = impl.OpQueue(1, 1)
    put(queue, 1)
    for key in (1, 2):
        with pytest.raises(QueueSaturatedError) as info:
            queue.submit(key)
        twin = pickle.loads(pickle.dumps(info.value))
        assert (type(twin), twin.key, twin.limit) == (type(info.value), key, 1)


def test_a_finalizer_may_use_the_queue_that_drops_its_object(impl, collect):
    queue = impl.OpQueue(None, None)

    class Loud:
        def __del__(self):
            queue.submit("from a finalizer")

    queue.submit("a", Loud())
    with queue.dequeue(0) as row:
        row.finish_all()
    del row
    collect()
    assert queue.dequeue(0).key == "from a finalizer"


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
    queue._check()


def test_operations_dropped_in_many_threads(impl, dropped):
    with impl.CallGroup() as group:
        lists = [group.add_many((number, None) for number in range(200)) for _ in range(4)]
        line = threading.Barrier(4)

        def drop(ops):
            line.wait(HANG)
            ops.clear()

        workers = [Worker(drop, ops) for ops in lists]
        for worker in workers:
            worker.result()
    assert len(group.result(HANG).errors) == 800


def test_a_reducer_that_exits_does_not_end_the_process_from_a_finalizer(impl):
    run_script(
        impl,
        """
        import gc
        import logging

        logging.disable()

        def leave(results):
            raise SystemExit(7)

        unraisable = []
        sys.unraisablehook = lambda caught: unraisable.append(caught.exc_value)
        group = CallGroup(leave)
        op = group.add(1)
        del op
        gc.collect()
        assert group.done()
        assert [type(error) for error in unraisable] == [SystemExit]
        print("still here")
        """,
        "-W",
        "ignore::ResourceWarning",
        expect="still here\n",
    )


def test_a_subclass_whose_finalizer_keeps_ours_from_running(impl):
    """Nobody is told then, but the callbacks are dropped, which may run code and the collector."""
    run_script(
        impl,
        """
        import gc

        class Mine(Op):
            def __del__(self):
                pass

        class Loud:
            def __del__(self):
                gc.collect()

        dropped = []
        gc.set_threshold(1)
        for number in range(200):
            op = Mine(number)
            for callback in range(3):
                loud = Loud()
                op.add_done_callback(lambda op, loud=loud: None)
                op.add_done_callback(lambda op, op_=None: [op_])
            del loud, op
        gc.collect()
        print("survived")
        """,
        expect="survived\n",
    )


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
            queue._check()
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
        queue._check()
    held.clear()
    collect()
    queue._check()
    assert queue.join(0)


def test_an_operation_that_was_never_made_does_not_warn(impl, collect, dropped):
    class Mine(impl.Op):
        def __init__(self):
            raise ZeroDivisionError

    with pytest.raises(TypeError):
        impl.Op([])
    with pytest.raises(TypeError):
        impl.Op()
    with pytest.raises(ZeroDivisionError):
        Mine()
    impl.Op.__new__(impl.Op)
    collect()
    assert dropped() == []


@pytest.mark.parametrize("make", ["OpQueue(None, None)", "DedupeQueue(None, None)", "OpWindow(None, None, 1000)"])
def test_a_callback_that_enqueues_again_does_not_keep_a_queue_from_being_disposed_of(impl, make):
    """The usual callback that retries: the abandoned operation would be replaced for ever."""
    run_script(
        impl,
        f"""
        import gc

        def make():
            # In a cycle with its callbacks.
            queue = {make}
            def retry(op):
                calls.append(1)
                new = Op(op.key)
                try:
                    queue.enqueue(op.key, new)
                except QueueClosedError:
                    return
                new.add_done_callback(retry)
            for key in range(3):
                queue.submit(key).add_done_callback(retry)

        calls = []
        gc.disable()
        make()
        gc.collect()
        assert 3 <= len(calls) <= 6, len(calls)
        print("ended")
        """,
        "-W",
        "ignore::ResourceWarning",
        expect="ended\n",
    )


@pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_abandoned_operation_whose_key_cannot_be_shown_fails_its_group(impl, raised, collect, dropped, monkeypatch):
    class Key:
        def __repr__(self):
            raise raised

    class Callback:
        """Takes the collector with it when it goes."""

        def __call__(self, op):
            calls.append(op.done())

        def __del__(self):
            gc.collect()

    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", lambda caught: unraisable.append(caught.exc_type))
    for _ in range(5):
        group = impl.CallGroup()
        key = Key()
        op, alone = group.add(key), impl.Op(key)
        op.add_done_callback(Callback())
        alone.add_done_callback(Callback())
        calls = []
        del op, alone
        collect()
        assert calls == [True, True]
        assert group.done()
        assert type(group.result(0)[key].error) is OpAbandonedError
    if raised is ZeroDivisionError:
        assert set(dropped()) == {"operation <Key> was dropped unfinished"}
        assert unraisable == []
    else:
        assert set(dropped()) == {"an operation was dropped unfinished"}
        # What must not be swallowed is at least told.
        assert set(unraisable) == {raised}


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
    try:
        op = queue.submit("a")
        row = queue.dequeue()
        op.finish(row)
        dead = weakref.ref(row)
        del op, row
        gc.collect()
        assert dead() is None
        assert "a" not in queue
    finally:
        gc.unfreeze()
