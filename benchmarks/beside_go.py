"""Runs the loops of the Go original beside ours, in turn, and prints medians and ratios.

    git clone https://github.com/lytics/inflight original
    python benchmarks/beside_go.py original [--go PROGRAM] [--turns N]

The Go side is original_test.go, compiled into a copy of the checkout; a turn is one run of it, 15 rounds of
10,000 operations of each loop, and then as many of ours; of both the mean. In Go a group is made and finished in
two loops; its queue is drained in batches one by one, since it has no bulk calls.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter_ns

from about import about
from bench_callgroup import ADD_FINISH, BULK, SHARED_KEYS, pipeline
from bench_opqueue import DUPLICATES, in_turn
from scenarios import COUNT, Scenario, enter

ROUNDS = 15
LOOPS: dict[str, Scenario] = {
    "InTurn": in_turn("fresh int"),
    "WholeWay": pipeline("fresh int"),
    "SharedKeys": SHARED_KEYS,
    "Batches": BULK,
    "AddFinish": ADD_FINISH,
    "Duplicates": DUPLICATES,
}


def compiled(checkout: Path, go: str, directory: Path) -> Path:
    copy, program = directory / "original", directory / "loops"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns("*_test.go", ".git"))
    shutil.copy(Path(__file__).with_name("original_test.go"), copy)
    subprocess.run([go, "test", "-c", "-o", program], cwd=copy, check=True)
    return program


def theirs(program: Path) -> dict[str, float]:
    """Nanoseconds per operation of each loop."""
    command = [program, "-test.run", "^$", "-test.bench", ".", "-test.benchtime", f"{ROUNDS}x"]
    text = subprocess.run(command, cwd=program.parent, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^Benchmark(\w+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op", text, re.MULTILINE)
    return {name: float(nanoseconds) / COUNT for name, nanoseconds in found}


def ours(scenario: Scenario) -> float:
    """As Go does it: one round before, then the mean of so many without a pause, with what the collector does."""
    with ExitStack() as stack:
        one_round = enter(stack, scenario.contenders["native"], COUNT)
        one_round()
        start = perf_counter_ns()
        for _ in range(ROUNDS):
            one_round()
        return (perf_counter_ns() - start) / (ROUNDS * COUNT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--go", default="go", metavar="PROGRAM")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    print("\n".join(f"{name}: {value}" for name, value in about().items()))
    print(subprocess.run([options.go, "version"], check=True, capture_output=True, text=True).stdout)
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        program = compiled(options.checkout, options.go, Path(directory))
        for _ in range(options.turns):
            for name, nanoseconds in theirs(program).items():
                times[name].append((nanoseconds, ours(LOOPS[name])))
    for name, pairs in times.items():
        go, here = (median(side) for side in zip(*pairs, strict=True))
        print(f"{LOOPS[name].name:60} Go {go:6.0f} ns, ours {here:6.0f} ns, ours / Go {here / go:.2f}")


if __name__ == "__main__":
    main()
