"""Primitives for coordinating operations in flight.

``CallGroup`` fans operations out and runs a reducer when the last has finished. ``OpQueue``
merges operations of one key into a set, ``DedupeQueue`` owns a key while its set is processed,
``OpWindow`` gathers a set for a while before it hands it out.
"""

from __future__ import annotations

from ._impl import IMPLEMENTATION, CallGroup, DedupeQueue, Op, OpQueue, OpSet, OpWindow
from ._results import Response, Results
from ._types import QueueStats
from ._version import __version__
from .errors import (
    AlreadyFinishedError,
    GroupClosedError,
    InflightError,
    OpAbandonedError,
    OpCancelledError,
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedError,
    QueueSaturatedWidthError,
)

__all__ = [
    "IMPLEMENTATION",
    "AlreadyFinishedError",
    "CallGroup",
    "DedupeQueue",
    "GroupClosedError",
    "InflightError",
    "Op",
    "OpAbandonedError",
    "OpCancelledError",
    "OpQueue",
    "OpSet",
    "OpWindow",
    "QueueClosedError",
    "QueueEmptyError",
    "QueueSaturatedDepthError",
    "QueueSaturatedError",
    "QueueSaturatedWidthError",
    "QueueStats",
    "Response",
    "Results",
    "__version__",
]
