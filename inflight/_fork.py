"""The process-wide fork generation.

After ``os.fork`` the child holds copies of queues, groups and operations whose locks may be held,
and whose lists may contain waiters, of threads that do not exist in the child. Every lock and
every waiter is stamped with the generation it was made in; one from an older generation is
replaced or ignored by whoever meets it next. This needs no registry of live objects, which would
cost every object something and could itself be caught half-changed by the fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable

generation = 0


def in_child(function: Callable[[], None]) -> Callable[[], None]:
    """Have ``function`` called in every child of a fork, after what was registered before."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


@in_child
def _enter_child() -> None:
    global generation
    generation += 1
