"""What is shown on stderr during a run: a bar on a terminal that has rich, else plain text."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

INTERVAL = 10.0


class Progress:
    """Plain text: messages, and a line every ten seconds. Quiet: neither.

    ``lock`` is held by whoever writes, so that the output of one run stays in one piece.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.lock = threading.RLock()
        self._due = time.monotonic() + INTERVAL

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The block may write to stdout and stderr."""
        with self.lock:
            yield

    def say(self, message: str) -> None:
        """Print a message."""
        if not self.quiet:
            with self.writing(), contextlib.suppress(OSError):
                print(f"inflight: {message}", file=sys.stderr, flush=True)

    def update(self, read: int, done: int, state: str) -> None:
        """Show that of the lines ``read`` so far, ``done`` are done."""
        with self.lock:
            if time.monotonic() < self._due:
                return
            self._due = time.monotonic() + INTERVAL
        self.say(f"{done} of {read} lines so far, {state}")

    def close(self) -> None:
        """Leave nothing unfinished on the terminal."""


class Bar(Progress):
    """A progress bar, taken away while anything else is written."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        super().__init__(quiet=quiet)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("lines, {task.description}"), TimeElapsedColumn())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self._task = self._bar.add_task("reading", total=None)
        self._bar.start()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        with self.lock:
            self._bar.stop()
            try:
                yield
            finally:
                self._bar.start()

    def update(self, read: int, done: int, state: str) -> None:
        self._bar.update(self._task, total=read, completed=done, description=state)

    def close(self) -> None:
        self._bar.stop()


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """What fits this process's stderr, for as long as the block runs."""
    shown: Progress | None = None
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            shown = Bar(quiet=quiet)
    shown = shown or Progress(quiet=quiet)
    try:
        yield shown
    finally:
        shown.close()
