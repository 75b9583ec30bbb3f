"""The threads of a soak: producers, consumers, event loops, and one that lets a queue grow."""
# ruff: noqa: D101, D102 - a script, whose help is in __main__.py

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from books import Crash, Key

import inflight
from inflight._invariants import check_invariants

if TYPE_CHECKING:
    from world import World


class Actor:
    """One thread with its own books, which nobody else writes."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.random = random.Random(world.seed * 1000 + number)
        self.counts: Counter[str] = Counter()
        self.produced = threading.Event()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=f"{type(self).__name__}-{number}", daemon=True)

    def _run(self) -> None:
        try:
            self.act()
        except BaseException as failure:
            self.failure = failure
            self.world.stopping.set()
        finally:
            self.produced.set()

    def act(self) -> None:
        raise NotImplementedError

    # What threads and tasks have in common. Nothing here waits.

    def key(self) -> Any:
        pick = self.random.random()
        number = int(200 * pick * pick)
        kind = self.random.randrange(8)
        if kind < 3:
            return number
        if kind < 5:
            return f"key {number}"
        if kind < 6:
            return ("key", number)
        return Key(number, raises=self.random.random() < 0.005)

    def op(self, group: Any = None, key: Any = None) -> Any:
        op = inflight.Op(key or self.key(), [number := self.random.random()]) if group is None else group.add(key, [0])
        self.counts["made"] += 1
        op.add_done_callback(self.world.books.op_ended)
        if group is None and number < 0.05:
            op.add_done_callback(lambda _, __=op: None)  # a cycle until it is finished
        return op

    def ops_of_group(self) -> list[Any]:
        """A group's, which are all there is of it."""
        self.counts["groups"] += 1
        with inflight.CallGroup(self.world.books.reduce) as group:
            ops = [self.op(group, self.key()) for _ in range(self.random.randrange(6))]
            self.counts["group_ops"] += len(ops)
        if ops and self.random.random() < 0.2:
            group.add_done_callback(lambda _, __=group: None)
        return ops

    @contextlib.contextmanager
    def offering(self, op: Any) -> Iterator[None]:
        """Around an enqueue: counts how it ended."""
        try:
            yield
        except inflight.QueueSaturatedError:
            self.counts["refused"] += 1
        except inflight.QueueClosedError:
            self.counts["closed"] += 1
        except TimeoutError:
            self.counts["timeouts"] += 1
        except Crash:
            self.counts["raised"] += 1
        else:
            self.counts["accepted"] += 1
            return
        self.counts["won"] += op.cancel()

    def submitted(self, op: Any) -> None:
        self.counts["accepted"] += 1
        self.counts["made"] += 1
        # Perhaps after it was finished.
        op.add_done_callback(self.world.books.op_ended)

    def take(self, rows: list[Any], waited: bool) -> None:
        self.counts["rows"] += len(rows)
        self.counts["ops"] += sum(map(len, rows))
        self.counts["handed_over"] += waited and len(rows)

    def work(self, row: Any) -> None:
        """End a row in one of the ways in which rows end."""
        how = self.random.randrange(12)
        if how < 5:
            self.counts["won"] += row.finish_all(how)
        elif how < 6:
            self.counts["won"] += row.finish_all(error=ValueError(how))
        elif how < 8:
            outcomes = [KeyError(at) if at % 3 == 1 else at for at in range(len(row))]
            self.counts["won"] += row.finish_each(outcomes)
        elif how < 9:
            for op in reversed(row):
                try:
                    op.finish(how)
                    self.counts["won"] += 1
                except inflight.AlreadyFinishedError:
                    self.counts["late"] += 1
        elif how < 10:
            error = self.random.choice([Crash, asyncio.CancelledError])
            with contextlib.suppress(error), row:
                raise error("a worker")
        elif how < 11:
            return  # dropped: its operations are abandoned, its key released
        if self.random.random() < 0.7:
            row.release()


