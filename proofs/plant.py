"""Plants faults in the sources, one at a time, and shows which proof catches each.

    python proofs/plant.py [--list] [--keep-going] [NAME...]

Every fault is a small edit of the kind that a hurried change would make: an unlock that is missing, a hand-back that
is dropped, a comparison that is off by one. For each, a copy of the tree is made, the edit is applied, the extension
is built (a proof build, without optimisation), and the tests below are run until one fails. A fault that no test
catches fails the script. What runs the tests is the interpreter that runs this; it needs what
`pip install '.[proof]' Cython 'setuptools>=77'` installs. A few faults need a free-threaded one, and are left out on
others. Each takes seconds, or a few minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent

TESTS = (
    "tests/test_model.py",
    "tests/test_promises.py",
    "tests/test_opwindow.py",
    "tests/test_signals*.py",
    "tests/test_races*.py",
    "tests/test_pairs*.py",
    "tests/test_leaks*.py",
    "tests/test_nomemory_*ue*.py",
    "tests/test_aio_queue.py",
    "tests/test_aio_wakes.py",
    "tests/test_aio_cancel.py",
    "tests/test_aio_destroyed.py",
    "tests/test_aio_lifetime.py",
    "tests/test_aio_loops.py",
    "tests/test_callgroup.py",
    "tests/test_collection*.py",
    "tests/test_fork.py",
    "tests/test_keys.py",
)
"""In this order; a fault should be caught early. Of those without memory, the ones about queues, which are fast."""


@dataclass(frozen=True)
class Fault:
    """Replace ``old``, which must be there exactly once, by ``new``."""

    name: str
    path: str
    old: str
    new: str
    # Only threads that run at once get there: it takes a free-threaded interpreter.
    parallel: bool = False


FAULTS = [
    Fault(
        "an unlock is missing when a wait is interrupted",
        "src/calls.pxi",
        "        engine_leave_consumer(engine, node, &wake)\n        inflight_unlock(&engine.lock)\n",
        "        engine_leave_consumer(engine, node, &wake)\n",
    ),
    Fault(
        "an unlock is missing when a key is released again",
        "src/opset.pxi",
        "            inflight_count(RELEASED_AGAIN)\n        inflight_unlock(&self.queue.engine.lock)\n",
        "            inflight_count(RELEASED_AGAIN)\n            return 0\n"
        "        inflight_unlock(&self.queue.engine.lock)\n",
        parallel=True,
    ),
    Fault(
        "an interrupted consumer does not give back what it was promised",
        "src/engine.pxi",
        "    if node.state == PROMISED:\n        engine_take_back(self, node, wake)\n",
        "    if node.state == PROMISED:\n        node.state = WAITING\n",
    ),
    Fault(
        "a row that is given back is not passed on to the next consumer",
        "src/engine.pxi",
        "    if self.consumers != NULL:\n        inflight_count(ROW_PASSED_ON)\n",
        "    if False:\n        inflight_count(ROW_PASSED_ON)\n",
    ),
    Fault(
        "a producer that leaves keeps its slot",
        "src/engine.pxi",
        "        self.reserved -= 1\n",
        "        pass\n",
    ),
    Fault(
        "a slot is erased from the index one too early",
        "src/index.pxi",
        "table_distance(table, i) != 0:",
        "table_distance(table, i) > 1:",
    ),
    Fault(
        "a lookup ends one slot too early",
        "src/index.pxi",
        "        elif table_distance(table, i) < distance:\n",
        "        elif table_distance(table, i) <= distance:\n",
    ),
    Fault(
        "what makes room for a slot is overwritten",
        "src/index.pxi",
        "        table_make_room(table, slot)\n",
        "        pass\n",
    ),
    Fault(
        "a gap in the index is not closed",
        "src/index.pxi",
        "        table.slots[gap] = table.slots[i]\n        gap = i\n        i = (i + 1) & table.mask\n",
        "        break\n",
    ),
    Fault(
        "a row moves to the new table, and stays in the old one",
        "src/index.pxi",
        "            old.slots[index.cursor].row = &TOMBSTONE\n            old.used -= 1\n",
        "            old.used -= 1\n",
    ),
    Fault(
        "an operation in a row is not retained",
        "src/rows.pxi",
        "    retain(op)\n    row.ops.one = op\n",
        "    row.ops.one = op\n",
    ),
    Fault(
        "the key of a row is not retained",
        "src/engine.pxi",
        "    retain(row.key)\n",
        "",
    ),
    Fault(
        "the key of a row is never dropped",
        "src/rows.pxi",
        "        PyMem_Free(many)\n    drop(key)\n",
        "        PyMem_Free(many)\n",
    ),
    Fault(
        "an operation that somebody has is stowed away",
        "src/stow.pxi",
        "Py_REFCNT(op) == 1 + mine",
        "Py_REFCNT(op) >= 1 + mine",
    ),
    Fault(
        "what a stowed operation refers to is not shown to the collector",
        "src/collect.pxi",
        "op_traverse(op, visit, arg) if op_is_stowed(op) else visit(op, arg)",
        "0 if op_is_stowed(op) else visit(op, arg)",
    ),
    Fault(
        "an operation that is fetched from its group stays unknown to the collector",
        "src/stow.pxi",
        "    if not PyObject_GC_IsTracked(op):\n",
        "    if False:\n",
    ),
    Fault(
        "a candidate for comparison is not retained",
        "src/index.pxi",
        "                retain(row.key)\n",
        "",
    ),
    Fault(
        "a woken waiter is not kept alive until it is woken",
        "src/waiters.pxi",
        "    node.wake_next = NULL\n    retain(node.owner)\n",
        "    node.wake_next = NULL\n",
    ),
    Fault(
        "windows are measured with the clock of timeouts",
        "src/opqueue.pxi",
        "            return <double>self.clock()\n",
        "            return now_seconds()\n",
    ),
    Fault(
        "a timeout is measured with the clock of the windows",
        "src/calls.pxi",
        "park(min(remaining, armed - now))\n            remaining = remaining_until(deadline)\n",
        "park(min(remaining, armed - now))\n            remaining = deadline - self.now()\n",
    ),
    Fault(
        "a row may be one too wide",
        "src/engine.pxi",
        "    if row.count >= self.width:\n        self.refused_width",
        "    if row.count > self.width:\n        self.refused_width",
    ),
    Fault(
        "a full row waits for the end of its window",
        "src/engine.pxi",
        "    if row.state == OPEN and row.count >= self.width:\n        engine_end_window(self, row, wake)\n",
        "",
    ),
    Fault(
        "what waits behind an owner is not queued at the release",
        "src/engine.pxi",
        "        if behind.state == BEHIND:\n            engine_make_ready(self, behind, wake)\n",
        "",
    ),
    Fault(
        "who waits for the end is not told",
        "src/engine.pxi",
        "            node.state = PROMISED\n            kick(node, wake)\n        if self.closed:",
        "            node.state = PROMISED\n        if self.closed:",
    ),
    Fault(
        "closing wakes no producer",
        "src/engine.pxi",
        "    list_dissolve(&self.producers, wake)\n",
        "",
    ),
    Fault(
        "nobody watches the windows when the timekeeper leaves",
        "src/engine.pxi",
        "        if self.consumers.armed > self.open.head.turn.deadline:\n            kick(self.consumers, wake)\n",
        "        pass\n",
    ),
    Fault(
        "a wake-up is not consumed",
        "src/calls.pxi",
        "            if woken:\n                node.signalled = False\n            answer = engine_dequeue(",
        "            answer = engine_dequeue(",
    ),
    Fault(
        "a row goes back to the end of the line",
        "src/engine.pxi",
        "        heap_add(&self.returned, row)\n",
        "        rows_append(&self.ready, row)\n",
    ),
    Fault(
        "a list forgets its tail",
        "src/rows.pxi",
        "    if row.next == NULL:\n        rows.tail = before\n    else:\n        row.next.place.prev = before\n",
        "    if row.next != NULL:\n        row.next.place.prev = before\n",
    ),
    Fault(
        "a group completes while it is held",
        "src/callgroup.pxi",
        "following >> WORD_SHIFT == 0 and following & WORD_HOLDS == 0:",
        "following >> WORD_SHIFT == 0:",
    ),
    Fault(
        "a second finish wins",
        "src/op.pxi",
        "    first = self.completion.state == PENDING\n",
        "    first = True\n",
    ),
    Fault(
        "waiters of a closed loop do not leave",
        "src/tasks.pxi",
        "        inflight_count(RETURNED)\n        waiter.leave(wake)\n",
        "        inflight_count(RETURNED)\n",
    ),
    Fault(
        "a cancelled task stays in line until it runs",
        "src/tasks.pxi",
        "        self.withdraw()\n        return True\n",
        "        return True\n",
    ),
    Fault(
        "producers that bring a key are not told that it waits",
        "src/engine.pxi",
        "    alike_kick(&self.alike, row.hash, wake)\n",
        "",
    ),
    Fault(
        "the first of a ring is taken out, and stays the first",
        "src/waiters.pxi",
        "    if ring[0] == node:\n        ring[0] = following\n",
        "",
    ),
    Fault(
        "a bucket is not moved when there are more of them",
        "src/alike.pxi",
        "        for i in range(self.mask + 1):\n            while self.buckets[i] != NULL:\n",
        "        for i in range(self.mask):\n            while self.buckets[i] != NULL:\n",
    ),
    Fault(
        "the last block of a group does not seal it",
        "src/callgroup.pxi",
        "following = word_after(word, WORD_HOLD, WORD_SEALED)",
        "following = word_after(word, WORD_HOLD, 0)",
    ),
    Fault(
        "a row is taken beyond the limit",
        "src/calls.pxi",
        "count = min(count + spare, limit)",
        "count = count + spare + 1",
    ),
    Fault(
        "a task that ends its wait does not leave its line",
        "src/awaits.pxi",
        "    if waiter is None:\n        return 0\n    waiter.leave(&wake)\n",
        "    if waiter is None:\n        return 0\n",
    ),
    Fault(
        "of two rows that came back, the younger is handed out first",
        "src/rows.pxi",
        "    if other.turn.seq < one.turn.seq:\n",
        "    if other.turn.seq > one.turn.seq:\n",
    ),
    Fault(
        "of the rows that came back, two are kept",
        "src/rows.pxi",
        "            rest = other.next\n",
        "            rest = NULL\n",
    ),
    Fault(
        "what came back is handed out after what never left",
        "src/engine.pxi",
        "    if self.returned.oldest != NULL:\n        row = heap_take",
        "    if row == NULL and self.returned.oldest != NULL:\n        row = heap_take",
    ),
    Fault(
        "a coroutine that is cleared by the collector does not leave its line",
        "src/collect.pxi",
        "    if phase[0] != ENDED and not Py_IsFinalizing():\n        wait_drop(<Wait>self)\n",
        "",
    ),
    Fault(
        "an operation that asubmit has not handed in warns",
        "src/asks.pxi",
        "    if answer is UNANSWERED:\n        op.completion.state = RETIRED\n",
        "",
    ),
    Fault(
        "the collector does not see the operations of a row",
        "src/collect.pxi",
        "        stop = visit(row_ops(row)[i], arg)\n",
        "        stop = 0\n",
    ),
]


def main() -> int:
    """Try every fault, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of the names of the faults to plant (default: all)")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--keep-going", action="store_true", help="go on after a fault that is not caught")
    arguments = parser.parse_args()
    faults = [each for each in FAULTS if not arguments.names or any(name in each.name for name in arguments.names)]
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        faults = [each for each in faults if not each.parallel]
    if arguments.list:
        print("\n".join(f"{each.path:20} {each.name}" for each in faults))
        return 0
    for fault in faults:
        if (found := (TREE / fault.path).read_text().count(fault.old)) != 1:
            sys.exit(f"{fault.path}: {fault.name}: found {found} times")
    missed = []
    for fault in faults:
        begin = time.monotonic()
        caught = plant(fault)
        print(f"{time.monotonic() - begin:5.0f} s  {fault.name}: {caught or 'NOT CAUGHT'}", flush=True)
        if not caught:
            missed.append(fault)
            if not arguments.keep_going:
                break
    print(f"{len(faults) - len(missed)} of {len(faults)} caught" if not missed else f"not caught: {len(missed)}")
    return 1 if missed else 0


