# A group of operations with a reducer that runs when the last has finished.
#
# One atomic word tells all that decides when: how many operations are outstanding, how many
# `with` blocks hold the group open, whether it is sealed, whether it is complete. Each step is a
# compare-and-swap, and the one that takes the word to "nothing outstanding, nothing held" sets
# COMPLETE in the same swap: exactly one caller does, and it runs the reducer.
#
# The group has no reference to an unfinished operation, or one that is dropped could never be
# noticed. Finished ones are pushed onto a stack, each linked by its own field to the one below; the
# lowest is linked to the group itself. Pushing before counting down makes every push visible to the
# one who completes. They are put in order by their place when somebody looks at the Results; what
# nobody else has until then is stowed away (stow.pxi).

cdef enum:
    WORD_COMPLETE = 1
    WORD_SEALED = 2
    WORD_HOLD = 4                       # 20 bits of holds
    WORD_HOLDS = 0xFFFFF * 4
    WORD_OP = 0x400000                  # the other 42 bits: operations outstanding
    WORD_SHIFT = 22

cdef enum:
    REDUCED = 2      # outcome is the Results
    RAISED = 3       # outcome is (error, its traceback at that time), or the error alone


cdef class CallGroup:
    """CallGroup(on_complete=None)
--

    A group of operations with one reducer.

    ``on_complete(results)`` runs once, when the last operation has finished, in the thread that
    finished it. What it raises is logged and re-raised by ``result()``; it does not reach the
    worker. It may call anything, this group included, except wait for it.

    The group completes when no operation is outstanding, nothing holds it, and it has had an
    operation or was sealed. ``with group:`` holds it while operations are added, so that fast
    workers cannot complete it too early, and seals it at the end.

    :raises TypeError: if ``on_complete`` is neither callable nor ``None``.

    >>> from inflight import CallGroup
    >>> with CallGroup(lambda results: print(sum(r.result for r in results.responses))) as group:
    ...     ops = group.add_many([("a", 20), ("b", 22)])
    >>> for op in ops:
    ...     op.finish(op.msg)
    42
    """

    # Written once, but that the one who completes drops the reducer.
    cdef object on_complete
    cdef bint initialised
    # Atomic.
    cdef uint64_t word
    cdef uint64_t added
    cdef uint64_t finished              # the top of the stack: an Op*, each owned, or the group itself
    cdef uint64_t reducing_thread
    # The Results, made here so that none of its making can fail at the end; what replaces them is
    # written before the completion is published.
    cdef object outcome
    cdef Completion completion
    cdef object __weakref__

    __class_getitem__ = classmethod(GenericAlias)

    def __cinit__(self):
        self.finished = <uint64_t><size_t><PyObject*>self
        completion_init(&self.completion)
        self.outcome = Results.__new__(Results)
        set_once(self.outcome, "_group", None)
        set_once(self.outcome, "_ops", None)
        set_once(self.outcome, "_responses", None)
        set_once(self.outcome, "_index", None)

    def __init__(self, on_complete=None):
        if self.initialised:
            raise RuntimeError("a CallGroup cannot be initialised again")
        self.on_complete = None if on_complete is None else check_function(on_complete, "on_complete")
        self.initialised = True

    def add(self, key, msg=None):
        """Add an operation and return it. O(1), does not wait.

        :raises GroupClosedError: once the group is sealed or complete.
        :raises TypeError: if ``key`` cannot be hashed.

        >>> from inflight import CallGroup
        >>> group = CallGroup()
        >>> op = group.add("a", 1)
        >>> group.outstanding
        1
        >>> op.finish()
        """
        return owned(group_add(self, <PyObject*>key, <PyObject*>msg))

    def add_many(self, items):
        """Add an operation for each ``(key, msg)``, all or none. O(n), does not wait.

        :return: the operations, in the order of ``items``.
        :raises GroupClosedError: once the group is sealed or complete.
        :raises TypeError: if an item is not a pair, or its key cannot be hashed.

        >>> from inflight import CallGroup
        >>> group = CallGroup()
        >>> [op.key for op in group.add_many([("a", 1), ("b", 2)])]
        ['a', 'b']
        >>> group.done()  # they were dropped unfinished, which finishes them
        True
        """
        cdef list ops = []
        cdef Py_ssize_t i
        cdef uint64_t place
        try:
            for item in items:
                ops.append(owned(group_candidate(self, item)))
            if not group_enroll(self, <uint64_t>len(ops)):
                group_refuse(self)
        finally:
            item = None
        place = inflight_add(&self.added, <uint64_t>len(ops))
        for i in range(len(ops)):
            (<Op>PyList_GET_ITEM(ops, i)).place = place + <uint64_t>i
            (<Op>PyList_GET_ITEM(ops, i)).completion.state = PENDING
        return ops

    def seal(self):
        """Accept no more operations. Idempotent.

        A group without any completes here: its reducer then runs in this thread.

        >>> from inflight import CallGroup
        >>> group = CallGroup(lambda results: print(len(results)))
        >>> group.seal()
        0
        """
        if group_count_down(self, 0, WORD_SEALED):
            group_finish_up(self)

    def __enter__(self):
        return group_enter(self)

    def __exit__(self, exc_type, exc, traceback):
        cdef uint64_t word, following
        while True:
            word = inflight_load(&self.word)
            if word & WORD_HOLDS == 0:
                raise RuntimeError("the group is left more often than it was entered")
            following = word - WORD_HOLD
            if following & WORD_HOLDS == 0:
                # The last block. It seals and completes in one step: entered in between, the group would be
                # sealed by a block that was not the last.
                following = word_after(word, WORD_HOLD, WORD_SEALED)
            if inflight_swap(&self.word, word, following):
                break
        if (word ^ following) & WORD_COMPLETE != 0:
            group_finish_up(self)

    def __aenter__(self):
        # Not a coroutine of Cython's: that may have entered, and then lack the memory to say so.
        return wait_new(ENTER, self, None)

    def __aexit__(self, exc_type, exc, traceback):
        self.__exit__(exc_type, exc, traceback)
        return EXITED

    @property
    def outstanding(self):
        """How many operations are not finished yet. An operation's callbacks still see it counted."""
        return group_outstanding(self, inflight_load(&self.word))

    def __len__(self):
        return <Py_ssize_t>inflight_load(&self.added)

    def __bool__(self):
        return True

    def done(self):
        """Whether it is complete and its reducer has returned.

        >>> from inflight import CallGroup
        >>> group = CallGroup()
        >>> group.done()
        False
        >>> group.seal()
        >>> group.done()
        True
        """
        return inflight_load(&self.completion.state) != PENDING

    def result(self, timeout=None):
        """What the operations ended with; waits until the reducer has returned, for at most
        ``timeout`` seconds.

        ``None`` waits for ever, 0 or less does not wait. The wait ends at Ctrl-C. Operations that
        failed do not make this raise; what the reducer raised is raised here, with a traceback of
        its own for every caller.

        :raises TimeoutError: if the group is not complete by then.
        :raises RuntimeError: if the reducer waits for its own group.
        :raises ValueError: if ``timeout`` is NaN.

        >>> from inflight import CallGroup
        >>> with CallGroup() as group:
        ...     group.add("a").finish(1)
        >>> group.result()["a"].result
        1
        """
        cdef double limit = seconds_of(timeout)
        if inflight_load(&self.completion.state) == PENDING:
            group_refuse_reducer(self)
            if not completion_wait(&self.completion, limit):
                raise TimeoutError(f"the group is not complete after {timeout} seconds")
        return group_outcome(self)

    def __await__(self):
        """Wait in a coroutine until the reducer has returned; returns and raises what ``result`` does.

        Suspends the task only, and not at all if it has returned already. From any event loop; any
        number of tasks and threads may wait. Cancelling one that waits leaves the group alone.

        :raises RuntimeError: if the reducer waits for its own group.

        >>> import asyncio
        >>> from inflight import CallGroup
        >>> async def main():
        ...     async with CallGroup() as group:
        ...         op = group.add("a")
        ...     asyncio.get_running_loop().call_soon(op.finish, 1)
        ...     return await group
        >>> asyncio.run(main())["a"].result
        1
        """
        return wait_new(AWAIT_GROUP, self, None)

    def add_done_callback(self, fn):
        """Have ``fn(group)`` called once the reducer has returned, in the thread that ran it.

        If it has returned already, ``fn`` is called now, in this thread. Callbacks run in the
        order in which they were added. What ``fn`` raises is logged; KeyboardInterrupt and
        SystemExit reach whoever completed the group, after everything else has been done.

        :raises TypeError: if ``fn`` is not callable.

        >>> from inflight import CallGroup
        >>> group = CallGroup()
        >>> group.add_done_callback(print)
        >>> group.seal()
        <CallGroup complete 0 of 0 outstanding>
        """
        if completion_add_callback(&self.completion, check_function(fn, "fn")):
            return
        passed_on = call_callback(fn, self, None)
        if passed_on is not None:
            raise passed_on

    def __repr__(self):
        cdef uint64_t word = inflight_load(&self.word)
        state = "complete" if word & WORD_COMPLETE else "sealed" if word & WORD_SEALED else "open"
        return f"<{kind_of(self)} {state} {group_outstanding(self, word)} of {inflight_load(&self.added)} outstanding>"

    def __reduce__(self):
        raise TypeError(f"{kind_of(self)} objects cannot be pickled: they are bound to this process")

    def _in_order(self):
        # For Results that somebody looks at.
        return owned(group_ops(self))

    def __dealloc__(self):
        group_clear(self)


