"""Small types: the parameters of operations and groups, statistics, and the sentinel for "every key"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

# The key, the message and the result of an operation, and of all that are in one group. With defaults, so that
# `Op(key)` and `CallGroup()` need no annotation; at run time the standard library has them from 3.13 on only.
if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultTypeVar

    K = DefaultTypeVar("K", default=Any)
    M = DefaultTypeVar("M", default=Any)
    R = DefaultTypeVar("R", default=Any)
else:
    K = TypeVar("K")
    M = TypeVar("M")
    R = TypeVar("R")


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
