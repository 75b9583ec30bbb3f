"""What the sources keep clear of, because CPython gets it wrong without memory.

From 3.12 on, a function that cannot be made for want of memory takes a reference to its code with it
(gh-122752): after the second time the code is gone, and the next call crashes. So no call of this library
makes one, be it a lambda or a generator expression. Checked in what the compiler has made of the sources:
3.11, which makes a function for each list comprehension too, has no such fault.

To enter a handler that will raise again, `finally` for example, the interpreter makes a number of where it was. If
that is above 256, and there is no memory for it, it tries the same handler again, for ever. So functions that the
compiled implementation calls, which is tested without memory from some allocation on, are short.
"""

from __future__ import annotations

import dis
import inspect
import sys
from pathlib import Path
from types import CodeType

import pytest

import inflight

PACKAGE = Path(inflight.__file__).parent
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if not {"_cli", "_invariants.py"} & set(path.parts)]

ALLOWED = ("TrioLoop.park",)
"""Trio makes functions of its own all the time."""

CALLED = ("_arguments", "_binding", "_clock", "_exited", "_fork", "_loops", "_report", "_results", "_types", "errors")
"""The modules that both implementations call."""

LARGEST_KEPT = 256
"""The interpreter has the numbers up to here."""


def long_handlers(code):
    """The functions in this code that are too long for what they handle."""
    found = [each for constant in code.co_consts if isinstance(constant, CodeType) for each in long_handlers(constant)]
    # In bytes, two for a number.
    if any(entry.lasti and entry.end > 2 * LARGEST_KEPT for entry in dis._parse_exception_table(code)):
        found.append(code.co_qualname)
    return found


def made_in_calls(code, inside=False):
    """The names of the functions that functions in this code make."""
    found = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if inside and constant.co_flags & inspect.CO_OPTIMIZED:
                found.append(f"{code.co_qualname} makes {constant.co_name}")
            if not code.co_qualname.endswith(ALLOWED) or not inside:
                found += made_in_calls(constant, bool(constant.co_flags & inspect.CO_OPTIMIZED))
    return [each for each in found if not each.split(" makes ")[0].endswith(ALLOWED)]


@pytest.mark.parametrize("name", CALLED)
def test_no_handler_is_far_into_a_function(name):
    path = PACKAGE / f"{name}.py"
    assert long_handlers(compile(path.read_text(encoding="utf-8"), path.name, "exec")) == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a list comprehension is a function there")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_call_makes_a_function(path):
    assert made_in_calls(compile(path.read_text(encoding="utf-8"), path.name, "exec")) == []
