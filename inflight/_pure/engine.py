"""The engine of all queues: a keyed queue with two policies, a window and exclusive ownership.

rows.py has the rows and the steps between their states, lines.py those who wait for them; here
are the calls. Each has one shape: take the lock, change rows, settle (hand out promises and
grants), let go, wake. It is the same on the way of an exception, since what was done counts; and
as an interrupt may strike in the settling or the waking itself, both are then done again
(``_mend``). The lock is re-entrant: a signal handler or a finalizer may call the same queue at any point; rows.py says
what keeps it valid. Keys are compared, and waiters woken, without the lock.

Rejected: three queues with a common base (their policies combine); a condition variable per kind
of waiter (no order, and woken waiters race newcomers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from time import monotonic
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from .. import _arguments, _clock, _fork
from .._types import ALL, QueueStats
from ..errors import QueueClosedError, QueueEmptyError, QueueSaturatedDepthError, QueueSaturatedWidthError
from .lines import Lines
from .opset import OpSet
from .rows import OPEN, OWNED, AnyOp, Comparison, Row, Taken
from .tasks import TaskWaiter
from .waiters import ThreadWaiter, Waiter, insist, wake_all

K = TypeVar("K", bound=Hashable)

_MERGED, _INSERTED, _UNKNOWN, _CLOSED, _DEPTH, _WIDTH = range(6)


class KeyedQueue(Lines, Generic[K]):
    """Rows, and those who wait for them. ``window`` in seconds, 0 for none."""

    __slots__ = ("_clock", "_refused_depth", "_refused_width")

    if not TYPE_CHECKING:
        # As for a compiled class: an alias, whatever the number of parameters.
        __class_getitem__ = classmethod(GenericAlias)

    # Written once.
    _clock: Callable[[], float]
    # Guarded by the lock.
    _refused_depth: int
    _refused_width: int

    def __init__(self, depth: int | None, width: int | None, window: float, exclusive: bool) -> None:
        if hasattr(self, "_clock"):
            raise RuntimeError("a queue cannot be initialised again")
        super().__init__(depth, width, window, exclusive)
        # Looked up now: tests put their own there.
        self._clock = _clock.monotonic
        self._refused_depth = 0
        self._refused_width = 0

    # --- adding -------------------------------------------------------------------------------

    def _put(self, comparison: Comparison, op: AnyOp, seconds: float | None) -> None:
        """Enqueue, waiting for depth up to ``seconds``; raises what ``enqueue`` documents."""
        key = comparison.key
        hash_ = hash(key)
        waiter: ThreadWaiter | None = None
        until: float | None = None
        last = seconds is not None and seconds <= 0
        try:
            while True:
                status = self._try_put(hash_, op, comparison, waiter, last)
                if status <= _INSERTED:
                    return
                if status == _UNKNOWN:
                    comparison.compare()
                elif status != _DEPTH or last:
                    self._refuse(status, key)
                elif waiter is None:
                    # Once more with the waiter, which gets in line in the same step.
                    until = None if seconds is None else monotonic() + seconds
                    waiter = ThreadWaiter()
                    waiter.hash = hash_
                else:
                    waiter.park(until)
                    last = until is not None and monotonic() >= until
        finally:
            if waiter is not None:
                try:
                    self._leave(waiter)
                except BaseException:
                    insist(self._leave, waiter)
                    raise

    async def _aput(self, comparison: Comparison, op: AnyOp, seconds: float | None) -> None:
        """``_put`` for a task."""
        key = comparison.key
        hash_ = hash(key)
        waiter: TaskWaiter | None = None
        until: float | None = None
        last = seconds is not None and seconds <= 0
        try:
            while True:
                status = self._try_put(hash_, op, comparison, waiter, last)
                if status <= _INSERTED:
                    return
                if status == _UNKNOWN:
                    comparison.compare()
                elif status != _DEPTH or last:
                    self._refuse(status, key)
                elif waiter is None:
                    until = None if seconds is None else monotonic() + seconds
                    waiter = TaskWaiter(self._leave_to)
                    waiter.hash = hash_
                else:
                    await waiter.park(until)
                    last = until is not None and monotonic() >= until
        finally:
            if waiter is not None:
                try:
                    self._leave(waiter)
                except BaseException:
                    insist(self._leave, waiter)
                    raise

    def _refuse(self, status: int, key: Hashable) -> NoReturn:
        if status == _CLOSED:
            raise QueueClosedError("the queue is closed")
        if status == _WIDTH:
            assert self._width is not None
            raise QueueSaturatedWidthError(key, self._width)
        assert self._depth is not None
        raise QueueSaturatedDepthError(key, self._depth)

    def _try_put(self, hash_: int, op: AnyOp, comparison: Comparison, waiter: Waiter | None, last: bool) -> int:
        now = self._clock() if self._window else 0.0
        wakes: list[Waiter] = []
        try:
            spare = self, self, self
            with self._lock if self._generation == _fork.generation else self._renewed():
                try:
                    if self._window:
                        self._advance_locked(now)
                    if last and waiter is not None:
                        # First: a signal handler may come between the two, and others are not to be told that
                        # it has got what it does not want any more. A place that it has, it may still use.
                        self._unline_locked(waiter, granted=False)
                    status = self._put_locked(hash_, op, comparison, waiter, now)
                    if status == _WIDTH:
                        self._refused_width += 1
                    elif status == _DEPTH and last:
                        self._refused_depth += 1
                    if waiter is not None:
                        if status == _DEPTH and not last:
                            self._line_up_locked(waiter)
                        elif status != _UNKNOWN:
                            self._drop_out_locked(waiter)
                finally:
                    if self._consumers or self._producers:
                        self._settle_locked(wakes)
                if status == _INSERTED and self._by_hash:
                    # After the consumer that it is for, who was there first.
                    self._tell_alike_locked(hash_, wakes)
                del spare
            if wakes:
                wake_all(wakes)
        except BaseException:
            insist(self._mend, wakes, hash_)
            raise
        return status

    def _put_locked(self, hash_: int, op: AnyOp, comparison: Comparison, waiter: Waiter | None, now: float) -> int:
        key = comparison.key
        depth = self._depth
        width = self._width
        while not self._closed:
            bucket = self._index.get(hash_, ())
            owner = row = None
            if bucket:
                row = self._find_locked(key, bucket, comparison)
                if row is None:
                    if comparison.candidate is not key:
                        return _UNKNOWN
                elif row.state >= OWNED:
                    owner = row
                    row = owner.behind
            if row is not None:
                position = len(row.ops)
                if width is not None and position >= width:
                    if row.state >= OWNED:
                        continue
                    return _WIDTH
                if self._merge_locked(row, op, position, comparison):
                    return _MERGED
            else:
                if depth is not None:
                    used = len(self._waiting) + len(self._granted)
                    if used - (waiter in self._granted) >= depth:
                        return _DEPTH
                if self._insert_locked(Row(key, hash_, op), bucket, owner, now, comparison):
                    if waiter is not None:
                        # The place it was granted is the one that the row takes.
                        self._granted.pop(waiter, None)
                    return _INSERTED
        return _CLOSED

    # --- taking -------------------------------------------------------------------------------

    def _get(self, limit: int, timeout: float | None, taken: list[Taken]) -> list[OpSet]:
        """Up to ``limit`` rows, waiting for the first; raises what ``dequeue`` documents.

        The caller keeps ``taken`` and calls ``_put_back`` if it is interrupted before it returns.
        """
        seconds = None if timeout is None else _arguments.seconds(timeout)
        last = seconds is not None and seconds <= 0
        waiter: ThreadWaiter | None = None
        until: float | None = None
        try:
            while True:
                rows = self._try_get(limit, waiter, last, taken)
                if rows:
                    return rows
                if last:
                    self._raise_empty(seconds, timeout)
                if waiter is None:
                    # Once more with the waiter, which gets in line in the same step.
                    until = None if seconds is None else monotonic() + seconds
                    waiter = ThreadWaiter()
                    continue
                waiter.park(self._alarm(waiter, until))
                last = until is not None and monotonic() >= until
        finally:
            if waiter is not None:
                try:
                    self._leave(waiter)
                except BaseException:
                    insist(self._leave, waiter)
                    raise

    async def _aget(self, limit: int, timeout: float | None, taken: list[Taken]) -> list[OpSet]:
        """``_get`` for a task."""
        seconds = None if timeout is None else _arguments.seconds(timeout)
        last = seconds is not None and seconds <= 0
        waiter: TaskWaiter | None = None
        until: float | None = None
        try:
            while True:
                rows = self._try_get(limit, waiter, last, taken)
                if rows:
                    return rows
                if last:
                    self._raise_empty(seconds, timeout)
                if waiter is None:
                    until = None if seconds is None else monotonic() + seconds
                    waiter = TaskWaiter(self._leave_to)
                    continue
                await waiter.park(self._alarm(waiter, until))
                last = until is not None and monotonic() >= until
        finally:
            if waiter is not None:
                try:
                    self._leave(waiter)
                except BaseException:
                    insist(self._leave, waiter)
                    raise

    def _alarm(self, waiter: Waiter, until: float | None) -> float | None:
        """When a consumer that waits until ``until`` has to look at the windows."""
        if waiter.armed == math.inf:
            return until
        # Windows are measured with the clock of the queue, waits in real time.
        ends = monotonic() + (waiter.armed - self._clock())
        return ends if until is None else min(ends, until)

    def _raise_empty(self, seconds: float | None, timeout: float | None) -> NoReturn:
        if seconds is not None and seconds <= 0:
            raise QueueEmptyError("no row is ready")
        raise QueueEmptyError(f"no row became ready within {timeout} seconds")

    def _try_get(self, limit: int, waiter: Waiter | None, last: bool, taken: list[Taken]) -> list[OpSet]:
        now = self._clock() if self._window else 0.0
        rows: list[OpSet] = []
        wakes: list[Waiter] = []
        try:
            spare = self, self, self
            with self._lock if self._generation == _fork.generation else self._renewed():
                try:
                    if self._window:
                        self._advance_locked(now)
                        # What that made ready belongs to those who are parked, not to a newcomer.
                        self._settle_locked(wakes)
                    if waiter is not None:
                        self._take_promised_locked(waiter, rows, taken)
                        if last:
                            # As in _try_put.
                            self._drop_out_locked(waiter)
                    self._take_ready_locked(limit, rows, taken)
                    if len(rows) > 1:
                        _put_first_in_order(rows)
                    over = not rows and self._over_locked()
                    if not rows and not over and not last and waiter is not None:
                        self._line_up_consumer_locked(waiter)
                finally:
                    if self._consumers or self._producers or self._joiners:
                        self._settle_locked(wakes)
                del spare
            if wakes:
                wake_all(wakes)
        except BaseException:
            insist(self._mend, wakes)
            raise
        if over:
            raise QueueClosedError("the queue is closed and drained")
        return rows

    def _take_promised_locked(self, waiter: Waiter, rows: list[OpSet], taken: list[Taken]) -> None:
        while (promised := self._promised.get(waiter)) is not None:
            self._take_into_locked(promised, rows, taken)

    def _take_ready_locked(self, limit: float, rows: list[OpSet], taken: list[Taken]) -> None:
        while self._ready and len(rows) < limit:
            row = self._first_ready_locked()
            if row is not None:
                self._take_into_locked(row, rows, taken)

    def _take_open_locked(self, rows: list[OpSet], taken: list[Taken]) -> None:
        for row in list(self._open.values()):
            while row.state == OPEN and row.owner is None:
                self._take_into_locked(row, rows, taken)

    def _take_into_locked(self, row: Row, rows: list[OpSet], taken: list[Taken]) -> None:
        opset = self._take_locked(row, taken)
        if opset is not None:
            rows.append(opset)

    def _put_back(self, taken: list[Taken]) -> None:
        """Take back what was handed out to a call that is interrupted before it returns."""
        if taken:
            dropped: list[Row] = []
            wakes: list[Waiter] = []
            try:
                spare = self, self, self
                with self._guard():
                    try:
                        for row, ticket, ops in taken:
                            self._put_back_locked(row, ticket, ops, dropped)
                            self._tell_alike_locked(row.hash, wakes)
                    finally:
                        self._settle_locked(wakes)
                    del spare
                wake_all(wakes)
            except BaseException:
                insist(self._mend, wakes)
                raise

    def _release(self, row: Row, ticket: int) -> None:
        """Give a key back, once for each time that it was handed out."""
        now = self._clock() if self._window else 0.0
        wakes: list[Waiter] = []
        try:
            spare = self, self, self
            with self._guard():
                try:
                    # First the windows: a row whose window is over is ready from its release on.
                    self._advance_locked(now)
                    self._release_locked(row, ticket)
                finally:
                    self._settle_locked(wakes)
                del spare
            wake_all(wakes)
        except BaseException:
            insist(self._mend, wakes)
            raise

    def _drain(self, taken: list[Taken]) -> list[OpSet]:
        """Take every row that is neither promised nor behind an owned one."""
        rows: list[OpSet] = []
        wakes: list[Waiter] = []
        now = self._clock() if self._window else 0.0
        try:
            spare = self, self, self
            with self._guard():
                try:
                    self._advance_locked(now)
                    self._settle_locked(wakes)
                    self._take_ready_locked(math.inf, rows, taken)
                    self._take_open_locked(rows, taken)
                finally:
                    self._settle_locked(wakes)
                del spare
            wake_all(wakes)
        except BaseException:
            insist(self._mend, wakes)
            raise
        return rows

    # --- joining ------------------------------------------------------------------------------

    def _join(self, timeout: float | None) -> bool:
        seconds = _arguments.seconds(timeout)
        last = seconds is not None and seconds <= 0
        until = None if seconds is None or last else monotonic() + seconds
        if self._try_join(None):
            return True
        if last:
            return False
        waiter = ThreadWaiter()
        try:
            while True:
                if self._try_join(waiter):
                    return True
                if last:
                    return False
                waiter.park(until)
                last = until is not None and monotonic() >= until
        finally:
            try:
                self._leave(waiter)
            except BaseException:
                insist(self._leave, waiter)
                raise

    async def _ajoin(self, timeout: float | None) -> bool:
        """``_join`` for a task."""
        seconds = _arguments.seconds(timeout)
        last = seconds is not None and seconds <= 0
        until = None if seconds is None or last else monotonic() + seconds
        if self._try_join(None):
            return True
        if last:
            return False
        waiter = TaskWaiter(self._leave_to)
        try:
            while True:
                if self._try_join(waiter):
                    return True
                if last:
                    return False
                await waiter.park(until)
                last = until is not None and monotonic() >= until
        finally:
            try:
                self._leave(waiter)
            except BaseException:
                insist(self._leave, waiter)
                raise

    def _try_join(self, waiter: Waiter | None) -> bool:
        """Whether the end has come, since ``waiter`` got in line, where it is from now on."""
        spare = self, self, self
        with self._guard():
            # Commit.
            over = not self._waiting and not self._owned
            if waiter is not None:
                if waiter.over:
                    over = True
                elif not over:
                    self._joiners[waiter] = None
            del spare
        return over

    # --- windows and the end ------------------------------------------------------------------

    def _flush(self, key: Any) -> int:
        now = self._clock() if self._window else 0.0
        hash_ = 0 if key is ALL else hash(key)
        comparison = Comparison(key)
        while True:
            wakes: list[Waiter] = []
            ready: int | None = None
            try:
                spare = self, self, self
                with self._guard():
                    try:
                        self._advance_locked(now)
                        ready = self._end_windows_locked() if key is ALL else self._flush_locked(key, hash_, comparison)
                    finally:
                        self._settle_locked(wakes)
                    del spare
                wake_all(wakes)
            except BaseException:
                insist(self._mend, wakes)
                raise
            if ready is not None:
                return ready
            comparison.compare()

    def _flush_locked(self, key: Any, hash_: int, comparison: Comparison) -> int | None:
        """End the window of one key; ``None`` if keys must be compared first."""
        row = self._find_locked(key, self._index.get(hash_, ()), comparison)
        if row is None:
            return 0 if comparison.candidate is key else None
        if row.state >= OWNED:
            row = row.behind
        return 0 if row is None else int(self._end_window_locked(row))

    def _contains(self, key: Any) -> bool:
        hash_ = hash(key)
        comparison = Comparison(key)
        while True:
            spare = self, self, self
            with self._guard():
                found = self._find_locked(key, self._index.get(hash_, ()), comparison) is not None
                del spare
            if found:
                return True
            if comparison.candidate is key:
                return False
            comparison.compare()

    def _close(self) -> None:
        wakes: list[Waiter] = []
        try:
            spare = self, self, self
            with self._guard():
                # What follows from it is done there, and again if that is interrupted.
                self._closed = True
                self._settle_locked(wakes)
                del spare
            wake_all(wakes)
        except BaseException:
            insist(self._mend, wakes)
            raise

    # --- the whole ----------------------------------------------------------------------------

    def _stats(self) -> QueueStats:
        now = self._clock() if self._window else 0.0
        wakes: list[Waiter] = []
        try:
            spare = self, self, self
            with self._guard():
                self._advance_locked(now)
                self._settle_locked(wakes)
                stats = self._stats_locked()
                del spare
            wake_all(wakes)
        except BaseException:
            insist(self._mend, wakes)
            raise
        return stats

    def _stats_locked(self) -> QueueStats:
        stats = self._counted_locked()
        # A signal handler or a finalizer may have come in between: until two agree.
        while stats != (again := self._counted_locked()):
            stats = again
        return stats

    def _counted_locked(self) -> QueueStats:
        rows = list(self._waiting)
        ops = sum([len(row.ops) for row in rows])
        # Every row that waits or was handed out began with one operation that did not merge.
        enqueued = self._dequeued_ops + ops
        return QueueStats(
            keys=len(rows),
            ops=ops,
            owned=len(self._owned),
            consumers_waiting=len(self._consumers),
            producers_waiting=len(self._producers),
            enqueued=enqueued,
            merged=enqueued - self._dequeued_rows - len(rows),
            dequeued_rows=self._dequeued_rows,
            dequeued_ops=self._dequeued_ops,
            refused_depth=self._refused_depth,
            refused_width=self._refused_width,
            requeued=self._requeued,
        )


def _put_first_in_order(rows: list[OpSet]) -> None:
    """The first may have been promised to this call, and rows before it given back by others since."""
    for number in range(1, len(rows)):
        row, following = rows[number - 1 : number + 1]
        if row._row.seq < following._row.seq:
            break
        rows[number - 1 : number + 1] = (following, row)
