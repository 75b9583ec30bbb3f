"""Random sequences of calls to both implementations, compared step by step with a model too simple to be wrong.

Calls that do not wait, and calls that wait as tasks: cancelled, timed out, woken and not yet run, at any moment.
By default a few seconds of always the same sequences. The long form takes as many steps as it is given, always
other ones, in rounds:

    python -m pytest tests/test_model.py --steps 1000000

A failure prints the shortest sequence of calls that shows it, and each round is named after its seed: to run it
again, give `--hypothesis-seed` the seed, and `--steps 1`.
"""

from __future__ import annotations

import gc
import logging
import math
import random

import pytest
from conftest import load
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from machine import Clocks
from machine_group import GroupSide
from machine_queue import QueueSide

STEPS = 50  # in one sequence
ROUND = 200  # sequences of one round of the long form

KEYS = st.sampled_from([1, 2, "a", "b", 1.0, ("c",), 2**64, None])
FEW = st.sampled_from([1, "a", 1.0])  # for producers, so that several wait with one key
BOUNDS = st.sampled_from([None, 1, 2, 3])
TIMEOUTS = st.sampled_from([None, None, 0, 0.5, 1, 2])
PICKS = st.integers(0, 1 << 16)


KINDS = st.sampled_from(["quiet", "raises", "comes back"])


def colliding(bits, top):
    """Ints whose home in the index is the block `top`, of as many blocks as fit `bits`, however small its table is."""
    spread = 0x9E3779B97F4A7C15
    blocks = [n for n in range(1 << 14) if (n * spread % 2**64) >> (64 - bits) == top]
    return [4 * block + slot for block in blocks for slot in range(4)]


# At the end of every table of up to 256 slots, from where the index goes on at its start, and at that; and some.
POOL = colliding(6, 63)[:60] + colliding(6, 0)[:60] + list(range(2000, 2060))
COLLIDING = st.sampled_from(POOL)


class Everything:
    """In place of what leaves out half of the rules in most sequences: those would find little in a few seconds."""

    def is_enabled(self, name):
        return True


class Machine(RuleBasedStateMachine):
    """Gives every side the same calls."""

    def __init__(self, impls, clocks):
        super().__init__()
        self._rules_strategy.enabled_rules_strategy = st.just(Everything())
        self.impls = impls
        self.clocks = clocks
        self.sides = []
        self.numbers = 0
        self.sound = True
        # In the end it may collect garbage, and need not look at all that was there before.
        gc.freeze()

    def number(self, count=1):
        self.numbers += count
        return self.numbers - count

    def each(self, step):
        """Take one step on every side. Where the models agree, so do the texts of errors.

        They need not: who of those that were woken together runs first is not promised.
        """
        self.sound = False
        alike = all(side.state() == self.sides[0].state() for side in self.sides)
        texts = [step(side) for side in self.sides]
        for side in self.sides:
            side.settle()
        assert not alike or all(each == texts[0] for each in texts), texts
        self.sound = True

    def pick(self, of, choice, step):
        """Take a step with one of the rows, operations or calls that every side has."""
        numbers = sorted(set.intersection(*(set(of(side)) for side in self.sides)))
        if numbers:
            self.each(lambda side: step(side, numbers[choice % len(numbers)]))

    def teardown(self):
        try:
            if self.sound and self.sides:
                self.each(lambda side: side.conclude(drop=self.numbers % 2))
        finally:
            for side in self.sides:
                side.close()

    # ---- what all machines have

    @rule(choice=PICKS)
    def drop_op(self, choice):
        self.pick(lambda side: side.ops, choice, lambda side, number: side.drop(number))

    @rule(choice=PICKS)
    def cancel_call(self, choice):
        self.pick(lambda side: side.calls, choice, lambda side, number: side.cancel(number))

    @rule(choice=PICKS)
    def cancel_promised(self, choice):
        """One that was woken, and has not run."""
        self.pick(lambda side: side.promised(), choice, lambda side, number: side.cancel(number))

    @rule()
    def turn(self):
        self.each(lambda side: side.step())

    @rule()
    def idle(self):
        self.each(lambda side: side.idle())

    @rule(seconds=st.sampled_from([0.25, 0.5, 1, 4]), idle=st.booleans())
    def advance(self, seconds, idle):
        self.clocks.advance(seconds)
        if idle:
            self.idle()

    advance_too = advance


