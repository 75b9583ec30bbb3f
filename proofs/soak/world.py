"""One round of a soak: its queues and actors, how it ends, and whether its books balance."""
# ruff: noqa: D102 - a script, whose help is in __main__.py

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from actors import Consumer, Grower, Loop, Producer
from books import Books
from memory import collect

import inflight
from inflight._invariants import check_invariants


class World:
    """One round."""

    def __init__(self, seed: int, loops: list[Callable[[], Any]], forever: Any, grown: int) -> None:
        self.seed = seed
        self.loops = loops
        self.forever = forever
        self.grown = grown
        self.books = Books()
        self.stopping = threading.Event()
        self.queues = [self.make(kind) for kind in range(5)]
        kinds = [Producer, Producer, Consumer, Consumer, Loop, Loop, Grower]
        self.actors = [kind(self, number) for number, kind in enumerate(kinds)]

    def make(self, kind: int) -> Any:
        return [
            lambda: inflight.OpQueue(50, 20),
            lambda: inflight.OpQueue(None, None),
            lambda: inflight.DedupeQueue(50, 20),
            lambda: inflight.OpWindow(100, 10, 0.003),
            lambda: inflight.OpWindow(100, None, 0.002, exclusive=True),
        ][kind]()

    def run(self, seconds: float) -> None:
        for actor in self.actors:
            actor.thread.start()
        self.stopping.wait(seconds)
        self.stopping.set()
        for actor in self.actors:
            if not isinstance(actor, Consumer):
                actor.produced.wait()
        for queue in self.queues:
            check_invariants(queue)
            queue.close()
        for actor in self.actors:
            while actor.thread.is_alive():
                # Keys may be owned by rows in cycles: of a task whose loop was closed, or of the frames in the
                # traceback of a reducer. Those that wait for the keys make no garbage that would start the collector.
                gc.collect()
                actor.thread.join(0.1)

    def close(self) -> tuple[Counter[str], list[str]]:
        """Drop everything; the figures of the round, and what is wrong with them."""
        wrong = [f"{actor.thread.name}: {actor.failure!r}" for actor in self.actors if actor.failure is not None]
        counts: Counter[str] = Counter()
        for actor in self.actors:
            counts.update(actor.counts)
        # Tasks that their loops left behind leave the queues.
        collect()
        for queue in self.queues:
            check_invariants(queue)
            stats = queue.stats()
            counts.update(queue_rows=stats.dequeued_rows, queue_ops=stats.dequeued_ops, queue_accepted=stats.enqueued)
            if any(stats[:5]):
                wrong.append(f"left in a drained queue: {stats}")
        counts.update(queue_rows=self.grown, queue_ops=self.grown, queue_accepted=self.grown)
        self.queues.clear()
        self.actors.clear()
        collect()
        counts.update(self.books.ended)
        how = ("result", "error", "cancelled", "crashed", "interrupted", "abandoned")
        for name, one, other in [
            ("operations made and ended", counts["made"], sum(counts[each] for each in how)),
            ("calls that finished one and ended so", counts["won"], sum(counts[each] for each in how[:3])),
            ("operations accepted by calls and queues", counts["accepted"], counts["queue_accepted"]),
            ("operations accepted and handed out", counts["accepted"], counts["ops"]),
            ("operations handed out by queues and taken", counts["queue_ops"], counts["ops"]),
            ("rows handed out by queues and taken", counts["queue_rows"], counts["rows"]),
            ("groups made and reduced", counts["groups"], counts["reduced"]),
            ("operations of groups added and reduced", counts["group_ops"], counts["reduced_ops"]),
        ]:
            if one != other:
                wrong.append(f"{name}: {one} != {other}")
        return counts, wrong
