"""OpSet: a row, once handed out."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest

from inflight import OpCancelledError


@pytest.fixture
def row_of(make_queue):
    """Makes a row of so many operations, of a queue of each kind."""

    def row_of(number, key="k"):
        queue = make_queue()
        for index in range(number):
            queue.submit(key, index)
        return queue.dequeue(0)

    return row_of


def test_is_a_sequence_in_enqueue_order(row_of):
    row = row_of(4)
    assert isinstance(row, Sequence)
    assert len(row) == 4
    assert [op.msg for op in row] == [0, 1, 2, 3]
    assert [op.msg for op in reversed(row)] == [3, 2, 1, 0]
    assert row[0].msg == 0
    assert row[-1].msg == 3
    assert row[3] in row
    assert row.index(row[2]) == 2
    assert row.count(row[2]) == 1
    first, *rest = row
    assert first is row[0]
    assert len(rest) == 3


def test_a_slice_is_a_tuple(row_of):
    row = row_of(4)
    assert row[1:3] == (row[1], row[2])
    assert row[::-1] == tuple(reversed(row))
    assert row[:] == tuple(row)
    assert row[9:] == ()


@pytest.mark.parametrize("index", [3, -4, 10**30, -(10**30)])
def test_index_out_of_range(row_of, index):
    with pytest.raises(IndexError, match="^OpSet index out of range$"):
        row_of(3)[index]


@pytest.mark.parametrize("index", ["a", None, 1.0])
def test_index_of_a_wrong_type(row_of, index):
    kind = type(index).__name__
    with pytest.raises(TypeError, match=f"^OpSet indices must be integers or slices, not {kind}$"):
        row_of(3)[index]


def test_an_index_may_be_anything_with_index(row_of):
    class One:
        def __index__(self):
            return 1

    row = row_of(3)
    assert row[One()] is row[1]
    assert row[True] is row[1]


def test_is_immutable(row_of):
    row = row_of(2)
    with pytest.raises(TypeError):
        row[0] = None
    with pytest.raises(TypeError):
        del row[0]
    for name in ("key", "other"):
        with pytest.raises(AttributeError):
            setattr(row, name, 1)


def test_the_key_is_the_queues_and_may_differ_from_the_operations_own(impl, make_queue):
    queue = make_queue()
    op = impl.Op("own")
    queue.enqueue("queue's", op)
    row = queue.dequeue(0)
    assert row.key == "queue's"
    assert row[0].key == "own"


def test_compares_and_hashes_by_identity(row_of):
    one, other = row_of(1), row_of(1)
    assert one == one
    assert one != other
    assert one != tuple(one)
    assert len({one, other}) == 2


def test_cannot_be_constructed(impl):
    with pytest.raises(TypeError):
        impl.OpSet()
    with pytest.raises(TypeError):
        impl.OpSet("k", [])


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy])
def test_cannot_be_copied(row_of, copying):
    with pytest.raises(TypeError, match="OpSet objects cannot be pickled"):
        copying(row_of(1))


def test_finish_all_with_a_result(row_of):
    row = row_of(3)
    assert row.finish_all(5) == 3
    assert [op.result() for op in row] == [5, 5, 5]
    assert row.finish_all(6) == 0


def test_finish_all_without_a_result(row_of):
    row = row_of(2)
    row.finish_all()
    assert [op.result() for op in row] == [None, None]


def test_finish_all_with_an_error(row_of):
    row = row_of(3)
    error = ValueError("all")
    assert row.finish_all(error=error) == 3
    assert all(op.exception() is error for op in row)


def test_finish_all_leaves_finished_ones_alone(row_of):
    row = row_of(3)
    row[1].finish("own")
    assert row.finish_all("all") == 2
    assert [op.result() for op in row] == ["all", "own", "all"]


@pytest.mark.parametrize("error", [ValueError, StopIteration(), "text"])
def test_finish_all_with_a_refused_error_finishes_nothing(row_of, error):
    row = row_of(2)
    with pytest.raises(TypeError, match="^error must"):
        row.finish_all(error=error)
    assert not any(op.done() for op in row)


def test_finish_all_finishes_everything_before_an_interrupt_is_raised(row_of):
    def interrupt(op):
        raise KeyboardInterrupt

    row = row_of(3)
    row[0].add_done_callback(interrupt)
    with pytest.raises(KeyboardInterrupt):
        row.finish_all(1)
    assert [op.result(0) for op in row] == [1, 1, 1]


def test_finish_all_with_one_operation_twice_in_the_row(impl, make_queue):
    queue = make_queue()
    op = impl.Op(1)
    queue.enqueue(1, op)
    queue.enqueue(1, op)
    row = queue.dequeue(0)
    assert tuple(row) == (op, op)
    assert row.finish_all(1) == 1


def test_finish_each(row_of):
    row = row_of(3)
    error = ValueError()
    assert row.finish_each([1, error, None]) == 3
    assert row[0].result() == 1
    assert row[1].exception() is error
    assert row[2].result() is None


@pytest.mark.parametrize("make", [list, tuple, iter, lambda values: dict.fromkeys(values).keys()])
def test_finish_each_takes_any_iterable(row_of, make):
    row = row_of(3)
    row.finish_each(make([1, 2, 3]))
    assert [op.result() for op in row] == [1, 2, 3]


def test_finish_each_takes_a_class_for_a_plain_result(row_of):
    row = row_of(1)
    row.finish_each([ValueError])
    assert row[0].result() is ValueError


def test_finish_each_leaves_finished_ones_alone(row_of):
    row = row_of(3)
    row[1].finish("own")
    assert row.finish_each("abc") == 2
    assert [op.result() for op in row] == ["a", "own", "c"]


@pytest.mark.parametrize("number", [0, 2, 4])
def test_finish_each_of_a_wrong_length_finishes_nothing(row_of, number):
    row = row_of(3)
    text = f"^finish_each needs 3 results, one for each operation, got {number}$"
    with pytest.raises(ValueError, match=text):
        row.finish_each([1] * number)
    assert not any(op.done() for op in row)


class OwnStopIteration(StopIteration):
    pass


@pytest.mark.parametrize("stop", [StopIteration(), OwnStopIteration(5)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_finish_each_with_a_stop_iteration_finishes_nothing(row_of, stop, place):
    row = row_of(3)
    results = [1, 2, 3]
    results[place] = stop
    with pytest.raises(TypeError, match="StopIteration"):
        row.finish_each(results)
    assert not any(op.done() for op in row)


def test_finish_each_takes_an_error_whose_class_hides_its_traceback(row_of):
    class Unreadable(Exception):
        @property
        def __traceback__(self):
            raise ZeroDivisionError

    row = row_of(3)
    assert row.finish_each([1, Unreadable(), 3]) == 3
    with pytest.raises(Unreadable):
        row[1].result()


def test_finish_each_of_something_else_finishes_nothing(row_of):
    row = row_of(2)
    with pytest.raises(TypeError):
        row.finish_each(5)
    assert not any(op.done() for op in row)


def test_finish_each_whose_iterator_fails_finishes_nothing(row_of):
    def results():
        yield 1
        raise ZeroDivisionError

    row = row_of(2)
    with pytest.raises(ZeroDivisionError):
        row.finish_each(results())
    assert not any(op.done() for op in row)


def test_finish_each_finishes_everything_before_an_interrupt_is_raised(row_of):
    def interrupt(op):
        raise SystemExit

    row = row_of(3)
    row[0].add_done_callback(interrupt)
    with pytest.raises(SystemExit):
        row.finish_each([1, 2, 3])
    assert [op.result(0) for op in row] == [1, 2, 3]


def test_a_block_releases_and_leaves_unfinished_operations_alone(make_queue):
    queue = make_queue()
    queue.submit("k")
    row = queue.dequeue(0)
    with row as entered:
        assert entered is row
        assert ("k" in queue) == make_queue.exclusive
    assert "k" not in queue
    assert not row[0].done()


def test_an_exception_in_the_block_is_the_error_of_what_is_unfinished(row_of):
    row = row_of(3)
    row[0].finish("own")
    error = ValueError("in the block")
    with pytest.raises(ValueError, match="in the block") as info, row:
        raise error
    assert info.value is error
    assert row[0].result() == "own"
    assert row[1].exception() is error
    assert row[2].exception() is error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_other_exceptions_in_the_block_cancel_what_is_unfinished(row_of, kind):
    row = row_of(2)
    row[0].finish("own")
    error = kind()
    with pytest.raises(kind), row:
        raise error
    assert row[0].result() == "own"
    assert row[1].cancelled()
    cancelled = row[1].exception()
    assert isinstance(cancelled, OpCancelledError)
    assert cancelled.__cause__ is error


def test_a_stop_iteration_in_the_block_is_wrapped(row_of):
    row = row_of(1)
    error = StopIteration()
    with pytest.raises(StopIteration), row:
        raise error
    wrapped = row[0].exception()
    assert isinstance(wrapped, RuntimeError)
    assert wrapped.__cause__ is error


def test_a_failed_block_releases(make_queue):
    for error in (ValueError(), KeyboardInterrupt()):
        queue = make_queue()
        queue.submit("k")
        with pytest.raises(type(error)), queue.dequeue(0):
            raise error
        assert "k" not in queue
        assert queue.join(0)


def test_a_block_releases_even_if_a_callback_interrupts(make_queue):
    def interrupt(op):
        raise KeyboardInterrupt

    queue = make_queue()
    queue.submit("k").add_done_callback(interrupt)
    with pytest.raises(KeyboardInterrupt), queue.dequeue(0):
        raise ValueError
    assert "k" not in queue


def test_release_is_idempotent_and_harmless(row_of):
    row = row_of(1)
    assert row.release() is None
    assert row.release() is None
    with row:
        pass
    row.release()
    assert not row[0].done()
    assert row.finish_all(1) == 1


@pytest.mark.parametrize("index", [2, -3, 10**400, -(10**400)])
def test_an_index_out_of_range(row_of, index):
    with pytest.raises(IndexError, match="^OpSet index out of range$") as caught:
        row_of(2)[index]
    assert caught.value.__context__ is None


def test_what_an_index_or_a_slice_raises_is_raised(row_of):
    class Index:
        def __index__(self):
            raise TypeError("no index today")

    row = row_of(2)
    with pytest.raises(TypeError, match="^no index today$"):
        row[Index()]
    with pytest.raises(TypeError, match="^slice indices must be integers or None or have an __index__ method$"):
        row["a":]
    with pytest.raises(TypeError, match="^OpSet indices must be integers or slices, not float$"):
        row[0.0]


def test_representation(row_of):
    assert repr(row_of(3, "a")) == "<OpSet key='a' of 3 operations>"


def test_subscription(impl):
    assert impl.OpSet[int, str, float].__origin__ is impl.OpSet
