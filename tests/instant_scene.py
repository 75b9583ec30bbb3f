"""A queue in some state, struck by a signal in one of its calls, and the books on its operations.

What test_instants.py strikes are the calls of instant_calls.py, each with a Scene of its own.
"""

from __future__ import annotations

import asyncio

from helpers import HANG

from inflight import QueueClosedError, QueueEmptyError, QueueSaturatedError
from inflight._invariants import check_invariants

DEPTH = 6


class Scene:
    """A queue with operations that it has accepted, and all of them accounted for in the end."""

    def __init__(self, impl, kind, loop, depth=DEPTH):
        self.impl, self.loop = impl, loop
        self.exclusive = kind in ("DedupeQueue", "OpWindow-exclusive")
        self.windowed = kind.startswith("OpWindow")
        self.queue = {
            "OpQueue": lambda: impl.OpQueue(depth, 3),
            "DedupeQueue": lambda: impl.DedupeQueue(depth, 3),
            "OpWindow": lambda: impl.OpWindow(depth, 3, 1000),
            "OpWindow-exclusive": lambda: impl.OpWindow(depth, 3, 1000, exclusive=True),
        }[kind]()
        self.accepted = []
        # What the interrupted calls bring: accepted or not.
        self.brought = []
        # Rows that were received.
        self.rows = []
        # How long the waiting calls wait.
        self.patience = HANG
        self.tasks = []
        self.received = []
        # What the call that is struck enqueues.
        self.struck = None
        # What nobody may drop, or it would be abandoned.
        self.kept = []

    def end(self):
        for op in (*self.kept, *self.brought):
            op.try_finish()

    def op(self, key):
        op = self.impl.Op(key)
        self.kept.append(op)
        return op

    def put(self, *keys):
        for key in keys:
            op = self.op(key)
            self.queue.enqueue(key, op)
            self.accepted.append(op)

    def ready(self, *keys):
        self.put(*keys)
        self.queue.flush()

    def bring(self, key):
        op = self.op(key)
        self.brought.append(op)
        return op

    def take(self):
        row = self.queue.dequeue(0)
        self.rows.append(row)
        return row

    def receive(self, value):
        if isinstance(value, self.impl.OpSet):
            self.rows.append(value)
        elif isinstance(value, list):
            self.rows += [each for each in value if isinstance(each, self.impl.OpSet)]

    def park(self, coroutine):
        """A task that waits; its loop runs later."""

        async def step():
            task = asyncio.ensure_future(coroutine)
            self.tasks.append(task)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not task.done() or self.patience < HANG

        self.loop.run_until_complete(step())

    def run_tasks(self):
        """Whoever has something coming is woken; whoever has not still waits."""
        if not self.tasks:
            assert not self.queue._promised
            assert not self.queue._granted
            return

        async def expected():
            for _ in range(3):
                await asyncio.sleep(0)
            while self.queue._promised or self.queue._granted:
                await asyncio.sleep(0)
            if not self.queue._waiting and not self.queue._owned:
                while self.queue._joiners or any(task.get_name() == "join" and not task.done() for task in self.tasks):
                    await asyncio.sleep(0)

        self.loop.run_until_complete(asyncio.wait_for(expected(), HANG))

    def slots(self):
        """How many new keys are accepted."""
        number = 0
        while True:
            op = self.bring(f"slot {number}")
            try:
                self.queue.enqueue(op.key, op)
            except QueueSaturatedError:
                return number
            number += 1

    def account(self):
        queue = self.queue
        check_invariants(queue)
        self.run_tasks()
        check_invariants(queue)
        stats = queue.stats()
        parked = len([task for task in self.tasks if not task.done()])
        assert stats.consumers_waiting + stats.producers_waiting + len(queue._joiners) == parked
        if not queue.closed and not stats.producers_waiting and queue.depth is not None:
            # A signal handler may overshoot it.
            assert self.slots() == max(0, queue.depth - stats.keys)
            self.run_tasks()
        queue.close()
        for row in self.rows:
            row.release()
        while True:
            try:
                self.take().release()
            except QueueEmptyError:
                self.run_tasks()
                self.collect_tasks()
            except QueueClosedError:
                break
        if self.tasks:
            _, hanging = self.loop.run_until_complete(asyncio.wait(self.tasks, timeout=HANG))
            assert not hanging
        self.collect_tasks()
        received = [op for row in self.rows for op in row]
        assert len(received) == len(set(received)), "an operation is in two places"
        assert set(received) >= set(self.accepted), "an accepted operation is lost"
        # Of a submit that was interrupted after all, nobody else knows the operation.
        unknown = set(received).difference(self.accepted, self.brought)
        assert all(op.key == "new" and op.try_finish() for op in unknown)
        stats = queue.stats()
        assert stats.enqueued == stats.dequeued_ops == len(received)
        assert stats.dequeued_rows == len(self.rows)
        assert stats.merged == len(received) - len(self.rows)
        assert (stats.keys, stats.ops, stats.owned) == (0, 0, 0)
        assert (stats.consumers_waiting, stats.producers_waiting) == (0, 0)
        assert queue.join(0)
        check_invariants(queue)
        return received

    def collect_tasks(self):
        for task in self.tasks:
            if task.done() and not task.cancelled() and task.exception() is None:
                rows = len(self.rows)
                if task not in self.received:
                    self.received.append(task)
                    self.receive(task.result())
                for row in self.rows[rows:]:
                    row.release()
