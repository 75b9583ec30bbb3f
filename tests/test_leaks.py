"""The counting of what leaks finds what does; cycles through what a row is made of are collected."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from helpers import GIL
from leaking import left_by

from inflight._invariants import check_invariants


def test_what_leaks_is_found(impl):
    """The counting itself: one reference, one object, one block a round."""

    def reference(kit):
        kept.append(kit.msg)

    def instance(kit):
        kept.append(kit.op())
        kept[-1].finish()

    def number(kit):
        kept.append(10**6 + kit.number)

    for leak, words in ((reference, "references"), (instance, "of Op"), (number, "blocks")):
        kept: list[Any] = []
        found = left_by(leak, impl, 100, times=1)
        if leak is not reference or GIL:
            assert any(words in each for each in found), found


@pytest.mark.parametrize("through", ["message", "result", "error", "traceback", "callback", "reducer"])
@pytest.mark.parametrize("kind", ["DedupeQueue", "OpWindow"])
def test_a_row_that_only_its_own_operations_refer_to_gives_its_key_back(impl, collect, kind, through):
    """Its queue lives on, and must not hold it by what the row is made of."""

    def work():
        holder = []
        group = impl.CallGroup((lambda results, holder=holder: None) if through == "reducer" else None)
        op = group.add("a", holder)
        queue.enqueue("a", op)
        row = queue.dequeue(0)
        queue.submit("a", "behind")
        if through in ("message", "reducer"):
            holder.append(row)
        elif through == "callback":
            op.add_done_callback(lambda done, row=row: None)
        elif through == "result":
            op.finish(row)
        elif through == "error":
            op.finish(error=ValueError(row))
        else:
            try:
                raise ValueError(len(row))
            except ValueError as error:
                # By its traceback to this frame.
                row.finish_all(error=error)

    queue = impl.DedupeQueue(10, 10) if kind == "DedupeQueue" else impl.OpWindow(10, 10, 0, exclusive=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        work()
        collect()
        assert queue.stats().owned == 0
        assert queue.dequeue(0)[0].msg == "behind"
        collect()
    assert "a" not in queue
    check_invariants(queue)
