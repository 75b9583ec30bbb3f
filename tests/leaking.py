"""What the tests named test_leaks_* make each call with, and how they count what is left.

Every scenario of a table is run again and again with the same few objects as keys, messages, results, errors,
callbacks and reducers. Their reference counts, the number of objects of each type, of allocated blocks, and for the
compiled implementation the traced memory, which has its C structures and locks in it, are the same after any number
of rounds as before.

In the short form each scenario makes some hundred rounds. ``--operations 1000000`` makes a million of each (a tenth of
that where it waits, or starts threads), and looks at resident memory, too; it takes hours in all, so give it time by
``--timeout 0 -o faulthandler_timeout=0``. Memory is traced for the first ten thousand of them: it makes a round up to
twenty times as long, and what resident memory shows after a million are leaks of 16 bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import sys
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from helpers import GIL, Key

SLACK = 24
"""Objects of one type, or blocks, that may come in the course of a scenario: caches fill, tables grow."""

TRACED = 10_000
"""Rounds with memory traced, at most."""


class Raising(Key):
    """Raises as it is compared, or hashed."""

    def __init__(self, error: type[BaseException], hashed: bool = False) -> None:
        super().__init__(-1)
        self.error = error
        self.hashed = hashed

    def __hash__(self) -> int:
        if self.hashed:
            raise self.error
        return 7

    def __eq__(self, other: object) -> bool:
        raise self.error


class Marker:
    """Something that can be told from everything else."""


class Kit:
    """What the rounds of a scenario are made with."""

    def __init__(self, impl: Any) -> None:
        self.impl = impl
        self.number = 0
        self.key, self.twin, self.other = Key(1), Key(1), Key(2)
        self.msg, self.result = Marker(), Marker()
        self.error = ValueError("handed in")
        self.callback = lambda done: None
        self.reducer = lambda results: results.responses
        # Not one a round: free-threaded 3.13 does not free those while another thread waits anywhere.
        self.subclass = type("Mine", (impl.Op,), {})

    def kept(self) -> list[Any]:
        own = (self.key, self.twin, self.other, self.msg, self.result, self.error, self.callback, self.reducer)
        # Exceptions are kept by their types, and classes by their instances.
        return [*own, *vars(self.impl).values()]

    def queue(self, depth: int | None = None, width: int | None = None) -> Any:
        """One kind after the other, from round to round."""
        return [
            lambda: self.impl.OpQueue(depth, width),
            lambda: self.impl.DedupeQueue(depth, width),
            lambda: self.impl.OpWindow(depth, width, 0),
            lambda: self.impl.OpWindow(depth, width, 0, exclusive=True),
        ][self.number % 4]()

    def op(self) -> Any:
        return self.impl.Op(self.key, self.msg)

    def row(self, *keys: Any) -> Any:
        """The first row of a new queue, with an operation for each key."""
        queue = self.queue()
        for key in keys or [self.key]:
            queue.submit(key, self.msg)
        return queue.dequeue(0)


def raises(kind: type[BaseException], call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Not pytest's, which keeps what was raised."""
    try:
        call(*arguments, **options)
    except kind:
        return
    raise AssertionError(f"did not raise {kind.__name__}")


def leave_by(block: Any, error: type[BaseException]) -> None:
    with block:
        raise error


def run(scenario: Callable[[Kit], Any], kit: Kit, rounds: int) -> None:
    """So many rounds; all of a coroutine function's on one loop."""
    if not inspect.iscoroutinefunction(scenario):
        for _ in range(rounds):
            kit.number += 1
            scenario(kit)
            kit.error.__traceback__ = None
        return

    async def steps() -> None:
        for _ in range(rounds):
            kit.number += 1
            await scenario(kit)
            kit.error.__traceback__ = None
            # What it has left to the loop is done now, instead of waiting for the last round.
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(steps())


class Count:
    """What there is at one moment."""

    def __init__(self, kit: Kit) -> None:
        for _ in range(2):
            gc.collect()
        self.traced = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
        # On a free-threaded build counts are split between threads, or not kept at all.
        self.references = [sys.getrefcount(each) for each in kit.kept()] if GIL else []
        self.types = Counter(map(type, gc.get_objects()))
        self.blocks = sys.getallocatedblocks()

    def grown(self, before: Count, rounds: int) -> list[str]:
        """What is more than before, and more than chance."""
        found = []
        # Instances refer to their classes.
        pairs = list(zip(before.references, self.references, strict=True))
        if any(old != new for old, new in pairs):
            found.append(f"references to what was handed in: {pairs}")
        for kind, number in (self.types - before.types).items():
            if number > SLACK:
                found.append(f"{number} of {kind.__name__}")
        if self.blocks - before.blocks > SLACK + rounds // 10:
            found.append(f"{self.blocks - before.blocks} blocks")
        if self.traced - before.traced > 4096 + 8 * rounds:
            found.append(f"{self.traced - before.traced} bytes")
        return found


@contextlib.contextmanager
def tracing(wanted: bool) -> Any:
    """Trace memory meanwhile."""
    if wanted:
        tracemalloc.start(1)
    try:
        yield
    finally:
        if wanted:
            tracemalloc.stop()


def left_by(scenario: Callable[[Kit], Any], impl: Any, rounds: int, times: int = 6, traced: bool = True) -> list[str]:
    """What ``rounds`` rounds leave behind: nothing.

    What leaks does so each time; caches of the interpreter take some hundred rounds to fill.
    """
    kit = Kit(impl)
    with tracing(traced and impl.name == "native"):
        run(scenario, kit, SLACK)
        for _ in range(times):
            before = Count(kit)
            run(scenario, kit, rounds)
            found = Count(kit).grown(before, rounds)
            if not found:
                break
    return found


def resident() -> int:
    """Resident memory in bytes, where the system tells."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096
    except OSError:
        return 0


class Table:
    """Scenarios by name: what a test goes through, one by one."""

    def __init__(self) -> None:
        self.scenarios: dict[str, tuple[Callable[[Kit], Any], int]] = {}

    def scenario(self, function: Callable[[Kit], Any], slow: int = 1) -> Callable[[Kit], Any]:
        self.scenarios[function.__name__] = (function, slow)
        return function

    def slowly(self, function: Callable[[Kit], Any]) -> Callable[[Kit], Any]:
        """For what waits, or starts threads or loops: fewer rounds."""
        return self.scenario(function, 10)

    def check(self, name: str, impl: Any, operations: int) -> None:
        """Nothing is left by so many rounds of it."""
        function, slow = self.scenarios[name]
        rounds = max(operations // slow, 30)
        logger = logging.getLogger("inflight")
        with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
            warnings.simplefilter("ignore")
            # Records of what callbacks raise would be kept by pytest.
            patch.setattr(logger, "disabled", True)
            before = resident()
            assert left_by(function, impl, min(rounds, TRACED)) == []
            if rounds > TRACED:
                assert left_by(function, impl, rounds, traced=False) == []
        if operations >= 10_000:
            # What is traced itself takes memory while it is.
            assert resident() - before < 16 * 2**20
