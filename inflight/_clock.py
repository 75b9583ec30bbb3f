"""The clock of windows and timeouts.

A queue takes ``monotonic`` from here when it is made and measures its windows with it, so that
tests put a clock of their own in its place before they make a queue, and step windows instead
of sleeping through them. Parked waits always last real time.
"""

import sys
from time import monotonic

__all__ = ["LOOK_INTERVAL", "monotonic"]

LOOK_INTERVAL = 0.05 if sys.platform == "win32" else 1.0
"""Seconds after which the main thread, while it is parked, looks for signals of its own accord.

A signal that arrives just before a thread blocks does not end the block, and on Windows none does.
"""
