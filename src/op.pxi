# An operation: a promise that knows its key.
#
# Finishing is one section: the first caller publishes the outcome and takes the waiters and
# callbacks away; then, outside the lock, the waiters are woken, the callbacks run, and the group
# is told. What may not reach the worker is logged; what must (PASSED_ON) is raised at the end.

cdef enum:
    SUCCEEDED = 2    # outcome is the result
    FAILED = 3       # outcome is (error, its traceback at that time)


cdef class CallGroup


# No free list: the collector marks an object that it has finalized, a free list would hand the
# mark on to the next operation in the same memory, and that one could then be lost unnoticed.
cdef class Op:
    """Op(key, msg=None)
--

    One operation: a key, a message for the worker, and an outcome that can be waited for.

    Made by ``Op(key, msg)`` to stand alone, by ``CallGroup.add`` as a member of a group. It is
    finished exactly once, with a result or with an error, from any thread. ``key`` must be
    hashable (TypeError).

    An operation that is garbage-collected unfinished finishes with ``OpAbandonedError`` and
    warns with a ``ResourceWarning``. Operations compare by identity and cannot be pickled.

    >>> from inflight import Op
    >>> op = Op("a", 20)
    >>> op
    <Op key='a' pending>
    >>> op.finish(op.msg + 1)
    >>> op.result()
    21
    """

    # These four, in this order: see layout.pxi. Written once, before anybody else knows the operation.
    cdef object _key
    cdef object _msg
    cdef CallGroup _group
    # Written once, before the state is published.
    cdef object outcome
    cdef Completion completion
    # Belong to the group: the place in add order, and what is below in its stack of finished ones.
    cdef uint64_t place
    cdef PyObject* below
    cdef object __weakref__

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, key, msg=None):
        if self.completion.state != RETIRED:
            raise RuntimeError("an Op cannot be initialised again")
        key_check(<PyObject*>key)
        self._key = key
        self._msg = msg
        completion_init(&self.completion)

    @property
    def key(self):
        """The key it was made with."""
        return self._key

    @property
    def msg(self):
        """The message it was made with."""
        return self._msg

    @property
    def group(self):
        """The group it was added to, or ``None`` if it stands alone."""
        return self._group

    def finish(self, result=None, *, error=None):
        """Finish with ``result``, or with ``error`` if that is given.

        Wakes who waits, runs the callbacks, and completes the group if this was its last
        operation: its reducer then runs in this thread. Does not wait for anything itself.

        :raises AlreadyFinishedError: if it is finished; the first outcome stands.
        :raises TypeError: if ``error`` is not an exception instance, or is a StopIteration.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.finish(error=ValueError("no"))
        >>> op
        <Op key='a' failed: ValueError('no')>
        """
        if not op_try_finish(self, result, error):
            op_refuse_finish(self)

    def try_finish(self, result=None, *, error=None):
        """Finish unless it is finished: like ``finish``, but the answer tells whether it did.

        :raises TypeError: if ``error`` is not an exception instance, or is a StopIteration.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.try_finish(1), op.try_finish(2), op.result()
        (True, False, 1)
        """
        return op_try_finish(self, result, error)

    def cancel(self):
        """Finish with ``OpCancelledError``; ``False`` if it was finished already.

        Nobody is interrupted: a worker that has the operation finds it finished.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.cancel(), op.cancelled(), op.cancel()
        (True, True, False)
        """
        if inflight_load(&self.completion.state) != PENDING:
            return False
        error = OpCancelledError(f"operation {shown(self._key)} was cancelled")
        return op_try_finish(self, None, error)

    def done(self):
        """Whether it is finished, in whatever way.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.done()
        False
        >>> op.finish()
        >>> op.done()
        True
        """
        return inflight_load(&self.completion.state) != PENDING

    def cancelled(self):
        """Whether it is finished and its error is an ``OpCancelledError``.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.finish()
        >>> op.cancelled()
        False
        """
        return op_failed(self) and is_of((<tuple>self.outcome)[0], OpCancelledError)

    def result(self, timeout=None):
        """The result; waits until it is finished, for at most ``timeout`` seconds.

        ``None`` waits for ever, 0 or less does not wait. Any number of threads may wait; the wait
        ends at Ctrl-C. If the operation failed its error is raised, with a traceback of its own
        for every caller.

        :raises TimeoutError: if it is not finished by then.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.finish(7)
        >>> op.result(timeout=1)
        7
        """
        op_wait(self, timeout)
        return op_outcome(self)

    def exception(self, timeout=None):
        """The error, or ``None`` if it succeeded; waits as ``result`` does. A cancellation is
        returned as well.

        :raises TimeoutError: if it is not finished by then.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.finish(error=ValueError("no"))
        >>> op.exception()
        ValueError('no')
        """
        op_wait(self, timeout)
        return (<tuple>self.outcome)[0] if op_failed(self) else None

    def add_done_callback(self, fn):
        """Have ``fn(op)`` called once it is finished, in the thread that finishes it.

        If it is finished already, ``fn`` is called now, in this thread. Callbacks run in the order
        in which they were added, after the waiters were woken and before the group is told. What
        ``fn`` raises is logged; KeyboardInterrupt and SystemExit reach whoever finished the
        operation, after everything else has been done.

        :raises TypeError: if ``fn`` is not callable.

        >>> from inflight import Op
        >>> op = Op("a")
        >>> op.add_done_callback(lambda op: print(op.key, op.result()))
        >>> op.finish(3)
        a 3
        """
        if completion_add_callback(&self.completion, check_function(fn, "fn")):
            return
        passed_on = call_callback(fn, self, None)
        if passed_on is not None:
            raise passed_on

    def __await__(self):
        """Wait in a coroutine until it is finished; returns and raises what ``result`` does.

        Suspends the task only, and not at all if it is finished. From any event loop; any number
        of tasks and threads may wait. Cancelling one that waits leaves the operation alone.

        >>> import asyncio
        >>> from inflight import Op
        >>> async def main():
        ...     op = Op("a")
        ...     asyncio.get_running_loop().call_soon(op.finish, 7)
        ...     return await op
        >>> asyncio.run(main())
        7
        """
        return wait_new(AWAIT_OP, self, None)

    def _outcome(self):
        # What Response shows of a finished operation: result and error.
        if op_failed(self):
            return None, (<tuple>self.outcome)[0]
        return self.outcome, None

    def __repr__(self):
        cdef uint64_t state = inflight_load(&self.completion.state)
        if state == PENDING:
            return f"<{kind_of(self)} key={self._key!r} pending>"
        if state != FAILED:
            return f"<{kind_of(self)} key={self._key!r} finished>"
        error = (<tuple>self.outcome)[0]
        if is_of(error, OpCancelledError):
            return f"<{kind_of(self)} key={self._key!r} cancelled>"
        return f"<{kind_of(self)} key={self._key!r} failed: {error!r}>"

    def __reduce__(self):
        raise TypeError(f"{kind_of(self)} objects cannot be pickled: they are bound to this process")

    def __del__(self):
        if self.completion.state != PENDING or Py_IsFinalizing():
            return
        try:
            op_abandon(self)
        except BaseException as error:
            # Left to Cython, a SystemExit from here would end the process.
            PyErr_SetObject(type(error), error)
            PyErr_WriteUnraisable(self)


