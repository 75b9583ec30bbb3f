"""The commands that run: started in sessions of their own, so that all they start ends with them.

Nor have they the terminal: in a mere process group, one that reads it would be stopped, without a word, for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_APART: dict[str, Any]
if sys.platform == "win32":
    _APART = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _APART = {"start_new_session": True}


class Commands:
    """Runs commands for any number of threads, until they are told to end.

    No lock: a child is added before ``ending`` is read, and ``ending`` is set before the children
    are read, so that none is overlooked; and a signal handler may call ``end`` at any instant.
    """

    def __init__(self) -> None:
        self.ending = False
        self._children: set[subprocess.Popen[bytes]] = set()

    def run(self, command: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        """Run ``command`` to its end; returns its status and what it wrote to stdout and stderr.

        :raises OSError: if it cannot be started.
        :raises ValueError: if an argument contains a NUL.
        """
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, **_APART)
        self._children.add(child)
        try:
            if self.ending:
                _end(child, force=False)
            with child:
                out, err = child.communicate(stdin)
        finally:
            self._children.discard(child)
        return child.returncode, out, err

    def end(self, *, force: bool = False) -> None:
        """Ask the commands that run, and any started from now on, to end; with ``force``, kill them."""
        self.ending = True
        for child in self._children.copy():
            _end(child, force=force)


def _end(child: subprocess.Popen[bytes], *, force: bool) -> None:
    if sys.platform == "win32":
        child.terminate()
    else:
        # The group and not only its leader, which may be gone while what it started holds the pipes.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL if force else signal.SIGTERM)
