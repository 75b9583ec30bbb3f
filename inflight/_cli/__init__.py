"""The command line: ``inflight run``, an xargs that merges duplicates.

It is written on the public API alone, as any other program would use it: ``args`` is what the user
asked for, ``run`` the reader, the queue and the workers, ``progress`` what is shown meanwhile.
"""

from __future__ import annotations

import contextlib
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
    _say_at_last(summary.as_json() if options.json else str(summary))
    return status


def _say_at_last(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        # Nobody can be told. At its exit the interpreter tries again, and would end with a status of its own.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


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