cdef extern from "Python.h":
    void PyErr_SetObject(object type, object error) noexcept
    void PyErr_WriteUnraisable(object context) noexcept
    PyObject* PyException_GetTraceback(object error) noexcept


# For when the memory, or the time, for more is not given.
cdef str UNNAMED = "an operation was dropped unfinished"
cdef tuple UNNAMED_OUTCOME = (OpAbandonedError(UNNAMED), None)


cdef int op_abandon(Op self) except -1:
    # Finalized once and never again: whatever happens here, it must be finished.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef PyObject* passed_on = NULL
    cdef str text = UNNAMED
    cdef tuple outcome = UNNAMED_OUTCOME
    try:
        text = f"operation {shown(self._key)} was dropped unfinished"
        outcome = (OpAbandonedError(text), None)
    except BaseException as error:
        pass_on(&passed_on, error)
    op_conclude(<PyObject*>self, FAILED, outcome, &wake, &passed_on)
    try:
        warn_here(text, ResourceWarning, self)
    except BaseException as error:
        pass_on(&passed_on, error)
    raise_passed_on(passed_on)
    return 0


cdef int warn_here(str text, object category, object source) except -1:
    # CPython crashes in a warning if it has no memory for the object of the frame that is to blame:
    # so that is made first. Not by sys._getframe(), which makes one of a frame that has not begun or
    # is being cleared, too, and that one outlives its frame.
    cdef PyObject* frame = <PyObject*>PyThreadState_GetFrame(PyThreadState_Get())
    if frame == NULL and PyEval_GetGlobals() != NULL:
        raise MemoryError
    try:
        warn(text, category, source=source)
    finally:
        drop_if_any(frame)
    return 0


