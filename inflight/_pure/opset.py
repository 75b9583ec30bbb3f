"""OpSet: a row, once handed out: the operations of one key, finished together.

Promises: immutable, in enqueue order; of an exclusive queue it is the ownership of the key, given
back exactly once, by ``release``, by leaving the ``with`` block, or by being dropped.

Rejected: finishing operations in ``__del__`` (whoever drops the row may have kept them; those
that nobody kept finish themselves as abandoned).
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from .. import _arguments
from .._arguments import shown
from .._exited import EXITED
from .._report import PASSED_ON, is_of, raise_first, traceback_apart
from ..errors import OpCancelledError
from .op import Op
from .outcome import Ended, failed
from .waiters import insist

if TYPE_CHECKING:
    from .rows import Row, Rows

# At interpreter exit the globals of a module may be None.
_is_finalizing = sys.is_finalizing


# For when there is no memory for more.
_NO_ERROR = MemoryError("no memory for the error of the worker")
_NO_CANCELLATION = OpCancelledError("an operation was cancelled")


class OpSet(Sequence[Op[Any, Any, Any]]):
    """The operations that waited under one key, in the order in which they were enqueued.

    Made by queues only (TypeError), immutable, a ``collections.abc.Sequence`` of ``Op``; compares
    by identity. A slice is a tuple. Used as a context manager it finishes what a failing worker
    left unfinished, and releases the key:

    >>> from inflight import Op, OpQueue
    >>> queue = OpQueue(depth=10, width=10)
    >>> op = queue.submit("a", 1)
    >>> with queue.dequeue() as row:
    ...     row.key, [op.msg for op in row], row.finish_all("done")
    ('a', [1], 1)
    >>> op.result()
    'done'

    A row of an exclusive queue owns its key. Dropped unreleased, it releases it.
    """

    __slots__ = ("__weakref__", "_key", "_ops", "_queue", "_row", "_ticket")
    __module__ = "inflight"

    # Written once. The queue is there only if this owns its key.
    _key: Any
    _ops: tuple[Op[Any, Any, Any], ...]
    _queue: Rows | None
    _row: Row
    _ticket: int

    def __init__(self) -> None:
        raise TypeError("OpSet cannot be constructed: queues hand them out")

    @classmethod
    def _of(cls, key: Any, ops: tuple[Op[Any, Any, Any], ...], queue: Rows | None, row: Row, ticket: int) -> OpSet:
        self = cls.__new__(cls)
        self._key = key
        self._ops = ops
        self._row = row
        self._ticket = ticket
        self._queue = queue
        return self

    @property
    def key(self) -> Any:
        """The key it was enqueued under, which may differ from the operations' own keys."""
        return self._key

    def finish_all(self, result: Any = None, *, error: BaseException | None = None) -> int:
        """Finish every operation that is not finished yet, with ``result`` or with ``error``.

        Finishes all of them, whatever callbacks and reducers raise. O(n).

        :return: how many it finished.
        :raises TypeError: if ``error`` is not an exception instance, or is a StopIteration.

        >>> from inflight import Op, OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit("a"), queue.submit("a")]
        >>> ops[0].finish("early")
        >>> queue.dequeue().finish_all("late")
        1
        >>> [op.result() for op in ops]
        ['early', 'late']
        """
        if error is None:
            return self._end_each([(op, (result, None, None)) for op in self._ops])
        return self._end_each([(op, failed(error)) for op in self._ops])

    def finish_each(self, results: Iterable[Any]) -> int:
        """Finish every operation that is not finished yet with the result at its position.

        An exception *instance* is the operation's error; a class is a result like any other. O(n).

        :return: how many it finished.
        :raises ValueError: if there is not one result for each operation.
        :raises TypeError: if one is a StopIteration.
            Nothing has been finished then.

        >>> from inflight import Op, OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit("a", 1), queue.submit("a", 0)]
        >>> queue.dequeue().finish_each([1.0, ZeroDivisionError()])
        2
        >>> ops[0].result(), ops[1].exception()
        (1.0, ZeroDivisionError())
        """
        values = tuple(results)
        ops = self._ops
        if len(values) != len(ops):
            raise ValueError(f"finish_each needs {len(ops)} results, one for each operation, got {len(values)}")
        return self._end_each([(op, _as_outcome(value)) for op, value in zip(ops, values, strict=True)])

    def release(self) -> None:
        """Give the key back: what gathered behind it is queued, at the back. Idempotent, O(1).

        Does nothing where the queue is not exclusive. The operations are left as they are.

        >>> from inflight import DedupeQueue
        >>> queue = DedupeQueue(10, 10)
        >>> op = queue.submit("a")
        >>> row = queue.dequeue()
        >>> "a" in queue
        True
        >>> row.release()
        >>> "a" in queue
        False
        >>> row.finish_all()
        1
        """
        queue = self._queue
        if queue is not None:
            queue._release(self._row, self._ticket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc is not None:
                if not isinstance(exc, BaseException):
                    raise TypeError("exception cause must be None or derive from BaseException")
                try:
                    self._fail(exc)
                except BaseException:
                    insist(self._fail, exc)
                    raise
        finally:
            try:
                self.release()
            except BaseException:
                insist(self.release)
                raise

    async def __aenter__(self) -> Self:
        return self

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        self.__exit__(exc_type, exc, traceback)
        return EXITED

    @staticmethod
    def _end_each(endings: list[tuple[Op[Any, Any, Any], Ended]]) -> int:
        """End all of them, in order; only then raise the first of what must reach the caller."""
        passed: list[BaseException] = []
        finished = 0
        endings.reverse()
        while True:
            # Also when a signal handler raises: the others still want their outcome, and this one
            # is ended again, which ends it only if it was not.
            try:
                while True:
                    if not endings:
                        break
                    op, ended = endings[-1]
                    if op._end(ended, passed):
                        finished += 1
                    endings.pop()
                break
            except PASSED_ON as interrupt:
                passed.append(interrupt)
            except BaseException as failure:
                endings.pop()
                passed.append(failure)
        if passed:
            raise_first(passed)
        return finished

    def _fail(self, error: BaseException) -> None:
        """Finish what the worker left unfinished, when ``error`` ended its work, which goes on being raised.

        Can be repeated.
        """
        traceback = None
        try:
            substitute = self._error_for(error)
            traceback = traceback_apart(substitute)
        except MemoryError:
            substitute = _NO_ERROR if is_of(error, Exception) else _NO_CANCELLATION
        self._end_each([(op, (None, substitute, traceback)) for op in self._ops])

    def _error_for(self, error: BaseException) -> BaseException:
        """What unfinished operations get when ``error`` ended their ``with`` block."""
        if not is_of(error, Exception):
            substitute: BaseException = OpCancelledError(f"operation {shown(self._key)} was cancelled")
        elif is_of(error, StopIteration):
            substitute = RuntimeError("the worker raised StopIteration")
        else:
            return error
        substitute.__cause__ = error
        return substitute

    @overload
    def __getitem__(self, index: int) -> Op[Any, Any, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Op[Any, Any, Any], ...]: ...
    def __getitem__(self, index: int | slice) -> Op[Any, Any, Any] | tuple[Op[Any, Any, Any], ...]:
        if type(index) is not int and not isinstance(index, slice):
            if not hasattr(type(index), "__index__"):
                raise TypeError(f"OpSet indices must be integers or slices, not {_arguments.kind(index)}")
            index = operator.index(index)
        try:
            return self._ops[index]
        except IndexError:
            pass
        raise IndexError("OpSet index out of range")

    def __len__(self) -> int:
        return len(self._ops)

    def __iter__(self) -> Iterator[Op[Any, Any, Any]]:
        return iter(self._ops)

    def __reversed__(self) -> Iterator[Op[Any, Any, Any]]:
        backwards: Iterator[Op[Any, Any, Any]] = reversed(self._ops)
        return backwards

    def __contains__(self, value: object) -> bool:
        return value in self._ops

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        """The first position of ``value``, from ``start`` on and before ``stop``.

        :raises ValueError: if it is not there.
        """
        return super().index(value, start, stop)  # type: ignore[arg-type]

    def count(self, value: object) -> int:
        """How often ``value`` is there: as often as it was enqueued."""
        return self._ops.count(value)

    def __repr__(self) -> str:
        noun = "operation" if len(self._ops) == 1 else "operations"
        return f"<{type(self).__name__} key={self._key!r} of {len(self._ops)} {noun}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__} objects cannot be pickled: they are bound to this process")

    def __del__(self) -> None:
        try:
            queue = self._queue
        except AttributeError:
            return
        if queue is None or _is_finalizing is None:
            return
        try:
            if not _is_finalizing():
                queue._release(self._row, self._ticket)
        except BaseException:
            insist(queue._release, self._row, self._ticket)
            raise


def _as_outcome(value: Any) -> Ended:
    """A result of ``finish_each``, checked: an exception instance is an error."""
    return failed(value) if isinstance(value, BaseException) else (value, None, None)
