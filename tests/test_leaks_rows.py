"""Nothing is kept by rows, however they are finished and left."""

from __future__ import annotations

import pickle
import weakref

import pytest
from leaking import Table, leave_by, raises

table = Table()


@table.scenario
def row_looked_at(kit):
    row = kit.row(kit.key, kit.twin, kit.key)
    assert (len(row), len(row[1:]), row.key) == (3, 2, kit.key)
    assert (row[0], row[-1]) == (row[:1][0], [*row][2])
    assert next(reversed(row)) is row[2]
    assert (row.index(row[1]), row.count(row[0]), kit.msg in row, row[2] in row) == (1, 1, False, True)
    assert repr(row)
    raises(IndexError, row.__getitem__, 3)
    raises(TypeError, row.__getitem__, kit.msg)
    raises(ValueError, row.index, kit.msg)
    raises(TypeError, pickle.dumps, row)
    raises(TypeError, kit.impl.OpSet)
    ref = weakref.ref(row, kit.callback)
    assert ref() is row
    row.finish_all()


@table.scenario
def row_finished(kit):
    row = kit.row(kit.key, kit.twin, kit.key)
    raises(TypeError, row.finish_all, error=ValueError)
    raises(ValueError, row.finish_each, [kit.result])
    raises(TypeError, row.finish_each, [kit.result, kit.result, StopIteration()])
    row[0].finish(kit.result)
    assert row.finish_each([kit.result, kit.error, kit.result]) == 2
    assert row.finish_all(kit.result) == 0
    assert kit.row().finish_all(error=kit.error) == 1


@table.scenario
def row_left_by(kit):
    for error in (ValueError, KeyboardInterrupt, StopIteration, GeneratorExit):
        row = kit.row(kit.key, kit.twin)
        raises(error, leave_by, row, error)
        assert row[0].done()
        row.release()
    with kit.row():
        pass


@table.scenario
def row_whose_callbacks_and_reducers_raise(kit):
    def fail(done):
        raise KeyboardInterrupt(done)

    queue = kit.queue()
    group = kit.impl.CallGroup(fail)
    for key in (kit.key, kit.twin, kit.key):
        op = group.add(key, kit.msg)
        op.add_done_callback(fail)
        queue.enqueue(key, op)
    row = queue.dequeue()
    raises(KeyboardInterrupt, row.finish_all, kit.result)
    raises(KeyboardInterrupt, group.result)


@pytest.mark.parametrize("name", table.scenarios)
def test_nothing_is_left_by(impl, request, name):
    table.check(name, impl, request.config.getoption("--operations"))
