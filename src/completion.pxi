# A completion: what an operation and a group have in common. It is pending, then finished, once
# and for good; whoever wants to know waits, or leaves a callback.
#
# The state is read without the lock by whoever only asks. It is written last, after what it
# publishes, and under the lock, so that a waiter or callback is either seen by the one who
# finishes or sees that it came too late.

cdef enum:
    # Also that of an object not yet, or not any more, meant to be finished: nobody waits for it.
    RETIRED = 0
    PENDING = 1


cdef struct Callback:
    PyObject* fn             # owned
    Callback* next


cdef struct Completion:
    uint64_t state           # atomic, written under lock
    WaitNode* waiters        # guarded by lock
    Callback* callbacks      # the last of a ring; guarded by lock while pending, then the finisher's
    inflight_mutex lock


cdef inline void completion_init(Completion* self) noexcept nogil:
    self.state = PENDING
    self.waiters = NULL
    self.callbacks = NULL
    inflight_lock_init(&self.lock)


cdef inline void completion_finish(Completion* self, uint64_t state, WakeChain* wake) noexcept nogil:
    # With the lock held, and once. The waiters are woken, and the callbacks called, after it.
    cdef WaitNode* node
    while self.waiters != NULL:
        node = self.waiters
        list_remove(node)
        kick(node, wake)
    inflight_store(&self.state, state)


cdef bint completion_wait(Completion* self, double limit) except -1:
    # Waits for `limit` seconds at most; true if finished. The caller keeps `self` alive.
    cdef ThreadWaiter waiter
    cdef double deadline, remaining
    cdef bint finished
    if inflight_load(&self.state) != PENDING:
        return True
    if limit <= 0:
        return False
    waiter = <ThreadWaiter>ThreadWaiter.__new__(ThreadWaiter)
    deadline = deadline_of(limit)
    remaining = limit
    try:
        while True:
            inflight_lock(&self.lock)
            finished = self.state != PENDING
            if not finished and waiter.node.list == NULL:
                list_append(&self.waiters, &waiter.node)
            inflight_unlock(&self.lock)
            if finished:
                return True
            if remaining <= 0:
                return False
            waiter.park(remaining)
            remaining = remaining_until(deadline)
    finally:
        inflight_lock(&self.lock)
        list_remove(&waiter.node)
        inflight_unlock(&self.lock)


cdef bint completion_add_callback(Completion* self, object fn) except -1:
    # False if it is finished: nobody will call `fn`.
    cdef Callback* callback = <Callback*>inflight_malloc(sizeof(Callback))
    cdef bint pending
    if callback == NULL:
        raise MemoryError
    callback.fn = <PyObject*>fn
    inflight_lock(&self.lock)
    pending = self.state == PENDING
    if pending:
        retain(callback.fn)
        if self.callbacks == NULL:
            callback.next = callback
        else:
            callback.next = self.callbacks.next
            self.callbacks.next = callback
        self.callbacks = callback
    inflight_unlock(&self.lock)
    if not pending:
        inflight_count(CALLBACK_LATE)
        PyMem_RawFree(callback)
    return pending


cdef object completion_call_back(Completion* self, object subject, object passed_on):
    # Calls all callbacks, in the order in which they were added; to be called by the finisher.
    cdef Callback* last = self.callbacks
    cdef Callback* callback
    self.callbacks = NULL
    while last != NULL:
        callback = last.next
        last.next = callback.next
        if callback == last:
            last = NULL
        fn = <object>callback.fn
        drop(callback.fn)
        PyMem_RawFree(callback)
        passed_on = call_callback(fn, subject, passed_on)
    return passed_on


cdef inline bint is_of(object error, object kind) noexcept:
    # As in _report.py: `isinstance` would ask the error for its class, which is code of the user's.
    return PyErr_GivenExceptionMatches(type(error), kind)


cdef object call_callback(object fn, object subject, object passed_on):
    # Returns the first exception that must be passed on, `passed_on` if there was one before; any
    # other is logged. Raises nothing: others wait for what comes next.
    cdef object failure = None
    inflight_outside()
    try:
        PyObject_CallOneArg(fn, subject)
    except BaseException as error:
        failure = error     # no more inside the clause, which takes the traceback apart at its end
    if failure is None:
        return passed_on
    if is_of(failure, PASSED_ON):
        return failure if passed_on is None else passed_on
    return report_failure("callback", subject, failure, passed_on)


cdef object report_failure(str what, object subject, object failure, object passed_on):
    # Logging is Python code, at whose entry a signal handler may raise.
    cdef list interrupts = None
    try:
        interrupts = []
        PyObject_CallFunctionObjArgs(
            report, <PyObject*>what, <PyObject*>subject, <PyObject*>failure, <PyObject*>interrupts, NULL
        )
    except BaseException as error:
        if interrupts is not None and is_of(error, PASSED_ON):
            interrupts.append(error)
    return interrupts[0] if passed_on is None and interrupts else passed_on


cdef void completion_forget(Completion* self) noexcept:
    # Drops the callbacks of an object that is going away.
    cdef Callback* last = self.callbacks
    cdef Callback* callback
    cdef PyObject* fn
    self.callbacks = NULL
    while last != NULL:
        callback = last.next
        last.next = callback.next
        if callback == last:
            last = NULL
        fn = callback.fn
        PyMem_RawFree(callback)
        drop(fn)
