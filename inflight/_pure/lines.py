"""The lines at a keyed queue: consumers, producers and joiners that wait.

Each is served first come, first served:

- a consumer is *promised* the oldest ready row, by the step that makes one ready while it is
  parked. The row keeps merging, newcomers cannot take it, and a consumer that leaves instead
  (an interrupt) puts it back to its place, where the next one gets it;
- a producer is *granted* one place of the depth in the same way, and kicked (woken in place)
  when the key it brings waits already, so that it can merge;
- the consumer at the head of the line keeps the time: it parks only until the earliest window
  ends. There is no hidden thread; every call that reads or adds ends the windows that are over.

Assumes what rows.py assumes. Rejected: waking a consumer without a promise (it races newcomers
for the row: no order, and a wake-up lost when it leaves); a timer thread.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

from .. import _fork
from . import waiters
from .rows import PROMISED, READY, Row, Rows, first
from .waiters import Waiter, insist, wake_all

__all__ = ["Lines"]


class Lines(Rows):
    """Rows and those who wait for them, under one lock."""

    __slots__ = (
        "_by_hash", "_consumers", "_depth", "_generation", "_granted", "_joiners", "_lock", "_producers",
    )  # fmt: skip

    # Written once.
    _depth: int | None
    # Replaced together in a child process, under waiters.renewing.
    _lock: threading.RLock
    _generation: int
    # Guarded by the lock. Parked in the order of arrival; who is promised a row has left the line.
    _consumers: OrderedDict[int, Waiter]
    # The same, and by the hash of their key; who was granted a place has left the line.
    _producers: OrderedDict[int, Waiter]
    _by_hash: dict[int, dict[Waiter, None]]
    _granted: dict[Waiter, None]
    _joiners: dict[Waiter, None]

    def __init__(self, depth: int | None, width: int | None, window: float, exclusive: bool) -> None:
        super().__init__(width, window, exclusive)
        self._depth = depth
        self._lock = waiters.new_lock(threading.RLock)
        self._generation = _fork.generation
        self._consumers = OrderedDict()
        self._producers = OrderedDict()
        self._by_hash = {}
        self._granted = {}
        self._joiners = {}

    def _guard(self) -> threading.RLock:
        """The lock; a fresh one in a child process."""
        return self._lock if self._generation == _fork.generation else self._renewed()

    def _renewed(self) -> threading.RLock:
        """After a fork: nobody may be left to release the lock, or to answer a wake."""
        spare = self, self, self
        with waiters.renewing:
            if self._generation != _fork.generation:
                for waiter in list(self._promised):
                    self._renounce_locked(waiter)
                self._consumers.clear()
                self._producers.clear()
                self._by_hash.clear()
                self._granted.clear()
                self._joiners.clear()
                # Commit.
                self._lock = threading.RLock()
                self._generation = _fork.generation
            del spare
        return self._lock

    def _line_up_locked(self, waiter: Waiter) -> None:
        """Put a producer at the end of the line, unless it stands in it."""
        place = waiter.place or next(self._tickets)
        alike: dict[Waiter, None] = {waiter: None}
        hash_ = waiter.hash
        producers = self._producers
        # Commit.
        overtaken = waiter in self._granted
        if overtaken:
            # The place it was granted is taken: a row was put back, or a signal handler enqueued.
            del self._granted[waiter]
        if waiter.place == 0 or place not in producers:
            waiter.place = place
            # What may fail for want of memory first.
            if hash_ in self._by_hash:
                self._by_hash[hash_][waiter] = None
            else:
                self._by_hash[hash_] = alike
            try:
                producers[place] = waiter
            except MemoryError:
                alike = self._by_hash[hash_]
                del alike[waiter]
                if not alike:
                    del self._by_hash[hash_]
                raise
        if overtaken:
            _to_place(producers, place)

    def _line_up_consumer_locked(self, waiter: Waiter) -> None:
        """Put a consumer at the end of the line, unless it stands in it; the head keeps the time."""
        place = waiter.place or next(self._tickets)
        # Commit.
        if waiter not in self._promised:
            waiter.place = place
            if place not in self._consumers:
                self._consumers[place] = waiter
        opened = first(self._open)
        waiter.armed = opened.deadline if opened is not None and _head(self._consumers) is waiter else math.inf

    def _over_locked(self) -> bool:
        return self._closed and not self._waiting and not self._owned

    def _settle_locked(self, wakes: list[Waiter]) -> None:
        """Hand out what can be handed out to those who wait; ``wakes`` gets whom to wake."""
        consumers = self._consumers
        if self._closed and self._open:
            self._end_windows_locked()
        while self._ready and consumers:
            row, waiter = self._first_ready_locked(), _head(consumers)
            if row is not None and waiter is not None:
                self._bind_locked(row, waiter, (waiter,), wakes)
        if not self._waiting and not self._owned:
            for joiner in list(self._joiners):
                # First the wake: interrupted in between, it is woken again, not forgotten.
                wakes.append(joiner)
                joiner.over = True
                self._joiners.pop(joiner, None)
            if self._closed:
                # They look themselves, and find the end.
                _empty_into(consumers, wakes)
        producers = self._producers
        if producers:
            if self._closed:
                self._by_hash.clear()
                _empty_into(producers, wakes)
            else:
                self._grant_locked(wakes)
        if self._open and consumers:
            row, waiter = first(self._open), _head(consumers)
            if row is not None and waiter is not None and waiter.armed > row.deadline:
                wakes.append(waiter)
                waiter.armed = row.deadline

    def _bind_locked(self, row: Row, waiter: Waiter, one: tuple[Waiter], wakes: list[Waiter]) -> None:
        """Promise a ready row to a parked consumer."""
        # Commit.
        if waiter.place in self._consumers and row.state == READY:
            self._promised[waiter] = row
            try:
                wakes += one
            except MemoryError:
                del self._promised[waiter]
                raise
            del self._consumers[waiter.place]
            del self._ready[row.seq]
            row.state = PROMISED
            row.waiter = waiter

    def _grant_locked(self, wakes: list[Waiter]) -> None:
        """Give free places of the depth to the producers at the front of the line."""
        producers = self._producers
        while producers and (self._depth is None or len(self._waiting) + len(self._granted) < self._depth):
            waiter = _head(producers)
            if waiter is not None:
                wakes.append(waiter)
                self._unline_locked(waiter, granted=True)

    def _unline_locked(self, waiter: Waiter, *, granted: bool) -> None:
        """Take a producer out of the line."""
        place, hash_ = waiter.place, waiter.hash
        # Commit.
        if place in self._producers:
            if granted:
                self._granted[waiter] = None
            del self._producers[place]
            if hash_ in self._by_hash:
                alike = self._by_hash[hash_]
                if waiter in alike:
                    del alike[waiter]
                if not alike:
                    del self._by_hash[hash_]

    def _tell_alike_locked(self, hash_: int, wakes: list[Waiter]) -> None:
        """A key of this hash waits now: producers that bring the same can merge. O(producers of the hash)."""
        if hash_ in self._by_hash:
            wakes.extend(self._by_hash[hash_])

    def _drop_out_locked(self, waiter: Waiter) -> None:
        """Take whoever it is out of the line, and what it holds from it. Can be repeated.

        In the step that decides how the wait ends: between the two it could get a row or a place that it does
        not want any more, and others would meanwhile be told that there is none.
        """
        self._unline_locked(waiter, granted=False)
        self._granted.pop(waiter, None)
        self._joiners.pop(waiter, None)
        self._consumers.pop(waiter.place, None)
        self._renounce_locked(waiter)

    def _mend(self, wakes: list[Waiter], hash_: int | None = None) -> None:
        """After an interrupt: settle and wake, whatever of it was done already. Can be repeated.

        ``hash_`` is that of a key which may wait now, so that producers who bring the same can merge.
        """
        try:
            spare = self, self, self
            with self._guard():
                self._settle_locked(wakes)
                if hash_ is not None:
                    self._tell_alike_locked(hash_, wakes)
                del spare
        finally:
            wake_all(wakes)

    def _leave_to(self, waiter: Waiter, wakes: list[Waiter]) -> None:
        """[LEFT], however the wait ended: what ``waiter`` still holds goes to the next. Can be repeated."""
        spare = self, self, self
        with self._guard():
            try:
                self._drop_out_locked(waiter)
            finally:
                self._settle_locked(wakes)
            del spare

    def _leave(self, waiter: Waiter) -> None:
        """The same, and wake whoever is next."""
        wakes: list[Waiter] = []
        try:
            self._leave_to(waiter, wakes)
            wake_all(wakes)
        except BaseException:
            insist(self._mend, wakes)
            raise


def _head(line: OrderedDict[int, Waiter]) -> Waiter | None:
    """Who is first in line; ``None`` if a signal handler emptied it while we looked."""
    for waiter in line.values():
        return waiter
    return None


def _empty_into(line: OrderedDict[int, Waiter], wakes: list[Waiter]) -> None:
    """Dissolve a line: all of them are to look again."""
    wakes.extend(list(line.values()))
    line.clear()


def _to_place(line: OrderedDict[int, Waiter], number: int) -> None:
    """Move who came back from the back of a line to its place by number, close to the front: only who
    came back before, and is older, stands before it.
    """
    older: list[int] = []
    while True:
        older.clear()
        try:
            for other in line:
                if other >= number:
                    break
                older.append(other)
        except RuntimeError:
            # A signal handler changed the list.
            continue
        break
    for other in (number, *reversed(older)):
        if other in line:
            line.move_to_end(other, last=False)
