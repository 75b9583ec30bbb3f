"""What the pure implementation assumes of the interpreter, and that it keeps to it.

It relies on what a signal handler that raises can and cannot interrupt. CPython runs handlers at
calls and at backward jumps; which of these a ``try`` covers is up to the compiler.
"""

from __future__ import annotations

import ast
import dis
import importlib
import pkgutil
from pathlib import Path

import pytest

import inflight._pure

MODULES = sorted(each.name for each in pkgutil.iter_modules(inflight._pure.__path__, "inflight._pure."))


def loops_for_ever(step, end):
    try:
        while True:
            if step():
                break
            step()
    finally:
        end()


def loops_over(items, step, end):
    try:
        for item in items:
            step(item)
    except BaseException:
        end()
        raise


@pytest.mark.parametrize("function", [loops_for_ever, loops_over])
def test_the_jump_of_these_loops_is_covered_by_the_try_around_them(function):
    covered = dis._parse_exception_table(function.__code__)
    jumps = [each.offset for each in dis.get_instructions(function) if "JUMP_BACKWARD" in each.opname]
    assert jumps
    for offset in jumps:
        assert any(entry.start <= offset < entry.end for entry in covered)


def conditional_loops(node: ast.AST, inside: bool = False):
    """``while condition:`` loops inside a ``try`` or ``with`` of the same function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from conditional_loops(child)
            continue
        if isinstance(child, ast.While) and inside and not isinstance(child.test, ast.Constant):
            yield child
        yield from conditional_loops(child, inside or isinstance(child, ast.Try | ast.With))


@pytest.mark.parametrize("name", MODULES)
def test_no_other_loop_stands_inside_a_try(name):
    source = Path(importlib.import_module(name).__file__)
    lines = [loop.lineno for loop in conditional_loops(ast.parse(source.read_text()))]
    assert lines == []
