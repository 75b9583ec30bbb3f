"""An outcome that is settled exactly once: what ``Op`` and ``CallGroup`` have in common.

Promises: of any number of concurrent attempts to settle, one wins; whoever waits is woken, and
every callback runs exactly once, in the order of registration if it was registered before.

There is no lock. State and registrations live in one dict, the cell: slot 0 is the outcome,
every other slot a waiter or a callback. Each step is one C call on that dict, which is atomic
under the GIL and under the dict's own lock on free-threaded builds, so all steps have one order.
Who registers after the outcome sees it; who registers before is seen by the winner; and who gets
a callback out of the cell with ``pop`` runs it. Nothing can be held when a signal handler, a
finalizer or a fork comes in between.

Rejected: a lock per operation (56 bytes, and a deadlock when a finalizer settles); a claim in one
field and the registrations in another (needs a store-load fence on free-threaded builds).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from functools import partial
from time import monotonic
from types import GenericAlias, TracebackType
from typing import TYPE_CHECKING, Any

from .. import _arguments
from .._report import PASSED_ON, raise_first, report, traceback_of
from .tasks import TaskWaiter
from .waiters import ThreadWaiter, Waiter, wake_all

__all__ = ["OUTCOME", "Ended", "Outcome", "failed"]

OUTCOME = 0
"""The slot of the outcome in a cell."""

Ended = tuple[Any, BaseException | None, TracebackType | None]
"""Result, error, and the traceback that the error had when it was handed in."""

_slots = itertools.count(1)


def failed(error: BaseException) -> Ended:
    """The outcome of what ends with ``error``, checked.

    :raises TypeError: if it is not an exception instance, or is a StopIteration.
    """
    return None, _arguments.error(error), traceback_of(error)


class Outcome:
    """Base of what is settled once and can be waited for."""

    __slots__ = ("__weakref__", "_cell")

    if not TYPE_CHECKING:
        # As for a compiled class: an alias, whatever the number of parameters.
        __class_getitem__ = classmethod(GenericAlias)

    # Written once. What it contains changes by single C calls only.
    _cell: dict[int, Any]

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__} objects cannot be pickled: they are bound to this process")

    def _settle(self, ended: Ended, passed: list[BaseException]) -> bool:
        """Publish ``ended`` unless settled, wake, and run callbacks; repeating it completes it."""
        cell = self._cell
        if cell.setdefault(OUTCOME, ended) is not ended:
            return False
        if len(cell) > 1:
            self._notify(passed)
        return True

    def _notify(self, passed: list[BaseException]) -> None:
        cell = self._cell
        wakes: list[Waiter] = []
        for slot in (slots := list(cell)):
            waiter = cell.get(slot)
            # Not taken out: each waiter leaves by itself, and can be woken again.
            if isinstance(waiter, Waiter):
                wakes.append(waiter)
        if wakes:
            wake_all(wakes)
        for slot in slots:
            if slot != OUTCOME and type(cell.get(slot)) is tuple:
                callback = cell.pop(slot, None)
                if callback is not None:
                    self._call(callback[0], passed)

    def _call(self, fn: Callable[[Any], object], passed: list[BaseException]) -> None:
        try:
            fn(self)
        except PASSED_ON as error:
            passed.append(error)
        except BaseException as error:
            report("callback", self, error, passed)

    def _register(self, fn: Callable[[Any], object]) -> None:
        """Have ``fn`` called once settled: by whoever settles, or at once by this thread."""
        _arguments.function(fn, "fn")
        cell = self._cell
        slot = next(_slots)
        cell[slot] = (fn,)
        if OUTCOME in cell and cell.pop(slot, None) is not None:
            passed: list[BaseException] = []
            self._call(fn, passed)
            if passed:
                raise_first(passed)

    def _wait(self, timeout: float | None) -> Ended | None:
        """What it was settled with, waiting ``timeout`` seconds at most; ``None`` if it was not."""
        cell = self._cell
        seconds = _arguments.seconds(timeout)
        ended: Ended | None = cell.get(OUTCOME)
        if ended is not None or (seconds is not None and seconds <= 0):
            return ended
        until = None if seconds is None else monotonic() + seconds
        waiter = ThreadWaiter()
        slot = next(_slots)
        try:
            cell[slot] = waiter
            while True:
                ended = cell.get(OUTCOME)
                if ended is not None:
                    break
                if not waiter.park(until) and until is not None and monotonic() >= until:
                    # It may have been settled, and not come to wake everybody yet.
                    ended = cell.get(OUTCOME)
                    break
            return ended
        finally:
            cell.pop(slot, None)

    def _awaited(self) -> Generator[Any, None, None]:
        """Until it is settled: ``_wait``, without an end, for a task."""
        cell = self._cell
        if OUTCOME in cell:
            return
        slot = next(_slots)
        waiter = TaskWaiter(partial(_leave, cell, slot))
        try:
            cell[slot] = waiter
            while True:
                if OUTCOME in cell:
                    break
                yield from waiter.park(None).__await__()
        finally:
            cell.pop(slot, None)


def _leave(cell: dict[int, Any], slot: int, _waiter: Waiter, _wakes: list[Waiter]) -> None:
    """A wait has ended. Nobody is next: all who wait here are woken."""
    cell.pop(slot, None)
