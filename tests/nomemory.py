"""Lets allocations fail, one after the other, in one call at a time.

A case is a generator: it prepares a state, yields the one call to be made, is sent how that ended, and
checks what is left, when there is memory again. ``exhaust`` runs it with the first allocation of the call
failing, then with the second, until the call gets by without reaching the one that would fail. Each way of
failing does so for other allocations: those of Python, once or from there on, and those of the kernel,
which only a proof build can refuse (src/proof.h).

Assumes that nothing else allocates meanwhile: the collector is off, other threads stand still (with the GIL
by a huge switch interval). A free-threaded interpreter counts the allocations of all threads, so there a
thread that is woken by the call may be the one that fails. The free lists of the interpreter are emptied
before each call, or it would find what it needs there; a class with a free list of its own may still do.

What CPython itself gets wrong without memory is kept away from here, each with its reason; see also
test_nomemory_code.py, and docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import traceback
import types
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import pytest
from helpers import GIL, Worker, of_proof_build

from inflight import _report
from inflight._pure import waiters

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError:
    set_nomemory = None

_claim = threading.Lock()
_failing: _Failing | None = None
_way: Any = None

UNRAISED = ("error return without exception set", "returned NULL without setting an exception")
"""What CPython says when it could not make the frame object of a function that raises: any function."""

SPARE_LISTS = 200
"""More than a free-threaded interpreter keeps."""

LOST = ("process-True", "end_at_work-throw")
"""They await a coroutine which raises. From CPython 3.12 on, one that has no memory for the object of the caller's
frame loses the exception (gh-131173), and Cython takes its silence for an end."""

FREED_TWICE = ("look_at_results-", "complete_and_look-")
FREED_TWICE_PURE = ("wake_a_task-enqueue", "wake_a_task-close", "finish_a_row-each")
"""Calls that drop a list, and then make one: see SPARE_LISTS. The first do so for each Response."""

REFUSE_WITHOUT_GIL = os.environ.get("INFLIGHT_REFUSE") == "1"

NEVER = (2**31 - 1, 0)
"""Arguments of ``set_nomemory``, as a tuple, which it takes without an allocation."""

MOST = 5000
"""More allocations than any call here makes."""


@dataclass
class Outcome:
    """How the call ended: the class of its exception, if any. The exception itself would keep things alive."""

    kind: type[BaseException] | None
    value: Any

    @property
    def refused(self) -> bool:
        return self.kind is MemoryError


Case = Callable[..., Generator[Callable[[], Any], Outcome, int | None]]


class Once:
    """One of Python's allocations fails."""

    stop = 1

    def __init__(self, impl: Any) -> None:
        if set_nomemory is None:
            pytest.skip("this interpreter has no _testcapi.set_nomemory")
        if not GIL and not REFUSE_WITHOUT_GIL:
            pytest.skip("without the GIL on demand only (INFLIGHT_REFUSE=1): CPython itself does not always survive it")

    def arm(self, number: int) -> None:
        set_nomemory(number, number + 1)

    def disarm(self, number: int) -> bool:
        """Whether the one that was to fail was never reached."""
        try:
            for _ in repeat(None, number + 2):
                bytes(200)
        except MemoryError:
            return True
        finally:
            set_nomemory(*NEVER)
        return False


class FromThenOn(Once):
    """All of Python's allocations fail, from one on."""

    def __init__(self, impl: Any) -> None:
        super().__init__(impl)
        if impl.name == "pure":
            pytest.skip("the pure implementation needs memory to put right what one failure has interrupted")

    def arm(self, number: int) -> None:
        set_nomemory(number, 0)

    def disarm(self, number: int) -> bool:
        try:
            bytes(200)
        except MemoryError:
            return False
        finally:
            set_nomemory(*NEVER)
        return True


class Kernel:
    """One of the kernel's own allocations is refused."""

    def __init__(self, impl: Any) -> None:
        if impl.name != "native":
            pytest.skip("the pure implementation has no allocations of its own")
        self.arm = of_proof_build("_refuse_after")
        self._op = impl.Op("probe")
        self._op.try_finish()

    def disarm(self, number: int) -> bool:
        try:
            for _ in repeat(None, number + 2):
                self._op.add_done_callback(id)
        except MemoryError:
            return True
        finally:
            self.arm(-1)
        return False


