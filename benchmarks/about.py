"""Where a measurement was made: what has to stand under every number."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import sys
import sysconfig
import time
from pathlib import Path

from scenarios import GIL

RIVALS = ("janus", "culsans", "aiologic")


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _cores() -> int:
    """That this process may use: `taskset` leaves one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> str:
    found = []
    for name in RIVALS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def about() -> dict[str, str]:
    built = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "with" if "--enable-optimizations" in built else "without"
    return {
        "interpreter": f"{platform.python_implementation()} {platform.python_version()}"
        f"{'' if GIL else ' free-threaded'}, built {optimised} profile-guided optimisation,"
        f" {platform.python_compiler()}",
        "machine": f"{_processor()}, {_cores()} cores, {platform.system()} {platform.machine()}",
        "rivals": _versions(),
        "command": shlex.join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown",
    }
