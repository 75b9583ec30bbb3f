"""Ours beside the others', round by round in one process, and whether each target holds.

Whatever slows the machine for a while slows neighbouring rounds alike, so a ratio is steadier than
either time. Printed are the ratio of the medians and the quartiles of the ratios within a turn; a
target that lies between the quartiles is marked `?`, since another run may decide otherwise.

    compare.py                            every row of the table of targets
    compare.py --rows hand-off            the rows with all of these words in their names
    compare.py --scenarios thread task    all contenders of the scenarios with these words
    compare.py --json FILE                for report.py
"""

from __future__ import annotations

import argparse
import gc
import json
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter_ns, process_time_ns
from typing import Any

import bench_asyncio
import bench_callgroup
import bench_dedupequeue
import bench_op
import bench_opqueue
import bench_opwindow
import bench_threads
from about import about
from growth import STATM, grow, weigh
from scenarios import GIL, NotInstalledError, Round, Scenario, enter, implementation
from targets import BYTES_PER_ROW, OURS, SLOWEST_ENQUEUE, Target, per_operation, percentile, targets

MODULES = (
    bench_opqueue,
    bench_callgroup,
    bench_op,
    bench_dedupequeue,
    bench_opwindow,
    bench_threads,
    bench_asyncio,
)
GROWN = ("dict", "SimpleQueue", "the loop alone")
WEIGHED = ("SimpleQueue", "dict", "OrderedDict + Condition")
ROWS_WEIGHED = 1_000_000
PERCENTILES = {", p50": percentile(0.50), ", p99": percentile(0.99)}


def in_turn(rounds: list[Round], turns: int, *, cpu: bool) -> list[list[tuple[int, Any]]]:
    """Nanoseconds and result of each round, by turn. The first turn warms up and is not counted; then the order
    changes from turn to turn, as who comes second may find the caches, or the clock, in another state.
    """
    clock = process_time_ns if cpu else perf_counter_ns
    taken = []
    # So that the collections in between look at what a round has left, and at nothing else: going through all
    # that was imported would empty the caches.
    gc.freeze()
    for turn in range(turns + 1):
        this: list[Any] = [None] * len(rounds)
        order = range(len(rounds)) if turn % 2 else reversed(range(len(rounds)))
        for number in order:
            gc.collect()
            start = clock()
            result = rounds[number]()
            this[number] = (clock() - start, result)
        taken.append(this)
    return taken[1:]


def spread(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4)
    return low, high


def verdict(value: float, low: float, high: float, limit: float | None, *, least: bool = False) -> str:
    if limit is None:
        return "no target"
    holds = value >= limit if least else value <= limit
    return ("holds" if holds else "FAILS") + (" ?" if low < limit < high else "")


def sides(target: Target, ours: str) -> list[tuple[Scenario, str]]:
    return [(scenario, ours if name == OURS else name) for scenario, name in (target.ours, target.theirs)]


def judge(target: Target, options: argparse.Namespace) -> dict[str, Any]:
    """One row; its contenders exist while it is measured."""
    turns = min(options.turns, target.turns or options.turns)
    with ExitStack() as stack:
        rounds, counts = [], []
        for scenario, name in sides(target, options.ours):
            counts.append(scenario.scaled(1.0 if scenario.operations >= options.deepest else options.scale))
            rounds.append(enter(stack, scenario.contenders[name], counts[-1]))
        taken = in_turn(rounds, turns, cpu=options.cpu and not target.ours[0].waits)
    ours, theirs = ([target.statistic(turn[i][0], counts[i], turn[i][1]) for turn in taken] for i in (0, 1))
    over, under = (theirs, ours) if target.throughput else (ours, theirs)
    ratio = median(over) / median(under)
    low, high = spread([one / other for one, other in zip(over, under, strict=True)])
    return {
        "row": target.row,
        "ours": median(ours),
        "theirs": median(theirs),
        "ratio": ratio,
        "low": low,
        "high": high,
        "limit": target.limit_here,
        "least": target.throughput,
        "turns": turns,
        "verdict": verdict(ratio, low, high, target.limit_here, least=target.throughput),
    }


def print_row(row: dict[str, Any]) -> None:
    limit = "" if row["limit"] is None else f"{'>=' if row['least'] else '<='} {row['limit']:g}"
    print(
        f"{row['row']:66} {row['ours']:11,.1f} {row['theirs']:11,.1f} {row['ratio']:7.3f}"
        f"  {row['low']:.3f} .. {row['high']:.3f}  {limit:8} {row['verdict']}",
        flush=True,
    )


def judge_growth(options: argparse.Namespace) -> dict[str, Any]:
    """The slowest enqueue while a queue grows: no ratio, but a distribution."""
    keys, repeats = options.deepest, options.growths
    print(f"\nSlowest calls while growing to {keys:,} keys, {repeats} times, in microseconds; gc off")
    print(f"{'':24} {'run':>9} {'slowest':>10} {'10th':>10} {'100th':>10} {'1000th':>10}  above 1 ms")
    grown = {}
    for name in (options.ours, *GROWN):
        grown[name] = each = grow(name, keys, repeats)
        runs = [(str(number), run["tail"], str(run["above"])) for number, run in enumerate(each["runs"], 1)]
        for run, tail, above in [*runs, ("every", each["repeated"], "")]:
            at = dict(tail)
            shown = [f"{at[rank] / 1000:10,.1f}" if rank in at else " " * 10 for rank in (1, 10, 100, 1000)]
            print(f"{name:24} {run:>9} {' '.join(shown)}  {above}", flush=True)
    slowest = dict(grown[options.ours]["repeated"])[1]
    decided = verdict(slowest, slowest, slowest, SLOWEST_ENQUEUE)
    print(f"  {options.ours}: {slowest / 1000:,.1f} us at one key in every run; target <= 1,000 us: {decided}")
    return {"contenders": grown, "slowest": slowest, "limit": SLOWEST_ENQUEUE, "verdict": decided}


