"""A soak: everything at once, for minutes, with exact books and flat memory.

    python proofs/soak.py [--minutes 10 | --seconds S] [--impl native|pure] [--seed N]

Threads and event loops (asyncio's, and uvloop's where it can be imported) produce into and consume from queues of
every kind, with keys of every kind, groups, windows, owned keys, timeouts, cancellations, loops that are closed under
their waiting tasks, rows and operations that are dropped, keys whose comparison raises, whole queues that are dropped.
It goes in rounds of some seconds; at the end of each, everything is closed, drained and dropped, and one queue that
lives through all of them has grown to 100,000 keys and back.

The books, which must balance at the end of every round, to the last operation:

    every operation that was made has ended once          what was accepted was handed out, once
    calls that say they finished one = operations that     a reducer for every group, with all of its operations
        ended so                                          no object of ours is left but what the first round left

It exits with 0 if they do, no invariant of a queue failed, nothing hung, and resident memory is flat: the median of
the last third of the rounds is not above that of the middle third by more than --margin. Fragments make resident memory
wander; what is in use in the C heap, where glibc tells, may grow by a quarter of that: a table of the interpreter, such
as that of its interned strings, doubles now and then.
"""
# ruff: noqa: D101, D102, D103 - a script, whose help is above

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import logging
import os
import random
import statistics
import sys
import sysconfig
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

STALL = 120.0
"""Seconds after which a round that should be over has hung."""

GROWN = 100_000

inflight: Any = None  # imported once the implementation is chosen


class Crash(Exception):
    """What workers, keys and reducers raise."""


class Key:
    """Compares in Python; some raise."""

    def __init__(self, number: int, raises: bool = False) -> None:
        self.number = number
        self.raises = raises

    def __hash__(self) -> int:
        return self.number % 7

    def __eq__(self, other: object) -> bool:
        if self.raises or getattr(other, "raises", False):
            raise Crash("compared")
        return isinstance(other, Key) and self.number == other.number


