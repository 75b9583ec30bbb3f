"""The two implementations look the same from outside: every public class, name by name.

What is written by the interpreter or by Cython cannot be the same, and is listed here: ``OWN_WAY``, and
the tests at the end, which say what a user can tell the implementations apart by.
"""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import gc
import importlib.util
import inspect
import pickle
import types
import typing
import weakref

import pytest
from conftest import load

import inflight

NAMES = ("Op", "CallGroup", "OpSet", "OpQueue", "DedupeQueue", "OpWindow")
QUEUES = ("OpQueue", "DedupeQueue", "OpWindow")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("inflight._native") is None, reason="there is no compiled implementation to compare with"
)

# What every class has in its own way: by being compiled or not, by its bases, by how it is finalized.
OWN_WAY = {
    "__abstractmethods__", "__annotations__", "__annotations_cache__", "__annotate__", "__annotate_func__", "__del__",
    "__dict__", "__doc__", "__firstlineno__", "__getattribute__", "__init__", "__init_subclass__", "__module__",
    "__new__", "__orig_bases__", "__parameters__", "__pyx_vtable__", "__reduce_cython__", "__setstate__",
    "__setstate_cython__", "__slots__", "__static_attributes__", "__subclasshook__", "__weakref__",
}  # fmt: skip


@pytest.fixture(scope="module")
def native():
    return load("native")


@pytest.fixture(scope="module")
def pure():
    return load("pure")


def names(cls):
    """The names that users see, special ones included, wherever they come from."""
    return {name for name in dir(cls) if not name.startswith("_") or name.startswith("__")} - OWN_WAY


def answer(step):
    """The answer, or the type and text of the exception."""
    try:
        return step()
    except Exception as error:
        return type(error), str(error)


def kind(step):
    """The answer, or the type of the exception, for what the interpreter has a text of its own for."""
    try:
        return step()
    except Exception as error:
        return type(error)


# ---- the classes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_same_names(native, pure, name):
    assert names(getattr(native, name)) == names(getattr(pure, name))


