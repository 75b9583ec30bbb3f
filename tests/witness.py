"""What shows that a race was one: that a row was handed over, a promise passed on, a wake-up overtaken.

A proof build of the native implementation counts these events itself (src/proof.pxi names them). For
the pure one, its methods are wrapped here, so that it counts those of the same names, as far as there
are any. In an ordinary native build nothing is counted, and nothing is asked for.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from helpers import GIL
from racing import LIMIT

Count = Callable[[str], None]

NEEDS_PARALLELISM = {"LOCK_CONTENDED", "STEP_REPEATED"}
"""With the GIL, a section is never interrupted."""


class Witness:
    """Tells which events have happened since it was made."""

    def __init__(self, count: Callable[[], Counter[str]] | None) -> None:
        self._count = count
        self._before = Counter() if count is None else count()

    def unseen(self, *events: str) -> list[str]:
        """Those that could have been counted and were not."""
        if self._count is None:
            return []
        now = self._count()
        return [
            event
            for event in events
            if event in now and now[event] == self._before[event] and not (GIL and event in NEEDS_PARALLELISM)
        ]

    def saw(self, *events: str) -> bool:
        """Whether each was counted, if it can be."""
        return not self.unseen(*events)

    @contextmanager
    def __call__(self, *events: str) -> Iterator[Callable[[], list[str]]]:
        """What happens inside must include each of these; yields what tells which are missing."""
        inner = Witness(self._count)
        yield lambda: inner.unseen(*events)
        missing = inner.unseen(*events)
        assert not missing, f"never happened: {missing}"

    def until(self, *events: str, rounds: int = 1) -> Iterator[int]:
        """Numbers of rounds, until each event was counted and so many are done."""
        inner = Witness(self._count)
        end = time.monotonic() + LIMIT
        number = 0
        while number < rounds or inner.unseen(*events):
            assert time.monotonic() < end, f"never happened: {inner.unseen(*events)}"
            yield number
            number += 1


def native_counters() -> Callable[[], Counter[str]] | None:
    counters = getattr(importlib.import_module("inflight._native"), "_counters", None)
    return None if counters is None else lambda: Counter(counters())


class Wrapped:
    """The methods of the pure implementation, counting."""

    def __init__(self, patch: Callable[[Any, str, Any], None]) -> None:
        self._events: dict[str, list[None]] = {}
        for event in EVENTS:
            self._events[event] = []
        for (module, owner, name), wrap in WRAPPERS.items():
            cls = getattr(importlib.import_module(f"inflight._pure.{module}"), owner)
            patch(cls, name, wrap(getattr(cls, name), self._happened))

    def _happened(self, event: str) -> None:
        # One C call: it may come from several threads, and from under a lock.
        self._events[event].append(None)

    def counters(self) -> Counter[str]:
        return Counter({event: len(times) for event, times in self._events.items()})


def _unwoken(waiter: Any) -> bool:
    """Whether a wake-up is there that the thread has not taken notice of; of tasks, nobody can tell."""
    parked = getattr(waiter, "_parked", None)
    return parked is not None and not parked.locked()


def _bind(call: Any, count: Count) -> Any:
    def _bind_locked(self: Any, row: Any, waiter: Any, one: Any, wakes: Any) -> None:
        call(self, row, waiter, one, wakes)
        if row.waiter is waiter:
            count("ROW_PROMISED")

    return _bind_locked


def _unline(call: Any, count: Count) -> Any:
    def _unline_locked(self: Any, waiter: Any, *, granted: bool) -> None:
        call(self, waiter, granted=granted)
        if granted and waiter in self._granted:
            count("SLOT_PROMISED")

    return _unline_locked


def _renounce(call: Any, count: Count) -> Any:
    def _renounce_locked(self: Any, waiter: Any) -> None:
        if waiter in self._promised:
            count("ROW_PASSED_ON" if self._consumers else "ROW_PUT_BACK")
        call(self, waiter)

    return _renounce_locked


def _take_promised(call: Any, count: Count) -> Any:
    def _take_promised_locked(self: Any, waiter: Any, rows: Any, taken: Any) -> None:
        if waiter in self._promised and _unwoken(waiter):
            count("ROW_TAKEN_UNWOKEN")
        call(self, waiter, rows, taken)

    return _take_promised_locked


def _put(call: Any, count: Count) -> Any:
    def _put_locked(self: Any, hash_: int, op: Any, comparison: Any, waiter: Any, now: float) -> int:
        granted = waiter in self._granted
        unwoken = _unwoken(waiter)
        status: int = call(self, hash_, op, comparison, waiter, now)
        if granted and waiter not in self._granted:
            count("SLOT_USED")
            if unwoken:
                count("SLOT_USED_UNWOKEN")
        return status

    return _put_locked


def _drop_out(call: Any, count: Count) -> Any:
    def _drop_out_locked(self: Any, waiter: Any) -> None:
        if waiter in self._granted:
            count("SLOT_GIVEN_UP")
        call(self, waiter)

    return _drop_out_locked


def _merge(call: Any, count: Count) -> Any:
    def _merge_locked(self: Any, row: Any, op: Any, position: int, comparison: Any) -> bool:
        promised, behind = row.waiter is not None, row.owner is not None
        merged: bool = call(self, row, op, position, comparison)
        if merged and promised:
            count("MERGED_INTO_PROMISED")
        if merged and behind:
            count("MERGED_BEHIND")
        return merged

    return _merge_locked


def _release(call: Any, count: Count) -> Any:
    def _release_locked(self: Any, row: Any, ticket: int) -> None:
        requeued = self._requeued
        call(self, row, ticket)
        if self._requeued > requeued:
            count("REQUEUED")

    return _release_locked


def _advance(call: Any, count: Count) -> Any:
    def _advance_locked(self: Any, now: float) -> None:
        opened = len(self._open)
        call(self, now)
        if len(self._open) < opened:
            count("WINDOW_OVER")

    return _advance_locked


def _end_window(call: Any, count: Count) -> Any:
    def _end_window_locked(self: Any, row: Any) -> bool:
        count("WINDOW_ENDED")
        ended: bool = call(self, row)
        return ended

    return _end_window_locked


def _compare(call: Any, count: Count) -> Any:
    def compare(self: Any) -> None:
        count("KEYS_COMPARED")
        call(self)

    return compare


def _settle(call: Any, count: Count) -> Any:
    def _settle(self: Any, ended: Any, passed: Any) -> bool:
        first: bool = call(self, ended, passed)
        if not first:
            count("FINISHED_SECOND")
        return first

    return _settle


_registering = threading.local()


def _register(call: Any, count: Count) -> Any:
    def _register(self: Any, fn: Any) -> None:
        _registering.fn = fn
        try:
            call(self, fn)
        finally:
            _registering.fn = None

    return _register


def _call(call: Any, count: Count) -> Any:
    def _call(self: Any, fn: Any, passed: Any) -> None:
        if getattr(_registering, "fn", None) is fn:
            count("CALLBACK_LATE")
        call(self, fn, passed)

    return _call


def _refuse_if_closed(call: Any, count: Count) -> Any:
    def _refuse_if_closed(self: Any) -> None:
        if self._complete or self._sealed:
            count("ENROLLED_LATE")
        call(self)

    return _refuse_if_closed


def _post(call: Any, count: Count) -> Any:
    def post(self: Any, waiter: Any, loop: Any, wakes: Any) -> None:
        flag = self._on_its_way.get(0)
        if flag is not None and flag[0]:
            count("POSTED_TO_SCHEDULED")
        call(self, waiter, loop, wakes)

    return post


def _deliver(call: Any, count: Count) -> Any:
    def deliver(self: Any, delivery: Any) -> None:
        if self._waiters:
            count("DELIVERED")
        call(self, delivery)

    return deliver


def _returned(call: Any, count: Count) -> Any:
    def leave(self: Any, wakes: Any) -> None:
        count("RETURNED")
        call(self, wakes)

    return leave


def _park(call: Any, count: Count) -> Any:
    def park(self: Any, until: float | None) -> bool:
        count("PARKED")
        woken: bool = call(self, until)
        return woken

    return park


WRAPPERS: dict[tuple[str, str, str], Callable[[Any, Count], Any]] = {
    ("lines", "Lines", "_bind_locked"): _bind,
    ("lines", "Lines", "_unline_locked"): _unline,
    ("lines", "Lines", "_drop_out_locked"): _drop_out,
    ("rows", "Rows", "_renounce_locked"): _renounce,
    ("rows", "Rows", "_merge_locked"): _merge,
    ("rows", "Rows", "_release_locked"): _release,
    ("rows", "Rows", "_advance_locked"): _advance,
    ("rows", "Rows", "_end_window_locked"): _end_window,
    ("rows", "Comparison", "compare"): _compare,
    ("engine", "KeyedQueue", "_take_promised_locked"): _take_promised,
    ("engine", "KeyedQueue", "_put_locked"): _put,
    ("outcome", "Outcome", "_settle"): _settle,
    ("outcome", "Outcome", "_register"): _register,
    ("outcome", "Outcome", "_call"): _call,
    ("callgroup", "CallGroup", "_refuse_if_closed"): _refuse_if_closed,
    ("tasks", "Mailbox", "post"): _post,
    ("tasks", "Mailbox", "deliver"): _deliver,
    ("tasks", "TaskWaiter", "leave"): _returned,
    ("waiters", "ThreadWaiter", "park"): _park,
}

EVENTS = (
    "CALLBACK_LATE", "DELIVERED", "ENROLLED_LATE", "FINISHED_SECOND", "KEYS_COMPARED", "MERGED_BEHIND",
    "MERGED_INTO_PROMISED", "PARKED", "POSTED_TO_SCHEDULED", "REQUEUED", "RETURNED", "ROW_PASSED_ON",
    "ROW_PROMISED", "ROW_PUT_BACK", "ROW_TAKEN_UNWOKEN", "SLOT_GIVEN_UP", "SLOT_PROMISED", "SLOT_USED",
    "SLOT_USED_UNWOKEN", "WINDOW_ENDED", "WINDOW_OVER",
)  # fmt: skip
