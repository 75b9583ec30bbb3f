"""The exceptions: what they inherit, say and carry."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import pickle
import queue
import sys

import pytest

import inflight
from inflight import errors

BASES = {
    "QueueSaturatedError": (queue.Full, asyncio.QueueFull),
    "QueueSaturatedDepthError": (errors.QueueSaturatedError, queue.Full, asyncio.QueueFull),
    "QueueSaturatedWidthError": (errors.QueueSaturatedError, queue.Full, asyncio.QueueFull),
    "QueueEmptyError": (queue.Empty, asyncio.QueueEmpty),
    "QueueClosedError": (queue.ShutDown, asyncio.QueueShutDown) if sys.version_info >= (3, 13) else (),
    "AlreadyFinishedError": (concurrent.futures.InvalidStateError,),
    "GroupClosedError": (RuntimeError,),
    "OpCancelledError": (concurrent.futures.CancelledError,),
    "OpAbandonedError": (RuntimeError,),
}


def make(name):
    cls = getattr(errors, name)
    return cls("key", 3) if issubclass(cls, errors.QueueSaturatedError) else cls("text")


def test_every_exception_is_exported_and_listed():
    assert sorted(errors.__all__) == sorted([*BASES, "InflightError"])
    for name in errors.__all__:
        assert getattr(inflight, name) is getattr(errors, name)
        assert name in inflight.__all__


@pytest.mark.parametrize("name", BASES)
def test_bases(name):
    cls = getattr(errors, name)
    assert issubclass(cls, errors.InflightError)
    assert issubclass(cls, Exception)
    for base in BASES[name]:
        assert issubclass(cls, base)


def test_closed_is_neither_full_nor_empty():
    for base in (queue.Full, queue.Empty):
        assert not issubclass(errors.QueueClosedError, base)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(name, protocol):
    error = make(name)
    twin = pickle.loads(pickle.dumps(error, protocol))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert twin.args == error.args
    assert vars(twin) == vars(error)


@pytest.mark.parametrize("name", BASES)
def test_copies(name):
    error = make(name)
    assert str(copy.copy(error)) == str(error)


def test_saturated_errors_carry_key_and_limit():
    for cls in (errors.QueueSaturatedDepthError, errors.QueueSaturatedWidthError):
        error = cls("k", 7)
        assert (error.key, error.limit) == ("k", 7)
        assert "'k'" in str(error)
        assert "7" in str(error)
    assert "depth" in str(errors.QueueSaturatedDepthError(1, 1))
    assert "width" in str(errors.QueueSaturatedWidthError(1, 1))


def test_saturated_errors_tell_of_any_key(impl):
    class Mute:
        def __repr__(self):
            raise LookupError

    one = impl.OpQueue(1, 1)
    op, other = one.submit(Mute()), impl.Op("b")
    with pytest.raises(errors.QueueSaturatedWidthError) as caught:
        one.submit(op.key)
    assert str(caught.value) == "queue is saturated (width): the row of key <Mute> holds 1 operation already"
    with pytest.raises(errors.QueueSaturatedDepthError) as caught:
        one.enqueue(Mute(), other)
    assert str(caught.value) == "queue is saturated (depth): 1 key waits already, no room for key <Mute>"
    for each in (op, other):
        each.finish()


def test_code_written_for_the_standard_library_catches_them(impl):
    one = impl.OpQueue(1, 1)
    one.submit(1)
    with pytest.raises(queue.Full):
        one.submit(2)
    with pytest.raises(asyncio.QueueFull):
        one.submit(1)
    one.dequeue()
    with pytest.raises(queue.Empty):
        one.dequeue(0)
    with pytest.raises(asyncio.QueueEmpty):
        one.dequeue(0)
    op = impl.Op(1)
    op.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        op.result()
    with pytest.raises(concurrent.futures.InvalidStateError):
        op.finish()
