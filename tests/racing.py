"""Tools for races: rounds of two calls that meet, and what shows that they met.

``race`` repeats a round until both of its outcomes have been seen; ``Duo`` has two threads that run
one job after the other, so that a round does not cost a thread; ``Meeting`` lets the two start a
call at the same time. By work and by looking, not by locks and sleep: those are much too coarse.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any

from helpers import HANG, SLOWNESS

LIMIT = 100.0 * SLOWNESS
"""Seconds in which each order of events must have been seen; far more than a busy machine needs."""


class Lead:
    """Holds back the side that was first lately, by so much that the other gets its turn."""

    def __init__(self) -> None:
        self._turns = 0

    def spin(self, side: int) -> None:
        for _ in range(self._turns if side == 0 else -self._turns):
            pass

    def was_first(self, side: int) -> None:
        step = random.randrange(50 + abs(self._turns) // 2)
        self._turns = max(-100_000, min(self._turns + (step if side == 0 else -step), 100_000))


def race(
    first: Any,
    second: Any,
    round_: Callable[[Callable[[int], None]], Any],
    rounds: int = 120,
    unseen: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Repeat a race of two sides until both of its outcomes have been seen, and some rounds are done.

    ``first`` is the outcome where side 0 was first. ``round_(spin)`` returns the outcome; each side
    calls ``spin(side)`` before it acts, which holds back the side that was first lately. It goes on
    while there are events that are still ``unseen()``, too.
    """
    seen: Counter[Any] = Counter()
    lead = Lead()
    end = time.monotonic() + LIMIT
    while sum(seen.values()) < rounds or len(seen) < 2 or unseen():
        assert time.monotonic() < end, f"only {dict(seen)} of {first!r}, {second!r}; never {sorted(unseen())}"
        outcome = round_(lead.spin)
        assert outcome in (first, second)
        seen[outcome] += 1
        lead.was_first(0 if outcome == first else 1)


class Left(Exception):
    """The other side has failed, and will not come."""


class Meeting:
    """A place where two threads wait for each other, again and again."""

    def __init__(self) -> None:
        self._arrived = [0, 0]
        self._left = False

    def wait(self, side: int) -> None:
        arrived = self._arrived
        # Counted round and round, in small numbers: those are never freed, which ThreadSanitizer would take
        # for a race with the look of the other side. Nobody is ever more than one ahead.
        before = arrived[side]
        arrived[side] = (before + 1) % 4
        looks = 0
        end = None
        while arrived[1 - side] == before:
            looks += 1
            if looks % 200 == 0:
                if self._left:
                    raise Left
                end = end or time.monotonic() + HANG
                assert time.monotonic() < end, "the other side hangs"
                # The other may need this processor.
                time.sleep(0 if looks < 5000 else 0.0005)

    def leave(self) -> None:
        self._left = True


class Duo:
    """Two threads that run jobs."""

    def __init__(self) -> None:
        self._jobs: list[SimpleQueue[Any]] = [SimpleQueue(), SimpleQueue()]
        self._ended: SimpleQueue[Any] = SimpleQueue()
        for side in (0, 1):
            threading.Thread(target=self._run, args=(side,), daemon=True).start()

    def _run(self, side: int) -> None:
        while (job := self._jobs[side].get()) is not None:
            try:
                answer, error = job(side), None
            except BaseException as caught:
                answer, error = None, caught
            self._ended.put((side, answer, error))
            # What a job has left is not to outlive it here.
            del job, answer, error

    def run(self, job: Callable[[int], Any], timeout: float = HANG) -> list[Any]:
        """Run ``job(side)`` in both; their answers. After a hang, this duo is of no use any more."""
        for jobs in self._jobs:
            jobs.put(job)
        end = time.monotonic() + timeout
        answers: list[Any] = [None, None]
        errors = []
        for _ in range(2):
            try:
                side, answer, error = self._ended.get(timeout=max(0.0, end - time.monotonic()))
            except Exception:
                raise AssertionError("threads hang") from None
            answers[side] = answer
            if error is not None:
                errors.append(error)
        # Who was left alone says least.
        errors.sort(key=lambda error: isinstance(error, Left))
        if errors:
            raise errors[0]
        return answers

    def stop(self) -> None:
        for jobs in self._jobs:
            jobs.put(None)