def judge_memory(options: argparse.Namespace) -> dict[str, Any] | None:
    """The most that a waiting row weighs, from a tenth of the rows on, and with all of them."""
    if not STATM.exists():
        print("\nMemory of a waiting row: needs /proc")
        return None
    rows = max(100_000, round(ROWS_WEIGHED * options.scale))
    print(f"\nBytes of resident memory per waiting row, keys and operations not counted, up to {rows:,} rows")
    weights = {}
    for name in (options.ours, *WEIGHED):
        weights[name] = each = weigh(name, rows)
        most = max(weight for size, weight in each if size * 10 >= rows)
        print(f"{name:24} at most {most:6.1f}, with all {each[-1][1]:6.1f}", flush=True)
    most = max(weight for size, weight in weights[options.ours] if size * 10 >= rows)
    decided = verdict(most, most, most, BYTES_PER_ROW)
    print(f"  {options.ours}: target <= {BYTES_PER_ROW} bytes: {decided}")
    return {"contenders": weights, "most": most, "limit": BYTES_PER_ROW, "verdict": decided}


def side_by_side(scenario: Scenario, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All contenders of a scenario, in turn; where the rounds tell how long each operation took, once by each
    percentile.
    """
    count = scenario.scaled(options.scale)
    with ExitStack() as stack:
        rounds: dict[str, Round] = {}
        for name, contender in scenario.contenders.items():
            try:
                rounds[name] = enter(stack, contender, count)
            except NotInstalledError as missing:
                print(f"  {missing} is not installed")
        taken = in_turn(list(rounds.values()), options.turns, cpu=options.cpu and not scenario.waits)
    found = []
    for suffix, statistic in (PERCENTILES if scenario.timed else {"": per_operation}).items():
        times = {
            name: [statistic(turn[number][0], count, turn[number][1]) for turn in taken]
            for number, name in enumerate(rounds)
        }
        found.append(beside(scenario.name + suffix, times, options.ours))
    return found


def beside(name: str, times: dict[str, list[float]], ours: str) -> dict[str, Any]:
    """All contenders by their times of each turn."""
    print(f"\n{name:60} {'median':>14}   {ours} / it, quartiles")
    contenders = {}
    for contender, each in times.items():
        low, high = spread([one / other for one, other in zip(times[ours], each, strict=True)])
        ratio = median(times[ours]) / median(each)
        contenders[contender] = {
            "median": median(each),
            "quartiles": spread(each),
            "ratio": ratio,
            "low": low,
            "high": high,
        }
        print(f"  {contender:58} {median(each):11,.1f} ns  {ratio:7.3f}  {low:.3f} .. {high:.3f}", flush=True)
    return {"name": name, "contenders": contenders}


def chosen(name: str, words: list[str] | None) -> bool:
    return words is not None and all(word.lower() in name.lower() for word in words)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", metavar="WORD", help="rows of the table of targets")
    parser.add_argument("--scenarios", nargs="*", metavar="WORD", help="scenarios, with all their contenders")
    parser.add_argument("--ours", choices=["native", "pure"], default="native")
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the operations in a round")
    parser.add_argument("--deepest", type=int, default=bench_opqueue.DEEPEST, help="keys in the deep queue")
    parser.add_argument("--deep", action="store_true", help="also the scenarios that take gigabytes")
    parser.add_argument("--growths", type=int, default=3, help="how often the deep queue is grown")
    parser.add_argument(
        "--cpu", action="store_true", help="the processor's time where nothing waits, on a busy machine"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.rows is None and options.scenarios is None:
        options.rows = []
    return options


def main() -> None:
    options = parse()
    try:
        implementation(options.ours)
    except NotInstalledError as missing:
        raise SystemExit(f"{missing} is not installed") from None
    found: dict[str, Any] = {"about": about(), "ours": options.ours, "targets": [], "scenarios": []}
    print("\n".join(f"{name}: {value}" for name, value in found["about"].items()))
    rows = [row for row in targets(options.deepest) if chosen(row.row, options.rows)]
    if rows:
        print(f"\n{'nanoseconds, medians':66} {'ours':>11} {'theirs':>11} {'ratio':>7}  quartiles       target")
    for target in rows:
        if GIL and target.throughput:
            continue
        if absent := [name for scenario, name in sides(target, options.ours) if name not in scenario.contenders]:
            print(f"{target.row}: left out, has no {absent[0]}")
            continue
        try:
            row = judge(target, options)
        except NotInstalledError as missing:
            print(f"{target.row}: {missing} is not installed")
            continue
        print_row(row)
        found["targets"].append(row)
    if chosen("slowest enqueue while growing", options.rows):
        found["growth"] = judge_growth(options)
    if chosen("memory of a waiting row", options.rows):
        found["memory"] = judge_memory(options)
    for scenario in [scenario for module in MODULES for scenario in module.SCENARIOS]:
        if not chosen(scenario.name, options.scenarios) or (scenario.on_demand and not options.deep):
            continue
        if options.ours not in scenario.contenders:
            print(f"\n{scenario.name}: left out, has no {options.ours}")
            continue
        found["scenarios"] += side_by_side(scenario, options)
    found["about"] |= {"load at the end": about()["load"]}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
