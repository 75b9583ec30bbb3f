"""Keys are any hashable objects, compared as a dict compares them, and cannot hurt the queue."""

from __future__ import annotations

import decimal
import enum
import fractions
import sys
import uuid

import pytest
from helpers import Key, keys, put, take_all

from inflight._invariants import check_invariants

# Around what fits a machine word in some way, and the modulus of the hash of ints.
INTS = sorted(
    {
        sign * (base + offset)
        for base in (0, 2**30, 2**31, 2**32, 2**60, 2**61 - 1, 2**62, 2**63, 2**64, 2 * (2**61 - 1), 10**30)
        for offset in (-2, -1, 0, 1, 2)
        for sign in (1, -1)
    }
)


class Colour(enum.Enum):
    RED = 1


class IntColour(enum.IntEnum):
    RED = 1


class MyStr(str):
    __slots__ = ()


class MyInt(int):
    pass


MIXED = [
    None,
    "",
    "a",
    b"a",
    (),
    ("a", 1),
    frozenset({1}),
    1.5,
    float("inf"),
    2j,
    ...,
    Colour.RED,
    uuid.UUID(int=5),
    int,
    len,
    object(),
    range(3),
    "é",
    "Ω",
    "😀",
    "\x00",
    "a\x00",
    "a" * 1000,
]


def test_any_hashable_is_a_key(make_queue):
    queue = make_queue()
    put(queue, *MIXED)
    put(queue, *MIXED)
    assert len(queue) == len(MIXED)
    assert all(key in queue for key in MIXED)
    rows = take_all(queue)
    assert keys(rows) == MIXED
    assert all(len(row) == 2 for row in rows)


def test_ints_of_every_size(make_queue):
    queue = make_queue()
    put(queue, *INTS)
    # Equal ints that are other objects.
    put(queue, *(int(str(key)) for key in INTS))
    assert len(queue) == len(INTS)
    assert all(int(str(key)) in queue for key in INTS)
    rows = take_all(queue)
    assert keys(rows) == INTS
    assert [type(row.key) for row in rows] == [int] * len(INTS)
    assert {len(row) for row in rows} == {2}
    assert not any(key in queue for key in INTS) or make_queue.exclusive


def test_ints_with_equal_hashes_are_different_keys(make_queue):
    modulus = 2**61 - 1
    numbers = [5, 5 + modulus, 5 + 2 * modulus, 5 + 2**61 - 1, -1, -2]
    assert hash(numbers[0]) == hash(numbers[1])
    assert hash(-1) == hash(-2)
    queue = make_queue()
    put(queue, *numbers)
    assert len(queue) == len(set(numbers))


@pytest.mark.parametrize(
    "equal",
    [
        (1, 1.0, True, MyInt(1), IntColour.RED, fractions.Fraction(1), decimal.Decimal(1), 1 + 0j),
        (0, 0.0, -0.0, False),
        (2**64, float(2**64), MyInt(2**64)),
        (2**53, float(2**53)),
        (-1, -1.0),
        ("text", MyStr("text")),
        ((1, 2), (1.0, 2.0)),
    ],
)
def test_equal_keys_of_different_types_are_one(make_queue, equal):
    for first in range(len(equal)):
        queue = make_queue()
        order = equal[first:] + equal[:first]
        for key in order:
            put(queue, key)
            assert all(other in queue for other in equal)
        assert len(queue) == 1
        row = queue.dequeue(0)
        # The first key object stays the row's.
        assert row.key == order[0]
        assert type(row.key) is type(order[0])
        assert len(row) == len(equal)


