# What the awaited calls ask for: each one's arguments, and one attempt to get what it came for.
#
# An attempt is one section of the engine or of a completion, as in calls.pxi, and never suspends:
# awaits.pxi does, between two of them. What was taken is in the hands of the Wait before any code
# runs that could raise.

cdef int wait_check(Wait self) except -1:
    # Checks the arguments, and makes what must not fail once something was taken.
    if self.kind <= NEXT_ROW:
        if self.kind == DEQUEUE_MANY:
            self.argument = wait_convert(self, check_limit, self.argument)
        else:
            self.row = <OpSet>owned(opset_new(<OpQueue>self.home))
    elif self.kind == ENQUEUE:
        queue_check_op(self.op)
    elif self.kind == AWAIT_GROUP:
        group_refuse_reducer(<CallGroup>self.home)
    self.limit = INFINITY if self.timeout is None else wait_seconds(self)
    if self.kind == SUBMIT:
        key_check(<PyObject*>self.key)
        self.op = owned(op_new(<PyObject*>None, <PyObject*>self.key, <PyObject*>self.argument))
        (<Op>self.op).completion.state = RETIRED
        self.argument = None
    return 0


cdef inline double wait_seconds(Wait self) except? -1:
    if type(self.timeout) is float:
        return seconds_of(self.timeout)
    seconds = wait_convert(self, check_seconds, self.timeout)
    return INFINITY if seconds is None else <double>seconds


cdef object wait_convert(Wait self, object convert, object number):
    # What is no number itself becomes one by code of its own.
    cdef bint busy = self.busy
    try:
        self.busy = True
        return convert(number)
    except StopIteration as error:
        raise wait_stopped(self) from error
    finally:
        self.busy = busy


cdef inline object wait_ask(Wait self, TaskWaiter waiter, bint last):
    # The answer, or UNANSWERED; then `waiter`, if there is one, is in line. On the `last` try there
    # is an answer.
    if self.kind <= NEXT_ROW:
        if self.kind == DEQUEUE_MANY and waiter is None:
            return wait_dequeue_many(self, last)
        return wait_dequeue(self, waiter, last)
    if self.kind == ENQUEUE:
        return wait_enqueue(self, waiter, last)
    if self.kind == SUBMIT:
        return wait_submit(self, waiter, last)
    if self.kind == JOIN:
        return wait_join(self, waiter, last)
    if self.kind == ENTER:
        return group_enter(<CallGroup>self.home)
    return wait_complete(self, waiter)


cdef inline WaitNode* node_of(TaskWaiter waiter) noexcept:
    # Under the lock of what is waited for: a wake-up that was delivered is taken notice of.
    if waiter is None:
        return NULL
    if waiter.woken:
        waiter.woken = False
        waiter.node.signalled = False
    return &waiter.node


cdef object wait_dequeue_many(Wait self, bint last):
    # Without waiting.
    cdef list rows = queue_take_ready(<OpQueue>self.home, queue_bound(self.argument))
    if rows is not None:
        return rows
    if last:
        queue_raise_empty(self.limit, self.timeout)
    # Before it is promised something.
    self.row = <OpSet>owned(opset_new(<OpQueue>self.home))
    self.op = [self.row]
    return UNANSWERED


