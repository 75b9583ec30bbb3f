"""The same calls on both implementations, and what each of them shows of it.

A ``World`` has the objects of one implementation. A ``Call`` names what is called and what is passed,
so that it can be made in two worlds: arguments are made afresh by what ``VALUES`` has under their names.
What a call shows is reduced to plain data: its answer or exception, texts, causes, log records, warnings,
unraisable exceptions, and the state of the object afterwards. Nothing here waits for more than an instant:
see ``waits``.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import itertools
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from helpers import HANG
from odd_values import INSTANT, VALUES

from inflight import Results, _arguments
from inflight._invariants import check_invariants

# ---- calls --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """``target.method(*arguments, **keywords)``, with the names of what is passed."""

    target: str
    method: str
    arguments: tuple[str, ...] = ()
    keywords: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        passed = [f"<{each}>" for each in self.arguments] + [f"{name}=<{each}>" for name, each in self.keywords]
        return f"{self.target}.{self.method}({', '.join(passed)})"


@dataclass
class World:
    """The objects of one implementation, by name."""

    impl: Any
    other: Any
    clock: Any
    loop: asyncio.AbstractEventLoop
    objects: dict[str, Any] = field(default_factory=dict)
    # What must not be dropped while the test looks on.
    kept: list[Any] = field(default_factory=list)

    def finished(self, key: Any) -> Any:
        op = self.impl.Op(key)
        op.finish("early")
        return op

    def subclass(self, name: str) -> Any:
        return type("Sub", (getattr(self.impl, name),), {})

    def new(self, name: str) -> Any:
        """An object that was never initialised."""
        cls = getattr(self.impl, name)
        return cls.__new__(cls)

    def keep(self, *values: Any) -> Any:
        self.kept.extend(values)
        return values[0]

    def value(self, name: str) -> Any:
        value = self.objects[name] if name in self.objects else VALUES[name](self)
        self.kept.append(value)
        return value

    def make(self, call: Call) -> Any:
        """Make the call, and run what has to be awaited to its end."""
        target = self.objects[call.target]
        if call.method in CONSUMED:
            return CONSUMED[call.method](self, target)
        arguments = [self.value(name) for name in call.arguments]
        keywords = {name: self.value(each) for name, each in call.keywords}
        answer = getattr(target, call.method)(*arguments, **keywords)
        if call.method in AWAITED:
            answer = self.run(answer)
        self.kept.append(answer)
        return answer

    def run(self, awaitable: Any) -> Any:
        """What awaiting it on the loop comes to."""

        async def guarded() -> Any:
            # What leaves a task stops the loop, or confuses it.
            try:
                async with asyncio.timeout(HANG):
                    return await awaitable, None
            except BaseException as error:
                return None, error

        answer, error = self.loop.run_until_complete(guarded())
        if error is not None:
            raise error
        return answer


async def _collected(iterable: Any) -> list[Any]:
    return [each async for each in iterable]


# What is written without a method's name.
CONSUMED: dict[str, Callable[[World, Any], Any]] = {
    "for": lambda world, it: list(it),
    "async for": lambda world, it: world.run(_collected(it)),
    "await": lambda world, it: world.run(it),
    "iter of iter": lambda world, it: (each := iter(it)) is iter(each),
    "aiter of aiter": lambda world, it: (each := aiter(it)) is aiter(each),
    "hash": lambda world, it: hash(it) == hash(it),
    "==": lambda world, it: [it == it, it != it, it == 1, it != 1],
    "<": lambda world, it: it < it,
    "bool": lambda world, it: bool(it),
    "str": lambda world, it: str(it),
    "format": lambda world, it: f"{it}",
    "copy": lambda world, it: copy.copy(it),
    "deepcopy": lambda world, it: copy.deepcopy(it),
    "unpacking": lambda world, it: [*it],
    "match": lambda world, it: _matched(it),
    "delete": lambda world, it: it.__delitem__(0),
}


def _matched(it: Any) -> Any:
    match it:
        case [first, *rest]:
            return first, len(rest)
        case []:
            return "empty"
        case _:
            return "no sequence"


AWAITED = {"aenqueue", "asubmit", "adequeue", "adequeue_many", "aprocess", "ajoin", "__aenter__", "__aexit__"}


def fits(function: Any, arguments: int, keywords: tuple[str, ...]) -> bool:
    """Whether it takes so many arguments and these keywords: else the interpreter, or Cython, refuses the call."""
    try:
        inspect.signature(function).bind(*range(arguments), **dict.fromkeys(keywords))
    except TypeError:
        return False
    return True


def waits(value: Any) -> bool:
    """Whether a timeout of ``value`` may wait for more than an instant."""
    try:
        seconds = _arguments.seconds(value)
    except BaseException:
        return False
    return seconds is None or seconds > INSTANT


# ---- what is seen -------------------------------------------------------------------------------

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_TYPE = re.compile(r"\binflight\.(Op|CallGroup|OpSet|OpQueue|DedupeQueue|OpWindow)\b")
_MODULE = re.compile(r"\binflight\._(native|pure(\.\w+)?)\b")


def plain(text: str) -> str:
    """A text without what must differ: addresses, private modules, and how the interpreter names types."""
    return _TYPE.sub(r"\1", _MODULE.sub("inflight", _ADDRESS.sub("0x", text)))


def shown(value: Any) -> str:
    """The representation, or the exception that it raises."""
    try:
        return plain(repr(value))
    except BaseException as error:
        return f"repr raises {type(error).__name__}: {error.args}"


def kind(value: Any) -> str:
    """The name of the type."""
    return type(value).__name__.lstrip("_")


def seen(value: Any, depth: int = 0) -> Any:
    """Plain data that says what a value is."""
    if depth > 4 or value is None or isinstance(value, str | int | float | bytes):
        return (kind(value), shown(value))
    if isinstance(value, BaseException):
        return seen_error(value, depth + 1)
    if isinstance(value, Results):
        return ("Results", shown(value), [seen(each, depth + 1) for each in value.responses])
    if isinstance(value, tuple | list):
        return (kind(value), [seen(each, depth + 1) for each in value])
    name = kind(value)
    if name == "OpSet":
        return ("OpSet", shown(value), [shown(each) for each in value])
    if name in ("Op", "Sub", "CallGroup", "OpQueue", "DedupeQueue", "OpWindow", "Key"):
        return (name, shown(value))
    if name in ("coroutine", "generator", "Wait"):
        return ("coroutine", value.__qualname__)
    return (name,)


def seen_error(error: BaseException | None, depth: int = 0) -> Any:
    """Type, text, arguments and causes of an exception."""
    if error is None or depth > 5:
        return error and type(error).__name__
    try:
        text = plain(str(error))
    except BaseException as failure:
        text = f"str raises {type(failure).__name__}"
    more = {name: seen(each, depth + 1) for name, each in vars(error).items() if name != "__notes__"}
    return (
        f"{type(error).__module__}.{type(error).__qualname__}",
        text,
        [seen(each, depth + 1) for each in error.args],
        more,
        getattr(error, "__notes__", None),
        ("cause", seen_error(error.__cause__, depth + 1)),
        # Not even shown if suppressed.
        ("context", error.__suppress_context__ or seen_error(error.__context__, depth + 1)),
    )


class _Handler(logging.Handler):
    def __init__(self, records: list[Any]) -> None:
        super().__init__()
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = plain(record.getMessage())
        except Exception as error:
            text = f"raises {type(error).__name__}"
        self.records.append((record.levelname, text, seen_error(record.exc_info[1] if record.exc_info else None)))


@contextlib.contextmanager
def overheard(notes: dict[str, Any]) -> Iterator[None]:
    """Collect in ``notes`` what is logged, warned of, and cannot be raised."""
    logged: list[Any] = []
    lost: list[Any] = []
    handler = _Handler(logged)
    logger = logging.getLogger("inflight")
    before = sys.unraisablehook
    sys.unraisablehook = lambda args: lost.append(seen_error(args.exc_value))
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
    finally:
        sys.unraisablehook = before
        logger.removeHandler(handler)
        logger.propagate = propagate
    notes["logged"] = logged
    notes["warned"] = [(each.category.__name__, plain(str(each.message))) for each in warned]
    notes["lost"] = lost


def state(value: Any) -> Any:
    """What the object shows of itself without being changed."""
    found: dict[str, Any] = {"repr": shown(value)}
    for name in ("stats", "done", "cancelled"):
        if hasattr(type(value), name):
            found[name] = attempt(lambda name=name: getattr(value, name)())  # type: ignore[misc]
    for name in ("closed", "depth", "width", "window", "exclusive", "outstanding", "key", "msg", "group"):
        if hasattr(type(value), name):
            found[name] = attempt(lambda name=name: getattr(value, name))  # type: ignore[misc]
    if hasattr(type(value), "__len__"):
        found["len"] = attempt(lambda: len(value))
    if hasattr(type(value), "dequeue"):
        found["invariants"] = attempt(lambda: check_invariants(value))
    return found


def attempt(step: Callable[[], Any]) -> Any:
    """The answer or the exception."""
    try:
        return seen(step())
    except BaseException as error:
        return ("raises", seen_error(error))


def observe(world: World, step: Callable[[World], Any], *states: str) -> dict[str, Any]:
    """What a step does in this world, and the state of these objects after it."""
    notes: dict[str, Any] = {}
    with overheard(notes):
        notes["answer"] = attempt(lambda: step(world))
    notes["states"] = {name: state(world.objects[name]) for name in states}
    return notes


def unequal(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where two observations differ, one line for each place."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in itertools.chain(ours, (each for each in theirs if each not in ours)):
            yield from unequal(ours.get(name), theirs.get(name), f"{path}.{name}")
    elif ours != theirs:
        yield f"{path}: native {ours!r}\n{' ' * len(path)}    pure {theirs!r}"


def report(differences: list[str]) -> str:
    """What a test shows of them."""
    return f"{len(differences)} differences\n" + "\n".join(differences[:20])