@pytest.mark.parametrize(
    "make",
    [
        (lambda: 1, lambda: float("1.0"), lambda: True, lambda: MyInt(1)),
        (lambda: 10**20, lambda: float("1e20"), lambda: MyInt(10**20), lambda: int("1" + "0" * 20)),
        (lambda: "!text!"[1:], lambda: MyStr("text!"), lambda: "text!!"[:-1]),
    ],
    ids=["small ints", "large ints", "strings"],
)
def test_merging_equal_keys_leaks_no_reference(impl, make_queue, make):
    op = impl.Op(1)
    op.finish()
    for make_first in make:
        for make_second in make:
            queue = make_queue()
            first, second = make_first(), make_second()
            queue.enqueue(first, op)
            before = sys.getrefcount(first), sys.getrefcount(second)
            for _ in range(50):
                queue.enqueue(second, op)
                assert second in queue
                queue.flush(second)
            after = sys.getrefcount(first), sys.getrefcount(second)
            # Others refer to small ints too: a leak is one reference for each merge.
            assert all(now - then < 25 for now, then in zip(after, before, strict=True))
            assert len(queue.dequeue(0)) == 51


@pytest.mark.instrumented
def test_equal_large_ints_are_one_key_near_the_recursion_limit(impl, make_queue):
    """A call may fail there, but it must not take them for different."""
    queue = make_queue()
    op = impl.Op(1)
    op.finish()
    key, twin = int("9" * 30), int("9" * 30)
    queue.enqueue(key, op)
    answers = set()

    def descend():
        try:
            answers.add(twin in queue)
            queue.enqueue(twin, op)
        except RecursionError:
            pass
        descend()

    with pytest.raises(RecursionError):
        descend()
    assert answers == {True}
    assert len(queue) == 1


def test_bool_keys_are_not_confused_with_other_ints(make_queue):
    queue = make_queue()
    put(queue, True, False, 2)
    assert len(queue) == 3
    assert 1 in queue
    assert 0 in queue


@pytest.mark.parametrize("text", ["latin", "latiné", "ucs2 Ω", "ucs4 😀", "", "\x00", "x" * 10_000])
def test_equal_strings_are_one_key_whatever_objects_they_are(make_queue, text):
    queue = make_queue()
    twins = [text, "".join(list(text)), text.encode("utf-8").decode("utf-8"), (text + "!")[:-1]]
    put(queue, *twins)
    assert len(queue) == 1
    assert all(twin in queue for twin in twins)
    for longer in (text + "\x00", text + "x"):
        assert longer not in queue
        put(queue, longer)
    assert len(queue) == 3


def test_strings_of_different_kinds_are_different_keys(make_queue):
    queue = make_queue()
    texts = ["a", "á", "Ω", "😀", "a\x00", "a\x00\x00", "aa"]
    put(queue, *texts)
    assert keys(take_all(queue)) == texts


def test_nan_is_compared_by_identity_first(make_queue):
    queue = make_queue()
    nan, other = float("nan"), float("nan")
    put(queue, nan, nan, other)
    rows = take_all(queue)
    assert [len(row) for row in rows] == [2, 1]


def test_a_string_subclass_with_its_own_equality(make_queue):
    class Odd(str):
        __slots__ = ()

        def __eq__(self, other):
            return False

        __hash__ = str.__hash__

    queue = make_queue()
    odd = Odd("a")
    put(queue, "a", odd, odd)
    rows = take_all(queue)
    assert [len(row) for row in rows] == [1, 2]


def test_colliding_hashes(make_queue):
    queue = make_queue()
    total = 60
    put(queue, *map(Key, range(total)))
    put(queue, *map(Key, reversed(range(total))))
    assert len(queue) == total
    rows = queue.dequeue_many(20)
    put(queue, *map(Key, range(total)))
    rest = take_all(queue)
    for row in rows:
        row.release()
    rest += take_all(queue)
    assert [row.key.name for row in rows + rest] == [*range(total), *range(20)]
    assert {len(row) for row in rest[:40]} == {3}
    check_invariants(queue)


def test_keys_that_differ_only_in_low_or_high_bits_of_their_hash(make_queue):
    queue = make_queue()
    numbers = [number << shift for shift in (0, 8, 16, 32, 48) for number in range(1, 200)]
    put(queue, *numbers)
    assert keys(take_all(queue)) == list(dict.fromkeys(numbers))


