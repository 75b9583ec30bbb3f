"""Good and bad arguments by name, for tests that pass the same ones to both implementations.

Each is made afresh by a function of the world it is for (twins.py): generators are used up, exceptions get
tracebacks, operations belong to one implementation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Self

from inflight import OpCancelledError

INSTANT = 0.001
"""The only time that anything waits."""


class Index:
    """An int by ``__index__`` only."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"Index({self.value})"


class Real(Index):
    """A number by ``__float__`` only."""

    __index__ = None  # type: ignore[assignment]

    def __float__(self) -> float:
        return float(self.value)


class Converted:
    """A number whose conversion answers or raises what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __float__(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    __index__ = __float__


class FloatSub(float):
    """A subclass."""

    __slots__ = ()


class IntSub(int):
    """A subclass."""

    __slots__ = ()


class StrSub(str):
    """A subclass."""

    __slots__ = ()


class Key:
    """A key with code of its own: ``==`` to nothing else, unless told what it answers or raises."""

    def __init__(self, same_hash: Any, equal: Any = False, *, hashes: Any = None, shown: Any = "Key") -> None:
        self.answers = {"hash": hash(same_hash) if hashes is None else hashes, "eq": equal, "repr": shown}

    def _answer(self, name: str) -> Any:
        answer = self.answers[name]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __hash__(self) -> Any:
        return self._answer("hash")

    def __eq__(self, other: object) -> Any:
        return True if self is other else self._answer("eq")

    def __repr__(self) -> Any:
        return self._answer("repr")


class Ambiguous:
    """An answer of ``==`` that has no truth."""

    def __bool__(self) -> bool:
        raise ValueError("the truth is ambiguous")


class Mean:
    """A Sequence whose length lies."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Any]:
        return iter((1, 2, 3))


class Picky(Exception):
    """Its constructor takes other arguments than it leaves in ``args``."""

    def __init__(self, one: Any, two: Any) -> None:
        super().__init__(f"{one} and {two}")


class Unique(Exception):
    """Cannot be copied: makes its instances in its own way."""

    def __new__(cls) -> Self:
        return super().__new__(cls)


