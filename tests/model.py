"""What the queues, groups and operations do, in the simplest way that can be: lists and linear searches.

One thread, a clock that the test steps, and no waking: a call that has to wait answers WAIT, and is asked again
with the same Waiter each time that the test sees it resumed. Errors are answered as their types. Nothing here is
shared with the implementations but those types.
"""

from __future__ import annotations

from inflight import (
    AlreadyFinishedError,
    GroupClosedError,
    OpAbandonedError,
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedWidthError,
    QueueStats,
)

WAIT = "wait"


class Row:
    def __init__(self, key, op, deadline):
        self.key = key
        self.ops = [op]
        self.deadline = deadline
        self.open = True
        self.turn = None  # its place among those that became ready
        self.released = False


class Waiter:
    """A call that waits. What it was promised is here, and nobody else's, until it runs or leaves."""

    def __init__(self, key=None):
        self.key = key
        self.row = None
        self.over = False


class Queue:
    """Rows in the order of their first operations, the ready ones in theirs, and three lines of waiters."""

    def __init__(self, clock, depth, width, window, exclusive):
        self.clock, self.depth, self.width, self.window, self.exclusive = clock, depth, width, window, exclusive
        self.closed = False
        self.waiting, self.ready, self.owned = [], [], []
        self.consumers, self.producers, self.joiners, self.granted = [], [], [], []
        self.turns = 0
        self.count = dict.fromkeys(QueueStats._fields, 0)

    # Every call that adds, takes, gives back or ends a window first looks at the clock.

    def advance(self):
        for row in self.waiting:
            if row.open and row.deadline <= self.clock.now:
                self.end_window(row)
        self.settle()

    def end_window(self, row):
        row.open = False
        if row.key in self.owned:
            return 0
        self.turns += 1
        row.turn = self.turns
        self.ready.append(row)
        return 1

    def settle(self):
        """Promise what is there to those who wait, first come, first served."""
        self.ready.sort(key=lambda row: row.turn)
        while self.ready and self.consumers:
            self.consumers.pop(0).row = self.ready.pop(0)
        while self.producers and self.has_room():
            self.granted.append(self.producers.pop(0))
        if not self.waiting and not self.owned:
            for waiter in self.joiners:
                waiter.over = True
            self.joiners = []
            if self.closed:
                self.consumers = []
        if self.closed:
            self.producers = []

    def has_room(self):
        return self.depth is None or len(self.waiting) + len(self.granted) < self.depth

    def find(self, key):
        return next((row for row in self.waiting if row.key == key), None)

    # ---- calls that may wait: `last` is the last time that they are asked, `waiter` None if they never wait

    def enqueue(self, waiter, key, op, last):
        self.advance()
        row = self.find(key)
        if self.closed:
            answer = QueueClosedError
        elif row is not None:
            answer = self.merge(row, op)
        elif waiter in self.granted or self.has_room():
            answer = self.add(key, op)
        elif not last:
            if waiter not in self.producers:
                self.producers.append(waiter)
            return WAIT
        else:
            self.count["refused_depth"] += 1
            answer = QueueSaturatedDepthError
        self.leave(waiter)
        return answer

    def merge(self, row, op):
        if len(row.ops) == self.width:
            self.count["refused_width"] += 1
            return QueueSaturatedWidthError
        row.ops.append(op)
        self.count["enqueued"] += 1
        self.count["merged"] += 1
        if row.open and len(row.ops) == self.width:
            self.end_window(row)
        return None

    def add(self, key, op):
        row = Row(key, op, self.clock.now + self.window)
        self.waiting.append(row)
        self.count["enqueued"] += 1
        if self.window == 0 or self.width == 1:
            self.end_window(row)

    def dequeue(self, waiter, limit, last):
        self.advance()
        rows = self.ready[:limit]
        if waiter is not None and waiter.row is not None:
            # What others gave back since may be older.
            rows = sorted([waiter.row, *self.ready[: limit - 1]], key=lambda row: row.turn)
            waiter.row = None
        if rows:
            answer = self.take(rows)
        elif self.closed and not self.waiting and not self.owned:
            answer = QueueClosedError
        elif not last:
            if waiter not in self.consumers:
                self.consumers.append(waiter)
            return WAIT
        else:
            answer = QueueEmptyError
        self.leave(waiter)
        return answer

    def join(self, waiter, last):
        if (waiter is not None and waiter.over) or (not self.waiting and not self.owned):
            return True
        if last:
            self.leave(waiter)
            return False
        if waiter not in self.joiners:
            self.joiners.append(waiter)
        return WAIT

    def leave(self, waiter):
        """The end of a wait, however it ended: what it was promised goes to the next."""
        for line in (self.consumers, self.producers, self.joiners, self.granted):
            if waiter in line:
                line.remove(waiter)
        if waiter is not None and waiter.row is not None:
            self.ready.append(waiter.row)
            waiter.row = None
        self.settle()

    def forgotten(self, waiter):
        """Whether it should not be waiting any more: it was promised something, or should have been."""
        row = self.find(waiter.key) if waiter in self.producers else None
        due = any(row.open and row.deadline <= self.clock.now and row.key not in self.owned for row in self.waiting)
        lines = self.consumers + self.producers + self.joiners
        return waiter not in lines or row is not None or (waiter in self.consumers and due)

    # ---- calls that never wait

    def take(self, rows):
        for row in rows:
            self.waiting.remove(row)
            if row in self.ready:
                self.ready.remove(row)
            if self.exclusive:
                self.owned.append(row.key)
            self.count["dequeued_rows"] += 1
            self.count["dequeued_ops"] += len(row.ops)
        self.settle()
        return rows

    def drain(self):
        self.advance()
        return self.take(self.ready + [row for row in self.waiting if row.open and row.key not in self.owned])

    def release(self, key):
        self.advance()
        self.owned.remove(key)
        row = self.find(key)
        if row is not None:
            self.count["requeued"] += 1
            if not row.open:
                self.end_window(row)
        self.settle()

    def flush(self, *keys):
        self.advance()
        count = sum(self.end_window(row) for row in self.waiting if row.open and (not keys or row.key in keys))
        self.settle()
        return count

    def close(self):
        self.closed = True
        self.flush()

    def contains(self, key):
        return self.find(key) is not None or key in self.owned

    def stats(self):
        self.advance()
        now = {
            "keys": len(self.waiting),
            "ops": sum(len(row.ops) for row in self.waiting),
            "owned": len(self.owned),
            "consumers_waiting": len(self.consumers),
            "producers_waiting": len(self.producers),
        }
        return QueueStats(**self.count | now)