cdef inline uint64_t group_outstanding(CallGroup self, uint64_t word) noexcept nogil:
    # One that is being added is counted as outstanding first; nobody has it yet.
    return min(word >> WORD_SHIFT, inflight_load(&self.added))


cdef int group_refuse_reducer(CallGroup self) except -1:
    if inflight_load(&self.reducing_thread) == <uint64_t>PyThread_get_thread_ident():
        if inflight_load(&self.completion.state) == PENDING:
            raise RuntimeError("a group's reducer cannot wait for its own group")
    return 0


cdef object group_outcome(CallGroup self):
    # What a complete group returns or raises to who waited for it.
    if self.completion.state == REDUCED:
        group_show(self)
        return self.outcome
    if type(self.outcome) is not tuple:
        raise to_raise(self.outcome, None)
    error, traceback = <tuple>self.outcome
    raise to_raise(error, traceback)


cdef inline PyObject* group_add(CallGroup self, PyObject* key, PyObject* msg) except NULL:
    cdef PyObject* op
    key_check(key)
    op = op_new(<PyObject*>self, key, msg)
    if not group_enroll(self, 1):
        # Refused, it is no loss.
        op_completion_of(op).state = RETIRED
        drop(op)
        group_refuse(self)
    (<Op>op).place = inflight_add(&self.added, 1)
    return op


