"""Where exceptions go that must not reach the caller: the logger, and copies for many waiters."""

from __future__ import annotations

import copy
import logging
import os
import sys
import threading
from types import TracebackType

logger = logging.getLogger("inflight")

# What a worker that merely finished an operation must still be told about.
PASSED_ON = (KeyboardInterrupt, SystemExit)

# Held for a few bytecodes. Re-entrant, because a signal handler may run between any two of them.
_claims = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _claims.__init__())


def report(what: str, of: object, error: BaseException, passed: list[BaseException]) -> None:
    """Log what a callback or a reducer raised, with its traceback.

    What a broken log handler raises stops nobody; what a signal handler raises meanwhile is added
    to ``passed``, the exceptions that are raised in the end.
    """
    try:
        logger.error("%s of %r raised an exception", what, of, exc_info=error)
    except PASSED_ON as interrupt:
        passed.append(interrupt)
    except BaseException:
        # There is nobody left to tell, and others wait for what comes next.
        pass


def to_raise(error: BaseException, traceback: TracebackType | None) -> BaseException:
    """The exception that one waiter raises for ``error``.

    Raising an instance appends to its one traceback, so threads that raise the same instance
    would write into each other's. ``traceback`` is what the instance had when the operation
    was finished with it: while it still has that one, nobody has raised it since, and this
    waiter gets the instance itself. Everyone after gets a copy, or, where an exception cannot be
    copied, the instance with its traceback set back. All tracebacks start from ``traceback``,
    with one entry on top, by which the next caller sees that the instance was given away.
    """
    frame = sys._getframe()
    entry = TracebackType(traceback, frame, frame.f_lasti, frame.f_lineno)
    # Leaving the block takes a tuple of three. If there were no memory for it the lock would stay held:
    # so one is made before, and freed for it.
    spare = frame, entry, error
    with _claims:
        first = error.__traceback__ is traceback
        if first:
            error.__traceback__ = entry
        del spare
    if first:
        return error
    twin = _copied(error)
    return (error if twin is None else twin).with_traceback(entry)


def _copied(error: BaseException) -> BaseException | None:
    try:
        twin = copy.copy(error)
    except Exception:
        # A constructor that takes other arguments than it leaves in args.
        return None
    if twin is error or type(twin) is not type(error) or len(twin.args) != len(error.args):
        return None
    twin.__cause__ = error.__cause__
    twin.__context__ = error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin
