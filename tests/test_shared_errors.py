"""One error that many raise: each gets one of the same class and content, with a traceback of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import traceback
import weakref

import pytest
from aio import drive
from helpers import GIL, Worker
from odd_values import Unique


class Described(Exception):
    """Hands its base something else than it was given."""

    made = 0

    def __init__(self, status):
        Described.made += 1
        self.status = status
        super().__init__(f"HTTP {status}")


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code):
        self.code = code


class Unready(OSError):
    def __init__(self, path):
        super().__init__(2, "not ready", path)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    status: int


class Sealed(Exception):
    """Has its fields for itself."""

    def __setattr__(self, name, value):
        raise AttributeError(f"{name} cannot be set")

    def __getattribute__(self, name):
        if name in ("args", "__traceback__", "__context__", "__cause__", "__suppress_context__", "__class__"):
            raise LookupError(f"{name} cannot be read")
        return super().__getattribute__(name)


def raised_by(code):
    def make():
        try:
            exec(code, {})
        except Exception as error:
            return error.with_traceback(None)
        raise AssertionError

    return make


def noted():
    error = ValueError("noted")
    error.add_note("here")
    return error


ERRORS = {
    "plain": lambda: ValueError("text", 5),
    "of no arguments": ValueError,
    "that changes its arguments": lambda: Described(500),
    "with slots": lambda: Slotted(7),
    "that is frozen": lambda: Frozen(500),
    "of the system": raised_by("open('/there/is/none')"),
    "of the system, without its name": lambda: BlockingIOError(11, "later", 5),
    "derived from one of the system": lambda: Unready("there"),
    "of a name": raised_by("none_of_these"),
    "of an attribute": raised_by("(1).none"),
    "of an import": raised_by("import none_of_these"),
    "of bytes": raised_by("b'\\xff'.decode()"),
    "of text": raised_by("'\\xff'.encode('ascii')"),
    "of syntax": raised_by("compile('1 2', 'a file', 'exec')"),
    "with notes": noted,
    "a group": lambda: ExceptionGroup("some", [ValueError(1), KeyError(2)]),
}
FIELDS = ("args", "status", "code", "unset", "errno", "strerror", "filename", "filename2", "characters_written", "name",
          "obj", "path", "msg", "encoding", "object", "start", "end", "reason", "lineno", "text", "exceptions",
          "__notes__", "__cause__", "__context__", "__suppress_context__")  # fmt: skip


def content(error):
    return {name: getattr(error, name) for name in FIELDS if hasattr(error, name)}


def raised(call):
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def waiters(impl, error, number):
    """What so many raise for it: by an operation, or those of one row, or a group."""
    op = impl.Op("a")
    op.finish(error=error)
    queue = impl.OpQueue(None, None)
    row_ops = [queue.submit("a") for _ in range(number)]
    queue.dequeue().finish_all(error=error)

    def fail(_):
        raise error

    group = impl.CallGroup(fail)
    group.seal()
    yield [raised(lambda: op.result(0)) for _ in range(number)]
    yield [raised(lambda op=op: op.result(0)) for op in row_ops]
    yield [raised(lambda: group.result(0)) for _ in range(number)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_all_who_raise_an_error_see_the_same(impl, make):
    error = make()
    expected = content(error), traceback.format_exception_only(error)
    for errors in waiters(impl, error, 3):
        assert len({id(each) for each in errors}) == 3
        for each in errors:
            assert type(each) is type(error)
            assert (content(each), traceback.format_exception_only(each)) == expected
            assert each.__traceback__ is not None


def test_the_constructor_runs_once(impl):
    error = Described(404)
    made = Described.made
    for errors in waiters(impl, error, 3):
        assert [str(each) for each in errors] == ["HTTP 404"] * 3
    assert Described.made == made


def test_the_cause_is_the_same_for_all(impl):
    error = ValueError("outer")
    error.__cause__, error.__context__ = KeyError("cause"), TypeError("context")
    error.__suppress_context__ = False
    for errors in waiters(impl, error, 2):
        for each in errors:
            assert (each.__cause__, each.__suppress_context__) == (error.__cause__, False)


def test_a_note_is_for_the_one_who_adds_it(impl):
    error = noted()
    op = impl.Op("a")
    op.finish(error=error)
    first, second, third = (raised(lambda: op.result(0)) for _ in range(3))
    # Without the GIL nobody gets the instance: see test_freethreading.py.
    assert (first is error) == GIL
    second.add_note("mine")
    assert (first.__notes__, second.__notes__, third.__notes__) == (["here"], ["here", "mine"], ["here"])
    assert error.__notes__ == ["here"]


def test_nobody_asks_the_class_of_an_error(impl):
    error = Sealed()
    for errors in waiters(impl, error, 3):
        assert [type(each) for each in errors] == [Sealed] * 3
        assert len({id(each) for each in errors}) == 3


@pytest.mark.parametrize("how", ["with", "process", "aprocess"])
def test_nobody_asks_the_class_of_what_ends_a_block(impl, how):
    """Its operations would stay pending, if the class refuses to answer."""

    def fail(row):
        raise error

    async def afail(row):
        raise error

    error = Sealed()
    queue = impl.OpQueue(None, None)
    op = queue.submit("a")
    with contextlib.suppress(Sealed):
        if how == "with":
            with queue.dequeue(0) as row:
                fail(row)
        elif how == "process":
            queue.process(fail)
        else:
            # Not by a loop: asyncio asks the class, and its task never ends.
            drive(queue.aprocess(afail))
    assert op.exception(0) is error
    assert not op.cancelled()
    assert repr(op).startswith("<Op key='a' failed: ")


def test_nobody_asks_the_class_of_what_a_callback_raises(impl, caplog):
    def fail(_):
        raise Sealed

    op = impl.Op("a")
    for _ in range(2):
        op.add_done_callback(fail)
    op.finish()
    group = impl.CallGroup(fail)
    group.seal()
    assert type(raised(lambda: group.result(0))) is Sealed
    assert len(caplog.records) == 3


def test_an_error_that_was_raised_needs_no_collector(impl):
    """Nor does what the frames of its traceback have: it is gone with the last who refers to it."""

    class Local:
        pass

    def work():
        local = Local()
        kept.append(weakref.ref(local))
        raise Described(500)

    # These take the calls out of lists: a frame that has the operation would make a cycle of its own.
    def finish(calls):
        try:
            work()
        except Described as error:
            kept.append(weakref.ref(error))
            calls.pop()(error=error)

    def wait(calls):
        try:
            calls.pop()()
        except Described as error:
            kept.append(weakref.ref(error))

    async def wait_in_task(ops):
        try:
            await ops.pop()
        except Described as error:
            kept.append(weakref.ref(error))

    kept = []
    gc.collect()
    gc.disable()
    try:
        op = impl.Op("a")
        finish([op.finish])
        for _ in range(2):
            wait([op.result])
        Worker(wait, [op.result]).result()
        asyncio.run(wait_in_task([op]))
        assert op.exception() is not None
        del op
        assert len(kept) == 6
        assert [ref() for ref in kept] == [None] * 6
    finally:
        gc.enable()


def test_the_error_of_a_block_without_line_numbers(impl):
    def work(row):
        with row:
            raise Described(500)

    work.__code__ = work.__code__.replace(co_linetable=b"")
    queue = impl.OpQueue(None, None)
    op = queue.submit("a")
    error = raised(lambda: work(queue.dequeue(0)))
    assert type(error) is Described
    assert op.exception() is error


def test_what_cannot_be_made_again_is_raised_itself(impl):
    error = Unique()
    op = impl.Op("a")
    op.finish(error=error)
    depths = set()
    for _ in range(3):
        again = raised(lambda: op.result(0))
        assert again is error
        depths.add(len(traceback.extract_tb(again.__traceback__)))
    # Set back for each.
    assert len(depths) == 1
