# A row, once handed out: an immutable sequence of the operations that were merged under one key.
#
# It is the Python handle of a row of the kernel, which it owns; handing out a row copies nothing
# and can no longer fail. For an exclusive queue it has a Lease, which stands for the ownership of
# the key and gives it back when it is dropped.

cdef class Lease:
    # Ownership of a key. A class of its own, so that only rows of exclusive queues pay for a
    # finalizer.
    cdef OpQueue queue       # written once, with the row; None if no row was taken
    cdef Row* row            # guarded by the queue's lock; NULL once released

    cdef int release(self) except -1:
        cdef WakeChain wake = WakeChain(NULL, NULL)
        cdef Row* row
        cdef double now
        if self.queue is None:
            return 0
        inflight_lock(&self.queue.engine.lock)
        row = self.row
        inflight_unlock(&self.queue.engine.lock)
        if row == NULL:
            return 0
        try:
            now = self.queue.now()
        except MemoryError:
            now = 0     # windows that are over end with the next call: this one may have none after it
        inflight_lock(&self.queue.engine.lock)
        row = self.row      # again: another thread may have been faster
        self.row = NULL
        if row != NULL:
            engine_release(&self.queue.engine, row, now, &wake)
        else:
            inflight_count(RELEASED_AGAIN)
        inflight_unlock(&self.queue.engine.lock)
        wake_all(&wake)
        return 0

    def __del__(self):
        self.release()