class Op:
    """An operation; what happens because it ends is logged, in order."""

    def __init__(self, log, key, number, group=None):
        self.log, self.key, self.number, self.group = log, key, number, group
        self.outcome = None
        self.reported = False
        self.callbacks = []

    def finish(self, outcome):
        if self.outcome is not None:
            return AlreadyFinishedError
        self.outcome = outcome
        self.log.append(("finished", self.number, outcome))
        for callback in self.callbacks:
            callback(self)
        self.reported = True
        if self.group is not None:
            self.group.complete_if_over()
        return None

    def try_finish(self, outcome):
        return self.finish(outcome) is None

    def abandon(self):
        self.try_finish(OpAbandonedError)


class Group:
    """A group; its reducer and callbacks are functions of the group."""

    def __init__(self, reducer):
        self.reducer = reducer
        self.ops = []
        self.holds = 0
        self.sealed = self.complete = self.done = False
        self.callbacks = []

    def add(self, *ops):
        if self.sealed or self.complete:
            return GroupClosedError
        self.ops.extend(ops)
        return None

    def seal(self):
        self.sealed = True
        self.complete_if_over()

    def enter(self):
        if self.complete:
            return GroupClosedError
        self.holds += 1
        return None

    def exit(self):
        if not self.holds:
            return RuntimeError
        self.holds -= 1
        if not self.holds:
            self.seal()
        return None

    def outstanding(self):
        return sum(not op.reported for op in self.ops)

    def complete_if_over(self):
        if self.complete or self.holds or self.outstanding() or not (self.ops or self.sealed):
            return
        self.complete = True
        self.reducer(self)
        self.done = True
        for callback in self.callbacks:
            callback(self)