cdef extern from "Python.h":
    ctypedef struct PyThreadState
    ctypedef struct PyFrameObject
    PyThreadState* PyThreadState_Get()
    PyFrameObject* PyThreadState_GetFrame(PyThreadState* state)
    PyObject* PyEval_GetGlobals()


cdef inline bint op_failed(Op self) noexcept:
    return inflight_load(&self.completion.state) == FAILED


cdef object op_outcome(Op self):
    # What a finished operation returns or raises to who waited for it.
    if self.completion.state == SUCCEEDED:
        return self.outcome
    error, traceback = <tuple>self.outcome
    raise to_raise(error, traceback)


cdef inline int op_wait(Op self, object timeout) except -1:
    cdef double limit = seconds_of(timeout)
    if inflight_load(&self.completion.state) == PENDING:
        if not completion_wait(&self.completion, limit):
            raise TimeoutError(f"operation {shown(self._key)} is not finished after {timeout} seconds")
    return 0


cdef int op_refuse_finish(Op self) except -1:
    raise AlreadyFinishedError(f"operation {shown(self._key)} is already finished")


cdef inline bint op_try_finish(Op self, object result, object error) except -1:
    # False if it was finished before. Raises what callbacks and the reducer must pass on.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef PyObject* passed_on = NULL
    cdef bint first
    if error is None:
        first = op_conclude(<PyObject*>self, SUCCEEDED, result, &wake, &passed_on)
    else:
        check_error(error)
        first = op_conclude(<PyObject*>self, FAILED, (error, traceback_of(error)), &wake, &passed_on)
    raise_passed_on(passed_on)
    return first


cdef inline object traceback_of(object error):
    # Not asking its class, which may refuse.
    cdef PyObject* traceback = PyException_GetTraceback(error)
    return None if traceback == NULL else owned(traceback)


cdef object traceback_apart(object error):
    # The same under an identity of its own, for an error that whoever has it goes on raising: so nobody is
    # given the instance itself (see to_raise). Not that of _report: without memory, a call of a Python function
    # may end in anything.
    traceback = traceback_of(error)
    if traceback is None:
        return None
    # None where an instruction has no line; -1 leaves it to be looked up.
    line = traceback.tb_lineno
    return TracebackType(traceback.tb_next, traceback.tb_frame, traceback.tb_lasti, -1 if line is None else line)


cdef inline bint op_publish(Op self, uint64_t state, object outcome, WakeChain* wake) noexcept:
    # True for the first caller, who then must announce.
    cdef PyObject** place = op_references(<PyObject*>self) + <int>OUTCOME
    cdef bint first
    inflight_lock(&self.completion.lock)
    first = self.completion.state == PENDING
    if first:
        retain(<PyObject*>outcome)
        place[0] = <PyObject*>outcome
        completion_finish(&self.completion, state, wake)
    inflight_unlock(&self.completion.lock)
    if first:
        drop(<PyObject*>None)   # the outcome until now
    else:
        inflight_count(FINISHED_SECOND)
    return first


