"""Groups: calls that run into each other.

See racing.py: each race is repeated until every order of events has been seen, and until it has been
counted (witness.py) that the two met. An order that never occurs within the time limit fails the test:
it would prove nothing.
"""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from helpers import HANG, Worker, run_concurrently
from racing import race, run_both

from inflight import (
    GroupClosedError,
    OpAbandonedError,
)

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")


def test_add_against_the_last_finish(impl, witness, rounds):
    def round_(spin):
        calls = []
        group = impl.CallGroup(calls.append)
        op = group.add(1)

        def finish():
            spin(0)
            op.finish()

        def add():
            spin(1)
            try:
                return group.add(2)
            except GroupClosedError:
                return None

        added = run_both(finish, add)[1]
        assert len(calls) == (1 if added is None else 0)
        if added is not None:
            added.finish()
        assert len(calls) == 1
        assert len(calls[0].responses) == len(group)
        return added is None

    race(True, False, round_, 120 * rounds, lambda: witness.unseen("ENROLLED_LATE"))


def test_add_against_seal(impl, witness, rounds):
    def round_(spin):
        calls = []
        group = impl.CallGroup(calls.append)

        def seal():
            spin(0)
            group.seal()

        def add():
            spin(1)
            try:
                return group.add(2)
            except GroupClosedError:
                return None

        added = run_both(seal, add)[1]
        if added is not None:
            assert not calls
            added.finish()
        assert len(calls) == 1
        return added is None

    race(True, False, round_, 120 * rounds, lambda: witness.unseen("ENROLLED_LATE"))


def test_seal_against_the_last_finish(impl, rounds):
    def round_(spin):
        calls = []
        group = impl.CallGroup(lambda results: calls.append(threading.get_ident()))
        with group:
            op = group.add(1)

            def finish():
                spin(0)
                op.finish()
                return threading.get_ident()

            # The main thread leaves the block while the worker finishes.
            worker = Worker(finish)
            spin(1)
        finisher = worker.result()
        group.result(HANG)
        assert len(calls) == 1
        return "worker" if calls[0] == finisher else "block"

    race("block", "worker", round_, 120 * rounds)


def test_leaving_the_last_block_against_entering_another(impl, rounds):
    def round_(spin):
        calls = []
        group = impl.CallGroup(calls.append)
        group.__enter__()
        group.add(1).finish()

        def leave():
            spin(0)
            group.__exit__(None, None, None)
            return len(calls)

        def enter():
            spin(1)
            try:
                group.__enter__()
            except GroupClosedError:
                return False
            # The other block was not the last, so that it has not sealed.
            group.add(2).finish()
            group.__exit__(None, None, None)
            return True

        completed, entered = run_both(leave, enter)
        assert len(calls) == 1
        assert len(calls[0].responses) == 1 + entered
        assert completed or entered
        return not entered

    race(True, False, round_, 500 * rounds)


def test_many_adders_and_finishers_complete_once(impl):
    calls = []
    group = impl.CallGroup(calls.append)
    total = 400

    def add_and_finish(me):
        with group:
            for number in range(total):
                group.add((me, number)).finish(me)

    with group:
        run_concurrently([lambda me=me: add_and_finish(me) for me in range(4)])
        assert group.outstanding == 0
        assert not calls
    assert len(calls) == 1
    assert len(calls[0].responses) == 4 * total
    assert Counter(response.result for response in calls[0].responses) == dict.fromkeys(range(4), total)


def test_drop_against_finish(impl):
    """Operations of one group are finished in one thread while others are dropped in another."""
    for _ in range(20):
        calls = []
        group = impl.CallGroup(calls.append)
        with group:
            finished = group.add_many((number, None) for number in range(50))
            dropped = group.add_many((number, None) for number in range(50))

        def finish(finished=finished):
            for op in finished:
                op.finish()

        run_both(finish, dropped.clear)
        group.result(HANG)
        assert len(calls) == 1
        assert len(calls[0].responses) == 100
        assert [type(error) for error in calls[0].errors] == [OpAbandonedError] * 50


def test_steps_of_a_group_that_are_overtaken_are_done_again(impl, witness, rounds):
    for _ in witness.until("STEP_REPEATED", rounds=3 * rounds):
        group = impl.CallGroup()

        def add_and_finish(group=group):
            for number in range(500):
                group.add(number).finish()

        with group:
            run_both(add_and_finish, add_and_finish)
        assert len(group.result(0).responses) == 1000


