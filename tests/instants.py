"""Signals that arrive at a chosen bytecode of the package: the n-th that a call runs, for n = 1, 2, ...

A trace function counts the bytecodes, and at the n-th it does what the arrival of a signal does: it sets the
flag that the interpreter looks at. Where the handler runs is then up to the interpreter: at its next look, as
for a real signal. So every place where a signal can come in between is met, and no other; and what a handler
raises there is handled by the blocks that would handle it.

Assumes CPython, the main thread, and that reading an attribute runs no signal handler: whatever the trace
function called after the signal would run it there. Python code only: of the compiled implementation there is
nothing to count.
"""

from __future__ import annotations

import _thread
import contextlib
import dis
import gc
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import inflight

# Bytecodes at which the interpreter does not look for signals.
_BLIND = {
    number
    for name, number in dis.opmap.items()
    if name in ("NOP", "CACHE", "COPY", "SWAP", "PUSH_NULL", "PRECALL", "KW_NAMES", "IS_OP", "JUMP_FORWARD")
    or name.startswith(
        (
            "LOAD_FAST",
            "LOAD_CONST",
            "LOAD_GLOBAL",
            "LOAD_DEREF",
            "LOAD_CLOSURE",
            "STORE_FAST",
            "POP_",
            "BUILD_",
            "RETURN_",
            "MAKE_",
            "COPY_",
            "UNPACK_SEQUENCE",
        )
    )
}

PACKAGE = str(Path(inflight.__file__).parent)


class _Number(int):
    arrives = property(_thread.interrupt_main)


_SIGINT = _Number(signal.SIGINT)


class Instants:
    """Runs calls with one signal each, whose handler calls ``action``."""

    def __init__(self) -> None:
        self.action: Callable[[], object] = interrupt
        self.struck: set[tuple[Any, int]] = set()
        """Where the handler has run: code and position."""
        self._codes: dict[Any, bytes] = {}
        self.last = ""
        """The last of these, to be shown."""
        self.at_entry = False
        self._count = 0
        self._at = 0
        self._armed = False

    def run(self, number: int, call: Callable[[], Any]) -> tuple[bool, Any, BaseException | None]:
        """``call()`` with a signal at bytecode ``number``.

        :return: whether there were so many; what it returned; what it raised.
        """
        self._count, self._at = 0, number
        self._armed = True
        value: Any = None
        error: BaseException | None = None
        sys.settrace(self._trace)
        try:
            # Between the return of the call and this assignment the interpreter does not look.
            value = call()
        except BaseException as caught:
            error = caught
        # Where it looks at the latest: that was after the call.
        try:
            sys.settrace(None)
        except KeyboardInterrupt:
            sys.settrace(None)
        self._armed = False
        try:
            return self._count >= number, value, error
        finally:
            # Its traceback refers to this frame.
            del error

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within a call: what another thread would do, which is not to be counted."""
        tracing = sys.gettrace()
        sys.settrace(None)
        try:
            yield
        finally:
            if self._count < self._at:
                sys.settrace(tracing)

    def _trace(self, frame: Any, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        # In this order, or CPython 3.13 counts nothing.
        frame.f_trace = self._count_opcodes
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._count_opcodes

    def _count_opcodes(self, frame: Any, event: str, argument: object) -> Any:
        if event == "opcode":
            code = frame.f_code
            codes = self._codes.get(code)
            if codes is None:
                codes = self._codes[code] = code.co_code
            if codes[frame.f_lasti] in _BLIND:
                # A signal before it is handled where one before the next is.
                return self._count_opcodes
            self._count += 1
            if self._count == self._at:
                sys.settrace(None)
                return _SIGINT.arrives
        return self._count_opcodes

    def _handle(self, number: int, frame: Any) -> None:
        if self._armed:
            self._armed = False
            self.struck.add((frame.f_code, frame.f_lasti))
            self.at_entry = frame.f_lineno == frame.f_code.co_firstlineno
            self.last = f"{frame.f_code.co_name}:{frame.f_lineno} of {frame.f_code.co_filename}"
            self.action()


def interrupt() -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def instants() -> Iterator[Instants]:
    """The handler of SIGINT is ours meanwhile."""
    made = Instants()
    traced = sys.gettrace()
    before = signal.signal(signal.SIGINT, made._handle)
    # What a handler raises at the entry of a finalizer is swallowed by the interpreter, which says so.
    gc.collect()
    gc.disable()
    told, sys.unraisablehook = sys.unraisablehook, lambda caught: None
    try:
        yield made
    finally:
        sys.unraisablehook = told
        gc.enable()
        signal.signal(signal.SIGINT, before)
        sys.settrace(traced)
