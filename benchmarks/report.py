"""From what compare.py measured, the table and the plots that README and docs show.

    report.py --measure PYTHON...     measures with each of these interpreters first
    report.py FILE.json...            from what was measured before

writes `docs/performance-table.md` and `docs/img/performance-*.svg`, one column, or colour, for each
interpreter, whose rows and scenarios may be in several files. What no file contains is left out.
Interpreter, machine and command stand below each.
The plots need matplotlib, which the extra `bench` installs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

DOCS = Path(__file__).parent.parent / "docs"
STEM = "performance"
SHOWN = (
    "in and out in turn, int keys",
    "all in, then all out, ten operations per key",
    "add, enqueue, dequeue, finish_all, int keys",
    "add and finish in turn",
    "2 to 2 threads, 20,000 operations",
    "hand-off between two threads, there and back, p50",
    "hand-off between two threads, there and back, p99",
    "thread to task, unbounded",
)
DEEP = ("native", "pure", "SimpleQueue", "queue.Queue", "OrderedDict + Lock")
DEPTH = re.compile(r"in and out in turn, behind ([\d,]+) keys")

MEASURED = {
    "rows": ("--rows", "--turns", "15", "--growths", "2"),
    "scenarios": ("--scenarios", "--turns", "5", "--scale", "0.2"),
}

Measured = dict[str, Any]


def measure(interpreter: str, stem: str, directory: Path) -> list[Path]:
    """The files with its rows and its scenarios, each from a run of compare.py."""
    # Not resolved: behind the link of a virtual environment is an interpreter without its packages.
    program = Path(shutil.which(interpreter) or interpreter).absolute()
    compare = Path(__file__).with_name("compare.py").absolute()
    files = []
    for name, options in MEASURED.items():
        # In that directory, as the command, which stands below the table, shall not tell where it is.
        file = f"{stem}-{name}.json"
        subprocess.run([program, compare, *options, "--json", file], cwd=directory, check=True)
        files.append(directory / file)
    return files


def short(measured: Measured) -> str:
    """The interpreter without its compiler."""
    return str(measured["about"]["interpreter"]).split(",", 1)[0]


def joined(files: list[Measured]) -> list[Measured]:
    """One for each interpreter; what is in two files is taken from the later."""
    found: dict[str, Measured] = {}
    for each in files:
        measured = found.setdefault(each["about"]["interpreter"], each | {"runs": [], "targets": [], "scenarios": []})
        measured["runs"].append(each["about"])
        for key, name in (("targets", "row"), ("scenarios", "name")):
            measured[key] = list({row[name]: row for row in measured[key] + each[key]}.values())
        for key in ("growth", "memory"):
            if key in each:
                measured[key] = each[key]
    return list(found.values())


def below(all_measured: list[Measured]) -> list[str]:
    """What stands below every table and plot."""
    return [
        "{interpreter}; {machine}; load {load} before and {load at the end} after; {date}; {command}".format_map(about)
        for measured in all_measured
        for about in measured["runs"]
    ]


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def union(all_measured: list[Measured], key: str, name: str) -> list[str]:
    """Names in the order of their first appearance."""
    return list(dict.fromkeys(each[name] for measured in all_measured for each in measured[key]))


def at_most(limit: float | None, *, least: bool = False) -> str:
    return "" if limit is None else f"{'≥' if least else '≤'} {limit:g}"


def judged(value: str, verdict: str) -> str:
    """What fails is bold, what another run may decide otherwise has a question mark."""
    if verdict.startswith("FAILS"):
        value = f"**{value}**"
    return value + (" ?" if verdict.endswith("?") else "")


def targets_table(all_measured: list[Measured]) -> list[str]:
    rows = []
    for name in union(all_measured, "targets", "row"):
        found = [next((row for row in each["targets"] if row["row"] == name), None) for each in all_measured]
        limits = dict.fromkeys(at_most(row["limit"], least=row["least"]) for row in found if row)
        cells = [
            judged(f"{row['ratio']:.3g} ({row['low']:.3g} to {row['high']:.3g})", row["verdict"]) if row else ""
            for row in found
        ]
        rows.append([name, ", ".join(filter(None, limits)), *cells])
    for key, name, value, scale in (
        ("growth", "slowest enqueue while growing, at one key in every run, µs", "slowest", 1000),
        ("memory", "memory of a waiting row at most, operation excluded, bytes", "most", 1),
    ):
        measured = [each.get(key) for each in all_measured]
        if any(measured):
            limit = next(each["limit"] for each in measured if each)
            cells = [judged(f"{each[value] / scale:.4g}", each["verdict"]) if each else "" for each in measured]
            rows.append([name, at_most(limit / scale), *cells])
    return table(["Ratio of medians (quartiles)", "Target", *map(short, all_measured)], rows) if rows else []


def scenarios_table(all_measured: list[Measured]) -> list[str]:
    rows = []
    for name in union(all_measured, "scenarios", "name"):
        found = [next((row for row in each["scenarios"] if row["name"] == name), None) for each in all_measured]
        contenders = dict.fromkeys(contender for each in found if each for contender in each["contenders"])
        for contender in contenders:
            here = [each["contenders"].get(contender) if each else None for each in found]
            rows.append([name, contender, *(f"{each['median']:,.0f}" if each else "" for each in here)])
            name = ""  # noqa: PLW2901 - once per scenario
    header = ["Scenario", "Nanoseconds per operation, median", *map(short, all_measured)]
    return table(header, rows) if rows else []


def write_tables(all_measured: list[Measured], path: Path) -> None:
    sections = [
        ("## Targets", targets_table(all_measured)),
        ("## Side by side", scenarios_table(all_measured)),
    ]
    lines = ["# Performance", "", "Written by `benchmarks/report.py`; benchmarks/README.md says what the rows show."]
    for title, section in sections:
        if section:
            lines += ["", title, "", *section]
    lines += ["", "Measured with", "", *(f"- {line}" for line in below(all_measured))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def operations(all_measured: list[Measured]) -> Figure | None:
    """Time of an operation by contender, the scenarios below each other. Points, as a logarithmic bar has no foot."""
    named = [{each["name"]: each["contenders"] for each in measured["scenarios"]} for measured in all_measured]
    shown = [name for name in SHOWN if any(name in each for each in named)]
    if not shown:
        return None
    contenders = {name: list(dict.fromkeys(c for each in named for c in each.get(name, {}))) for name in shown}
    heights = [len(contenders[name]) + 1 for name in shown]
    figure = Figure(figsize=(9, 0.3 * sum(heights) + 1), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for name, axis in zip(shown, axes, strict=True):
        for number, (measured, each) in enumerate(zip(all_measured, named, strict=True)):
            there = [(y, each[name][c]) for y, c in enumerate(contenders[name]) if c in each.get(name, {})]
            medians = [value["median"] for _, value in there]
            spreads = [
                [max(0, value["median"] - value["quartiles"][0]) for _, value in there],
                [max(0, value["quartiles"][1] - value["median"]) for _, value in there],
            ]
            places = [y + 0.5 * ((number + 0.5) / len(all_measured) - 0.5) for y, _ in there]
            axis.errorbar(medians, places, xerr=spreads, fmt="o", markersize=4, label=short(measured))
        axis.set_title(name, loc="left", fontsize="medium")
        axis.set_yticks(range(len(contenders[name])), contenders[name])
        axis.set_ylim(len(contenders[name]) - 0.5, -0.5)
        axis.set_xscale("log")
    axes[0].legend(fontsize="small")
    axes[-1].set_xlabel("nanoseconds per operation, median and quartiles; logarithmic")
    return figure


def depth(all_measured: list[Measured]) -> Figure | None:
    """Time of an operation by the number of keys that wait."""
    plot = PerFile(all_measured, "keys waiting", "nanoseconds per enqueue + dequeue", logarithmic=True)
    for measured, axis in plot:
        lines: dict[str, list[tuple[int, float]]] = {}
        for each in measured["scenarios"]:
            if found := DEPTH.fullmatch(each["name"]):
                for contender, value in each["contenders"].items():
                    lines.setdefault(contender, []).append((int(found[1].replace(",", "")), value["median"]))
        for contender, points in lines.items():
            if len(points) > 1 and contender in DEEP:
                axis.plot(*zip(*points, strict=True), marker=".", label=contender)
    return plot.finished()


def growth(all_measured: list[Measured]) -> Figure | None:
    """How many calls took at least so long: solid at the same key in every run, dotted in the first run."""
    plot = PerFile(all_measured, "microseconds of one call", "calls that took at least so long", logarithmic=True)
    for measured, axis in plot:
        for contender, each in (measured.get("growth") or {"contenders": {}})["contenders"].items():
            (line,) = axis.plot(*_tail(each["repeated"]), marker=".", label=contender)
            axis.plot(*_tail(each["runs"][0]["tail"]), linestyle=":", color=line.get_color())
        axis.axvline(1000, color="grey", linewidth=0.8)
    return plot.finished()


def memory(all_measured: list[Measured]) -> Figure | None:
    """Bytes of a row by the number of rows that wait, from a tenth of them on."""
    plot = PerFile(all_measured, "rows waiting", "bytes per row, keys and operations not counted")
    for measured, axis in plot:
        for contender, points in (measured.get("memory") or {"contenders": {}})["contenders"].items():
            counted = [point for point in points if point[0] * 10 >= points[-1][0]]
            axis.plot(*zip(*counted, strict=True), label=contender)
        axis.set_ylim(bottom=0)
    return plot.finished()


def _tail(points: list[list[int]]) -> tuple[list[float], list[int]]:
    return [nanoseconds / 1000 for _, nanoseconds in points], [rank for rank, _ in points]


class PerFile:
    """Plots of the same kind beside each other, one for each file."""

    def __init__(self, all_measured: list[Measured], x: str, y: str, *, logarithmic: bool = False) -> None:
        self.all_measured = all_measured
        self.figure = Figure(figsize=(1 + 4 * len(all_measured), 4.5), layout="constrained")
        self.axes = self.figure.subplots(1, len(all_measured), sharex=True, sharey=True, squeeze=False)[0]
        self.axes[0].set_ylabel(y)
        for measured, axis in zip(all_measured, self.axes, strict=True):
            axis.set_title(short(measured), fontsize="medium")
            axis.set_xlabel(x)
            if logarithmic:
                axis.set_xscale("log")
                axis.set_yscale("log")

    def __iter__(self) -> Iterator[tuple[Measured, Any]]:
        return zip(self.all_measured, self.axes, strict=True)

    def finished(self) -> Figure | None:
        """With a legend, or None if there is nothing to see."""
        entries: dict[str, Any] = {}
        for axis in self.axes:
            handles, labels = axis.get_legend_handles_labels()
            entries |= dict(zip(labels, handles, strict=True))
        if not entries:
            return None
        self.figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=4, fontsize="small")
        return self.figure


PLOTS: dict[str, Callable[[list[Measured]], Figure | None]] = {
    "operations": operations,
    "depth": depth,
    "growth": growth,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.json")
    parser.add_argument("--measure", nargs="+", default=[], metavar="PYTHON", help="interpreters with the extra bench")
    parser.add_argument(
        "--json", type=Path, default=Path(), metavar="DIRECTORY", help="the directory for what --measure finds"
    )
    parser.add_argument("--docs", type=Path, default=DOCS, help="the directory to write to")
    options = parser.parse_args()
    if not options.files and not options.measure:
        parser.error("nothing to show: files, or --measure")
    options.json.mkdir(parents=True, exist_ok=True)
    files: list[Path] = options.files
    for number, interpreter in enumerate(options.measure, 1):
        files += measure(interpreter, f"measured-{number}", options.json)
    all_measured = joined([json.loads(path.read_text(encoding="utf-8")) for path in files])
    images = options.docs / "img"
    images.mkdir(parents=True, exist_ok=True)
    written = [options.docs / f"{STEM}-table.md"]
    write_tables(all_measured, written[0])
    # The same files give the same bytes; text stays text.
    with mpl.rc_context({"svg.hashsalt": STEM, "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3}):
        for name, plot in PLOTS.items():
            if figure := plot(all_measured):
                figure.supxlabel("\n".join(below(all_measured)), fontsize=6, x=0, ha="left", wrap=True)
                path = images / f"{STEM}-{name}.svg"
                figure.savefig(path, metadata={"Date": None})
                written.append(path)
    print("\n".join(map(str, written)))


if __name__ == "__main__":
    main()