class Books:
    """What callbacks and reducers saw, which run anywhere: in finalizers, too."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.ended = dict.fromkeys(
            ("result", "error", "cancelled", "crashed", "interrupted", "abandoned", "reduced", "reduced_ops"), 0
        )

    def op_ended(self, op: Any) -> None:
        error = op.exception(0)
        if error is None:
            how = "result"
        elif type(error) is inflight.OpAbandonedError:
            how = "abandoned"
        elif type(error) is inflight.OpCancelledError:
            how = "cancelled" if error.__cause__ is None else "interrupted"
        else:
            how = "crashed" if type(error) is Crash else "error"
        with self._lock:
            self.ended[how] += 1

    def reduce(self, results: Any) -> None:
        number = len(results.responses)
        # No call in here: one could run the collector, and so a finalizer that writes here, too.
        with self._lock:
            self.ended["reduced"] += 1
            self.ended["reduced_ops"] += number
            crash = self.ended["reduced"] % 50 == 0
        if crash:
            raise Crash("a reducer")


class Actor:
    """One thread with its own books, which nobody else writes."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.random = random.Random(world.seed * 1000 + number)
        self.counts: Counter[str] = Counter()
        self.produced = threading.Event()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=f"{type(self).__name__}-{number}", daemon=True)

    def _run(self) -> None:
        try:
            self.act()
        except BaseException as failure:
            self.failure = failure
            self.world.stopping.set()
        finally:
            self.produced.set()

    def act(self) -> None:
        raise NotImplementedError

    # What threads and tasks have in common. Nothing here waits.

    def key(self) -> Any:
        pick = self.random.random()
        number = int(200 * pick * pick)
        kind = self.random.randrange(8)
        if kind < 3:
            return number
        if kind < 5:
            return f"key {number}"
        if kind < 6:
            return ("key", number)
        return Key(number, raises=self.random.random() < 0.005)

    def op(self, group: Any = None, key: Any = None) -> Any:
        op = inflight.Op(key or self.key(), [number := self.random.random()]) if group is None else group.add(key, [0])
        self.counts["made"] += 1
        op.add_done_callback(self.world.books.op_ended)
        if group is None and number < 0.05:
            op.add_done_callback(lambda _, __=op: None)  # a cycle until it is finished
        return op

    def ops_of_group(self) -> list[Any]:
        """A group's, which are all there is of it."""
        self.counts["groups"] += 1
        with inflight.CallGroup(self.world.books.reduce) as group:
            ops = [self.op(group, self.key()) for _ in range(self.random.randrange(6))]
            self.counts["group_ops"] += len(ops)
        if ops and self.random.random() < 0.2:
            group.add_done_callback(lambda _, __=group: None)
        return ops

    @contextlib.contextmanager
    def offering(self, op: Any) -> Iterator[None]:
        """Around an enqueue: counts how it ended."""
        try:
            yield
        except inflight.QueueSaturatedError:
            self.counts["refused"] += 1
        except inflight.QueueClosedError:
            self.counts["closed"] += 1
        except TimeoutError:
            self.counts["timeouts"] += 1
        except Crash:
            self.counts["raised"] += 1
        else:
            self.counts["accepted"] += 1
            return
        self.counts["won"] += op.cancel()

    def submitted(self, op: Any) -> None:
        self.counts["accepted"] += 1
        self.counts["made"] += 1
        # Perhaps after it was finished.
        op.add_done_callback(self.world.books.op_ended)

    def take(self, rows: list[Any], waited: bool) -> None:
        self.counts["rows"] += len(rows)
        self.counts["ops"] += sum(map(len, rows))
        self.counts["handed_over"] += waited and len(rows)

    def work(self, row: Any) -> None:
        """End a row in one of the ways in which rows end."""
        how = self.random.randrange(12)
        if how < 5:
            self.counts["won"] += row.finish_all(how)
        elif how < 6:
            self.counts["won"] += row.finish_all(error=ValueError(how))
        elif how < 8:
            outcomes = [KeyError(at) if at % 3 == 1 else at for at in range(len(row))]
            self.counts["won"] += row.finish_each(outcomes)
        elif how < 9:
            for op in reversed(row):
                try:
                    op.finish(how)
                    self.counts["won"] += 1
                except inflight.AlreadyFinishedError:
                    self.counts["late"] += 1
        elif how < 10:
            error = self.random.choice([Crash, asyncio.CancelledError])
            with contextlib.suppress(error), row:
                raise error("a worker")
        elif how < 11:
            return  # dropped: its operations are abandoned, its key released
        if self.random.random() < 0.7:
            row.release()


class Producer(Actor):
    def act(self) -> None:
        while not self.world.stopping.is_set():
            queue = self.random.choice(self.world.queues)
            how = self.random.randrange(12)
            if how < 4:
                self.offer(queue, self.op(), self.random.choice([0, 0, 0.001, 0.02]))
            elif how < 6:
                for op in self.ops_of_group():
                    self.offer(queue, op, 0.005)
            elif how < 8:
                with contextlib.suppress(inflight.QueueSaturatedError, Crash):
                    self.submitted(queue.submit(self.key(), how, timeout=self.random.choice([0, 0.002])))
            elif how < 9:
                # Keys that do not raise: how many were enqueued before would not be known.
                ops = [self.op(key=(self.random.randrange(50), at)) for at in range(20)]
                refused = queue.enqueue_many(ops)
                self.counts["accepted"] += len(ops) - len(refused)
                self.counts["won"] += sum(op.cancel() for op, _ in refused)
                self.counts["refused"] += len(refused)
            elif how < 10:
                self.op()  # abandoned at once
            elif how < 11:
                self.drop_a_queue()
            else:
                op = self.op()
                self.offer(queue, op, 0)
                try:
                    op.result(self.random.choice([0, 0.001, 0.01]))
                except TimeoutError:
                    self.counts["timeouts"] += 1
                except Exception:
                    pass
                won = op.cancel()
                self.counts["won"] += won
                self.counts["cancels"] += won

    def offer(self, queue: Any, op: Any, timeout: float) -> None:
        with self.offering(op):
            queue.enqueue(op.key, op, timeout=timeout)

    def drop_a_queue(self) -> None:
        queue = self.world.make(self.random.randrange(5))
        for op in self.ops_of_group():
            with contextlib.suppress(inflight.QueueSaturatedError, Crash):
                queue.enqueue(op.key, op)
        rows = queue.drain() if self.random.random() < 0.5 else []
        if rows and self.random.random() < 0.5:
            # In a cycle: for the collector.
            inflight.Op("cycle", [queue, *rows]).finish(cycle := [queue])
            cycle.append(cycle)
        self.counts["queues_dropped"] += 1


