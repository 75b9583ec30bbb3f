"""What operations and groups do, in the simplest way that can be: see model.py."""

from __future__ import annotations

from inflight import AlreadyFinishedError, GroupClosedError, OpAbandonedError


class Op:
    """An operation; what happens because it ends is logged, in order."""

    def __init__(self, log, key, number, group=None):
        self.log, self.key, self.number, self.group = log, key, number, group
        self.outcome = None
        self.reported = False
        self.callbacks = []

    def finish(self, outcome):
        if self.outcome is not None:
            return AlreadyFinishedError
        self.outcome = outcome
        self.log.append(("finished", self.number, outcome))
        for callback in self.callbacks:
            callback(self)
        self.reported = True
        if self.group is not None:
            self.group.complete_if_over()
        return None

    def try_finish(self, outcome):
        return self.finish(outcome) is None

    def abandon(self):
        self.try_finish(OpAbandonedError)


class Group:
    """A group; its reducer and callbacks are functions of the group."""

    def __init__(self, reducer):
        self.reducer = reducer
        self.ops = []
        self.holds = 0
        self.sealed = self.complete = self.done = False
        self.callbacks = []

    def add(self, *ops):
        if self.sealed or self.complete:
            return GroupClosedError
        self.ops.extend(ops)
        return None

    def seal(self):
        self.sealed = True
        self.complete_if_over()

    def enter(self):
        if self.complete:
            return GroupClosedError
        self.holds += 1
        return None

    def exit(self):
        if not self.holds:
            return RuntimeError
        self.holds -= 1
        if not self.holds:
            self.seal()
        return None

    def outstanding(self):
        return sum(not op.reported for op in self.ops)

    def complete_if_over(self):
        if self.complete or self.holds or self.outstanding() or not (self.ops or self.sealed):
            return
        self.complete = True
        self.reducer(self)
        self.done = True
        for callback in self.callbacks:
            callback(self)
