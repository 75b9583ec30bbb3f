"""What is dropped ends well: abandoned operations fail, dropped rows release their keys."""

from __future__ import annotations

import contextlib
import gc
import threading
import warnings

import pytest
from helpers import HANG, Worker, put, run_script, wait_blocked, wait_consumers

from inflight import OpAbandonedError, QueueClosedError, QueueSaturatedError


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


@pytest.mark.parametrize(
    "end",
    [
        lambda impl, row: row[0].finish(),
        lambda impl, row: row[0].try_finish(),
        lambda impl, row: row[0].cancel(),
        lambda impl, row: row.finish_all(),
        lambda impl, row: row.finish_each([1]),
        lambda impl, row: finished(impl).add_done_callback(leave),
        lambda impl, row: watched_group(impl).seal(),
        lambda impl, row: watched_group(impl).__enter__().__exit__(None, None, None),
    ],
    ids=["finish", "try_finish", "cancel", "finish_all", "finish_each", "add_done_callback", "seal", "block"],
)
def test_an_exit_from_a_callback_keeps_nothing_alive(impl, end):
    """Neither the operations nor who called: a worker that ends so gives its row back, at once."""

    def work():
        row = queue.dequeue()
        try:
            end(impl, row)
        except SystemExit:
            return "left"

    queue = impl.DedupeQueue(None, None)
    op, late = queue.submit("a"), impl.Op("a")
    op.add_done_callback(leave)
    gc.collect()
    gc.disable()
    try:
        assert Worker(work).result() == "left"
        queue.enqueue("a", late)
        assert queue.dequeue(timeout=0)[0] is late
    finally:
        gc.enable()
        with contextlib.suppress(SystemExit):
            op.try_finish()
        late.finish()


def leave(_):
    raise SystemExit


def watched_group(impl):
    group = impl.CallGroup()
    group.add_done_callback(leave)
    return group


def finished(impl):
    op = impl.Op("finished")
    op.finish()
    return op


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
