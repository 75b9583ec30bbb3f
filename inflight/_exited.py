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


class _Exited(Coroutine[Any, Any, None]):
    """A coroutine that is at its end, and has nothing to say, as often as it is awaited."""

    __slots__ = ()

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
            raise kind
        raise (value if isinstance(value, BaseException) else kind()).with_traceback(traceback)

    def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return "<coroutine __aexit__, ended>"


EXITED = _Exited()
"""The only one."""
