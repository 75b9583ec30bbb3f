"""What a CallGroup costs, and the way of an operation: group, queue, worker, group.

A round is one group, or ten, from its making to its completion; the reducer gets the results and
does nothing with them. Beside it, the futures of the standard library, which have neither keys nor
a reducer.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from scenarios import IMPLEMENTATIONS, KEYS, Contender, Round, Scenario, implementation

BATCHES = (1, 2, 4, 8, 16, 100, 1_000)
GROUPS = 10


def _reduce(_: object) -> None:
    """Does nothing."""


def _of_ours(work: Callable[[Any, Sequence[Any]], None], *, key: str = "int") -> dict[str, Contender]:
    """Contenders of which a round is `work(module, keys)`."""

    def contender(name: str, count: int) -> Round:
        return partial(work, implementation(name), KEYS[key](count))

    return {name: partial(contender, name) for name in IMPLEMENTATIONS}


def _add_finish(module: Any, keys: Sequence[Any]) -> None:
    with module.CallGroup(_reduce) as group:
        add = group.add
        for key in keys:
            op = add(key)
            op.finish()


def _add_many_finish(module: Any, keys: Sequence[Any]) -> None:
    with module.CallGroup(_reduce) as group:
        for op in group.add_many([(key, None) for key in keys]):
            op.finish()


def _read_results(module: Any, keys: Sequence[Any]) -> None:
    with module.CallGroup(_reduce) as group:
        for op in group.add_many([(key, None) for key in keys]):
            op.finish()
    results = group.result()
    for key in keys:
        results[key].result  # noqa: B018


def _responses(results: Any) -> Any:
    return results.responses


def _errors(results: Any) -> Any:
    return results.errors


def _raised(results: Any) -> None:
    try:
        results.raise_for_errors()
    except ExceptionGroup:
        pass


def _read_whole(read: Callable[[Any], object], module: Any, keys: Sequence[Any]) -> None:
    """Every second operation has failed."""
    error = ValueError()
    with module.CallGroup(_reduce) as group:
        for number, op in enumerate(group.add_many([(key, None) for key in keys])):
            op.finish(error=error if number % 2 else None)
    read(group.result())


def _groups_of_one(module: Any, keys: Sequence[Any]) -> None:
    for key in keys:
        group = module.CallGroup(_reduce)
        op = group.add(key)
        group.seal()
        op.finish()


def _call_back(module: Any, keys: Sequence[Any]) -> None:
    for key in keys:
        group = module.CallGroup()
        group.add_done_callback(id)
        op = group.add(key)
        group.seal()
        op.finish()


def _outstanding(group: Any, keys: Sequence[Any]) -> None:
    for _key in keys:
        group.outstanding  # noqa: B018


def _len(group: Any, keys: Sequence[Any]) -> None:
    for _key in keys:
        len(group)


def _done(promise: Any, keys: Sequence[Any]) -> None:
    done = promise.done
    for _key in keys:
        done()


def _pipeline(module: Any, keys: Sequence[Any]) -> None:
    rows = module.OpQueue(None, None)
    enqueue, dequeue = rows.enqueue, rows.dequeue
    with module.CallGroup(_reduce) as group:
        add = group.add
        for key in keys:
            enqueue(key, add(key))
            row = dequeue()
            row.finish_all()


def _shared_keys(module: Any, keys: Sequence[Any]) -> None:
    """Every tenth key, and each group adds it: rows of ten operations."""
    rows = module.OpQueue(None, None)
    enqueue, dequeue = rows.enqueue, rows.dequeue
    groups = [module.CallGroup(_reduce) for _ in range(GROUPS)]
    adds = [group.add for group in groups]
    for group in groups:
        group.__enter__()
    for key in keys[::GROUPS]:
        for add in adds:
            enqueue(key, add(key))
        row = dequeue()
        row.finish_all()
    for group in groups:
        group.__exit__(None, None, None)


def _bulk(module: Any, batches: list[list[tuple[Any, None]]], size: int) -> None:
    rows = module.OpQueue(None, None)
    enqueue_many, dequeue_many = rows.enqueue_many, rows.dequeue_many
    with module.CallGroup(_reduce) as group:
        add_many = group.add_many
        for batch in batches:
            enqueue_many(add_many(batch))
            for row in dequeue_many(size):
                row.finish_all()


def bulk(size: int) -> Scenario:
    """The whole way in batches."""

    def contender(name: str, count: int) -> Round:
        items = [(key, None) for key in KEYS["int"](count)]
        batches = [items[start : start + size] for start in range(0, count, size)]
        return partial(_bulk, implementation(name), batches, size)

    contenders: dict[str, Contender] = {name: partial(contender, name) for name in IMPLEMENTATIONS}
    return Scenario(f"add_many, enqueue_many, dequeue_many by {size:,}, finish_all", contenders)


def _of_futures(name: str, work: Callable[[Sequence[Any]], None]) -> dict[str, Contender]:
    """The contender of which a round is `work(keys)`."""
    return {name: lambda count: partial(work, KEYS["int"](count))}


def _finish_futures(keys: Sequence[Any]) -> None:
    for _key in keys:
        future: Future[None] = Future()
        future.set_result(None)


def _wait_for_futures(keys: Sequence[Any]) -> None:
    futures: list[Future[None]] = [Future() for _key in keys]
    for future in futures:
        future.set_result(None)
    wait(futures)


def _futures_through_a_queue(keys: Sequence[Any]) -> None:
    waiting = queue.SimpleQueue[Future[None]]()
    put, get = waiting.put, waiting.get
    futures = []
    for _key in keys:
        future: Future[None] = Future()
        futures.append(future)
        put(future)
        get().set_result(None)
    wait(futures)


def _call_back_futures(keys: Sequence[Any]) -> None:
    for _key in keys:
        future: Future[None] = Future()
        future.add_done_callback(id)
        future.set_result(None)


def _read_futures(read: Callable[[list[Future[None]]], object], keys: Sequence[Any]) -> None:
    error = ValueError()
    futures: list[Future[None]] = [Future() for _key in keys]
    for number, future in enumerate(futures):
        if number % 2:
            future.set_exception(error)
        else:
            future.set_result(None)
    wait(futures)
    read(futures)


def _endings(futures: list[Future[None]]) -> object:
    return [(future, None, future.exception()) for future in futures]


def _exceptions(futures: list[Future[None]]) -> list[Exception]:
    return [error for future in futures if isinstance(error := future.exception(), Exception)]


def _raised_by_hand(futures: list[Future[None]]) -> None:
    try:
        raise ExceptionGroup("failed", _exceptions(futures))
    except ExceptionGroup:
        pass


def _reading_all(name: str, ours: Callable[[Any], object], theirs: Callable[[list[Future[None]]], object]) -> Scenario:
    contenders = _of_ours(partial(_read_whole, ours)) | _of_futures("Future + wait", partial(_read_futures, theirs))
    return Scenario(f"add_many, then finish, half fail, then {name}", contenders)


def _reading(name: str, read: Callable[[Any, Sequence[Any]], None]) -> Scenario:
    def contender(implementation_name: str, count: int) -> Round:
        group = implementation(implementation_name).CallGroup()
        group.add(0).finish()
        return partial(read, group, KEYS["int"](count))

    return Scenario(f"{name} of an open group", {each: partial(contender, each) for each in IMPLEMENTATIONS})


FUTURES = _of_futures("Future + SimpleQueue", _futures_through_a_queue)


def pipeline(key: str) -> Scenario:
    return Scenario(f"add, enqueue, dequeue, finish_all, {key} keys", _of_ours(_pipeline, key=key) | FUTURES)


ADD_FINISH = Scenario("add and finish in turn", _of_ours(_add_finish) | _of_futures("Future", _finish_futures))
SHARED_KEYS = Scenario("add, enqueue, dequeue, finish_all, ten groups share the keys", _of_ours(_shared_keys))
BULK = bulk(BATCHES[-1])
SCENARIOS = [
    *(pipeline(key) for key in KEYS),
    SHARED_KEYS,
    *(bulk(size) for size in BATCHES),
    ADD_FINISH,
    Scenario("add_many, then finish", _of_ours(_add_many_finish) | _of_futures("Future + wait", _wait_for_futures)),
    Scenario("groups of one: add, seal, finish", _of_ours(_groups_of_one) | _of_futures("Future", _finish_futures)),
    Scenario(
        "groups of one: add_done_callback, add, seal, finish",
        _of_ours(_call_back) | _of_futures("Future", _call_back_futures),
    ),
    Scenario("add_many, then finish, then read all results", _of_ours(_read_results)),
    _reading_all("responses", _responses, _endings),
    _reading_all("errors", _errors, _exceptions),
    _reading_all("raise_for_errors", _raised, _raised_by_hand),
    _reading("outstanding", _outstanding),
    _reading("len", _len),
    _reading("done", _done),
]


def test_callgroup(measure: Callable[[], None]) -> None:
    measure()
