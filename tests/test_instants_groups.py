"""A signal at every instant of the calls of operations, rows and groups, of the pure implementation.

As test_instants.py. An interrupted call has done nothing, or all of it: no operation of a row stays unfinished
while another was finished, a group whose last operation has finished completes, whoever was counted reports.
"""

from __future__ import annotations

import itertools
import logging

import pytest
from instants import instants

from inflight import GroupClosedError


@pytest.fixture(autouse=True)
def pure_only(impl):
    if impl.name != "pure":
        pytest.skip("has no bytecodes")


@pytest.fixture
def signals(monkeypatch):
    monkeypatch.setattr(logging.getLogger("inflight"), "disabled", True)
    with instants() as made:
        yield made


class Scene:
    """A group of three, one row of theirs, callbacks that count; some of them fail."""

    def __init__(self, impl):
        self.impl = impl
        self.reduced = []
        self.called = []
        self.group = impl.CallGroup(self.reduced.append)
        self.group.add_done_callback(self.called.append)
        self.queue = impl.DedupeQueue(None, None)

    def add(self):
        with self.group:
            self.ops = self.group.add_many((number, None) for number in range(3))
        for op in self.ops:
            op.add_done_callback(self.fail)
            op.add_done_callback(self.called.append)
            self.queue.enqueue("k", op)
        self.row = self.queue.dequeue(0)
        return self.row

    def fail(self, op):
        raise ValueError

    def check_all_or_nothing(self):
        done = [op.done() for op in self.ops]
        assert len(set(done)) == 1, done
        self.check_complete()

    def check_complete(self):
        """What was not finished is finished now; then the group has completed."""
        for op in self.ops:
            op.try_finish("late")
        assert self.group.outstanding == 0
        assert self.group.done(), "the group hangs"
        assert len(self.reduced) <= 1
        for op in self.ops:
            assert self.called.count(op) <= 1
        assert self.called.count(self.group) <= 1


def check_released(scene):
    scene.check_complete()
    assert scene.queue.join(0)


def finish(scene):
    scene.add()
    for op in scene.ops[1:]:
        op.finish()
    return scene.ops[0].finish, scene.check_complete


def cancel(scene):
    scene.add()
    return scene.ops[0].cancel, scene.check_complete


def try_finish_late(scene):
    scene.add()
    scene.ops[0].finish()
    return lambda: scene.ops[0].try_finish(2), scene.check_complete


def finish_all(scene):
    return scene.add().finish_all, scene.check_all_or_nothing


def finish_all_with_an_error(scene):
    row = scene.add()
    return lambda: row.finish_all(error=OSError()), scene.check_all_or_nothing


def finish_each(scene):
    row = scene.add()
    return lambda: row.finish_each([1, OSError(), 3]), scene.check_all_or_nothing


def process(scene):
    scene.add().release()
    for op in scene.ops:
        scene.queue.enqueue("k", op)

    def check():
        # Put back, or failed and released.
        if "k" in scene.queue:
            assert not any(op.done() for op in scene.ops)
            for row in scene.queue.drain():
                row.release()
        else:
            assert all(op.done() for op in scene.ops)
        check_released(scene)

    return lambda: scene.queue.process(lambda row: row.finish_all()), check


def process_fails(scene):
    call, check = process(scene)
    return lambda: scene.queue.process(scene.fail), check


def add(scene):
    kept = []

    def call():
        kept.append(scene.group.add("a"))

    def check():
        scene.ops = kept
        # One that was lost with its exception has reported itself.
        scene.group.seal()
        scene.check_complete()

    return call, check


def add_many(scene):
    kept = []

    def call():
        kept.extend(scene.group.add_many((number, None) for number in range(5)))

    def check():
        scene.ops = kept
        scene.group.seal()
        scene.check_complete()
        assert len(scene.group) in (0, 5)

    return call, check


