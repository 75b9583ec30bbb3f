"""What one enqueue costs at worst while a queue grows, and what a waiting row weighs.

Each growth runs in a fresh process, so that nothing freed before is used again, with the garbage collector
off and what exists frozen: what is seen is the queue's, or the machine's. The two are told apart
by growing several times: a table that moves all its rows at once does so at the same key each
time, while a neighbour interrupts now here, now there. The time of a key is the least of its times
then. Beside the queue stand a dict, which does move all at once, and the loop with no queue at all.
"""

from __future__ import annotations

import gc
import heapq
import multiprocessing
import os
import queue
from array import array
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from queues import OURS, Rival, WaitedRows
from scenarios import KEYS

STATM = Path("/proc/self/statm")
MEASUREMENTS = 400


def _dict() -> Rival:
    return Rival({}.setdefault, list)


def _nothing() -> Rival:
    return Rival(callable, list)


def _simple_queue() -> Rival:
    each = queue.SimpleQueue[Any]()
    return Rival(each.put, each.get)


def _waited_rows() -> Rival:
    each = WaitedRows()
    return Rival(each.put, each.get)


KINDS: dict[str, Callable[[], Rival]] = OURS | {
    "dict": _dict,
    "SimpleQueue": _simple_queue,
    "OrderedDict + Condition": _waited_rows,
    "the loop alone": _nothing,
}


def _tail(times: Any) -> list[tuple[int, int]]:
    """The slowest calls: (how many took at least, so many nanoseconds)."""
    slowest = heapq.nlargest(max(10, len(times) // 1000), times)
    ranks = [int(digit * 10**power) for power in range(9) for digit in (1, 2, 5)]
    return [(rank, slowest[rank - 1]) for rank in ranks if rank <= len(slowest)]


def _grow(name: str, keys: int) -> array[int]:
    """Nanoseconds of each call."""
    all_keys = KEYS["int"](keys)
    grown = KINDS[name]()
    times = array("q", bytes(8 * keys))
    gc.collect()
    gc.freeze()
    gc.disable()
    grown.grow(all_keys, times)
    return times


def _weigh(name: str, keys: int) -> list[tuple[int, float]]:
    """(rows, bytes per row), with keys and the operation not counted."""
    page = os.sysconf("SC_PAGE_SIZE")

    def resident() -> int:
        return int(STATM.read_text(encoding="ascii").split()[1]) * page

    all_keys = KEYS["int"](keys)
    grown = KINDS[name]()
    gc.collect()
    gc.disable()
    coming = iter(all_keys)
    step = keys // MEASUREMENTS
    weights = []
    before = resident()
    for size in range(step, keys + 1, step):
        grown.put_all(islice(coming, step))
        weights.append((size, (resident() - before) / size))
    return weights


def _in_a_fresh_process(work: Callable[..., Any], *args: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *args).result()


def grow(name: str, keys: int, repeats: int) -> dict[str, Any]:
    """How long the slowest calls took: in each run, and in all of them at the same key."""
    best: array[int] | None = None
    runs = []
    for _ in range(repeats):
        times: array[int] = _in_a_fresh_process(_grow, name, keys)
        runs.append({"tail": _tail(times), "above": sum(time > 1_000_000 for time in times)})
        best = times if best is None else array("q", map(min, best, times))
    return {"keys": keys, "runs": runs, "repeated": _tail(best)}


def weigh(name: str, keys: int) -> list[tuple[int, float]]:
    """Bytes of a waiting row, while the queue grows to so many."""
    return _in_a_fresh_process(_weigh, name, keys)  # type: ignore[no-any-return]
