"""Groups and operations and their models, given the same calls: see machine.py.

Besides the groups there is a queue without bounds, so that rows hold operations of many groups and of none. What
reducers and callbacks do is drawn: they return, raise, or come back to what they are called by.
"""

from __future__ import annotations

import weakref
from asyncio import CancelledError

from machine import Call, Side, at_once, ending, outcome_of
from model_groups import Group
from model_waits import WAIT

import inflight
from inflight._invariants import check_invariants

KINDS = ("quiet", "raises", "comes back")


class GroupSide(Side):
    """One implementation's groups and operations, and the models that follow them."""

    def __init__(self, impl, clocks):
        super().__init__(impl, clocks)
        self.queue = impl.OpQueue(None, None)
        self.rows = []  # the model's operations that wait in the queue, by key
        self.groups = {}  # by number: the model's and the real one
        self.ours = {}  # the model's operations, by number: those that the test keeps

    def held_ops(self):
        return super().held_ops().union(op.number for row in self.rows for op in row)

    def settle(self):
        super().settle()
        check_invariants(self.queue)
        assert self.events == self.log
        self.events.clear()
        self.log.clear()

    def both_sides(self, number):
        return self.ours[number], self.ops[number]

    # ---- groups

    def make_group(self, number, kind):
        def ours(group):
            self.log.append(("reduced", number, [op.outcome for op in group.ops]))
            if kind == "comes back":
                self.log.append(("came back", group.add(), group.done, group.outstanding()))

        ours = Group(ours)
        ours.raises = kind == "raises"
        this = None

        def reduce(results):
            # The results have the operations, and these have the group: nothing of it is kept here.
            self.events.append(("reduced", number, [ending(op) for op, _, _ in results.responses]))
            if kind == "comes back":
                group = this()
                answer, _ = outcome_of(lambda: group.add_many([]))
                self.events.append(("came back", answer, group.done(), group.outstanding))
                assert outcome_of(lambda: group.result(0))[0] is RuntimeError
            if kind == "raises":
                raise ValueError("reducer")

        real = self.impl.CallGroup(reduce)
        this = weakref.ref(real)
        self.groups[number] = ours, real

    def drop_group(self, number):
        del self.groups[number]

    def add(self, group, number, keys, many):
        ours, real = self.groups[group]
        numbers = range(number, number + len(keys))
        added = [self.op(key, each, ours) for key, each in zip(keys, numbers, strict=True)]
        expected = ours.add(*added)

        def call():
            if many:
                return real.add_many(zip(keys, numbers, strict=True))
            return [real.add(key, each) for key, each in zip(keys, numbers, strict=True)]

        answer, text = outcome_of(call)
        if expected is not None:
            assert answer is expected
            self.live = [op for op in self.live if op not in added]
            return text
        for op, mine in zip(answer, added, strict=True):
            self.keep(mine, self.watch(op))
        return None

    def keep(self, ours, real):
        self.ours[ours.number] = ours
        self.ops[ours.number] = real

    def seal(self, group):
        ours, real = self.groups[group]
        ours.seal()
        real.seal()

    def hold(self, group, enter, in_task):
        ours, real = self.groups[group]
        calls = {
            (True, False): lambda: real.__enter__() and None,
            (True, True): lambda: at_once(real.__aenter__()) and None,
            (False, False): lambda: real.__exit__(None, None, None),
            (False, True): lambda: at_once(real.__aexit__(None, None, None)),
        }
        return self.both(ours.enter() if enter else ours.exit(), calls[enter, in_task])[1]

    def look(self, group):
        ours, real = self.groups[group]
        assert (real.outstanding, len(real), real.done()) == (ours.outstanding(), len(ours.ops), ours.done)
        answer, text = outcome_of(lambda: real.result(0))
        if not ours.done:
            assert answer is TimeoutError
        elif ours.raises:
            assert answer is ValueError
        else:
            self.look_at_results(ours, answer)
        return text, repr(real)

    def look_at_results(self, ours, results):
        expected = [(op.number, op.outcome) for op in ours.ops]
        assert [
            (op.msg, result if error is None else type(error)) for op, result, error in results.responses
        ] == expected
        assert [type(error) for error in results.errors] == [op.outcome for op in ours.ops if type(op.outcome) is type]
        last = {op.key: op.number for op in ours.ops}
        assert list(results) == list(last)
        assert [response.op.msg for response in results.values()] == list(last.values())
        assert [results[key].op.msg for key in last] == list(last.values())
        assert len(results) == len(last)
        raised = ()
        try:
            results.raise_for_errors()
        except BaseExceptionGroup as group:
            raised = group.exceptions
        assert [type(error) for error in raised] == [type(error) for error in results.errors]

    # ---- operations

    def make_op(self, number, key):
        self.keep(self.op(key, number), self.watch(self.impl.Op(key, number)))

    def finish(self, number, how):
        ours, real = self.both_sides(number)
        if how == "cancel":
            return self.both(ours.try_finish(inflight.OpCancelledError), real.cancel)[1]
        if how == "try":
            return self.both(ours.try_finish("tried"), lambda: real.try_finish("tried"))[1]
        if how == "error":
            return self.both(ours.finish(ValueError), lambda: real.finish(error=ValueError("no")))[1]
        if how == "try error":
            return self.both(ours.try_finish(ValueError), lambda: real.try_finish(error=ValueError("no")))[1]
        return self.both(ours.finish("result"), lambda: real.finish("result"))[1]

    def look_at_op(self, number):
        ours, real = self.both_sides(number)
        failed = type(ours.outcome) is type
        assert real.done() == (ours.outcome is not None)
        assert real.cancelled() == (ours.outcome is inflight.OpCancelledError)
        answer, text = outcome_of(lambda: real.result(0))
        assert answer == (TimeoutError if ours.outcome is None else ours.outcome)
        answer, _ = outcome_of(lambda: real.exception(0))
        assert (type(answer) is ours.outcome) if failed else answer in (None, TimeoutError)
        return text, repr(real)

    def drop(self, number):
        del self.ours[number]
        super().drop(number)

    # ---- callbacks, of operations and of groups

    def call_back(self, number, kind, of_group, other):
        """`other`: an operation that one that comes back finishes."""
        ours, real = self.groups[number] if of_group else self.both_sides(number)
        mine, its = self.both_sides(other) if kind == "comes back" else (None, lambda: None)
        its = its if mine is None else weakref.ref(its)

        def expected(subject):
            self.log.append(("called back", number, of_group, subject.outstanding() if of_group else None))
            if mine is not None:
                mine.try_finish("called back")

        def callback(subject):
            self.events.append(("called back", number, of_group, subject.outstanding if of_group else None))
            if kind == "raises":
                raise ValueError("callback")
            op = its()
            if op is not None:
                op.try_finish("called back")

        over = ours.done if of_group else ours.outcome is not None
        real.add_done_callback(callback)
        expected(ours) if over else ours.callbacks.append(expected)

    # ---- rows that hold operations of many groups

    def enqueue(self, number):
        ours, real = self.both_sides(number)
        for row in self.rows:
            if row[0].key == ours.key:
                row.append(ours)
                break
        else:
            self.rows.append([ours])
        self.queue.enqueue(ours.key, real)

    def work(self, how):
        """Take a row and finish it, or drop it, or fail."""
        if not self.rows:
            return
        row, real = self.rows.pop(0), self.queue.dequeue(0)
        assert [op.msg for op in real] == [op.number for op in row]
        held = self.held_ops()
        if how == "drop" and sum(op.outcome is None and op.number not in held for op in row) > 1:
            # In which order a row drops its operations is nobody's business.
            how = "all"
        if how == "all":
            assert real.finish_all("all") == sum(op.try_finish("all") for op in row)
        elif how == "each":
            results = [ValueError("no") if op.number % 2 else op.number for op in row]
            ended = [ValueError if op.number % 2 else op.number for op in row]
            count = sum(op.try_finish(end) for op, end in zip(row, ended, strict=True))
            assert real.finish_each(results) == count
        elif how == "fail":
            real.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
            for op in row:
                op.try_finish(inflight.OpCancelledError)

    # ---- calls that wait

    def wait(self, call, subject, of_group):
        ours, real = self.groups[subject] if of_group else self.both_sides(subject)
        real = [real]

        def ask(_):
            if not (ours.done if of_group else ours.outcome is not None):
                return WAIT
            return (ValueError if ours.raises else "results") if of_group else ours.outcome

        def conclude(expected, answer):
            if isinstance(answer, inflight.Results):
                self.look_at_results(ours, answer)
                answer = "results"
            assert answer == expected

        self.start(call, Waiting(self, ask, lambda: real.pop(), conclude, None if of_group else ours))

    def conclude(self, drop):
        """The end: operations that are dropped have ended, and then the groups that nobody holds."""
        self.end()
        self.settle()
        for ours, real in [] if drop else self.groups.values():
            while ours.holds:
                ours.exit()
                real.__exit__(None, None, None)
        while self.rows:
            self.work("drop")
            self.settle()
        for number in list(self.ops):
            self.drop(number)
            self.settle()
        assert not self.live
        for ours, real in self.groups.values():
            assert (real.outstanding, real.done()) == (0, ours.done)
            assert ours.done or ours.holds or not (ours.ops or ours.sealed)


class Waiting(Call):
    """A call that waits for an operation or a group: for ever, and in no line."""

    def __init__(self, side, ask, begin, conclude, op):
        super().__init__(side, None, None, ask, begin, conclude, op)

    def expected(self, error):
        return CancelledError if error is not None else self.ask(False)

    def forgotten(self):
        return self.ask(False) is not WAIT

    promised = forgotten
