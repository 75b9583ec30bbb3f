"""What the state machines of test_model are made of: implementations, each with a model at its side.

A Side makes each call to its implementation and to its model, and compares the answers. Calls that wait are tasks
of a loop of its own with a clock that the test steps; the model is asked whenever that loop resumes one (Call). So
nothing is assumed about the order in which a loop runs what it was given, only that nobody is forgotten: once the
loop is idle, whoever still waits has nothing to wait for that is there.

Windows and timeouts are measured by clocks that show different times.
"""

from __future__ import annotations

import asyncio
import importlib
import math
import types
from asyncio import CancelledError

import aio
from helpers import FakeClock
from model_groups import Op
from model_waits import WAIT

import inflight

# Where the implementations look up the clock of their timeouts.
TIMED = ("_pure.engine", "_pure.outcome", "_pure.tasks", "_pure.waiters", "_native")

EXPECTED = (inflight.InflightError, CancelledError, IndexError, KeyboardInterrupt, RuntimeError, StopAsyncIteration,
            StopIteration, TimeoutError, ValueError)  # fmt: skip


class Clocks:
    """That of the windows, and that of the timeouts and the loops; far from each other and from the real one."""

    def __init__(self):
        self.windows, self.timeouts = FakeClock(), FakeClock()
        self.windows.now = 2.0**20
        self.timeouts.now = -(2.0**18)

    def advance(self, seconds):
        self.windows.advance(seconds)
        self.timeouts.advance(seconds)

    def install(self, monkeypatch):
        monkeypatch.setattr("inflight._clock.monotonic", self.windows)
        for name in TIMED:
            try:
                module = importlib.import_module(f"inflight.{name}")
            except ImportError:
                continue
            monkeypatch.setattr(module, "monotonic", self.timeouts)


class Loop(asyncio.SelectorEventLoop):
    """A loop in virtual time, which runs only when it is told, in the only thread there is."""

    def __init__(self, clock):
        self._clock = clock
        super().__init__()
        self.reports = aio.record_reports(self)

    def time(self):
        return self._clock.now

    def call_soon_threadsafe(self, callback, *arguments, context=None):
        return self.call_soon(callback, *arguments, context=context)

    def turn(self):
        """Run what it was given, and not what it is given by that; whether that was anything."""
        aio.run_once(self)
        return bool(self._ready)


def outcome_of(call):
    """What a call returns, or the type of what it raises; and the text of that."""
    try:
        return call(), ""
    except EXPECTED as error:
        return type(error), str(error)


def at_once(coroutine):
    """What is awaited, and need not wait, returns or raises."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def ending(op):
    """What an operation ended with: its result, or the type of its error."""
    error = op.exception(0)
    return op.result(0) if error is None else type(error)


def shape(answer):
    """Rows, the model's or real ones, as what can be compared."""
    if isinstance(answer, list):
        return [shape(row) for row in answer]
    if isinstance(answer, (type, bool, int, tuple, types.NoneType)):
        return answer
    numbers = [op.number if isinstance(op, Op) else op.msg for op in getattr(answer, "ops", answer)]
    return repr(answer.key), numbers