def plant(fault: Fault) -> str:
    """What caught it, or nothing."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "tree")
        subprocess.run([TREE / ".ci" / "copy", copy], check=True)
        shutil.rmtree(copy / ".git")
        path = copy / fault.path
        path.write_text(path.read_text().replace(fault.old, fault.new))
        environment = os.environ | {"INFLIGHT_PROOF": "1", "CFLAGS": "-O0", "PYTHONPATH": str(copy)}
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        built = subprocess.run(build, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        if built.returncode:
            sys.exit(f"{fault.name}: cannot be built\n{built.stderr}")
        for pattern in TESTS:
            for test in sorted(copy.glob(pattern)):
                if verdict := failing(test.relative_to(copy), copy, environment):
                    return verdict
    return ""


def failing(test: Path, copy: Path, environment: dict[str, str]) -> str:
    """How the test fails, or nothing."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--impl", "native", str(test)]
    command += ["--timeout", "60", "-o", "faulthandler_timeout=0"]
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{test} hangs"
    if done.returncode < 0:
        return f"{test} crashes with signal {-done.returncode}"
    if done.returncode not in (0, 5):
        if "Timeout" in done.stderr:
            return f"{test} runs out of time"
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return failed[0].split(" - ")[0] if failed else f"{test} ends with status {done.returncode}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
