"""A queue grows to a hundred thousand keys, that lie close together or far apart, and is emptied again."""

from __future__ import annotations

import random
from collections import OrderedDict
from itertools import islice

import pytest

from inflight._invariants import check_invariants

MANY = 120_000
SPAN = 1 << 50


def at_random(pick):
    while True:
        yield pick.randrange(SPAN)


def runs(pick, length):
    """Consecutive ones from somewhere on, again and again."""
    while True:
        first = pick.randrange(SPAN)
        yield from range(first, first + length)


def tenants(pick):
    """Ten series, a key of each in turn."""
    firsts = [pick.randrange(SPAN) for _ in range(10)]
    return (first + i for i in range(MANY) for first in firsts)


PATTERNS = {
    "consecutive": lambda pick: iter(range(1000, SPAN)),
    "consecutive strings": lambda pick: map(str, range(MANY)),
    "at random": at_random,
    "runs of 10": lambda pick: runs(pick, 10),
    "runs of 50": lambda pick: runs(pick, 50),
    "runs of 1,000": lambda pick: runs(pick, 1000),
    "ten tenants": tenants,
    "every 16th": lambda pick: iter(range(0, SPAN, 16)),
    "every 1,000th": lambda pick: iter(range(0, SPAN, 1000)),
    "every 65,536th": lambda pick: iter(range(0, SPAN, 1 << 16)),
    "downwards": lambda pick: iter(range(0, -SPAN, -1)),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_every_key_is_found_and_handed_out_in_turn_while_it_grows_and_shrinks(impl, name):
    pick = random.Random(name)
    keys = list(dict.fromkeys(islice(PATTERNS[name](pick), MANY)))
    queue = impl.OpQueue(depth=None, width=None)
    ops = [impl.Op(0), impl.Op(1)]
    for op in ops:
        op.finish()
    waiting = OrderedDict()

    def put(key):
        op = pick.choice(ops)
        queue.enqueue(key, op)
        waiting.setdefault(key, []).append(op)

    def take(number):
        for _ in range(number):
            row = queue.dequeue()
            key, expected = waiting.popitem(last=False)
            assert row.key == key
            assert list(row) == expected

    # By steps that end here and there while the rows move: three in, one out, and some again that wait.
    steps = iter(keys)
    while batch := list(islice(steps, pick.randrange(5000, 20_000))):
        for key in batch:
            put(key)
        take(len(batch) // 3)
        for key in pick.sample(list(waiting), min(len(waiting), 300)):
            put(key)
            assert key in queue
        check_invariants(queue)
        assert len(queue) == len(waiting)
    gone = set(keys) - waiting.keys()
    assert not any(key in queue for key in islice(gone, 1000))
    while waiting:
        take(min(len(waiting), pick.randrange(5000, 20_000)))
        check_invariants(queue)
    assert len(queue) == 0
