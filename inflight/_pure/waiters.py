"""Where threads wait for each other: parked waiters, and locks that survive a fork.

A waiter is one caller that waits for one thing. Whoever makes that thing true calls ``wake()``,
after it has let go of its own locks; the waiter then looks for itself under the lock. Waking is
idempotent, never blocks and never raises, so that a wake interrupted half-way can be repeated
for everybody. Only ``wake`` is known to those who wake: a waiter need not be a thread.

proofs/wake.pml is a model of the protocol, as src/ has it: there a waiter is not woken twice, here it
may be. Its states are named in brackets: a call is [PARKED] while it sleeps, [WOKEN] while it runs
after that, [LEFT] once it has ended and holds nothing.

A thread parks on a ``threading.Lock`` of its own. ``Lock.acquire`` runs signal handlers while it
waits, and a handler that raises ends the wait: Ctrl-C works. A shared ``threading.Condition``
was rejected: it wakes in an order of its own, and takes its lock back before it lets an interrupt
out.

Python leaves ``with lock:`` by a call with three arguments. If it had no memory for their tuple, the lock
would stay held, which nothing could put right. So whoever takes the lock of a queue or a group has a tuple
of three, its ``spare``, from before, and deletes it as the last thing in the block: the interpreter keeps
what is freed for the next of that size. Nothing is raised there, which would take one as well. ``acquire``
and ``release`` need no memory, but a signal handler that raises in between would leave the lock held.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from .._clock import LOOK_INTERVAL
from .._fork import in_child

__all__ = ["ThreadWaiter", "Waiter", "insist", "new_lock", "renewing", "wake_all"]


class Waiter:
    """One caller that waits. The fields are guarded by the lock of the object it waits for."""

    __slots__ = ("armed", "hash", "over", "place", "renounced")

    def __init__(self) -> None:
        # Its number in the line.
        self.place = 0
        # Of a consumer: when it will look at the windows of its own accord (queue clock).
        self.armed = math.inf
        # Of a producer: the hash of its key.
        self.hash = 0
        # Of a consumer: the row that it is just giving back.
        self.renounced: Any = None
        # Of a joiner: that the queue was empty since it got in line.
        self.over = False

    def wake(self, wakes: list[Waiter], /) -> None:
        """Let the caller look again: idempotent, never blocks, never raises.

        ``wakes`` gets who is to be woken instead, if nobody can be here.
        """
        raise NotImplementedError


class ThreadWaiter(Waiter):
    """A thread that parks. A wake before the park is remembered, several count as one."""

    __slots__ = ("_longest", "_parked")

    def __init__(self) -> None:
        super().__init__()
        # Written once. The main thread runs the signal handlers.
        is_main = threading.get_ident() == threading.main_thread().ident
        self._longest = LOOK_INTERVAL if is_main else threading.TIMEOUT_MAX
        # Written once. Locked = nobody has woken us since we last looked.
        self._parked: threading.Lock = new_lock(threading.Lock)
        self._parked.acquire()

    def wake(self, _wakes: list[Waiter], /) -> None:
        try:
            self._parked.release()
        except RuntimeError:
            # Woken already.
            pass

    def park(self, until: float | None) -> bool:
        """[PARKED], then [WOKEN]: wait for a wake until ``until`` on ``time.monotonic``; ``None`` is for ever.

        :return: whether there was one; ``False`` may come before ``until``.
        """
        remaining = math.inf if until is None else until - monotonic()
        if remaining <= 0:
            return self._parked.acquire(blocking=False)
        return self._parked.acquire(timeout=min(remaining, self._longest))


def new_lock(kind: Callable[[], Any]) -> Any:
    """A new lock. Without memory for it CPython raises a RuntimeError."""
    try:
        return kind()
    except RuntimeError as error:
        raise MemoryError("no memory for a lock") from error


def wake_all(wakes: list[Waiter]) -> None:
    """Wake each of them, even if a signal handler raises in the middle.

    The list may grow meanwhile: a task whose loop is closed leaves, and what it was promised goes to the
    next, whose loop may be closed too, and so on. As calls within calls, a hundred such loops would use up
    the stack.
    """
    try:
        for waiter in wakes:
            waiter.wake(wakes)
    except BaseException:
        # Again from the start: a second wake does no harm, a lost one would.
        for waiter in wakes:
            waiter.wake(wakes)
        raise


def insist(step: Callable[..., object], *arguments: Any) -> None:
    """Run a step that can be repeated, again if a signal handler raises in the middle of it.

    For what gives back or passes on: nobody else would do it. What was raised is raised in the end.
    Itself it may be interrupted at its entry. So it is called only where the step, tried in place, has
    raised: ``try: step()``, ``except BaseException: insist(step)``, ``raise``.
    """
    try:
        step(*arguments)
    except BaseException:
        try:
            step(*arguments)
        except BaseException:
            step(*arguments)
        raise


# Held while an object that came through a fork gets a new lock: threads of the child may meet it
# at the same time. Itself made anew in every child.
renewing = threading.RLock()


@in_child
def _enter_child() -> None:
    global renewing
    renewing = threading.RLock()
