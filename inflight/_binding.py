"""What the compiled methods say about arguments that do not fit: the same as Python does of the pure ones.

A compiled method takes its arguments apart itself, with messages of its own. One that raises TypeError
asks here whether its twin could have been called like that.
"""

from __future__ import annotations

from typing import Any


def misfit(cls: str, method: str, /, *arguments: Any, **keywords: Any) -> str | None:
    """The text of the TypeError, ``self`` being the first argument; ``None`` if they do fit. O(arguments)."""
    # Not before it is needed: no import of the compiled implementation pays for the pure one, nor for inspect.
    from inspect import signature

    from . import _pure

    twin = getattr(getattr(_pure, cls), method)
    try:
        signature(twin).bind(*arguments, **keywords)
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