def test_every_public_class_is_looked_at(native, pure):
    """And what is not in ``NAMES`` exists once."""
    for name in inflight.__all__:
        value = getattr(inflight, name)
        if isinstance(value, type) and name not in NAMES:
            assert value.__module__.partition(".")[0] == "inflight"
            assert not value.__module__.startswith(("inflight._pure", "inflight._native"))
            assert not hasattr(importlib.import_module("inflight._pure"), name)
    for impl in (native, pure):
        assert all(isinstance(getattr(impl, name), type) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_kinds_of_names(native, pure, name):
    """Methods are methods, and properties are read like properties."""

    def described(cls):
        found = {}
        for each in names(cls):
            value = inspect.getattr_static(cls, each)
            found[each] = (
                inspect.isroutine(value) or isinstance(value, classmethod | staticmethod),
                inspect.isdatadescriptor(value),
                callable(getattr(cls, each)),
            )
        return found

    assert described(getattr(native, name)) == described(getattr(pure, name))


def shape(function):
    parameters = inspect.signature(function).parameters.values()
    # A compiled method does not take `self` by keyword.
    return [(each.name, each.name != "self" and each.kind, repr(each.default)) for each in parameters]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_signatures(native, pure, name):
    ours, theirs = getattr(native, name), getattr(pure, name)
    assert shape(ours) == shape(theirs)
    for each in sorted(names(theirs)):
        method = inspect.getattr_static(ours, each)
        # That of a slot, such as `__len__`, has names of the interpreter's: the number is what counts.
        if inspect.ismethoddescriptor(method) and not is_slot(method):
            assert kind(lambda each=each: shape(getattr(ours, each))) == kind(
                lambda each=each: shape(getattr(theirs, each))
            ), each
        elif is_slot(method) and each in vars(theirs):
            assert len(shape(method)) == len(shape(getattr(theirs, each))), each


def is_slot(method):
    return type(method).__name__ == "wrapper_descriptor"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_docstrings(native, pure, name):
    ours, theirs = getattr(native, name), getattr(pure, name)
    assert inspect.getdoc(ours) == inspect.getdoc(theirs)
    # That of a class is what its own class says.
    for each in sorted(names(theirs) - {"__class__"}):
        one, other = (getattr(cls, each).__doc__ for cls in (ours, theirs))
        if not each.startswith("__"):
            assert other, f"{each} has no docstring"
        if other is not None:
            # Else the interpreter says of a slot what it says of all.
            assert inspect.cleandoc(one or "") == inspect.cleandoc(other), each


@pytest.mark.parametrize("name", NAMES)
def test_the_same_module_and_names(native, pure, name):
    ours, theirs = getattr(native, name), getattr(pure, name)
    for cls in (ours, theirs):
        assert (cls.__module__, cls.__name__, cls.__qualname__) == ("inflight", name, name)
        assert repr(cls) == f"<class 'inflight.{name}'>"
    for each in sorted(names(theirs)):
        if not each.startswith("__") and callable(getattr(theirs, each)):
            one, other = getattr(ours, each), getattr(theirs, each)
            assert (one.__name__, one.__qualname__) == (other.__name__, other.__qualname__)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bases(native, pure, name):
    ours, theirs = getattr(native, name), getattr(pure, name)
    assert [each.__name__ for each in ours.__mro__ if each.__name__ in NAMES] == [
        each.__name__ for each in theirs.__mro__ if each.__name__ in NAMES
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_abstract_base_classes(native, pure, name):
    def registered(cls):
        return {
            each for each in collections.abc.__all__ if answer(lambda each=each: issubclass(cls, abc(each))) is True
        }

    def abc(each):
        return getattr(collections.abc, each)

    assert registered(getattr(native, name)) == registered(getattr(pure, name))
    if name == "OpSet":
        assert "Sequence" in registered(getattr(native, name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parameters", [int, (int, str), (), "K", typing.TypeVar("K"), None])
def test_both_are_generic(native, pure, name, parameters):
    ours, theirs = (answer(lambda impl=impl: repr(getattr(impl, name)[parameters])) for impl in (native, pure))
    assert ours == theirs
    for impl in (native, pure):
        alias = getattr(impl, name)[int]
        assert (typing.get_origin(alias), typing.get_args(alias)) == (getattr(impl, name), (int,))


K = typing.TypeVar("K")

SUBCLASSES = {
    "plain": lambda cls: type("Sub", (cls,), {}),
    "with slots": lambda cls: type("Sub", (cls,), {"__slots__": ("more",)}),
    "of an alias": lambda cls: types.new_class("Sub", (cls[int],)),
    "generic": lambda cls: types.new_class("Sub", (cls[K], typing.Generic[K])),
    "with a mixin": lambda cls: type("Sub", (type("Mixin", (), {}), cls), {}),
    "of an exception too": lambda cls: type("Sub", (cls, Exception), {}),
    "of itself twice": lambda cls: type("Sub", (cls, cls), {}),
    "of another one too": lambda cls: type("Sub", (cls, dict), {}),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", SUBCLASSES)
def test_the_same_subclasses_can_be_made(native, pure, name, how):
    def made(impl):
        sub = SUBCLASSES[how](getattr(impl, name))
        return [each.__name__ for each in sub.__mro__ if each.__name__ in (*NAMES, "Sub", "Mixin", "Exception")]

    assert kind(lambda: made(native)) == kind(lambda: made(pure))


# ---- their objects ------------------------------------------------------------------------------


def objects(impl, name):
    """Some, in several states; kept alive by the first."""
    if name == "Op":
        found = [impl.Op("a", 1), impl.Op(7), impl.Op((1, "a"))]
        found[1].finish(1)
        found[2].finish(error=ValueError("x"))
        return [*found, cancelled(impl)]
    if name == "CallGroup":
        complete = impl.CallGroup()
        complete.seal()
        return [impl.CallGroup(), complete]
    if name == "OpSet":
        queue = impl.DedupeQueue(None, None)
        for key in "aab":
            queue.submit(key).finish()
        return queue.drain()
    more = {"OpQueue": (), "DedupeQueue": (), "OpWindow": (2,)}[name]
    found = [getattr(impl, name)(depth, 2, *more) for depth in (None, 10)]
    found[1].close()
    return found


def cancelled(impl):
    op = impl.Op("c")
    op.cancel()
    return op


@pytest.mark.parametrize("name", NAMES)
def test_the_same_representations(native, pure, name):
    for call in (repr, str, lambda each: f"{each}"):
        assert list(map(call, objects(native, name))) == list(map(call, objects(pure, name)))


def test_the_same_representations_all_along(native, pure):
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
        yield type("Mine", (impl.OpWindow,), {})(3, 3, 2)

    assert list(map(repr, representations(native))) == list(map(repr, representations(pure)))


def protocols():
    return [*range(pickle.HIGHEST_PROTOCOL + 1)]


@pytest.mark.parametrize("name", NAMES)
def test_they_refuse_to_be_pickled_and_copied_in_the_same_words(native, pure, name):
    text = f"{name} objects cannot be pickled: they are bound to this process"
    for impl in (native, pure):
        for it in objects(impl, name):
            for protocol in protocols():
                assert answer(lambda it=it, protocol=protocol: pickle.dumps(it, protocol)) == (TypeError, text)
                assert answer(lambda it=it, protocol=protocol: it.__reduce_ex__(protocol)) == (TypeError, text)
            for call in (copy.copy, copy.deepcopy):
                assert answer(lambda it=it, call=call: call(it)) == (TypeError, text)


def test_what_they_have_in_common_pickles_whoever_made_it(native, pure):
    made = []
    for impl in (native, pure):
        queue = impl.OpQueue(1, 1)
        queue.submit("a")
        made.append([queue.stats()])
        for key in "ab":
            with pytest.raises(inflight.QueueSaturatedError) as caught:
                queue.submit(key)
            made[-1].append(caught.value)
    for protocol in protocols():
        ours, theirs = (pickle.loads(pickle.dumps(each, protocol)) for each in made)
        assert list(map(repr, ours)) == list(map(repr, theirs))
        assert list(map(type, ours)) == list(map(type, theirs))


@pytest.mark.parametrize("name", NAMES)
def test_they_are_weakly_referenced_and_collected_alike(native, pure, name):
    for impl in (native, pure):
        found = objects(impl, name)
        died = []
        refs = [weakref.ref(it, died.append) for it in found]
        assert [ref() for ref in refs] == found
        proxies = [weakref.proxy(it) for it in found]
        assert [repr(proxy.__class__) for proxy in proxies] == [repr(type(it)) for it in found]
        number = len(found)
        found.clear()
        del proxies
        gc.collect()
        assert len(died) == number


@pytest.mark.parametrize("name", NAMES)
def test_they_compare_by_identity_and_are_hashable(native, pure, name):
    for impl in (native, pure):
        one, other = objects(impl, name)[:2]
        assert one == one
        assert one != other
        assert one != 1
        assert len({one, other, one}) == 2
        assert kind(lambda one=one, other=other: one < other) is TypeError
        assert answer(lambda one=one: one.__eq__(1)) is NotImplemented


@pytest.mark.parametrize("name", NAMES)
def test_no_attribute_can_be_set_or_deleted_or_added(native, pure, name):
    for it, other in zip(objects(native, name), objects(pure, name), strict=True):
        for each in sorted(names(type(other)) | {"unknown", "__dict__", "__slots__"}):
            if each in ("__class__", "__doc__"):
                continue
            for value in (it, other):
                with pytest.raises(AttributeError):
                    setattr(value, each, 1)
                with pytest.raises(AttributeError):
                    delattr(value, each)
        assert not hasattr(it, "__dict__")
        assert not hasattr(other, "__dict__")


@pytest.mark.parametrize("name", NAMES)
def test_a_subclass_has_attributes(native, pure, name):
    arguments = {"Op": (1,), "OpQueue": (1, 1), "DedupeQueue": (1, 1), "OpWindow": (1, 1, 1)}.get(name, ())
    for impl in (native, pure):
        sub = type("Sub", (getattr(impl, name),), {"__init__": lambda self, *a: None} if name == "OpSet" else {})
        it = sub(*arguments)
        it.more = 1
        assert vars(it) == {"more": 1}
        if name == "Op":
            it.finish()


@pytest.mark.parametrize("name", NAMES)
def test_they_are_initialised_once(native, pure, name):
    arguments = {"Op": (1,), "OpQueue": (1, 1), "DedupeQueue": (1, 1), "OpWindow": (1, 1, 1)}.get(name, ())

    def again(impl):
        return objects(impl, name)[0].__init__(*arguments)

    ours, theirs = (answer(lambda impl=impl: again(impl)) for impl in (native, pure))
    assert ours == theirs
    assert ours[0] is (TypeError if name == "OpSet" else RuntimeError)


@pytest.mark.parametrize("name", NAMES)
def test_a_constructor_that_was_refused_can_be_tried_again(native, pure, name):
    wrong = {"Op": ([],), "CallGroup": (1,), "OpWindow": (1, 0, 1)}.get(name, (0, 1))
    right = {"Op": (1,), "CallGroup": (print,), "OpWindow": (1, 1, 1)}.get(name, (1, 1))
    if name == "OpSet":
        pytest.skip("has no constructor")

    def retried(impl):
        cls = getattr(impl, name)
        it = cls.__new__(cls)
        first = answer(lambda: it.__init__(*wrong))
        return first, it.__init__(*right), repr(it), name == "Op" and it.finish()

    assert retried(native) == retried(pure)


def hidden(impl):
    """What users get hold of without a name for it."""
    queue = impl.OpQueue(2, 2)
    queue.submit("a").finish()
    row = queue.dequeue()
    queue.close()
    return {
        "rows": iter(queue),
        "rows, asynchronous": aiter(queue),
        "row": iter(row),
        "row, reversed": reversed(row),
    }


def test_iterators_are_iterators(native, pure):
    for name, it in hidden(native).items():
        other = hidden(pure)[name]
        for abc in ("Iterator", "Iterable", "AsyncIterator", "AsyncIterable", "Generator", "Coroutine"):
            cls = getattr(collections.abc, abc)
            assert isinstance(it, cls) == isinstance(other, cls), (name, abc)
        assert kind(lambda it=it: iter(it) is it) == kind(lambda other=other: iter(other) is other)
        assert kind(lambda it=it: aiter(it) is it) == kind(lambda other=other: aiter(other) is other)
        assert type(it).__name__.lstrip("_") == type(other).__name__.lstrip("_")
        assert kind(lambda it=it: setattr(it, "unknown", 1)) == kind(lambda other=other: setattr(other, "unknown", 1))


AWAITED = {
    "adequeue": lambda queue, op: queue.adequeue(),
    "adequeue_many": lambda queue, op: queue.adequeue_many(1),
    "aenqueue": lambda queue, op: queue.aenqueue("a", op),
    "asubmit": lambda queue, op: queue.asubmit("a"),
    "ajoin": lambda queue, op: queue.ajoin(),
    "aprocess": lambda queue, op: queue.aprocess(print),
    "__aenter__": lambda queue, op: queue.__aenter__(),
    "__anext__": lambda queue, op: aiter(queue).__anext__(),
}


@pytest.mark.parametrize("name", AWAITED)
def test_what_is_awaited_is_a_coroutine(native, pure, name):
    for impl in (native, pure):
        made = AWAITED[name](impl.OpQueue(1, 1), cancelled(impl))
        assert isinstance(made, collections.abc.Coroutine)
        assert inspect.isawaitable(made)
        assert made.__name__ == name
        assert made.__qualname__ == f"OpQueue.{name}"
        assert repr(made).startswith("<coroutine ") or name in ("aprocess", "__aenter__")
        assert made.__await__() is not None
        made.close()
        assert kind(lambda made=made: made.send(None)) is RuntimeError


@pytest.mark.parametrize("what", ["queue", "group", "row"])
def test_a_block_is_left_before_that_is_awaited(native, pure, what):
    """What is awaited is a coroutine like any other that has nothing to wait for."""
    for impl in (native, pure):
        queue, group = impl.DedupeQueue(1, 1), impl.CallGroup().__enter__()
        queue.submit("a")
        row = queue.dequeue()
        block = {"queue": queue, "group": group, "row": row}[what]
        made = block.__aexit__(None, None, None)
        assert {"queue": queue.closed, "group": group.done(), "row": queue.stats().owned == 0}[what]
        assert isinstance(made, collections.abc.Coroutine)
        assert repr(made) == "<coroutine __aexit__, ended>"

        async def wait_for(made=made):
            return await made, await made, await asyncio.create_task(made)

        assert asyncio.run(wait_for()) == (None, None, None)
        with pytest.raises(KeyError, match="thrown"):
            made.throw(KeyError("thrown"))
        with pytest.raises(LookupError, match="thrown"):
            made.throw(LookupError, LookupError("thrown"))
        with pytest.raises(KeyError):
            made.throw(KeyError)
        made.close()
        row.finish_all()


# ---- together -----------------------------------------------------------------------------------


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


# ---- what they can be told apart by -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_object_that_was_never_initialised_does_no_harm(native, pure, name):
    """The compiled one is empty and unbounded, or finished; of the other, attributes are missing."""
    for impl in (native, pure):
        for each in sorted(names(getattr(impl, name))):
            it = getattr(impl, name).__new__(getattr(impl, name))
            if each in ("key", "msg", "group", "closed", "depth", "width", "window", "exclusive", "outstanding"):
                assert impl is native or kind(lambda it=it, each=each: getattr(it, each)) is AttributeError
            elif each in ("done", "cancelled", "cancel", "release", "seal", "close", "stats", "drain", "__len__"):
                assert impl is native or kind(lambda it=it, each=each: getattr(it, each)()) is AttributeError
            kind(lambda it=it: repr(it))
            del it


def test_only_the_pure_classes_can_be_changed(native, pure):
    for name in NAMES:
        with pytest.raises(TypeError, match="immutable type"):
            getattr(native, name).more = 1
        getattr(pure, name).more = 1
        del getattr(pure, name).more


def test_only_the_pure_methods_are_coroutine_functions(native, pure):
    for name in ("adequeue", "adequeue_many", "aenqueue", "asubmit", "aprocess", "ajoin", "__aenter__"):
        assert inspect.iscoroutinefunction(getattr(pure.OpQueue, name))
        assert not inspect.iscoroutinefunction(getattr(native.OpQueue, name))