class _Failing:
    """A failure that is set for the call under way. All of it under the lock, taken without an allocation."""

    def __init__(self, way: Any, number: int) -> None:
        self.way = way
        self.number = number
        self.over = False
        self.spared = False
        self.disarmed = False

    def end(self) -> None:
        _claim.acquire()
        self.over = True
        self.spared = self.way.disarm(self.number)
        self.disarmed = True
        _claim.release()

    def suspend(self) -> None:
        _claim.acquire()
        if not self.over:
            self.way.disarm(self.number)
        _claim.release()

    def resume(self) -> None:
        _claim.acquire()
        if not self.over:
            self.way.arm(self.number)
        _claim.release()


class HandOver:
    """A thread that makes a call once this one is parked, with memory; then allocations fail again.

    What fails is thus on the way to the park, and after it. Free-threaded, it may come earlier, and be the one that
    is refused; then the other waits for ever, and CPython does not come to the end of a thread without memory. So
    there, only the kernel's allocations fail.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        if not GIL and isinstance(_way, Once):
            pytest.skip("without the GIL, the thread that hands over may be the one that is refused")
        self._call = call
        self._go = threading.Lock()
        self._end = threading.Lock()
        self._go.acquire()
        self._end.acquire()
        # To be called in the call under test, just before what parks.
        self.ready = self._go.release
        self._worker = Worker(self._run)

    def _run(self) -> None:
        self._go.acquire()
        failing = _failing
        if failing is not None:
            failing.suspend()
        self._call()
        if failing is not None:
            failing.resume()
        self._end.acquire()

    def join(self) -> None:
        """When the call under test has ended: what was to be handed over was, one way or another."""
        self._end.release()
        self._worker.result()


WAYS = {"once": Once, "from_then_on": FromThenOn, "kernel": Kernel}


def exhaust(impl: Any, way: Any, case: Callable[[], Any]) -> int:
    """Run the case with every allocation of its call failing in turn; how many there are."""
    with _quiet(), warnings.catch_warnings(record=True) as caught, contextlib.ExitStack() as stack:
        warnings.simplefilter("always")
        locks = stack.enter_context(_watched_locks()) if impl.name == "pure" else None
        expected = _attempt(case, None, 0, caught, None, locks)
        number = 0
        while _attempt(case, way, number, caught, expected, locks) is None:
            number += 1
            assert number < MOST
    return number


def _attempt(
    case: Callable[[], Any], way: Any, number: int, caught: list[Any], expected: Any, locks: list[Any] | None
) -> Any:
    """Run the case once. Without a way: how it ends with memory; with one: that too, if nothing failed.

    ``locks`` is of the pure implementation: gets those that are made meanwhile.
    """
    global _failing, _way
    _way = way
    caught.clear()
    if locks is not None:
        locks.clear()
    steps = case()
    act = next(steps)
    if GIL:
        # Frozen is what there was before: this empties the free lists, and looks at little.
        gc.collect()
    else:
        # A list from the free list that gets no memory for its items gives up those that it had once
        # (gh-152125). Enough without items, and the free list has no others.
        del [[] for _ in range(SPARE_LISTS)][:]
    failing = None if way is None else _Failing(way, number)
    _failing = failing
    kind: type[BaseException] | None = None
    value = None
    text = ""
    if failing is not None:
        failing.resume()
    try:
        value = act()
    except BaseException as error:
        kind = type(error)
        if failing is not None:
            failing.end()
        # A compiled call never comes to this itself, but a function that makes it may.
        of_python = locks is not None or isinstance(act, (types.FunctionType, types.MethodType))
        if kind is SystemError and str(error).endswith(UNRAISED) and of_python:
            kind = MemoryError
        if kind is not MemoryError and (expected is None or kind is not expected.kind):
            text = "".join(traceback.format_exception(error))
    else:
        if failing is not None:
            failing.end()
    outcome = Outcome(kind, value)
    del value, act
    if locks is not None:
        # Exceptions that were caught may hold what the call has dropped.
        gc.collect()
    # Without the GIL another thread may have been given what was left to count.
    spared = failing is not None and failing.spared and (GIL or not outcome.refused)
    # The last is shared by all who raise the error of an operation.
    held = [lock for lock in (*(locks or ()), _report._claims) if lock._is_owned()]
    assert not held, f"failure {number} has left a lock held"
    if expected is None:
        assert not outcome.refused
    else:
        assert kind in (expected.kind, MemoryError), f"failure {number}: {text or kind}"
        assert not spared or kind is expected.kind, f"failure {number} was not reached: {text or kind}"
    try:
        steps.send(outcome)
    except StopIteration as end:
        dropped = end.value or 0
    except BaseException as error:
        error.add_note(f"after failure {number}, with which the call ended with {kind}")
        raise
    else:
        raise AssertionError("a case makes one call")
    del steps
    outcome.value = None
    warned = [str(warning.message) for warning in caught if "dropped" in str(warning.message)]
    assert len(warned) <= dropped, f"after failure {number}: {warned}"
    return outcome if way is None or spared else None


@contextlib.contextmanager
def _watched_locks() -> Any:
    """A list of the locks with which the pure implementation makes its queues and groups."""
    new_lock = waiters.new_lock
    locks: list[Any] = []

    def watched(kind: Callable[[], Any]) -> Any:
        lock = new_lock(kind)
        if kind is threading.RLock:
            locks.append(lock)
        return lock

    waiters.new_lock = watched
    try:
        yield locks
    finally:
        waiters.new_lock = new_lock


@contextlib.contextmanager
def _quiet() -> Any:
    """The collector off, no other thread running, and what cannot be raised not on the terminal.

    Python's allocators are hooked for all that time: without the GIL they must not be exchanged under other
    threads (gh-157415).
    """
    interval = sys.getswitchinterval()
    hook = sys.unraisablehook
    logger = logging.getLogger("inflight")
    handler = logging.NullHandler()

    def unraisable(what: Any) -> None:
        # SystemError: what CPython's warnings make of it.
        if what.exc_type not in (MemoryError, SystemError):
            hook(what)

    gc.collect()
    gc.disable()
    gc.freeze()
    if set_nomemory is not None:
        set_nomemory(*NEVER)
    sys.setswitchinterval(1000)
    sys.unraisablehook = unraisable
    logger.addHandler(handler)
    logger.propagate = False
    # CPython 3.13 does not come back from making a record without memory.
    logger.disabled = sys.version_info >= (3, 12)
    try:
        yield
    finally:
        if set_nomemory is not None:
            remove_mem_hooks()
        logger.disabled = False
        logger.propagate = True
        logger.removeHandler(handler)
        sys.unraisablehook = hook
        sys.setswitchinterval(interval)
        gc.enable()


def same(found: Iterable[Any], expected: Iterable[Any]) -> bool:
    """Whether these are the same objects, each as often."""
    return Counter(map(id, found)) == Counter(map(id, expected))


def insisting(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a thread does that is not the one to be refused: it asks again, and goes on when there is memory.

    To be entered with memory.
    """
    for _ in repeat(None, 100_000):
        try:
            return call(*arguments, **options)
        except MemoryError:
            pass
        finally:
            _await_memory()
    raise AssertionError("refused for good")


