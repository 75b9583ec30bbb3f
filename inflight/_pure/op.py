"""Op: one operation, a promise that knows its key.

Promises: finished exactly once, the first wins; then, in this order, its waiters are woken, its
callbacks run, its group is told. None of it runs under a lock. An operation that is dropped
unfinished finishes itself, so that a group fails instead of waiting for ever.

Assumes what outcome.py assumes. One thing is out of reach: an exception that a signal handler
raises at the very entry of ``__del__`` is swallowed by the interpreter, and the finalizer with it.

Rejected: telling the group first (a callback could then no longer add to it).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Generator
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, cast, overload

from .._arguments import shown
from .._report import is_of, raise_first, to_raise
from .._types import K, M, R
from ..errors import AlreadyFinishedError, OpAbandonedError, OpCancelledError
from .outcome import OUTCOME, Ended, Outcome, failed
from .waiters import insist

if TYPE_CHECKING:
    from .callgroup import CallGroup

# At interpreter exit the globals of a module may be None.
_is_finalizing = sys.is_finalizing

# For when the memory, or the time, for more is not given.
_UNNAMED_TEXT = "an operation was dropped unfinished"
_UNNAMED = OpAbandonedError(_UNNAMED_TEXT)

_RETIRED: dict[int, Any] = {OUTCOME: (None, None, None)}


class Op(Outcome, Generic[K, M, R]):
    """One operation: a key, a message for the worker, and an outcome that can be waited for.

    Made by ``Op(key, msg)`` to stand alone, by ``CallGroup.add`` as a member of a group. It is
    finished exactly once, with a result or with an error, from any thread. ``key`` must be
    hashable (TypeError).

    An operation that is garbage-collected unfinished finishes with ``OpAbandonedError`` and
    warns with a ``ResourceWarning``. Operations compare by identity and cannot be pickled.

    >>> from inflight import Op
    >>> op = Op("a", 20)
    >>> op
    <Op key='a' pending>
    >>> op.finish(op.msg + 1)
    >>> op.result()
    21
    """

    __slots__ = ("_group", "_index", "_key", "_msg")
    __module__ = "inflight"

    # Written once, before anybody else knows the operation. The cell belongs to outcome.py.
    _key: K
    _msg: M
    _group: CallGroup[K, M, R] | None
    # Its number in its group. Written once, by the call that adds it; -1 until then.
    _index: int

    @overload
    def __init__(self: Op[K, None, R], key: K) -> None: ...
    @overload
    def __init__(self, key: K, msg: M) -> None: ...
    def __init__(self, key: Any, msg: Any = None) -> None:
        if hasattr(self, "_cell"):
            raise RuntimeError("an Op cannot be initialised again")
        hash(key)
        self._key = key
        self._msg = msg
        self._group = None
        self._index = -1
        self._cell = {}

    @classmethod
    def _of(cls, key: K, msg: M, group: CallGroup[K, M, R] | None, cell: dict[int, Any]) -> Op[K, M, R]:
        """One whose ``key`` is hashed by the caller, and which ``group`` still has to number."""
        self = cls.__new__(cls)
        self._key = key
        self._msg = msg
        self._group = group
        self._index = -1
        self._cell = cell
        return self

    @classmethod
    def _unknown(cls, key: K, msg: M) -> Op[K, M, Any]:
        """One that nobody is to hear of, by a warning either, unless a queue accepts it and gives it a cell."""
        return cls._of(key, msg, None, _RETIRED)

    @property
    def key(self) -> K:
        """The key it was made with."""
        return self._key

    @property
    def msg(self) -> M:
        """The message it was made with."""
        return self._msg

    @property
    def group(self) -> CallGroup[K, M, R] | None:
        """The group it was added to, or ``None`` if it stands alone."""
        return self._group

    def finish(self, result: R | None = None, *, error: BaseException | None = None) -> None:
        """Finish with ``result``, or with ``error`` if that is given.

        Wakes who waits, runs the callbacks, and completes the group if this was its last
        operation: its reducer then runs in this thread. Does not wait for anything itself.

        :raises AlreadyFinishedError: if it is finished; the first outcome stands.
        :raises TypeError: if ``error`` is not an exception instance, or is a StopIteration.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.finish(error=ValueError("no"))
        >>> op
        <Op key='a' failed: ValueError('no')>
        """
        if not Op.try_finish(self, result, error=error):
            raise AlreadyFinishedError(f"operation {shown(self._key)} is already finished")

    def try_finish(self, result: R | None = None, *, error: BaseException | None = None) -> bool:
        """Finish unless it is finished: like ``finish``, but the answer tells whether it did.

        :raises TypeError: if ``error`` is not an exception instance, or is a StopIteration.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.try_finish(1), op.try_finish(2), op.result()
        (True, False, 1)
        """
        passed: list[BaseException] = []
        won = self._end((result, None, None) if error is None else failed(error), passed)
        if passed:
            raise_first(passed)
        return won

    def cancel(self) -> bool:
        """Finish with ``OpCancelledError``; ``False`` if it was finished already.

        Nobody is interrupted: a worker that has the operation finds it finished.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.cancel(), op.cancelled(), op.cancel()
        (True, True, False)
        """
        return Op.try_finish(self, error=OpCancelledError(f"operation {shown(self._key)} was cancelled"))

    def done(self) -> bool:
        """Whether it is finished, in whatever way.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.done()
        False
        >>> op.finish()
        >>> op.done()
        True
        """
        return OUTCOME in self._cell

    def cancelled(self) -> bool:
        """Whether it is finished and its error is an ``OpCancelledError``.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.finish()
        >>> op.cancelled()
        False
        """
        ended: Ended | None = self._cell.get(OUTCOME)
        return ended is not None and is_of(ended[1], OpCancelledError)

    def result(self, timeout: float | None = None) -> R:
        """The result; waits until it is finished, for at most ``timeout`` seconds.

        ``None`` waits for ever, 0 or less does not wait. Any number of threads may wait; the wait
        ends at Ctrl-C. If the operation failed its error is raised, with a traceback of its own
        for every caller.

        :raises TimeoutError: if it is not finished by then.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.finish(7)
        >>> op.result(timeout=1)
        7
        """
        ended = self._ended(timeout)
        error = ended[1]
        if error is None:
            return cast("R", ended[0])
        try:
            raise to_raise(error, ended[2])
        finally:
            # The traceback refers to this frame: without this it would be a reference cycle.
            del self, ended, error

    def __await__(self) -> Generator[Any, None, R]:
        """Wait in a coroutine until it is finished; returns and raises what ``result`` does.

        Suspends the task only, and not at all if it is finished. From any event loop; any number
        of tasks and threads may wait. Cancelling one that waits leaves the operation alone.

        >>> import asyncio
        >>> from inflight import Op
        >>> async def main():
        ...     op = Op("a")
        ...     asyncio.get_running_loop().call_soon(op.finish, 7)
        ...     return await op
        >>> asyncio.run(main())
        7
        """
        yield from self._awaited()
        try:
            return Op.result(self)
        finally:
            # As there.
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error, or ``None`` if it succeeded; waits as ``result`` does. A cancellation is
        returned as well.

        :raises TimeoutError: if it is not finished by then.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.finish(error=ValueError("no"))
        >>> op.exception()
        ValueError('no')
        """
        return self._ended(timeout)[1]

    def add_done_callback(self, fn: Callable[[Op[K, M, R]], object]) -> None:
        """Have ``fn(op)`` called once it is finished, in the thread that finishes it.

        If it is finished already, ``fn`` is called now, in this thread. Callbacks run in the order
        in which they were added, after the waiters were woken and before the group is told. What
        ``fn`` raises is logged; KeyboardInterrupt and SystemExit reach whoever finished the
        operation, after everything else has been done.

        :raises TypeError: if ``fn`` is not callable.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.add_done_callback(lambda op: print(op.key, op.result()))
        >>> op.finish(3)
        a 3
        """
        self._register(fn)

    def __repr__(self) -> str:
        head = f"<{type(self).__name__} key={self._key!r}"
        ended: Ended | None = self._cell.get(OUTCOME)
        if ended is None:
            state = "pending"
        elif ended[1] is None:
            state = "finished"
        elif is_of(ended[1], OpCancelledError):
            state = "cancelled"
        else:
            state = f"failed: {ended[1]!r}"
        return f"{head} {state}>"

    def __del__(self) -> None:
        try:
            cell = self._cell
        except AttributeError:
            # The key could not be hashed.
            return
        if OUTCOME in cell or _is_finalizing is None:
            return
        # Finalized once and never again: whatever happens here, it must be finished.
        try:
            if not _is_finalizing():
                self._dropped()
        except BaseException:
            self._dropped()
            raise

    def _dropped(self) -> None:
        """Finish it, and warn. Can be repeated."""
        if OUTCOME in self._cell:
            return
        passed: list[BaseException] = []
        try:
            text = f"operation {shown(self._key)} was dropped unfinished"
        except BaseException as error:
            text = _UNNAMED_TEXT
            passed.append(error)
        try:
            try:
                self._abandon(text, passed)
            except BaseException:
                insist(self._abandon, text, passed)
                raise
            # CPython crashes in a warning if it has no memory for the objects of the frames it looks
            # at: so these are made first.
            frame: FrameType | None = sys._getframe()
            frame = frame and frame.f_back
            frame = frame and frame.f_back
            del frame
            warnings.warn(text, ResourceWarning, stacklevel=3, source=self)
        except BaseException as error:
            passed.append(error)
        if passed:
            raise_first(passed)

    def _abandon(self, text: str, passed: list[BaseException]) -> None:
        try:
            error = OpAbandonedError(text)
        except MemoryError:
            error = _UNNAMED
        self._end((None, error, None), passed)

    def _end(self, ended: Ended, passed: list[BaseException]) -> bool:
        """``try_finish`` that collects in ``passed`` what must reach the caller at the very end.

        Another ``ended`` for each call, or the second of the same would count as the first.
        """
        try:
            if not self._settle(ended, passed):
                return False
            if self._index >= 0:
                cast("CallGroup[K, M, R]", self._group)._op_finished(self, passed)
        except BaseException:
            # A signal handler raised between two of these steps. All of them can be repeated.
            if self._cell.get(OUTCOME) is ended:
                self._notify(passed)
                if self._index >= 0:
                    cast("CallGroup[K, M, R]", self._group)._op_finished(self, passed)
            raise
        return True

    def _retire(self) -> None:
        """Forget it: it was never handed to anybody, so nobody is to be told, or warned."""
        # All of them share one cell: this takes no memory, of which there may be none.
        self._cell = _RETIRED

    def _ended(self, timeout: float | None) -> Ended:
        ended = self._wait(timeout)
        if ended is None:
            raise TimeoutError(f"operation {shown(self._key)} is not finished after {timeout} seconds")
        return ended

    def _outcome(self) -> tuple[R | None, BaseException | None]:
        """Result and error of a finished operation."""
        ended: Ended = self._cell[OUTCOME]
        return ended[0], ended[1]
