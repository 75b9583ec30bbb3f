"""Where tasks wait: waiters that are suspended by their event loop, and the way to wake them.

A ``TaskWaiter`` is what a suspended task waits on: the part of ``asyncio.Future`` that a task uses.
Its loop's ``Mailbox`` brings wake-ups to the thread of the loop, where alone tasks may be resumed:
whoever wakes puts the waiter into it, and the first to do so has the loop run a ``_Delivery``, which
resumes all that are there by then. So any number of wake-ups costs one callback, and inside a task
or a callback of the same loop not even the system call that ends the loop's sleep.

A loop may be closed with a wake-up on its way, or with an alarm set. Then it refuses the delivery, or
drops it, or the alarm, unrun, which they notice; either way the waiters leave what they wait for,
and what they were promised goes to the next in line. A loop that is only stopped keeps them.

Assumes what outcome.py assumes of dicts, and the same of deques. What an interrupt leaves half
done can be repeated: a waiter that is delivered twice is resumed once, a second delivery finds
nothing, one that a live loop has dropped is sent again. Out of reach is an interrupt at the very
entry of a finalizer, which the interpreter swallows.

Rejected: an ``asyncio.Future`` for each wait (another callback between the wake-up and the task,
and a promise that is lost if the loop is closed between the two); a callback for each wake-up.
"""

from __future__ import annotations

import math
import sys
import types
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary, ref

from .. import _fork
from .._loops import TrioLoop, current_loop, inside_step
from .._report import PASSED_ON, raise_first
from .waiters import Waiter, insist, wake_all

__all__ = ["TaskWaiter", "let_others_run"]

# At interpreter exit the globals of a module may be None.
_is_finalizing = sys.is_finalizing

_FLAG = 0


class Mailbox:
    """Wake-ups for the tasks of one loop."""

    __slots__ = ("__weakref__", "_generation", "_on_its_way", "_waiters")

    # Written once. What they contain changes by single C calls only.
    _waiters: deque[TaskWaiter]
    # The flag of the delivery that will find what is posted now: [whether the loop has it].
    _on_its_way: dict[int, list[bool]]
    # Of the last fork: what was on its way in the parent is not here.
    _generation: int

    def __init__(self) -> None:
        self._waiters = deque()
        self._on_its_way = {}
        self._generation = _fork.generation

    def post(self, waiter: TaskWaiter, loop: Any, wakes: list[Waiter]) -> None:
        """Have ``waiter`` resumed; can be repeated. If its loop is closed, ``wakes`` gets who is next."""
        if self._generation != _fork.generation:
            self._on_its_way.clear()
            self._generation = _fork.generation
        self._waiters.append(waiter)
        flag = self._on_its_way.setdefault(_FLAG, [False])
        # Two threads may both get here, and an interrupt may leave it unset: one too many is harmless.
        if not flag[0]:
            self._send(loop, flag, wakes)

    def _send(self, loop: Any, flag: list[bool], wakes: list[Waiter]) -> None:
        delivery = _Delivery(self, loop)
        try:
            delivery.pending = True
            if inside_step(loop):
                loop.call_soon(delivery)
            else:
                loop.call_soon_threadsafe(delivery)
                # One that was closed meanwhile may have taken it after it had cleared its callbacks.
                if loop.is_closed():
                    raise RuntimeError("the loop is closed")
            flag[0] = True
        except BaseException:
            delivery.pending = False
            # By asking, not by the type: too deep a recursion is a RuntimeError as well.
            if not loop.is_closed():
                raise
            try:
                self._give_back(wakes)
            except BaseException:
                insist(self._give_back, wakes)
                raise

    def deliver(self, delivery: _Delivery) -> None:
        """Resume all that are there; in the thread of the loop, as one of its callbacks.

        What a task lets out of its step (Ctrl-C, an exit) ends this delivery; the others are
        resumed when the loop goes on.
        """
        waiters = self._waiters
        failures: list[BaseException] = []
        try:
            delivery.pending = False
            self._on_its_way.pop(_FLAG, None)
            # Who comes later has a delivery of its own: tasks that wake each other let others run.
            left = len(waiters)
            while True:
                if not left or not waiters:
                    break
                left -= 1
                waiter = waiters[0]
                try:
                    waiter.resume()
                except PASSED_ON:
                    raise
                except BaseException as error:
                    failures.append(error)
                # Taken out only now: interrupted before, it is resumed by the next delivery.
                _remove(waiters, waiter)
        except BaseException:
            self.send_again(delivery.loop)
            raise
        if failures:
            raise_first(failures)

    def send_again(self, loop: Any) -> None:
        """A delivery was dropped, or left off: all that are there need another, if it can be had."""
        wakes: list[Waiter] = []
        self._on_its_way.pop(_FLAG, None)
        try:
            if loop.is_closed():
                self._give_back(wakes)
            elif self._waiters:
                self._send(loop, self._on_its_way.setdefault(_FLAG, [False]), wakes)
        finally:
            try:
                wake_all(wakes)
            except BaseException:
                insist(wake_all, wakes)
                raise

    def _give_back(self, wakes: list[Waiter]) -> None:
        """The loop is gone, and nobody will be resumed: everybody leaves. Can be repeated."""
        waiters = self._waiters
        self._on_its_way.pop(_FLAG, None)
        while True:
            try:
                waiter = waiters[0]
            except IndexError:
                break
            waiter.leave(wakes)
            _remove(waiters, waiter)


