"""CallGroup: operations fanned out, and one reducer when the last of them has finished.

Promises: the reducer runs exactly once, outside every lock, in the thread that finished the last
operation or sealed or left the group; the group's waiters and callbacks come after it. A group
completes when nothing is outstanding, nothing holds it, and it has had an operation or was sealed.

The group does not refer to operations that are not finished, or nobody could see that one was
dropped: finished ones report themselves, under the number they were added with. That record is
the count as well, so that a report repeated after an interrupt counts once.

Assumes that CPython runs signal handlers only at calls and backward jumps: statements without
either, marked ``commit``, are not interrupted. Rejected: one lock round trip per finish (only
the one that may be the last needs it).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, cast, overload

from .. import _arguments, _fork
from .._exited import EXITED
from .._report import PASSED_ON, is_of, raise_first, report, to_raise, traceback_of
from .._results import Results, Unfilled
from .._types import K, M, R
from ..errors import GroupClosedError
from . import waiters
from .op import Op
from .outcome import OUTCOME, Ended, Outcome
from .waiters import insist


class CallGroup(Outcome, Generic[K, M, R]):
    """A group of operations with one reducer.

    ``on_complete(results)`` runs once, when the last operation has finished, in the thread that
    finished it. What it raises is logged and re-raised by ``result()``; it does not reach the
    worker. It may call anything, this group included, except wait for it.

    The group completes when no operation is outstanding, nothing holds it, and it has had an
    operation or was sealed. ``with group:`` holds it while operations are added, so that fast
    workers cannot complete it too early, and seals it at the end.

    :raises TypeError: if ``on_complete`` is neither callable nor ``None``.

    >>> from inflight import CallGroup
    >>> with CallGroup(lambda results: print(sum(r.result for r in results.responses))) as group:
    ...     ops = group.add_many([("a", 20), ("b", 22)])
    >>> for op in ops:
    ...     op.finish(op.msg)
    42
    """

    __slots__ = (
        "_added",
        "_complete",
        "_completed",
        "_finished",
        "_generation",
        "_holds",
        "_lock",
        "_on_complete",
        "_reducing",
        "_results",
        "_sealed",
    )
    __module__ = "inflight"

    # Written once.
    _on_complete: Callable[[Results[K, M, R]], object] | None
    # Replaced together in a child process, under waiters.renewing.
    _lock: threading.RLock
    _generation: int
    # Guarded by the lock. The first only grows, so that it may be read without.
    _added: int
    _holds: int
    _sealed: bool
    # Set under the lock by the one thread that runs the reducer.
    _complete: bool
    # That thread's identifier while it does; written by it alone.
    _reducing: int | None
    # Finished operations by number: single C calls only; read whole after _complete.
    _finished: dict[int, Op[K, M, R]]
    # Made with the group, so that none of its making can fail at the end; then filled by that thread.
    _results: Results[K, M, R]
    _completed: Ended

    def __init__(self, on_complete: Callable[[Results[K, M, R]], object] | None = None) -> None:
        if hasattr(self, "_cell"):
            raise RuntimeError("a CallGroup cannot be initialised again")
        if on_complete is not None:
            _arguments.function(on_complete, "on_complete")
        self._on_complete = on_complete
        self._lock = waiters.new_lock(threading.RLock)
        self._generation = _fork.generation
        self._added = 0
        self._holds = 0
        self._sealed = False
        self._complete = False
        self._reducing = None
        self._finished = {}
        results: Unfilled[K, M, R] = Unfilled()
        self._results = results
        self._completed = (results, None, None)
        self._cell = {}

    @overload
    def add(self: CallGroup[K, None, R], key: K) -> Op[K, None, R]: ...
    @overload
    def add(self, key: K, msg: M) -> Op[K, M, R]: ...
    def add(self, key: Any, msg: Any = None) -> Any:
        """Add an operation and return it. O(1), does not wait.

        :raises GroupClosedError: once the group is sealed or complete.
        :raises TypeError: if ``key`` cannot be hashed.

        >>> from inflight import CallGroup
        >>> group = CallGroup()
        >>> op = group.add("a", 1)
        >>> group.outstanding
        1
        >>> op.finish()
        """
        hash(key)
        op = Op._of(key, msg, self, {})
        self._admit((op,))
        return op

    def add_many(self, items: Iterable[tuple[K, M]]) -> list[Op[K, M, R]]:
        """Add an operation for each ``(key, msg)``, all or none. O(n), does not wait.

        :return: the operations, in the order of ``items``.
        :raises GroupClosedError: once the group is sealed or complete.
        :raises TypeError: if an item is not a pair, or its key cannot be hashed.

        >>> from inflight import CallGroup
        >>> group = CallGroup()
        >>> [op.key for op in group.add_many([("a", 1), ("b", 2)])]
        ['a', 'b']
        >>> group.done()  # they were dropped unfinished, which finishes them
        True
        """
        pairs: list[tuple[K, M]] = []
        for item in items:
            try:
                if isinstance(item, (str, bytes)):
                    raise TypeError("the letters of a key are no pair")
                key, msg = item
            except (TypeError, ValueError):
                raise TypeError(f"items must be (key, msg) pairs, got {item!r}") from None
            hash(key)
            pairs.append((key, msg))
        ops = [Op._of(key, msg, self, {}) for key, msg in pairs]
        if ops:
            self._admit(ops)
        else:
            self._refuse_if_closed()
        return ops

    def seal(self) -> None:
        """Accept no more operations. Idempotent.

        A group without any completes here: its reducer then runs in this thread.

        >>> from inflight import CallGroup
        >>> group = CallGroup(lambda results: print(len(results)))
        >>> group.seal()
        0
        """
        passed: list[BaseException] = []
        try:
            self._sealed = True
            self._complete_if_over(passed)
        except BaseException:
            insist(self._complete_if_over, passed)
            raise
        if passed:
            raise_first(passed)

    @property
    def outstanding(self) -> int:
        """How many operations are not finished yet. An operation's callbacks still see it counted."""
        # In this order: the other might see more finished than added. And again, if some were added and
        # finished in between: there never were so many at once.
        while True:
            finished = len(self._finished)
            added = self._added
            if len(self._finished) == finished:
                return added - finished

    def __len__(self) -> int:
        return self._added

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Self:
        held: dict[int, bool] = {}
        try:
            spare = self, self, self
            with self._guard():
                holds = self._holds + 1
                # Commit. What may fail for want of memory first.
                if not self._complete:
                    held[0] = True
                    self._holds = holds
                del spare
        except BaseException:
            # Not entered, so that nobody will leave.
            insist(self._complete_if_over, [], held)
            raise
        if not held:
            raise GroupClosedError("the group is complete")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        passed: list[BaseException]
        try:
            held, passed = {0: True}, []
        except BaseException:
            # Who has entered leaves, whatever happens.
            insist(self._complete_if_over, [], {0: True}, True)
            raise
        try:
            self._complete_if_over(passed, held, seal=True)
        except BaseException:
            insist(self._complete_if_over, passed, held, True)
            raise
        if held:
            raise RuntimeError("the group is left more often than it was entered")
        if passed:
            raise_first(passed)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        self.__exit__(exc_type, exc, traceback)
        return EXITED

    def done(self) -> bool:
        """Whether it is complete and its reducer has returned.

        >>> from inflight import CallGroup
        >>> group = CallGroup()
        >>> group.done()
        False
        >>> group.seal()
        >>> group.done()
        True
        """
        return OUTCOME in self._cell

    def result(self, timeout: float | None = None) -> Results[K, M, R]:
        """What the operations ended with; waits until the reducer has returned, for at most
        ``timeout`` seconds.

        ``None`` waits for ever, 0 or less does not wait. The wait ends at Ctrl-C. Operations that
        failed do not make this raise; what the reducer raised is raised here, with a traceback of
        its own for every caller.

        :raises TimeoutError: if the group is not complete by then.
        :raises RuntimeError: if the reducer waits for its own group.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import CallGroup
        >>> with CallGroup() as group:
        ...     group.add("a").finish(1)
        >>> group.result()["a"].result
        1
        """
        self._refuse_reducer()
        ended = self._wait(timeout)
        if ended is None:
            raise TimeoutError(f"the group is not complete after {timeout} seconds")
        error = ended[1]
        if error is None:
            return cast("Results[K, M, R]", ended[0])
        try:
            raise to_raise(error, ended[2])
        finally:
            # The traceback refers to this frame: without this it would be a reference cycle.
            del self, ended, error

    def __await__(self) -> Generator[Any, None, Results[K, M, R]]:
        """Wait in a coroutine until the reducer has returned; returns and raises what ``result`` does.

        Suspends the task only, and not at all if it has returned already. From any event loop; any
        number of tasks and threads may wait. Cancelling one that waits leaves the group alone.

        :raises RuntimeError: if the reducer waits for its own group.

        >>> import asyncio
        >>> from inflight import CallGroup
        >>> async def main():
        ...     async with CallGroup() as group:
        ...         op = group.add("a")
        ...     asyncio.get_running_loop().call_soon(op.finish, 1)
        ...     return await group
        >>> asyncio.run(main())["a"].result
        1
        """
        self._refuse_reducer()
        yield from self._awaited()
        try:
            return CallGroup.result(self)
        finally:
            # As there.
            del self

    def add_done_callback(self, fn: Callable[[CallGroup[K, M, R]], object]) -> None:
        """Have ``fn(group)`` called once the reducer has returned, in the thread that ran it.

        If it has returned already, ``fn`` is called now, in this thread. Callbacks run in the
        order in which they were added. What ``fn`` raises is logged; KeyboardInterrupt and
        SystemExit reach whoever completed the group, after everything else has been done.

        :raises TypeError: if ``fn`` is not callable.

        >>> from inflight import CallGroup
        >>> group = CallGroup()
        >>> group.add_done_callback(print)
        >>> group.seal()
        <CallGroup complete 0 of 0 outstanding>
        """
        self._register(fn)

    def __repr__(self) -> str:
        state = "complete" if self._complete else "sealed" if self._sealed else "open"
        return f"<{type(self).__name__} {state} {self.outstanding} of {self._added} outstanding>"

    def _guard(self) -> threading.RLock:
        """The lock; a fresh one in a child process, where nobody may be left to release the old."""
        if self._generation != _fork.generation:
            spare = self, self, self
            with waiters.renewing:
                if self._generation != _fork.generation:
                    # Commit.
                    self._lock, self._generation = threading.RLock(), _fork.generation
                del spare
        return self._lock

    def _refuse_reducer(self) -> None:
        if self._reducing == threading.get_ident() and OUTCOME not in self._cell:
            raise RuntimeError("a group's reducer cannot wait for its own group")

    def _refuse_if_closed(self) -> None:
        if self._complete:
            raise GroupClosedError("the group is complete")
        if self._sealed:
            raise GroupClosedError("the group is sealed")

    def _admit(self, ops: Sequence[Op[K, M, R]]) -> None:
        """Number ``ops``, all or none."""
        count = len(ops)
        first = -1
        try:
            spare = self, self, self
            with self._guard():
                # Commit.
                if not self._complete and not self._sealed:
                    first = self._added
                    self._added = first + count
                del spare
            self._number(ops, first)
        except BaseException:
            # What is counted must be able to report itself, and does so when it is dropped.
            insist(self._number, ops, first)
            raise
        if first < 0:
            self._refuse_if_closed()

    @staticmethod
    def _number(ops: Sequence[Op[K, M, R]], first: int) -> None:
        """Number them from ``first`` on; retire them if it is negative. Can be repeated."""
        for number, op in enumerate(ops, first):
            if first >= 0:
                op._index = number
            else:
                op._retire()

    def _op_finished(self, op: Op[K, M, R], passed: list[BaseException]) -> None:
        """Record ``op``, and complete the group if it was the last. Can be repeated."""
        finished = self._finished
        finished[op._index] = op
        # Of those who finish at the same time, the one recorded last sees all of them.
        if len(finished) >= self._added:
            self._complete_if_over(passed)

    def _complete_if_over(
        self, passed: list[BaseException], held: dict[int, bool] | None = None, seal: bool = False
    ) -> None:
        """Complete the group if it is over, once the hold has ended that ``held`` has, which is emptied.

        In one step: entered in between, the group would be sealed by a block that was not the last.
        Can be repeated.
        """
        mine = False
        try:
            thread = threading.get_ident()
            spare = self, self, self
            with self._guard():
                while True:
                    finished = len(self._finished)
                    # Commit.
                    if held and self._holds:
                        del held[0]
                        self._holds -= 1
                        if seal and not self._holds:
                            self._sealed = True
                    over = finished == self._added and (finished or self._sealed)
                    if over and not self._complete and not self._holds:
                        self._complete = mine = True
                        self._reducing = thread
                    # Or a signal handler has finished the last, before the hold had ended.
                    if mine or len(self._finished) == finished:
                        break
                del spare
            if not mine:
                return
            ended = self._reduced(passed)
            try:
                self._settle(ended, passed)
            except BaseException:
                insist(self._settle, ended, passed)
                raise
            self._reducing = None
        except BaseException as error:
            # A signal handler raised between two of these steps: nobody else would do the rest.
            if mine:
                insist(self._settle_interrupted, (None, error, traceback_of(error)), passed)
            raise

    def _settle_interrupted(self, ended: Ended, passed: list[BaseException]) -> None:
        self._reducing = None
        if not self._settle(ended, passed):
            self._notify(passed)

    def _reduced(self, passed: list[BaseException]) -> Ended:
        """Run the reducer; what it raises is the outcome of the group."""
        results = self._results
        try:
            results._ops = self._in_order()
        except MemoryError:
            # They ask for them when somebody looks.
            results._group = self
        results.__class__ = Results
        if self._on_complete is not None:
            try:
                self._on_complete(results)
            except BaseException as error:
                traceback = traceback_of(error)
                report("on_complete", self, error, passed)
                if is_of(error, PASSED_ON):
                    passed.append(error)
                return None, error, traceback
        return self._completed

    def _in_order(self) -> tuple[Op[K, M, R], ...]:
        """All operations, in the order in which they were added."""
        return tuple([self._finished[number] for number in range(self._added)])
