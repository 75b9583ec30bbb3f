"""Tools for tests with threads, processes and clocks.

Nothing here waits without an end: what hangs fails its test. The only sleep of the suite is the
polling in ``wait_until``; everything else waits for events.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import inflight

SLOWNESS = float(os.environ.get("INFLIGHT_SLOWNESS", "1"))
"""How many times as long everything may take: more than 1 where code is instrumented."""

HANG = 30.0 * SLOWNESS
"""Seconds after which a wait counts as a hang: far more than any slow machine needs."""

BRIEF = 0.2 * SLOWNESS
"""Seconds of a timeout that is meant to run out, after a test has seen the wait that it ends."""

GIL = not hasattr(sys, "_is_gil_enabled") or sys._is_gil_enabled()


class FakeClock:
    """Stands in for ``time.monotonic``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Key:
    """Equal to those of its name, which only its own code can tell; all have one hash."""

    def __init__(self, name: Any) -> None:
        self.name = name

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.name == other.name

    def __repr__(self) -> str:
        return f"{self.name}"


class Worker:
    """A running thread whose result, or exception, is collected by ``result()``."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._call = (function, args, kwargs)
        self._value: Any = None
        self._error: BaseException | None = None
        # A daemon, so that a hanging one fails its test but does not keep pytest from exiting.
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        function, args, kwargs = self._call
        del self._call
        try:
            self._value = function(*args, **kwargs)
        except BaseException as error:
            self._error = error
        finally:
            # The frame must not keep alive what a test wants to see collected.
            del function, args, kwargs

    def running(self) -> bool:
        return self.thread.is_alive()

    def result(self, timeout: float = HANG) -> Any:
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "a thread hangs"
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        value, self._value = self._value, None
        return value

    def exception(self, timeout: float = HANG) -> BaseException | None:
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "a thread hangs"
        return self._error


def run_concurrently(functions: Iterable[Callable[[], Any]], timeout: float = HANG) -> list[Any]:
    """Run all at once, each in its thread, from one starting line; their results in order.

    The first exception of any of them is raised here, once all have ended.
    """
    functions = list(functions)
    line = threading.Barrier(len(functions))

    def run(function: Callable[[], Any]) -> Any:
        line.wait(timeout)
        return function()

    workers = [Worker(run, function) for function in functions]
    end = time.monotonic() + timeout
    for worker in workers:
        worker.thread.join(max(0.0, end - time.monotonic()))
    assert not any(worker.running() for worker in workers), "threads hang"
    return [worker.result() for worker in workers]


def wait_until(predicate: Callable[[], Any], timeout: float = HANG) -> None:
    """Wait for a state that has no event of its own, such as "three consumers are parked"."""
    end = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < end, "the awaited state never came"
        time.sleep(0.0005)


def wait_consumers(queue: Any, number: int) -> None:
    wait_until(lambda: queue.stats().consumers_waiting == number)


def wait_producers(queue: Any, number: int) -> None:
    wait_until(lambda: queue.stats().producers_waiting == number)


def wait_blocked(*workers: Worker, looks: int = 20) -> None:
    """Wait until the threads seem to stand still, so many looks in a row.

    For waits that no statistics show. It makes the interesting order of events likely; a test
    that uses it must be right in the other order too.
    """

    def places() -> list[Any]:
        frames = sys._current_frames()
        found = [frames.get(worker.thread.ident) for worker in workers]
        return [frame and (id(frame), frame.f_lasti) for frame in found]

    before: list[Any] = [None]
    still = 0

    def stands_still() -> bool:
        nonlocal still
        now = places()
        still = still + 1 if now == before[0] else 0
        before[0] = now
        return still >= looks

    wait_until(stands_still)


def other_thread_can(call: Callable[[], Any], timeout: float = 10.0) -> bool:
    """Whether ``call`` gets through in another thread while this one stands where it stands."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(timeout)
    return not thread.is_alive()


def put(queue: Any, *keys: Any) -> list[Any]:
    """Submit one fresh operation for each key."""
    return [queue.submit(key) for key in keys]


def take_all(queue: Any) -> list[Any]:
    """What dequeue hands out now, without waiting."""
    rows = []
    while True:
        try:
            rows.append(queue.dequeue(0))
        except (inflight.QueueEmptyError, inflight.QueueClosedError):
            return rows


def key_of_next(queue: Any, timeout: float) -> Any:
    """The key of the row that dequeue hands out within ``timeout``, or ``None``."""
    try:
        return queue.dequeue(timeout).key
    except inflight.QueueEmptyError:
        return None


def key_if_accepted(queue: Any, key: Any) -> Any:
    """``key``, with an operation submitted under it, or ``None`` if the queue is closed."""
    try:
        queue.submit(key)
        return key
    except inflight.QueueClosedError:
        return None


def keys(rows: Iterable[Any]) -> list[Any]:
    return [row.key for row in rows]


_PRELUDE = """
import faulthandler, os, sys, threading, time, warnings
faulthandler.dump_traceback_later({timeout}, exit=True)
import inflight
assert inflight.__file__ == {file!r}, inflight.__file__
from inflight import *
from inflight._invariants import check_invariants

def start(function, *args):
    '''Call it in a daemon thread; what this returns waits for its result.'''
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*args)), daemon=True)
    thread.start()
    def result():
        thread.join(20)
        assert not thread.is_alive(), "a thread hangs"
        return results[0]
    return result

def wait_until(state):
    end = time.monotonic() + 20
    while not state():
        assert time.monotonic() < end
        time.sleep(0.001)
"""


def run_python(
    *arguments: str, env: dict[str, str | None] | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter, seeing the same installation as this process does."""
    # -I where this process was started with it, else at least no current directory on the path.
    isolation = "-I" if sys.flags.isolated else "-P"
    environment = dict(os.environ)
    for name, value in (env or {}).items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    return subprocess.run(
        [sys.executable, isolation, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_script(impl: Any, source: str, *options: str, expect: str = "", timeout: float = 60.0) -> None:
    """Run a script of its own, for what ends, forks, signals or leaks a process.

    It must exit with 0, print ``expect`` and write nothing to stderr.
    """
    timeout *= SLOWNESS
    prelude = _PRELUDE.format(timeout=timeout / 2, file=inflight.__file__)
    script = prelude + textwrap.dedent(source)
    done = run_python(*options, "-c", script, env={"INFLIGHT_IMPL": impl.name}, timeout=timeout)
    assert (done.returncode, done.stderr) == (0, ""), f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stdout == expect


def of_proof_build(name: str) -> Any:
    """A function that only proof builds of the native implementation have; the test is skipped on others."""
    function = getattr(importlib.import_module("inflight._native"), name, None)
    if function is None:
        pytest.skip("not a proof build (INFLIGHT_PROOF=1)")
    return function


KINDS = ("Op", "CallGroup", "OpSet", "OpQueue", "DedupeQueue", "OpWindow")
"""The classes of which users have instances."""


def one_of(impl: Any, kind: str) -> Any:
    queue = impl.OpQueue(None, None)
    queue.submit(1)
    return {
        "Op": lambda: impl.Op(1),
        "CallGroup": impl.CallGroup,
        "OpSet": lambda: queue.dequeue(0),
        "OpQueue": lambda: impl.OpQueue(1, 1),
        "DedupeQueue": lambda: impl.DedupeQueue(1, 1),
        "OpWindow": lambda: impl.OpWindow(1, 1, 1),
    }[kind]()
