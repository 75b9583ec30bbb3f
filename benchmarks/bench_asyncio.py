"""What it costs to send items between threads and tasks, and to await operations.

Both implementations against the queues that join the two worlds (janus, culsans, aiologic), against
what a thread can do with the standard library, and against what stays in one loop (asyncio.Queue,
asyncio.gather). A round is COUNT items from one producer to one consumer, ROUND_TRIPS of one item,
or AWAITED operations. Loops and threads are made before. The queues are in joined.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from joined import BY_HAND, IN_ONE_LOOP, KINDS, Kind
from scenarios import IMPLEMENTATIONS, KEYS, Contender, Round, Scenario, implementation

COUNT = 20_000
ROUND_TRIPS = 1_000
AWAITED = 1_000


@contextmanager
def _thread_to_task(kind: Kind, bound: int | None, count: int) -> Iterator[Round]:
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        queue = kind(bound, runner.get_loop())
        items = queue.items(KEYS["int"](count))

        async def main() -> None:
            # Runs when the consumer waits.
            asyncio.get_running_loop().call_soon(thread.submit, queue.put_items, items)
            await queue.aget_all(items)

        yield lambda: runner.run(main())


@contextmanager
def _task_to_thread(kind: Kind, bound: int | None, count: int) -> Iterator[Round]:
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        queue = kind(bound, runner.get_loop())
        items = queue.items(KEYS["int"](count))

        async def main() -> None:
            received = asyncio.get_running_loop().run_in_executor(thread, queue.get_all, items)
            await queue.aput_items(items)
            await received

        yield lambda: runner.run(main())


@contextmanager
def _task_to_task(kind: Kind, bound: int | None, count: int) -> Iterator[Round]:
    with asyncio.Runner() as runner:
        queue = kind(bound, runner.get_loop())
        items = queue.items(KEYS["int"](count))

        async def main() -> None:
            producer = asyncio.create_task(queue.aput_items(items))
            await queue.aget_all(items)
            await producer

        yield lambda: runner.run(main())


@contextmanager
def _hand_off(kind: Kind, bound: int | None, count: int) -> Iterator[Round]:
    """From a thread to a task and back, over two queues; the round returns how long each took."""
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        there, back = kind(bound, runner.get_loop()), kind(bound, runner.get_loop())
        keys = KEYS["int"](count)

        async def main() -> list[int]:
            asked = asyncio.get_running_loop().run_in_executor(thread, there.ask, back, keys)
            await there.aanswer(back, back.items(keys))
            times: list[int] = await asked
            return times

        yield lambda: runner.run(main())


@contextmanager
def _await_group(name: str, count: int) -> Iterator[Round]:
    """A group whose operations are finished by another task."""
    group_of = implementation(name).CallGroup
    items = [(key, None) for key in KEYS["int"](count)]

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
def _gather_futures(count: int) -> Iterator[Round]:
    """The same with asyncio alone."""

    async def finish(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            future.set_result(None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(count)]
        finisher = asyncio.create_task(finish(futures))
        await asyncio.gather(*futures)
        await finisher

    with asyncio.Runner() as runner:
        yield lambda: runner.run(main())


def _ready(work: Callable[[Any, list[Any]], Any]) -> dict[str, Contender]:
    """Contenders of which a round is `work(queue, keys)`, in a loop, where nothing has to wait."""

    @contextmanager
    def contender(name: str, count: int) -> Iterator[Round]:
        queue, keys = implementation(name).OpQueue(None, None), list(KEYS["int"](count))
        with asyncio.Runner() as runner:
            yield lambda: runner.run(work(queue, keys))

    return {name: partial(contender, name) for name in IMPLEMENTATIONS}


async def _in_turn(queue: Any, keys: list[Any]) -> None:
    submit, dequeue = queue.asubmit, queue.adequeue
    for key in keys:
        op = await submit(key)
        await dequeue()
        op.finish()


async def _put_get(queue: asyncio.Queue[Any], keys: Sequence[Any]) -> None:
    put, get = queue.put, queue.get
    for key in keys:
        await put(key)
        await get()


async def _put_all_get_all(queue: asyncio.Queue[Any], keys: Sequence[Any]) -> None:
    """It cannot be iterated over."""
    put, get = queue.put_nowait, queue.get
    for key in keys:
        put(key)
    for _key in keys:
        _item = await get()


@contextmanager
def _asyncio_queue(work: Callable[[Any, Sequence[Any]], Any], count: int) -> Iterator[Round]:
    queue, keys = asyncio.Queue[Any](), KEYS["int"](count)
    with asyncio.Runner() as runner:
        yield lambda: runner.run(work(queue, keys))


async def _finish(row: Any) -> None:
    row.finish_all()


async def _process(queue: Any, keys: list[Any]) -> None:
    submit, process = queue.submit, queue.aprocess
    for key in keys:
        submit(key)
        await process(_finish)


async def _iterate(queue: Any, keys: list[Any]) -> None:
    submit = queue.submit
    for key in keys:
        submit(key)
    left = len(keys)
    async for row in queue:
        row.finish_all()
        left -= 1
        if not left:
            break


async def _with_row(queue: Any, keys: list[Any]) -> None:
    submit, dequeue = queue.submit, queue.adequeue
    for key in keys:
        submit(key)
        async with await dequeue() as row:
            row.finish_all()


async def _many_and_join(queue: Any, keys: list[Any]) -> None:
    submit, take, join = queue.submit, queue.adequeue_many, queue.ajoin
    for start in range(0, len(keys), 100):
        for key in keys[start : start + 100]:
            submit(key)
        for row in await take(100):
            row.finish_all()
        await join()


@contextmanager
def _await_in_turn(make: Callable[[int], Any], finish: Callable[[Any], object], count: int) -> Iterator[Round]:
    """Operations, or futures, each of which is awaited and then finished by another task."""

    async def finish_in_turn(promises: list[Any]) -> None:
        for promise in promises:
            finish(promise)
            await asyncio.sleep(0)

    async def main() -> None:
        promises = [make(number) for number in range(count)]
        finisher = asyncio.create_task(finish_in_turn(promises))
        for promise in promises:
            await promise
        await finisher

    with asyncio.Runner() as runner:
        yield lambda: runner.run(main())


def _ops_in_turn(name: str, count: int) -> AbstractContextManager[Round]:
    op = implementation(name).Op
    return _await_in_turn(op, op.finish, count)


def _futures_in_turn(count: int) -> AbstractContextManager[Round]:
    loop = asyncio.get_running_loop
    return _await_in_turn(lambda _: loop().create_future(), lambda future: future.set_result(None), count)


def _queues(name: str, work: Callable[[Kind, int | None, int], Any], bound: int | None) -> Scenario:
    kinds = KINDS | BY_HAND if bound is None and work is not _task_to_task else KINDS
    contenders: dict[str, Contender] = {each: partial(work, kind, bound) for each, kind in kinds.items()}
    if work is _hand_off:
        return Scenario(name, contenders, ROUND_TRIPS, waits=True, timed=True)
    contenders["asyncio.Queue in one loop"] = partial(_task_to_task, IN_ONE_LOOP, bound)
    return Scenario(name, contenders, COUNT, waits=True)


def _awaits(name: str, ours: Callable[[str, int], Any], rival: str, theirs: Contender) -> Scenario:
    return Scenario(
        name, {**{each: partial(ours, each) for each in IMPLEMENTATIONS}, rival: theirs}, AWAITED, waits=True
    )


BOUNDED = _queues("thread to task, at most 1000 wait", _thread_to_task, 1000)
UNBOUNDED = _queues("thread to task, unbounded", _thread_to_task, None)
HAND_OFF = _queues("hand-off from a thread to a task, there and back", _hand_off, None)
SCENARIOS = [
    BOUNDED,
    UNBOUNDED,
    _queues("task to thread, at most 1000 wait", _task_to_thread, 1000),
    _queues("task to thread, unbounded", _task_to_thread, None),
    _queues("task to task, at most 100 wait", _task_to_task, 100),
    _queues("task to task, unbounded", _task_to_task, None),
    _queues("task to task, hand to hand", _task_to_task, 1),
    HAND_OFF,
    Scenario(
        "ready: asubmit, adequeue, finish in turn",
        _ready(_in_turn) | {"asyncio.Queue": partial(_asyncio_queue, _put_get)},
    ),
    Scenario(
        "ready: submit all, then async for",
        _ready(_iterate) | {"asyncio.Queue": partial(_asyncio_queue, _put_all_get_all)},
    ),
    Scenario("ready: submit, async with row in turn", _ready(_with_row)),
    Scenario("ready: submit, aprocess in turn", _ready(_process)),
    Scenario("ready: submit, adequeue_many by 100, finish_all, ajoin", _ready(_many_and_join)),
    _awaits("await a group", _await_group, "asyncio.gather", _gather_futures),
    _awaits("await operations in turn", _ops_in_turn, "asyncio.Future", _futures_in_turn),
]


def test_asyncio(measure: Callable[[], None]) -> None:
    measure()
