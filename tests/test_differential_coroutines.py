"""Step by step, the coroutines of both implementations answer, raise and warn the same, whatever is sent or thrown."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from conftest import load
from twins import attempt, overheard, report, unequal

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("inflight._native") is None, reason="there is no compiled implementation to compare with"
)

# Coroutines of Cython's, which says in its own words what cannot be sent or thrown, and takes it for the end.
CYTHON = {"aprocess"}
UNFIT = {"send 1", "throw a number", "throw the class of a number"}

STEPS: dict[str, Callable[[Any], Any]] = {
    "send": lambda it: it.send(None),
    "send 1": lambda it: it.send(1),
    "throw": lambda it: it.throw(ValueError("thrown")),
    "throw a class": lambda it: it.throw(LookupError),
    "throw an exit": lambda it: it.throw(GeneratorExit("thrown")),
    "throw a number": lambda it: it.throw(5),
    "throw the class of a number": lambda it: it.throw(int),
    "close": lambda it: it.close(),
}

AWAITABLES: dict[str, Callable[[Any], Any]] = {
    "adequeue": lambda impl: impl.OpQueue(2, 2).adequeue(),
    "adequeue, without waiting": lambda impl: impl.OpQueue(2, 2).adequeue(0),
    "adequeue, of a wrong type": lambda impl: impl.OpQueue(2, 2).adequeue("1"),
    "adequeue_many": lambda impl: impl.OpQueue(2, 2).adequeue_many(1),
    "ajoin": lambda impl: impl.OpQueue(2, 2).ajoin(),
    "asubmit": lambda impl: impl.OpQueue(2, 2).asubmit("a"),
    "aenqueue": lambda impl: impl.OpQueue(2, 2).aenqueue("a", _finished(impl)),
    "aprocess": lambda impl: impl.OpQueue(2, 2).aprocess(print),
    "aenter": lambda impl: impl.CallGroup().__aenter__(),
    "anext": lambda impl: aiter(impl.OpQueue(2, 2)).__anext__(),
    "op": lambda impl: impl.Op("a").__await__(),
    "finished op": lambda impl: _finished(impl).__await__(),
    "failed op": lambda impl: _finished(impl, error=ValueError("failed")).__await__(),
    "op that ended with a tuple": lambda impl: _finished(impl, (1, 2)).__await__(),
    "op that ended with an exception": lambda impl: _finished(impl, KeyError(1)).__await__(),
    "group": lambda impl: impl.CallGroup().__await__(),
    "complete group": lambda impl: _complete(impl).__await__(),
}


def _finished(impl: Any, result: Any = None, error: Any = None) -> Any:
    op = impl.Op("a")
    op.finish(result, error=error)
    return op


def _complete(impl: Any) -> Any:
    group = impl.CallGroup()
    group.seal()
    return group


def step_by_step(impl: Any, name: str, steps: tuple[str, ...]) -> dict[str, Any]:
    """What each step shows, while a loop is running; and what is warned of in the end."""
    notes: dict[str, Any] = {}
    with overheard(notes):
        it = AWAITABLES[name](impl)
        for number, each in enumerate(steps):
            notes[f"{number} {each}"] = attempt(functools.partial(STEPS[each], it))
        del it
    return notes


@pytest.mark.parametrize("name", AWAITABLES)
def test_what_is_awaited_goes_step_by_step(name):
    """As a coroutine of Python's own, from its first step to after its end."""

    async def compare() -> list[str]:
        differences = []
        fitting = [each for each in STEPS if name not in CYTHON or each not in UNFIT]
        for steps in [(), *itertools.product(fitting, repeat=1), *itertools.product(fitting, repeat=2)]:
            for all_steps in (steps, (*steps, "send", "throw", "close")):
                ours, theirs = (step_by_step(load(impl), name, all_steps) for impl in ("native", "pure"))
                differences += [f"{all_steps}{each}" for each in unequal(ours, theirs)]
        return differences

    differences = asyncio.run(compare())
    assert not differences, report(differences)
