"""Calls that wait for a queue, on top of model.py: three lines, served first come, first served.

Nobody is woken: a call that has to wait answers WAIT, and is asked again with the same Waiter each time that the
test sees it resumed. `last` is the last time that it is asked. Calls that never wait are the plain model's.
"""

from __future__ import annotations

from model import Queue

from inflight import QueueEmptyError

WAIT = "wait"


class Waiter:
    """A call that waits. What it was promised is here, and nobody else's, until it runs or leaves."""

    def __init__(self, key=None):
        self.key = key
        self.row = None
        self.over = False


class WaitingQueue(Queue):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.consumers, self.producers, self.joiners, self.granted = [], [], [], []

    def settle(self):
        """Promise what is there to those who wait."""
        super().settle()
        while self.ready and self.consumers:
            self.consumers.pop(0).row = self.ready.pop(0)
        while self.producers and self.has_room():
            self.granted.append(self.producers.pop(0))
        if self.idle():
            for waiter in self.joiners:
                waiter.over = True
            self.joiners = []
            if self.closed:
                self.consumers = []
        if self.closed:
            self.producers = []

    def has_room(self):
        return self.depth is None or len(self.waiting) + len(self.granted) < self.depth

    def put(self, waiter, key, op, last):
        self.advance()
        granted = waiter in self.granted
        if not (granted or last or self.closed or self.find(key) or self.has_room()):
            return self.line_up(waiter, self.producers)
        answer = self.enqueue(key, op, granted)
        self.leave(waiter)
        return answer

    def get(self, waiter, limit, last):
        self.advance()
        promised = [] if waiter.row is None else [waiter.row]
        answer = self.dequeue(limit, promised)
        if answer is QueueEmptyError and not last:
            return self.line_up(waiter, self.consumers)
        if promised:
            waiter.row = None
        self.leave(waiter)
        return answer

    def join(self, waiter, last):
        over = waiter.over or self.idle()
        if not (over or last):
            return self.line_up(waiter, self.joiners)
        self.leave(waiter)
        return over

    def line_up(self, waiter, line):
        if waiter not in line:
            line.append(waiter)
        return WAIT

    def leave(self, waiter):
        """The end of a wait, however it ended: what it was promised goes to the next."""
        for line in (self.consumers, self.producers, self.joiners, self.granted):
            if waiter in line:
                line.remove(waiter)
        if waiter.row is not None:
            self.ready.append(waiter.row)
            waiter.row = None
        self.settle()

    def forgotten(self, waiter):
        """Whether it should not be waiting any more: it was promised something, or should have been."""
        row = self.find(waiter.key) if waiter in self.producers else None
        due = any(row.open and row.deadline <= self.clock.now and row.key not in self.owned for row in self.waiting)
        lines = self.consumers + self.producers + self.joiners
        return waiter not in lines or row is not None or (waiter in self.consumers and due)

    def stats(self):
        stats = super().stats()
        return stats._replace(consumers_waiting=len(self.consumers), producers_waiting=len(self.producers))
