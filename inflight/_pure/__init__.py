"""The implementation in plain Python, for where no extension can be had.

Bottom up: waiters.py and outcome.py are what everything waits with; op.py, callgroup.py and
opset.py are the operations; rows.py, lines.py and engine.py are the one queue, of which
opqueue.py, dedupequeue.py and opwindow.py are the three public faces.
"""

from .callgroup import CallGroup
from .dedupequeue import DedupeQueue
from .op import Op
from .opqueue import OpQueue
from .opset import OpSet
from .opwindow import OpWindow

__all__ = ["CallGroup", "DedupeQueue", "Op", "OpQueue", "OpSet", "OpWindow"]
