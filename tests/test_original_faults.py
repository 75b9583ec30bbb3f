"""Faults of the Go library that this one was made from. None of them may come back."""

from __future__ import annotations

import threading

import pytest
from helpers import HANG, Worker, keys, put, take_all, wait_consumers, wait_producers

from inflight import AlreadyFinishedError, GroupClosedError, QueueClosedError, QueueEmptyError


def test_add_or_finish_inside_the_reducer_does_not_deadlock(impl):
    """The reducer ran under the group's lock."""
    seen = []

    def reducer(results):
        with pytest.raises(GroupClosedError):
            group.add(2)
        seen.append(op.try_finish(2))
        seen.append(group.outstanding)

    group = impl.CallGroup(reducer)
    op = group.add(1)
    Worker(op.finish, 1).result()
    assert seen == [False, 0]


def test_a_failing_reducer_does_not_keep_finish_all_from_finishing_other_groups(impl):
    """A panic in one group's reducer aborted FinishAll: the other groups hung."""

    def fail(results):
        raise ValueError

    groups = [impl.CallGroup(fail), impl.CallGroup(), impl.CallGroup(fail), impl.CallGroup()]
    queue = impl.OpQueue(None, None)
    for group in groups:
        queue.enqueue(1, group.add(1))
    assert queue.dequeue(0).finish_all() == 4
    assert all(group.done() for group in groups)


def test_the_group_does_not_complete_when_a_worker_outruns_the_adder(impl):
    """The original's README needs a starting barrier for this."""
    calls = []
    group = impl.CallGroup(calls.append)
    with group:
        for key in range(10):
            group.add(key).finish()
            assert not calls
    assert len(calls[0].responses) == 10


def test_results_that_were_handed_out_never_change(impl):
    """Finishing late mutated the map that the reducer had been given."""
    group = impl.CallGroup()
    op = group.add(1)
    op.finish("first")
    results = group.result()
    before = results.responses
    assert op.try_finish("second") is False
    with pytest.raises(AlreadyFinishedError):
        op.finish("third")
    assert results.responses is before
    assert results[1].result == "first"


def test_two_operations_under_one_key_are_two(impl):
    """One Finish completed the group: it counted keys."""
    calls = []
    group = impl.CallGroup(calls.append)
    first, second = group.add("k"), group.add("k")
    first.finish(1)
    assert not calls
    assert group.outstanding == 1
    second.finish(2)
    assert [response.result for response in calls[0].responses] == [1, 2]


def test_finishing_twice_does_not_overwrite(impl):
    """The second Finish silently replaced the first."""
    group = impl.CallGroup()
    op = group.add(1)
    op.finish("first")
    with pytest.raises(AlreadyFinishedError):
        op.finish("second")
    assert op.result() == "first"
    assert group.result()[1].result == "first"


def test_finishing_one_operation_twice_does_not_complete_a_group_of_two(impl):
    group = impl.CallGroup()
    first, second = group.add(1), group.add(2)
    first.finish()
    assert not first.try_finish()
    assert not group.done()
    second.finish()
    assert group.done()


def test_an_empty_group_completes(impl):
    """It never did."""
    calls = []
    impl.CallGroup(calls.append).seal()
    assert len(calls) == 1


def test_a_requeued_row_wakes_a_consumer(impl):
    """DedupeQueue: the requeue woke nobody."""
    queue = impl.DedupeQueue(None, None)
    put(queue, "a")
    row = queue.dequeue(0)
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    put(queue, "a")
    assert worker.running()
    row.release()
    assert worker.result().key == "a"


def test_a_failing_worker_does_not_own_its_key_for_ever(impl):
    """DedupeQueue: a panic while processing left the key owned."""
    queue = impl.DedupeQueue(None, None)
    put(queue, "a")
    with pytest.raises(ZeroDivisionError):
        queue.process(lambda row: 1 / 0)
    put(queue, "a")
    assert queue.dequeue(0).key == "a"


def test_close_during_processing_does_not_strand_what_arrived_meanwhile(impl):
    """DedupeQueue: consumers saw the end although the requeued row was still to come."""
    queue = impl.DedupeQueue(None, None)
    put(queue, "a")
    row = queue.dequeue(0)
    put(queue, "a")
    queue.close()
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    row.release()
    row = worker.result()
    assert row.key == "a"
    row.release()
    with pytest.raises(QueueClosedError):
        queue.dequeue(0)


@pytest.mark.parametrize("exclusive", [False, True])
def test_producer_and_consumer_do_not_wait_for_each_other(impl, exclusive):
    """OpWindow: lost wake-ups left both parked, with a row ready and room to be had."""
    queue = impl.OpWindow(1, 1, 0.0005, exclusive=exclusive)
    total = 300

    def produce(start):
        for number in range(start, total, 2):
            queue.submit(number, timeout=HANG)

    def consume():
        for row in queue:
            with row:
                taken.append(row.key)

    taken = []
    consumers = [Worker(consume) for _ in range(2)]
    producers = [Worker(produce, start) for start in range(2)]
    for worker in producers:
        worker.result()
    queue.close()
    for worker in consumers:
        worker.result()
    assert sorted(taken) == list(range(total))


