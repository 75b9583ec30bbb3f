"""The rows of a keyed queue: the index from key to row, and the lists the rows stand in.

A row is in one of these states:

    OPEN      its window is running; in ``_open``, in the order of the deadlines
    READY     anybody may take it; in ``_ready``, in the order in which rows became ready
    PROMISED  bound to one woken consumer; in ``_promised``
    OVER      behind an owned row, its window over; in no list, reached through its owner
    OWNED     handed out by an exclusive queue, not released; in ``_owned``
    GONE      handed out, or released; reached by nobody

In the first four it waits: it is in ``_waiting``, counts, and merges. The index has one row for
each key that waits or is owned. A row that gathers behind an owned one (``behind`` and ``owner``
point at each other) is not in the index itself: the release puts it in its owner's place.

Promises: every step is O(1), whatever the depth (advancing windows: O(rows that open)), and runs
no user code. The index is keyed by the hash, an exact int, so that the dict compares ints; each
bucket holds the rows of that hash, and keys are compared by whoever holds no lock.

Assumes that CPython runs signal handlers only at calls and at backward jumps. What belongs
together is written in statements that contain neither, marked ``commit``, after everything was
prepared and after a last look whether a handler changed what it was prepared from. So a handler
that comes back to the same queue, and one that raises, always finds it valid. Without memory such
a statement may fail, too, where it makes a number or puts something into a container: those come
first, and are undone. One backward jump lies outside the ``try`` or ``with`` around it, that of
``while condition:``; in this package such a loop stands in a function of its own, or is a
``while True:``.

A row that comes back (its consumer left instead of taking it) is older than all that never left, so
it is at the front by right. It stands at the end of ``_ready``, and its number in a heap, ``_returned``,
which is asked first: many may come back at once, in any order. A number may stay in the heap after
its row has left; that is found out when it is the least.

Rejected: a dict keyed by the keys themselves (runs their ``__eq__`` under the lock); plain dicts
as lists (finding the first entry walks over all deleted ones); moving what comes back to its place in
``_ready`` (O(what came back before)); counters of keys and operations
beside the containers (an interrupt between the two would set them apart).
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Any

from .op import Op
from .opset import OpSet
from .waiters import Waiter

__all__ = [
    "GONE",
    "OPEN",
    "OVER",
    "OWNED",
    "PROMISED",
    "READY",
    "Comparison",
    "Row",
    "Rows",
    "Taken",
    "first",
]

OPEN, READY, PROMISED, OVER, OWNED, GONE = range(6)

AnyOp = Op[Any, Any, Any]


class Row:
    """The operations of one key. Guarded by the lock of its queue."""

    __slots__ = ("behind", "deadline", "hash", "key", "ops", "owner", "seq", "state", "ticket", "waiter")

    def __init__(self, key: Any, hash_: int, op: AnyOp) -> None:
        # Written once.
        self.key = key
        self.hash = hash_
        # By position. A dict, since "this position is free: take it" contains no call. Empty once it
        # is handed out: what its operations refer to may hold the OpSet, and would own the key for
        # as long as the queue has the row.
        self.ops: dict[int, AnyOp] = {0: op}
        self.state = OVER
        # Its number in the list that it stands in; kept while promised, to go back to its place.
        self.seq = 0
        self.deadline = 0.0
        # The two directions between an owned row and the one that gathers behind it.
        self.owner: Row | None = None
        self.behind: Row | None = None
        # Whom it is promised to.
        self.waiter: Waiter | None = None
        # Tells this handing out from one that was interrupted and taken back.
        self.ticket = 0


Taken = tuple[Row, int, dict[int, AnyOp]]
"""A row that was handed out, the ticket, and the operations that went with it."""

# Never changed: nothing merges into a row that was handed out.
_NO_OPS: dict[int, AnyOp] = {}

_NO_OTHERS: dict[int, Any] = {}


class Comparison:
    """What one call has found out, without a lock, about keys with the same hash as its own."""

    __slots__ = ("bucket", "candidate", "cell", "key", "others", "same", "start")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.candidate: Any = key
        self.same: Any = key
        # By identity; the references keep the identities from being used again. Most need none.
        self.others: dict[int, Any] = _NO_OTHERS
        # Where the last lookup stopped. As long as the bucket is the same, so is what comes before.
        self.bucket: tuple[Row, ...] = ()
        self.start = 0
        # For an operation that nobody knows before it is accepted: what it has from then on.
        self.cell: dict[int, Any] | None = None

    def compare(self) -> None:
        """Compare the candidate: runs user code, never under a lock."""
        candidate = self.candidate
        if candidate == self.key:
            self.same = candidate
        else:
            if self.others is _NO_OTHERS:
                self.others = {}
            self.others[id(candidate)] = candidate


class Rows:
    """Index and lists, and the steps between the states. Everything needs the lock of the queue."""

    __slots__ = (
        "__weakref__", "_closed", "_dequeued_ops", "_dequeued_rows", "_exclusive", "_index", "_last_deadline",
        "_last_seq", "_open", "_owned", "_promised", "_ready", "_requeued", "_returned", "_tickets", "_waiting",
        "_width", "_window",
    )  # fmt: skip

    # Written once.
    _width: int | None
    _window: float
    _exclusive: bool
    # Guarded by the lock of the queue, all of it.
    _closed: bool
    _tickets: itertools.count[int]
    _index: dict[int, tuple[Row, ...]]
    _waiting: dict[Row, None]
    _owned: dict[Row, None]
    _ready: OrderedDict[int, Row]
    _returned: list[int]
    _open: OrderedDict[int, Row]
    _promised: dict[Waiter, Row]
    # Clocks read before the lock may come in the wrong order; deadlines must not.
    _last_deadline: float
    # The number of the row that entered a list last; the lists are in the order of the numbers.
    _last_seq: int
    _dequeued_rows: int
    _dequeued_ops: int
    _requeued: int

    def __init__(self, width: int | None, window: float, exclusive: bool) -> None:
        self._width = width
        self._window = window
        self._exclusive = exclusive
        self._closed = False
        self._tickets = itertools.count(1)
        self._index = {}
        self._waiting = {}
        self._owned = {}
        self._ready = OrderedDict()
        self._returned = []
        self._open = OrderedDict()
        self._promised = {}
        self._last_deadline = 0.0
        self._last_seq = 0
        self._dequeued_rows = 0
        self._dequeued_ops = 0
        self._requeued = 0

    def _find_locked(self, key: Hashable, bucket: tuple[Row, ...], comparison: Comparison) -> Row | None:
        """The row of ``key`` in ``bucket``; the comparison itself gets a candidate it must settle.

        :return: the row, or ``None``: there is none if ``comparison.candidate`` is ``key``.
        """
        kind = type(key)
        exact = kind is int or kind is str
        comparison.candidate = key
        for row in bucket[comparison.start :] if comparison.bucket is bucket else bucket:
            stored = row.key
            if stored is key or stored is comparison.same:
                return row
            if exact and type(stored) is kind:
                if stored == key:
                    return row
            elif id(stored) not in comparison.others:
                comparison.candidate = stored
                comparison.bucket, comparison.start = bucket, bucket.index(row)
                return None
        return None

    def _merge_locked(self, row: Row, op: AnyOp, position: int, comparison: Comparison) -> bool:
        """Put ``op`` at ``position`` of a waiting row; ``False`` if something came in between."""
        full = position + 1 == self._width
        # Commit.
        if row.state >= OWNED or position in row.ops:
            return False
        row.ops[position] = op
        if comparison.cell is not None:
            op._cell = comparison.cell
        if full and row.state == OPEN:
            self._end_window_locked(row)
        return True

    def _insert_locked(
        self, row: Row, bucket: tuple[Row, ...], owner: Row | None, now: float, comparison: Comparison
    ) -> bool:
        """Let a new row wait, behind ``owner`` if given; ``False`` if something came in between."""
        grown = (*bucket, row)
        index = self._index
        hash_ = row.hash
        opens = self._window > 0 and self._width != 1
        deadline = now + self._window
        # Commit.
        if self._closed:
            return False
        if owner is not None:
            if owner.state != OWNED or owner.behind is not None:
                return False
        elif (index[hash_] if hash_ in index else ()) is not bucket:
            return False
        seq = self._last_seq + 1
        try:
            self._waiting[row] = None
            if opens:
                self._open[seq] = row
            elif owner is None:
                self._ready[seq] = row
            if owner is None:
                index[hash_] = grown
        except MemoryError:
            if row in self._waiting:
                del self._waiting[row]
            if seq in self._open:
                del self._open[seq]
            if seq in self._ready:
                del self._ready[seq]
            raise
        if comparison.cell is not None:
            row.ops[0]._cell = comparison.cell
        self._last_seq = row.seq = seq
        if owner is not None:
            owner.behind = row
            row.owner = owner
        if opens:
            if deadline < self._last_deadline:  # noqa: PLR1730 - max() would be a call
                deadline = self._last_deadline
            row.deadline = self._last_deadline = deadline
            row.state = OPEN
        elif owner is None:
            row.state = READY
        return True

    def _end_window_locked(self, row: Row) -> bool:
        """End the window of ``row``; whether that made it ready."""
        # Commit.
        if row.state != OPEN:
            return False
        if row.owner is not None:
            del self._open[row.seq]
            row.state = OVER
            return False
        seq = self._last_seq + 1
        self._ready[seq] = row
        del self._open[row.seq]
        row.state = READY
        self._last_seq = row.seq = seq
        return True

    def _advance_locked(self, now: float) -> None:
        """End the windows that are over."""
        opened = self._open
        while opened:
            row = first(opened)
            if row is not None:
                if row.deadline > now:
                    break
                self._end_window_locked(row)

    def _end_windows_locked(self) -> int:
        """End all windows; how many rows that made ready."""
        opened = self._open
        ready = 0
        while opened:
            row = first(opened)
            if row is not None and self._end_window_locked(row):
                ready += 1
        return ready

    def _take_locked(self, row: Row, taken: list[Taken]) -> OpSet | None:
        """Hand out a waiting row; ``None`` if something came in between. ``taken`` is for
        ``_put_back_locked``, should the caller be interrupted before it returns.
        """
        ticket = next(self._tickets)
        ops = row.ops
        taken.append((row, ticket, ops))
        index = self._index
        hash_ = row.hash
        bucket = index.get(hash_, ())
        rest = () if len(bucket) <= 1 else tuple([other for other in bucket if other is not row])
        count = len(ops)
        state = row.state
        # Commit.
        if row.state != state or state >= OVER or row.ops is not ops or count in ops:
            return None
        dequeued_rows = self._dequeued_rows + 1
        dequeued_ops = self._dequeued_ops + count
        if not self._exclusive:
            if (index[hash_] if hash_ in index else ()) is not bucket:
                return None
            if rest:
                index[hash_] = rest
            else:
                del index[hash_]
            row.state = GONE
        elif row.owner is not None:
            return None
        else:
            self._owned[row] = None
            row.state = OWNED
        row.ticket = ticket
        row.ops = _NO_OPS
        del self._waiting[row]
        if state == READY:
            del self._ready[row.seq]
        elif state == OPEN:
            del self._open[row.seq]
        elif row.waiter is not None:
            del self._promised[row.waiter]
            row.waiter = None
        self._dequeued_rows = dequeued_rows
        self._dequeued_ops = dequeued_ops
        # From here on nothing changes them.
        return OpSet._of(row.key, tuple(ops.values()), self if self._exclusive else None, row, ticket)

    def _first_ready_locked(self) -> Row | None:
        """The oldest ready row; ``None`` if there is none. Drops the numbers of rows that have left, up to it."""
        returned = self._returned
        while True:
            # Commit.
            if not returned:
                break
            seq = returned[0]
            if seq in self._ready:
                return self._ready[seq]
            heappop(returned)
        return first(self._ready)

    def _put_back_locked(self, row: Row, ticket: int, had: dict[int, AnyOp], dropped: list[Row]) -> None:
        """Take a row back that was handed out to a call which was then interrupted."""
        # As in _renounce_locked.
        self._first_ready_locked()
        while row.ticket == ticket:
            if row.state < OWNED:
                # It is back. Done only now, or a repetition would leave it at the wrong place.
                heappush(self._returned, row.seq)
                row.ticket = 0
                break
            behind = row.behind
            count = len(had)
            more = [] if behind is None else list(behind.ops.values())
            more_count = len(more)
            # Beyond the width, rather than losing them, or their order, or having the key twice.
            ops = dict(enumerate([*had.values(), *more]))
            hash_ = row.hash
            index = self._index
            bucket = index.get(hash_, ())
            grown = (row, *bucket)
            if behind is not None:
                # Its key may be the last reference: not to be dropped under the lock.
                dropped.append(behind)
            # Commit.
            if row.behind is not behind or (behind is not None and more_count in behind.ops):
                continue
            if row.state == GONE and (index[hash_] if hash_ in index else ()) is not bucket:
                continue
            dequeued_rows = self._dequeued_rows - 1
            dequeued_ops = self._dequeued_ops - count
            seq = row.seq
            try:
                self._waiting[row] = None
                self._ready[seq] = row
                if row.state == GONE:
                    index[hash_] = grown
            except MemoryError:
                if row in self._waiting:
                    del self._waiting[row]
                if seq in self._ready:
                    del self._ready[seq]
                raise
            if row.state != GONE:
                del self._owned[row]
            if behind is not None:
                row.behind = None
                if behind.state == OPEN:
                    del self._open[behind.seq]
                del self._waiting[behind]
                behind.state = GONE
            row.ops = ops
            row.state = READY
            self._dequeued_rows = dequeued_rows
            self._dequeued_ops = dequeued_ops

    def _renounce_locked(self, waiter: Waiter) -> None:
        """Put the row that was promised to ``waiter`` back to its place among the ready ones."""
        # So that numbers which have left do not pile up, where one row is promised again and again.
        self._first_ready_locked()
        # Commit.
        if waiter in self._promised:
            row = self._promised[waiter]
            self._ready[row.seq] = row
            waiter.renounced = row
            del self._promised[waiter]
            row.waiter = None
            row.state = READY
        if waiter.renounced is not None:
            heappush(self._returned, waiter.renounced.seq)
            waiter.renounced = None

    def _release_locked(self, row: Row, ticket: int) -> None:
        """Give the key of an owned row back; what gathered behind takes its place, at the back."""
        index = self._index
        hash_ = row.hash
        while row.ticket == ticket and row.state == OWNED:
            behind = row.behind
            bucket = index.get(hash_, ())
            heir = () if behind is None else (behind,)
            rest = heir if len(bucket) <= 1 else tuple([other for other in bucket if other is not row]) + heir
            # Commit.
            if row.behind is not behind or row.state != OWNED:
                continue
            if (index[hash_] if hash_ in index else ()) is not bucket:
                continue
            seq = self._last_seq + 1
            requeued = self._requeued + 1
            if behind is not None and behind.state == OVER:
                self._ready[seq] = behind
                self._last_seq = behind.seq = seq
                behind.state = READY
            row.state = GONE
            del self._owned[row]
            # The key is there, so that neither needs memory.
            if rest:
                index[hash_] = rest
            else:
                del index[hash_]
            if behind is not None:
                row.behind = None
                behind.owner = None
                self._requeued = requeued

    def _release(self, row: Row, ticket: int) -> None:
        """Give a key back, once for each time that it was handed out: for OpSet, takes the lock."""
        raise NotImplementedError


def first(rows: OrderedDict[int, Row]) -> Row | None:
    """The row at the front; ``None`` if a signal handler took it while we looked."""
    for row in rows.values():
        return row
    return None
