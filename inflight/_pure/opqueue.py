"""OpQueue: what users call, on top of the engine.

Here are the signatures, the argument checks and the documentation; what the queue promises, and
how, is in engine.py and rows.py. DedupeQueue and OpWindow differ in their constructors only.

The calls that take rows hold the list of what they took until they return: interrupted before
that, they put it back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from .. import _arguments
from .._exited import EXITED
from .._loops import READY_ROWS
from .._types import ALL, QueueStats
from ..errors import QueueClosedError, QueueSaturatedError
from .engine import KeyedQueue
from .op import Op
from .opset import OpSet
from .rows import Comparison, Taken
from .tasks import let_others_run
from .waiters import insist

K = TypeVar("K")
M = TypeVar("M")


class OpQueue(KeyedQueue[K]):
    """A thread-safe queue that merges operations of equal keys into one row.

    ``depth`` is how many distinct keys may wait, ``width`` how many operations under one key; both
    at least 1, ``None`` for unbounded. Rows leave in the order in which their keys were first
    enqueued; a row merges until it is taken. Keys are any hashables; those that compare equal are
    one key, as in a dict.

    All methods may be called from any thread, from signal handlers and from finalizers. Waiting
    consumers are served first come, first served, and so are waiting producers. ``enqueue``,
    ``dequeue`` and finishing cost O(1), whatever the depth. ``with queue:`` closes it at the end.

    :raises TypeError: if a bound is neither an int nor ``None``.
    :raises ValueError: if a bound is less than 1.

    >>> from inflight import Op, OpQueue
    >>> queue = OpQueue(depth=100, width=10)
    >>> for key, msg in [("a", 1), ("b", 2), ("a", 3)]:
    ...     queue.enqueue(key, Op(key, msg))
    >>> queue
    <OpQueue 2 of 100 keys waiting>
    >>> with queue.dequeue() as row:
    ...     row.key, [op.msg for op in row], row.finish_all()
    ('a', [1, 3], 2)
    >>> queue.dequeue().finish_all()
    1
    """

    __slots__ = ()
    __module__ = "inflight"

    def __init__(self, depth: int | None, width: int | None) -> None:
        super().__init__(_arguments.bound(depth, "depth"), _arguments.bound(width, "width"), 0.0, exclusive=False)

    @property
    def depth(self) -> int | None:
        """How many distinct keys may wait; ``None`` is unbounded."""
        return self._depth

    @property
    def width(self) -> int | None:
        """How many operations may wait under one key; ``None`` is unbounded."""
        return self._width

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def enqueue(self, key: K, op: Op[Any, Any, Any], *, timeout: float | None = 0) -> None:
        """Add ``op`` to the row of ``key``, or as a new row at the back. O(1).

        By default it never waits. With a ``timeout`` it waits, for at most so many seconds
        (``None``: for ever), while ``depth`` other keys wait; a key that waits already merges at
        once, and a full row is never waited for. The wait ends at Ctrl-C.

        :raises QueueClosedError: once the queue is closed.
        :raises QueueSaturatedDepthError: for a new key, if ``depth`` keys wait already.
        :raises QueueSaturatedWidthError: if the row of the key holds ``width`` operations.
        :raises TypeError: if ``op`` is not an Op, or ``key`` cannot be hashed.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import Op, OpQueue, QueueSaturatedDepthError
        >>> queue = OpQueue(depth=1, width=10)
        >>> ops = [Op("a"), Op("b")]
        >>> queue.enqueue("a", ops[0])
        >>> try:
        ...     queue.enqueue("b", ops[1])
        ... except QueueSaturatedDepthError as error:
        ...     print(error)
        queue is saturated (depth): 1 key waits already, no room for key 'b'
        >>> for op in ops:
        ...     op.finish()
        """
        _check_op(op)
        self._put(Comparison(key), op, 0.0 if type(timeout) is int and timeout <= 0 else _arguments.seconds(timeout))

    def enqueue_many(self, ops: Iterable[Op[Any, Any, Any]]) -> list[tuple[Op[Any, Any, Any], QueueSaturatedError]]:
        """Add every operation under its own key, without waiting. O(n).

        If something is raised on the way, because the queue is closed meanwhile or by a key that is
        compared, the operations before that have been enqueued or refused, and the others not.

        :return: the operations that were refused, each with the error that says why.
        :raises QueueClosedError: once the queue is closed.
        :raises TypeError: if an item is not an Op. Nothing has been enqueued then.

        >>> from inflight import Op, OpQueue
        >>> queue = OpQueue(depth=1, width=10)
        >>> ops = [Op("a"), Op("b"), Op("a")]
        >>> [op.key for op, error in queue.enqueue_many(ops)]
        ['b']
        >>> for op in ops:
        ...     op.finish()
        """
        listed = list(ops)
        for op in listed:
            if not isinstance(op, Op):
                raise TypeError(f"ops must be Op objects, got {op!r}")
        if self._closed:
            raise QueueClosedError("the queue is closed")
        refused: list[tuple[Op[Any, Any, Any], QueueSaturatedError]] = []
        for op in listed:
            try:
                self._put(Comparison(op._key), op, 0.0)
            except QueueSaturatedError as error:
                # Its traceback refers to this frame, which refers to it.
                refused.append((op, error.with_traceback(None)))
        return refused

    @overload
    def submit(self, key: K, *, timeout: float | None = 0) -> Op[K, None, Any]: ...
    @overload
    def submit(self, key: K, msg: M, *, timeout: float | None = 0) -> Op[K, M, Any]: ...
    def submit(self, key: K, msg: Any = None, *, timeout: float | None = 0) -> Op[K, Any, Any]:
        """Make a stand-alone operation, enqueue it, and return it: waits and raises as ``enqueue``.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> op = queue.submit("a", "message")
        >>> queue.dequeue().finish_all("answer")
        1
        >>> op.result()
        'answer'
        """
        seconds = _arguments.seconds(timeout)
        comparison = Comparison(key)
        op: Op[K, Any, Any] = Op._unknown(key, msg)
        comparison.cell = {}
        self._put(comparison, op, seconds)
        return op

    def dequeue(self, timeout: float | None = None) -> OpSet:
        """Take the oldest row that is ready; waits for one, for at most ``timeout`` seconds. O(1).

        ``None`` waits for ever, 0 or less does not wait. The wait ends at Ctrl-C, and nothing is
        lost: a row that was meant for this call goes to the next in line.

        :raises QueueEmptyError: if no row became ready by then.
        :raises QueueClosedError: if the queue is closed and nothing waits (or is owned) any more.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> op = queue.submit("a")
        >>> row = queue.dequeue(timeout=1)
        >>> row
        <OpSet key='a' of 1 operation>
        >>> row.finish_all()
        1
        """
        taken: list[Taken] = []
        try:
            return self._get(1, timeout, taken)[0]
        except BaseException:
            insist(self._put_back, taken)
            raise

    def dequeue_many(self, limit: int, timeout: float | None = None) -> list[OpSet]:
        """Take up to ``limit`` rows that are ready, oldest first; waits for the first, as
        ``dequeue`` does, and not for more. O(rows taken).

        :raises QueueEmptyError: if no row became ready within ``timeout`` seconds.
        :raises QueueClosedError: if the queue is closed and nothing waits (or is owned) any more.
        :raises TypeError: if ``limit`` is not an int.
        :raises ValueError: if ``limit`` is less than 1, or ``timeout`` is NaN.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit(key) for key in "abc"]
        >>> [row.key for row in queue.dequeue_many(2)]
        ['a', 'b']
        >>> for op in ops:
        ...     op.finish()
        """
        limit = _arguments.limit(limit)
        taken: list[Taken] = []
        try:
            return self._get(limit, timeout, taken)
        except BaseException:
            insist(self._put_back, taken)
            raise

    def drain(self) -> list[OpSet]:
        """Take everything that waits, now, whether its window is over or not. O(n), does not wait.

        Rows of an exclusive queue are owned like dequeued ones; what waits behind an owned key
        stays, and so do rows already promised to a consumer that was woken for them.

        >>> from inflight import OpWindow
        >>> queue = OpWindow(10, 10, window=60)
        >>> ops = [queue.submit(key) for key in "ab"]
        >>> [row.key for row in queue.drain()]
        ['a', 'b']
        >>> for op in ops:
        ...     op.finish()
        """
        taken: list[Taken] = []
        try:
            return self._drain(taken)
        except BaseException:
            insist(self._put_back, taken)
            raise

    def process(self, fn: Callable[[OpSet], object], timeout: float | None = None) -> bool:
        """Take one row and call ``fn(row)`` inside ``with row:``; waits for it as ``dequeue`` does.

        What ``fn`` raises becomes the error of the operations it left unfinished, and is raised.

        :return: ``False`` if the queue is closed and nothing waits (or is owned) any more.
        :raises QueueEmptyError: if no row became ready within ``timeout`` seconds.
        :raises TypeError: if ``fn`` is not callable.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> op = queue.submit("a", 20)
        >>> queue.close()
        >>> while queue.process(lambda row: row.finish_all(row[0].msg + 1)):
        ...     pass
        >>> op.result()
        21
        """
        _arguments.function(fn, "fn")
        try:
            row = self.dequeue(timeout)
        except QueueClosedError:
            return False
        # As ``with row:``, but a signal handler may raise at the entry of its methods.
        failure: BaseException | None = None
        try:
            fn(row)
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                row.__exit__(None, failure, None)
            except BaseException:
                insist(row.__exit__, None, failure, None)
                raise
            finally:
                # Its traceback refers to this frame.
                failure = None
        return True

    def __iter__(self) -> Iterator[OpSet]:
        """Rows, waiting for each, until the queue is closed and drained.

        Iterating does not release: ``for row in queue:`` / ``with row:`` is the idiom.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit(key) for key in "ab"]
        >>> queue.close()
        >>> for row in queue:
        ...     with row:
        ...         print(row.key, row.finish_all())
        a 1
        b 1
        """
        return _RowIterator(self)

    def flush(self, key: Any = ALL) -> int:
        """End the window of ``key``, or all windows that are open. O(rows), does not wait.

        :return: how many rows that made ready. What waits behind an owned key is not counted: it
            becomes ready when the key is released.
        :raises TypeError: if ``key`` cannot be hashed.

        >>> from inflight import OpWindow
        >>> queue = OpWindow(10, 10, window=60)
        >>> ops = [queue.submit(key) for key in "ab"]
        >>> queue.flush("b"), queue.dequeue().key, queue.flush()
        (1, 'b', 1)
        >>> for op in ops:
        ...     op.finish()
        """
        return self._flush(key)

    def close(self) -> None:
        """Accept no more operations. Idempotent, does not wait.

        Producers that wait end with ``QueueClosedError``. What waits is still handed out, its open
        windows end now; then consumers end with ``QueueClosedError``.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> queue.close()
        >>> queue
        <OpQueue 0 of 10 keys waiting, closed>
        """
        self._close()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits and nothing is owned, for at most ``timeout`` seconds.

        ``None`` waits for ever, 0 or less does not wait. The wait ends at Ctrl-C. Rows that were
        handed out may still be in work: to wait for that, wait for the operations or their group.

        :return: ``False`` if it did not come to that in time.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import OpQueue
        >>> OpQueue(10, 10).join()
        True
        """
        return self._join(timeout)

    # The same for coroutines.

    async def aenqueue(self, key: K, op: Op[Any, Any, Any], *, timeout: float | None = None) -> None:
        """Add ``op`` as ``enqueue`` does; suspends the task while there is no room for a new key. O(1).

        Waits for depth for at most ``timeout`` seconds, by default for ever; 0 or less does not
        wait. What can be added at once is added without suspending. Producers are served first
        come, first served, threads and tasks alike; one that is cancelled has added nothing.

        :raises QueueClosedError: once the queue is closed, also while waiting.
        :raises QueueSaturatedDepthError: for a new key, if ``depth`` keys wait and go on waiting.
        :raises QueueSaturatedWidthError: if the row of the key holds ``width`` operations.
        :raises TypeError: if ``op`` is not an Op, or ``key`` cannot be hashed.
        :raises ValueError: if ``timeout`` is NaN.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import Op, OpQueue
        >>> async def main():
        ...     queue = OpQueue(depth=1, width=10)
        ...     ops = [Op("a"), Op("b")]
        ...     await queue.aenqueue("a", ops[0])
        ...     asyncio.get_running_loop().call_soon(lambda: queue.dequeue().finish_all())
        ...     await queue.aenqueue("b", ops[1])  # waits until there is room
        ...     return queue.dequeue().finish_all()
        >>> asyncio.run(main())
        1
        """
        _check_op(op)
        await self._aput(Comparison(key), op, _arguments.seconds(timeout))

    @overload
    async def asubmit(self, key: K, *, timeout: float | None = None) -> Op[K, None, Any]: ...
    @overload
    async def asubmit(self, key: K, msg: M, *, timeout: float | None = None) -> Op[K, M, Any]: ...
    async def asubmit(self, key: K, msg: Any = None, *, timeout: float | None = None) -> Op[K, Any, Any]:
        """Make a stand-alone operation, enqueue it, and return it: waits and raises as ``aenqueue``.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> async def main():
        ...     queue = OpQueue(10, 10)
        ...     op = await queue.asubmit("a", "message")
        ...     queue.dequeue().finish_all("answer")
        ...     return await op
        >>> asyncio.run(main())
        'answer'
        """
        seconds = _arguments.seconds(timeout)
        comparison = Comparison(key)
        op: Op[K, Any, Any] = Op._unknown(key, msg)
        comparison.cell = {}
        await self._aput(comparison, op, seconds)
        return op

    async def adequeue(self, timeout: float | None = None) -> OpSet:
        """Take the oldest row that is ready; suspends the task until there is one. O(1).

        Waits for at most ``timeout`` seconds: ``None`` for ever, 0 or less not at all. A row that
        is ready is returned without suspending. Consumers are served first come, first served,
        threads and tasks of any loops alike. One that is cancelled never takes a row: one that was
        meant for it goes to the next in line.

        :raises QueueEmptyError: if no row became ready by then.
        :raises QueueClosedError: if the queue is closed and nothing waits (or is owned) any more.
        :raises ValueError: if ``timeout`` is NaN.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> async def main():
        ...     queue = OpQueue(10, 10)
        ...     asyncio.get_running_loop().call_soon(queue.submit, "a")
        ...     async with await queue.adequeue(timeout=10) as row:
        ...         return row.finish_all()
        >>> asyncio.run(main())
        1
        """
        taken: list[Taken] = []
        try:
            return (await self._aget(1, timeout, taken))[0]
        except BaseException:
            insist(self._put_back, taken)
            raise

    async def adequeue_many(self, limit: int, timeout: float | None = None) -> list[OpSet]:
        """Take up to ``limit`` rows that are ready, oldest first; suspends the task until there is one,
        as ``adequeue`` does, and not for more. O(rows taken).

        :raises QueueEmptyError: if no row became ready within ``timeout`` seconds.
        :raises QueueClosedError: if the queue is closed and nothing waits (or is owned) any more.
        :raises TypeError: if ``limit`` is not an int.
        :raises ValueError: if ``limit`` is less than 1, or ``timeout`` is NaN.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> async def main():
        ...     queue = OpQueue(10, 10)
        ...     ops = [queue.submit(key) for key in "abc"]
        ...     return [(row.key, row.finish_all()) for row in await queue.adequeue_many(10)]
        >>> asyncio.run(main())
        [('a', 1), ('b', 1), ('c', 1)]
        """
        limit = _arguments.limit(limit)
        taken: list[Taken] = []
        try:
            return await self._aget(limit, timeout, taken)
        except BaseException:
            insist(self._put_back, taken)
            raise

    async def aprocess(self, fn: Callable[[OpSet], Awaitable[object]], timeout: float | None = None) -> bool:
        """Take one row and await ``fn(row)`` inside ``with row:``; waits for it as ``adequeue`` does.

        What ``fn`` raises becomes the error of the operations it left unfinished, and is raised;
        if it is cancelled, they fail with ``OpCancelledError``. Either way the row is released.

        :return: ``False`` if the queue is closed and nothing waits (or is owned) any more.
        :raises QueueEmptyError: if no row became ready within ``timeout`` seconds.
        :raises TypeError: if ``fn`` is not callable.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import DedupeQueue
        >>> async def work(row):
        ...     await asyncio.sleep(0)
        ...     row.finish_all(row[0].msg + 1)
        >>> async def main():
        ...     queue = DedupeQueue(10, 10)
        ...     op = queue.submit("a", 20)
        ...     queue.close()
        ...     while await queue.aprocess(work):
        ...         pass
        ...     return await op
        >>> asyncio.run(main())
        21
        """
        _arguments.function(fn, "fn")
        try:
            row = await self.adequeue(timeout)
        except QueueClosedError:
            return False
        # As in ``process``.
        failure: BaseException | None = None
        try:
            await fn(row)
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                row.__exit__(None, failure, None)
            except BaseException:
                insist(row.__exit__, None, failure, None)
                raise
            finally:
                # Its traceback refers to this frame.
                failure = None
        return True

    def __aiter__(self) -> AsyncIterator[OpSet]:
        """Rows for ``async for``, each taken as by ``adequeue``, until the queue is closed and drained.

        After every 128 rows that were ready one after the other it lets the loop run others once.
        Iterating does not release: ``async for row in queue:`` / ``async with row:`` is the idiom.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> async def main():
        ...     queue = OpQueue(10, 10)
        ...     ops = [queue.submit(key) for key in "ab"]
        ...     queue.close()
        ...     async for row in queue:
        ...         async with row:
        ...             print(row.key, row.finish_all())
        >>> asyncio.run(main())
        a 1
        b 1
        """
        return _AsyncRowIterator(self)

    async def ajoin(self, timeout: float | None = None) -> bool:
        """Suspend the task until nothing waits and nothing is owned, for at most ``timeout`` seconds.

        ``None`` waits for ever, 0 or less does not wait. Rows that were handed out may still be in
        work: to wait for that, await the operations or their group.

        :return: ``False`` if it did not come to that in time.
        :raises ValueError: if ``timeout`` is NaN.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> asyncio.run(OpQueue(10, 10).ajoin())
        True
        """
        return await self._ajoin(timeout)

    def stats(self) -> QueueStats:
        """One consistent snapshot of the queue. O(keys that wait), does not wait.

        >>> from inflight import Op, OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit("a"), queue.submit("a")]
        >>> stats = queue.stats()
        >>> stats.keys, stats.ops, stats.merged
        (1, 2, 1)
        >>> queue.dequeue().finish_all()
        2
        """
        return self._stats()

    def __len__(self) -> int:
        """How many distinct keys wait, those behind owned keys included."""
        # Not half of what a call in another thread is about to take.
        spare = self, self, self
        with self._guard():
            keys = len(self._waiting)
            del spare
        return keys

    def __bool__(self) -> bool:
        # An empty queue is still a queue.
        return True

    def __contains__(self, key: object) -> bool:
        """Whether ``key`` waits or is owned; TypeError if it cannot be hashed."""
        return self._contains(key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave_block()

    async def __aenter__(self) -> Self:
        return self

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        self._leave_block()
        return EXITED

    def _leave_block(self) -> None:
        try:
            self.close()
        except BaseException:
            # An interrupt, or an override; whoever waits must learn of the end all the same.
            insist(self._close)
            raise

    def __repr__(self) -> str:
        bound = "" if self._depth is None else f" of {self._depth}"
        state = ", closed" if self._closed else ""
        return f"<{type(self).__name__} {OpQueue.__len__(self)}{bound} keys waiting{state}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__} objects cannot be pickled: they are bound to this process")


