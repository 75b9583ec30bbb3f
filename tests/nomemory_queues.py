"""Queues for the cases of test_nomemory_*.py, and what must be in them afterwards."""

from __future__ import annotations

from nomemory import insisting, same

from inflight import QueueClosedError, QueueEmptyError
from inflight._invariants import check_invariants

KINDS = ("fifo", "dedupe", "window", "window_exclusive")
EXCLUSIVE = ("dedupe", "window_exclusive")


def make(impl, kind, depth=None, width=None):
    return {
        "fifo": lambda: impl.OpQueue(depth, width),
        "dedupe": lambda: impl.DedupeQueue(depth, width),
        "window": lambda: impl.OpWindow(depth, width, 1000),
        "window_exclusive": lambda: impl.OpWindow(depth, width, 1000, exclusive=True),
    }[kind]()


def contents(queue):
    """All operations in a queue, which is closed and emptied."""
    check_invariants(queue)
    queue.close()
    check_invariants(queue)
    ops = []
    while True:
        try:
            row = queue.dequeue(0)
        except (QueueEmptyError, QueueClosedError):
            break
        ops += row
        row.release()
    check_invariants(queue)
    stats = queue.stats()
    assert (stats.keys, stats.ops, stats.owned, stats.consumers_waiting, stats.producers_waiting) == (0,) * 5
    assert stats.enqueued == stats.dequeued_ops >= len(ops)
    assert stats.enqueued == stats.merged + stats.dequeued_rows
    return ops


def audit(impl, queue, before, op, outcome, *taken):
    """What was accepted is there once, in the queue or `taken` from it, and everything is pending."""
    found = [*taken, *contents(queue)]
    expected = list(before)
    if outcome.kind is None or (impl.name == "pure" and outcome.refused and op in found):
        expected.append(op)
    assert same(found, expected)
    for each in (*before, op):
        assert each is None or each.try_finish() or impl.name == "pure"


def audit_process(queue, before, worked, outcome):
    """After a call that processes a row, the first two operations: those of them that failed. If it was not taken, all
    is as before. Once it is, whatever fails is an error of the operations, or comes after the work.
    """
    failed = [op for op in before if op.done()]
    taken = worked or failed
    assert taken or outcome.refused
    assert failed in ([], before[:2])
    assert same(contents(queue), before[2:] if taken else before)
    for op in before:
        op.try_finish()
    return failed


class Done:
    kind = MemoryError
    refused = True


def consume(queue):
    """In a thread: the operations of one row, or none."""
    try:
        row = insisting(queue.dequeue)
    except QueueClosedError:
        return ()
    ops = insisting(tuple, row)
    insisting(row.release)
    return ops
