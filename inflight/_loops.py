"""Event loops, as far as a coroutine that waits needs to know them: shared by both implementations.

Promises: a coroutine that has to wait is suspended by the loop that runs it, asyncio's (or one
that stands in for it, such as uvloop's) or Trio's; nothing here is needed where nobody waits.

Trio is not imported, only found: who runs under it has imported it. ``TrioLoop`` gives one run of
Trio the few methods of an asyncio loop that waking needs. What a loop must have: ``is_closed``,
``call_soon_threadsafe``, which raises RuntimeError once it is closed, and for asyncio's,
``call_soon`` and ``call_later``.

Rejected: sniffio, a dependency for one question.
"""

from __future__ import annotations

import sys
from asyncio import BaseEventLoop, Handle, _get_running_loop, current_task
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

__all__ = ["READY_ROWS", "Loop", "Parked", "TrioLoop", "current_loop", "inside_callback", "inside_step"]

_CALLBACK = Handle._run.__code__
_TURN = BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]

READY_ROWS = 128
"""How many rows ``async for`` takes without suspending before it lets the loop's others run."""


class Loop(Protocol):
    """What both kinds of loops have in common."""

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> object: ...

    def is_closed(self) -> bool: ...


class Parked(Protocol):
    """What a task is suspended on, to Trio."""

    def add_done_callback(self, fn: Callable[[Any], object]) -> None: ...

    def remove_done_callback(self, fn: Callable[[Any], object]) -> int: ...

    def withdraw(self) -> None: ...


def inside_step(loop: Loop) -> bool:
    """Whether ``loop`` runs one of its callbacks, so that it looks at the others before it sleeps.

    In the thread of a loop, but in none of its callbacks, a signal handler or a finalizer may have
    come between that look and the sleep: there only ``call_soon_threadsafe`` ends the sleep.
    """
    return _get_running_loop() is loop and (current_task(loop) is not None or inside_callback(loop))


def inside_callback(loop: Loop) -> bool:
    """The same of the loop that runs in this thread, where it runs none of its tasks. O(frames up to it)."""
    # Another thread may be importing it, and None stands for an import that is forbidden.
    uvloop = getattr(sys.modules.get("uvloop"), "Loop", None)
    if uvloop is not None and isinstance(loop, uvloop):
        # Its sleep ends for a signal, whose handler it runs as a callback.
        return True
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is _CALLBACK:
            return True
        if frame.f_code is _TURN:
            return False
        frame = frame.f_back
    return False


def current_loop() -> Any:
    """The loop that runs the calling coroutine.

    :raises RuntimeError: if there is none.
    """
    loop = _get_running_loop()
    # Trio as a guest runs its tasks in callbacks of its host's loop.
    if hasattr(sys.modules.get("trio"), "lowlevel") and (loop is None or current_task(loop) is None):
        found = TrioLoop.current()
        if found is not None:
            return found
    if loop is None:
        raise RuntimeError("no running event loop: a call that has to wait needs asyncio or Trio to suspend it")
    return loop


class TrioLoop:
    """A run of Trio."""

    _of_this_run: Any = None

    def __init__(self, token: Any) -> None:
        self._token = token
        self._over = False

    @classmethod
    def current(cls) -> TrioLoop | None:
        """The run that this task belongs to; ``None`` outside of Trio's tasks."""
        lowlevel = sys.modules["trio"].lowlevel
        if not lowlevel.in_trio_task():
            return None
        if cls._of_this_run is None:
            # Two threads may both get here; each then has a loop object of its own for its run.
            cls._of_this_run = lowlevel.RunVar("inflight loop")
        var = cls._of_this_run
        loop: TrioLoop | None = var.get(None)
        if loop is None:
            loop = cls(lowlevel.current_trio_token())
            var.set(loop)
        return loop

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` run by the loop.

        :raises RuntimeError: if the run is over; RunFinishedError is one.
        """
        try:
            self._token.run_sync_soon(callback)
        except (sys.modules["trio"].RunFinishedError, OSError) as error:
            # An OSError if the run has crashed.
            self._over = True
            raise RuntimeError("the run of Trio is over") from error

    def is_closed(self) -> bool:
        """Whether a call was refused: what ``run_sync_soon`` accepts is run."""
        return self._over

    async def park(self, waiter: Parked, seconds: float) -> None:
        """Sleep until ``waiter`` is resumed, for at most ``seconds``."""
        trio = sys.modules["trio"]
        task = trio.lowlevel.current_task()

        def resume(_: object) -> None:
            trio.lowlevel.reschedule(task)

        def abort(_: object) -> Any:
            waiter.remove_done_callback(resume)
            if trio.current_time() < scope.deadline:
                # It was cancelled by others, and has nothing left to do but fail.
                waiter.withdraw()
            return trio.lowlevel.Abort.SUCCEEDED

        waiter.add_done_callback(resume)
        with trio.move_on_after(max(seconds, 0)) as scope:
            await trio.lowlevel.wait_task_rescheduled(abort)

    async def checkpoint(self) -> None:
        """Let others run."""
        await sys.modules["trio"].lowlevel.checkpoint()