class Producer(Actor):
    def act(self) -> None:
        while not self.world.stopping.is_set():
            queue = self.random.choice(self.world.queues)
            how = self.random.randrange(12)
            if how < 4:
                self.offer(queue, self.op(), self.random.choice([0, 0, 0.001, 0.02]))
            elif how < 6:
                for op in self.ops_of_group():
                    self.offer(queue, op, 0.005)
            elif how < 8:
                with contextlib.suppress(inflight.QueueSaturatedError, Crash):
                    self.submitted(queue.submit(self.key(), how, timeout=self.random.choice([0, 0.002])))
            elif how < 9:
                # Keys that do not raise: how many were enqueued before would not be known.
                ops = [self.op(key=(self.random.randrange(50), at)) for at in range(20)]
                refused = queue.enqueue_many(ops)
                self.counts["accepted"] += len(ops) - len(refused)
                self.counts["won"] += sum(op.cancel() for op, _ in refused)
                self.counts["refused"] += len(refused)
            elif how < 10:
                self.op()  # abandoned at once
            elif how < 11:
                self.drop_a_queue()
            else:
                op = self.op()
                self.offer(queue, op, 0)
                try:
                    op.result(self.random.choice([0, 0.001, 0.01]))
                except TimeoutError:
                    self.counts["timeouts"] += 1
                except Exception:
                    pass
                won = op.cancel()
                self.counts["won"] += won
                self.counts["cancels"] += won

    def offer(self, queue: Any, op: Any, timeout: float) -> None:
        with self.offering(op):
            queue.enqueue(op.key, op, timeout=timeout)

    def drop_a_queue(self) -> None:
        queue = self.world.make(self.random.randrange(5))
        for op in self.ops_of_group():
            with contextlib.suppress(inflight.QueueSaturatedError, Crash):
                queue.enqueue(op.key, op)
        rows = queue.drain() if self.random.random() < 0.5 else []
        if rows and self.random.random() < 0.5:
            # In a cycle: for the collector.
            inflight.Op("cycle", [queue, *rows]).finish(cycle := [queue])
            cycle.append(cycle)
        self.counts["queues_dropped"] += 1


class Consumer(Actor):
    def act(self) -> None:
        queues = list(self.world.queues)
        held: list[Any] = []
        while queues:
            queue = self.random.choice(queues)
            try:
                rows = self.dequeue(queue)
                self.flush(queue)
            except inflight.QueueEmptyError:
                self.counts["timeouts"] += 1
                rows = []
            except inflight.QueueClosedError:
                queues.remove(queue)
                rows = []
            held += rows
            while held and (self.world.stopping.is_set() or len(held) > 3):
                self.work(held.pop(0))
            rows.clear()

    def dequeue(self, queue: Any) -> list[Any]:
        how = self.random.randrange(8)
        timeout = self.random.choice([0.0005, 0.002, 0.01])
        if how == 0:
            rows = queue.dequeue_many(self.random.randrange(1, 40), timeout)
            self.take(rows, False)
        elif how == 1 and not queue.closed:
            rows = queue.drain()
            self.take(rows, False)
        elif how == 2:
            with contextlib.suppress(Crash):
                if not queue.process(self.process, timeout):
                    raise inflight.QueueClosedError
            rows = []
        else:
            waited = False
            try:
                rows = [queue.dequeue(0)]
            except inflight.QueueEmptyError:
                rows = [queue.dequeue(timeout)]
                waited = True
            self.take(rows, waited)
        return rows

    def process(self, row: Any) -> None:
        self.take([row], False)
        if self.random.random() < 0.3:
            raise Crash("a worker")
        self.work(row)

    def flush(self, queue: Any) -> None:
        if self.random.random() < 0.05:
            with contextlib.suppress(Crash):
                queue.flush(*([self.key()] if self.random.random() < 0.5 else []))
            queue.stats()
            queue.join(0)


