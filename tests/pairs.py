"""Every pair of calls, at the same time, is worth what the two are one after the other.

A ``Call`` is something one side does to a fresh ``World``. ``contest`` runs the two in every legal
order on one thread, and then both at once on two threads, again and again: what comes out must be
what one of the orders gives, answers and final state; and where it matters who was first, each must
have been. The implementation is compared with itself, so this says nothing about what is right for
one thread: other tests do.

Most calls are one step. A few are a sequence by contract, and are written down as one: between
their steps the other call may come.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from helpers import GIL, HANG
from racing import LIMIT, Bout, Duo

Step = Callable[[], Any]
Steps = Callable[[], Iterator[Any]]

ROUNDS = 12
"""At least so many, for each pair; more until it has been seen what there is to see."""


@dataclass(frozen=True)
class Call:
    """What a side does. ``prepare(world, side)`` is done before, and returns the call itself."""

    name: str
    prepare: Callable[[Any, int], Step]
    # Where it is a sequence: makes the same of the steps. A step ends at each `yield`.
    steps: Callable[[Any, int], Steps] | None = None
    most_steps: int = 1
    # Its thread has to prepare it, since it gives up what must belong to that thread alone.
    alone: bool = False
    # It owns the world's first key, so the world does not.
    owns: bool = False
    # Only in worlds of these kinds.
    kinds: tuple[str, ...] = ()


def pairs(calls: list[Call], kinds: list[str]) -> list[tuple[str, Call, Call]]:
    """Every unordered pair, a call with itself included, in each kind of world where both can be."""
    return [
        (kind, first, second)
        for kind in kinds
        for first, second in itertools.combinations_with_replacement(calls, 2)
        if all(kind in call.kinds for call in (first, second))
    ]


def name(value: Any) -> str:
    kind, first, second = value
    return f"{first.name}-{second.name}-{kind}"


def answer_of(call: Step) -> Any:
    try:
        return call()
    except Exception as error:
        return error.with_traceback(None)


def in_order(make: Callable[[], Any], calls: tuple[Call, Call], order: tuple[int, ...]) -> Any:
    """What comes out if the sides do their steps in this order; ``None`` if there are no such steps."""
    world = make()
    plays: list[Iterator[Any]] = []
    answers: list[Any] = [None, None]

    def play(side: int, call: Call, prepared: Step) -> Iterator[Any]:
        def alone() -> Iterator[Any]:
            return prepared()
            yield

        steps = alone if call.steps is None else call.steps(world, side)
        try:
            answers[side] = yield from steps()
        except Exception as error:
            answers[side] = error.with_traceback(None)

    for side, call in enumerate(calls):
        # A sequence goes without the call that it stands for, but what that one prepares is there.
        plays.append(play(side, call, call.prepare(world, side)))
    world.begin()
    left = [True, True]
    for side in order:
        if not left[side]:
            return None
        try:
            next(plays[side])
        except StopIteration:
            left[side] = False
    if any(left):
        return None
    del plays
    return world.outcome(answers)


def legal_outcomes(make: Callable[[], Any], calls: tuple[Call, Call]) -> tuple[Any, Any, list[Any]]:
    """What comes out of first;second, of second;first, and of whatever their steps can be between."""
    counts = [call.most_steps for call in calls]
    wholes: list[Any] = [None, None]
    between = []
    for taken in itertools.product(*(range(1, count + 1) for count in counts)):
        total = sum(taken)
        for places in itertools.combinations(range(total), taken[0]):
            order = tuple(0 if place in places else 1 for place in range(total))
            outcome = in_order(make, calls, order)
            if outcome is None:
                continue
            if order == tuple(sorted(order)):
                wholes[0] = outcome
            elif order == tuple(sorted(order, reverse=True)):
                wholes[1] = outcome
            else:
                between.append(outcome)
    return wholes[0], wholes[1], between


def contest(
    make: Callable[[], Any],
    calls: tuple[Call, Call],
    duo: Duo,
    rounds: int,
    meeting: bool,
    unseen: Callable[[], list[str]] = list,
) -> Bout:
    """Race the two calls until the outcome of each order has been seen, and each has ended first.

    Without the GIL one must have begun before the other had ended, too; with it only where ``meeting`` is
    asked for and the order matters, since it happens rarely, and never where calls are compiled.
    """
    first, second, between = legal_outcomes(make, calls)
    seen = [False, False]
    end = time.monotonic() + LIMIT

    def prepare(world: Any, side: int) -> Step:
        prepared = calls[side].prepare(world, side)
        if side == 1:
            world.begin()
        return prepared

    def finish(world: Any, answers: list[Any]) -> int | None:
        outcome = world.outcome(answers)
        if outcome == first != second:
            seen[0] = True
            return 0
        if outcome == second != first:
            seen[1] = True
            return 1
        assert outcome == first or outcome in between, (
            f"neither order gives {outcome}: one after the other it is {first}, or {second}, or {between}"
        )
        return None

    def enough(bout: Bout) -> bool:
        complete = (
            bout.rounds >= rounds * ROUNDS
            and all(bout.firsts)
            and (bout.met > 0 or (GIL and not (meeting and first != second)))
            and (first == second or all(seen))
            and not unseen()
        )
        assert complete or time.monotonic() < end, (
            f"{bout.rounds} rounds, first {bout.firsts}, met in {bout.met}, order seen {seen}, never {unseen()}"
        )
        return complete

    keep = not any(call.alone for call in calls)
    bout = Bout(make, prepare, finish, apart=calls[1].alone, keep=keep)
    bout.run(duo, enough, LIMIT + HANG)
    return bout
