"""Wrong types and bounds are told by TypeError and ValueError that name the argument, and change nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

NAN = float("nan")

WRONG_TIMEOUTS = ["1", b"1", [], object(), 1j, timedelta(seconds=1), True, False]


def queues(impl):
    return {
        "OpQueue": lambda depth, width: impl.OpQueue(depth, width),
        "DedupeQueue": lambda depth, width: impl.DedupeQueue(depth, width),
        "OpWindow": lambda depth, width: impl.OpWindow(depth, width, 1),
    }


@pytest.mark.parametrize("kind", ["OpQueue", "DedupeQueue", "OpWindow"])
@pytest.mark.parametrize("name", ["depth", "width"])
@pytest.mark.parametrize("value", [0, -1, -(10**30)])
def test_bounds_below_one(impl, kind, name, value):
    arguments = {"depth": 1, "width": 1, name: value}
    with pytest.raises(ValueError, match=f"^{name} must be an int of at least 1, or None for unbounded"):
        queues(impl)[kind](**arguments)


@pytest.mark.parametrize("kind", ["OpQueue", "DedupeQueue", "OpWindow"])
@pytest.mark.parametrize("name", ["depth", "width"])
@pytest.mark.parametrize("value", ["1", 1.0, 1.5, True, False, [], float("inf")])
def test_bounds_of_a_wrong_type(impl, kind, name, value):
    arguments = {"depth": 1, "width": 1, name: value}
    text = f"^{name} must be an int of at least 1, or None for unbounded, not {type(value).__name__}$"
    with pytest.raises(TypeError, match=text):
        queues(impl)[kind](**arguments)


def test_bounds_may_be_huge_or_anything_with_index(impl):
    class Two:
        def __index__(self):
            return 2

    queue = impl.OpQueue(10**30, Two())
    assert (queue.depth, queue.width) == (10**30, 2)
    queue.submit(1)
    assert len(queue.dequeue()) == 1


def test_bounds_are_required(impl):
    for arguments in ((), (1,)):
        with pytest.raises(TypeError):
            impl.OpQueue(*arguments)
        with pytest.raises(TypeError):
            impl.DedupeQueue(*arguments)
        with pytest.raises(TypeError):
            impl.OpWindow(*arguments, 1)
    with pytest.raises(TypeError):
        impl.OpQueue(1, 1, 1)
    with pytest.raises(TypeError):
        impl.OpQueue(1, 1, other=1)


@pytest.mark.parametrize("value", [-1, -0.5, -float("inf"), NAN, timedelta(seconds=-1)])
def test_windows_out_of_bounds(impl, value):
    with pytest.raises(ValueError, match="^window must be 0 or more seconds"):
        impl.OpWindow(1, 1, value)
    with pytest.raises(ValueError, match="^window must be 0 or more seconds"):
        impl.DedupeQueue(1, 1, window=value)


@pytest.mark.parametrize("value", [None, "1", [], 1j])
def test_windows_of_a_wrong_type(impl, value):
    with pytest.raises(TypeError, match="^window must be a number of seconds or a timedelta, not"):
        impl.OpWindow(1, 1, value)
    with pytest.raises(TypeError, match="^window must be a number of seconds or a timedelta, not"):
        impl.DedupeQueue(1, 1, window=value)


def waiting_calls(impl):
    queue = impl.OpQueue(None, None)
    op = impl.Op(1)
    group = impl.CallGroup()
    return {
        "Op.result": lambda timeout: op.result(timeout),
        "Op.exception": lambda timeout: op.exception(timeout),
        "CallGroup.result": lambda timeout: group.result(timeout),
        "enqueue": lambda timeout: queue.enqueue(1, op, timeout=timeout),
        "submit": lambda timeout: queue.submit(1, timeout=timeout),
        "dequeue": lambda timeout: queue.dequeue(timeout),
        "dequeue_many": lambda timeout: queue.dequeue_many(1, timeout),
        "process": lambda timeout: queue.process(print, timeout),
        "join": lambda timeout: queue.join(timeout),
    }, queue


CALLS = [
    "Op.result",
    "Op.exception",
    "CallGroup.result",
    "enqueue",
    "submit",
    "dequeue",
    "dequeue_many",
    "process",
    "join",
]


@pytest.mark.parametrize("call", CALLS)
def test_timeout_nan(impl, call):
    calls, queue = waiting_calls(impl)
    with pytest.raises(ValueError, match="^timeout must not be NaN$"):
        calls[call](NAN)
    assert len(queue) == 0


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", WRONG_TIMEOUTS)
def test_timeout_of_a_wrong_type(impl, call, value):
    calls, queue = waiting_calls(impl)
    text = f"^timeout must be a number of seconds or None, not {type(value).__name__}$"
    with pytest.raises(TypeError, match=text):
        calls[call](value)
    assert len(queue) == 0


@pytest.mark.parametrize(
    "call", ["Op.result", "Op.exception", "CallGroup.result", "dequeue", "dequeue_many", "process"]
)
def test_a_timeout_is_checked_although_nothing_has_to_wait(impl, call):
    queue = impl.OpQueue(None, None)
    queue.submit(1)
    group = impl.CallGroup()
    op = group.add(1)
    op.finish()
    calls = {
        "Op.result": op.result,
        "Op.exception": op.exception,
        "CallGroup.result": group.result,
        "dequeue": queue.dequeue,
        "dequeue_many": lambda timeout: queue.dequeue_many(1, timeout),
        "process": lambda timeout: queue.process(print, timeout),
    }
    with pytest.raises(ValueError, match="timeout"):
        calls[call](NAN)
    with pytest.raises(TypeError, match="timeout"):
        calls[call]("1")
    assert len(queue) == 1


def test_timeouts_of_enqueue_and_submit_are_given_by_name(impl):
    queue = impl.OpQueue(None, None)
    with pytest.raises(TypeError):
        queue.enqueue(1, impl.Op(1), 0)
    with pytest.raises(TypeError):
        queue.submit(1, None, 0)
    assert len(queue) == 0


def test_a_timeout_may_be_anything_with_float(impl):
    class Zero:
        def __float__(self):
            return 0.0

    with pytest.raises(TimeoutError):
        impl.Op(1).result(Zero())


def test_a_timeout_whose_conversion_fails(impl):
    class Broken:
        def __float__(self):
            raise ZeroDivisionError

    queue = impl.OpQueue(None, None)
    queue.submit(1)
    with pytest.raises(ZeroDivisionError):
        queue.dequeue(Broken())
    assert queue.dequeue(0).key == 1


@pytest.mark.parametrize("value", [0, -1])
def test_limits_below_one(impl, value):
    queue = impl.OpQueue(None, None)
    queue.submit(1)
    with pytest.raises(ValueError, match="^limit must be an int of at least 1, got"):
        queue.dequeue_many(value)
    assert len(queue) == 1


@pytest.mark.parametrize("value", [None, "1", 1.0, True])
def test_limits_of_a_wrong_type(impl, value):
    queue = impl.OpQueue(None, None)
    queue.submit(1)
    with pytest.raises(TypeError, match="^limit must be an int of at least 1, not"):
        queue.dequeue_many(value)
    assert len(queue) == 1


def test_a_huge_limit(impl):
    queue = impl.OpQueue(None, None)
    queue.submit(1)
    assert len(queue.dequeue_many(10**30)) == 1


@pytest.mark.parametrize("value", [None, 1, "op", object()])
def test_what_is_enqueued_must_be_an_operation(impl, value):
    queue = impl.OpQueue(None, None)
    with pytest.raises(TypeError, match=f"^op must be an Op, not {type(value).__name__}$"):
        queue.enqueue(1, value)
    with pytest.raises(TypeError, match="Op"):
        queue.enqueue_many([value])
    assert len(queue) == 0
    queue.close()
    with pytest.raises(TypeError, match="op must be an Op"):
        queue.enqueue(1, value)


def test_unhashable_keys(impl):
    queue = impl.OpQueue(None, None)
    op = impl.Op(1)
    for call in (
        lambda: impl.Op([]),
        lambda: impl.CallGroup().add([]),
        lambda: queue.enqueue([], op),
        lambda: queue.submit([]),
        lambda: queue.flush([]),
        lambda: [] in queue,
    ):
        with pytest.raises(TypeError, match="unhashable"):
            call()
    assert len(queue) == 0
    assert queue.stats().enqueued == 0


@pytest.mark.parametrize("name", ["key", "msg", "group", "other"])
def test_unknown_keywords(impl, name):
    arguments = {"key": 1, "other": 1} if name == "other" else {name: 1, "unknown": 1}
    with pytest.raises(TypeError):
        impl.Op(**arguments)


def test_missing_arguments(impl):
    with pytest.raises(TypeError):
        impl.Op()
    queue = impl.OpQueue(None, None)
    for call in (queue.enqueue, queue.submit, queue.dequeue_many, queue.process, queue.enqueue_many):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        queue.enqueue(1)