def _check_op(op: object) -> None:
    if not isinstance(op, Op):
        raise TypeError(f"op must be an Op, not {_arguments.kind(op)}")


class _RowIterator(Iterator[OpSet]):
    """Not a generator: that would hold every row until the next one is asked for."""

    __slots__ = ("_queue",)

    def __init__(self, queue: OpQueue[Any]) -> None:
        self._queue = queue

    def __next__(self) -> OpSet:
        try:
            return self._queue.dequeue()
        except QueueClosedError:
            raise StopIteration from None


class _AsyncRowIterator(AsyncIterator[OpSet]):
    __slots__ = ("_queue", "_streak")

    def __init__(self, queue: OpQueue[Any]) -> None:
        self._queue = queue
        # Rows in turn that were ready.
        self._streak = 0

    async def __anext__(self) -> OpSet:
        if self._streak >= READY_ROWS:
            self._streak = 0
            # Before anything is taken: who is cancelled here has nothing to lose.
            await let_others_run()
        taken: list[Taken] = []
        try:
            rows = self._queue._try_get(1, None, False, taken)
            self._streak = self._streak + 1 if rows else 0
            return (rows or await self._queue._aget(1, None, taken))[0]
        except QueueClosedError:
            raise StopAsyncIteration from None
        except BaseException:
            insist(self._queue._put_back, taken)
            raise

    # Said of one that was never awaited: the queue is what the user knows.
    __anext__.__qualname__ = "OpQueue.__anext__"