class Loop(Actor):
    """Runs one event loop after the other, each with tasks that it cancels, or leaves behind when it is closed."""

    def act(self) -> None:
        while not self.world.stopping.is_set():
            self.counts["loops"] += 1
            self.run(self.generation())
        self.produced.set()
        self.run(self.rest())

    def run(self, main: Any) -> None:
        loop = self.world.loops[self.counts["loops"] % len(self.world.loops)]()
        # Says of every task that is left behind that it is.
        loop.set_exception_handler(lambda _, context: self.check_report(context))
        try:
            loop.run_until_complete(main)
        finally:
            loop.close()

    def check_report(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, (Crash, ValueError, inflight.InflightError)):
            self.failure = error
            self.world.stopping.set()

    async def generation(self) -> None:
        calls = [self.produce, self.produce, self.consume, self.consume, self.iterate, self.join, self.park]
        tasks = {asyncio.ensure_future(call()) for call in calls}
        for _ in range(self.random.randrange(20, 60)):
            done, tasks = await asyncio.wait(tasks, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and task.exception() is not None:
                    raise task.exception()
            if self.world.stopping.is_set():
                break
            tasks |= {asyncio.ensure_future(self.random.choice(calls)()) for _ in range(len(calls) - len(tasks))}
            victim = self.random.choice(list(tasks))
            self.counts["cancels"] += victim.cancel()
        # The others are left to the closed loop.

    async def produce(self) -> None:
        for _ in range(30):
            queue = self.random.choice(self.world.queues)
            timeout = self.random.choice([0, 0.002, 0.01, None])
            how = self.random.randrange(6)
            if how < 3:
                op = self.op()
                with self.offering(op):
                    await queue.aenqueue(op.key, op, timeout=timeout)
                if how == 0:
                    with contextlib.suppress(Exception, inflight.OpCancelledError):
                        async with asyncio.timeout(0.002):
                            await op
            elif how < 4:
                for op in self.ops_of_group():
                    with self.offering(op):
                        async with asyncio.timeout(0.005):
                            await queue.aenqueue(op.key, op)
            elif how < 5:
                with contextlib.suppress(inflight.QueueSaturatedError, Crash):
                    self.submitted(await queue.asubmit(self.key(), timeout=timeout))
            else:
                self.op()
                queue.adequeue().close()  # never awaited

    async def consume(self) -> None:
        for _ in range(30):
            queue = self.random.choice(self.world.queues)
            timeout = self.random.choice([0, 0.001, 0.005, None])
            rows: list[Any] = []
            try:
                how = self.random.randrange(4)
                if how == 0:
                    rows = await queue.adequeue_many(10, timeout)
                elif how == 1:
                    async with asyncio.timeout(0.003):
                        rows = [await queue.adequeue()]
                elif how == 2:
                    with contextlib.suppress(Crash):
                        await queue.aprocess(self.aprocess, timeout)
                else:
                    rows = [await queue.adequeue(timeout)]
            except (inflight.QueueEmptyError, TimeoutError):
                self.counts["timeouts"] += 1
            self.take(rows, how != 0)
            while rows:
                self.work(rows.pop())

    async def aprocess(self, row: Any) -> None:
        self.take([row], False)
        await asyncio.sleep(0)
        self.work(row)

    async def iterate(self) -> None:
        left = self.random.randrange(300)
        async for row in self.random.choice(self.world.queues):
            self.take([row], False)
            async with row:
                self.work(row)
            del row
            left -= 1
            if left < 0:
                return

    async def join(self) -> None:
        await self.random.choice(self.world.queues).ajoin(self.random.choice([0.001, 0.01, None]))

    async def park(self) -> None:
        """On what will not come: until it is cancelled, or destroyed with its loop."""
        op = inflight.Op("never")
        self.counts["made"] += 1
        op.add_done_callback(self.world.books.op_ended)
        with contextlib.suppress(inflight.OpAbandonedError):
            await op

    async def rest(self) -> None:
        async def drain(queue: Any) -> None:
            async for row in queue:
                self.take([row], False)
                self.work(row)
                del row

        await asyncio.gather(*map(drain, self.world.queues))


class Grower(Actor):
    """The queue that lives on: it grows by many keys, and shrinks back."""

    def act(self) -> None:
        queue, grown = self.world.forever, self.world.grown
        for first in range(0, grown, 1000):
            ops = [inflight.Op(number if number % 2 else str(number)) for number in range(first, first + 1000)]
            for op in ops:
                op.add_done_callback(self.world.books.op_ended)
            self.counts["made"] += len(ops)
            self.counts["accepted"] += len(ops) - len(queue.enqueue_many(ops))
        check_invariants(queue)
        while len(queue):
            rows = queue.dequeue_many(1000, 0)
            self.take(rows, False)
            for row in rows:
                self.counts["won"] += row.finish_all()