cdef object wait_dequeue(Wait self, TaskWaiter waiter, bint last):
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef OpQueue queue = <OpQueue>self.home
    cdef Engine* engine = &queue.engine
    cdef AsyncRowIterator iterator
    cdef OpSet opset
    cdef WaitNode* node
    cdef Row* row = NULL
    cdef Answer answer
    cdef double now = queue.now()
    inflight_lock(&engine.lock)
    node = node_of(waiter)
    answer = engine_dequeue(engine, node, last, now, &row, &wake)
    if node != NULL:
        waiter.rest = node.armed - now
    inflight_unlock(&engine.lock)
    if answer == TAKEN_ROW:
        opset = self.row
        self.row = None
        opset_fill(opset, queue, row)
    if wake.head != NULL:
        wake_all(&wake)
    if answer == TAKEN_ROW:
        if self.kind == DEQUEUE_MANY:
            rows, self.op = self.op, None
            return queue_take_more(queue, <list>rows, queue_bound(self.argument))
        if self.kind == NEXT_ROW:
            iterator = <AsyncRowIterator>self.argument
            iterator.streak = iterator.streak + 1 if waiter is None else 0
        return opset
    if answer == WAIT or (answer == EMPTY and not last):
        return UNANSWERED
    if answer == EMPTY:
        queue_raise_empty(self.limit, self.timeout)
    if self.kind == NEXT_ROW:
        raise StopAsyncIteration
    raise QueueClosedError("the queue is closed and drained")


cdef object wait_enqueue(Wait self, TaskWaiter waiter, bint last):
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef OpQueue queue = <OpQueue>self.home
    cdef Engine* engine = &queue.engine
    cdef object op = self.op
    cdef Probe probe
    cdef Answer answer
    cdef double now
    probe_init(&probe, <PyObject*>self.key)
    while True:
        now = queue.now()
        inflight_lock(&engine.lock)
        answer = engine_enqueue(engine, &probe, <PyObject*>op, node_of(waiter), last, now, &wake)
        inflight_unlock(&engine.lock)
        if wake.head != NULL:
            wake_all(&wake)
        if answer != COMPARE:
            break
        wait_compare(self, &probe)
    if probe.equal != NULL or probe.unequal != NULL:
        probe_clear(&probe)
    if answer == WAIT:
        return UNANSWERED
    if answer != ACCEPTED:
        queue_refuse(queue, answer, self.key)
    # A task keeps its coroutine, which must not keep the operation alive.
    self.op = None
    self.key = None
    return op if self.kind == SUBMIT else None


cdef int wait_compare(Wait self, Probe* probe) except -1:
    # Even an int may have to be compared with a key that has code of its own.
    cdef bint busy = self.busy
    try:
        self.busy = True
        probe_compare(probe)
    except StopIteration as error:
        raise wait_stopped(self) from error
    finally:
        self.busy = busy
    return 0


cdef object wait_submit(Wait self, TaskWaiter waiter, bint last):
    # Nobody else knows the operation until it is accepted. Between two attempts nobody is to hear of it, by
    # a warning either: the collector may finalize it before the coroutine that has it.
    cdef Op op = <Op>self.op
    op.completion.state = PENDING
    try:
        answer = wait_enqueue(self, waiter, last)
    except BaseException:
        op.completion.state = RETIRED
        raise
    if answer is UNANSWERED:
        op.completion.state = RETIRED
    return answer


cdef object wait_join(Wait self, TaskWaiter waiter, bint last):
    cdef Engine* engine = &(<OpQueue>self.home).engine
    cdef Answer answer
    inflight_lock(&engine.lock)
    answer = engine_join(engine, node_of(waiter), last)
    inflight_unlock(&engine.lock)
    return True if answer == DONE else False if last else UNANSWERED


cdef inline Completion* wait_completion(Wait self) noexcept:
    return &(<Op>self.home).completion if self.kind == AWAIT_OP else &(<CallGroup>self.home).completion


cdef object wait_complete(Wait self, TaskWaiter waiter):
    cdef Completion* completion = wait_completion(self)
    cdef WaitNode* node
    cdef bint finished = inflight_load(&completion.state) != PENDING
    if not finished:
        if waiter is None:
            return UNANSWERED
        inflight_lock(&completion.lock)
        finished = completion.state != PENDING
        node = node_of(waiter)
        if not finished and node.list == NULL:
            list_append(&completion.waiters, node)
        inflight_unlock(&completion.lock)
        if not finished:
            return UNANSWERED
    return op_outcome(<Op>self.home) if self.kind == AWAIT_OP else group_outcome(<CallGroup>self.home)
