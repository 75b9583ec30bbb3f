"""What type checkers make of the public API. Not run by pytest: mypy and pyright read it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from inflight import (
    CallGroup,
    DedupeQueue,
    Op,
    OpQueue,
    OpSet,
    OpWindow,
    QueueSaturatedError,
    QueueStats,
    Response,
    Results,
)

if TYPE_CHECKING:
    from typing import assert_type


def operations(op: Op[str, int, float]) -> None:
    assert_type(op.key, str)
    assert_type(op.msg, int)
    assert_type(op.result(), float)
    assert_type(op.exception(0), BaseException | None)
    assert_type(op.try_finish(1.5), bool)
    assert_type(op.cancel(), bool)
    op.finish(1.5)
    op.finish(error=ValueError())
    op.finish("no float")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    op.key = "read-only"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def groups() -> None:
    def reduce(results: Results[str, int, float]) -> None:
        assert_type(results["a"], Response[str, int, float])
        assert_type(results["a"].result, float | None)
        assert_type(results.errors, tuple[BaseException, ...])

    group = CallGroup[str, int, float](reduce)
    assert_type(group.add("a", 1), Op[str, int, float])
    assert_type(group.add_many([("a", 1)]), list[Op[str, int, float]])
    assert_type(group.result(1), Results[str, int, float])
    assert_type(group.outstanding, int)
    with group as entered:
        assert_type(entered, CallGroup[str, int, float])


def queues() -> None:
    queue = OpQueue[str](10, None)
    assert_type(queue.depth, int | None)
    assert_type(queue.stats(), QueueStats)
    op = queue.submit("a")
    assert_type(op, Op[str, None, Any])
    assert_type(queue.submit("a", 1, timeout=None), Op[str, int, Any])
    queue.submit(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(queue.enqueue_many([Op("a")]), list[tuple[Op[Any, Any, Any], QueueSaturatedError]])
    assert_type(queue.join(), bool)
    assert_type(len(queue), int)
    assert_type(queue.dequeue(), OpSet)
    for each in queue:
        with each as entered:
            assert_type(entered.finish_all(1), int)
    with queue:
        pass
    work: Callable[[OpSet], None] = lambda row: None  # noqa: E731
    assert_type(queue.process(work), bool)


def windows() -> None:
    assert_type(OpWindow[int](None, 5, timedelta(seconds=1)).window, float)
    assert_type(DedupeQueue[int](None, 5, window=0.5).window, float)
    OpQueue[int]("1", None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def coroutines(op: Op[str, int, float], group: CallGroup[str, int, float]) -> None:
    assert_type(await op, float)
    assert_type(await group, Results[str, int, float])
    async with group as entered:
        assert_type(entered, CallGroup[str, int, float])


async def queues_in_coroutines(op: Op[str, int, float]) -> None:
    queue = OpQueue[str](10, None)
    assert_type(await queue.adequeue(), OpSet)
    assert_type(await queue.adequeue_many(5, 1), list[OpSet])
    assert_type(await queue.ajoin(timeout=1.5), bool)
    other = await queue.asubmit("a")
    assert_type(other, Op[str, None, Any])
    assert_type(await queue.asubmit("a", 1, timeout=1), Op[str, int, Any])
    await queue.aenqueue("a", op, timeout=None)
    async for row in queue:
        async with row as entered:
            assert_type(entered, OpSet)
    async with queue as same:
        assert_type(same, OpQueue[str])

    async def work(row: OpSet) -> int:
        return len(row)

    assert_type(await queue.aprocess(work), bool)
    assert_type(await queue.aprocess(lambda row: op, timeout=1), bool)
    await queue.aprocess(len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await queue.adequeue("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await queue.aenqueue(5, op)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await queue.aenqueue("a", op, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    async with DedupeQueue[int](None, 5) as entered_queue:
        assert_type(entered_queue, DedupeQueue[int])
        assert_type(await OpWindow[int](None, 5, 1).adequeue(), OpSet)
