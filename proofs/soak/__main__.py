"""A soak: everything at once, for minutes, with exact books and flat memory.

    python proofs/soak [--minutes 10 | --seconds S] [--impl native|pure] [--seed N]

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
# ruff: noqa: D103 - a script, whose help is above

from __future__ import annotations

import argparse
import faulthandler
import importlib
import logging
import os
import sys
import warnings


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seconds", type=float, help="the same in seconds, for a smoke test")
    parser.add_argument("--impl", choices=("native", "pure"), help="default: the one that `import inflight` chooses")
    parser.add_argument("--seed", type=int, default=1, help="of what the threads choose (default: 1)")
    parser.add_argument("--margin", type=float, default=4.0, help="MiB of resident memory (default: 4)")
    options = parser.parse_args()
    if options.impl:
        os.environ["INFLIGHT_IMPL"] = options.impl
    # They import inflight, so not before the implementation is chosen.
    inflight, rounds = map(importlib.import_module, ("inflight", "rounds"))
    faulthandler.enable()
    # Abandoned operations, calls never awaited, and callbacks that raise are what this is about.
    warnings.simplefilter("ignore")
    logging.getLogger("inflight").disabled = True
    gil = "" if not hasattr(sys, "_is_gil_enabled") else f", GIL {'on' if sys._is_gil_enabled() else 'off'}"
    print(f"inflight {inflight.__version__} {inflight.IMPLEMENTATION}, Python {sys.version.split()[0]}{gil}, "
          f"seed {options.seed}, {os.cpu_count()} processors", flush=True)  # fmt: skip
    seconds = options.minutes * 60 if options.seconds is None else options.seconds
    return rounds.soak(seconds, options.seed, options.margin)


if __name__ == "__main__":
    sys.exit(main())
