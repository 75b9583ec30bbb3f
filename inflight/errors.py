"""The exceptions, shared by both implementations.

Each one is also a subclass of what code written for the standard library already catches, so
that swapping ``queue.Queue``, ``asyncio.Queue`` or ``concurrent.futures.Future`` for an
inflight object leaves existing ``except`` clauses working.

All of them pickle: their ``args`` are exactly the arguments of their constructor.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import sys
from collections.abc import Hashable

from ._arguments import shown

if sys.version_info >= (3, 13):

    class _ShutDown(queue.ShutDown, asyncio.QueueShutDown):
        """What the standard library raises for a closed queue, where it has a name for it."""

else:

    class _ShutDown(Exception):
        """The standard library has no exception for a closed queue before Python 3.13."""


__all__ = [
    "AlreadyFinishedError",
    "GroupClosedError",
    "InflightError",
    "OpAbandonedError",
    "OpCancelledError",
    "QueueClosedError",
    "QueueEmptyError",
    "QueueSaturatedDepthError",
    "QueueSaturatedError",
    "QueueSaturatedWidthError",
]


class InflightError(Exception):
    """Base of every exception that inflight raises on its own account."""


class QueueSaturatedError(InflightError, queue.Full, asyncio.QueueFull):
    """An operation was refused because a bound of the queue is reached.

    ``key`` is the key that was refused, ``limit`` the bound that refused it. Nothing that was
    accepted before is affected, and the refused operation is still the caller's.
    """

    key: Hashable
    limit: int

    def __init__(self, key: Hashable, limit: int) -> None:
        super().__init__(key, limit)
        self.key = key
        self.limit = limit


class QueueSaturatedDepthError(QueueSaturatedError):
    """A new key was refused: ``depth`` keys wait already."""

    def __str__(self) -> str:
        waiting = "1 key waits" if self.limit == 1 else f"{self.limit} keys wait"
        return f"queue is saturated (depth): {waiting} already, no room for key {shown(self.key)}"


class QueueSaturatedWidthError(QueueSaturatedError):
    """A duplicate was refused: the row of its key holds ``width`` operations already."""

    def __str__(self) -> str:
        held = "1 operation" if self.limit == 1 else f"{self.limit} operations"
        return f"queue is saturated (width): the row of key {shown(self.key)} holds {held} already"


class QueueEmptyError(InflightError, queue.Empty, asyncio.QueueEmpty):
    """No row became ready within the timeout of a dequeue."""


class QueueClosedError(InflightError, _ShutDown):
    """The queue was closed: it accepts nothing more, or (dequeue) it is drained as well."""


class AlreadyFinishedError(InflightError, concurrent.futures.InvalidStateError):
    """An operation was finished a second time; its first outcome stands."""


class GroupClosedError(InflightError, RuntimeError):
    """An operation was added to a group that is sealed or complete."""


class OpCancelledError(InflightError, concurrent.futures.CancelledError):
    """The error of an operation that was cancelled."""


class OpAbandonedError(InflightError, RuntimeError):
    """The error of an operation that was dropped unfinished: nobody was left to finish it."""
