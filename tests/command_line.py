"""Runs of the command line, as a user starts them: in processes of their own, with real commands."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from helpers import HANG

# As helpers.run_python: this process's installation, and no current directory on the path.
PYTHON = (sys.executable, "-I" if sys.flags.isolated else "-P")
MODULE = (*PYTHON, "-m", "inflight")
# A process started in the background may have inherited that Ctrl-C and the like are ignored.
HEED_SIGNALS = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
for each in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(each, signal.SIG_DFL)
runpy.run_module("inflight", run_name="__main__", alter_sys=True)
"""


class Cli:
    """Runs ``inflight run`` with an implementation, in a directory."""

    def __init__(self, implementation: str, directory: Path) -> None:
        self.directory = directory
        self.environment = os.environ | {"INFLIGHT_IMPL": implementation}

    def __call__(
        self,
        *arguments: str | Path,
        lines: str | bytes = b"",
        cwd: Path | None = None,
        redirected: str = "",
        module: tuple[str, ...] = MODULE,
    ) -> subprocess.CompletedProcess[bytes]:
        """A run; ``redirected`` is what a shell does to its standard streams before."""
        shell = ("sh", "-c", f'exec "$@" {redirected}', "sh") if redirected else ()
        return subprocess.run(
            [*shell, *module, "run", *arguments],
            input=lines.encode() if isinstance(lines, str) else lines,
            cwd=cwd or self.directory,
            env=self.environment,
            capture_output=True,
            timeout=HANG,
            check=False,
        )

    def summary(self, *arguments: str | Path, lines: str | bytes = b"") -> dict[str, Any]:
        """The summary of a run that must end with status 0 and write nothing else to stderr."""
        done = self("--json", *arguments, lines=lines)
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stderr)
        assert isinstance(summary, dict)
        return summary

    @contextlib.contextmanager
    def started(
        self,
        *arguments: str | Path,
        stdin: int = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A run that goes on while the block runs, reading a pipe."""
        with subprocess.Popen(
            [*PYTHON, "-c", HEED_SIGNALS, "run", *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=self.directory,
            env=self.environment,
        ) as process:
            hang = threading.Timer(HANG, process.kill)
            hang.start()
            try:
                yield process
            finally:
                hang.cancel()
                process.kill()


def feed(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.flush()


def output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit status and stderr of a process that ends although its input does not."""
    status = process.wait(HANG)
    return status, process.stderr.read().decode() if process.stderr else ""
