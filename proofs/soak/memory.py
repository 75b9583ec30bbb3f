"""What is alive and in use, as the interpreter, the system and the C library tell it."""
# ruff: noqa: D103 - a script, whose help is in __main__.py

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections import Counter
from typing import Any


def collect() -> None:
    # A finalizer of one round may make garbage for the next.
    for _ in range(3):
        gc.collect()


def live_objects() -> Counter[str]:
    kinds = Counter(map(type, gc.get_objects()))
    # Not of metaclasses, which have a property there.
    return Counter({kind.__name__: n for kind, n in kinds.items() if str(kind.__module__).startswith("inflight")})


def resident() -> float:
    """Memory in MiB."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
    except OSError:
        import resource

        # The peak, which is flat if memory is.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


class MallocInfo(ctypes.Structure):
    """What glibc's mallinfo2() answers."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "_")
    )


class Heap:
    """The C heap, where it is glibc's: there, what is in use can be told from what is kept for later."""

    def __init__(self) -> None:
        self._libc: Any = None
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallinfo2.restype = MallocInfo
            # One arena: those of the threads fragment, each of them, for longer than this runs.
            libc.mallopt(-8, 1)
            self._libc = libc

    def in_use(self) -> float:
        """In MiB, of which all that is free has been given back; 0 where nobody tells."""
        if self._libc is None:
            return 0.0
        self._libc.malloc_trim(0)
        info = self._libc.mallinfo2()
        return (info.uordblks + info.hblkhd) / 2**20