cdef inline PyObject* group_candidate(CallGroup self, object item) except NULL:
    # An operation that is not yet the group's: dropped before it is enrolled, it is no loss.
    cdef PyObject* op
    if type(item) is tuple and len(<tuple>item) == 2:
        key_check(PyTuple_GET_ITEM(item, 0))
        op = op_new(<PyObject*>self, PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1))
    else:
        op = group_unpack(self, item)
    op_completion_of(op).state = RETIRED
    return op


cdef PyObject* group_unpack(CallGroup self, object item) except NULL:
    try:
        # The letters of a key are no pair.
        key, msg = None if isinstance(item, (str, bytes)) else item
    except (TypeError, ValueError):
        raise TypeError(f"items must be (key, msg) pairs, got {item!r}") from None
    key_check(<PyObject*>key)
    return op_new(<PyObject*>self, <PyObject*>key, <PyObject*>msg)


cdef inline bint group_enroll(CallGroup self, uint64_t count) noexcept nogil:
    # Counts operations in, unless no more are accepted.
    cdef uint64_t word
    while True:
        word = inflight_load(&self.word)
        if word & (WORD_SEALED | WORD_COMPLETE):
            inflight_count(ENROLLED_LATE)
            return False
        if inflight_swap(&self.word, word, word + count * <uint64_t>WORD_OP):
            return True
        inflight_count(STEP_REPEATED)


cdef object group_enter(CallGroup self):
    cdef uint64_t word
    while True:
        word = inflight_load(&self.word)
        if word & WORD_COMPLETE:
            raise GroupClosedError("the group is complete")
        if word & WORD_HOLDS == WORD_HOLDS:
            raise RuntimeError("the group is entered too often")
        if inflight_swap(&self.word, word, word + WORD_HOLD):
            return self


cdef int group_refuse(CallGroup self) except -1:
    complete = inflight_load(&self.word) & WORD_COMPLETE
    raise GroupClosedError("the group is complete" if complete else "the group is sealed")


cdef inline bint group_op_finished(CallGroup self, PyObject* op) noexcept:
    # True if that completes the group.
    cdef uint64_t top
    retain(op)
    while True:
        top = inflight_load(&self.finished)
        op_below_of(op)[0] = <PyObject*><size_t>top
        if inflight_swap(&self.finished, top, <uint64_t><size_t>op):
            break
        inflight_count(STEP_REPEATED)
    if top != <uint64_t><size_t><PyObject*>self:
        op_stow_unless_shared(<PyObject*><size_t>top, 0)
    return group_count_down(self, WORD_OP, 0)


cdef inline uint64_t word_after(uint64_t word, uint64_t step, uint64_t flags) noexcept nogil:
    # COMPLETE, if this step takes it there.
    cdef uint64_t following = (word - step) | flags
    if following & WORD_COMPLETE == 0 and following >> WORD_SHIFT == 0 and following & WORD_HOLDS == 0:
        following |= WORD_COMPLETE
    return following


