"""Random sequences of calls, compared step by step with a model that is too simple to be wrong.

Only calls that do not wait, in one thread, with a clock that the test steps: every answer and every
statistic is determined.
"""

from __future__ import annotations

import random

import pytest

from inflight import QueueClosedError, QueueEmptyError, QueueSaturatedDepthError, QueueSaturatedWidthError, QueueStats


class Row:
    def __init__(self, key, op, deadline):
        self.key = key
        self.ops = [op]
        self.deadline = deadline
        self.over = False


class Model:
    """Lists and linear searches: rows in the order of their first operations, and the ready ones in theirs."""

    def __init__(self, clock, depth, width, window, exclusive):
        self.clock = clock
        self.depth = depth
        self.width = width
        self.window = window
        self.exclusive = exclusive
        self.closed = False
        self.waiting = []
        self.ready = []
        self.owned = []
        self.count = dict.fromkeys(QueueStats._fields, 0)

    def advance(self):
        for row in self.waiting:
            full = self.width is not None and len(row.ops) >= self.width
            if self.closed or full or row.deadline <= self.clock.now:
                row.over = True
            if row.over and row not in self.ready and row.key not in self.owned:
                self.ready.append(row)

    def enqueue(self, key, op):
        self.advance()
        if self.closed:
            return QueueClosedError
        for row in self.waiting:
            if row.key == key:
                if self.width is not None and len(row.ops) >= self.width:
                    self.count["refused_width"] += 1
                    return QueueSaturatedWidthError
                row.ops.append(op)
                self.count["merged"] += 1
                break
        else:
            if self.depth is not None and len(self.waiting) >= self.depth:
                self.count["refused_depth"] += 1
                return QueueSaturatedDepthError
            self.waiting.append(Row(key, op, self.clock.now + self.window))
        self.count["enqueued"] += 1
        self.advance()
        return None

    def take(self, row):
        self.waiting.remove(row)
        if row in self.ready:
            self.ready.remove(row)
        if self.exclusive:
            self.owned.append(row.key)
        self.count["dequeued_rows"] += 1
        self.count["dequeued_ops"] += len(row.ops)
        return row.key, row.ops

    def dequeue(self, limit):
        self.advance()
        if self.ready:
            return [self.take(row) for row in self.ready[:limit]]
        if self.closed and not self.waiting and not self.owned:
            return QueueClosedError
        return QueueEmptyError

    def drain(self):
        self.advance()
        rest = [row for row in self.waiting if row not in self.ready and row.key not in self.owned]
        return [self.take(row) for row in self.ready + rest]

    def release(self, key):
        if key in self.owned:
            # What the clock made ready before comes before what the release makes ready.
            self.advance()
            self.owned.remove(key)
            self.count["requeued"] += any(row.key == key for row in self.waiting)
            self.advance()

    def flush(self, *key):
        self.advance()
        before = len(self.ready)
        for row in self.waiting:
            if not key or row.key == key[0]:
                row.over = True
        self.advance()
        return len(self.ready) - before

    def close(self):
        self.closed = True
        self.advance()

    def stats(self):
        keys, ops = len(self.waiting), sum(len(row.ops) for row in self.waiting)
        return QueueStats(**self.count | {"keys": keys, "ops": ops, "owned": len(self.owned)})


KEYS = [0, 1, 2, "a", "b", ("c",), 1.0, 2**64, None]


class Pair:
    """The queue and its model, given the same calls."""

    def __init__(self, impl, clock, seed, depth, width, window, exclusive):
        self.impl = impl
        self.clock = clock
        self.random = random.Random(seed)
        self.queue = impl.OpWindow(depth, width, window, exclusive=exclusive)
        self.model = Model(clock, depth, width, window, exclusive)
        self.held = []
        self.number = 0

    def both(self, call, expected):
        """What the call answers must be what the model answered, an exception by its type."""
        try:
            answer = call()
        except (QueueClosedError, QueueEmptyError, QueueSaturatedDepthError, QueueSaturatedWidthError) as error:
            answer = type(error)
        rows = []
        if isinstance(answer, list):
            rows = answer
            answer = [(row.key, [op.msg for op in row]) for row in rows]
        assert answer == expected
        self.held.extend(rows)

    def new(self):
        self.number += 1
        return self.random.choice(KEYS), self.number

    def step(self):
        queue, model, choose = self.queue, self.model, self.random.random()
        if choose < 0.40:
            key, msg = self.new()
            self.both(lambda: queue.enqueue(key, self.impl.Op(key, msg)), model.enqueue(key, msg))
        elif choose < 0.45:
            ops = [self.impl.Op(*self.new()) for _ in range(self.random.randrange(5))]
            if model.closed:
                return
            refused = [(op, error) for op in ops if (error := model.enqueue(op.key, op.msg))]
            answer = queue.enqueue_many(ops)
            assert [(op, type(error)) for op, error in answer] == refused
        elif choose < 0.60:
            self.both(lambda: [queue.dequeue(0)], model.dequeue(1))
        elif choose < 0.65:
            limit = self.random.randrange(1, 4)
            self.both(lambda: queue.dequeue_many(limit, 0), model.dequeue(limit))
        elif choose < 0.67:
            self.both(queue.drain, model.drain())
        elif choose < 0.82:
            if self.held:
                row = self.held.pop(self.random.randrange(len(self.held)))
                model.release(row.key)
                row.release()
                row.release()
        elif choose < 0.86:
            key, _ = self.new()
            self.both(lambda: queue.flush(key), model.flush(key))
        elif choose < 0.87:
            self.both(queue.flush, model.flush())
        elif choose < 0.871:
            queue.close()
            model.close()
        else:
            self.clock.advance(self.random.choice([0.5, 1, 3, 10]))

    def compare(self):
        queue, model = self.queue, self.model
        queue._check()
        # Not each time: a look may bring the queue up to date, which the calls must do by themselves.
        if self.random.random() < 0.6:
            return
        assert queue.stats() == model.stats()
        assert len(queue) == len(model.waiting)
        key = self.random.choice(KEYS)
        assert (key in queue) == (key in [row.key for row in model.waiting] + model.owned)
        assert queue.join(0) == (not model.waiting and not model.owned)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("exclusive", [False, True], ids=["shared", "exclusive"])
@pytest.mark.parametrize("window", [0, 5, float("inf")])
@pytest.mark.parametrize(("depth", "width"), [(None, None), (3, 2), (2, 1), (4, None), (None, 3)])
def test_against_the_model(impl, clock, seed, depth, width, window, exclusive):
    pair = Pair(impl, clock, f"{seed} {depth} {width} {window} {exclusive}", depth, width, window, exclusive)
    for _ in range(400):
        pair.step()
        pair.compare()
    # To the end.
    pair.queue.close()
    pair.model.close()
    while pair.held or len(pair.queue):
        pair.both(pair.queue.drain, pair.model.drain())
        pair.compare()
        while pair.held:
            row = pair.held.pop()
            pair.model.release(row.key)
            row.release()
    pair.both(lambda: pair.queue.dequeue(0), QueueClosedError)
    pair.compare()
