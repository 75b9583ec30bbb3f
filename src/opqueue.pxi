# The queue that merges operations of one key: the Python face of the engine.
#
# Every call takes the lock, asks the engine, lets go, wakes whom the engine chained, and acts on
# the answer; those that may wait or take rows do it in calls.pxi. Window and ownership are set
# once, by the constructor; DedupeQueue and OpWindow differ from this class in nothing else.

# The default of a timeout, recognised by identity.
cdef object ZERO = 0


cdef class OpQueue:
    """OpQueue(depth, width)
--

    A thread-safe queue that merges operations of equal keys into one row.

    ``depth`` is how many distinct keys may wait, ``width`` how many operations under one key; both
    at least 1, ``None`` for unbounded. Rows leave in the order in which their keys were first
    enqueued; a row merges until it is taken. Keys are any hashables; those that compare equal are
    one key, as in a dict.

    All methods may be called from any thread, from signal handlers and from finalizers. Waiting
    consumers are served first come, first served, and so are waiting producers. ``enqueue``,
    ``dequeue`` and finishing cost O(1), whatever the depth. ``with queue:`` closes it at the end.

    :raises TypeError: if a bound is neither an int nor ``None``.
    :raises ValueError: if a bound is less than 1.

    >>> from inflight import Op, OpQueue
    >>> queue = OpQueue(depth=100, width=10)
    >>> for key, msg in [("a", 1), ("b", 2), ("a", 3)]:
    ...     queue.enqueue(key, Op(key, msg))
    >>> queue
    <OpQueue 2 of 100 keys waiting>
    >>> with queue.dequeue() as row:
    ...     row.key, [op.msg for op in row], row.finish_all()
    ('a', [1, 3], 2)
    >>> queue.dequeue().finish_all()
    1
    """

    cdef Engine engine
    # Written once.
    cdef object _depth
    cdef object _width
    cdef object clock
    cdef object __weakref__

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, depth, width):
        queue_init(self, depth, width, 0, False)

    # The clock of the windows; nothing asks for it where there are none, and the collector has
    # taken it from a queue whose last row outlives it.
    cdef inline double now(self) except? -1:
        if self.engine.window > 0 and self.clock is not None:
            return <double>self.clock()
        return 0.0

    @property
    def depth(self):
        """How many distinct keys may wait; ``None`` is unbounded."""
        return self._depth

    @property
    def width(self):
        """How many operations may wait under one key; ``None`` is unbounded."""
        return self._width

    def enqueue(self, key, op, *, timeout=0):
        """Add ``op`` to the row of ``key``, or as a new row at the back. O(1).

        By default it never waits. With a ``timeout`` it waits, for at most so many seconds
        (``None``: for ever), while ``depth`` other keys wait; a key that waits already merges at
        once, and a full row is never waited for. The wait ends at Ctrl-C.

        :raises QueueClosedError: once the queue is closed.
        :raises QueueSaturatedDepthError: for a new key, if ``depth`` keys wait already.
        :raises QueueSaturatedWidthError: if the row of the key holds ``width`` operations.
        :raises TypeError: if ``op`` is not an Op, or ``key`` cannot be hashed.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import Op, OpQueue, QueueSaturatedDepthError
        >>> queue = OpQueue(depth=1, width=10)
        >>> ops = [Op("a"), Op("b")]
        >>> queue.enqueue("a", ops[0])
        >>> try:
        ...     queue.enqueue("b", ops[1])
        ... except QueueSaturatedDepthError as error:
        ...     print(error)
        queue is saturated (depth): 1 key waits already, no room for key 'b'
        >>> for op in ops:
        ...     op.finish()
        """
        queue_check_op(op)
        queue_enqueue(
            self, <PyObject*>key, <PyObject*>op, 0.0 if timeout is ZERO else seconds_of(timeout)
        )

    def enqueue_many(self, ops):
        """Add every operation under its own key, without waiting. O(n).

        If something is raised on the way, because the queue is closed meanwhile or by a key that is
        compared, the operations before that have been enqueued or refused, and the others not.

        :return: the operations that were refused, each with the error that says why.
        :raises QueueClosedError: once the queue is closed.
        :raises TypeError: if an item is not an Op. Nothing has been enqueued then.

        >>> from inflight import Op, OpQueue
        >>> queue = OpQueue(depth=1, width=10)
        >>> ops = [Op("a"), Op("b"), Op("a")]
        >>> [op.key for op, error in queue.enqueue_many(ops)]
        ['b']
        >>> for op in ops:
        ...     op.finish()
        """
        cdef list checked = list(ops)
        cdef list refused = []
        for op in checked:
            if not isinstance(op, Op):
                raise TypeError(f"ops must be Op objects, got {op!r}")
        if queue_is_closed(self):
            raise QueueClosedError("the queue is closed")
        queue_enqueue_each(self, checked, refused)
        return refused

    def submit(self, key, msg=None, *, timeout=0):
        """Make a stand-alone operation, enqueue it, and return it: waits and raises as ``enqueue``.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> op = queue.submit("a", "message")
        >>> queue.dequeue().finish_all("answer")
        1
        >>> op.result()
        'answer'
        """
        cdef double limit = 0.0 if timeout is ZERO else seconds_of(timeout)
        cdef Op op
        key_check(<PyObject*>key)
        op = <Op>owned(op_new(<PyObject*>None, <PyObject*>key, <PyObject*>msg))
        try:
            queue_enqueue(self, <PyObject*>key, <PyObject*>op, limit)
        except BaseException:
            op.completion.state = RETIRED
            raise
        return op

    def dequeue(self, timeout=None):
        """Take the oldest row that is ready; waits for one, for at most ``timeout`` seconds. O(1).

        ``None`` waits for ever, 0 or less does not wait. The wait ends at Ctrl-C, and nothing is
        lost: a row that was meant for this call goes to the next in line.

        :raises QueueEmptyError: if no row became ready by then.
        :raises QueueClosedError: if the queue is closed and nothing waits (or is owned) any more.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> op = queue.submit("a")
        >>> row = queue.dequeue(timeout=1)
        >>> row
        <OpSet key='a' of 1 operation>
        >>> row.finish_all()
        1
        """
        cdef double limit = INFINITY if timeout is None else seconds_of(timeout)
        cdef OpSet opset = <OpSet>owned(opset_new(self))
        queue_dequeue(self, opset, limit, timeout)
        return opset

    def dequeue_many(self, limit, timeout=None):
        """Take up to ``limit`` rows that are ready, oldest first; waits for the first, as
        ``dequeue`` does, and not for more. O(rows taken).

        :raises QueueEmptyError: if no row became ready within ``timeout`` seconds.
        :raises QueueClosedError: if the queue is closed and nothing waits (or is owned) any more.
        :raises TypeError: if ``limit`` is not an int.
        :raises ValueError: if ``limit`` is less than 1, or ``timeout`` is NaN.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit(key) for key in "abc"]
        >>> [row.key for row in queue.dequeue_many(2)]
        ['a', 'b']
        >>> for op in ops:
        ...     op.finish()
        """
        cdef Py_ssize_t most = queue_limit(limit)
        return queue_dequeue_many(self, most, seconds_of(timeout), timeout)

    def drain(self):
        """Take everything that waits, now, whether its window is over or not. O(n), does not wait.

        Rows of an exclusive queue are owned like dequeued ones; what waits behind an owned key
        stays, and so do rows already promised to a consumer that was woken for them.

        >>> from inflight import OpWindow
        >>> queue = OpWindow(10, 10, window=60)
        >>> ops = [queue.submit(key) for key in "ab"]
        >>> [row.key for row in queue.drain()]
        ['a', 'b']
        >>> for op in ops:
        ...     op.finish()
        """
        return queue_take(self, [], PY_SSIZE_T_MAX, True)

    @cython.binding(True)   # the default's repr is no Python expression
    def flush(self, key=ALL):
        """End the window of ``key``, or all windows that are open. O(rows), does not wait.

        :return: how many rows that made ready. What waits behind an owned key is not counted: it
            becomes ready when the key is released.
        :raises TypeError: if ``key`` cannot be hashed.

        >>> from inflight import OpWindow
        >>> queue = OpWindow(10, 10, window=60)
        >>> ops = [queue.submit(key) for key in "ab"]
        >>> queue.flush("b"), queue.dequeue().key, queue.flush()
        (1, 'b', 1)
        >>> for op in ops:
        ...     op.finish()
        """
        cdef WakeChain wake = WakeChain(NULL, NULL)
        cdef Probe probe
        cdef Py_ssize_t count
        cdef Answer answer
        cdef double now
        if key is ALL:
            now = self.now()
            inflight_lock(&self.engine.lock)
            count = engine_flush(&self.engine, now, &wake)
            inflight_unlock(&self.engine.lock)
            wake_all(&wake)
            return count
        probe_init(&probe, <PyObject*>key)
        while True:
            now = self.now()
            inflight_lock(&self.engine.lock)
            answer = engine_flush_key(&self.engine, &probe, now, &wake)
            inflight_unlock(&self.engine.lock)
            wake_all(&wake)
            if answer != COMPARE:
                break
            probe_compare(&probe)
        probe_clear(&probe)
        return 1 if answer == ACCEPTED else 0

    def process(self, fn, timeout=None):
        """Take one row and call ``fn(row)`` inside ``with row:``; waits for it as ``dequeue`` does.

        What ``fn`` raises becomes the error of the operations it left unfinished, and is raised.

        :return: ``False`` if the queue is closed and nothing waits (or is owned) any more.
        :raises QueueEmptyError: if no row became ready within ``timeout`` seconds.
        :raises TypeError: if ``fn`` is not callable.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> op = queue.submit("a", 20)
        >>> queue.close()
        >>> while queue.process(lambda row: row.finish_all(row[0].msg + 1)):
        ...     pass
        >>> op.result()
        21
        """
        cdef OpSet row = None
        check_function(fn, "fn")
        try:
            row = self.dequeue(timeout)
        except QueueClosedError:
            pass
        if row is None:
            return False
        # `with row:`, but for that the row would be lost if there is no memory to enter it.
        try:
            PyObject_CallOneArg(fn, row)
        except BaseException as error:
            opset_fail(row, error)
            raise
        finally:
            row.release()
        return True

    def __iter__(self):
        """Rows, waiting for each, until the queue is closed and drained.

        Iterating does not release: ``for row in queue:`` / ``with row:`` is the idiom.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit(key) for key in "ab"]
        >>> queue.close()
        >>> for row in queue:
        ...     with row:
        ...         print(row.key, row.finish_all())
        a 1
        b 1
        """
        return RowIterator(self)

    def close(self):
        """Accept no more operations. Idempotent, does not wait.

        Producers that wait end with ``QueueClosedError``. What waits is still handed out, its open
        windows end now; then consumers end with ``QueueClosedError``.

        >>> from inflight import OpQueue
        >>> queue = OpQueue(10, 10)
        >>> queue.close()
        >>> queue
        <OpQueue 0 of 10 keys waiting, closed>
        """
        queue_close(self)

    @property
    def closed(self):
        """Whether it was closed."""
        return queue_is_closed(self)

    def join(self, timeout=None):
        """Wait until nothing waits and nothing is owned, for at most ``timeout`` seconds.

        ``None`` waits for ever, 0 or less does not wait. The wait ends at Ctrl-C. Rows that were
        handed out may still be in work: to wait for that, wait for the operations or their group.

        :return: ``False`` if it did not come to that in time.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import OpQueue
        >>> OpQueue(10, 10).join()
        True
        """
        return queue_join(self, seconds_of(timeout))

    # The same for coroutines: see awaits.pxi.

    def aenqueue(self, key, op, *, timeout=None):
        """Add ``op`` as ``enqueue`` does; suspends the task while there is no room for a new key. O(1).

        Waits for depth for at most ``timeout`` seconds, by default for ever; 0 or less does not
        wait. What can be added at once is added without suspending. Producers are served first
        come, first served, threads and tasks alike; one that is cancelled has added nothing.

        :raises QueueClosedError: once the queue is closed, also while waiting.
        :raises QueueSaturatedDepthError: for a new key, if ``depth`` keys wait and go on waiting.
        :raises QueueSaturatedWidthError: if the row of the key holds ``width`` operations.
        :raises TypeError: if ``op`` is not an Op, or ``key`` cannot be hashed.
        :raises ValueError: if ``timeout`` is NaN.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import Op, OpQueue
        >>> async def main():
        ...     queue = OpQueue(depth=1, width=10)
        ...     ops = [Op("a"), Op("b")]
        ...     await queue.aenqueue("a", ops[0])
        ...     asyncio.get_running_loop().call_soon(lambda: queue.dequeue().finish_all())
        ...     await queue.aenqueue("b", ops[1])  # waits until there is room
        ...     return queue.dequeue().finish_all()
        >>> asyncio.run(main())
        1
        """
        cdef Wait wait = wait_new(ENQUEUE, self, timeout)
        wait.key = key
        wait.op = op
        return wait

    def asubmit(self, key, msg=None, *, timeout=None):
        """Make a stand-alone operation, enqueue it, and return it: waits and raises as ``aenqueue``.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> async def main():
        ...     queue = OpQueue(10, 10)
        ...     op = await queue.asubmit("a", "message")
        ...     queue.dequeue().finish_all("answer")
        ...     return await op
        >>> asyncio.run(main())
        'answer'
        """
        cdef Wait wait = wait_new(SUBMIT, self, timeout)
        wait.key = key
        wait.argument = msg
        return wait

    def adequeue(self, timeout=None):
        """Take the oldest row that is ready; suspends the task until there is one. O(1).

        Waits for at most ``timeout`` seconds: ``None`` for ever, 0 or less not at all. A row that
        is ready is returned without suspending. Consumers are served first come, first served,
        threads and tasks of any loops alike. One that is cancelled never takes a row: one that was
        meant for it goes to the next in line.

        :raises QueueEmptyError: if no row became ready by then.
        :raises QueueClosedError: if the queue is closed and nothing waits (or is owned) any more.
        :raises ValueError: if ``timeout`` is NaN.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> async def main():
        ...     queue = OpQueue(10, 10)
        ...     asyncio.get_running_loop().call_soon(queue.submit, "a")
        ...     async with await queue.adequeue(timeout=10) as row:
        ...         return row.finish_all()
        >>> asyncio.run(main())
        1
        """
        return wait_new(DEQUEUE, self, timeout)

    def adequeue_many(self, limit, timeout=None):
        """Take up to ``limit`` rows that are ready, oldest first; suspends the task until there is one,
        as ``adequeue`` does, and not for more. O(rows taken).

        :raises QueueEmptyError: if no row became ready within ``timeout`` seconds.
        :raises QueueClosedError: if the queue is closed and nothing waits (or is owned) any more.
        :raises TypeError: if ``limit`` is not an int.
        :raises ValueError: if ``limit`` is less than 1, or ``timeout`` is NaN.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> async def main():
        ...     queue = OpQueue(10, 10)
        ...     ops = [queue.submit(key) for key in "abc"]
        ...     return [(row.key, row.finish_all()) for row in await queue.adequeue_many(10)]
        >>> asyncio.run(main())
        [('a', 1), ('b', 1), ('c', 1)]
        """
        cdef Wait wait = wait_new(DEQUEUE_MANY, self, timeout)
        wait.argument = limit
        return wait

    async def aprocess(self, fn, timeout=None):
        """Take one row and await ``fn(row)`` inside ``with row:``; waits for it as ``adequeue`` does.

        What ``fn`` raises becomes the error of the operations it left unfinished, and is raised;
        if it is cancelled, they fail with ``OpCancelledError``. Either way the row is released.

        :return: ``False`` if the queue is closed and nothing waits (or is owned) any more.
        :raises QueueEmptyError: if no row became ready within ``timeout`` seconds.
        :raises TypeError: if ``fn`` is not callable.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import DedupeQueue
        >>> async def work(row):
        ...     await asyncio.sleep(0)
        ...     row.finish_all(row[0].msg + 1)
        >>> async def main():
        ...     queue = DedupeQueue(10, 10)
        ...     op = queue.submit("a", 20)
        ...     queue.close()
        ...     while await queue.aprocess(work):
        ...         pass
        ...     return await op
        >>> asyncio.run(main())
        21
        """
        cdef OpSet row = None
        check_function(fn, "fn")
        try:
            row = await self.adequeue(timeout)
        except QueueClosedError:
            pass
        if row is None:
            return False
        # As in `process`.
        try:
            await begin_awaiting(fn(row))
        except BaseException as error:
            opset_fail(row, error)
            if is_of(error, StopIteration):
                # What a coroutine makes of it; Cython would call it a generator.
                raise RuntimeError("coroutine raised StopIteration") from error
            raise
        finally:
            row.release()
        return True

    def __aiter__(self):
        """Rows for ``async for``, each taken as by ``adequeue``, until the queue is closed and drained.

        After every 128 rows that were ready one after the other it lets the loop run others once.
        Iterating does not release: ``async for row in queue:`` / ``async with row:`` is the idiom.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> async def main():
        ...     queue = OpQueue(10, 10)
        ...     ops = [queue.submit(key) for key in "ab"]
        ...     queue.close()
        ...     async for row in queue:
        ...         async with row:
        ...             print(row.key, row.finish_all())
        >>> asyncio.run(main())
        a 1
        b 1
        """
        return AsyncRowIterator(self)

    def ajoin(self, timeout=None):
        """Suspend the task until nothing waits and nothing is owned, for at most ``timeout`` seconds.

        ``None`` waits for ever, 0 or less does not wait. Rows that were handed out may still be in
        work: to wait for that, await the operations or their group.

        :return: ``False`` if it did not come to that in time.
        :raises ValueError: if ``timeout`` is NaN.
        :raises RuntimeError: if it has to wait and no event loop is running.

        >>> import asyncio
        >>> from inflight import OpQueue
        >>> asyncio.run(OpQueue(10, 10).ajoin())
        True
        """
        return wait_new(JOIN, self, timeout)

    def stats(self):
        """One consistent snapshot of the queue. O(keys that wait), does not wait.

        >>> from inflight import Op, OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit("a"), queue.submit("a")]
        >>> stats = queue.stats()
        >>> stats.keys, stats.ops, stats.merged
        (1, 2, 1)
        >>> queue.dequeue().finish_all()
        2
        """
        cdef WakeChain wake = WakeChain(NULL, NULL)
        cdef Engine* engine = &self.engine
        cdef Py_ssize_t figures[12]
        cdef list shown = []
        cdef Py_ssize_t i
        cdef double now = self.now()
        inflight_lock(&engine.lock)
        engine_enter(engine, now, &wake)
        engine_settle(engine, &wake)
        figures[0] = engine.waiting
        figures[1] = engine_enqueued(engine) - engine.dequeued_ops
        figures[2] = engine.owned
        figures[3] = list_length(engine.consumers)
        figures[4] = list_length(engine.producers)
        figures[5] = engine_enqueued(engine)
        figures[6] = engine.merged
        figures[7] = engine.dequeued_rows
        figures[8] = engine.dequeued_ops
        figures[9] = engine.refused_depth
        figures[10] = engine.refused_width
        figures[11] = engine.requeued
        inflight_unlock(&engine.lock)
        wake_all(&wake)
        for i in range(12):
            shown.append(figures[i])
        return QueueStats._make(shown)

    def __len__(self):
        """How many distinct keys wait, those behind owned keys included."""
        return queue_length(self)

    def __bool__(self):
        # An empty queue is still a queue.
        return True

    def __contains__(self, key):
        """Whether ``key`` waits or is owned; TypeError if it cannot be hashed."""
        cdef Probe probe
        cdef Row* row = NULL
        cdef Verdict verdict
        probe_init(&probe, <PyObject*>key)
        while True:
            inflight_lock(&self.engine.lock)
            verdict = index_find(&self.engine.index, &probe, &row)
            inflight_unlock(&self.engine.lock)
            if verdict != UNKNOWN:
                break
            probe_compare(&probe)
        probe_clear(&probe)
        return verdict == EQUAL

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc, traceback):
        queue_leave(self)

    async def __aenter__(self):
        return self

    def __aexit__(self, exc_type, exc, traceback):
        queue_leave(self)
        return EXITED

    def __repr__(self):
        of = "" if self._depth is None else f" of {self._depth}"
        closed = ", closed" if queue_is_closed(self) else ""
        return f"<{kind_of(self)} {queue_length(self)}{of} keys waiting{closed}>"

    def __reduce__(self):
        raise TypeError(f"{kind_of(self)} objects cannot be pickled: they are bound to this process")

    def __cinit__(self):
        memset(&self.engine, 0, sizeof(Engine))
        # Until __init__ says more, an unbounded queue: no call on a half-made one can crash.
        if not engine_init(&self.engine, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, 0, False):
            raise MemoryError

    def __del__(self):
        # While the queue is still whole: dropping operations runs callbacks and reducers.
        queue_clear(self)

    def __dealloc__(self):
        queue_clear(self)
        with nogil:
            index_free(&self.engine.index)
            alike_free(&self.engine.alike)


cdef int queue_leave(OpQueue self) except -1:
    try:
        self.close()
    except BaseException:
        # An override; whoever waits must learn of the end all the same.
        queue_close(self)
        raise
    return 0


cdef void queue_close(OpQueue self) noexcept:
    cdef WakeChain wake = WakeChain(NULL, NULL)
    inflight_lock(&self.engine.lock)
    engine_close(&self.engine, &wake)
    inflight_unlock(&self.engine.lock)
    wake_all(&wake)


cdef bint queue_is_closed(OpQueue self) noexcept:
    cdef bint closed
    inflight_lock(&self.engine.lock)
    closed = self.engine.closed
    inflight_unlock(&self.engine.lock)
    return closed


cdef Py_ssize_t queue_length(OpQueue self) noexcept:
    cdef Py_ssize_t waiting
    inflight_lock(&self.engine.lock)
    waiting = self.engine.waiting
    inflight_unlock(&self.engine.lock)
    return waiting


@cython.final
cdef class RowIterator:
    cdef OpQueue queue

    def __cinit__(self, OpQueue queue not None):
        self.queue = queue

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.queue.dequeue()
        except QueueClosedError:
            raise StopIteration from None
