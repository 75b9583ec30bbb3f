"""The reader, the queue and the workers of ``inflight run``.

One thread reads. Each line becomes an operation and is enqueued under its key in an exclusive
OpWindow; a worker takes a row, runs the command for it, counts what became of its lines, and gives
the key back. Nothing refers to them any more then, so that endless input needs no endless memory.
Reading pauses while the queue is full. Nothing is polled. The main thread waits for the end, or to
be asked for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import sys
import threading
import time
from dataclasses import asdict, dataclass
from subprocess import CalledProcessError
from typing import Any

from .. import (
    IMPLEMENTATION,
    Op,
    OpCancelledError,
    OpSet,
    OpWindow,
    QueueClosedError,
    QueueSaturatedWidthError,
)
from .args import BAD_USAGE, Options
from .bell import Bell
from .command import Commands
from .progress import Progress

COMMAND_FAILED = 123
OUTPUT_CLOSED = 141  # as the shell reports a process that SIGPIPE ended
GRACE_SECONDS = 3.0
STDOUT, STDERR = 1, 2
# What the main thread is told; other values are signals.
DONE, ABORTED = 0, 255


@dataclass(frozen=True)
class Summary:
    """What became of the lines: skipped (no key), cancelled, or answered. Merged is who joined another in its row."""

    lines: int
    skipped: int
    merged: int
    runs: int
    failures: int
    cancelled: int
    seconds: float
    operations_per_second: float
    implementation: str
    first_failure: str | None

    def __str__(self) -> str:
        parts = [f"{self.lines} lines read", f"{self.merged} merged", f"{self.runs} runs", f"{self.failures} failures"]
        parts += [f"{self.skipped} skipped"] if self.skipped else []
        parts += [f"{self.cancelled} cancelled"] if self.cancelled else []
        parts += [f"{self.operations_per_second} operations per second", self.implementation]
        return f"inflight: {', '.join(parts)}"

    def as_json(self) -> str:
        """The summary as one JSON object on one line."""
        return json.dumps(asdict(self))


class Runner:
    """One run, from the first line to the last answer."""

    def __init__(self, options: Options, progress: Progress) -> None:
        self._options = options
        self._progress = progress
        self._bell = Bell()
        self._commands = Commands()
        self._queue: OpWindow[str] = OpWindow(options.depth, options.width, options.window, exclusive=True)
        self._started = time.monotonic()
        # Set whenever a row leaves the queue, which makes room under its key.
        self._moved = threading.Event()
        # Written by the reader alone.
        self._lines = self._skipped = 0
        # Guarded by the lock.
        self._lock = threading.Lock()
        self._working = options.workers
        self._runs = self._failures = self._answered = 0
        self._first_failure: str | None = None
        self._abort_status: int | None = None

    def run(self) -> int:
        """Read everything and wait for all of it; returns the exit status. For the main thread."""
        with self._bell:
            try:
                self._start()
                rung = self._bell.wait()
            finally:
                self._end()
        if rung is not None and rung not in (DONE, ABORTED):
            return 128 + rung
        if self._abort_status is not None:
            return self._abort_status
        return COMMAND_FAILED if self._failures else 0

    def _start(self) -> None:
        # Daemons: nobody can end a thread that waits for input.
        started = 0
        try:
            threading.Thread(target=self._read, daemon=True).start()
            while started < self._options.workers and not self._bell.signalled:
                threading.Thread(target=self._work, daemon=True).start()
                started += 1
        except RuntimeError as error:
            if started == 0:
                self._abort(BAD_USAGE, f"cannot work: {error}")
            else:
                self._progress.say(f"works with {started} in parallel: {error}")
        if started < self._options.workers:
            self._ended(self._options.workers - started)

    def summary(self) -> Summary:
        """What became of the lines, so far."""
        seconds = time.monotonic() - self._started
        with self._lock:
            return Summary(
                lines=self._lines,
                skipped=self._skipped,
                merged=self._queue.stats().merged,
                runs=self._runs,
                failures=self._failures,
                cancelled=self._lines - self._skipped - self._answered,
                seconds=round(seconds, 3),
                operations_per_second=round(self._answered / seconds, 1) if seconds else 0.0,
                implementation=IMPLEMENTATION,
                first_failure=self._first_failure,
            )

    # The reader.

    def _read(self) -> None:
        try:
            with self._options.input as lines:
                for line in lines:
                    self._accept(line)
        except QueueClosedError:
            pass  # the end was asked for
        except Exception as error:
            self._abort(BAD_USAGE, f"cannot read: {error}")
        else:
            self._queue.close()  # lets the workers end when nothing is left

    def _accept(self, line: str) -> None:
        self._lines += 1
        key = self._options.key(line.removesuffix("\n"))
        if key:
            self._enqueue(key, Op(key, line))
            return
        self._skipped += 1
        if self._skipped == 1:
            self._progress.say(f"line {self._lines} has no key: skipped (others will only be counted)")

    def _enqueue(self, key: str, op: Op[str, str, Any]) -> None:
        while True:
            self._moved.clear()
            try:
                # Waits for depth; a full row is refused at once and has to be waited for here.
                self._queue.enqueue(key, op, timeout=None)
                return
            except QueueSaturatedWidthError:
                self._moved.wait()
            except QueueClosedError:
                op.cancel()
                raise

    # The workers.

    def _work(self) -> None:
        for row in self._queue:
            self._moved.set()
            try:
                with row:  # ends with the key given back; what the block raises is its operations' error
                    self._run(row)
                    row.finish_all()
            except OpCancelledError:
                continue
            except Exception as error:  # whatever it was, this row failed and the next one need not
                self._failed(row.key, error)
            with self._lock:
                self._answered += len(row)
            self._show()
        self._ended(1)

    def _ended(self, workers: int) -> None:
        with self._lock:
            self._working -= workers
            last = self._working == 0
        if last:
            self._bell.ring(DONE)

    def _run(self, row: OpSet) -> None:
        if self._commands.ending:
            raise OpCancelledError
        with self._lock:
            self._runs += 1
        command = [argument.replace("{}", row.key) for argument in self._options.command]
        lines = "".join(op.msg if op.msg.endswith("\n") else op.msg + "\n" for op in row)
        status, out, err = self._commands.run(command, lines.encode(sys.getfilesystemencoding(), "surrogateescape"))
        self._write(out, err)
        if status != 0:
            if self._commands.ending:
                raise OpCancelledError
            raise CalledProcessError(status, shlex.join(command))

    def _write(self, out: bytes, err: bytes) -> None:
        if not out and not err:
            return
        try:
            with self._progress.writing():
                with contextlib.suppress(OSError):
                    _write(STDERR, err)
                _write(STDOUT, out)
        except BrokenPipeError:
            self._abort(OUTPUT_CLOSED)
            raise
        except OSError as error:
            self._abort(BAD_USAGE, f"cannot write: {error.strerror}")
            raise

    def _failed(self, key: str, error: Exception) -> None:
        message = f"{key!r}: {error}"
        with self._lock:
            self._failures += 1
            self._first_failure = self._first_failure or message
        self._progress.say(message)

    def _show(self) -> None:
        now = self._queue.stats()
        state = f"{self._runs} runs, {self._failures} failures, {now.keys} keys waiting"
        self._progress.update(now.enqueued, now.dequeued_ops, state)

    # The end.

    def _abort(self, status: int, message: str | None = None) -> None:
        with self._lock:
            first = self._abort_status is None
            self._abort_status = status if first else self._abort_status
        if first:
            if message is not None:
                self._progress.say(message)
            self._bell.ring(ABORTED)

    def _end(self) -> None:
        self._queue.close()
        self._commands.end()
        self._moved.set()
        with self._lock:
            if self._working == 0:
                return
        # Until the commands have ended, or the user asks twice, or patience does. That output cannot be written, which
        # rings once, does not cost those who are ending their time.
        patience = time.monotonic() + GRACE_SECONDS
        rung = self._bell.wait(GRACE_SECONDS)
        if rung == ABORTED:
            rung = self._bell.wait(max(0.0, patience - time.monotonic()))
        if rung != DONE:
            self._commands.end(force=True)
            self._bell.wait(GRACE_SECONDS)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Whoever reads it, or shares it, has set it so.
            select.select([], [fd], [])
