# The exclusive policy: see engine.pxi.


cdef class DedupeQueue(OpQueue):
    """DedupeQueue(depth, width, *, window=0)
--

    An OpQueue whose rows own their key: nobody else gets the key until the row is released.

    A row is released by ``release()``, by leaving ``with row:``, or by being dropped. Operations
    that arrive meanwhile wait, merged, behind the owned key, and are queued at the back when it
    is released; they count in ``depth`` and ``len``. With a ``window`` (seconds, or a timedelta)
    rows become ready as in an OpWindow; a window starts at the row's first operation, also while
    its key is owned.

    Once it is closed, consumers see the end only when nothing waits and nothing is owned.

    :raises TypeError: if a bound is neither an int nor ``None``, or ``window`` no duration.
    :raises ValueError: if a bound is less than 1, or ``window`` is negative or NaN.

    >>> from inflight import DedupeQueue
    >>> queue = DedupeQueue(depth=100, width=10)
    >>> first = queue.submit("a")
    >>> with queue.dequeue() as row:
    ...     second = queue.submit("a")  # nobody gets it yet
    ...     queue.stats().owned, len(queue), row.finish_all()
    (1, 1, 1)
    >>> with queue.dequeue() as row:
    ...     row.finish_all()
    1
    """

    def __init__(self, depth, width, *, window=0):
        queue_init(self, depth, width, window, True)

    @property
    def window(self):
        """The length of the window in seconds; 0 for none."""
        return self.engine.window
