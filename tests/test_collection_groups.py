"""A group and the operations that nobody else has: free without the collector, whole when somebody looks.

What the compiled implementation does with them, with the GIL, is in src/stow.pxi. The tests hold for both
implementations, but for those that say when something is free.
"""

from __future__ import annotations

import gc
import logging
import tracemalloc
import weakref

import pytest
from helpers import GIL

from inflight import OpAbandonedError


class Marker:
    """Something to see collected."""


@pytest.fixture
def by_count(impl):
    """Without the collector: what is free is so by its references."""
    if impl.name == "pure" or not GIL:
        pytest.skip("a group and its operations refer to each other")
    enabled = gc.isenabled()
    gc.disable()
    yield
    if enabled:
        gc.enable()


def through_rows(impl, group, messages):
    """One operation for each message, under one key for two of them; all finished, and all rows dropped."""
    queue = impl.OpQueue(None, None)
    for number, message in enumerate(messages):
        queue.enqueue(number // 2, group.add(number // 2, message))
    for row in queue.drain():
        row.finish_all(row.key)


def one_by_one(impl, group, messages):
    for message in messages:
        group.add("a", message).finish()


WAYS = [through_rows, one_by_one]


@pytest.mark.parametrize("reducer", [None, lambda results: None, len])
def test_a_group_whose_operations_nobody_has_is_free_at_once(impl, by_count, reducer):
    message = Marker()
    refs = [weakref.ref(message)]
    with impl.CallGroup(reducer) as group:
        through_rows(impl, group, [message] * 5)
    refs.append(weakref.ref(group))
    del message
    assert None not in [ref() for ref in refs]
    if reducer is len:
        # It has looked at them.
        gc.collect()
    del group
    if reducer is len:
        gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_an_incomplete_group_is_free_with_its_last_operation(impl, by_count):
    group = impl.CallGroup()
    op = group.add("last")
    through_rows(impl, group, range(5))
    ref = weakref.ref(group)
    del group
    assert len(op.group) == 6
    op.finish()
    del op
    # The last is not in a row that would have noticed.
    gc.collect()
    assert ref() is None


@pytest.mark.parametrize("way", WAYS)
def test_whoever_looks_gets_the_operations_as_they_were(impl, collect, way):
    messages = [Marker() for _ in range(7)]
    seen = []
    with impl.CallGroup(lambda results: seen.append(len(results.responses))) as group:
        way(impl, group, messages)
        collect()
    for _ in range(2):
        results = group.result()
        assert [response.op.msg for response in results.responses] == messages
        assert all(response.op.group is group for response in results.responses)
        assert all(gc.is_tracked(response.op) for response in results.responses)
        assert group.result() is results
        collect()
    assert seen == [7]


@pytest.mark.parametrize("way", WAYS)
def test_results_that_are_kept_keep_the_operations(impl, collect, way):
    kept = []
    with impl.CallGroup(kept.append) as group:
        way(impl, group, range(5))
    del group
    collect()
    assert [response.op.msg for response in kept[0].responses] == [0, 1, 2, 3, 4]
    group = kept[0].responses[0].op.group
    assert group.result() is kept[0]
    ref = weakref.ref(group)
    del group, kept
    collect()
    assert ref() is None


def test_results_that_a_weak_reference_leads_to_can_be_looked_at(impl, collect):
    refs = []
    with impl.CallGroup(lambda results: refs.append(weakref.ref(results))) as group:
        through_rows(impl, group, range(3))
    collect()
    results = refs[0]()
    assert [response.op.msg for response in results.responses] == [0, 1, 2]
    assert group.result() is results


@pytest.mark.parametrize("way", WAYS)
def test_an_operation_that_a_weak_reference_leads_to_is_whole(impl, collect, way):
    queue, refs = impl.OpQueue(None, None), []
    with impl.CallGroup() as group:
        for number in range(3):
            op = group.add(number)
            refs.append(weakref.ref(op))
            if way is one_by_one:
                op.finish()
            else:
                queue.enqueue(number, op)
            del op
        for row in queue.drain():
            row.finish_all()
        row = None
        collect()
        assert [ref().group is group for ref in refs] == [True] * 3
    assert [response.op for response in group.result().responses] == [ref() for ref in refs]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("through", ["message", "result", "reducer", "callback"])
def test_cycles_through_a_group_and_what_only_it_has_are_collected(impl, collect, way, complete, through):
    marker = Marker()
    group = impl.CallGroup((lambda results, marker=marker: None) if through == "reducer" else None)
    marker.group = group
    group.__enter__()
    if through == "result":
        queue = impl.OpQueue(None, None)
        for number in range(3):
            queue.enqueue(number, group.add(number))
        for row in queue.drain():
            row.finish_all(marker)
        row = None
    else:
        way(impl, group, [marker] * 3 if through == "message" else range(3))
    if through == "callback":
        group.add_done_callback(lambda done, marker=marker: None)
    if complete:
        group.__exit__(None, None, None)
    refs = [weakref.ref(marker), weakref.ref(group)]
    del marker, group
    collect()
    assert [ref() for ref in refs] == [None, None]


def test_what_a_living_group_alone_refers_to_is_not_collected(impl, collect):
    """Nor cleared: the message is in a cycle with itself."""
    message = Marker()
    message.itself = message
    ref = weakref.ref(message)
    group = impl.CallGroup()
    through_rows(impl, group, [message, message])
    del message
    collect()
    assert ref().itself is ref()
    assert group.result().responses[0].op.msg is ref()
    del group
    collect()
    assert ref() is None


def test_a_row_that_holds_operations_when_the_results_are_dropped(impl, collect, monkeypatch):
    """They go to the results, come back, and go again."""
    # Its record would keep the results.
    monkeypatch.setattr(logging.getLogger("inflight"), "disabled", True)

    def fail(results):
        assert len(results.responses) == 3
        raise KeyError

    queue = impl.OpQueue(None, None)
    with impl.CallGroup(fail) as group:
        for number in range(3):
            queue.enqueue("a", group.add("a", number))
        row = queue.dequeue()
        row.finish_all()
    ops = list(row)
    del row
    collect()
    assert [op.group for op in ops] == [group] * 3
    ref = weakref.ref(group)
    del ops, group
    collect()
    assert ref() is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_abandoned_operations_are_the_groups(impl, collect):
    with impl.CallGroup() as group:
        for number in range(3):
            group.add(number)
        collect()
        assert group.outstanding == 0
    assert [type(response.error) for response in group.result().responses] == [OpAbandonedError] * 3
    ref = weakref.ref(group)
    del group
    collect()
    assert ref() is None


def test_finishing_drops_the_last_reference_to_other_groups(impl, collect):
    """A group in the message of an operation of another, and so on: freed without recursion."""
    head = None
    for _ in range(100_000):
        with impl.CallGroup() as group:
            through_rows(impl, group, [head])
        head = group
    ref = weakref.ref(head)
    del head, group
    collect()
    assert ref() is None


def test_a_group_whose_reducer_raised_keeps_no_operations(impl, by_count):
    message = Marker()
    ref = weakref.ref(message)
    with impl.CallGroup(int) as group:
        through_rows(impl, group, [message] * 3)
    del message
    assert ref() is None
    with pytest.raises(TypeError):
        group.result()


def test_results_of_a_reducer_that_raised_can_be_looked_at(impl, monkeypatch, collect):
    monkeypatch.setattr(logging.getLogger("inflight"), "disabled", True)
    kept = []

    def fail(results):
        kept.append(results)
        raise KeyError

    with impl.CallGroup(fail) as group:
        through_rows(impl, group, range(3))
    collect()
    assert [response.op.msg for response in kept[0].responses] == [0, 1, 2]
    assert {response.op.group for response in kept[0].responses} == {group}


def test_a_group_that_is_incomplete_has_no_results_to_show(impl):
    if impl.name == "pure":
        pytest.skip("keeps what it has")
    group = impl.CallGroup()
    op = group.add("a")
    with pytest.raises(RuntimeError):
        group._in_order()
    op.finish()


def test_tracemalloc_tells_where_an_operation_was_made(impl):
    """Also of one that is made of the memory of another, as the warning about one that was dropped shows."""
    if impl.name == "pure":
        pytest.skip("has no memory of its own")
    # More than are kept: the next is of new memory, which is traced.
    held = [impl.Op(number) for number in range(20_000)]
    tracemalloc.start()
    try:
        impl.Op("elsewhere").finish()
        made = [impl.Op("a"), impl.CallGroup().add("a")]
        lines = {tracemalloc.get_object_traceback(op)[-1].lineno for op in made}
    finally:
        tracemalloc.stop()
    for op in held + made:
        op.finish()
    assert len(lines) == 1


@pytest.mark.parametrize("through_a_row", [False, True])
def test_an_operation_that_somebody_has_keeps_its_group(impl, collect, through_a_row):
    """Others are as if they were fields of their group, once a row lets go of them or the next one is finished."""
    group = impl.CallGroup()
    ops = group.add_many([(number, ["message"]) for number in range(4)])
    group.seal()
    queue = impl.OpQueue(None, None)
    for op in ops:
        if through_a_row:
            queue.enqueue("key", op)
            queue.dequeue().finish_all()
        else:
            op.finish()
    cycle = [group]
    cycle.append(cycle)
    del op, group, cycle
    collect()
    assert [op.msg for op in ops] == [["message"]] * 4
    assert len({id(op.group) for op in ops}) == 1
    assert all(op.group.done() and gc.is_tracked(op) for op in ops)
