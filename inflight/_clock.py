"""The clock of windows and timeouts.

A queue takes ``monotonic`` from here when it is made and measures its windows with it, so that
tests put a clock of their own in its place before they make a queue, and step windows instead
of sleeping through them. Parked waits always last real time.
"""

from time import monotonic

__all__ = ["monotonic"]
