"""The command line: ``inflight run``, an xargs that merges duplicates.

It is written on the public API alone, as any other program would use it: ``args`` is what the user
asked for, ``run`` the reader, the queue and the workers, ``progress`` what is shown meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .args import parse
from .progress import progress
from .run import Runner

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    _replace_closed_streams()
    options = parse(sys.argv[1:] if arguments is None else arguments)
    with progress(quiet=options.json) as shown:
        runner = Runner(options, shown)
        status = runner.run()
    summary = runner.summary()
    print(summary.as_json() if options.json else summary, file=sys.stderr)
    return status


def _replace_closed_streams() -> None:
    """Occupy the descriptors of standard streams that were closed (``<&-``, ``>&-``, ``2>&-``).

    The next files and sockets would get these numbers, and what is written to an output would go there.
    Reading and writing fails as it should, by the wrong mode; what is said on stderr is dropped.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