def _await_memory() -> None:
    """Until the call under test has ended. With the GIL it has: no other thread runs before."""
    failing = _failing
    while not GIL and failing is not None and not failing.disarmed:
        pass


class Table:
    """Cases by name, each in all its variants."""

    def __init__(self) -> None:
        self.cases: dict[str, tuple[Case, tuple[Any, ...]]] = {}

    def case(self, *variants: Any) -> Callable[[Case], Case]:
        def register(body: Case) -> Case:
            for variant in variants or ((),):
                arguments = variant if isinstance(variant, tuple) else (variant,)
                self.cases["-".join([body.__name__, *map(str, arguments)])] = (body, arguments)
            return body

        return register

    def run(self, impl: Any, way: str, name: str) -> int:
        if way != "kernel":
            if sys.version_info >= (3, 12) and impl.name == "native" and name in LOST:
                pytest.skip("CPython loses an exception here, from 3.12 on: see LOST")
            freed_twice = FREED_TWICE if impl.name == "native" else FREED_TWICE + FREED_TWICE_PURE
            if not GIL and name.startswith(freed_twice):
                pytest.skip("CPython frees memory twice here, without the GIL: see FREED_TWICE")
        body, arguments = self.cases[name]
        return exhaust(impl, WAYS[way](impl), lambda: body(impl, *arguments))
