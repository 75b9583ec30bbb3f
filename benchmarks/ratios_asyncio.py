"""The scenarios of bench_asyncio.py with the rounds of all contenders in turn, as ratios.

Whatever slows the machine for a while slows neighbouring rounds alike, so the ratio within a turn
is steadier than either time. `--ours pure` compares the other implementation; words select
scenarios.
"""

from __future__ import annotations

import argparse
import gc
import platform
from contextlib import ExitStack
from statistics import median, quantiles
from time import perf_counter

import pytest
from bench_asyncio import AWAITED, COUNT, SCENARIOS, Round


def time_in_turn(rounds: dict[str, Round], turns: int) -> dict[str, list[float]]:
    """Seconds of each round by contender; the first turn warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(turns + 1):
        for name, one_round in rounds.items():
            gc.collect()
            start = perf_counter()
            one_round()
            times[name].append(perf_counter() - start)
    return {name: each[1:] for name, each in times.items()}


def compare(scenario: str, ours: str, turns: int) -> None:
    with ExitStack() as stack:
        rounds: dict[str, Round] = {}
        for name, make in SCENARIOS[scenario].items():
            try:
                rounds[name] = stack.enter_context(make())
            except pytest.skip.Exception:
                if name == ours:
                    raise SystemExit(f"{name} is not installed") from None
        times = time_in_turn(rounds, turns)
    count = AWAITED if scenario.startswith("await") else COUNT
    print(f"\n{scenario:34}  median of one   {ours} / it  quartiles of the ratio")
    for name, each in times.items():
        ratios = [one / other for one, other in zip(times[ours], each, strict=True)]
        low, _, high = quantiles(ratios, n=4)
        print(f"  {name:32}  {median(each) / count * 1e6:10.3f} us  {median(ratios):11.3f}  {low:.3f} .. {high:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only scenarios that have all of these words in their names")
    parser.add_argument("--ours", choices=["native", "pure"], default="native")
    parser.add_argument("--turns", type=int, default=21)
    options = parser.parse_args()
    print(platform.python_implementation(), platform.python_version(), platform.machine())
    for scenario in SCENARIOS:
        if all(word in scenario for word in options.words):
            compare(scenario, options.ours, options.turns)


if __name__ == "__main__":
    main()
