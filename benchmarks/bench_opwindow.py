"""What windows cost: rows that become ready because they are full, flushed, or old enough.

No round waits for time to pass: windows are an hour long, or so short that they are over when the
row is asked for. The OpQueue, where every row is ready at once, is there to show the price.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from queues import loops_of_ours
from scenarios import Contender, Scenario

WIDTH = 10
HOUR = 3600.0
INSTANT = 1e-9


def _fill(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    """Rows of WIDTH, each taken when it is full."""
    enqueue, dequeue = queue.enqueue, queue.dequeue
    for key in keys[::WIDTH]:
        for _ in range(WIDTH):
            enqueue(key, op)
        _row = dequeue()


def _in_turn(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue, dequeue = queue.enqueue, queue.dequeue
    for key in keys:
        enqueue(key, op)
        _row = dequeue()


def _flush_each(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue, flush, dequeue = queue.enqueue, queue.flush, queue.dequeue
    for key in keys:
        enqueue(key, op)
        flush(key)
        _row = dequeue()


def _flush_all(queue: Any, op: Any, keys: Sequence[Any]) -> None:
    enqueue, dequeue = queue.enqueue, queue.dequeue
    for key in keys:
        enqueue(key, op)
    queue.flush()
    for _key in keys:
        _row = dequeue()


def _windowed(window: float, width: int | None = None) -> Callable[[Any], Any]:
    return lambda module: module.OpWindow(None, width, window)


def _exclusive(module: Any) -> Any:
    return module.OpWindow(None, None, INSTANT, exclusive=True)


def _beside_opqueue(
    loop: Callable[[Any, Any, Sequence[Any]], None], make: Callable[[Any], Any], width: int | None = None
) -> dict[str, Contender]:
    plain = loops_of_ours(loop, lambda module: module.OpQueue(None, width))
    return loops_of_ours(loop, make) | {f"{name} OpQueue": contender for name, contender in plain.items()}


SCENARIOS = [
    Scenario(f"enqueue {WIDTH} of a key, dequeue the full row", _beside_opqueue(_fill, _windowed(HOUR, WIDTH), WIDTH)),
    Scenario("enqueue, dequeue, the window is over", _beside_opqueue(_in_turn, _windowed(INSTANT))),
    Scenario("the same, exclusive", loops_of_ours(_in_turn, _exclusive)),
    Scenario("enqueue, flush(key), dequeue", _beside_opqueue(_flush_each, _windowed(HOUR))),
    Scenario("enqueue all, flush(), dequeue all", _beside_opqueue(_flush_all, _windowed(HOUR))),
]


def test_opwindow(measure: Callable[[], None]) -> None:
    measure()
