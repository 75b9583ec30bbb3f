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

BATCH = 1_000
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


def _groups_of_one(module: Any, keys: Sequence[Any]) -> None:
    for key in keys:
        group = module.CallGroup(_reduce)
        op = group.add(key)
        group.seal()
        op.finish()


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


def _bulk(module: Any, batches: list[list[tuple[Any, None]]]) -> None:
    rows = module.OpQueue(None, None)
    enqueue_many, dequeue_many = rows.enqueue_many, rows.dequeue_many
    with module.CallGroup(_reduce) as group:
        add_many = group.add_many
        for batch in batches:
            enqueue_many(add_many(batch))
            for row in dequeue_many(BATCH):
                row.finish_all()


def _bulk_contender(name: str, count: int) -> Round:
    items = [(key, None) for key in KEYS["int"](count)]
    return partial(_bulk, implementation(name), [items[start : start + BATCH] for start in range(0, count, BATCH)])


def _futures(count: int) -> Round:
    keys = KEYS["int"](count)

    def one_round() -> None:
        for _key in keys:
            future: Future[None] = Future()
            future.set_result(None)

    return one_round


def _wait_for_futures(count: int) -> Round:
    keys = KEYS["int"](count)

    def one_round() -> None:
        futures: list[Future[None]] = [Future() for _key in keys]
        for future in futures:
            future.set_result(None)
        wait(futures)

    return one_round


def _futures_through_a_queue(count: int) -> Round:
    keys = KEYS["int"](count)
    waiting = queue.SimpleQueue[Future[None]]()

    def one_round() -> None:
        put, get = waiting.put, waiting.get
        futures = []
        for _key in keys:
            future: Future[None] = Future()
            futures.append(future)
            put(future)
            get().set_result(None)
        wait(futures)

    return one_round


FUTURES = {"Future + SimpleQueue": _futures_through_a_queue}


def pipeline(key: str) -> Scenario:
    return Scenario(f"add, enqueue, dequeue, finish_all, {key} keys", _of_ours(_pipeline, key=key) | FUTURES)


ADD_FINISH = Scenario("add and finish in turn", _of_ours(_add_finish) | {"Future": _futures})
SHARED_KEYS = Scenario("add, enqueue, dequeue, finish_all, ten groups share the keys", _of_ours(_shared_keys))
BULK = Scenario(
    f"add_many, enqueue_many, dequeue_many by {BATCH:,}, finish_all",
    {name: partial(_bulk_contender, name) for name in IMPLEMENTATIONS},
)
SCENARIOS = [
    *(pipeline(key) for key in KEYS),
    SHARED_KEYS,
    BULK,
    ADD_FINISH,
    Scenario("add_many, then finish", _of_ours(_add_many_finish) | {"Future + wait": _wait_for_futures}),
    Scenario("groups of one: add, seal, finish", _of_ours(_groups_of_one) | {"Future": _futures}),
    Scenario("add_many, then finish, then read all results", _of_ours(_read_results)),
]


def test_callgroup(measure: Callable[[], None]) -> None:
    measure()
