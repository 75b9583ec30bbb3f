"""Operations: calls that run into each other.

See racing.py: each race is repeated until every order of events has been seen, and until it has been
counted (witness.py) that the two met. An order that never occurs within the time limit fails the test:
it would prove nothing.
"""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from helpers import HANG, run_concurrently, wait_until
from racing import race, run_both

from inflight import (
    AlreadyFinishedError,
    OpAbandonedError,
)

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")


def test_finish_against_finish(impl, witness, rounds):
    def round_(spin):
        op = impl.Op(1)
        calls = []
        op.add_done_callback(calls.append)

        def finish(side):
            spin(side)
            return op.try_finish(side)

        won = run_both(lambda: finish(0), lambda: finish(1))
        assert sorted(won) == [False, True]
        assert won[op.result(0)]
        assert calls == [op]
        return op.result(0)

    race(0, 1, round_, 120 * rounds, lambda: witness.unseen("FINISHED_SECOND"))


def test_many_finishers_of_many_operations(impl):
    ops = [impl.Op(number) for number in range(2000)]

    def finish(me):
        won = 0
        for op in ops:
            try:
                op.finish(me)
                won += 1
            except AlreadyFinishedError:
                pass
        return won

    won = run_concurrently([lambda me=me: finish(me) for me in range(4)])
    assert sum(won) == len(ops)
    assert Counter(op.result(0) for op in ops) == Counter({me: number for me, number in enumerate(won) if number})


def test_finish_against_add_done_callback(impl, witness, rounds):
    def round_(spin):
        op = impl.Op(1)
        calls = []

        def finish():
            spin(0)
            op.finish()
            return threading.get_ident()

        def add():
            spin(1)
            op.add_done_callback(lambda op: calls.append(threading.get_ident()))
            return threading.get_ident()

        finisher, adder = run_both(finish, add)
        assert len(calls) == 1
        assert calls[0] in (finisher, adder)
        return "finished last" if calls[0] == finisher else "added last"

    race("added last", "finished last", round_, 120 * rounds, lambda: witness.unseen("CALLBACK_LATE"))


def test_finish_against_result(impl, witness, rounds):
    def round_(spin):
        op = impl.Op(1)

        def wait():
            spin(0)
            early = op.done()
            assert op.result(HANG) == 5
            return early

        def finish():
            spin(1)
            op.finish(5)

        return run_both(wait, finish)[0]

    race(False, True, round_, 120 * rounds, lambda: witness.unseen("PARKED"))


def test_finish_against_a_result_that_times_out(impl, witness, rounds):
    def round_(spin):
        op = impl.Op(1)

        def wait():
            spin(1)
            try:
                return op.result(0.0002)
            except TimeoutError:
                return "timeout"

        def finish():
            spin(0)
            op.finish("result")

        answer = run_both(wait, finish)[0]
        assert op.result(0) == "result"
        return answer

    race("result", "timeout", round_, 120 * rounds, lambda: witness.unseen("PARKED"))


def test_drop_against_finish(impl, rounds):
    """Who is being finished is not abandoned, whoever gives up the last reference."""
    for _ in range(100 * rounds):
        ended = []
        op = impl.Op(1)
        op.add_done_callback(lambda op, ended=ended: ended.append(op.exception(0)))
        held = [[op], [op.finish]]
        del op
        run_both(held[0].clear, lambda held=held: held[1].pop()("done"))
        # The last reference may be given up in another thread than the one that ends it.
        wait_until(lambda ended=ended: ended)
        assert ended == [None]


def test_drop_against_the_drop_of_the_other_reference(impl, rounds):
    for _ in range(100 * rounds):
        ended = []
        op = impl.Op(1)
        op.add_done_callback(lambda op, ended=ended: ended.append(type(op.exception(0))))
        held = [[op], [op]]
        del op
        run_both(held[0].clear, held[1].clear)
        wait_until(lambda ended=ended: ended)
        assert ended == [OpAbandonedError]
