"""What always holds of a queue, whoever uses it in whatever way; imported by tests and the soak alone.

Of a compiled queue only a proof build tells (src/check.pxi): others have nothing to show. AssertionError
says what does not hold. O(what the queue has).
"""

from __future__ import annotations

import sys
from typing import Any

from ._pure.opqueue import OpQueue
from ._pure.rows import OPEN, OVER, OWNED, PROMISED, READY, Row

__all__ = ["check_invariants"]


def check_invariants(queue: Any) -> None:
    """Verify them, of a queue of either implementation."""
    if isinstance(queue, OpQueue):
        with queue._guard():
            _check_rows(queue)
            _check_lines(queue)
        return
    check = getattr(sys.modules["inflight._native"], "_check", None)
    broken = check and check(queue)
    assert not broken, broken


def _check_rows(queue: OpQueue[Any]) -> None:
    """Index and lists."""
    expected: dict[Row, int] = {}
    for state, rows in ((OPEN, queue._open), (READY, queue._ready)):
        for seq, row in rows.items():
            assert row.seq == seq, "a row stands under another number"
            assert expected.setdefault(row, state) == state, "a row stands in two lists"
    for waiter, row in queue._promised.items():
        assert row.waiter is waiter, "a promise is known to one side only"
        assert expected.setdefault(row, PROMISED) == PROMISED, "a promised row stands in a list"
    for row in queue._owned:
        assert queue._exclusive, "a row is owned in a queue that is not exclusive"
        assert expected.setdefault(row, OWNED) == OWNED, "an owned row stands in a list"
        assert row.owner is None, "a row behind another is owned"
        if row.behind is not None:
            assert row.behind.owner is row, "a row behind another does not know it"
            assert expected.setdefault(row.behind, OVER) in (OPEN, OVER), "a row behind another can be taken"
    indexed = [row for bucket in queue._index.values() for row in bucket]
    assert len(indexed) == len(set(indexed)), "the index has a row twice"
    assert all(queue._index.values()), "the index has an empty bucket"
    for hash_, bucket in queue._index.items():
        assert all(row.hash == hash_ for row in bucket), "a row is in another hash's bucket"
    behind = [row for row in expected if row.owner is not None]
    assert set(indexed) == set(expected).difference(behind), "index and lists have different rows"
    assert set(queue._waiting) == set(expected).difference(queue._owned), "not exactly the unowned rows wait"
    for row, state in expected.items():
        assert row.state == state, "a row is in another state than its list"
        assert list(row.ops) == list(range(len(row.ops))), "a row has a gap"
        assert bool(row.ops) == (state != OWNED), "a row is empty, or was handed out and has operations"
        assert row.owner is None or row.owner.behind is row, "an owner does not know who is behind"
        assert (row.waiter is not None) == (state == PROMISED), "a promise is known to one side only"
    deadlines = [row.deadline for row in queue._open.values()]
    assert deadlines == sorted(deadlines), "the windows are not in the order of their ends"
    returned = queue._ready.keys() & set(queue._returned)
    stayed = [seq for seq in queue._ready if seq not in returned]
    assert stayed == sorted(stayed), "the ready rows are not in order"
    assert not returned or not stayed or max(returned) < stayed[0], "a row came back that had never left"


def _check_lines(queue: OpQueue[Any]) -> None:
    """Who waits, and for what."""
    assert not (queue._ready and queue._consumers), "a row is ready, and a consumer parked"
    assert not (queue._closed and queue._open), "a window is open in a closed queue"
    assert not (queue._closed and queue._producers), "a producer is parked at a closed queue"
    assert not (queue._over_locked() and queue._consumers), "a consumer is parked at the end"
    assert queue._waiting or queue._owned or not queue._joiners, "a joiner is parked for nothing"
    for line in (queue._consumers, queue._producers):
        assert list(line) == sorted(line), "a line is not in order"
        assert all(waiter.place == place for place, waiter in line.items()), "a waiter is misplaced"
    assert not queue._promised.keys() & set(queue._consumers.values()), "a promised consumer is in line"
    assert not queue._granted.keys() & set(queue._producers.values()), "a granted producer is in line"
    alike = [waiter for group in queue._by_hash.values() for waiter in group]
    assert set(alike) == set(queue._producers.values()), "producers and their hashes differ"
    assert len(alike) == len(queue._producers), "a producer is known by two hashes"
    used = len(queue._waiting) + len(queue._granted)
    if queue._producers:
        assert queue._depth is not None, "a producer is parked at an unbounded queue"
        assert used >= queue._depth, "a producer is parked, and there is room"
    if queue._consumers and queue._open:
        consumer, row = next(iter(queue._consumers.values())), next(iter(queue._open.values()))
        assert consumer.armed <= row.deadline, "nobody keeps the time"
