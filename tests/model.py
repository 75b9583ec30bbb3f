"""What the queues do, in the simplest way that can be: lists and linear searches.

One thread, a clock that the test steps, and nobody who waits: see model_waits.py. Operations and groups are in
model_groups.py. Errors are answered as their types. Nothing here is shared with the implementations but those types.
"""

from __future__ import annotations

import inflight


class Row:
    def __init__(self, key, deadline):
        self.key, self.ops, self.deadline, self.open, self.released = key, [], deadline, True, False
        self.turn = None  # its place among those that became ready


def in_turn(rows):
    return sorted(rows, key=lambda row: row.turn)


class Queue:
    """Rows in the order of their first operations, and the ready ones in theirs."""

    def __init__(self, clock, depth, width, window, exclusive):
        self.clock, self.depth, self.width, self.window, self.exclusive = clock, depth, width, window, exclusive
        self.waiting, self.ready, self.owned = [], [], []
        self.closed, self.turns = False, 0
        self.count = dict.fromkeys(inflight.QueueStats._fields, 0)

    # Every call that adds, takes, gives back or ends a window first looks at the clock.

    def advance(self):
        for row in self.waiting:
            if row.open and row.deadline <= self.clock.now:
                self.end_window(row)
        self.settle()

    def settle(self):
        self.ready = in_turn(self.ready)

    def end_window(self, row):
        row.open = False
        if row.key in self.owned:
            return 0
        self.turns += 1
        row.turn = self.turns
        self.ready.append(row)
        return 1

    def find(self, key):
        return next((row for row in self.waiting if row.key == key), None)

    def has_room(self):
        return self.depth is None or len(self.waiting) < self.depth

    def idle(self):
        return not self.waiting and not self.owned

    def enqueue(self, key, op, promised=False):
        self.advance()
        row = self.find(key)
        if self.closed:
            return inflight.QueueClosedError
        if row is None and not (promised or self.has_room()):
            self.count["refused_depth"] += 1
            return inflight.QueueSaturatedDepthError
        if row is not None and len(row.ops) == self.width:
            self.count["refused_width"] += 1
            return inflight.QueueSaturatedWidthError
        self.count["enqueued"] += 1
        self.count["merged"] += row is not None
        if row is None:
            self.waiting.append(row := Row(key, self.clock.now + self.window))
        row.ops.append(op)
        if row.open and (self.window == 0 or len(row.ops) == self.width):
            self.end_window(row)
        self.settle()
        return None

    def dequeue(self, limit, promised=()):
        self.advance()
        # Of what was promised, others may have given back older rows since.
        rows = in_turn([*promised, *self.ready[: limit - len(promised)]])
        empty = inflight.QueueClosedError if self.closed and self.idle() else inflight.QueueEmptyError
        return self.take(rows) if rows else empty

    def take(self, rows):
        for row in rows:
            self.waiting.remove(row)
            if self.exclusive:
                self.owned.append(row.key)
            self.count["dequeued_rows"] += 1
            self.count["dequeued_ops"] += len(row.ops)
        self.ready = [row for row in self.ready if row not in rows]
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
        ops = sum(len(row.ops) for row in self.waiting)
        return inflight.QueueStats(**self.count | {"keys": len(self.waiting), "ops": ops, "owned": len(self.owned)})