class Consumer(Actor):
    def act(self) -> None:
        queues = list(self.world.queues)
        held: list[Any] = []
        while queues:
            queue = self.random.choice(queues)
            try:
                rows = self.dequeue(queue)
                self.flush(queue)
            except inflight.QueueEmptyError:
                self.counts["timeouts"] += 1
                rows = []
            except inflight.QueueClosedError:
                queues.remove(queue)
                rows = []
            held += rows
            while held and (self.world.stopping.is_set() or len(held) > 3):
                self.work(held.pop(0))
            rows.clear()

    def dequeue(self, queue: Any) -> list[Any]:
        how = self.random.randrange(8)
        timeout = self.random.choice([0.0005, 0.002, 0.01])
        if how == 0:
            rows = queue.dequeue_many(self.random.randrange(1, 40), timeout)
            self.take(rows, False)
        elif how == 1 and not queue.closed:
            rows = queue.drain()
            self.take(rows, False)
        elif how == 2:
            with contextlib.suppress(Crash):
                if not queue.process(self.process, timeout):
                    raise inflight.QueueClosedError
            rows = []
        else:
            waited = False
            try:
                rows = [queue.dequeue(0)]
            except inflight.QueueEmptyError:
                rows = [queue.dequeue(timeout)]
                waited = True
            self.take(rows, waited)
        return rows

    def process(self, row: Any) -> None:
        self.take([row], False)
        if self.random.random() < 0.3:
            raise Crash("a worker")
        self.work(row)

    def flush(self, queue: Any) -> None:
        if self.random.random() < 0.05:
            with contextlib.suppress(Crash):
                queue.flush(*([self.key()] if self.random.random() < 0.5 else []))
            queue.stats()
            queue.join(0)