cdef inline bint op_conclude(
    PyObject* op, uint64_t state, object outcome, WakeChain* wake, PyObject** passed_on
) noexcept:
    # False if it was finished before.
    if not op_publish(<Op>op, state, outcome, wake):
        return False
    op_announce(<Op>op, wake, passed_on)
    return True


cdef inline void op_announce(Op self, WakeChain* wake, PyObject** passed_on) noexcept:
    # The waiters, the callbacks, the group. `passed_on` becomes the first exception that must be passed
    # on, unless there was one before.
    cdef PyObject* group = op_references(<PyObject*>self)[<int>GROUP]
    if wake.head != NULL:
        wake_all(wake)
    if self.completion.callbacks != NULL:
        pass_on(passed_on, completion_call_back(&self.completion, self, None))
    if group != <PyObject*>None and group_op_finished(<CallGroup>group, <PyObject*>self):
        pass_on(passed_on, group_complete(<CallGroup>group))


cdef void pass_on(PyObject** passed_on, object error) noexcept:
    # Keeps it, unless it is None or there was one before.
    if error is not None and passed_on[0] == NULL:
        retain(<PyObject*>error)
        passed_on[0] = <PyObject*>error


cdef inline int raise_passed_on(PyObject* passed_on) except -1:
    # If there is any.
    if passed_on != NULL:
        raise owned(passed_on)
    return 0


# Operations that have been disposed of, each linked to the next: for the next ones. Not tracked by the
# collector, each as if it had a reference.
cdef PyObject* spare_ops = NULL
cdef int spare_op_count = 0

cdef enum:
    SPARE_OPS = 1 << 14      # 2 MB; those of a large group come all at once


cdef inline PyObject* op_spare() noexcept:
    # One of them, or NULL.
    global spare_ops, spare_op_count
    cdef PyObject* op = NULL
    if not INFLIGHT_FREE_THREADED:
        op = spare_ops
    if op != NULL:
        spare_ops = op_below_of(op)[0]
        spare_op_count -= 1
        inflight_prefetch(spare_ops)
        _Py_NewReference(op)    # for tracemalloc, which a warning about this operation asks
    return op


cdef PyObject* op_alloc(PyTypeObject* type, Py_ssize_t items) except NULL:
    # For ``Op()`` and its subclasses.
    cdef PyObject* op = op_spare() if type == <PyTypeObject*>Op else NULL
    if op == NULL:
        return PyType_GenericAlloc(type, items)
    memset(op + 1, 0, op_size - sizeof(PyObject))
    PyObject_GC_Track(op)
    return op


cdef inline PyObject* op_new(PyObject* group, PyObject* key, PyObject* msg) except NULL:
    # The key has been hashed.
    cdef PyObject* op = op_spare()
    cdef PyObject** references
    if op == NULL:
        op = inflight_new(<PyTypeObject*>Op)
    references = op_references(op)
    # Every field: the memory is not zeroed.
    retain(key)
    retain(msg)
    retain(group)
    retain(<PyObject*>None)
    references[KEY] = key
    references[MSG] = msg
    references[GROUP] = group
    references[OUTCOME] = <PyObject*>None
    completion_init(op_completion_of(op))
    (<Op>op).place = 0
    (<Op>op).below = NULL
    weak_list(op, op_weak_list)[0] = NULL
    PyObject_GC_Track(op)
    return op


cdef inline void op_free(PyObject* op) noexcept:
    # It refers to nothing any more. One that was finalized would not be so again.
    global spare_ops, spare_op_count
    if (
        INFLIGHT_FREE_THREADED or spare_op_count == SPARE_OPS or not Py_IS_TYPE(op, <PyTypeObject*>Op)
        or PyObject_GC_IsFinalized(op) or not inflight_keep(op)
    ):
        inflight_free(op)
    else:
        op_below_of(op)[0] = spare_ops
        spare_ops = op
        spare_op_count += 1


cdef inline int key_check(PyObject* key) except -1:
    # A key that cannot be hashed is refused where it is passed in, not where it is looked up.
    if not inflight_is_str(key) and not inflight_is_int(key):
        hash(<object>key)
    return 0
