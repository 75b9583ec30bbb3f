"""What a benchmark is, for pytest-benchmark and for compare.py alike.

A scenario is one piece of work that several contenders do; each `bench_*.py` has a list of them,
SCENARIOS. A contender is called with the number of operations that a round shall have, and makes
everything that is not to be measured; what it returns is the round, which can be run again and
again. One that has something to close is a context manager instead.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple

COUNT = 10_000
IMPLEMENTATIONS = ("native", "pure")
GIL = not hasattr(sys, "_is_gil_enabled") or sys._is_gil_enabled()

Key = Hashable
Round = Callable[[], Any]
Contender = Callable[[int], "Round | AbstractContextManager[Round]"]


class NotInstalledError(Exception):
    """A contender is not there: it is left out."""


class Scenario(NamedTuple):
    """The same work for all contenders."""

    name: str
    contenders: Mapping[str, Contender]
    operations: int = COUNT
    """Of a round; its time is divided by them."""
    on_demand: bool = False
    """Takes gigabytes or minutes."""
    waits: bool = False
    """Threads or tasks wait for each other: the processor's time would not tell how long it took."""
    timed: bool = False
    """Its rounds return how long each operation took, in nanoseconds."""

    def scaled(self, scale: float) -> int:
        """The operations of a shorter or longer round, in thousands: all batches and threads divide them."""
        return max(1, round(self.operations * scale / 1000)) * 1000


def enter(stack: ExitStack, contender: Contender, count: int) -> Round:
    made = contender(count)
    return stack.enter_context(made) if isinstance(made, AbstractContextManager) else made


def need(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotInstalledError(name) from error


def implementation(name: str) -> Any:
    return need(f"inflight._{name}")


def finished_ops(module: Any, keys: Iterable[Key]) -> list[Any]:
    """Operations that can be enqueued over and over, and never warn that they were dropped."""
    ops = [module.Op(key) for key in keys]
    for op in ops:
        op.finish()
    return ops


def finished_op(name: str) -> Any:
    return finished_ops(implementation(name), [0])[0]


# Above the small ints that the interpreter keeps; the hash of a str is computed once, in the round that warms up.
# All are made before, except for the fresh ones, which the loop makes.
KEYS: dict[str, Callable[[int], Sequence[Any]]] = {
    "int": lambda count: list(range(1000, 1000 + count)),
    "fresh int": lambda count: range(1000, 1000 + count),
    "str": lambda count: [f"customer-{number}" for number in range(count)],
    "tuple": lambda count: [("customer", number) for number in range(count)],
}
