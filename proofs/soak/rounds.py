"""Round after round, until the time is up or something is wrong; then, whether memory is flat."""
# ruff: noqa: D103 - a script, whose help is in __main__.py

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import importlib
import statistics
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from memory import Heap, collect, live_objects, resident
from world import World

import inflight
from inflight._invariants import check_invariants

STALL = 120.0
"""Seconds after which a round that should be over has hung."""

GROWN = 100_000


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
        check_invariants(forever)
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
