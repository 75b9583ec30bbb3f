"""The wake protocol, model-checked: proofs/wake.pml says what is modelled, and what must hold.

The model checker looks at every order in which the steps of a configuration can happen. That it
would see a fault is shown by planting some; that no configuration is empty, by asking which
steps of the model none of them has taken.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

MODEL = Path(__file__).parent.parent / "proofs" / "wake.pml"
SPIN = shutil.which("spin")
CC = shutil.which("cc") or shutil.which("gcc")

pytestmark = [
    pytest.mark.skipif(SPIN is None, reason="spin is not installed"),
    pytest.mark.skipif(CC is None, reason="a C compiler is not installed"),
]

# Which calls are tasks, and which may end early, is a bit for each: consumers first, then producers, then joiners.
CONFIGURATIONS = {
    "threads": "OWNING=1 CLOSING=1",
    "threads that are patient": "PRODUCERS=3 EARLY=0 CLOSING=1",
    "threads, one of them impatient, and windows": "DEPTH=2 EARLY=1 WINDOW=1 CLOSING=1",
    "threads that merge": "CONSUMERS=1 PRODUCERS=3 SAME_KEY=1",
    "threads that join": "CONSUMERS=1 JOINERS=1 OWNING=1 CLOSING=1",
    "tasks": "DEPTH=2 TASKS=3 LOOP_CLOSING=1",
    "tasks of one loop, nobody else": "CONSUMERS=1 JOINERS=1 TASKS=15 CLOSING=1 LOOP_CLOSING=1",
    "a task and a thread": "DEPTH=2 TASKS=1 LOOP_CLOSING=1",
    "a task and a thread that are patient": "PRODUCERS=3 TASKS=5 EARLY=0 CLOSING=1",
    "a task and threads, and windows": "CONSUMERS=1 DEPTH=2 TASKS=1 WINDOW=1 LOOP_CLOSING=1",
    "a task that waits for depth": "CONSUMERS=1 TASKS=4 CLOSING=1 LOOP_CLOSING=1",
}

FAULTS = [
    ("NO_HAND_BACK", ""),
    ("NO_HAND_BACK", "TASKS=3"),  # only a task that was woken, and cancelled before it ran, has something to hand back
    ("NO_SLOT_BACK", ""),
    ("TIMEOUT_IGNORES_PROMISE", ""),
    ("WAKE_BEFORE_STATE", "EARLY=0"),
    ("NO_SIGNALLED", "WINDOW=1 CLOSING=1"),
    ("SIGNALLED_STAYS", "PRODUCERS=3 EARLY=0"),
    ("NO_TIMEKEEPER", "WINDOW=1 EARLY=0"),
    ("CLOSED_LOOP_KEEPS", "TASKS=3 EARLY=0 LOOP_CLOSING=1"),
    ("CLOSED_UNSEEN", "DEPTH=2 TASKS=1 LOOP_CLOSING=1"),
]


# The loop's own process wakes others only once it is closed, so that it never gives itself a delivery.
NEVER_TAKEN = {("proctype Loop", "deliveries = (deliveries+1)"), ("proctype Loop", "returning = loop_closed")}


class Search(NamedTuple):
    errors: int
    complete: bool
    unreached: frozenset[tuple[str, str, str]]
    report: str


def search(place: Path, flags: str, *, optimise: str) -> Search:
    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    assert SPIN is not None
    assert CC is not None
    shutil.copy(MODEL, place)
    run(SPIN, "-a", *(f"-D{flag}" for flag in flags.split()), MODEL.name)
    run(CC, optimise, "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=900", "-o", "pan", "pan.c")
    report = run("./pan", "-m10000")
    found = re.search(r"errors: (\d+)", report)
    assert found, report
    complete = "Search not completed" not in report and "too small" not in report and "out of memory" not in report
    if (place / f"{MODEL.name}.trail").exists():
        report += run(SPIN, "-t", "-p", *(f"-D{flag}" for flag in flags.split()), MODEL.name)[-8000:]
    return Search(int(found[1]), complete, unreached(report), report)


def unreached(report: str) -> frozenset[tuple[str, str, str]]:
    """The statements that were not executed: process, statement, and place, which no configuration changes."""
    found: set[tuple[str, str, str]] = set()
    process = ""
    for line in report.splitlines():
        if line.startswith("unreached in"):
            process = line.removeprefix("unreached in ")
        elif match := re.match(r"\twake\.pml:(\d+, state \d+), \"(.*)\"", line):
            found.add((process, match[2], match[1]))
    return frozenset(found)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Search]:
    results: dict[str, Search] = {}

    def searched(name: str) -> Search:
        if name not in results:
            results[name] = search(tmp_path_factory.mktemp("wake"), CONFIGURATIONS[name], optimise="-O1")
        return results[name]

    return searched


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nothing_is_lost_and_nobody_hangs_in_any_order_of_steps(searched, name):
    result = searched(name)
    assert result.errors == 0, result.report
    assert result.complete, result.report


@pytest.mark.parametrize(("fault", "flags"), FAULTS)
def test_a_fault_in_the_protocol_is_found_by_what_it_does(tmp_path, fault, flags):
    result = search(tmp_path, f"AT_END FAULT_{fault} {flags}", optimise="-O0")
    assert result.errors > 0, result.report


def test_a_cancelled_task_that_stays_in_line_is_found(tmp_path):
    """It loses nothing, and nobody hangs; others are told meanwhile that nothing is there."""
    result = search(tmp_path, "FAULT_CANCELLED_STAYS TASKS=3", optimise="-O0")
    assert result.errors > 0, result.report


def test_each_step_of_the_model_is_taken_in_some_configuration(searched):
    never = frozenset.intersection(*(searched(name).unreached for name in CONFIGURATIONS))
    assert {(process, statement) for process, statement, _ in never} == NEVER_TAKEN
