# The window policy, with or without the exclusive one: see engine.pxi.


cdef class OpWindow(OpQueue):
    """OpWindow(depth, width, window, *, exclusive=False)
--

    An OpQueue whose rows become ready only when their window has passed, or when they are full.

    The window (seconds, or a timedelta) starts at the row's first operation; a ready row still
    merges until it is taken. Rows leave in the order in which they became ready: a full one does
    not wait behind one whose window is open. A window of 0 makes it an OpQueue. ``flush`` and
    ``close`` end windows early. ``exclusive`` makes rows own their key as in a DedupeQueue.

    No thread runs for the windows: the consumer that has waited longest keeps the time.

    :raises TypeError: if a bound is neither an int nor ``None``, or ``window`` no duration.
    :raises ValueError: if a bound is less than 1, or ``window`` is negative or NaN.

    >>> from inflight import OpWindow
    >>> queue = OpWindow(depth=100, width=3, window=60)
    >>> a = queue.submit("a")
    >>> b = [queue.submit("b", number) for number in range(3)]
    >>> row = queue.dequeue()  # full, although the window of "a" began earlier
    >>> row.key, [op.msg for op in row], row.finish_all()
    ('b', [0, 1, 2], 3)
    >>> a.finish()
    """

    def __init__(self, depth, width, window, *, exclusive=False):
        queue_init(self, depth, width, window, bool(exclusive))

    @property
    def window(self):
        """The length of the window in seconds; 0 for none."""
        return self.engine.window

    @property
    def exclusive(self):
        """Whether rows own their key until they are released."""
        return self.engine.exclusive