class Loop(Actor):
    """Runs one event loop after the other, each with tasks that it cancels, or leaves behind when it is closed."""

    def act(self) -> None:
        while not self.world.stopping.is_set():
            self.counts["loops"] += 1
            self.run(self.generation())
        self.produced.set()
        self.run(self.rest())

    def run(self, main: Any) -> None:
        loop = self.world.loops[self.counts["loops"] % len(self.world.loops)]()
        # Says of every task that is left behind that it is.
        loop.set_exception_handler(lambda _, context: self.check_report(context))
        try:
            loop.run_until_complete(main)
        finally:
            loop.close()

    def check_report(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, (Crash, ValueError, inflight.InflightError)):
            self.failure = error
            self.world.stopping.set()

    async def generation(self) -> None:
        calls = [self.produce, self.produce, self.consume, self.consume, self.iterate, self.join, self.park]
        tasks = {asyncio.ensure_future(call()) for call in calls}
        for _ in range(self.random.randrange(20, 60)):
            done, tasks = await asyncio.wait(tasks, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and task.exception() is not None:
                    raise task.exception()
            if self.world.stopping.is_set():
                break
            tasks |= {asyncio.ensure_future(self.random.choice(calls)()) for _ in range(len(calls) - len(tasks))}
            victim = self.random.choice(list(tasks))
            self.counts["cancels"] += victim.cancel()
        # The others are left to the closed loop.

    async def produce(self) -> None:
        for _ in range(30):
            queue = self.random.choice(self.world.queues)
            timeout = self.random.choice([0, 0.002, 0.01, None])
            how = self.random.randrange(6)
            if how < 3:
                op = self.op()
                with self.offering(op):
                    await queue.aenqueue(op.key, op, timeout=timeout)
                if how == 0:
                    with contextlib.suppress(Exception, inflight.OpCancelledError):
                        async with asyncio.timeout(0.002):
                            await op
            elif how < 4:
                for op in self.ops_of_group():
                    with self.offering(op):
                        async with asyncio.timeout(0.005):
                            await queue.aenqueue(op.key, op)
            elif how < 5:
                with contextlib.suppress(inflight.QueueSaturatedError, Crash):
                    self.submitted(await queue.asubmit(self.key(), timeout=timeout))
            else:
                self.op()
                queue.adequeue().close()  # never awaited

    async def consume(self) -> None:
        for _ in range(30):
            queue = self.random.choice(self.world.queues)
            timeout = self.random.choice([0, 0.001, 0.005, None])
            rows: list[Any] = []
            try:
                how = self.random.randrange(4)
                if how == 0:
                    rows = await queue.adequeue_many(10, timeout)
                elif how == 1:
                    async with asyncio.timeout(0.003):
                        rows = [await queue.adequeue()]
                elif how == 2:
                    with contextlib.suppress(Crash):
                        await queue.aprocess(self.aprocess, timeout)
                else:
                    rows = [await queue.adequeue(timeout)]
            except (inflight.QueueEmptyError, TimeoutError):
                self.counts["timeouts"] += 1
            self.take(rows, how != 0)
            while rows:
                self.work(rows.pop())

    async def aprocess(self, row: Any) -> None:
        self.take([row], False)
        await asyncio.sleep(0)
        self.work(row)

    async def iterate(self) -> None:
        left = self.random.randrange(300)
        async for row in self.random.choice(self.world.queues):
            self.take([row], False)
            async with row:
                self.work(row)
            del row
            left -= 1
            if left < 0:
                return

    async def join(self) -> None:
        await self.random.choice(self.world.queues).ajoin(self.random.choice([0.001, 0.01, None]))

    async def park(self) -> None:
        """On what will not come: until it is cancelled, or destroyed with its loop."""
        op = inflight.Op("never")
        self.counts["made"] += 1
        op.add_done_callback(self.world.books.op_ended)
        with contextlib.suppress(inflight.OpAbandonedError):
            await op

    async def rest(self) -> None:
        async def drain(queue: Any) -> None:
            async for row in queue:
                self.take([row], False)
                self.work(row)
                del row

        await asyncio.gather(*map(drain, self.world.queues))


class Grower(Actor):
    """The queue that lives on: it grows by many keys, and shrinks back."""

    def act(self) -> None:
        queue, grown = self.world.forever, self.world.grown
        for first in range(0, grown, 1000):
            ops = [inflight.Op(number if number % 2 else str(number)) for number in range(first, first + 1000)]
            for op in ops:
                op.add_done_callback(self.world.books.op_ended)
            self.counts["made"] += len(ops)
            self.counts["accepted"] += len(ops) - len(queue.enqueue_many(ops))
        queue._check()
        while len(queue):
            rows = queue.dequeue_many(1000, 0)
            self.take(rows, False)
            for row in rows:
                self.counts["won"] += row.finish_all()


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
            queue._check()
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
            queue._check()
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


def collect() -> None:
    # A finalizer of one round may make garbage for the next.
    for _ in range(3):
        gc.collect()


def live_objects() -> Counter[str]:
    kinds = Counter(map(type, gc.get_objects()))
    # Not of metaclasses, which have a property there.
    return Counter({kind.__name__: n for kind, n in kinds.items() if str(kind.__module__).startswith("inflight")})


def resident() -> float:
    """Memory in MiB."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
    except OSError:
        import resource

        # The peak, which is flat if memory is.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


class MallocInfo(ctypes.Structure):
    """What glibc's mallinfo2() answers."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "_")
    )


class Heap:
    """The C heap, where it is glibc's: there, what is in use can be told from what is kept for later."""

    def __init__(self) -> None:
        self._libc: Any = None
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallinfo2.restype = MallocInfo
            # One arena: those of the threads fragment, each of them, for longer than this runs.
            libc.mallopt(-8, 1)
            self._libc = libc

    def in_use(self) -> float:
        """In MiB, of which all that is free has been given back; 0 where nobody tells."""
        if self._libc is None:
            return 0.0
        self._libc.malloc_trim(0)
        info = self._libc.mallinfo2()
        return (info.uordblks + info.hblkhd) / 2**20


