"""The command line: ``inflight run``, an xargs that merges duplicates.

It is written on the public API alone, as any other program would use it: ``args`` is what the user
asked for, ``run`` the reader, the queue and the workers, ``progress`` what is shown meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .args import parse
from .progress import progress
from .run import Runner

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    with progress(quiet=options.json) as shown:
        runner = Runner(options, shown)
        status = runner.run()
    summary = runner.summary()
    print(summary.as_json() if options.json else summary, file=sys.stderr)
    return status
