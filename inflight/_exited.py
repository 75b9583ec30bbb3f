"""What ``__aexit__`` returns to be awaited: shared by both implementations.

A block is left in the call itself, so that leaving takes no more than it does without ``async``. A coroutine
for it would have to be made, and run, first: without the memory for that, whoever wants to leave would stay.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, NoReturn, cast

__all__ = ["EXITED"]

_NOTHING = cast("Generator[Any, Any, None]", iter(()))
# At its end it says so without writing anything: any number of threads may ask.
next(_NOTHING, None)


class _Exited(Coroutine[Any, Any, None]):
    """A coroutine that is at its end, and has nothing to say, as often as it is awaited."""

    def __init__(self) -> None:
        # Where asyncio looks for what to call it.
        self.__name__ = self.__qualname__ = "__aexit__"

    def __await__(self) -> Generator[Any, Any, None]:
        return _NOTHING

    def send(self, _: Any, /) -> NoReturn:
        raise StopIteration

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> NoReturn:
        if isinstance(kind, BaseException):
            error = kind
        elif isinstance(value, BaseException):
            error = value
        else:
            error = kind() if value is None else kind(value)
        raise error if traceback is None else error.with_traceback(traceback)

    def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return "<coroutine __aexit__, ended>"


EXITED = _Exited()
"""The only one."""
