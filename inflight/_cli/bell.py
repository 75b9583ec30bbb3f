"""What wakes the main thread: a signal that asks the program to end, or a thread that rings."""

from __future__ import annotations

import contextlib
import signal
import socket
from types import FrameType
from typing import Self

# Those that end a program that does nothing about them, and are sent for no other reason.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM")


class Bell:
    """``with bell:``, the signals that ask a program to end ring it with their number.

    Every ring is a byte in a socket, written by the interpreter's own handler at the instant of
    the signal. A handler that raised instead would be late where the main thread is about to
    block, and would raise at any point of any code.
    """

    def __init__(self) -> None:
        self.signalled = False
        self._inside, self._outside = socket.socketpair()
        self._outside.setblocking(False)
        signals = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        before = {signum: signal.getsignal(signum) for signum in signals}
        # What nohup and the like ignore stays ignored.
        self._before = {signum: handler for signum, handler in before.items() if handler is not signal.SIG_IGN}

    def ring(self, value: int) -> None:
        """Ring with a value that is no signal's number."""
        # So many rings that one more makes no difference, or nobody listens any more.
        with contextlib.suppress(OSError):
            self._outside.send(bytes([value]))

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the next ring and return its value; ``None`` after ``timeout`` seconds without."""
        self._inside.settimeout(timeout)
        try:
            return self._inside.recv(1)[0]
        except (TimeoutError, BlockingIOError):  # the latter after a timeout of 0
            return None

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._outside.fileno(), warn_on_full_buffer=False)
        for signum in self._before:
            signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(-1)
        self._outside.close()
        self._inside.close()

    def _note(self, _signum: int, _frame: FrameType | None) -> None:
        """Only a signal with a handler rings."""
        self.signalled = True