class Failing:
    """Its hash or its comparison fails on demand."""

    def __init__(self, fail_hash=False, fail_eq=False):
        self.fail_hash = fail_hash
        self.fail_eq = fail_eq

    def __hash__(self):
        if self.fail_hash:
            raise ZeroDivisionError("hash")
        return 7

    def __eq__(self, other):
        if self.fail_eq or getattr(other, "fail_eq", False):
            raise ZeroDivisionError("eq")
        return self is other


@pytest.mark.parametrize("bad", [Failing(fail_hash=True), Failing(fail_eq=True)])
def test_a_failing_key_fails_that_call_alone(impl, make_queue, bad):
    queue = make_queue(10, None)
    good = Failing()
    put(queue, good)
    op = impl.Op(1)
    for call in (
        lambda: queue.enqueue(bad, op),
        lambda: queue.submit(bad),
        lambda: queue.enqueue(bad, op, timeout=1),
        lambda: bad in queue,
    ):
        with pytest.raises(ZeroDivisionError):
            call()
        check_invariants(queue)
    assert not op.done()
    put(queue, good)
    stats = queue.stats()
    assert (stats.keys, stats.ops, stats.enqueued) == (1, 2, 2)
    assert len(queue.dequeue(0)) == 2


def test_flush_of_a_failing_key(impl, clock):
    queue = impl.OpWindow(None, None, 10)
    put(queue, Failing())
    with pytest.raises(ZeroDivisionError):
        queue.flush(Failing(fail_hash=True))
    with pytest.raises(ZeroDivisionError):
        queue.flush(Failing(fail_eq=True))
    assert queue.flush() == 1


def test_a_waiting_key_whose_comparison_begins_to_fail(make_queue):
    queue = make_queue()
    bad = Failing()
    put(queue, bad)
    bad.fail_eq = True
    with pytest.raises(ZeroDivisionError):
        put(queue, Failing())
    # Taken, and for an exclusive queue released, by identity.
    row = queue.dequeue(0)
    assert row.key is bad
    row.release()
    assert len(queue) == 0
    check_invariants(queue)
    put(queue, Failing())
    assert len(take_all(queue)) == 1


def test_a_waiting_key_whose_hash_changes(make_queue):
    class Shifty:
        number = 1

        def __hash__(self):
            return self.number

    queue = make_queue()
    key = Shifty()
    put(queue, key)
    key.number = 2
    put(queue, key)
    assert len(queue) == 2
    rows = take_all(queue)
    for row in rows:
        row.release()
    assert [row.key for row in rows] == [key, key]
    assert queue.join(0)
    check_invariants(queue)


def test_enqueue_many_with_a_failing_comparison_loses_nothing_accepted(impl, make_queue):
    queue = make_queue()
    bad = Failing()
    put(queue, bad)
    bad.fail_eq = True
    ops = [impl.Op("before"), impl.Op(Failing()), impl.Op("after")]
    with pytest.raises(ZeroDivisionError):
        queue.enqueue_many(ops)
    stats = queue.stats()
    rows = take_all(queue)
    assert sum(map(len, rows)) == stats.enqueued
    assert rows[0].key is bad
    assert not any(op.done() for op in ops)


class Reentrant:
    """Runs something when it is hashed or compared."""

    def __init__(self, number, on_hash=None, on_eq=None):
        self.number = number
        self.on_hash = on_hash
        self.on_eq = on_eq

    def __hash__(self):
        if self.on_hash:
            self.on_hash()
        return 7

    def __eq__(self, other):
        # Whichever side the queue puts it on.
        for side in (self, other):
            action = getattr(side, "on_eq", None)
            if action:
                side.on_eq = None
                action()
        return isinstance(other, Reentrant) and self.number == other.number


def test_a_hash_that_uses_the_queue(make_queue):
    queue = make_queue()
    key = Reentrant(1, on_hash=lambda: put(queue, "nested"))
    put(queue, key)
    rows = take_all(queue)
    assert rows[0].key == "nested"
    assert rows[1].key is key


