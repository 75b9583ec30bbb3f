"""Where exceptions go that must not reach the caller: the logger, and copies for many waiters."""

from __future__ import annotations

import logging
import sys
import threading
from types import BuiltinMethodType, GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import NoReturn

from ._fork import in_child

logger = logging.getLogger("inflight")

# What a worker that merely finished an operation must still be told about.
PASSED_ON = (KeyboardInterrupt, SystemExit)

# Read and set past what the class of an exception makes of it: it may refuse, as a frozen dataclass does, and it is
# code of the user's.
_ARGS, _DICT, _TRACEBACK = (vars(BaseException)[name] for name in ("args", "__dict__", "__traceback__"))

_GET, _SET = BaseException.__getattribute__, BaseException.__setattr__

# In this order: setting the cause changes the last.
_CHAIN = [vars(BaseException)[name] for name in ("__context__", "__cause__", "__suppress_context__")]

# Fields that are no content, or are copied after the rest.
_SET_APART = {"__cause__", "__context__", "__dict__", "__suppress_context__", "__traceback__", "__weakref__"}

_HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()

# Held for a few bytecodes. Re-entrant, because a signal handler may run between any two of them.
_claims = threading.RLock()


@in_child
def _enter_child() -> None:
    global _claims
    _claims = threading.RLock()


def report(what: str, of: object, error: BaseException, passed: list[BaseException]) -> None:
    """Log what a callback or a reducer raised, with its traceback.

    What a broken log handler raises stops nobody; what a signal handler raises meanwhile is added
    to ``passed``, the exceptions that are raised in the end.
    """
    try:
        logger.error("%s of %r raised an exception", what, of, exc_info=(type(error), error, traceback_of(error)))
    except PASSED_ON as interrupt:
        passed.append(interrupt)
    except BaseException:
        # There is nobody left to tell, and others wait for what comes next.
        pass


def raise_first(passed: list[BaseException]) -> NoReturn:
    """Raise the first of them.

    The list is emptied: its traceback refers to frames that have it, which would be a reference cycle.
    """
    try:
        raise passed[0]
    finally:
        passed.clear()


def is_of(error: BaseException | None, kind: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether it is an instance of the class, or one of them.

    `isinstance` asks the object for its ``__class__`` as well, which is code of the user's.
    """
    return issubclass(type(error), kind)


def traceback_of(error: BaseException) -> TracebackType | None:
    """Its traceback, whatever its class has made of the attribute."""
    traceback: TracebackType | None = _TRACEBACK.__get__(error)
    return traceback


def traceback_apart(error: BaseException) -> TracebackType | None:
    """The traceback of an error that whoever has it goes on raising, under an identity of its own.

    So nobody is given the instance itself, to which that one still adds: see `to_raise`.
    """
    entry = traceback_of(error)
    if entry is None:
        return None
    # None where an instruction has no line; -1 leaves it to be looked up.
    line: int | None = entry.tb_lineno
    return TracebackType(entry.tb_next, entry.tb_frame, entry.tb_lasti, -1 if line is None else line)


def to_raise(error: BaseException, traceback: TracebackType | None) -> BaseException:
    """The exception that one waiter raises for ``error``.

    Raising an instance appends to its one traceback, so threads that raise the same instance
    would write into each other's. ``traceback`` is what the instance had when the operation
    was finished with it: while it still has that one, nobody has raised it since, and this
    waiter gets the instance itself. Everyone after gets a copy, or, where an exception cannot be
    copied, the instance with its traceback set back. All tracebacks start from ``traceback``,
    with one entry on top, by which the next caller sees that the instance was given away.

    Without the GIL nobody gets the instance if there can be a copy: CPython does not guard an exception that
    two threads raise, not even its memory, and whoever handed it in may still be raising it, out of the
    block of a row for example. Nor of a class that has its own way with attributes: what is asked under the
    lock must run nobody's code, and allocate nothing.
    """
    frame = sys._getframe()
    entry = TracebackType(traceback, frame, frame.f_lasti, frame.f_lineno)
    try:
        if _HAS_GIL and _is_plain(type(error)) and _claim(error, traceback, entry):
            return error
        twin = _copied(error)
        return BaseException.with_traceback(error if twin is None else twin, entry)
    finally:
        # The entry has this frame, and so whatever the frame has: each of these would make a cycle, and what the
        # frames of the traceback have would be there until it is collected.
        twin = None
        del frame, entry, error


def _is_plain(kind: type[BaseException]) -> bool:
    """Whether its instances have the attributes of exceptions as the interpreter makes them."""
    return kind.__getattribute__ is _GET and kind.__setattr__ is _SET and kind.__traceback__ is _TRACEBACK


def _claim(error: BaseException, traceback: TracebackType | None, entry: TracebackType) -> bool:
    """Whether nobody was given the instance yet: then it has another traceback now."""
    # Leaving the block takes a tuple of three. If there were no memory for it the lock would stay held: so one
    # is made before, and freed for it.
    spare = error, traceback, entry
    with _claims:
        first = error.__traceback__ is traceback
        if first:
            error.__traceback__ = entry
        del spare
    return first


def _copied(error: BaseException) -> BaseException | None:
    """Another one with the same content, or ``None`` where that cannot be had.

    Made field by field, and without the constructor: what that makes of ``args``, with which `copy.copy`
    calls it, may be something else, and it is code of the user's, run once for each waiter.
    """
    kind = type(error)
    new = kind.__new__
    if type(new) is not BuiltinMethodType or getattr(new.__self__, "__module__", None) != "builtins":
        # Of a class that makes its instances in its own way, and may hide more in them.
        return None
    try:
        twin: BaseException = new(kind, *_ARGS.__get__(error))
        _copy_content(error, twin)
    except Exception:
        return None
    return twin if type(twin) is kind else None


def _copy_content(error: BaseException, twin: BaseException) -> None:
    for cls in type(error).__mro__:
        for name, field in vars(cls).items():
            if type(field) in (GetSetDescriptorType, MemberDescriptorType) and name not in _SET_APART:
                _copy_field(field, error, twin)
    content = _DICT.__get__(twin)
    content.update(_DICT.__get__(error))
    if type(notes := content.get("__notes__")) is list:
        content["__notes__"] = notes.copy()
    for field in _CHAIN:
        field.__set__(twin, field.__get__(error))


def _copy_field(field: GetSetDescriptorType | MemberDescriptorType, error: BaseException, twin: BaseException) -> None:
    try:
        value = field.__get__(error)
    except AttributeError:
        return  # it has none
    # Only where it differs: what was never set reads as None, and is something else.
    try:
        if field.__get__(twin) is value:
            return
    except AttributeError:
        pass
    try:
        field.__set__(twin, value)
    except (AttributeError, TypeError):
        # Fixed from the start, as the content of a group is.
        if field.__get__(twin) != value:
            raise
