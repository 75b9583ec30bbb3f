"""The rows that compare.py judges: two contenders, and how much of the other's time ours may take.

A row says what is divided by what; the rounds are those of the `bench_*.py`. Growth and memory are
no ratios and live in growth.py; their limits are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import bench_asyncio
import bench_threads
from bench_callgroup import ADD_FINISH, BULK, SHARED_KEYS, pipeline
from bench_opqueue import DEEP_KEYS, DUPLICATES, behind, burst, in_turn
from scenarios import GIL, Scenario

OURS = "ours"
"""Stands for the implementation that was asked for."""

SLOWEST_ENQUEUE = 1_000_000
"""Nanoseconds of the slowest enqueue while a queue grows."""

BYTES_PER_ROW = 128


def per_operation(nanoseconds: float, count: int, _: Any) -> float:
    return nanoseconds / count


def percentile(share: float) -> Callable[[float, int, Any], float]:
    """Of the times that a round returns."""
    return lambda _nanoseconds, _count, times: float(sorted(times)[int(share * len(times))])


class Target(NamedTuple):
    row: str
    ours: tuple[Scenario, str]
    theirs: tuple[Scenario, str]
    limit: float | None
    """With the GIL; None: no target, the ratio is shown."""
    free_threaded: float | None = None
    """The limit where there is no GIL."""
    statistic: Callable[[float, int, Any], float] = per_operation
    throughput: bool = False
    """How many times theirs ours does in the same time; the limit is the least."""
    turns: int | None = None
    """Not more often than this, as a round takes seconds."""

    @property
    def limit_here(self) -> float | None:
        return self.limit if GIL else self.free_threaded


def targets(deepest: int) -> list[Target]:
    """`deepest`: how many keys the deep queue has, ten million in earnest."""
    ints = (in_turn("int"), "SimpleQueue")
    whole = pipeline("int")
    bounded, unbounded, hand_off = bench_asyncio.BOUNDED, bench_asyncio.UNBOUNDED, bench_threads.HAND_OFF
    in_loop = "asyncio.Queue in one loop"
    two_by_two = [bench_threads.producers_consumers(2, each) for each in (bench_threads.FEW, bench_threads.MANY)]
    return [
        Target("enqueue + dequeue, int keys / SimpleQueue put + get", (in_turn("int"), OURS), ints, 1.6, 2.2),
        Target(
            "enqueue + dequeue, str keys / SimpleQueue put + get",
            (in_turn("str"), OURS),
            (in_turn("str"), "SimpleQueue"),
            1.8,
            2.4,
        ),
        Target(
            "enqueue + dequeue, ints made in the loop / SimpleQueue put + get",
            (in_turn("fresh int"), OURS),
            (in_turn("fresh int"), "SimpleQueue"),
            1.6,
            2.2,
        ),
        Target("duplicate enqueue / SimpleQueue put + get", (DUPLICATES, OURS), ints, 0.8),
        Target("add + enqueue + dequeue + finish_all / SimpleQueue put + get", (whole, OURS), ints, 3.5),
        Target("the same, ten groups share the keys / SimpleQueue put + get", (SHARED_KEYS, OURS), ints, 2.8),
        Target("the same in bulk (..._many) / SimpleQueue put + get", (BULK, OURS), ints, 1.5),
        Target("group add + finish / Future create + set_result", (ADD_FINISH, OURS), (ADD_FINISH, "Future"), 0.08),
        Target(
            "enqueue + dequeue / OrderedDict under a Lock",
            (in_turn("int"), OURS),
            (in_turn("int"), "OrderedDict + Lock"),
            0.18,
        ),
        Target("enqueue + dequeue / queue.Queue", (in_turn("int"), OURS), (in_turn("int"), "queue.Queue"), 0.10),
        Target("native / pure, add + enqueue + dequeue + finish_all", (whole, "native"), (whole, "pure"), 0.16),
        *(
            Target(
                f"2 producers + 2 consumers, {scenario.operations:,} operations / SimpleQueue",
                (scenario, OURS),
                (scenario, "SimpleQueue"),
                1.5,
                1.5,
            )
            for scenario in two_by_two
        ),
        Target(
            "hand-off round trip, p50 / SimpleQueue",
            (hand_off, OURS),
            (hand_off, "SimpleQueue"),
            1.1,
            statistic=percentile(0.50),
        ),
        Target(
            "hand-off round trip, p99 / SimpleQueue",
            (hand_off, OURS),
            (hand_off, "SimpleQueue"),
            1.0,
            statistic=percentile(0.99),
        ),
        Target("thread to task, at most 1000 wait / janus", (bounded, OURS), (bounded, "janus"), 0.15),
        Target("thread to task, unbounded / janus", (unbounded, OURS), (unbounded, "janus"), 0.15),
        Target(
            "thread to task, at most 1000 wait / asyncio.Queue in one loop", (bounded, OURS), (bounded, in_loop), 0.8
        ),
        Target("thread to task, unbounded / asyncio.Queue in one loop", (unbounded, OURS), (unbounded, in_loop), 0.8),
        Target(
            f"in and out in turn, behind {deepest:,} keys / behind 1,000",
            (behind(deepest), OURS),
            (behind(1_000), OURS),
            2.0,
        ),
        *(
            Target(
                f"in and out in turn, behind {deepest:,} {key}keys / behind 1,000",
                (behind(deepest, key), OURS),
                (behind(1_000, key), OURS),
                None,
            )
            for key in DEEP_KEYS
            if key
        ),
        Target(
            f"all in, then all out, {deepest:,} keys / 1,000",
            (burst(deepest), OURS),
            (burst(1_000), OURS),
            2.0,
            turns=5,
        ),
        Target(
            "two threads on two queues / one thread, throughput",
            (bench_threads.apart(2), OURS),
            (bench_threads.apart(1), OURS),
            None,
            1.8,
            throughput=True,
        ),
    ]
