"""Reports which lines of the Cython sources the tests reach; fails below 98 percent.

    python proofs/coverage.py [--python PYTHON] [ARGUMENT OF PYTEST...]

Builds a copy of the tree with line tracing (src/trace.h), which counts in every thread and every child process, and
runs the whole suite on the native implementation, or what the arguments choose. That is a proof build, which keeps
nothing for later; some of the tests then run on an ordinary build, which does. Takes a little longer than the suite.
The interpreter (default: this one) needs what `pip install '.[test]' Cython 'setuptools>=77'` installs.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
REQUIRED = 98.0

ORDINARY = ("tests/test_opqueue.py", "tests/test_opqueue_waits.py", "tests/test_opset.py", "tests/test_collection.py")

OUT_OF_REACH = re.compile(r'\s*(return b"|async def )')
"""Only a broken kernel gets to what says so, which planted faults show; and of the function that is a coroutine only
the body is traced.
"""


def main() -> int:
    """Build, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as directory:
        tree, reached = Path(directory, "tree"), Path(directory, "lines")
        subprocess.run([TREE / ".ci" / "copy", tree], check=True)
        status = 0
        for proof, tests in (("1", rest), ("", ORDINARY)):
            environment = os.environ | {
                "INFLIGHT_TRACE": "1",
                "INFLIGHT_PROOF": proof,
                "INFLIGHT_LINES": str(reached),
                "PYTHONPATH": str(tree),
            }
            build = [arguments.python, "setup.py", "-q", "build_ext", "--inplace"]
            subprocess.run(build, cwd=tree, env=environment, check=True)
            test = [arguments.python, "-m", "pytest", "-q", "--impl", "native", *tests]
            status = subprocess.run(test, cwd=tree, env=environment, check=False).returncode or status
        (generated,) = tree.glob("build/*/src/_native.c")
        share = report(generated.read_text(), reached.read_text(), tree)
    return status or share < REQUIRED


def report(generated: str, reached: str, tree: Path) -> float:
    """Print a table of files and missing lines; the percentage of all lines that were reached."""
    names = re.findall(r'"(.*)"', re.search(r"__pyx_f\[\] = \{(.*?)\};", generated, re.DOTALL)[1])
    lines = {(int(f), int(line)) for f, line in re.findall(r"__Pyx_TraceLine\(.*__PYX_ERR\((\d+), (\d+),", generated)}
    hit = {tuple(map(int, each.split())) for each in reached.splitlines()}
    missing, total = defaultdict(list), defaultdict(int)
    sources = {name: (tree / name).read_text().splitlines() for name in names if (tree / name).is_file()}
    for file, line in sorted(lines):
        name = names[file]
        if name in sources and not OUT_OF_REACH.match(sources[name][line - 1]):
            total[name] += 1
            if (file, line) not in hit:
                missing[name].append(line)
    print(f"{'':24}  lines  missed")
    for name in sorted(total):
        print(f"{name:24} {total[name]:6} {len(missing[name]):7}  {spans(missing[name])}")
    share = 100 * (1 - sum(map(len, missing.values())) / sum(total.values()))
    print(f"{share:.2f} % of {sum(total.values())} lines were reached")
    return share


def spans(numbers: list[int]) -> str:
    """``1-3, 7`` for 1, 2, 3, 7."""
    starts = [b for a, b in pairwise([-1, *numbers]) if b - a > 1]
    ends = [a for a, b in pairwise([*numbers, sys.maxsize]) if b - a > 1]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


if __name__ == "__main__":
    sys.exit(main())
