"""Small types shared by both implementations: statistics, and the sentinel for "every key"."""

from __future__ import annotations

from typing import NamedTuple


class QueueStats(NamedTuple):
    """One consistent snapshot of a queue, as returned by ``OpQueue.stats()``.

    The first five are the state now, the others count since the queue was made. At any instant
    ``enqueued == dequeued_ops + ops``.
    """

    keys: int
    """Distinct keys that wait (what ``len(queue)`` returns)."""
    ops: int
    """Operations in the waiting rows."""
    owned: int
    """Keys whose row was handed out and not yet released (exclusive queues only)."""
    consumers_waiting: int
    """Calls parked in ``dequeue`` and its relatives."""
    producers_waiting: int
    """Calls parked in ``enqueue``, waiting for depth."""
    enqueued: int
    """Operations accepted."""
    merged: int
    """Of those, how many joined a row that waited already."""
    dequeued_rows: int
    """Rows handed out."""
    dequeued_ops: int
    """Operations in the rows handed out."""
    refused_depth: int
    """Operations refused with ``QueueSaturatedDepthError``."""
    refused_width: int
    """Operations refused with ``QueueSaturatedWidthError``."""
    requeued: int
    """Rows that gathered behind an owned key and were queued when it was released."""


class _All:
    """The type of ALL, the default of ``flush(key)``: a value that no user key can equal."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<all>"


ALL = _All()