def add_to_a_sealed_group(scene):
    scene.ops = []
    scene.group.seal()
    return lambda: scene.group.add_many([(1, 1), (2, 2)]), scene.check_complete


def seal(scene):
    scene.ops = []

    def check():
        # Nothing of it was done, or it was done.
        if not scene.group.done():
            scene.group.add("a").finish()
        scene.check_complete()

    return scene.group.seal, check


def enter(scene):
    scene.ops = []
    entered = []

    def call():
        # As `with` does, but for the exit.
        entered.append(scene.group.__enter__())

    def check():
        scene.ops = [scene.group.add("a")]
        scene.ops[0].finish()
        assert scene.group.done() is not bool(entered)
        if entered:
            scene.group.__exit__(None, None, None)
        scene.check_complete()

    return call, check


def leave(scene):
    scene.group.__enter__()
    scene.ops = [scene.group.add("a")]
    scene.ops[0].finish()
    # Its own entry is out of reach.
    leaving = scene.group

    def check():
        if scene.group._holds:
            scene.out_of_reach = True
            leaving.__exit__(None, None, None)
        scene.check_complete()

    return lambda: leaving.__exit__(None, None, None), check


def leave_a_row(scene):
    row = scene.add()
    error = ValueError()

    def check():
        if not scene.ops[0].done():
            scene.out_of_reach = True
            row.__exit__(ValueError, error, None)
        scene.check_all_or_nothing()
        assert scene.queue.join(0)

    return lambda: row.__exit__(ValueError, error, None), check


def drop(scene):
    """An operation and its row, dropped."""
    scene.add()
    held = [scene.row]
    del scene.row
    ops, scene.ops = scene.ops, []
    held += ops
    del ops

    def check():
        held.clear()
        # The interpreter swallows an interrupt at the entry of a finalizer, and the finalizer with it.
        if scene.signals.last.startswith("__del__") and scene.signals.at_entry:
            scene.out_of_reach = True
            return
        assert scene.group.done(), "the group hangs"
        assert scene.queue.join(0)

    def call():
        held.clear()

    return call, check


def register(scene):
    scene.add()
    return lambda: scene.ops[0].add_done_callback(scene.reduced.count), scene.check_complete


def register_late(scene):
    scene.add()
    scene.ops[0].finish()
    return lambda: scene.ops[0].add_done_callback(scene.reduced.count), scene.check_complete


def wait(scene):
    scene.add()

    def call():
        for each in (scene.ops[0], scene.group):
            try:
                each.result(0.0002)
            except TimeoutError:
                pass

    def check():
        # No waiter is left: only registrations of callbacks.
        assert all(type(each) is tuple for each in scene.ops[0]._cell.values())
        assert all(type(each) is tuple for each in scene.group._cell.values())
        scene.check_complete()

    return call, check


CALLS = [
    finish, cancel, try_finish_late, finish_all, finish_all_with_an_error, finish_each, process, process_fails, add,
    add_many, add_to_a_sealed_group, seal, enter, leave, leave_a_row, drop, register, register_late, wait,
]  # fmt: skip


@pytest.mark.parametrize("prepare", CALLS, ids=lambda each: each.__name__)
def test_an_interrupt_at_any_instant_does_all_or_nothing(impl, signals, prepare):
    raised = out_of_reach = 0
    for number in itertools.count(1):
        scene = Scene(impl)
        scene.signals = signals
        scene.out_of_reach = False
        call, check = prepare(scene)
        signals.last = ""
        reached, value, error = signals.run(number, call)
        assert error is None or isinstance(error, KeyboardInterrupt | GroupClosedError | ValueError)
        raised += isinstance(error, KeyboardInterrupt)
        del error
        try:
            check()
        except BaseException as failure:
            failure.add_note(f"instant {number}, in {signals.last}")
            raise
        out_of_reach += scene.out_of_reach
        if not reached:
            break
    assert number > 5
    assert raised > 5 or prepare is drop
    assert out_of_reach <= 8, out_of_reach
