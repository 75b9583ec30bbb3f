"""Checks of what callers pass, shared by both implementations so that the texts are the same.

Every message names the argument and what was expected. None of these is on a hot path: the
compiled implementation handles ``None`` and exact floats and ints itself and comes here for the
rest.
"""

from __future__ import annotations

import math
import operator
from datetime import timedelta
from typing import Any

from ._report import is_of


def seconds(value: Any, name: str = "timeout") -> float | None:
    """``value`` as seconds to wait at most; ``None`` where it means for ever.

    :raises TypeError: if it is neither a real number nor ``None``.
    :raises ValueError: if it is NaN.
    """
    if value is None:
        return None
    number = _real(value, name, "a number of seconds or None")
    if math.isnan(number):
        raise ValueError(f"{name} must not be NaN")
    return None if number == math.inf else number


def window(value: Any) -> float:
    """``value`` as the length of a window in seconds, infinity included.

    :raises TypeError: if it is neither a real number nor a ``timedelta``.
    :raises ValueError: if it is negative or NaN.
    """
    if isinstance(value, timedelta):
        number = value.total_seconds()
    else:
        number = _real(value, "window", "a number of seconds or a timedelta")
    if not number >= 0:
        raise ValueError(f"window must be 0 or more seconds, got {value!r}")
    return number


def bound(value: Any, name: str) -> int | None:
    """``value`` as an upper bound: an int of at least 1, or ``None`` for unbounded.

    :raises TypeError: if it is neither an int nor ``None``.
    :raises ValueError: if it is less than 1.
    """
    if value is None:
        return None
    number = count(value, name, "an int of at least 1, or None for unbounded")
    if number < 1:
        raise ValueError(f"{name} must be an int of at least 1, or None for unbounded, got {value!r}")
    return number


def limit(value: Any) -> int:
    """``value`` as the greatest number of rows to take: an int of at least 1.

    :raises TypeError: if it is not an int.
    :raises ValueError: if it is less than 1.
    """
    number = count(value, "limit", "an int of at least 1")
    if number < 1:
        raise ValueError(f"limit must be an int of at least 1, got {value!r}")
    return number


def count(value: Any, name: str, expected: str) -> int:
    """``value`` as an int, by ``__index__``; a ``bool`` is taken for a mistake."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} must be {expected}, not {kind(value)}")


def function(value: Any, name: str) -> Any:
    """``value``, which must be callable.

    :raises TypeError: if it is not.
    """
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {kind(value)}")
    return value


def error(value: Any) -> BaseException:
    """``value`` as the error of an operation: an exception instance.

    ``StopIteration`` is refused for the reason that futures refuse it: raised into a generator
    or a coroutine it would end that instead of being reported.

    :raises TypeError: if it is an exception class, a ``StopIteration``, or no exception at all.
    """
    if is_of(value, StopIteration):
        raise TypeError("error must not be a StopIteration: it cannot be raised into a coroutine")
    if isinstance(value, BaseException):
        return value
    if isinstance(value, type) and issubclass(value, BaseException):
        raise TypeError(f"error must be an exception instance, not the class {value.__name__}")
    raise TypeError(f"error must be an exception instance or None, not {kind(value)}")


def kind(value: Any) -> str:
    """The name of the type of ``value``, for messages."""
    return type(value).__name__


def shown(key: object) -> str:
    """``repr(key)`` for messages that must come out even if that raises."""
    try:
        return repr(key)
    except Exception:
        return f"<{kind(key)}>"


def _real(value: Any, name: str, expected: str) -> float:
    # str and bytes have no __float__, unlike what float() accepts. A bool is a mistake: `get(True)` of other queues.
    number = hasattr(type(value), "__float__") or hasattr(type(value), "__index__")
    if not number or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, not {kind(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