def _remove(waiters: deque[TaskWaiter], waiter: TaskWaiter) -> None:
    """Take out one that was at the front, if nobody else has."""
    try:
        waiters.remove(waiter)
    except ValueError:
        pass


class _Delivery:
    """What the loop runs."""

    __slots__ = ("_mailbox", "loop", "pending")

    def __init__(self, mailbox: Mailbox, loop: Any) -> None:
        self._mailbox = mailbox
        self.loop = loop
        # Given to the loop, which has not run it.
        self.pending = False

    def __call__(self) -> None:
        self._mailbox.deliver(self)

    def __del__(self) -> None:
        # An interrupt may have left it half made.
        if not getattr(self, "pending", False) or _is_finalizing is None:
            return
        try:
            if not _is_finalizing():
                self._mailbox.send_again(self.loop)
        except BaseException:
            insist(self._mailbox.send_again, self.loop)
            raise


class _Alarm:
    """What the loop, and only the loop, has to run when it is time for a waiter to look again."""

    __slots__ = ("_pending", "_waiter")

    def __init__(self, waiter: TaskWaiter, pending: list[bool]) -> None:
        self._waiter = waiter
        # The waiter's: emptied once it waits for this no more.
        self._pending = pending

    def __call__(self) -> None:
        self._waiter.resume()
        self._pending.clear()

    def __del__(self) -> None:
        # As above.
        if getattr(self, "_pending", None) and not (_is_finalizing is None or _is_finalizing()):
            wakes: list[Waiter] = []
            try:
                if self._waiter.get_loop().is_closed():
                    self._waiter.leave(wakes)
                else:
                    # An interrupt has come between the loop and the call.
                    self._waiter.wake(wakes)
            finally:
                wake_all(wakes)


_mailboxes: WeakKeyDictionary[Any, Mailbox] = WeakKeyDictionary()