class QueueMachine(Machine):
    """Every public call of a queue and its rows that one thread can make: what waits is awaited."""

    @initialize(
        depth=BOUNDS, width=BOUNDS, window=st.sampled_from([0, 1, 1, 2, math.inf]), exclusive=st.booleans(),
        plain=st.booleans(),
    )  # fmt: skip
    def make(self, **kind):
        self.sides = [QueueSide(impl, self.clocks, **kind) for impl in self.impls]

    @rule(key=KEYS, keep=st.booleans(), submit=st.booleans())
    def put(self, key, keep, submit):
        number = self.number()
        self.each(lambda side: side.put(key, number, keep, submit))

    @rule(keys=st.lists(KEYS, max_size=4))
    def put_many(self, keys):
        first = self.number(len(keys))
        self.each(lambda side: side.put_many(keys, first))

    @rule(limit=st.sampled_from([None, None, 1, 2, 3]))
    def dequeue(self, limit):
        self.each(lambda side: side.dequeue(limit))

    @rule(really=st.integers(0, 3))
    def drain(self, really):
        if really == 0:
            self.each(lambda side: side.drain())

    @rule()
    def iterate(self):
        self.each(lambda side: side.iterate())

    @rule(error=st.sampled_from([None, ValueError, KeyboardInterrupt]))
    def process(self, error):
        self.each(lambda side: side.process(error))

    @rule(choice=PICKS, twice=st.booleans())
    def release(self, choice, twice):
        self.pick(lambda side: side.held, choice, lambda side, number: side.release(number, twice))

    @rule(choice=PICKS)
    def let_go(self, choice):
        self.pick(lambda side: side.held, choice, lambda side, number: side.let_go(number))

    @rule(
        choice=PICKS,
        error=st.sampled_from([None, ValueError, KeyboardInterrupt, StopIteration]),
        in_task=st.booleans(),
    )
    def with_row(self, choice, error, in_task):
        self.pick(lambda side: side.held, choice, lambda side, number: side.with_row(number, error, in_task))

    @rule(choice=PICKS, start=st.integers(-3, 3), stop=st.none() | st.integers(-3, 3))
    def look_at_row(self, choice, start, stop):
        self.pick(lambda side: side.held, choice, lambda side, number: side.look_at_row(number, start, stop))

    @rule(
        choice=PICKS,
        results=st.sampled_from(["all", "error"]) | st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=3),
    )
    def finish_row(self, choice, results):
        self.pick(lambda side: side.held, choice, lambda side, number: side.finish_row(number, results))

    @rule(keys=st.lists(KEYS, max_size=1))
    def flush(self, keys):
        self.each(lambda side: side.flush(*keys))

    @rule(really=st.integers(0, 3), how=st.sampled_from(["close", "with", "async with"]))
    def close(self, really, how):
        if really == 0:
            self.each(lambda side: side.close_queue(how))

    @rule(key=KEYS)
    def look(self, key):
        self.each(lambda side: side.look(key))

    @rule(
        kind=st.sampled_from(["adequeue", "adequeue_many", "anext", "aprocess"]),
        limit=st.integers(1, 3),
        timeout=TIMEOUTS,
    )
    def consume(self, kind, limit, timeout):
        number = self.number()
        self.each(lambda side: side.consume(number, kind, limit, timeout))

    @rule(key=FEW, submit=st.booleans(), timeout=TIMEOUTS, keep=st.booleans())
    def produce(self, key, submit, timeout, keep):
        number = self.number()
        self.each(lambda side: side.produce(number, key, submit, timeout, keep))

    @rule(timeout=TIMEOUTS)
    def join(self, timeout):
        number = self.number()
        self.each(lambda side: side.join(number, timeout))

    # More of what makes everything else interesting.
    put_too = put_as_well = put
    consume_too = consume_as_well = consume
    produce_too = produce_as_well = produce
    advance_as_well = Machine.advance

    @rule(choice=PICKS)
    def work_done(self, choice):
        self.pick(
            lambda side: [number for number, call in side.calls.items() if call.working is not None],
            choice,
            lambda side, number: side.work_done(number),
        )