@cython.collection_type("sequence")
cdef class OpSet:
    """OpSet()
--

    The operations that waited under one key, in the order in which they were enqueued.

    Made by queues only (TypeError), immutable, a ``collections.abc.Sequence`` of ``Op``; compares
    by identity. A slice is a tuple. Used as a context manager it finishes what a failing worker
    left unfinished, and releases the key:

    >>> from inflight import Op, OpQueue
    >>> queue = OpQueue(depth=10, width=10)
    >>> op = queue.submit("a", 1)
    >>> with queue.dequeue() as row:
    ...     row.key, [op.msg for op in row], row.finish_all("done")
    ('a', [1], 1)
    >>> op.result()
    'done'

    A row of an exclusive queue owns its key. Dropped unreleased, it releases it.
    """

    # Written once, before the object is shared.
    cdef Row* row            # TAKEN
    cdef Lease lease         # None where the queue is not exclusive; next to the row: see layout.pxi
    cdef object __weakref__

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self):
        raise TypeError("OpSet cannot be constructed: queues hand them out")

    @property
    def key(self):
        """The key it was enqueued under, which may differ from the operations' own keys."""
        return <object>opset_content(self).key

    def finish_all(self, result=None, *, error=None):
        """Finish every operation that is not finished yet, with ``result`` or with ``error``.

        Finishes all of them, whatever callbacks and reducers raise. O(n).

        :return: how many it finished.
        :raises TypeError: if ``error`` is not an exception instance, or is a StopIteration.

        >>> from inflight import Op, OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit("a"), queue.submit("a")]
        >>> ops[0].finish("early")
        >>> queue.dequeue().finish_all("late")
        1
        >>> [op.result() for op in ops]
        ['early', 'late']
        """
        if error is None:
            return opset_finish(self, SUCCEEDED, result, None)
        check_error(error)
        return opset_finish(self, FAILED, (error, traceback_of(error)), None)

    def finish_each(self, results):
        """Finish every operation that is not finished yet with the result at its position.

        An exception *instance* is the operation's error; a class is a result like any other. O(n).

        :return: how many it finished.
        :raises ValueError: if there is not one result for each operation.
        :raises TypeError: if one is a StopIteration.
            Nothing has been finished then.

        >>> from inflight import Op, OpQueue
        >>> queue = OpQueue(10, 10)
        >>> ops = [queue.submit("a", 1), queue.submit("a", 0)]
        >>> queue.dequeue().finish_each([1.0, ZeroDivisionError()])
        2
        >>> ops[0].result(), ops[1].exception()
        (1.0, ZeroDivisionError())
        """
        cdef list outcomes = list(results)
        cdef Py_ssize_t count = opset_content(self).count
        cdef Py_ssize_t i
        if len(outcomes) != count:
            raise ValueError(
                f"finish_each needs {count} results, one for each operation, got {len(outcomes)}"
            )
        # All of them are made before the first is published.
        for i in range(count):
            outcome = outcomes[i]
            if isinstance(outcome, BaseException):
                check_error(outcome)
                outcomes[i] = (FAILED, (outcome, traceback_of(outcome)))
            else:
                outcomes[i] = (SUCCEEDED, outcome)
        return opset_finish(self, PENDING, None, outcomes)

    def release(self):
        """Give the key back: what gathered behind it is queued, at the back. Idempotent, O(1).

        Does nothing where the queue is not exclusive. The operations are left as they are.

        >>> from inflight import DedupeQueue
        >>> queue = DedupeQueue(10, 10)
        >>> op = queue.submit("a")
        >>> row = queue.dequeue()
        >>> "a" in queue
        True
        >>> row.release()
        >>> "a" in queue
        False
        >>> row.finish_all()
        1
        """
        if self.lease is not None:
            self.lease.release()

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc, traceback):
        try:
            if exc is not None:
                opset_fail(self, exc)
        finally:
            self.release()

    async def __aenter__(self):
        return self

    def __aexit__(self, exc_type, exc, traceback):
        self.__exit__(exc_type, exc, traceback)
        return EXITED

    def __len__(self):
        return <Py_ssize_t>opset_content(self).count

    def __getitem__(self, index):
        cdef Row* row = opset_content(self)
        cdef Py_ssize_t i
        if isinstance(index, slice):
            return tuple(self)[index]
        if not PyIndex_Check(index):
            raise TypeError(f"OpSet indices must be integers or slices, not {kind_of(index)}")
        i = PyNumber_AsSsize_t(index, NULL)    # an int that is too large is clipped
        if i < 0:
            i += row.count
        if i < 0 or i >= row.count:
            raise IndexError("OpSet index out of range")
        return <object>row_ops(row)[i]

    def __iter__(self):
        return iter(opset_tuple(self))

    def __reversed__(self):
        return reversed(opset_tuple(self))

    def __contains__(self, op):
        return op in opset_tuple(self)

    def index(self, value, start=0, stop=None):
        """The first position of ``value``, from ``start`` on and before ``stop``.

        :raises ValueError: if it is not there.
        """
        return Sequence.index(self, value, start, stop)

    def count(self, value):
        """How often ``value`` is there: as often as it was enqueued."""
        return opset_tuple(self).count(value)

    def __repr__(self):
        cdef Row* row = opset_content(self)
        noun = "operation" if row.count == 1 else "operations"
        return f"<{kind_of(self)} key={self.key!r} of {row.count} {noun}>"

    def __reduce__(self):
        raise TypeError(f"{kind_of(self)} objects cannot be pickled: they are bound to this process")


cdef extern from "Python.h":
    bint PyIndex_Check(object number)
    Py_ssize_t PyNumber_AsSsize_t(object number, PyObject* overflow) except? -1


Sequence.register(OpSet)

# What an OpSet that was never filled shows: __new__ without a queue.
cdef Row NOTHING
memset(&NOTHING, 0, sizeof(Row))
NOTHING.key = <PyObject*>None


cdef inline Row* opset_content(OpSet self) noexcept:
    return self.row if self.row != NULL else &NOTHING


# OpSets to be used again, as rows are: see rows.pxi. They are kept as they are, with one reference, and
# the collector knows nothing of them meanwhile. Rejected: a free list of Cython's, which makes them anew;
# leaving them with the collector, which costs less, but it may be about to clear one, and after
# gc.freeze() would never look at them again.
cdef enum:
    SPARE_OPSETS = 1 << 10   # 64 KB

cdef PyObject* spare_opsets[SPARE_OPSETS]
cdef int spare_opset_count = 0


