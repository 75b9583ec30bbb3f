"""Call by call, both implementations answer, raise, log and warn the same, whatever they are passed.

Table-driven: every public method, on objects in many states (``SCENES``), with good and bad values for
each parameter in turn (``POOLS``, by the parameter's name), all else being good. Then random sequences
of calls with several bad arguments at once. What is compared, and with what, is in twins.py; coroutines step by
step are in test_differential_coroutines.py.

One difference is let pass: the text of a TypeError for a wrong number of arguments to a special method that is
called by its name. Those are written by the interpreter.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib.util
import inspect
import itertools
import operator
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import load
from helpers import GIL, FakeClock
from odd_values import ERRORS, FUNCTIONS, ITERABLES, KEYS, NUMBERS, OPS, VALUES
from twins import AWAITED, CONSUMED, Call, World, fits, observe, overheard, report, state, unequal, waits

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("inflight._native") is None, reason="there is no compiled implementation to compare with"
)

CALLS = int(os.environ.get("INFLIGHT_DIFFERENTIAL_CALLS", "0"))
"""How many random calls are made; if it is set, nothing is left out of the tables either."""

SHARE = 1 if CALLS else 5
"""Else only each fifth value is passed to a method in one state, others in the next."""

QUEUES = ("OpQueue", "DedupeQueue", "OpWindow")

# ---- objects in their states --------------------------------------------------------------------


def queue_scene(make: Callable[[World], Any], *steps: Callable[[World, Any], Any]) -> Callable[[World], Any]:
    def build(world: World) -> Any:
        queue = make(world)
        for step in steps:
            world.keep(step(world, queue))
        return queue

    return build


def submit(*keys: str) -> Callable[[World, Any], Any]:
    return lambda world, queue: [queue.submit(key, key.upper()) for key in keys]


def take(world: World, queue: Any) -> Any:
    return queue.dequeue(0)


def close(world: World, queue: Any) -> None:
    queue.close()


def later(world: World, queue: Any) -> None:
    world.clock.advance(20)


def plain_queue(world: World) -> Any:
    return world.impl.OpQueue(2, 2)


def exclusive_queue(world: World) -> Any:
    return world.impl.DedupeQueue(2, 2)


def windowed_queue(world: World) -> Any:
    return world.impl.OpWindow(2, 2, 10)


def exclusive_windowed_queue(world: World) -> Any:
    return world.impl.OpWindow(2, 2, 10, exclusive=True)


def finishing(step: Callable[[Any], object]) -> Callable[[World], Any]:
    def build(world: World) -> Any:
        op = world.impl.Op("a", "msg")
        step(op)
        return op

    return build


def group_scene(*steps: Callable[[Any], Any], reducer: str | None = None) -> Callable[[World], Any]:
    def build(world: World) -> Any:
        group = world.impl.CallGroup(None if reducer is None else world.value(reducer))
        for step in steps:
            try:
                world.keep(step(group))
            except (KeyboardInterrupt, SystemExit):
                pass
        return group

    return build


def row_scene(make: Callable[[World], Any], *steps: Callable[[Any], Any]) -> Callable[[World], Any]:
    def build(world: World) -> Any:
        queue = world.keep(make(world))
        world.keep(queue.submit("a", 1), queue.submit("a", 2))
        row = queue.dequeue(0)
        for step in steps:
            step(row)
        return row

    return build


def fail(picked: str) -> Callable[[Any], Any]:
    return lambda op: op.finish(error=VALUES[picked](None))  # type: ignore[arg-type]


SCENES: dict[str, dict[str, Callable[[World], Any]]] = {
    "OpQueue": {
        "empty": queue_scene(plain_queue),
        "unbounded": queue_scene(lambda world: world.impl.OpQueue(None, None)),
        "of a subclass": queue_scene(lambda world: world.subclass("OpQueue")(2, 2), submit("a")),
        "full of keys": queue_scene(plain_queue, submit("a", "b")),
        "with a full row": queue_scene(plain_queue, submit("a", "a")),
        "closed": queue_scene(plain_queue, close),
        "closed with a row": queue_scene(plain_queue, submit("a"), close),
    },
    "DedupeQueue": {
        "empty": queue_scene(exclusive_queue),
        "owned": queue_scene(exclusive_queue, submit("a"), take, submit("a")),
        "owned, full": queue_scene(exclusive_queue, submit("a"), take, submit("a", "a", "b")),
        "owned, closed": queue_scene(exclusive_queue, submit("a"), take, close),
    },
    "OpWindow": {
        "open": queue_scene(windowed_queue, submit("a")),
        "over": queue_scene(windowed_queue, submit("a"), later),
        "exclusive": queue_scene(exclusive_windowed_queue, submit("a"), later, take, submit("a")),
    },
    "Op": {
        "pending": finishing(lambda op: None),
        "finished": finishing(lambda op: op.finish(1)),
        "failed": finishing(fail("error with cause")),
        "failed, with other arguments": finishing(fail("picky")),
        "failed, cannot be copied": finishing(fail("unique")),
        "failed, cannot be shown": finishing(fail("unprintable")),
        "interrupted": finishing(fail("KeyboardInterrupt")),
        "cancelled": finishing(lambda op: op.cancel()),
        "with a bad key": lambda world: world.impl.Op(world.value("repr raises")),
        "with bad callbacks": finishing(
            lambda op: [op.add_done_callback(VALUES[name](None)) for name in FUNCTIONS if "exit" not in name]  # type: ignore[arg-type]
        ),
        "of a group": lambda world: world.keep(world.impl.CallGroup(), world.impl.CallGroup()).add("a", "msg"),
        "of a group that raises": lambda world: world.impl.CallGroup(world.value("raising")).add("a"),
        "of a group that interrupts": lambda world: world.impl.CallGroup(world.value("raising KeyboardInterrupt")).add(
            "a"
        ),
        "of a subclass": lambda world: world.subclass("Op")("a"),
    },
    "CallGroup": {
        "open": group_scene(),
        "open, raising": group_scene(reducer="raising"),
        "with two": group_scene(lambda group: group.add_many([("a", 1), ("b", 2)])),
        "entered": group_scene(lambda group: group.__enter__()),
        "sealed": group_scene(lambda group: group.add("a"), lambda group: group.seal()),
        "complete": group_scene(lambda group: group.add("a").finish(3), reducer="returning"),
        "finished": group_scene(lambda group: group.add("a").finish(3)),
        "raised": group_scene(lambda group: group.seal(), reducer="raising"),
        "raised StopIteration": group_scene(lambda group: group.seal(), reducer="raising StopIteration"),
        "interrupted": group_scene(lambda group: group.seal(), reducer="raising KeyboardInterrupt"),
    },
    "OpSet": {
        "of two": row_scene(plain_queue),
        "finished": row_scene(plain_queue, lambda row: row.finish_all(1)),
        "half finished": row_scene(plain_queue, lambda row: row[0].finish(1)),
        "owned": row_scene(exclusive_queue),
        "released": row_scene(exclusive_queue, lambda row: row.release()),
    },
}
# Those of which it does not take for ever to wait for them.
ENDED = {"finished", "failed", "failed, with other arguments", "failed, cannot be copied", "failed, cannot be shown",
         "interrupted", "cancelled", "complete", "raised", "raised StopIteration"}  # fmt: skip

# ---- calls --------------------------------------------------------------------------------------

FEW = {name: VALUES[name] for name in ("none", "one", "a", "list", "error", "error class", "object")}

# For each parameter, by its name: a value that is good, and the others.
POOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "key": ("c", KEYS | FEW),
    "op": ("op", OPS | FEW),
    "timeout": ("zero", NUMBERS | FEW),
    "limit": ("one", NUMBERS | FEW),
    "depth": ("one", NUMBERS | FEW),
    "width": ("one", NUMBERS | FEW),
    "window": ("zero", NUMBERS | FEW),
    "exclusive": ("true", NUMBERS | FEW | {"ambiguous": None}),
    "fn": ("returning", FUNCTIONS | FEW),
    "on_complete": ("returning", FUNCTIONS | FEW),
    "error": ("none", ERRORS | FEW),
    "exc": ("none", ERRORS | FEW),
    "exc_type": ("none", FEW),
    "traceback": ("none", FEW),
    "result": ("one", ERRORS | FEW),
    "msg": ("one", ERRORS | FEW),
    "results": ("numbers", ITERABLES | FEW),
    "items": ("pairs", ITERABLES | FEW),
    "ops": ("ops", ITERABLES | FEW),
    "value": ("one", KEYS | FEW),
    "index": ("zero", NUMBERS | FEW | {"slice": None, "bad slice": None}),
    "start": ("zero", NUMBERS | FEW),
    "stop": ("none", NUMBERS | FEW),
}
VALUES["ambiguous"] = lambda world: type("Ambiguous", (), {"__bool__": lambda self: 1 / 0})()
VALUES["slice"] = lambda world: slice(0, 1)
VALUES["bad slice"] = lambda world: slice("a", 1.5)

# Special methods with parameters, for whom the interpreter has names of its own; all but those of every object.
SPECIAL = {
    "__len__": (), "__bool__": (), "__repr__": (), "__iter__": (), "__aiter__": (), "__await__": (), "__reduce__": (),
    "__enter__": (), "__aenter__": (), "__reversed__": (),
    "__getitem__": ("index",), "__contains__": ("value",),
    "__exit__": ("exc_type", "exc", "traceback"), "__aexit__": ("exc_type", "exc", "traceback"),
}  # fmt: skip

# Those that the interpreter calls by a slot, and about whose arguments it has texts of its own.
BY_SLOT = {"__len__", "__bool__", "__repr__", "__iter__", "__aiter__", "__await__", "__getitem__", "__contains__"}


def parameters(cls: Any, method: str) -> tuple[list[str], list[str]]:
    """The names of the positional parameters, and of the keyword-only ones."""
    if method in SPECIAL:
        return list(SPECIAL[method]), []
    found = [each for each in inspect.signature(getattr(cls, method)).parameters.values() if each.name != "self"]
    return (
        [each.name for each in found if each.kind is not each.KEYWORD_ONLY],
        [each.name for each in found if each.kind is each.KEYWORD_ONLY],
    )


def methods(cls: Any) -> list[str]:
    """The public methods, and the special ones in the table that it has."""
    return sorted(
        name
        for name in dir(cls)
        if (not name.startswith("_") and callable(getattr(cls, name))) or (name in SPECIAL and hasattr(cls, name))
    )


def calls(cls: Any, method: str, target: str, first: int = 0, step: int = 1) -> Iterator[Call]:
    """One with good arguments, then one for each other value of each parameter, or for each ``step``-th."""
    positional, keyword = parameters(cls, method)
    good = {name: POOLS[name][0] for name in positional + keyword}

    def call(passed: dict[str, str]) -> Call:
        return Call(target, method, tuple(passed[name] for name in positional), tuple((n, passed[n]) for n in keyword))

    yield call(good)
    for name in good:
        for each in itertools.islice(POOLS[name][1], first, None, step):
            yield call(good | {name: each})


def unfit_calls(cls: Any, method: str, target: str) -> Iterator[Call]:
    """With a wrong number of arguments, or wrong names."""
    positional, keyword = parameters(cls, method)
    for number in range(len(positional) + 3):
        for names in ((), ("other",), tuple(positional[:1]), tuple(keyword)):
            passed = tuple((name, "one") for name in dict.fromkeys(names))
            yield Call(target, method, ("one",) * number, passed)


# ---- comparing ----------------------------------------------------------------------------------


class Twins:
    """Pairs of worlds, which are dropped in silence."""

    def __init__(self, clock: FakeClock, loop: asyncio.AbstractEventLoop) -> None:
        self.impls = load("native"), load("pure")
        self.clock = clock
        self.loop = loop
        self.made: list[World] = []

    def pair(self, scene: Callable[[World], Any]) -> tuple[World, World]:
        """The same scene in both worlds."""
        if len(self.made) > 200:
            self.drop()
        ours, theirs = self.impls
        pair = World(ours, theirs, self.clock, self.loop), World(theirs, ours, self.clock, self.loop)
        self.made += pair
        for world in pair:
            # The second one at the same instants.
            self.clock.now = 1000.0
            world.objects["it"] = scene(world)
        return pair

    def drop(self) -> None:
        with overheard({}):
            self.made.clear()
            gc.collect()

    def compare(self, scene: Callable[[World], Any], call: Call) -> list[str]:
        """Where they differ, after one call."""
        ours, theirs = (observe(world, lambda world: world.make(call), "it") for world in self.pair(scene))
        return [f"{call}{each}" for each in unequal(ours, theirs)]


@pytest.fixture
def twins(clock: FakeClock) -> Iterator[Twins]:
    loop = asyncio.new_event_loop()
    found = Twins(clock, loop)
    # What is dropped in the middle of a cycle must not be noted down for the call that happens to run.
    gc.collect()
    gc.disable()
    try:
        yield found
    finally:
        found.drop()
        gc.enable()
        loop.close()


def could_wait(call: Call, positional: list[str]) -> bool:
    """Whether it might wait for longer than an instant."""
    passed = dict(zip(positional, call.arguments, strict=False)) | dict(call.keywords)
    return "timeout" in passed and waits(VALUES[passed["timeout"]](None))  # type: ignore[arg-type]


ALL_SCENES = [(name, scene) for name, scenes in SCENES.items() for scene in scenes]


@pytest.mark.parametrize(("name", "scene"), ALL_SCENES)
def test_every_method_with_each_value_of_each_parameter(twins, name, scene):
    cls = getattr(twins.impls[0], name)
    differences = []
    for method in methods(cls):
        positional, _ = parameters(cls, method)
        for call in calls(cls, method, "it", ALL_SCENES.index((name, scene)) % SHARE, SHARE):
            if not could_wait(call, positional):
                differences += twins.compare(SCENES[name][scene], call)
    assert not differences, report(differences)


@pytest.mark.parametrize(("name", "scene"), ALL_SCENES)
def test_what_is_written_without_a_method(twins, name, scene):
    differences = []
    for each in CONSUMED:
        forever = (
            (each in ("for", "unpacking", "match", "async for") and "closed" not in scene and name in QUEUES)
            or (each == "async for" and scene == "owned, closed")
            or (each in ("for", "unpacking") and scene == "owned, closed")
            or (each == "await" and scene not in ENDED)
        )
        if not forever:
            differences += twins.compare(SCENES[name][scene], Call("it", each))
    assert not differences, report(differences)


@pytest.mark.parametrize("name", [*QUEUES, "Op", "CallGroup", "OpSet"])
def test_every_constructor_with_each_value_of_each_parameter(twins, name):
    differences = []
    for subclass in (False, True):
        for call in calls(twins.impls[0], name, "it"):

            def construct(world, call=call, subclass=subclass):
                cls = world.subclass(name) if subclass else getattr(world.impl, name)
                arguments = [world.value(each) for each in call.arguments]
                made = world.keep(cls(*arguments, **{key: world.value(each) for key, each in call.keywords}))
                return list(map(repr, state(made).items()))

            ours, theirs = (observe(world, construct) for world in twins.pair(lambda world: None))
            differences += [f"{call}{each}" for each in unequal(ours, theirs)]
    assert not differences, report(differences)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(TypeError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(("name", "scene"), [(name, next(iter(scenes))) for name, scenes in SCENES.items()])
def test_wrong_numbers_and_names_of_arguments(twins, name, scene):
    """The same is said about them, and nothing has happened."""
    cls = getattr(twins.impls[0], name)
    wrong = 0
    for method in methods(cls):
        for call in unfit_calls(cls, method, "it"):
            pair = twins.pair(SCENES[name][scene])
            keywords = tuple(keyword for keyword, _ in call.keywords)
            fitting = [fits(getattr(world.objects["it"], method), len(call.arguments), keywords) for world in pair]
            assert fitting[0] == fitting[1] or method in SPECIAL, call
            if not any(fitting):
                wrong += 1
                before = [state(world.objects["it"]) for world in pair]
                said = [refusal(lambda world=world, call=call: world.make(call)) for world in pair]
                assert said[0] == said[1] or method in BY_SLOT, call
                assert before == [state(world.objects["it"]) for world in pair], call
    assert wrong > 3


def calls_up(cls: Any) -> Any:
    """A subclass whose constructor calls that of its base by name."""

    class Sub(cls):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)

    return Sub


@pytest.mark.parametrize("subclass", [False, True])
@pytest.mark.parametrize("name", [*QUEUES, "Op", "CallGroup", "OpSet"])
def test_wrong_numbers_and_names_of_arguments_of_constructors(twins, name, subclass):
    classes = [getattr(impl, name) for impl in twins.impls]
    wrong = 0
    for number, names in itertools.product(range(6), [(), ("other",), ("key",), ("depth",)]):
        if not fits(classes[1], number, names):
            wrong += 1
            made = [functools.partial(calls_up(cls) if subclass else cls, *[1] * number) for cls in classes]
            said = [refusal(functools.partial(each, **dict.fromkeys(names, 1))) for each in made]
            assert said[0] == said[1], (number, names)
    assert wrong > 3


def test_a_type_error_that_is_not_about_the_arguments_is_left_as_it_is(twins):
    for impl in twins.impls:
        raised = TypeError("result() is what the reducer says")

        def reduce(results, raised=raised):
            raise raised

        with impl.CallGroup(reduce) as group:
            op = group.add(1)
        op.finish()
        with pytest.raises(TypeError) as caught:
            group.result(0)
        # Without the GIL it is a copy.
        assert (caught.value is raised) == GIL
        assert (type(caught.value), str(caught.value)) == (TypeError, str(raised))


# ---- random sequences ---------------------------------------------------------------------------

QUIET = {"__await__", "__aiter__", "__iter__", "__reversed__", "__repr__", "__aexit__", "__exit__"}


def random_scene(world: World) -> None:
    made = {
        "queue": world.impl.OpQueue(3, 2),
        "exclusive": world.impl.DedupeQueue(3, 2),
        "window": world.impl.OpWindow(3, 2, 10),
        "both": world.impl.OpWindow(None, 3, 10, exclusive=True),
        "group": world.impl.CallGroup(lambda results: [repr(results), len(results), results.errors]),
        "raising group": world.impl.CallGroup(world.value("raising")),
        "op": world.impl.Op("a"),
    }
    world.objects.update(made)


def random_call(rng: random.Random, world: World) -> Call | None:
    """Of any method of any object, with good and bad arguments; ``None`` if it might wait."""
    target = rng.choice(list(world.objects))
    cls = type(world.objects[target])
    method = rng.choice([name for name in methods(cls) if name not in QUIET])
    positional, keyword = parameters(cls, method)
    known = [name for name, each in world.objects.items() if isinstance(each, world.impl.Op)]

    def choose(parameter: str) -> str:
        good, others = POOLS[parameter]
        if parameter == "op" and rng.random() < 0.7:
            return rng.choice(known)
        if parameter == "key" and rng.random() < 0.7:
            return rng.choice("abc")
        return good if rng.random() < 0.7 else rng.choice(list(others))

    call = Call(
        target,
        method,
        tuple(choose(name) for name in positional),
        tuple((name, choose(name)) for name in keyword if rng.random() < 0.5),
    )
    needs = method in AWAITED and "timeout" in keyword and "timeout" not in dict(call.keywords)
    return None if needs or could_wait(call, positional) else call


def parts(answer: Any) -> Iterator[Any]:
    """The operations and rows of an answer."""
    if isinstance(answer, list):
        for each in answer:
            yield from parts(each)
    elif type(answer).__name__ in ("Op", "OpSet"):
        yield answer


@pytest.mark.parametrize("seed", range(max(8, CALLS // 250)))
def test_random_sequences_of_calls(twins, seed):
    rng = random.Random(seed)
    worlds = twins.pair(random_scene)
    for world in worlds:
        del world.objects["it"]
    history = []
    for number in range(250):
        if rng.random() < 0.1:
            twins.clock.advance(rng.choice([1, 10]))
        call = random_call(rng, worlds[0])
        if call is None:
            continue
        history.append(str(call))
        shown = [name for name in worlds[0].objects if "." not in name or name in (call.target, *call.arguments)]
        ours, theirs = (observe(world, operator.methodcaller("make", call), *shown) for world in worlds)
        assert not list(unequal(ours, theirs)), report([*history[-5:], *unequal(ours, theirs)])
        for world in worlds:
            for position, part in enumerate(parts(world.kept[-1])):
                world.objects.setdefault(f"{type(part).__name__} {number}.{position}", part)
        # The oldest few go; what they are is remembered by the world.
        if len(worlds[0].objects) > 25:
            for name in [name for name in worlds[0].objects if "." in name][:10]:
                for world in worlds:
                    world.kept.append(world.objects.pop(name))