def test_completion_against_a_result_that_times_out(impl, witness, rounds):
    def round_(spin):
        group = impl.CallGroup()
        op = group.add(1)

        def wait():
            spin(1)
            try:
                return len(group.result(0.0002).responses)
            except TimeoutError:
                return "timeout"

        def finish():
            spin(0)
            op.finish()

        answer = run_both(wait, finish)[0]
        assert len(group.result(0).responses) == 1
        return answer

    race(1, "timeout", round_, 120 * rounds, lambda: witness.unseen("PARKED"))


def test_completion_against_add_done_callback(impl, witness, rounds):
    def round_(spin):
        group = impl.CallGroup()
        op = group.add(1)
        calls = []

        def finish():
            spin(0)
            op.finish()
            return threading.get_ident()

        def add():
            spin(1)
            group.add_done_callback(lambda group: calls.append(threading.get_ident()))

        finisher = run_both(finish, add)[0]
        assert len(calls) == 1
        return "finished last" if calls[0] == finisher else "added last"

    race("added last", "finished last", round_, 120 * rounds, lambda: witness.unseen("CALLBACK_LATE"))


def test_add_and_finish_and_seal(impl, witness, rounds):
    """Whatever comes first of the three, the group completes once, with all that was added."""

    def round_(spin):
        calls = []
        group = impl.CallGroup(calls.append)
        op = group.add(1)

        def add():
            spin(1)
            try:
                group.add(2).finish()
                return True
            except GroupClosedError:
                return False

        def seal():
            spin(0)
            group.seal()

        added = run_concurrently([add, op.finish, seal])[0]
        assert len(calls) == 1
        assert len(calls[0].responses) == len(group) == 1 + added
        return added

    race(False, True, round_, 120 * rounds, lambda: witness.unseen("ENROLLED_LATE"))


LOOKS = {
    "responses": lambda results: results.responses,
    "errors": lambda results: results.errors,
    "item": lambda results: results["a"],
    "iteration": list,
    "items": lambda results: list(results.items()),
    "len": len,
    "repr": repr,
}


@pytest.mark.parametrize("reduced", [False, True])
def test_first_looks_at_results_meet(impl, rounds, reduced):
    """What is made, or fetched from the group, for the first look is the same for all who look at once."""
    error = ValueError("failed")
    entries = [("a", 1), ("b", 2), ("a", 3), *((key, key) for key in range(20))]
    names = [*LOOKS]
    for number in range(60 * rounds):
        passed = []
        group = impl.CallGroup(passed.append)
        with group:
            for key, msg in entries:
                # Nobody else has it then, so that the group may stow it away.
                group.add(key, msg).finish(msg, error=error if key == "b" else None)
        results = passed[0] if reduced else group.result(0)
        del group, passed

        # Each look is the first in turn, of two threads at once.
        def look(start, results=results, number=number):
            turn = (number + start) % len(names)
            return {name: LOOKS[name](results) for name in names[turn:] + names[:turn]}

        answers = run_concurrently([lambda start=start, look=look: look(start) for start in (0, 0, 1, 2)])
        responses = answers[0]["responses"]
        assert [(op.key, op.msg) for op, _, _ in responses] == entries
        assert [result for _, result, _ in responses] == [None if key == "b" else msg for key, msg in entries]
        by_key = {response.op.key: response for response in responses}
        for seen in answers:
            assert seen["responses"] == responses
            assert seen["errors"] == (error,)
            assert seen["item"] == responses[2]
            assert seen["iteration"] == list(by_key)
            assert seen["items"] == list(by_key.items())
            assert seen["len"] == 22
            assert seen["repr"] == "<Results of 23 operations, 1 failed>"


def test_drop_of_a_group_against_the_last_finish(impl, rounds):
    for _ in range(100 * rounds):
        calls = []
        group = impl.CallGroup(calls.append)
        op = group.add(1)
        held = [[group], [op.finish]]
        del group, op
        run_both(held[0].clear, lambda held=held: held[1].pop()(5))
        assert [response.result for results in calls for response in results.responses] == [5]


def test_drop_of_a_queue_with_rows_against_finish(make_queue, rounds):
    """Each operation ends once: finished by the one thread, or abandoned with the queue by the other."""
    for _ in range(50 * rounds):
        calls = []
        group = make_queue.impl.CallGroup(calls.append)
        queue = make_queue()
        ended = []
        # Only the queue has them, and the calls that finish them.
        finishers = []
        with group:
            for number in range(10):
                op = group.add(number)
                op.add_done_callback(lambda op, ended=ended: ended.append(op.key))
                queue.enqueue(number, op)
                finishers.append(op.try_finish)
            del op
        held = [queue]
        del queue

        def finish(finishers=finishers):
            while finishers:
                finishers.pop()()

        run_both(held.clear, finish)
        assert len(group.result(HANG).responses) == 10
        assert len(calls) == 1
        assert sorted(ended) == list(range(10))
