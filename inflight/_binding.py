"""What the compiled methods say about arguments that do not fit: the same as Python does of the pure ones.

A compiled method takes its arguments apart itself, with messages of its own. Where one seems to be raised
(src/binding.pxi), this is asked whether the method's twin could have been called like that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature


def misfit(cls: str, method: str, /, *arguments: Any, **keywords: Any) -> str | None:
    """The text of the TypeError, ``self`` being the first argument; ``None`` if they do fit. O(arguments)."""
    twin, signature = _twin(cls, method)
    try:
        signature.bind(*arguments, **keywords)
    except TypeError:
        pass
    else:
        return None
    try:
        # Raises before its first line, as has just been seen.
        twin(*arguments, **keywords)
    except TypeError as error:
        return str(error)
    return None


@cache
def _twin(cls: str, method: str) -> tuple[Callable[..., Any], Signature]:
    # Not imported before it is needed: the compiled implementation has no other use for these.
    from inspect import signature

    from . import _pure

    twin = getattr(getattr(_pure, cls), method)
    return twin, signature(twin)