cdef inline PyObject* opset_new(OpQueue queue) except NULL:
    # Made before a row is taken, so that nothing can fail once it was.
    global spare_opset_count
    cdef PyObject* opset
    if not INFLIGHT_FREE_THREADED and spare_opset_count:
        spare_opset_count -= 1
        opset = spare_opsets[spare_opset_count]
    else:
        opset = inflight_new(<PyTypeObject*>OpSet)
        weak_list(opset, opset_weak_list)[0] = NULL
        opset_row_of(opset)[0] = NULL
        opset_lease(opset)[0] = <PyObject*>None
        retain(<PyObject*>None)
    PyObject_GC_Track(opset)
    return opset if not queue.engine.exclusive else opset_leased(opset)


cdef PyObject* opset_leased(PyObject* opset) except NULL:
    cdef OpSet self = <OpSet>owned(opset)
    self.lease = <Lease>Lease.__new__(Lease)
    retain(opset)
    return opset


cdef inline bint opset_keep(PyObject* self) noexcept:
    # False for one that is to be deallocated.
    global spare_opset_count
    if spare_opset_count == SPARE_OPSETS or not Py_IS_TYPE(self, <PyTypeObject*>OpSet) or not inflight_keep(self):
        return False
    PyObject_GC_UnTrack(self)
    spare_opsets[spare_opset_count] = self
    spare_opset_count += 1
    return True


cdef inline void opset_fill(OpSet self, OpQueue queue, Row* row) noexcept:
    self.row = row
    if self.lease is not None:
        self.lease.queue = queue
        self.lease.row = row


cdef tuple opset_tuple(OpSet self):
    cdef Row* row = opset_content(self)
    cdef tuple ops = <tuple>owned(PyTuple_New(row.count))
    cdef uint32_t i
    for i in range(row.count):
        retain(row_ops(row)[i])
        PyTuple_SET_ITEM(<PyObject*>ops, i, row_ops(row)[i])
    return ops


cdef Py_ssize_t opset_finish(OpSet self, uint64_t state, object outcome, list outcomes) except -1:
    # Finishes all with one outcome, or each with its own. Whatever callbacks and reducers do, all
    # are finished; the first exception to be passed on is raised after the last.
    cdef Row* row = opset_content(self)
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef PyObject* passed_on = NULL
    cdef Py_ssize_t count = 0
    cdef uint32_t i
    for i in range(row.count):
        if outcomes is not None:
            state, outcome = <tuple>outcomes[i]
        count += op_conclude(row_ops(row)[i], state, outcome, &wake, &passed_on)
    raise_passed_on(passed_on)
    return count


# For when there is no memory for more.
cdef tuple NO_ERROR_OUTCOME = (MemoryError("no memory for the error of the worker"), None)
cdef tuple NO_CANCELLATION_OUTCOME = (OpCancelledError("an operation was cancelled"), None)


cdef int opset_fail(OpSet self, object exc) except -1:
    # What the worker left unfinished, when `exc`, which goes on being raised, ended its work: nobody else
    # would finish it.
    cdef tuple outcome
    try:
        if is_of(exc, StopIteration):
            # It cannot be an operation's error; a generator turns it into this, too.
            error = RuntimeError("the worker raised StopIteration")
            error.__cause__ = exc
        elif is_of(exc, Exception):
            error = exc
        else:
            error = OpCancelledError(f"operation {shown(self.key)} was cancelled")
            error.__cause__ = exc
        outcome = (error, traceback_apart(error))
    except MemoryError:
        outcome = NO_ERROR_OUTCOME if is_of(exc, Exception) else NO_CANCELLATION_OUTCOME
    opset_finish(self, FAILED, outcome, None)
    return 0


cdef void opset_clear(OpSet self) noexcept:
    cdef Row* row = self.row
    if self.lease is not None:
        # While the queue still has the row as the owner of its key, it must not be freed.
        self.lease.release()
    self.row = NULL
    if row != NULL:
        row_free(row)