class GroupMachine(Machine):
    """Every public call of groups and operations that one thread can make."""

    @initialize()
    def make(self):
        self.sides = [GroupSide(impl, self.clocks) for impl in self.impls]

    @rule(kind=KINDS)
    def make_group(self, kind):
        number = self.number()
        self.each(lambda side: side.make_group(number, kind))

    @rule(choice=PICKS)
    def drop_group(self, choice):
        self.pick(lambda side: side.groups, choice, lambda side, group: side.drop_group(group))

    @rule(choice=PICKS, keys=st.lists(KEYS, min_size=1, max_size=4), many=st.booleans())
    def add(self, choice, keys, many):
        first = self.number(len(keys))
        self.pick(lambda side: side.groups, choice, lambda side, group: side.add(group, first, keys, many))

    add_too = add_as_well = add

    @rule(choice=PICKS)
    def seal(self, choice):
        self.pick(lambda side: side.groups, choice, lambda side, group: side.seal(group))

    @rule(choice=PICKS, enter=st.booleans(), in_task=st.booleans())
    def hold(self, choice, enter, in_task):
        self.pick(lambda side: side.groups, choice, lambda side, group: side.hold(group, enter, in_task))

    @rule(choice=PICKS)
    def look(self, choice):
        self.pick(lambda side: side.groups, choice, lambda side, group: side.look(group))

    @rule(key=KEYS)
    def make_op(self, key):
        number = self.number()
        self.each(lambda side: side.make_op(number, key))

    @rule(choice=PICKS, how=st.sampled_from(["result", "error", "try", "try error", "cancel"]))
    def finish(self, choice, how):
        self.pick(lambda side: side.ops, choice, lambda side, number: side.finish(number, how))

    @rule(choice=PICKS)
    def look_at_op(self, choice):
        self.pick(lambda side: side.ops, choice, lambda side, number: side.look_at_op(number))

    @rule(choice=PICKS, kind=KINDS, of_group=st.booleans(), other=PICKS)
    def call_back(self, choice, kind, of_group, other):
        if ops := sorted(self.sides[0].ops):
            self.pick(
                lambda side: side.groups if of_group else side.ops,
                choice,
                lambda side, number: side.call_back(number, kind, of_group, ops[other % len(ops)]),
            )

    @rule(choice=PICKS)
    def enqueue(self, choice):
        self.pick(lambda side: side.ops, choice, lambda side, number: side.enqueue(number))

    @rule(how=st.sampled_from(["all", "each", "fail", "drop"]))
    def work(self, how):
        self.each(lambda side: side.work(how))

    @rule(choice=PICKS, of_group=st.booleans())
    def wait(self, choice, of_group):
        call = self.number()
        self.pick(
            lambda side: side.groups if of_group else side.ops,
            choice,
            lambda side, number: side.wait(call, number, of_group),
        )


class IndexMachine(Machine):
    """Many keys that collide in the index, which come and go in any order."""

    @initialize(exclusive=st.booleans())
    def make(self, exclusive):
        kind = {"depth": None, "width": None, "window": 0, "exclusive": exclusive, "plain": True}
        self.sides = [QueueSide(impl, self.clocks, **kind) for impl in self.impls]

    @rule(keys=st.lists(COLLIDING, max_size=20) | st.lists(COLLIDING, min_size=20, max_size=60))
    def fill(self, keys):
        first = self.number(len(keys))
        self.each(lambda side: side.put_many(keys, first))

    @rule(limit=st.integers(1, 40))
    def dequeue(self, limit):
        self.each(lambda side: side.dequeue(limit))

    @rule(choices=st.lists(PICKS, min_size=1, max_size=8))
    def let_go(self, choices):
        for choice in choices:
            self.pick(lambda side: side.held, choice, lambda side, number: side.let_go(number))

    @rule()
    def look(self):
        self.each(lambda side: side.look_up(POOL))


def pytest_generate_tests(metafunc):
    """The implementations that were asked for, and the seeds: one in the short form, one for each round of the long."""
    config = metafunc.config
    asked = config.getoption("--impl")
    impls = ("pure",) if asked == "pure" else ("native", "pure")
    steps, first = config.getoption("--steps"), config.getoption("--hypothesis-seed", default=None)
    count = -(-steps // (STEPS * ROUND * 3)) or 1
    first = int(first) if first is not None else random.SystemRandom().randrange(10**9) if steps else 0
    cases = [pytest.param(impls, each, id=f"{'-'.join(impls)}-seed{each}") for each in range(first, first + count)]
    metafunc.parametrize(("impls", "number"), cases)


@pytest.fixture
def run(impls, number, request, monkeypatch, tmp_path):
    """Runs a state machine."""
    # It keeps notes, if not of its examples.
    set_hypothesis_home_dir(tmp_path)

    def run(machine, short):
        clocks = Clocks()
        clocks.install(monkeypatch)
        # What callbacks and reducers raise is logged, and a handler may keep what it logs.
        monkeypatch.setattr(logging.getLogger("inflight"), "disabled", True)

        @seed(number)
        def factory():
            return machine([load(name) for name in impls], clocks)

        run_state_machine_as_test(
            factory,
            settings=settings(
                max_examples=ROUND if request.config.getoption("--steps") else short,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                print_blob=False,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )

    yield run
    set_hypothesis_home_dir(None)


def test_queues(run):
    run(QueueMachine, short=300)


def test_groups_and_operations(run):
    run(GroupMachine, short=100)


def test_many_keys(run):
    run(IndexMachine, short=40)
