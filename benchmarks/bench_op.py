"""What an operation of its own costs, and a row of them.

`concurrent.futures.Future` is the standard library's promise; it has a lock and a condition each.
An operation can be finished only once, so each is made within the round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from scenarios import IMPLEMENTATIONS, KEYS, Contender, Round, Scenario, implementation


def _finish(make: Any, finish: Any, keys: Sequence[Any]) -> None:
    for key in keys:
        finish(make(key))


def _fail(make: Any, finish: Any, keys: Sequence[Any]) -> None:
    error = ValueError()
    for key in keys:
        finish(make(key), error=error)


def _read(method: str, promise: Any, keys: Sequence[Any]) -> None:
    read = getattr(promise, method)
    for _key in keys:
        read()


def _call_back(make: Any, finish: Any, keys: Sequence[Any]) -> None:
    for key in keys:
        promise = make(key)
        promise.add_done_callback(id)
        finish(promise)


def _future(_key: object) -> Future[None]:
    return Future()


def _finish_future(future: Future[None]) -> None:
    future.set_result(None)


def _fail_future(future: Future[None], error: Exception) -> None:
    future.set_exception(error)


def _cancel_future(future: Future[None]) -> None:
    future.cancel()


def _both(work: Any, method: str, finish_future: Callable[..., None]) -> dict[str, Contender]:
    """Contenders of which a round is `work(make, finish, keys)`."""

    def ours(name: str, count: int) -> Round:
        op = implementation(name).Op
        return partial(work, op, getattr(op, method), KEYS["int"](count))

    def theirs(count: int) -> Round:
        return partial(work, _future, finish_future, KEYS["int"](count))

    return {**{name: partial(ours, name) for name in IMPLEMENTATIONS}, "Future": theirs}


def _read_op(method: str, name: str, count: int) -> Round:
    op = implementation(name).Op(0)
    op.finish(1)
    return partial(_read, method, op, KEYS["int"](count))


def _read_future(method: str, count: int) -> Round:
    future = Future[int]()
    future.set_result(1)
    return partial(_read, method, future, KEYS["int"](count))


def _reading(method: str) -> Scenario:
    contenders: dict[str, Contender] = {name: partial(_read_op, method, name) for name in IMPLEMENTATIONS}
    return Scenario(f"{method} of a finished one", contenders | {"Future": partial(_read_future, method)})


def row(width: int, consume: Callable[[Any], object], name: str) -> Scenario:
    """Rows of `width` fresh operations, from enqueue_many to what the worker does; by operation."""

    def contender(implementation_name: str, count: int) -> Round:
        module = implementation(implementation_name)
        queue = module.OpQueue(None, None)
        rounds = range(count // width)

        def one_round() -> None:
            op_of = module.Op
            enqueue_many, dequeue = queue.enqueue_many, queue.dequeue
            for _ in rounds:
                enqueue_many([op_of("key") for _ in range(width)])
                consume(dequeue())

        return one_round

    contenders: dict[str, Contender] = {each: partial(contender, each) for each in IMPLEMENTATIONS}
    return Scenario(f"rows of {width}: {name}", contenders)


def _finish_all(ops: Any) -> None:
    ops.finish_all()


def _finish_each(ops: Any) -> None:
    ops.finish_each([None] * len(ops))


def _one_by_one(ops: Any) -> None:
    with ops:
        for op in ops:
            op.finish()


SCENARIOS = [
    Scenario("make and finish", _both(_finish, "finish", _finish_future)),
    Scenario("make and finish with an error", _both(_fail, "finish", _fail_future)),
    Scenario("make and try_finish", _both(_finish, "try_finish", _finish_future)),
    Scenario("make and cancel", _both(_finish, "cancel", _cancel_future)),
    Scenario("make, add_done_callback, finish", _both(_call_back, "finish", _finish_future)),
    *(_reading(method) for method in ("result", "exception", "done", "cancelled")),
    *(row(width, _finish_all, "finish_all") for width in (10, 1_000)),
    *(row(width, _finish_each, "finish_each") for width in (10, 1_000)),
    *(row(width, _one_by_one, "with row, finish one by one") for width in (10, 1_000)),
]


def test_op(measure: Callable[[], None]) -> None:
    measure()
