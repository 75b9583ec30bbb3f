"""Chooses the implementation, once, at import.

``INFLIGHT_IMPL`` unset: the compiled one if it was built, else the pure one.
``native``: the compiled one, or ImportError. ``pure``: the pure one. Anything else: ImportError.

Only the *absence* of the extension falls back silently. One that is there and does not load
(built for another interpreter, a missing library) is a broken installation, and says so.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import TYPE_CHECKING, Literal

from . import _results

__all__ = ["IMPLEMENTATION", "CallGroup", "DedupeQueue", "Op", "OpQueue", "OpSet", "OpWindow"]

IMPLEMENTATION: Literal["native", "pure"]


def _choose() -> Literal["native", "pure"]:
    asked = os.environ.get("INFLIGHT_IMPL")
    if asked == "pure":
        return "pure"
    if asked not in ("native", None):
        raise ImportError(f"INFLIGHT_IMPL must be 'native', 'pure' or unset, not {asked!r}")
    name = f"{__package__}._native"
    if asked is None and importlib.util.find_spec(name) is None:
        return "pure"
    try:
        importlib.import_module(name)
    except Exception as error:
        if asked == "native":
            raise ImportError(
                f"INFLIGHT_IMPL=native, but the compiled implementation cannot be imported: {error}"
            ) from error
        warnings.warn(
            f"the compiled implementation of inflight is installed but cannot be imported, "
            f"using the pure-Python one: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return "pure"
    return "native"


IMPLEMENTATION = _choose()

# Type checkers read the pure implementation: there is no second set of annotations.
if TYPE_CHECKING or IMPLEMENTATION == "pure":
    from ._pure import CallGroup, DedupeQueue, Op, OpQueue, OpSet, OpWindow
else:
    from ._native import CallGroup, DedupeQueue, Op, OpQueue, OpSet, OpWindow

# What its annotations name, for whoever evaluates them: it is there before these classes are.
vars(_results).update(CallGroup=CallGroup, Op=Op)