class Side:
    """One implementation, its loop and its model: what queues and groups have in common."""

    def __init__(self, impl, clocks):
        self.impl = impl
        self.clocks = clocks
        self.loop = Loop(clocks.timeouts)
        self.calls = {}  # that wait, by number
        self.ops = {}  # operations that the test keeps, by number
        self.live = []  # the model's operations that have not ended
        self.log = []  # what has happened, as the model has it
        self.events = []  # and as it was
        self.failures = []

    def op(self, key, number, group=None):
        """An operation of the model."""
        op = Op(self.log, key, number, group)
        self.live.append(op)
        return op

    def watch(self, op):
        """Have the end of a real operation recorded."""
        op.add_done_callback(self.record)
        return op

    def record(self, op):
        self.events.append(("finished", op.msg, ending(op)))

    def both(self, expected, call):
        """Make a call: what it answers must be what the model has answered. Its answer, and texts to compare."""
        answer, text = outcome_of(call)
        assert shape(answer) == shape(expected)
        return answer, (shape(expected), text)

    def start(self, number, call):
        self.calls[number] = call
        call.task = self.loop.create_task(call.run())

    def cancel(self, number):
        self.calls[number].task.cancel()

    def promised(self):
        """The calls that hold what they waited for, and have not run."""
        return [number for number, call in self.calls.items() if call.promised()]

    def turn(self):
        more = self.loop.turn()
        for number in [number for number, call in self.calls.items() if call.task.done()]:
            # Cancelled, the task has a traceback, and that may have the call.
            self.calls.pop(number).task = None
        return more

    def step(self):
        """One turn. Whether there is more to run then is no answer: implementations may differ in that."""
        self.turn()

    def idle(self):
        """Let the loop run for as long as there is anything to run: nobody may have been forgotten then."""
        assert any(not self.turn() for _ in range(1000)), "the loop never comes to rest"
        for call in self.calls.values():
            assert not call.forgotten(), "a call waits that should have ended"

    def state(self):
        """What may differ between sides because their loops have run things in another order."""
        return ()

    def drop(self, number):
        """Have an operation no more. If nobody else has it, it is abandoned, at once."""
        del self.ops[number]

    def held_ops(self):
        """The numbers of the operations that anybody has."""
        return {*self.ops, *(op.number for call in self.calls.values() for op in call.ops())}

    def settle(self):
        """The end of each step: operations that nobody has any more are abandoned, and all has happened alike."""
        held = self.held_ops()
        # Those that were dropped in one turn of the loop, in the order in which they were.
        order = [number for what, number, *_ in self.events if what == "finished"]
        dropped = [op for op in self.live if op.number not in held]
        for op in sorted(dropped, key=lambda op: order.index(op.number) if op.number in order else -1):
            op.abandon()
        self.live = [op for op in self.live if op.outcome is None]
        assert not self.failures, self.failures[0]
        assert not self.loop.reports, self.loop.reports

    def end(self):
        """Whoever waits is cancelled."""
        for number in self.calls:
            self.cancel(number)
        self.idle()
        assert not self.calls

    def close(self):
        """Also in the middle of a failure: no task is left that has not run."""
        for call in self.calls.values():
            call.task.cancel()
        for _ in range(1000):
            if not self.loop.turn():
                break
        self.loop.close()


class Call:
    """A call that waits, as a task. Each time that it is resumed, the model is asked what it will do."""

    def __init__(self, side, waiter, timeout, ask, begin, conclude, op=None):
        self.side, self.waiter, self.timeout = side, waiter, timeout
        self.ask = ask  # the model: ask(last)
        self.begin = begin  # the implementation: begin() is awaited
        self.conclude = conclude  # told the model's answer and the real one
        self.op = op  # the model's operation that it holds
        self.until = math.inf
        self.cancelled = False
        self.working = None  # the model's row, and what the work on it waits for

    async def run(self):
        try:
            await self.steps()
        except AssertionError as error:
            self.side.failures.append(error)

    @types.coroutine
    def steps(self):
        error = None
        if self.timeout is not None:
            self.until = self.side.clocks.timeouts.now + self.timeout
        iterator = self.begin().__await__()
        try:
            while True:
                expected = self.expected(error)
                try:
                    step = iterator.send(None) if error is None else iterator.throw(error)
                except StopIteration as end:
                    return self.conclude(expected, end.value)
                except EXPECTED as failure:
                    return self.conclude(expected, type(failure))
                assert expected is WAIT, f"suspended, instead of {shape(expected)}"
                error = None
                try:
                    yield step
                except CancelledError as thrown:
                    error = thrown
        finally:
            # Its traceback refers to this frame.
            del error, iterator

    def expected(self, error):
        if error is not None:
            self.cancelled = True
            if self.working is None:
                self.side.model.leave(self.waiter)
            else:
                self.side.worked(self, inflight.OpCancelledError)
            return CancelledError
        if self.working is not None:
            return self.side.worked(self, "worked")
        return self.ask(self.until <= self.side.clocks.timeouts.now)

    def forgotten(self):
        if self.working is not None:
            return self.working[1] is not None and self.working[1].done()
        return self.until <= self.side.clocks.timeouts.now or self.side.model.forgotten(self.waiter)

    def promised(self):
        return self.waiter.row is not None or self.waiter.over or self.waiter in self.side.model.granted

    def ops(self):
        if self.working is not None:
            return self.working[0].ops
        return [] if self.op is None else [self.op]
