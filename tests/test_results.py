"""Response and Results: what the operations of a group ended with."""

from __future__ import annotations

import copy
import pickle
import typing
from collections.abc import Mapping

import pytest

from inflight import Op, Response, Results


@pytest.fixture
def made(impl):
    """A group of a, b, a with results 1, an error, 3."""
    group = impl.CallGroup()
    ops = group.add_many([("a", None), ("b", None), ("a", None)])
    ops[0].finish(1)
    ops[1].finish(error=ValueError("b"))
    ops[2].finish(3)
    return group.result(), ops


@pytest.mark.parametrize("shown", [Response, Results, *(each for each in vars(Results).values() if callable(each))])
def test_annotations_can_be_evaluated(shown):
    hints = typing.get_type_hints(shown)
    assert shown is not Response or hints["op"].__origin__ is Op


def test_is_a_mapping_in_the_order_keys_were_first_added(made):
    results, ops = made
    assert isinstance(results, Mapping)
    assert list(results) == ["a", "b"]
    assert len(results) == 2
    assert list(results.keys()) == ["a", "b"]
    assert "a" in results
    assert "c" not in results
    assert results.get("c") is None
    with pytest.raises(KeyError):
        results["c"]


def test_shows_the_last_operation_of_a_key(made):
    results, ops = made
    assert results["a"] == Response(ops[2], 3, None)


def test_responses_lose_nothing(made):
    results, ops = made
    assert isinstance(results.responses, tuple)
    assert [response.op for response in results.responses] == ops
    assert [response.result for response in results.responses] == [1, None, 3]
    assert results.responses[1].error is ops[1].exception()


def test_errors(made):
    results, ops = made
    assert results.errors == (ops[1].exception(),)


def test_equal_keys_of_different_types_are_one(impl):
    group = impl.CallGroup()
    for op in group.add_many([(1, "int"), (1.0, "float"), (True, "bool")]):
        op.finish(op.msg)
    results = group.result()
    assert len(results) == 1
    assert results[1].result == "bool"
    assert len(results.responses) == 3


def test_raise_for_errors_raises_all_of_them_as_a_group(impl):
    group = impl.CallGroup()
    ops = group.add_many([(key, None) for key in range(3)])
    ops[0].finish(error=ValueError("a"))
    ops[1].finish(error=TypeError("b"))
    ops[2].finish(1)
    with pytest.raises(ExceptionGroup) as info:
        group.result().raise_for_errors()
    assert info.value.exceptions == (ops[0].exception(), ops[1].exception())


def test_raise_for_errors_with_a_base_exception(impl):
    group = impl.CallGroup()
    group.add(1).finish(error=KeyboardInterrupt())
    with pytest.raises(BaseExceptionGroup) as info:
        group.result().raise_for_errors()
    assert not isinstance(info.value, ExceptionGroup)


def test_raise_for_errors_without_errors(impl):
    group = impl.CallGroup()
    group.add(1).finish()
    assert group.result().raise_for_errors() is None


def test_are_immutable(made):
    results, ops = made
    with pytest.raises(TypeError):
        results["a"] = 1
    with pytest.raises(TypeError):
        del results["a"]
    for name in ("responses", "errors", "other", "_ops"):
        with pytest.raises(AttributeError):
            setattr(results, name, ())
        with pytest.raises(AttributeError):
            delattr(results, name)
    response = results["a"]
    for name in ("op", "result", "error"):
        with pytest.raises(AttributeError):
            setattr(response, name, None)


def test_a_response_unpacks(made):
    results, ops = made
    op, result, error = results["a"]
    assert (op, result, error) == (ops[2], 3, None)


def test_an_empty_groups_results(impl):
    group = impl.CallGroup()
    group.seal()
    results = group.result()
    assert len(results) == 0
    assert dict(results) == {}
    assert results.responses == ()
    assert results.errors == ()


def test_lookup_of_an_unhashable_key(made):
    results, ops = made
    with pytest.raises(TypeError):
        results[[]]


def test_cannot_be_constructed_or_pickled_or_copied(made):
    results, ops = made
    with pytest.raises(TypeError):
        Results()
    for copying in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="Results cannot be pickled"):
            copying(results)


def test_representation(made):
    results, ops = made
    assert repr(results) == "<Results of 3 operations, 1 failed>"
