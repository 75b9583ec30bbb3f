"""What a group's operations ended with: Response and Results, shared by both implementations.

A group hands over its operations in the order in which they were added, all of them finished.
Everything else is made when somebody asks for it: a reducer that looks at nothing pays for
nothing. An operation is finished exactly once, so what is made late shows the same as what is
made early, and an instance never changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from ._types import K, M, R

if TYPE_CHECKING:
    from ._pure.callgroup import CallGroup
    from ._pure.op import Op


class Response(NamedTuple, Generic[K, M, R]):
    """What one operation ended with; immutable, and unpacks as ``op, result, error``.

    >>> from inflight import CallGroup
    >>> with CallGroup() as group:
    ...     op = group.add("a")
    >>> op.finish(3)
    >>> group.result()["a"].result
    3
    """

    op: Op[K, M, R]
    """The operation."""
    result: R | None
    """Its result; ``None`` where there is an error."""
    error: BaseException | None
    """Its error, or ``None``."""


class Results(Mapping[K, Response[K, M, R]], Generic[K, M, R]):
    """The responses of a complete group, as handed to its reducer; immutable.

    A mapping from key to ``Response`` in the order in which the keys were first added. Where
    several operations were added under one key, the mapping shows the last one; ``responses``
    has every one. Making it costs nothing; the index is built at the first lookup, O(n) once.

    >>> from inflight import CallGroup
    >>> with CallGroup() as group:
    ...     ops = group.add_many([("a", 1), ("b", 2)])
    >>> for op in ops:
    ...     op.finish(op.msg * 10)
    >>> {key: response.result for key, response in group.result().items()}
    {'a': 10, 'b': 20}
    """

    __slots__ = ("__weakref__", "_group", "_index", "_ops", "_responses")

    # Set only where there was no memory for `_ops`, which is then None until somebody looks.
    _group: CallGroup[K, M, R] | None
    _ops: tuple[Op[K, M, R], ...] | None
    _responses: tuple[Response[K, M, R], ...] | None
    _index: dict[K, Response[K, M, R]] | None

    def __init__(self) -> None:
        raise TypeError("Results cannot be constructed: a CallGroup hands them to its reducer")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Results are immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Results are immutable: cannot delete {name!r}")

    @property
    def responses(self) -> tuple[Response[K, M, R], ...]:
        """Every operation's response in add order, duplicates of a key included. O(n) once."""
        responses = self._responses
        if responses is None:
            # Two threads may both get here and make equal tuples; either may stay.
            responses = tuple([Response(op, *op._outcome()) for op in self._in_order()])
            object.__setattr__(self, "_responses", responses)
        return responses

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """The error of every operation that failed, in add order. O(n)."""
        return tuple([response.error for response in self.responses if response.error is not None])

    def raise_for_errors(self) -> None:
        """Raise all errors as one group, if there is any: an ``ExceptionGroup`` where all of them
        are Exceptions, a ``BaseExceptionGroup`` otherwise. O(n).

        >>> from inflight import CallGroup
        >>> with CallGroup() as group:
        ...     group.add("a").finish(error=ValueError("no"))
        >>> try:
        ...     group.result().raise_for_errors()
        ... except* ValueError as caught:
        ...     print(caught.exceptions)
        (ValueError('no'),)
        """
        errors = self.errors
        if errors:
            total = len(self._in_order())
            raise BaseExceptionGroup(f"{len(errors)} of {total} operations failed", errors)

    def __getitem__(self, key: K) -> Response[K, M, R]:
        return self._by_key()[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._by_key())

    def __len__(self) -> int:
        return len(self._by_key())

    def __repr__(self) -> str:
        return f"<Results of {len(self._in_order())} operations, {len(self.errors)} failed>"

    def __reduce__(self) -> Any:
        raise TypeError("Results cannot be pickled: they hold the operations of a CallGroup")

    def _in_order(self) -> tuple[Op[K, M, R], ...]:
        # In this order: whoever has got the operations lets go of the group.
        group = self._group
        ops = self._ops
        if ops is None:
            # Two threads may both get here, as in `responses`.
            assert group is not None
            ops = group._in_order()
            object.__setattr__(self, "_ops", ops)
            object.__setattr__(self, "_group", None)
        return ops

    def _by_key(self) -> dict[K, Response[K, M, R]]:
        index = self._index
        if index is None:
            index = {response.op.key: response for response in self.responses}
            object.__setattr__(self, "_index", index)
        return index


class Unfilled(Results[K, M, R]):
    """Results of a group that is not complete: the one that can be filled, by plain assignments, which
    take no memory. It ends as one of its base class.
    """

    __slots__ = ()

    __setattr__ = object.__setattr__  # type: ignore[assignment]

    def __init__(self) -> None:
        self._group = None
        self._ops = None
        self._responses = None
        self._index = None
