"""A queue and its model, given the same calls: see machine.py."""

from __future__ import annotations

import gc
import weakref

from machine import Call, Side, at_once, outcome_of, shape
from model_waits import WAIT, Waiter, WaitingQueue

import inflight
from inflight._invariants import check_invariants


class QueueSide(Side):
    """One implementation's queue, and the model that follows it."""

    def __init__(self, impl, clocks, depth, width, window, exclusive, plain):
        super().__init__(impl, clocks)
        self.model = WaitingQueue(clocks.windows, depth, width, window, exclusive)
        if plain and exclusive:
            self.queue = impl.DedupeQueue(depth, width, window=window)
        elif plain and window == 0:
            self.queue = impl.OpQueue(depth, width)
        else:
            self.queue = impl.OpWindow(depth, width, window, exclusive=exclusive)
        self.cyclic = False  # whether tracebacks may keep rows
        self.held = {}  # rows that were handed out, by the number of their first operation: the model's, the real one

    def hold(self, rows, answer):
        for row, real in zip(rows, answer, strict=True):
            self.held[row.ops[0].number] = row, real

    def state(self):
        model = self.model
        lines = [len(line) for line in (model.consumers, model.producers, model.joiners, model.granted)]
        rows = shape(model.waiting), shape(model.ready), [repr(key) for key in model.owned]
        return rows, lines, model.closed, {number: shape(row) for number, (row, _) in self.held.items()}

    def held_ops(self):
        rows = self.model.waiting + [row for row, _ in self.held.values()]
        return super().held_ops().union(op.number for row in rows for op in row.ops)

    def settle(self):
        super().settle()
        # In which order a row drops its operations is nobody's business.
        assert sorted(self.events, key=repr) == sorted(self.log, key=repr)
        self.events.clear()
        self.log.clear()
        if self.queue is not None:
            check_invariants(self.queue)

    # ---- adding

    def put(self, key, number, keep, submit):
        op = None if submit else self.impl.Op(key, number)
        ours = self.op(key, number)
        expected = self.model.enqueue(key, ours)
        if submit:
            op, text = outcome_of(lambda: self.queue.submit(key, number))
            answer = None if isinstance(op, self.impl.Op) else op
        else:
            answer, text = outcome_of(lambda: self.queue.enqueue(key, op))
        assert answer is expected
        if submit and expected is not None:
            # Nobody has seen it: it is not abandoned.
            self.live.remove(ours)
            return text
        self.watch(op)
        if keep:
            self.ops[number] = op
        return text

    def put_many(self, keys, first):
        numbers = range(first, first + len(keys))
        ours = [self.op(key, number) for key, number in zip(keys, numbers, strict=True)]
        ops = [self.watch(self.impl.Op(key, number)) for key, number in zip(keys, numbers, strict=True)]
        closed = inflight.QueueClosedError if self.model.closed else None
        answers = [self.model.enqueue(op.key, op) for op in ours if closed is None]
        refused = [(number, error) for number, error in zip(numbers, answers, strict=False) if error is not None]

        def call():
            return [(op.msg, type(error)) for op, error in self.queue.enqueue_many(ops)]

        return self.both(closed or refused, call)[1]

    # ---- taking

    def take(self, call, expected):
        """Rows that are handed out at once; `call` returns one, or a list."""

        def rows():
            answer = call()
            return answer if isinstance(answer, list) else [answer]

        answer, texts = self.both(expected, rows)
        if isinstance(answer, list):
            self.hold(expected, answer)
        return texts

    def dequeue(self, limit=None):
        if limit is None:
            return self.take(lambda: self.queue.dequeue(0), self.model.dequeue(1))
        return self.take(lambda: self.queue.dequeue_many(limit, 0), self.model.dequeue(limit))

    def drain(self):
        return self.take(self.queue.drain, self.model.drain())

    def iterate(self):
        """Only where there is no need to wait."""
        self.model.advance()
        over = self.model.closed and self.model.idle()
        if not self.model.ready and not over:
            return None
        expected = StopIteration if over else self.model.dequeue(1)
        return self.take(lambda: next(iter(self.queue)), expected)

    def process(self, error):
        expected = self.model.dequeue(1)

        def work(row):
            if error is not None:
                self.cyclic = True
                raise error("no")
            row.finish_all("processed")

        if isinstance(expected, list):
            self.leave_block(expected[0], "processed" if error is None else error)
            expected = True if error is None else error
        elif expected is inflight.QueueClosedError:
            expected = False
        return self.both(expected, lambda: self.queue.process(work, 0))[1]

    def leave_block(self, row, ended=None):
        """What leaving `with row:` does in the model; `ended` is what its operations end with, if it is not None."""
        if ended is StopIteration:
            ended = RuntimeError
        elif ended is KeyboardInterrupt:
            ended = inflight.OpCancelledError
        for op in row.ops if ended is not None else ():
            op.try_finish(ended)
        if self.model.exclusive and not row.released:
            self.model.release(row.key)

    # ---- rows that were handed out

    def release(self, number, twice):
        row, real = self.held[number]
        self.leave_block(row)
        row.released = True
        for _ in range(1 + twice):
            real.release()

    def let_go(self, number):
        """Drop a row, released or not."""
        row, real = self.held.pop(number)
        self.leave_block(row)
        watched = weakref.ref(real)
        del real
        assert watched() is None

    def with_row(self, number, error, in_task):
        row, real = self.held.pop(number)

        def work():
            if error is not None:
                self.cyclic = True
                raise error("no")

        def block():
            with real:
                work()

        async def async_block():
            async with real:
                work()

        # What a coroutine makes of a StopIteration is the interpreter's business.
        in_task = in_task and error is not StopIteration
        self.leave_block(row, error)
        return self.both(error, (lambda: at_once(async_block())) if in_task else block)[1]

    def look_at_row(self, number, start, stop):
        row, real = self.held[number]
        numbers = [op.number for op in row.ops]
        ops = list(real)
        assert [op.msg for op in ops] == numbers
        assert (len(real), repr(real.key)) == (len(numbers), repr(row.key))
        assert real[start:stop] == tuple(ops[start:stop])
        assert list(reversed(real)) == ops[::-1]
        assert [(real.index(op), real.count(op), op in real) for op in ops] == [(i, 1, True) for i in range(len(ops))]
        assert (real.count(None), None in real) == (0, False)
        expected, _ = outcome_of(lambda: numbers[start])
        answer, text = outcome_of(lambda: real[start].msg)
        assert answer == expected
        return text, repr(real)

    def finish_row(self, number, results):
        """All alike, with a result or an error, or each with its own: None for an error."""
        row, real = self.held[number]
        if results == "all":
            count = sum(op.try_finish("all") for op in row.ops)
            return self.both(count, lambda: real.finish_all("all"))[1]
        if results == "error":
            count = sum(op.try_finish(ValueError) for op in row.ops)
            return self.both(count, lambda: real.finish_all(error=ValueError("no")))[1]
        if len(results) != len(row.ops):
            return self.both(ValueError, lambda: real.finish_each(results))[1]
        ended = [ValueError if result is None else result for result in results]
        count = sum(op.try_finish(end) for op, end in zip(row.ops, ended, strict=True))
        values = [ValueError("no") if result is None else result for result in results]
        return self.both(count, lambda: real.finish_each(values))[1]

    # ---- the rest

    def flush(self, *keys):
        return self.both(self.model.flush(*keys), lambda: self.queue.flush(*keys))[1]

    def close_queue(self, how="close"):
        if how == "close":
            self.queue.close()
        elif how == "with":
            with self.queue as entered:
                assert entered is self.queue
        else:
            assert at_once(self.queue.__aenter__()) is self.queue
            at_once(self.queue.__aexit__(None, None, None))
        self.model.close()

    def look(self, key):
        """At everything; brings the queue up to date."""
        queue, model = self.queue, self.model
        assert queue.stats() == model.stats()
        assert (queue.depth, queue.width) == (model.depth, model.width)
        if isinstance(queue, self.impl.OpWindow):
            assert (queue.window, queue.exclusive) == (model.window, model.exclusive)
        assert len(queue) == len(model.waiting)
        assert (key in queue) == model.contains(key)
        assert queue.closed == model.closed
        assert queue.join(0) == model.idle()
        return repr(queue)

    def look_up(self, keys):
        assert [key in self.queue for key in keys] == [self.model.contains(key) for key in keys]

    # ---- calls that wait

    def consume(self, number, kind, limit, timeout):
        waiter = Waiter()
        timeout = None if kind == "anext" else timeout
        begin = {
            "adequeue": lambda: self.queue.adequeue(timeout),
            "adequeue_many": lambda: self.queue.adequeue_many(limit, timeout),
            "anext": lambda: aiter(self.queue).__anext__(),
            "aprocess": lambda: self.queue.aprocess(work, timeout),
        }[kind]

        async def work(row):
            call.working[1] = future = self.loop.create_future()
            await future
            row.finish_all("worked")

        def ask(last):
            answer = self.model.get(waiter, limit if kind == "adequeue_many" else 1, last)
            if isinstance(answer, list) and kind == "aprocess":
                call.working = [answer[0], None]
                return WAIT
            return answer

        def conclude(expected, answer):
            if expected is inflight.QueueClosedError:
                expected = {"anext": StopAsyncIteration, "aprocess": False}.get(kind, expected)
            if isinstance(expected, list):
                answer = answer if isinstance(answer, list) else [answer]
            assert shape(answer) == shape(expected)
            if isinstance(expected, list):
                self.hold(expected, answer)

        call = Call(self, waiter, timeout, ask, begin, conclude)
        self.start(number, call)

    def cancel(self, number):
        call = self.calls[number]
        call.task.cancel()
        if call.working is None:
            # It is not resumed yet, but waits for nothing any more.
            self.model.leave(call.waiter)

    def work_done(self, number):
        future = self.calls[number].working[1]
        if not future.done():
            future.set_result(None)

    def worked(self, call, ended):
        """The work of an `aprocess` is over."""
        self.leave_block(call.working[0], ended)
        self.cyclic |= call.cancelled
        call.working = None
        return True

    def produce(self, number, key, submit, timeout, keep):
        waiter = Waiter(key)
        ours = self.op(key, number)
        real = [] if submit else [self.watch(self.impl.Op(key, number))]
        if submit:
            # Nobody has it before it is accepted.
            self.live.remove(ours)

        def begin():
            if submit:
                return self.queue.asubmit(key, number, timeout=timeout)
            return self.queue.aenqueue(key, real.pop(), timeout=timeout)

        def conclude(expected, answer):
            if submit and expected is None:
                self.live.append(ours)
                self.watch(answer)
                if keep:
                    self.ops[number] = answer
                answer = None
            assert answer is expected

        def ask(last):
            return self.model.put(waiter, key, ours, last)

        self.start(number, Call(self, waiter, timeout, ask, begin, conclude, None if submit else ours))

    def join(self, number, timeout):
        waiter = Waiter()

        def conclude(expected, answer):
            assert answer is expected

        def ask(last):
            return self.model.join(waiter, last)

        self.start(number, Call(self, waiter, timeout, ask, lambda: self.queue.ajoin(timeout), conclude))

    # ---- the end

    def conclude(self, drop):
        """To the end, or everything dropped as it is: nothing is lost, and nothing is left."""
        self.end()
        self.settle()
        stats = self.queue.stats()
        assert (stats.consumers_waiting, stats.producers_waiting) == (0, 0)
        if not drop:
            self.close_queue()
            while self.held or self.model.waiting:
                self.drain()
                for number in list(self.held):
                    self.let_go(number)
                self.settle()
            self.both(inflight.QueueClosedError, lambda: self.queue.dequeue(0))
            self.look(None)
        queue = weakref.ref(self.queue)
        self.held.clear()
        self.ops.clear()
        self.model.waiting.clear()
        self.queue = None
        if self.cyclic:
            gc.collect()
        assert queue() is None
        self.settle()
        assert not self.live
