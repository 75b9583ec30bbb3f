"""OpWindow: the window policy of the engine, alone or together with the exclusive one."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from .. import _arguments
from .engine import KeyedQueue
from .opqueue import OpQueue

K = TypeVar("K")


class OpWindow(OpQueue[K]):
    """An OpQueue whose rows become ready only when their window has passed, or when they are full.

    The window (seconds, or a timedelta) starts at the row's first operation; a ready row still
    merges until it is taken. Rows leave in the order in which they became ready: a full one does
    not wait behind one whose window is open. A window of 0 makes it an OpQueue. ``flush`` and
    ``close`` end windows early. ``exclusive`` makes rows own their key as in a DedupeQueue.

    No thread runs for the windows: the consumer that has waited longest keeps the time.

    :raises TypeError: if a bound is neither an int nor ``None``, or ``window`` no duration.
    :raises ValueError: if a bound is less than 1, or ``window`` is negative or NaN.

    >>> from inflight import OpWindow
    >>> queue = OpWindow(depth=100, width=3, window=60)
    >>> a = queue.submit("a")
    >>> b = [queue.submit("b", number) for number in range(3)]
    >>> row = queue.dequeue()  # full, although the window of "a" began earlier
    >>> row.key, [op.msg for op in row], row.finish_all()
    ('b', [0, 1, 2], 3)
    >>> a.finish()
    """

    __slots__ = ()
    __module__ = "inflight"

    def __init__(
        self, depth: int | None, width: int | None, window: float | timedelta, *, exclusive: bool = False
    ) -> None:
        KeyedQueue.__init__(
            self,
            _arguments.bound(depth, "depth"),
            _arguments.bound(width, "width"),
            _arguments.window(window),
            exclusive=bool(exclusive),
        )

    @property
    def window(self) -> float:
        """The length of the window in seconds; 0 for none."""
        return self._window

    @property
    def exclusive(self) -> bool:
        """Whether rows own their key until they are released."""
        return self._exclusive