class Unprintable(Exception):
    """Its texts raise."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


def _raising(error: BaseException) -> Callable[..., Any]:
    def fn(*arguments: Any) -> Any:
        raise error

    return fn


async def _async(*arguments: Any) -> int:
    await asyncio.sleep(0)
    return 7


async def _async_raising(*arguments: Any) -> int:
    await asyncio.sleep(0)
    raise ValueError("raised later")


def _half(*items: Any) -> Iterator[Any]:
    """An iterable that raises half way."""
    yield from items
    raise LookupError("half way")


NUMBERS: dict[str, Callable[[Any], Any]] = {
    "none": lambda w: None,
    "true": lambda w: True,
    "false": lambda w: False,
    "zero": lambda w: 0,
    "one": lambda w: 1,
    "two": lambda w: 2,
    "minus": lambda w: -1,
    "huge": lambda w: 10**400,
    "-huge": lambda w: -(10**400),
    "2**63": lambda w: 2**63,
    "2**63-1": lambda w: 2**63 - 1,
    "0.0": lambda w: 0.0,
    "-0.0": lambda w: -0.0,
    "instant": lambda w: INSTANT,
    "-0.5": lambda w: -0.5,
    "1.0": lambda w: 1.0,
    "nan": lambda w: float("nan"),
    "inf": lambda w: float("inf"),
    "-inf": lambda w: -float("inf"),
    "1e300": lambda w: 1e300,
    "complex": lambda w: 1j,
    "FloatSub(0)": lambda w: FloatSub(0.0),
    "FloatSub(nan)": lambda w: FloatSub("nan"),
    "IntSub(0)": lambda w: IntSub(0),
    "IntSub(1)": lambda w: IntSub(1),
    "Index(0)": lambda w: Index(0),
    "Index(1)": lambda w: Index(1),
    "Index(-1)": lambda w: Index(-1),
    "Real(0)": lambda w: Real(0),
    "Real(-1)": lambda w: Real(-1),
    "Fraction": lambda w: Fraction(-1, 2),
    "Decimal": lambda w: Decimal(0),
    "Decimal nan": lambda w: Decimal("nan"),
    "converted to str": lambda w: Converted("1"),
    "converted to None": lambda w: Converted(None),
    "conversion raises": lambda w: Converted(ZeroDivisionError("conversion")),
    "conversion raises StopIteration": lambda w: Converted(StopIteration(3)),
    "conversion raises TypeError": lambda w: Converted(TypeError("conversion")),
    "conversion overflows": lambda w: Converted(OverflowError("conversion")),
    "conversion exits": lambda w: Converted(SystemExit("conversion")),
    "second": lambda w: timedelta(seconds=1),
    "-second": lambda w: timedelta(seconds=-1),
    "timedelta.max": lambda w: timedelta.max,
    "str number": lambda w: "1",
    "bytes number": lambda w: b"1",
}

KEYS: dict[str, Callable[[Any], Any]] = {
    "a": lambda w: "a",
    "b": lambda w: "b",
    "c": lambda w: "c",
    "int key": lambda w: 923,
    "StrSub": lambda w: StrSub("a"),
    "tuple": lambda w: ("a", 1),
    "tuple of a list": lambda w: ("a", []),
    "list": lambda w: [],
    "dict": lambda w: {},
    "odd key": lambda w: Key("a"),
    "equal to all": lambda w: Key("a", True),
    "hash raises": lambda w: Key(0, hashes=ZeroDivisionError("hash")),
    "hash raises StopIteration": lambda w: Key(0, hashes=StopIteration(4)),
    "hash exits": lambda w: Key(0, hashes=SystemExit("hash")),
    "hash is no int": lambda w: Key(0, hashes="x"),
    "eq raises": lambda w: Key("a", ZeroDivisionError("eq")),
    "eq raises StopIteration": lambda w: Key("a", StopIteration(5)),
    "eq raises StopAsyncIteration": lambda w: Key("a", StopAsyncIteration(5)),
    "eq raises GeneratorExit": lambda w: Key("a", GeneratorExit("eq")),
    "eq exits": lambda w: Key("a", SystemExit("eq")),
    "eq has no truth": lambda w: Key("a", Ambiguous()),
    "repr raises": lambda w: Key("z", shown=ZeroDivisionError("repr")),
    "repr is no str": lambda w: Key("z", shown=7),
    "nan key": lambda w: float("nan"),
    "class key": lambda w: int,
}

ERRORS: dict[str, Callable[[Any], Any]] = {
    "error": lambda w: ValueError("v", 2),
    "error with cause": lambda w: _with_cause(ValueError("v")),
    "error class": lambda w: ValueError,
    "StopIteration": lambda w: StopIteration(1),
    "StopIteration class": lambda w: StopIteration,
    "StopAsyncIteration": lambda w: StopAsyncIteration(1),
    "KeyboardInterrupt": lambda w: KeyboardInterrupt("k"),
    "SystemExit": lambda w: SystemExit(3),
    "GeneratorExit": lambda w: GeneratorExit("g"),
    "CancelledError": lambda w: asyncio.CancelledError("c"),
    "OpCancelledError": lambda w: OpCancelledError("cancelled"),
    "picky": lambda w: Picky(1, 2),
    "unique": lambda w: Unique(),
    "unprintable": lambda w: Unprintable("u"),
    "group of errors": lambda w: ExceptionGroup("group", [ValueError(1), KeyError(2)]),
}

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "returning": lambda w: lambda *arguments: 7,
    "raising": lambda w: _raising(ValueError("raised")),
    "raising StopIteration": lambda w: _raising(StopIteration(6)),
    "raising StopAsyncIteration": lambda w: _raising(StopAsyncIteration(6)),
    "raising KeyboardInterrupt": lambda w: _raising(KeyboardInterrupt("raised")),
    "raising SystemExit": lambda w: _raising(SystemExit(5)),
    "raising GeneratorExit": lambda w: _raising(GeneratorExit("raised")),
    "raising unprintable": lambda w: _raising(Unprintable("u")),
    "two parameters": lambda w: lambda one, two: None,
    "async": lambda w: _async,
    "async raising": lambda w: _async_raising,
    "finishing": lambda w: lambda row, *more: row.finish_all(8),
    "class": lambda w: object,
}

ITERABLES: dict[str, Callable[[Any], Any]] = {
    "empty list": lambda w: [],
    "empty tuple": lambda w: (),
    "numbers": lambda w: [1, 2],
    "a number": lambda w: [1],
    "errors": lambda w: [ValueError("one"), KeyboardInterrupt("two")],
    "error classes": lambda w: [ValueError, KeyError],
    "a StopIteration": lambda w: [1, StopIteration(2)],
    "generator": lambda w: (number for number in (1, 2)),
    "half way": lambda w: _half(1, 2),
    "string": lambda w: "ab",
    "mapping": lambda w: {"a": 1, "b": 2},
    "lying": lambda w: Mean(),
    "pairs": lambda w: [("x", 1), ("y", 2)],
    "pairs, half way": lambda w: _half(("x", 1)),
    "pairs and a number": lambda w: [("x", 1), 2],
    "pairs and a triple": lambda w: [("x", 1), (1, 2, 3)],
    "pairs and an error": lambda w: [("x", 1), _half(1)],
    "strings of two": lambda w: ["ab", "cd"],
    "unhashable pairs": lambda w: [("x", 1), ([], 2)],
    "pairs with a bad hash": lambda w: [(Key(0, hashes=ZeroDivisionError("hash")), 2)],
    "ops": lambda w: [w.impl.Op("a"), w.impl.Op("c"), w.impl.Op("a")],
    "ops, half way": lambda w: _half(w.impl.Op("a")),
    "ops and a number": lambda w: [w.impl.Op("a"), 1],
    "ops, one of a bad key": lambda w: [w.impl.Op("c"), w.impl.Op(Key("a", ZeroDivisionError("eq"))), w.impl.Op("b")],
    "no iterable": lambda w: 5,
}

OPS: dict[str, Callable[[Any], Any]] = {
    "op": lambda w: w.impl.Op("a", "msg"),
    "finished op": lambda w: w.finished("a"),
    "foreign op": lambda w: w.other.Op("a"),
    "subclass op": lambda w: w.subclass("Op")("a"),
    "op class": lambda w: w.impl.Op,
    "object": lambda w: Bare(),
}

VALUES = NUMBERS | KEYS | ERRORS | FUNCTIONS | ITERABLES | OPS


class Bare:
    """An object with nothing to it."""

    def __repr__(self) -> str:
        return "Bare()"


def _with_cause(error: BaseException) -> BaseException:
    try:
        raise KeyError("context")
    except KeyError as context:
        error.__cause__, error.__context__ = OSError("cause"), context
    error.add_note("note")
    return error