def test_a_comparison_that_enqueues_the_same_key(make_queue):
    queue = make_queue()
    first = Reentrant(1)
    put(queue, first)
    put(queue, Reentrant(1, on_eq=lambda: put(queue, Reentrant(1), Reentrant(2))))
    rows = take_all(queue)
    assert [(row.key.number, len(row)) for row in rows] == [(1, 3), (2, 1)]
    check_invariants(queue)


def test_a_comparison_that_takes_the_row_it_compares_with(make_queue):
    queue = make_queue()
    first = Reentrant(1)
    put(queue, first)
    taken = []
    put(queue, Reentrant(1, on_eq=lambda: taken.append(queue.dequeue(0))))
    assert taken[0].key is first
    assert len(taken[0]) == 1
    taken[0].release()
    # The row was gone: a new one was made.
    (row,) = take_all(queue)
    assert row.key is not first
    assert len(row) == 1
    check_invariants(queue)


def test_a_comparison_that_fills_the_row_it_compares_with(make_queue):
    from inflight import QueueSaturatedWidthError

    queue = make_queue(None, 2)
    put(queue, Reentrant(1))
    with pytest.raises(QueueSaturatedWidthError):
        put(queue, Reentrant(1, on_eq=lambda: put(queue, Reentrant(1))))
    assert len(queue.dequeue(0)) == 2


def test_a_comparison_that_closes_the_queue(make_queue):
    from inflight import QueueClosedError

    queue = make_queue()
    put(queue, Reentrant(1))
    with pytest.raises(QueueClosedError):
        put(queue, Reentrant(1, on_eq=queue.close))
    assert len(queue.dequeue(0)) == 1


def test_a_comparison_that_grows_and_empties_the_index(make_queue):
    queue = make_queue()
    put(queue, *map(Reentrant, range(5)))

    def churn():
        put(queue, *range(1000))
        for row in queue.drain():
            row.release()

    put(queue, Reentrant(3, on_eq=churn))
    (row,) = take_all(queue)
    assert row.key.number == 3
    check_invariants(queue)


def test_a_lookup_whose_comparison_changes_the_queue(make_queue):
    queue = make_queue()
    put(queue, Reentrant(1))

    def take():
        for row in queue.drain():
            row.release()

    assert Reentrant(1, on_eq=take) not in queue
    assert len(queue) == 0


def test_a_comparison_that_never_agrees_with_the_state_it_saw_ends(make_queue):
    """Every comparison changes the queue; the call ends all the same once the keys are known."""
    queue = make_queue()
    put(queue, *map(Key, range(3)))
    count = 0

    class Restless(Key):
        __hash__ = Key.__hash__

        def __eq__(self, other):
            nonlocal count
            count += 1
            if count < 20:
                queue.submit(Key(100 + count))
            return super().__eq__(other)

    key = Restless(2)
    queue.submit(key)
    assert sum(len(row) for row in take_all(queue) if row.key.name == 2) == 2


def test_a_comparison_that_answers_with_something_odd(make_queue):
    class Answer:
        def __bool__(self):
            if truth is None:
                raise ZeroDivisionError("bool")
            return truth

    class Key:
        def __hash__(self):
            return 3

        def __eq__(self, other):
            return Answer()

    queue = make_queue()
    truth = False
    put(queue, Key(), Key())
    assert len(queue) == 2
    truth = True
    put(queue, Key())
    assert len(queue) == 2
    truth = None
    with pytest.raises(ZeroDivisionError):
        put(queue, Key())
    assert sum(len(row) for row in take_all(queue)) == 3


def test_mutable_messages_and_results_are_never_touched(impl, make_queue):
    class Untouchable:
        __hash__ = None

        def __eq__(self, other):
            raise AssertionError

        def __bool__(self):
            raise AssertionError

        def __repr__(self):
            raise AssertionError

    queue = make_queue()
    thing = Untouchable()
    op = queue.submit(1, thing)
    with queue.dequeue(0) as row:
        row.finish_each([thing])
    assert op.result() is thing
    assert op.msg is thing
