"""Queues that join threads and tasks, ours and the others', with the same loops for all.

As in queues.py. What can wait for room does, on both sides.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from queues import OursBounded, Rival, aiologic_queue, two_faced_queue
from scenarios import IMPLEMENTATIONS


class Joined(Rival):
    """A queue with an end for threads and one for tasks, either way. A subclass says how a task puts."""

    def __init__(
        self, put: Callable[[Any], object], get: Callable[[], object], aget: Callable[[], Awaitable[object]]
    ) -> None:
        super().__init__(put, get)
        self.aget = aget

    async def aget_all(self, items: Iterable[Any]) -> None:
        """As many as there are items."""
        aget = self.aget
        for _ in items:
            _item = await aget()


class Awaited(Joined):
    """A task awaits that it may put."""

    def __init__(
        self,
        put: Callable[[Any], object],
        get: Callable[[], object],
        aput: Callable[[Any], Awaitable[object]],
        aget: Callable[[], Awaitable[object]],
    ) -> None:
        super().__init__(put, get, aget)
        self.aput = aput

    async def aput_items(self, items: Iterable[Any]) -> None:
        aput = self.aput
        for item in items:
            await aput(item)

    async def aanswer(self, back: Awaited, items: Iterable[Any]) -> None:
        aget, aput = self.aget, back.aput
        for item in items:
            _item = await aget()
            await aput(item)


class OursJoined(OursBounded):
    def __init__(self, name: str, bound: int | None, _: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, bound)

    async def aput_items(self, items: Iterable[Any]) -> None:
        aenqueue = self.queue.aenqueue
        for op in items:
            await aenqueue(op.key, op)

    async def aget_all(self, items: Iterable[Any]) -> None:
        adequeue = self.queue.adequeue
        for _ in items:
            _row = await adequeue()

    async def aanswer(self, back: OursJoined, items: Iterable[Any]) -> None:
        adequeue, aenqueue = self.queue.adequeue, back.queue.aenqueue
        for op in items:
            _row = await adequeue()
            await aenqueue(op.key, op)


def _two_faced(name: str, bound: int | None, _: asyncio.AbstractEventLoop) -> Joined:
    each = two_faced_queue(name, bound)
    return Awaited(each.sync_q.put, each.sync_q.get, each.async_q.put, each.async_q.get)


def _aiologic(bound: int | None, _: asyncio.AbstractEventLoop) -> Joined:
    each = aiologic_queue(bound)
    return Awaited(each.green_put, each.green_get, each.async_put, each.async_get)


class ByHand(Joined):
    """What the standard library has: a queue for either direction, and a thread asks the loop to put. A task puts by a
    plain call, as it never waits.
    """

    def __init__(self, _: int | None, loop: asyncio.AbstractEventLoop) -> None:
        to_task = asyncio.Queue[Any]()
        to_thread = queue.SimpleQueue[Any]()
        put: Callable[[Any], object] = partial(loop.call_soon_threadsafe, to_task.put_nowait)  # type: ignore[arg-type]
        super().__init__(put, to_thread.get, to_task.get)
        self.put_from_task = to_thread.put

    async def aput_items(self, items: Iterable[Any]) -> None:
        put = self.put_from_task
        for item in items:
            put(item)

    async def aanswer(self, back: ByHand, items: Iterable[Any]) -> None:
        aget, put = self.aget, back.put_from_task
        for item in items:
            _item = await aget()
            put(item)


def _in_one_loop(bound: int | None, _: asyncio.AbstractEventLoop) -> Joined:
    """For tasks alone."""
    each = asyncio.Queue[Any](bound or 0)
    return Awaited(each.put_nowait, each.get_nowait, each.put, each.get)


Kind = Callable[[int | None, asyncio.AbstractEventLoop], Any]
IN_ONE_LOOP: Kind = _in_one_loop
KINDS: dict[str, Kind] = {
    **{name: partial(OursJoined, name) for name in IMPLEMENTATIONS},
    "janus": partial(_two_faced, "janus"),
    "culsans": partial(_two_faced, "culsans"),
    "aiologic": _aiologic,
}
BY_HAND: dict[str, Kind] = {"call_soon_threadsafe, SimpleQueue": ByHand}
