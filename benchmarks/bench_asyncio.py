"""What it costs to send items between threads and tasks, and to await operations.

Both implementations against the queues that join the two worlds (janus, culsans, aiologic), and
against what stays in one loop (asyncio.Queue, asyncio.gather), all in one run. A round is COUNT
items from one producer to one consumer, or AWAITED operations. Loops and threads are made before.

`ratios_asyncio.py` takes the rounds of the contenders in turn, which this cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest

COUNT = 20_000
AWAITED = 1_000
KEYS = list(range(COUNT))

Round = Callable[[], object]
Work = Callable[[], None]
AsyncWork = Callable[[], Coroutine[Any, Any, None]]


class Ends(NamedTuple):
    """The two ends of a queue in both worlds: each call puts, or gets, COUNT items."""

    put: Work
    get: Work
    aput: AsyncWork
    aget: AsyncWork


def _module(name: str) -> Any:
    return pytest.importorskip(f"inflight._{name}", exc_type=ImportError)


def _inflight(name: str, bound: int | None, _: asyncio.AbstractEventLoop) -> Ends:
    module = _module(name)
    queue = module.OpQueue(bound, None)
    enqueue, dequeue, aenqueue, adequeue = queue.enqueue, queue.dequeue, queue.aenqueue, queue.adequeue
    op = module.Op(0)
    op.finish()

    def put() -> None:
        for key in KEYS:
            enqueue(key, op, timeout=None)

    def get() -> None:
        for _ in KEYS:
            dequeue()

    async def aput() -> None:
        for key in KEYS:
            await aenqueue(key, op)

    async def aget() -> None:
        for _ in KEYS:
            await adequeue()

    return Ends(put, get, aput, aget)


def _rival(put_one: Any, get_one: Any, aput_one: Any, aget_one: Any) -> Ends:
    def put() -> None:
        for key in KEYS:
            put_one(key)

    def get() -> None:
        for _ in KEYS:
            get_one()

    async def aput() -> None:
        for key in KEYS:
            await aput_one(key)

    async def aget() -> None:
        for _ in KEYS:
            await aget_one()

    return Ends(put, get, aput, aget)


def _two_faced(name: str, bound: int | None, _: asyncio.AbstractEventLoop) -> Ends:
    """Of janus, and of culsans, which has the same interface."""
    queue = pytest.importorskip(name).Queue(bound or 0)
    return _rival(queue.sync_q.put, queue.sync_q.get, queue.async_q.put, queue.async_q.get)


def _aiologic(_bound: None, _: asyncio.AbstractEventLoop) -> Ends:
    queue = pytest.importorskip("aiologic").SimpleQueue()
    return _rival(queue.green_put, queue.green_get, queue.async_put, queue.async_get)


def _asyncio(bound: int | None, loop: asyncio.AbstractEventLoop) -> Ends:
    """A thread can only ask the loop to put, and does not learn of a bound."""
    queue = asyncio.Queue[int](bound or 0)
    return _rival(partial(loop.call_soon_threadsafe, queue.put_nowait), None, queue.put, queue.get)


Contender = Callable[[int | None, asyncio.AbstractEventLoop], Ends]
CONTENDERS: dict[str, Contender] = {
    "native": partial(_inflight, "native"),
    "pure": partial(_inflight, "pure"),
    "janus": partial(_two_faced, "janus"),
    "culsans": partial(_two_faced, "culsans"),
}


@contextmanager
def thread_to_task(contender: Contender, bound: int | None) -> Iterator[Round]:
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        ends = contender(bound, runner.get_loop())

        async def main() -> None:
            # Runs when the consumer waits.
            asyncio.get_running_loop().call_soon(thread.submit, ends.put)
            await ends.aget()

        yield lambda: runner.run(main())


@contextmanager
def task_to_thread(contender: Contender, bound: int | None) -> Iterator[Round]:
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        ends = contender(bound, runner.get_loop())

        async def main() -> None:
            received = asyncio.get_running_loop().run_in_executor(thread, ends.get)
            await ends.aput()
            await received

        yield lambda: runner.run(main())


@contextmanager
def task_to_task(contender: Contender, bound: int | None) -> Iterator[Round]:
    with asyncio.Runner() as runner:
        ends = contender(bound, runner.get_loop())

        async def main() -> None:
            producer = asyncio.create_task(ends.aput())
            await ends.aget()
            await producer

        yield lambda: runner.run(main())


@contextmanager
def await_group(name: str) -> Iterator[Round]:
    """AWAITED operations of a group, finished by another task."""
    group_of = _module(name).CallGroup
    items = [(key, None) for key in range(AWAITED)]

    async def finish(ops: list[Any]) -> None:
        for op in ops:
            op.finish()

    async def main() -> None:
        with group_of() as group:
            finisher = asyncio.create_task(finish(group.add_many(items)))
        await group
        await finisher

    with asyncio.Runner() as runner:
        yield lambda: runner.run(main())


@contextmanager
def gather_futures() -> Iterator[Round]:
    """The same with asyncio alone."""

    async def finish(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            future.set_result(None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(AWAITED)]
        finisher = asyncio.create_task(finish(futures))
        await asyncio.gather(*futures)
        await finisher

    with asyncio.Runner() as runner:
        yield lambda: runner.run(main())


@contextmanager
def await_in_turn(make: Callable[[int], Any], finish: Callable[[Any], object]) -> Iterator[Round]:
    """AWAITED operations, or futures: each is awaited, and then finished by another task."""

    async def finish_in_turn(promises: list[Any]) -> None:
        for promise in promises:
            finish(promise)
            await asyncio.sleep(0)

    async def main() -> None:
        promises = [make(number) for number in range(AWAITED)]
        finisher = asyncio.create_task(finish_in_turn(promises))
        for promise in promises:
            await promise
        await finisher

    with asyncio.Runner() as runner:
        yield lambda: runner.run(main())


def _ops_in_turn(name: str) -> AbstractContextManager[Round]:
    op = _module(name).Op
    return await_in_turn(op, op.finish)


def _futures_in_turn() -> AbstractContextManager[Round]:
    return await_in_turn(lambda _: asyncio.get_running_loop().create_future(), lambda future: future.set_result(None))


Scenario = Callable[[], AbstractContextManager[Round]]


def _queues(scenario: Callable[[Contender, int | None], Any], bound: int | None) -> dict[str, Scenario]:
    contenders = CONTENDERS | ({"aiologic": _aiologic} if bound is None else {})
    if scenario is thread_to_task and bound is None:
        contenders["call_soon_threadsafe"] = _asyncio
    queues = {name: partial(scenario, contender, bound) for name, contender in contenders.items()}
    return queues | {"asyncio.Queue in one loop": partial(task_to_task, _asyncio, bound)}


SCENARIOS: dict[str, dict[str, Scenario]] = {
    "thread to task, at most 1000 wait": _queues(thread_to_task, 1000),
    "thread to task, unbounded": _queues(thread_to_task, None),
    "task to thread, at most 1000 wait": _queues(task_to_thread, 1000),
    "task to thread, unbounded": _queues(task_to_thread, None),
    "task to task, at most 100 wait": _queues(task_to_task, 100),
    "task to task, unbounded": _queues(task_to_task, None),
    "task to task, hand to hand": _queues(task_to_task, 1),
    "await a group": {
        "native": partial(await_group, "native"),
        "pure": partial(await_group, "pure"),
        "asyncio.gather": gather_futures,
    },
    "await operations in turn": {
        "native": partial(_ops_in_turn, "native"),
        "pure": partial(_ops_in_turn, "pure"),
        "asyncio.Future": _futures_in_turn,
    },
}


@pytest.mark.parametrize(
    ("scenario", "contender"), [(scenario, name) for scenario, names in SCENARIOS.items() for name in names]
)
def test_asyncio(benchmark: Any, scenario: str, contender: str) -> None:
    benchmark.group = scenario
    with SCENARIOS[scenario][contender]() as one_round:
        benchmark(one_round)
