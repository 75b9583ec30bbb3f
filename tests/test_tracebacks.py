"""What the tracebacks of the compiled implementation say about where it was."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from aio import drive

TREE = Path(__file__).resolve().parent.parent
FUNCTION = re.compile(r"\s*(?:cp?def|def)\b[^=#]*?(\w+)\(")


def failing_calls(impl):
    """Calls that fail in many functions, of many files."""
    queue = impl.OpQueue(1, 1)
    op = queue.submit("a")
    group = impl.CallGroup()
    member = group.add("member")
    yield lambda: queue.submit("b")
    yield lambda: queue.submit("a")
    yield lambda: queue.enqueue([], op)
    yield lambda: queue.enqueue_many([1])
    yield lambda: queue.flush([])
    yield lambda: op.result(0)
    yield lambda: op.result("x")
    yield lambda: op.finish(error=1)
    yield lambda: op.add_done_callback(None)
    yield lambda: group.result(0)
    yield lambda: group.add([])
    yield lambda: group.add_many([1])
    yield lambda: group.__exit__(None, None, None)
    yield lambda: drive(queue.asubmit("b", timeout=0))
    row = queue.dequeue(0)
    yield lambda: queue.dequeue(0)
    yield lambda: queue.dequeue_many(0)
    yield lambda: drive(queue.adequeue(0))
    yield lambda: drive(queue.adequeue_many(1, 0))
    yield lambda: row.finish_each([])
    yield lambda: row.finish_each([StopIteration()])
    yield lambda: row[7]
    op.finish()
    yield op.finish
    member.finish()
    yield lambda: group.add("late")
    queue.close()
    yield lambda: queue.submit("c")
    yield lambda: drive(queue.aenqueue("c", op))
    yield lambda: drive(queue.adequeue())
    yield lambda: impl.OpQueue(0, 1)
    yield lambda: impl.DedupeQueue(1, 1, window=-1)
    yield lambda: impl.OpWindow(1, 1, "x")


def entries_of(call):
    """Of what a call raises: those in the compiled module."""
    try:
        call()
    except Exception as error:
        return {
            (entry.filename, entry.lineno, entry.name)
            for entry in traceback.extract_tb(error.__traceback__)
            if entry.name.startswith("inflight._native.")
        }
    raise AssertionError("nothing was raised")


def enclosing(path, line):
    """The name of the function that has this line."""
    for text in reversed(path.read_text().splitlines()[:line]):
        if found := FUNCTION.match(text):
            return found[1]
    raise AssertionError(f"{path}:{line} is in no function")


def test_an_entry_names_the_function_that_has_its_line(impl):
    """Files have lines of the same number: which of them failed first must not matter."""
    if impl.name == "pure":
        pytest.skip("the interpreter writes these")
    entries = set()
    for _ in range(2):
        for call in failing_calls(impl):
            entries |= entries_of(call)
    assert len({file for file, _, _ in entries}) >= 5
    for file, line, name in entries:
        assert name.removesuffix(".__get__").split(".")[-1] == enclosing(TREE / file, line), (file, line)