cdef inline bint group_count_down(CallGroup self, uint64_t step, uint64_t flags) noexcept nogil:
    # True if this step completes the group.
    cdef uint64_t word, following
    while True:
        word = inflight_load(&self.word)
        following = word_after(word, step, flags)
        if inflight_swap(&self.word, word, following):
            return (word ^ following) & WORD_COMPLETE != 0
        inflight_count(STEP_REPEATED)


cdef int group_finish_up(CallGroup self) except -1:
    # After the step that completed it.
    cdef object passed_on = group_complete(self)
    if passed_on is not None:
        raise passed_on
    return 0


cdef object group_complete(CallGroup self):
    # The reducer, then the group's waiters and callbacks. Called once; raises nothing, and returns the
    # first exception that must be passed on.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef object on_complete = self.on_complete
    cdef object results = self.outcome      # until the end: nothing is dropped under the lock
    cdef object outcome = None
    cdef object failure = None
    cdef object passed_on = None
    cdef uint64_t state = REDUCED
    self.on_complete = None
    if on_complete is not None:
        group_show(self)
        inflight_store(&self.reducing_thread, <uint64_t>PyThread_get_thread_ident())
        try:
            PyObject_CallOneArg(on_complete, results)
        except BaseException as error:
            failure = error
            state = RAISED
        group_hide(results)
    if failure is None:
        outcome = results
    else:
        outcome = failure
        try:
            outcome = (failure, traceback_of(failure))
            group_part_with(self, results)
        except (MemoryError, RuntimeError):
            pass            # no tuple; or garbage, of which the collector has cleared a part
        passed_on = report_failure("on_complete", self, failure, passed_on)
        if passed_on is None and is_of(failure, PASSED_ON):
            passed_on = failure
    inflight_store(&self.reducing_thread, 0)
    inflight_lock(&self.completion.lock)
    self.outcome = outcome
    completion_finish(&self.completion, state, &wake)
    inflight_unlock(&self.completion.lock)
    wake_all(&wake)
    return completion_call_back(&self.completion, self, passed_on)


cdef int group_show(CallGroup self) except -1:
    # Lets the Results ask for the operations, before anybody gets them. Without a call of Python code, at
    # whose entry a signal handler might raise and so keep the reducer from running.
    results = self.outcome
    if results._group is None and results._ops is None:
        set_once(results, "_group", self)
    return 0


cdef inline void group_hide(object results) noexcept:
    # If nobody kept them, they need not keep the group: whoever gets them next is shown it again. They
    # are the group's and the caller's.
    if (
        not INFLIGHT_FREE_THREADED and Py_REFCNT(<PyObject*>results) == 2
        and weak_list(<PyObject*>results, results_weak_list)[0] == NULL
    ):
        set_once(results, "_group", None)


cdef PyObject* group_ops(CallGroup self) except NULL:
    # All operations in add order. Nobody pushes any more, so any number of threads may walk down the stack.
    cdef Py_ssize_t missing = <Py_ssize_t>inflight_load(&self.added)
    cdef PyObject* ops = PyTuple_New(missing)
    cdef PyObject* op = <PyObject*><size_t>inflight_load(&self.finished)
    while op != <PyObject*>self:
        if op_is_stowed(op):
            op_fetch(op, <PyObject*>self)
        retain(op)
        PyTuple_SET_ITEM(ops, <Py_ssize_t>(<Op>op).place, op)
        missing -= 1
        op = op_below_of(op)[0]
    if missing:
        drop(ops)
        raise RuntimeError("the group has no results: it is incomplete, or has been garbage")
    return ops


cdef int group_part_with(CallGroup self, object results) except -1:
    # Nobody gets them from the group any more; whoever kept them has the operations from them alone. Without
    # the GIL, somebody may be walking down the stack, so it stays.
    if not INFLIGHT_FREE_THREADED:
        if results._ops is None:
            set_once(results, "_ops", owned(group_ops(self)))
        set_once(results, "_group", None)
        group_forget(self)
    return 0


cdef extern from "Python.h":
    # For a slot of Results, none of these allocates.
    int set_once "PyObject_GenericSetAttr"(object results, object name, object value) except -1


cdef void group_clear(CallGroup self) noexcept:
    completion_forget(&self.completion)
    group_forget(self)


cdef void group_forget(CallGroup self) noexcept:
    cdef PyObject* op
    while self.finished != <uint64_t><size_t><PyObject*>self:
        op = <PyObject*><size_t>self.finished
        self.finished = <uint64_t><size_t>op_below_of(op)[0]
        op_below_of(op)[0] = NULL
        drop(op)
