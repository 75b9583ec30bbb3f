"""What it costs to own a key while its row is processed.

Nothing in the standard library does this, nor do the queues that join threads and tasks. The
OpQueue is there to show the price of ownership.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from queues import loops_of_ours
from scenarios import Contender, Scenario


def _release(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue, dequeue = queue.enqueue, queue.dequeue
    for key in keys:
        enqueue(key, op)
        row = dequeue()
        row.release()


def _with_row(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue, dequeue = queue.enqueue, queue.dequeue
    for key in keys:
        enqueue(key, op)
        with dequeue():
            pass


def _drop(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    """The row is collected unreleased, which releases it."""
    enqueue, dequeue = queue.enqueue, queue.dequeue
    for key in keys:
        enqueue(key, op)
        dequeue()


def _requeue(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    """An operation arrives while its key is owned: the release queues it again."""
    enqueue, dequeue = queue.enqueue, queue.dequeue
    enqueue(0, op)
    for _key in keys:
        row = dequeue()
        enqueue(0, op)
        row.release()
    dequeue().release()


def _merge_behind_owner(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue, dequeue = queue.enqueue, queue.dequeue
    enqueue(0, op)
    with dequeue():
        for _key in keys:
            enqueue(0, op)
    dequeue().release()


def _exclusive(module: Any) -> Any:
    return module.DedupeQueue(None, None)


def _beside_opqueue(loop: Callable[[Any, Any, Sequence[Any]], None]) -> dict[str, Contender]:
    not_owned = {f"{name} OpQueue": contender for name, contender in loops_of_ours(loop).items()}
    return loops_of_ours(loop, _exclusive) | not_owned


SCENARIOS = [
    Scenario("enqueue, dequeue, release", _beside_opqueue(_release)),
    Scenario("enqueue, with dequeue()", _beside_opqueue(_with_row)),
    Scenario("enqueue, dequeue, drop the row", _beside_opqueue(_drop)),
    Scenario("dequeue, enqueue the owned key, release", loops_of_ours(_requeue, _exclusive)),
    Scenario("merge behind an owned key", loops_of_ours(_merge_behind_owner, _exclusive)),
]


def test_dedupequeue(measure: Callable[[], None]) -> None:
    measure()