class TaskWaiter(Waiter):
    """A call that its task's loop suspends. Its own fields belong to the thread of the loop.

    To the task it is a future, which never has a result: the call looks for itself.
    """

    __slots__ = (
        "_asyncio_future_blocking", "_context", "_interrupted", "_leave", "_loop", "_mailbox", "_message", "_suspended",
        "_wakeup",
    )  # fmt: skip

    # Resumes the task, while it is suspended. Not dropped by a coroutine that is being closed: the
    # task may go with it, and would close the coroutine a second time.
    _wakeup: Callable[[TaskWaiter], object] | None
    _context: Context | None
    _suspended: bool

    def __init__(self, leave: Callable[[Waiter, list[Waiter]], object]) -> None:
        """Wait in the running loop.

        ``leave`` ends the wait, from any thread, can be repeated, and says whom to wake instead.
        """
        super().__init__()
        # Written once.
        self._loop = current_loop()
        mailbox = _mailboxes.get(self._loop)
        if mailbox is None:
            # No setdefault: CPython 3.13 miscounts a dict that has no memory to grow in it, and reads past
            # its end later. Nobody else puts it there meanwhile, as one thread only runs the loop.
            mailbox = _mailboxes[self._loop] = Mailbox()
        self._mailbox = mailbox
        self._leave = leave
        self._wakeup = None
        self._context = None
        self._suspended = False
        self._interrupted = False
        self._message: Any = None
        self._asyncio_future_blocking = False

    def wake(self, wakes: list[Waiter], /) -> None:
        self._mailbox.post(self, self._loop, wakes)

    def leave(self, wakes: list[Waiter]) -> None:
        """Nobody will resume it; ``wakes`` gets who is next."""
        try:
            self._leave(self, wakes)
        except BaseException:
            insist(self._leave, self, wakes)
            raise

    def withdraw(self) -> None:
        """[LEFT] before it runs: the wait can only end by an exception, and what it is promised is for others."""
        wakes: list[Waiter] = []
        try:
            self._pass_on(wakes)
        except BaseException:
            insist(self._pass_on, wakes)
            raise

    def _pass_on(self, wakes: list[Waiter]) -> None:
        try:
            self.leave(wakes)
        finally:
            wake_all(wakes)

    def resume(self) -> None:
        """[PARKED] to [WOKEN]: run the task until it is suspended again, or ends; can be repeated."""
        wakeup, context = self._wakeup, self._context
        if wakeup is None or not self._suspended:
            return
        self._suspended = False
        self._wakeup = self._context = None
        try:
            if context is None:
                wakeup(self)
            else:
                context.run(wakeup, self)
        finally:
            # A cancellation's traceback refers to this frame, and the task to the cancellation.
            del self, wakeup, context

    async def park(self, until: float | None) -> None:
        """Be suspended until woken, or until ``until`` on ``time.monotonic``; ``None`` is for ever.

        It may end early: the caller looks at what it waits for, and at its clock.
        """
        seconds = math.inf if until is None else max(until - monotonic(), 0.0)
        loop = self._loop
        if isinstance(loop, TrioLoop):
            await loop.park(self, seconds)
        elif seconds == math.inf:
            await self
        else:
            pending = [True]
            # Weak, or the alarm would not notice being dropped.
            timer = ref(loop.call_later(seconds, _Alarm(self, pending)))
            try:
                await self
            finally:
                pending.clear()
                handle = timer()
                if handle is not None:
                    handle.cancel()

    def __await__(self) -> Generator[Any, None, None]:
        self._asyncio_future_blocking = True
        try:
            yield self
        finally:
            self._suspended = False

    # The part of asyncio.Future that a task uses.

    def get_loop(self) -> Any:
        return self._loop

    def add_done_callback(self, fn: Callable[[TaskWaiter], object], *, context: Context | None = None) -> None:
        self._context = context
        self._wakeup = fn
        self._suspended = True

    def remove_done_callback(self, fn: Callable[[TaskWaiter], object]) -> int:
        if self._wakeup is not fn:
            return 0
        self._wakeup = self._context = None
        self._suspended = False
        return 1

    def cancel(self, msg: Any = None) -> bool:
        if not self._suspended or self._interrupted:
            return False
        # Not at once: it is called from within other tasks.
        self._loop.call_soon(self.resume)
        self._interrupted = True
        self._message = msg
        self.withdraw()
        return True

    def result(self) -> None:
        if self._interrupted:
            # A new one: kept here, its traceback would be a reference cycle.
            raise CancelledError() if self._message is None else CancelledError(self._message)

    def exception(self) -> None:
        self.result()

    def done(self) -> bool:
        return not self._suspended

    def cancelled(self) -> bool:
        return self._interrupted


@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


async def let_others_run() -> None:
    """Suspend the task until its loop has looked at the others; nothing without a loop."""
    try:
        loop = current_loop()
    except RuntimeError:
        return
    await (loop.checkpoint() if isinstance(loop, TrioLoop) else _pause())
