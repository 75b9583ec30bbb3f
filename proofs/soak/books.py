"""What the actors of a soak use, and the books on how their operations end."""
# ruff: noqa: D102 - a script, whose help is in __main__.py

from __future__ import annotations

import threading
from typing import Any

import inflight


class Crash(Exception):
    """What workers, keys and reducers raise."""


class Key:
    """Compares in Python; some raise."""

    def __init__(self, number: int, raises: bool = False) -> None:
        self.number = number
        self.raises = raises

    def __hash__(self) -> int:
        return self.number % 7

    def __eq__(self, other: object) -> bool:
        if self.raises or getattr(other, "raises", False):
            raise Crash("compared")
        return isinstance(other, Key) and self.number == other.number


class Books:
    """What callbacks and reducers saw, which run anywhere: in finalizers, too."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.ended = dict.fromkeys(
            ("result", "error", "cancelled", "crashed", "interrupted", "abandoned", "reduced", "reduced_ops"), 0
        )

    def op_ended(self, op: Any) -> None:
        error = op.exception(0)
        if error is None:
            how = "result"
        elif type(error) is inflight.OpAbandonedError:
            how = "abandoned"
        elif type(error) is inflight.OpCancelledError:
            how = "cancelled" if error.__cause__ is None else "interrupted"
        else:
            how = "crashed" if type(error) is Crash else "error"
        with self._lock:
            self.ended[how] += 1

    def reduce(self, results: Any) -> None:
        number = len(results.responses)
        # No call in here: one could run the collector, and so a finalizer that writes here, too.
        with self._lock:
            self.ended["reduced"] += 1
            self.ended["reduced_ops"] += number
            crash = self.ended["reduced"] % 50 == 0
        if crash:
            raise Crash("a reducer")