def loop_factories() -> list[Callable[[], Any]]:
    factories: list[Callable[[], Any]] = [asyncio.new_event_loop]
    # There, its call_soon_threadsafe is not safe between threads: MagicStack/uvloop#720.
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        with contextlib.suppress(ImportError):
            factories.append(importlib.import_module("uvloop").new_event_loop)
    return factories


def soak(seconds: float, seed: int, margin: float) -> int:
    forever = inflight.OpQueue(None, None)
    loops = loop_factories()
    start = time.monotonic()
    length = min(5.0, seconds / 9)
    grown = GROWN if seconds >= 60 else GROWN // 100
    total: Counter[str] = Counter()
    heap = Heap()
    used: list[float] = []
    memory: list[float] = []
    wrong: list[str] = []
    before: Counter[str] | None = None
    while time.monotonic() - start < seconds and not wrong:
        faulthandler.dump_traceback_later(length + STALL, exit=True)
        world = World(seed + len(memory), loops, forever, grown)
        world.run(length)
        counts, wrong = world.close()
        del world
        collect()
        forever._check()
        total.update(counts)
        used.append(heap.in_use())
        memory.append(resident())
        live = live_objects()
        # What is made at the first use, such as the mailbox of a thread, may come in a later round.
        before = live if before is None else before
        if live.total() > before.total() + 10:
            wrong.append(f"objects are left: {dict(live)}, after the first round {dict(before)}")
        print(
            f"{time.monotonic() - start:6.0f} s {memory[-1]:7.1f} MiB resident {used[-1]:7.2f} in the C heap "
            f"{sys.getallocatedblocks():7} blocks {live.total():3} of our objects; "
            + ", ".join(f"{counts[name]} {name}" for name in ("ops", "rows", "timeouts", "cancels", "handed_over")),
            flush=True,
        )
    faulthandler.cancel_dump_traceback_later()
    print("\nin all:", ", ".join(f"{number} {name}" for name, number in sorted(total.items())))
    print("our objects left:", dict(live_objects()))
    third = len(memory) // 3
    if seconds >= 60 and third >= 3:
        for name, figures, more in (("resident memory", memory, margin), ("the C heap", used, margin / 4)):
            middle, last = statistics.median(figures[third:-third]), statistics.median(figures[-third:])
            print(f"{name}: {middle:.2f} MiB in the middle third of the rounds, {last:.2f} MiB in the last")
            if last > middle + more:
                wrong.append(f"{name} grows: by {last - middle:.2f} MiB")
    else:
        print("memory: too short a run to tell")
    for each in wrong:
        print("WRONG:", each)
    print("FAILED" if wrong else f"ok: {len(memory)} rounds, every operation accounted for")
    return 1 if wrong else 0


def main() -> int:
    global inflight
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seconds", type=float, help="the same in seconds, for a smoke test")
    parser.add_argument("--impl", choices=("native", "pure"), help="default: the one that `import inflight` chooses")
    parser.add_argument("--seed", type=int, default=1, help="of what the threads choose (default: 1)")
    parser.add_argument("--margin", type=float, default=4.0, help="MiB of resident memory (default: 4)")
    options = parser.parse_args()
    if options.impl:
        os.environ["INFLIGHT_IMPL"] = options.impl
    inflight = importlib.import_module("inflight")
    faulthandler.enable()
    # Abandoned operations, calls never awaited, and callbacks that raise are what this is about.
    warnings.simplefilter("ignore")
    logging.getLogger("inflight").disabled = True
    gil = "" if not hasattr(sys, "_is_gil_enabled") else f", GIL {'on' if sys._is_gil_enabled() else 'off'}"
    print(f"inflight {inflight.__version__} {inflight.IMPLEMENTATION}, Python {sys.version.split()[0]}{gil}, "
          f"seed {options.seed}, {os.cpu_count()} processors", flush=True)  # fmt: skip
    seconds = options.minutes * 60 if options.seconds is None else options.seconds
    return soak(seconds, options.seed, options.margin)


if __name__ == "__main__":
    sys.exit(main())