_two: list[Duo] = []


def run_both(first: Callable[[], Any], second: Callable[[], Any], timeout: float = HANG) -> list[Any]:
    """``run_concurrently`` for two, without a new thread for each: starting one takes long on a busy machine."""
    meeting = Meeting()
    functions = [first, second]
    del first, second

    def job(side: int) -> Any:
        function, functions[side] = functions[side], None  # type: ignore[call-overload]
        meeting.wait(side)
        return function()

    duo = _two.pop() if _two else Duo()
    answers = duo.run(job, timeout)
    # Not after a failure: one of them may hang.
    _two.append(duo)
    return answers


class Bout:
    """Rounds of two calls from one starting line, on fresh objects each.

    For each round ``begin()`` makes the objects; ``prepare(objects, side)`` gives a side its call;
    ``finish(objects, answers)`` looks at what came out of it, and says which side was first, if it
    can tell, or ``None``. ``apart`` where each side has to prepare its call itself, for objects
    that belong to its thread alone; without ``keep`` it forgets its call at once.
    """

    def __init__(
        self,
        begin: Callable[[], Any],
        prepare: Callable[[Any, int], Callable[[], Any]],
        finish: Callable[[Any, list[Any]], int | None],
        apart: bool = False,
        keep: bool = True,
    ) -> None:
        self._begin = begin
        self._prepare = prepare
        self._finish = finish
        self._apart = apart
        self._keep = keep
        self._meeting = Meeting()
        # Where the other side sleeps while a round is prepared: looking would take half the GIL.
        self._prepared = threading.Semaphore(0)
        self._lead = Lead()
        self._calls: list[Any] = [None, None]
        self._answers: list[Any] = [None, None]
        self._inside = [False, False]
        self._ended: list[int] = []
        self._objects: Any = None
        self._over = False
        self.rounds = 0
        # In how many rounds each side ended first, and one of them began before the other had ended.
        self.firsts = [0, 0]
        self.met = 0

    def run(self, duo: Duo, enough: Callable[[Bout], bool], timeout: float = HANG) -> None:
        def job(side: int) -> None:
            try:
                if side == 0:
                    self._lead_rounds(enough)
                else:
                    self._follow_rounds()
            except BaseException:
                self._meeting.leave()
                raise
            finally:
                if side == 0:
                    self._over = True
                    self._prepared.release()

        duo.run(job, timeout)

    def _lead_rounds(self, enough: Callable[[Bout], bool]) -> None:
        meeting = self._meeting
        while not enough(self):
            objects = self._objects = self._begin()
            self._calls[0] = self._prepare(objects, 0)
            if not self._apart:
                self._calls[1] = self._prepare(objects, 1)
            self._prepared.release()
            if self._apart:
                meeting.wait(0)
            self._act(0)
            meeting.wait(0)
            first = self._finish(objects, self._answers)
            self.rounds += 1
            self.firsts[self._ended[0]] += 1
            self._lead.was_first(self._ended[0] if first is None else first)
            self._answers = [None, None]
            self._ended = []

    def _follow_rounds(self) -> None:
        while True:
            assert self._prepared.acquire(timeout=HANG)
            if self._over:
                return
            if self._apart:
                self._calls[1] = self._prepare(self._objects, 1)
                self._meeting.wait(1)
            self._act(1)
            self._meeting.wait(1)

    def _act(self, side: int) -> None:
        call, self._calls[side] = self._calls[side], None
        inside = self._inside
        self._meeting.wait(side)
        self._lead.spin(side)
        inside[side] = True
        try:
            answer = call()
        except Exception as error:
            answer = error.with_traceback(None)
        finally:
            if inside[1 - side]:
                self.met += 1
            inside[side] = False
            self._ended.append(side)
        if not self._keep:
            call = None
        self._answers[side] = answer
