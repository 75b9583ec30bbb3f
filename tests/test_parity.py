"""The two implementations look the same from outside, down to signatures and docstrings."""

from __future__ import annotations

import importlib.util
import inspect

import pytest
from conftest import load

NAMES = ("Op", "CallGroup", "OpSet", "OpQueue", "DedupeQueue", "OpWindow")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("inflight._native") is None, reason="there is no compiled implementation to compare with"
)

# What every class has in its own way.
OWN_WAY = {
    "__dict__",
    "__slots__",
    "__weakref__",
    "__annotations__",
    "__parameters__",
    "__orig_bases__",
    "__module__",
    "__doc__",
    "__firstlineno__",
    "__static_attributes__",
    "__abstractmethods__",
    "__new__",
    "__init__",
    "__del__",
    "__init_subclass__",
    "__subclasshook__",
    "__getattribute__",
    "__setstate__",
    "__setstate_cython__",
    "__reduce_cython__",
    "__pyx_vtable__",
}


@pytest.fixture(scope="module")
def native():
    return load("native")


@pytest.fixture(scope="module")
def pure():
    return load("pure")


def public(cls):
    """The names that belong to the class and its bases but ``object``, special ones included."""
    return {
        name
        for each in cls.__mro__
        if each.__module__.partition(".")[0] in ("inflight", "collections")
        for name in vars(each)
        if (not name.startswith("_") or name.startswith("__")) and name not in OWN_WAY
    }


def methods(cls):
    return sorted(
        name for name in public(cls) if not name.startswith("__") and callable(inspect.getattr_static(cls, name))
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_same_names(native, pure, name):
    ours, theirs = (public(getattr(impl, name)) for impl in (native, pure))
    plain = {each for each in ours ^ theirs if not each.startswith("__")}
    assert plain == set()
    # Special methods may come from object or Sequence on one side only, but must be there on both.
    for each in ours ^ theirs:
        assert hasattr(getattr(native, name), each) == hasattr(getattr(pure, name), each), each


@pytest.mark.parametrize("name", NAMES)
def test_the_same_signatures(native, pure, name):
    def shape(function):
        parameters = inspect.signature(function).parameters.values()
        # A compiled method does not take `self` by keyword.
        return [(each.name, each.name != "self" and each.kind, repr(each.default)) for each in parameters]

    ours, theirs = getattr(native, name), getattr(pure, name)
    assert shape(ours) == shape(theirs)
    for method in methods(theirs):
        assert shape(getattr(ours, method)) == shape(getattr(theirs, method)), method


@pytest.mark.parametrize("name", NAMES)
def test_the_same_docstrings(native, pure, name):
    ours, theirs = getattr(native, name), getattr(pure, name)
    assert inspect.getdoc(ours) == inspect.getdoc(theirs)
    for each in sorted(public(theirs)):
        if not each.startswith("__"):
            one, other = (inspect.getattr_static(cls, each).__doc__ for cls in (ours, theirs))
            assert other, f"{each} has no docstring"
            assert inspect.cleandoc(one or "") == inspect.cleandoc(other), each


@pytest.mark.parametrize("name", NAMES)
def test_the_same_module_and_names(native, pure, name):
    ours, theirs = getattr(native, name), getattr(pure, name)
    for attribute in ("__module__", "__name__", "__qualname__"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bases(native, pure, name):
    ours, theirs = getattr(native, name), getattr(pure, name)
    assert [each.__name__ for each in ours.__mro__ if each.__name__ in NAMES] == [
        each.__name__ for each in theirs.__mro__ if each.__name__ in NAMES
    ]


def test_the_same_representations(native, pure):
    def representations(impl):
        queue = impl.OpQueue(10, None)
        yield queue
        op = queue.submit("a")
        yield op
        yield queue
        row = queue.dequeue()
        yield row
        op.finish()
        yield op
        queue.close()
        yield queue
        group = impl.CallGroup()
        yield group
        op = group.add(1)
        yield group
        group.seal()
        yield group
        op.finish(error=ValueError("x"))
        yield op
        yield group
        yield impl.DedupeQueue(None, None, window=1)
        yield impl.OpWindow(3, 3, 2)

    assert list(map(repr, representations(native))) == list(map(repr, representations(pure)))


@pytest.mark.parametrize("name", NAMES)
def test_both_are_generic_and_can_be_subclassed_or_not(native, pure, name):
    ours, theirs = getattr(native, name), getattr(pure, name)
    assert repr(ours[int]) == repr(theirs[int])

    def subclass(cls):
        try:
            return type("Mine", (cls,), {}) is not None
        except TypeError:
            return False

    assert subclass(ours) == subclass(theirs)


def test_they_share_errors_results_and_stats(native, pure):
    one, other = (impl.OpQueue(1, 1) for impl in (native, pure))
    assert type(one.stats()) is type(other.stats())
    groups = [impl.CallGroup() for impl in (native, pure)]
    for group in groups:
        group.seal()
    assert type(groups[0].result()) is type(groups[1].result())


def test_operations_of_the_one_are_refused_by_the_other(native, pure):
    for ours, theirs in ((native, pure), (pure, native)):
        with pytest.raises(TypeError, match="op must be an Op"):
            ours.OpQueue(1, 1).enqueue(1, theirs.Op(1))
