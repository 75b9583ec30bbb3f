"""What an OpQueue costs in one thread: nobody waits, nobody contends.

The other queues merge nothing, apart from a dictionary under a lock, which is what a program that
needs merging writes without a library. The loops are in queues.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, islice, repeat
from queue import Queue
from random import Random
from typing import Any

from queues import IN_ONE_THREAD, Rival, loops_of_ours
from scenarios import (
    COUNT,
    IMPLEMENTATIONS,
    KEYS,
    Contender,
    NotInstalledError,
    Round,
    Scenario,
    finished_ops,
    implementation,
)

from inflight import QueueEmptyError, QueueSaturatedDepthError

DEEPEST = 10_000_000


def _contenders(work: Callable[..., Any], kinds: dict[str, Callable[[], Rival]]) -> dict[str, Contender]:
    return {name: partial(work, kind) for name, kind in kinds.items()}


def _in_turn(kind: Callable[[], Rival], count: int, *, key: str) -> Round:
    keys = KEYS[key](count)
    return partial(kind().in_turn, keys)


def _burst(kind: Callable[[], Rival], count: int) -> Round:
    queue = kind()
    keys = KEYS["int"](count)

    def one_round() -> None:
        queue.put_all(keys)
        queue.get_all(keys)

    return one_round


def _shuffled(count: int) -> Sequence[int]:
    """Neighbours in line are neighbours neither in memory nor by their hashes."""
    keys = list(KEYS["int"](count))
    Random(0).shuffle(keys)
    return keys


DEEP_KEYS: dict[str, Callable[[int], Sequence[Any]]] = {
    "": KEYS["int"],
    "shuffled int ": _shuffled,
    "str ": KEYS["str"],
}


def _behind(kind: Callable[[], Rival], count: int, *, depth: int, key: str) -> Round:
    """`depth` keys wait all the time. All keys exist before, and none comes back while it waits."""
    queue = kind()
    # Not `cycle`, which frees the list at its end: ten million references given back within a round.
    keys = chain.from_iterable(repeat(DEEP_KEYS[key](depth + count)))
    queue.put_all(islice(keys, depth))
    return lambda: queue.in_turn(islice(keys, count))


def _duplicates(kind: Callable[[], Rival], count: int) -> Round:
    """Into one row, which is taken at the end: nothing but merging."""
    queue = kind()
    keys = [*KEYS["int"](1)] * count

    def one_round() -> None:
        queue.put_all(keys)
        queue.get()

    return one_round


def _mostly_duplicates(kind: Callable[[], Rival], count: int, *, merges: bool) -> Round:
    """Ten of each key, far apart; a queue that merges hands out a tenth as much."""
    queue = kind()
    keys = [*KEYS["int"](count // 10)] * 10
    taken = keys[: count // 10] if merges else keys

    def one_round() -> None:
        queue.put_all(keys)
        queue.get_all(taken)

    return one_round


def in_turn(key: str) -> Scenario:
    return Scenario(f"in and out in turn, {key} keys", _contenders(partial(_in_turn, key=key), IN_ONE_THREAD))


def burst(count: int = COUNT) -> Scenario:
    return Scenario(f"all in, then all out, {count:,} keys", _contenders(_burst, IN_ONE_THREAD), count)


def behind(depth: int, key: str = "") -> Scenario:
    """Consecutive ints, unless the kind of key is said."""
    all_kinds = depth < DEEPEST and not key
    kinds = IN_ONE_THREAD if all_kinds else {name: IN_ONE_THREAD[name] for name in ("native", "SimpleQueue")}
    contenders = _contenders(partial(_behind, depth=depth, key=key), kinds)
    return Scenario(f"in and out in turn, behind {depth:,} {key}keys", contenders, on_demand=depth >= DEEPEST)


MERGING = {name: IN_ONE_THREAD[name] for name in ("native", "pure", "OrderedDict + Lock", "OrderedDict + Condition")}
DUPLICATES = Scenario("duplicates of one key", _contenders(_duplicates, MERGING))
MOSTLY_DUPLICATES = Scenario(
    "all in, then all out, ten operations per key",
    {name: partial(_mostly_duplicates, kind, merges=name in MERGING) for name, kind in IN_ONE_THREAD.items()},
)


def bulk(size: int) -> Scenario:
    """enqueue_many and dequeue_many, in batches."""

    def contender(name: str, count: int) -> Round:
        module = implementation(name)
        queue = module.OpQueue(None, None)
        ops = finished_ops(module, KEYS["int"](count))
        batches = [ops[start : start + size] for start in range(0, count, size)]

        def one_round() -> None:
            enqueue_many, dequeue_many = queue.enqueue_many, queue.dequeue_many
            for batch in batches:
                enqueue_many(batch)
                _rows = dequeue_many(size)

        return one_round

    return Scenario(f"in and out by {size:,}", {name: partial(contender, name) for name in IMPLEMENTATIONS})


def _submit(queue: Any, _: Any, keys: Sequence[Any]) -> None:
    submit, dequeue = queue.submit, queue.dequeue
    for key in keys:
        submit(key)
        dequeue().finish_all()


def _process(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue, process = queue.enqueue, queue.process
    for key in keys:
        enqueue(key, op)
        process(len)


def _drain(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue = queue.enqueue
    for key in keys:
        enqueue(key, op)
    queue.drain()


def _iterate(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue = queue.enqueue
    for key in keys:
        enqueue(key, op)
    for _, _row in zip(keys, queue, strict=False):
        pass


def _contains(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    queue.enqueue(keys[0], op)
    for key in keys:
        key in queue  # noqa: B015
    queue.dequeue()


def _len(queue: Any, _: Any, keys: Sequence[Any]) -> None:
    for _key in keys:
        len(queue)


def _stats(queue: Any, _: Any, keys: Sequence[Any]) -> None:
    stats = queue.stats
    for _key in keys:
        stats()


def _find_empty(queue: Any, _: Any, keys: Sequence[Any]) -> None:
    dequeue = queue.dequeue
    for _key in keys:
        try:
            dequeue(0)
        except QueueEmptyError:
            pass


def _find_full(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    """All but the first are refused."""
    enqueue = queue.enqueue
    for key in keys:
        try:
            enqueue(key, op)
        except QueueSaturatedDepthError:
            pass
    queue.dequeue()


def _join(queue: Any, _: Any, keys: Sequence[Any]) -> None:
    join = queue.join
    for _key in keys:
        join()


def _with_timeouts(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue, dequeue = queue.enqueue, queue.dequeue
    for key in keys:
        enqueue(key, op, timeout=60.0)
        _row = dequeue(60.0)


def _put_get_with_timeouts(count: int) -> Round:
    keys = KEYS["int"](count)
    queue = Queue[Any](1)

    def one_round() -> None:
        put, get = queue.put, queue.get
        for key in keys:
            put(key, timeout=60.0)
            _item = get(timeout=60.0)

    return one_round


def _make_close(name: str, count: int) -> Round:
    keys, make = KEYS["int"](count), implementation(name).OpQueue

    def one_round() -> None:
        for _key in keys:
            make(None, None).close()

    return one_round


def _make_shut_down(count: int) -> Round:
    """Since CPython 3.13."""
    if not hasattr(Queue, "shutdown"):
        raise NotInstalledError("queue.Queue.shutdown")
    keys = KEYS["int"](count)

    def one_round() -> None:
        for _key in keys:
            queue: Any = Queue()
            queue.shutdown()

    return one_round


def _one_deep(module: Any) -> Any:
    return module.OpQueue(1, None)


CLOSING: dict[str, Contender] = {name: partial(_make_close, name) for name in IMPLEMENTATIONS}


SCENARIOS = [
    *(in_turn(key) for key in KEYS),
    burst(),
    DUPLICATES,
    MOSTLY_DUPLICATES,
    *(behind(depth, key) for key in DEEP_KEYS for depth in (1_000, 100_000, DEEPEST)),
    *(bulk(size) for size in (1, 10, 100, 1_000, 10_000)),
    Scenario("submit, dequeue, finish_all", loops_of_ours(_submit)),
    Scenario("enqueue, process", loops_of_ours(_process)),
    Scenario("enqueue, then drain", loops_of_ours(_drain)),
    Scenario("enqueue, then iterate", loops_of_ours(_iterate)),
    Scenario("key in queue", loops_of_ours(_contains)),
    Scenario("len(queue)", loops_of_ours(_len)),
    Scenario("stats", loops_of_ours(_stats)),
    Scenario("dequeue of an empty queue", loops_of_ours(_find_empty)),
    Scenario("enqueue into a full queue", loops_of_ours(_find_full, _one_deep)),
    Scenario(
        "enqueue and dequeue with timeouts, nothing has to wait",
        loops_of_ours(_with_timeouts, _one_deep) | {"queue.Queue": _put_get_with_timeouts},
    ),
    Scenario(
        "join of an empty queue",
        loops_of_ours(_join) | {"queue.Queue": lambda count: partial(_join, Queue(), None, KEYS["int"](count))},
    ),
    Scenario("make a queue and close it", CLOSING | {"queue.Queue": _make_shut_down}),
]


def test_opqueue(measure: Callable[[], None]) -> None:
    measure()