@pytest.mark.parametrize("close", [False, True])
def test_a_dequeue_that_gave_up_does_not_lose_the_batch_or_poison_its_key(impl, close):
    """OpWindow: a cancelled Dequeue lost the batch, and its key stayed unusable even after Close."""
    queue = impl.OpWindow(None, None, 0.005)
    rounds = 50
    lost = 0
    for number in range(rounds):
        queue.submit("k", number)
        try:
            # The timeout ends about when the window does.
            row = queue.dequeue(0.005)
        except QueueEmptyError:
            if close and number == rounds - 1:
                queue.close()
            row = queue.dequeue(HANG)
        lost += number not in [op.msg for op in row]
    assert lost == 0
    stats = queue.stats()
    assert (stats.keys, stats.enqueued, stats.dequeued_ops) == (0, rounds, rounds)


def test_a_row_is_ready_with_the_operation_that_fills_it(impl, clock):
    """OpWindow: it was flushed only when one operation too many was refused."""
    queue = impl.OpWindow(None, 3, 1000)
    put(queue, "a", "a")
    with pytest.raises(QueueEmptyError):
        queue.dequeue(0)
    put(queue, "a")
    assert len(queue.dequeue(0)) == 3


def test_the_operation_that_fills_a_row_wakes_a_consumer(impl):
    queue = impl.OpWindow(None, 2, 1000)
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    put(queue, "a", "a")
    assert len(worker.result()) == 2


def test_depth_does_not_grow_with_waiting_consumers(impl):
    """OpWindow: every waiting consumer held a row that no longer counted."""
    queue = impl.OpWindow(2, None, 1000)
    workers = [Worker(queue.dequeue, HANG) for _ in range(4)]
    wait_consumers(queue, 4)
    put(queue, "a", "b")
    refused = queue.enqueue_many([impl.Op("c"), impl.Op("d")])
    assert len(refused) == 2
    assert len(queue) == 2
    queue.close()
    ends = [worker.exception() for worker in workers]
    assert sum(isinstance(end, QueueClosedError) for end in ends) == 2


def test_an_open_row_does_not_block_ready_ones_behind_it(impl, clock):
    """OpWindow: the head of the list blocked rows that were ready."""
    queue = impl.OpWindow(None, 2, 1000)
    put(queue, "open", "full", "full")
    assert keys(take_all(queue)) == ["full"]


def test_a_consumer_parked_on_an_open_row_takes_a_later_ready_one(impl):
    queue = impl.OpWindow(None, 2, 1000)
    put(queue, "open")
    worker = Worker(queue.dequeue, HANG)
    wait_consumers(queue, 1)
    put(queue, "full", "full")
    assert worker.result().key == "full"


def test_a_waiting_key_accepts_nothing_after_close(impl, clock):
    """OpWindow: an existing key still accepted."""
    for queue in (impl.OpWindow(None, None, 1000), impl.OpQueue(None, None), impl.DedupeQueue(None, None)):
        put(queue, "a")
        queue.close()
        with pytest.raises(QueueClosedError):
            put(queue, "a")
        assert len(queue.dequeue(0)) == 1


@pytest.mark.parametrize("bound", [0, -1])
def test_bounds_below_one_are_refused(impl, bound):
    """They behaved oddly."""
    for arguments in ((bound, 1), (1, bound)):
        for make in (impl.OpQueue, impl.DedupeQueue, lambda *bounds: impl.OpWindow(*bounds, 1)):
            with pytest.raises(ValueError, match="must be an int of at least 1"):
                make(*arguments)


def test_a_producer_parked_at_the_bound_is_woken_by_every_way_a_row_can_leave(impl):
    """OpWindow signalled space from one of them only."""
    leaving = {
        "dequeue": lambda queue: queue.dequeue(0),
        "dequeue_many": lambda queue: queue.dequeue_many(1, 0),
        "drain": lambda queue: queue.drain(),
        "process": lambda queue: queue.process(lambda row: None, 0),
    }
    for leave in leaving.values():
        queue = impl.OpQueue(1, None)
        put(queue, "old")
        worker = Worker(queue.submit, "new", timeout=HANG)
        wait_producers(queue, 1)
        leave(queue)
        worker.result()
        assert keys(take_all(queue)) == ["new"]


def test_the_reducer_can_wait_for_another_group(impl):
    """Under the group's lock that could deadlock two groups against each other."""
    inner = impl.CallGroup()
    inner_op = inner.add(1)
    seen = []
    outer = impl.CallGroup(lambda results: seen.append(inner.result(HANG)[1].result))
    outer_op = outer.add(1)
    waiting = threading.Event()
    outer_op.add_done_callback(lambda op: waiting.set())
    worker = Worker(outer_op.finish)
    assert waiting.wait(HANG)
    inner_op.finish("inner")
    worker.result()
    assert seen == ["inner"]
