"""Tools for tests with event loops.

A test that is an ``async def`` runs on asyncio and on uvloop; conftest sees to that, with ``run`` from
here. What hangs fails its test, and so does what a loop reports to its exception handler: a task
whose error nobody fetched, a callback that raised, a task destroyed in the middle of its wait.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Self

import pytest
from helpers import GIL, HANG, Worker

from inflight._invariants import check_invariants

LOOPS = ["asyncio", "uvloop"]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factory(name: str) -> LoopFactory:
    """What makes loops of one kind; skips the test where there is none."""
    if name == "asyncio":
        return asyncio.new_event_loop
    if not GIL:
        pytest.skip("without the GIL, uvloop's call_soon_threadsafe is not thread-safe: MagicStack/uvloop#720")
    module: Any = pytest.importorskip(name)
    return module.new_event_loop


def counting(factory: LoopFactory) -> Callable[[], Any]:
    """A factory of the same loops, with the number of their ``call_soon_threadsafe`` calls as ``.wakes``."""
    probe = factory()
    probe.close()

    class CountingLoop(type(probe)):  # type: ignore[misc]
        wakes = 0

        def call_soon_threadsafe(self, callback: Any, *arguments: Any, context: Any = None) -> Any:
            self.wakes += 1
            return super().call_soon_threadsafe(callback, *arguments, context=context)

    return CountingLoop


def run(body: Coroutine[Any, Any, Any], factory: LoopFactory) -> Any:
    """Run the body of a test to its end on a fresh loop, which is closed then."""
    with watched_loop(factory) as loop, asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_watched(body))


async def _watched(body: Coroutine[Any, Any, Any]) -> Any:
    # Not wait_for: that waits for a task that does not let itself be cancelled.
    task = asyncio.ensure_future(body)
    try:
        await asyncio.wait({task}, timeout=HANG)
    finally:
        task.cancel()
    if not task.done():
        task.print_stack()
        pytest.fail("the test hangs")
    return task.result()


@contextlib.contextmanager
def watched_loop(factory: LoopFactory) -> Iterator[asyncio.AbstractEventLoop]:
    """A fresh loop that is closed in the end; what was reported to its exception handler is raised."""
    loop = factory()
    reports = record_reports(loop)
    try:
        yield loop
    finally:
        loop.close()
    assert not reports, reports


def record_reports(loop: asyncio.AbstractEventLoop) -> list[str]:
    """From now on, what the loop reports to its exception handler."""
    reports: list[str] = []

    # Texts only, so that no task is kept.
    def report(_: object, context: dict[str, Any]) -> None:
        reports.append(f"{context.get('message')}: {context.get('exception')!r}")

    loop.set_exception_handler(report)
    return reports


def drive(awaitable: Awaitable[Any]) -> Any:
    """The result of what is ready: it must not suspend. Needs no loop."""
    steps = awaitable if asyncio.iscoroutine(awaitable) else awaitable.__await__()
    try:
        step = steps.send(None) if asyncio.iscoroutine(steps) else next(steps)  # type: ignore[call-overload]
    except StopIteration as end:
        return end.value
    with contextlib.suppress(AttributeError):
        steps.close()
    raise AssertionError(f"suspended, with {step!r}")


async def turns(number: int = 5) -> None:
    """Let the other tasks run, so many steps of each."""
    for _ in range(number):
        await asyncio.sleep(0)


async def until(predicate: Callable[[], Any], timeout: float = HANG) -> None:
    """Let others run until a state has come that has no event of its own."""
    end = time.monotonic() + timeout
    polls = 0
    while not predicate():
        assert time.monotonic() < end, "the awaited state never came"
        polls += 1
        # At once for tasks of this loop, in a while for threads.
        await asyncio.sleep(0 if polls < 100 else 0.0005)


async def wait_parked(queue: Any, *, consumers: int | None = None, producers: int | None = None) -> None:
    """Let others run until so many wait at the queue."""

    def parked() -> bool:
        stats = queue.stats()
        return consumers in (None, stats.consumers_waiting) and producers in (None, stats.producers_waiting)

    await until(parked)


async def parked_consumers(queue: Any, number: int, call: Callable[..., Any] | None = None) -> list[asyncio.Task[Any]]:
    """Tasks that have parked one after the other, behind who is parked already."""
    before = queue.stats().consumers_waiting
    tasks = [asyncio.ensure_future((call or queue.adequeue)()) for _ in range(number)]
    await wait_parked(queue, consumers=before + number)
    return tasks


async def parked_producers(queue: Any, keys: Any) -> list[asyncio.Task[Any]]:
    before = queue.stats().producers_waiting
    tasks = [asyncio.ensure_future(queue.asubmit(key)) for key in keys]
    await wait_parked(queue, producers=before + len(tasks))
    return tasks


async def ended(*tasks: asyncio.Task[Any]) -> list[Any]:
    """The results or exceptions of tasks that must come to their end."""
    done, pending = await asyncio.wait(tasks, timeout=HANG)
    assert not pending, "a task hangs"
    return [asyncio.CancelledError() if task.cancelled() else task.exception() or task.result() for task in tasks]


async def finished(*tasks: asyncio.Task[Any]) -> list[Any]:
    """The results of tasks that must come to a good end."""
    outcomes = await ended(*tasks)
    for task in tasks:
        task.result()
    return outcomes


async def cancelled(*tasks: asyncio.Task[Any]) -> bool:
    """Whether they end, all of them by their cancellation."""
    await asyncio.wait(tasks, timeout=HANG)
    return all(task.cancelled() for task in tasks)


def nobody_waits(queue: Any) -> bool:
    check_invariants(queue)
    stats = queue.stats()
    return (stats.consumers_waiting, stats.producers_waiting) == (0, 0)


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a thread of its own, and let the tasks run meanwhile."""
    worker = Worker(function, *arguments)
    await until(lambda: not worker.running())
    return worker.result()


class LoopThread:
    """An event loop that runs in a thread of its own until ``stop()``, and can be started again."""

    def __init__(self, factory: LoopFactory = asyncio.new_event_loop) -> None:
        self.loop: Any = factory()
        self.reports = record_reports(self.loop)
        self.start()

    def start(self) -> None:
        self._worker = Worker(self.loop.run_forever)

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        """Start a task on the loop, without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float = HANG) -> Any:
        """Run it in a task on the loop, and wait for its result."""
        return self.submit(coroutine).result(timeout)

    def stop(self) -> None:
        """Stop the loop, whatever its tasks are at."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._worker.result()

    def close(self) -> None:
        """Stop the loop if it runs, and close it: it is dead then, and so are its tasks."""
        if self._worker.running():
            self.stop()
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self.loop.is_closed():
            self.close()
        assert kind is not None or not self.reports, self.reports


def park_and_stop(loop: asyncio.AbstractEventLoop, queue: Any, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a loop of this thread until the coroutine, as a task, is parked at the queue; the task."""
    stats = queue.stats()
    before = stats.consumers_waiting + stats.producers_waiting
    task = loop.create_task(coroutine)

    def parked() -> bool:
        now = queue.stats()
        return now.consumers_waiting + now.producers_waiting > before

    loop.run_until_complete(until(parked))
    return task


def run_once(loop: asyncio.AbstractEventLoop) -> None:
    """Run what the loop has been given to run, and not what it is given by that."""
    loop.call_soon(loop.stop)
    loop.run_forever()
