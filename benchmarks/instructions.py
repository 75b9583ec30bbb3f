"""Counts the instructions of an operation, and what they miss in the caches, with valgrind.

    python benchmarks/instructions.py [--cache] [--operations N] [WORD...]

Of the scenarios of `bench_*.py` with all of these words in their names, by default those of the first table
of docs/performance.md, native and SimpleQueue. Each contender runs so many rounds, and ten more in a second
process; the difference, divided by the operations, is free of what starts and ends a process, and the same
whatever else the machine does. The collector is off. `--cache` simulates a first cache of 48 KB and a second
one of 2 MB, and a branch predictor.

Functions are told apart by their names, so the shares are those of a build whose names are not stripped.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from bench_callgroup import BULK, pipeline
from bench_opqueue import in_turn
from compare import MODULES, chosen
from scenarios import Scenario, enter

FEWER, MORE = 3, 13
CONTENDERS = ("native", "SimpleQueue")
DEFAULT = (in_turn("fresh int"), pipeline("fresh int"), BULK)
CACHES = ("--cache-sim=yes", "--branch-sim=yes", "--D1=49152,12,64", "--LL=2097152,16,64")
EVENTS = {
    "Ir": "instructions",
    "D1m": "first cache missed",
    "DLm": "second cache missed",
    "Bm": "branches mispredicted",
}
# By the name of the function, unless it is in the extension.
SHARES = {
    "allocating and tracking": re.compile(
        r"alloc|free|Free|GC_|gc_|dealloc|Dealloc|NewReference|PyLong_From|memset|_int_", re.IGNORECASE
    ),
    "bytecode and calls": re.compile(r"PyEval|ectorcall|iter_next|iternext|Call|method_"),
}


def scenarios() -> dict[str, Scenario]:
    return {each.name: each for module in MODULES for each in module.SCENARIOS}


def run_rounds(name: str, contender: str, operations: int, rounds: int) -> None:
    """What the process under valgrind does."""
    with ExitStack() as stack:
        one_round = enter(stack, scenarios()[name].contenders[contender], operations)
        gc.collect()
        gc.disable()
        for _ in range(rounds):
            one_round()


def counted(name: str, contender: str, operations: int, rounds: int, cache: bool) -> Counter[tuple[str, str]]:
    """Events by their kind and the share they belong to."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "out")
        child = [sys.executable, __file__, "--child", name, contender, str(operations), str(rounds)]
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *(CACHES if cache else ())]
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        subprocess.run([*tool, *child], check=True, capture_output=True, env=environment)
        annotate = ["callgrind_annotate", "--auto=no", "--threshold=100", "--show-percs=no", str(out)]
        text = subprocess.run(annotate, check=True, capture_output=True, text=True).stdout
    return events_of(text)


def events_of(text: str) -> Counter[tuple[str, str]]:
    names = re.search(r"^Events shown: +(.*)$", text, re.MULTILINE)
    assert names is not None, text
    found: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        match = re.match(r" *((?:[\d,]+|\.)(?: +(?:[\d,]+|\.))*)  (\S.*)$", line)
        if match is None or match[2].startswith("PROGRAM TOTALS"):
            continue
        values = [0 if value == "." else int(value.replace(",", "")) for value in match[1].split()]
        numbers = dict(zip(names[1].split(), values, strict=True))
        numbers["D1m"] = numbers.get("D1mr", 0) + numbers.get("D1mw", 0)
        numbers["DLm"] = numbers.get("DLmr", 0) + numbers.get("DLmw", 0)
        numbers["Bm"] = numbers.get("Bcm", 0) + numbers.get("Bim", 0)
        for event in EVENTS:
            found[event, share_of(match[2])] += numbers.get(event, 0)
    return found


def share_of(function: str) -> str:
    """``file:function [object]``."""
    name = function.split(" [", maxsplit=1)[0].rsplit(":", maxsplit=1)[-1]
    if "_native" in function or name.startswith(("__pyx", "inflight_")):
        return "ours"
    return next((share for share, pattern in SHARES.items() if pattern.search(name)), "other")


def report(scenario: Scenario, contender: str, operations: int, cache: bool) -> None:
    fewer, more = (counted(scenario.name, contender, operations, rounds, cache) for rounds in (FEWER, MORE))
    each = {key: (more[key] - fewer[key]) / ((MORE - FEWER) * operations) for key in more}
    totals = {event: sum(value for (kind, _), value in each.items() if kind == event) for event in EVENTS}
    shares = sorted((value, share) for (kind, share), value in each.items() if kind == "Ir" and round(value))
    parts = ", ".join(f"{share} {value:.0f}" for value, share in reversed(shares))
    print(f"{scenario.name}: {contender}\n  {totals['Ir']:,.0f} instructions: {parts}", flush=True)
    if cache:
        misses = {event: max(totals[event], 0) for event in list(EVENTS)[1:]}
        print("  " + ", ".join(f"{EVENTS[event]} {misses[event]:.1f}" for event in misses), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--operations", type=int, default=2_000, help="in a round, in thousands")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed")
    named = [each for each in scenarios().values() if chosen(each.name, options.words)]
    for scenario in named if options.words else DEFAULT:
        for contender in CONTENDERS:
            if contender in scenario.contenders:
                report(scenario, contender, options.operations, options.cache)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_rounds(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
