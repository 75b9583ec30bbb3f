"""What scripts with signals need: pressing Ctrl-C when a state has come, alarms, and the kinds of queues."""

from __future__ import annotations

import textwrap
from typing import Any

from helpers import run_script

TOOLS = """
import signal

def interrupt_when(state):
    '''Press Ctrl-C when the state has come.'''
    pressed = threading.Event()
    def on_press(number, frame):
        if not pressed.is_set():
            pressed.set()
            raise KeyboardInterrupt
    signal.signal(signal.SIGINT, on_press)
    def press():
        while not state():
            time.sleep(0.001)
        # Again, because CPython misses a signal that comes just before a thread blocks.
        while not pressed.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
    thread = threading.Thread(target=press)
    thread.start()
    return thread

def interrupt_soon(seconds=0.05):
    '''Ctrl-C, for waits that no statistics show.'''
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)

def on_alarm(function, seconds, interval=0.0):
    '''Call it once, or again and again, each time so long after the last has begun, or has ended.'''
    depth = 0
    def on_signal(number, frame):
        nonlocal depth
        depth += 1
        try:
            # It is interrupted itself, but not without an end where everything is slow.
            if interval and depth < 4:
                signal.setitimer(signal.ITIMER_REAL, interval)
            function()
        finally:
            depth -= 1
            if interval:
                signal.setitimer(signal.ITIMER_REAL, interval)
    signal.signal(signal.SIGALRM, on_signal)
    signal.setitimer(signal.ITIMER_REAL, seconds)

def stop_alarm():
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)

QUEUES = {
    "OpQueue": lambda depth: OpQueue(depth, None),
    "DedupeQueue": lambda depth: DedupeQueue(depth, None),
    "OpWindow": lambda depth: OpWindow(depth, None, 1000),
}
"""


def run(impl: Any, source: str, timeout: float = 60.0) -> None:
    run_script(impl, TOOLS + textwrap.dedent(source), timeout=timeout)
