# The calls of a queue that may wait or take rows, between its Python face and the engine.
#
# A wait is a loop: ask the engine; WAIT means that the waiter is in its list, so park, until woken,
# until the limit, or until there is another reason to look, and ask again. Whatever ends the loop,
# an exception from a signal handler included, the waiter has left its list and what it was
# promised has gone to the next: [LEFT] in proofs/wake.pml.
#
# Whatever can fail is done before a row is taken: the OpSet exists by then, and from there to the
# caller no Python code runs. So no row is lost between the queue and its consumer.

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX


cdef int queue_init(
    OpQueue self, object depth, object width, object window, bint exclusive
) except -1:
    cdef Engine* engine = &self.engine
    cdef Py_ssize_t deep, wide
    depth = check_bound(depth, "depth")
    width = check_bound(width, "width")
    cdef double seconds = check_window(window)
    deep = queue_bound(depth)
    wide = queue_bound(width)
    if self.clock is not None:
        raise RuntimeError("a queue cannot be initialised again")
    self._depth = depth
    self._width = width
    self.clock = _clock.monotonic
    engine.depth = deep
    engine.width = wide
    engine.window = seconds
    engine.exclusive = exclusive
    return 0


cdef Py_ssize_t queue_bound(object bound) except -1:
    # A bound that memory cannot reach is none: an int that is too large is clipped.
    return PY_SSIZE_T_MAX if bound is None else PyNumber_AsSsize_t(bound, NULL)


cdef inline Py_ssize_t queue_limit(object limit) except -1:
    # Nearly always a plain int, which is checked at once.
    return queue_bound(limit if type(limit) is int and limit > 0 else check_limit(limit))


cdef inline int queue_check_op(object op) except -1:
    if not isinstance(op, Op):
        raise TypeError(f"op must be an Op, not {kind_of(op)}")
    return 0


cdef inline int queue_enqueue(OpQueue self, PyObject* key, PyObject* op, double limit) except -1:
    # Waits for at most `limit` seconds. Without a wait, nothing but the kernel is called.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef Probe probe
    cdef Answer answer
    cdef double now
    probe_init(&probe, key)
    now = self.now()
    inflight_lock(&self.engine.lock)
    answer = engine_offer(&self.engine, &probe, op, limit <= 0, now, &wake)
    inflight_unlock(&self.engine.lock)
    if wake.head != NULL:
        wake_all(&wake)
    if answer == ACCEPTED:
        return 0            # nothing was compared: the probe holds nothing
    return queue_insist(self, &probe, <Op>op, limit, answer)


cdef int queue_insist(OpQueue self, Probe* probe, Op op, double limit, Answer answer) except -1:
    # The rest of an enqueue that was not accepted at once.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef double now
    try:
        while answer == COMPARE:
            probe_compare(probe)
            now = self.now()
            inflight_lock(&self.engine.lock)
            answer = engine_offer(&self.engine, probe, <PyObject*>op, limit <= 0, now, &wake)
            inflight_unlock(&self.engine.lock)
            wake_all(&wake)
        if answer == WAIT:
            answer = queue_wait_to_enqueue(self, probe, op, limit)
    finally:
        probe_clear(probe)
    if answer != ACCEPTED:
        queue_refuse(self, answer, <object>probe.key)
    return 0


cdef enum:
    # How many operations are added at most before others get the lock.
    BATCH = 128


cdef int queue_enqueue_each(OpQueue self, list ops, list refused) except -1:
    # Each under its own key, without waiting. One section for all that can be added without a call of
    # Python code; where one cannot, the next begins after it.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef Py_ssize_t count = len(ops)
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t end
    cdef PyObject* op
    cdef Probe probe
    cdef Answer answer
    cdef double now
    while i < count:
        answer = ACCEPTED
        now = self.now()
        end = min(i + BATCH, count)
        inflight_lock(&self.engine.lock)
        while i < end:
            op = PyList_GET_ITEM(ops, i)
            if not probe_init_plain(&probe, op_references(op)[<int>KEY]):
                break
            answer = engine_offer(&self.engine, &probe, op, True, now, &wake)
            if answer != ACCEPTED:
                break
            i += 1
        inflight_unlock(&self.engine.lock)
        wake_all(&wake)
        if i == end:
            continue
        op = PyList_GET_ITEM(ops, i)
        i += 1
        try:
            if answer == ACCEPTED:
                queue_enqueue(self, op_references(op)[<int>KEY], op, 0.0)
            else:
                queue_insist(self, &probe, <Op>op, 0.0, answer)
        except (QueueSaturatedDepthError, QueueSaturatedWidthError) as error:
            refused.append((<object>op, error.with_traceback(None)))
    return 0


cdef Answer queue_wait_to_enqueue(OpQueue self, Probe* probe, Op op, double limit) except *:
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef ThreadWaiter waiter = <ThreadWaiter>ThreadWaiter.__new__(ThreadWaiter)
    cdef WaitNode* node = &waiter.node
    cdef Engine* engine = &self.engine
    cdef double deadline = deadline_of(limit)
    cdef double remaining = limit
    cdef bint woken = False
    cdef Answer answer
    cdef double now
    try:
        while True:
            now = self.now()
            inflight_lock(&engine.lock)
            if woken:
                node.signalled = False
            answer = engine_enqueue(engine, probe, <PyObject*>op, node, remaining <= 0, now, &wake)
            inflight_unlock(&engine.lock)
            wake_all(&wake)
            woken = False
            if answer == COMPARE:
                probe_compare(probe)
            elif answer == WAIT:
                woken = waiter.park(remaining)
            else:
                return answer
            remaining = remaining_until(deadline)
    except BaseException:
        inflight_lock(&engine.lock)
        engine_leave_producer(engine, node)
        engine_settle(engine, &wake)
        inflight_unlock(&engine.lock)
        wake_all(&wake)
        raise


cdef int queue_refuse(OpQueue self, Answer answer, object key) except -1:
    if answer == FULL_DEPTH:
        raise QueueSaturatedDepthError(key, self._depth)
    if answer == FULL_WIDTH:
        raise QueueSaturatedWidthError(key, self._width)
    if answer == CLOSED:
        raise QueueClosedError("the queue is closed")
    raise MemoryError


cdef inline int queue_dequeue(OpQueue self, OpSet opset, double limit, object timeout) except -1:
    # Fills `opset`. `timeout` is the limit as the caller gave it, for the message.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef Row* row
    cdef Answer answer
    cdef double now = self.now()
    inflight_lock(&self.engine.lock)
    answer = engine_dequeue(&self.engine, NULL, True, now, &row, &wake)
    inflight_unlock(&self.engine.lock)
    if wake.head != NULL:
        wake_all(&wake)
    if answer == EMPTY and limit > 0:
        answer = queue_wait_to_dequeue(self, limit, &row)
    if answer == TAKEN_ROW:
        opset_fill(opset, self, row)
        return 0
    if answer == CLOSED:
        raise QueueClosedError("the queue is closed and drained")
    return queue_raise_empty(limit, timeout)


cdef PyObject* queue_take_one(OpQueue self) except NULL:
    # Waits for ever. Without a wait, one section; what could fail comes before it.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef double now = self.now()
    cdef PyObject* opset = opset_new(self)
    cdef Row* row
    inflight_lock(&self.engine.lock)
    row = engine_take_ready(&self.engine, now, &wake)
    inflight_unlock(&self.engine.lock)
    if wake.head != NULL:
        wake_all(&wake)
    if row == NULL:
        return queue_await_one(self, opset)
    opset_fill(<OpSet>opset, self, row)
    return opset


cdef PyObject* queue_await_one(OpQueue self, PyObject* opset) except NULL:
    cdef OpSet filled = <OpSet>owned(opset)
    queue_dequeue(self, filled, INFINITY, None)
    retain(opset)
    return opset


cdef int queue_raise_empty(double limit, object timeout) except -1:
    if limit > 0:
        raise QueueEmptyError(f"no row became ready within {timeout} seconds")
    raise QueueEmptyError("no row is ready")


cdef Answer queue_wait_to_dequeue(OpQueue self, double limit, Row** row) except *:
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef ThreadWaiter waiter = <ThreadWaiter>ThreadWaiter.__new__(ThreadWaiter)
    cdef WaitNode* node = &waiter.node
    cdef Engine* engine = &self.engine
    cdef double deadline = deadline_of(limit)
    cdef double remaining = limit
    cdef double armed
    cdef bint woken = False
    cdef Answer answer
    cdef double now
    try:
        while True:
            now = self.now()
            inflight_lock(&engine.lock)
            if woken:
                node.signalled = False
            answer = engine_dequeue(engine, node, remaining <= 0, now, row, &wake)
            armed = node.armed
            inflight_unlock(&engine.lock)
            wake_all(&wake)
            if answer != WAIT:
                return answer
            # Windows are measured on the queue's clock, the limit on the real one.
            woken = waiter.park(min(remaining, armed - now))
            remaining = remaining_until(deadline)
    except BaseException:
        inflight_lock(&engine.lock)
        engine_leave_consumer(engine, node, &wake)
        inflight_unlock(&engine.lock)
        wake_all(&wake)
        raise


cdef list queue_dequeue_many(OpQueue self, Py_ssize_t most, double limit, object timeout):
    cdef list rows
    cdef OpSet opset
    if most > 1:
        rows = queue_take_ready(self, most)
        if rows is not None:
            return rows
        if limit <= 0:
            queue_raise_empty(limit, timeout)
    opset = <OpSet>owned(opset_new(self))
    rows = [opset]
    queue_dequeue(self, opset, limit, timeout)
    return queue_take_more(self, rows, most)


cdef list queue_take_ready(OpQueue self, Py_ssize_t most):
    # All at once, before anybody waits: or another consumer might get one from between them. None if
    # nothing was ready; an error at the end.
    cdef list rows = queue_take(self, [], most, False)
    cdef bint over
    if len(rows) > 0:
        return rows
    inflight_lock(&self.engine.lock)
    over = engine_is_over(&self.engine)
    inflight_unlock(&self.engine.lock)
    if over:
        raise QueueClosedError("the queue is closed and drained")
    return None


cdef list queue_take_more(OpQueue self, list rows, Py_ssize_t limit):
    # A row that was promised, until it was taken, with up to `limit - 1` more that are ready.
    if limit > 1:
        try:
            rows = queue_take(self, rows, limit - 1, False)
        except MemoryError:
            # Nothing more was taken, and what was taken already is not lost for want of more.
            pass
        rows_put_first_in_order(rows)
    return rows


cdef int rows_put_first_in_order(list rows) except -1:
    # The first may have been promised to this call, and rows before it given back by others since.
    cdef Py_ssize_t i = 0
    cdef OpSet row
    cdef OpSet following
    while i + 1 < len(rows):
        row = <OpSet>rows[i]
        following = <OpSet>rows[i + 1]
        if row.row.turn.seq < following.row.turn.seq:
            break
        rows[i] = following
        rows[i + 1] = row
        i += 1
    return 0


cdef list queue_take(OpQueue self, list rows, Py_ssize_t limit, bint opened):
    # Adds up to `limit` rows to `rows` that are ready (`opened`: or open) and nobody's; never
    # blocks. What holds them is made first: it may fail, and more may come than it has room for. Then
    # there is another try: what was put back since, or became ready while others are open, stands before
    # them, and what would be left in its stead is older than what others take.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef Engine* engine = &self.engine
    cdef Py_ssize_t before = len(rows)
    cdef Py_ssize_t spare = 0
    cdef Py_ssize_t count, ready, i
    cdef list filled
    cdef Row** taken
    cdef double now
    while True:
        now = self.now()
        inflight_lock(&engine.lock)
        engine_enter(engine, now, &wake)
        engine_settle(engine, &wake)
        count = engine_ready(engine)
        if opened:
            count += engine.open.size
        inflight_unlock(&engine.lock)
        wake_all(&wake)
        count = min(count, limit)
        if count == 0:
            return rows
        count = min(count + spare, limit)
        filled = rows[:]
        for i in range(count):
            filled.append(owned(opset_new(self)))
        taken = <Row**>inflight_malloc(<size_t>count * sizeof(Row*))
        if taken == NULL:
            raise MemoryError
        try:
            now = self.now()
            inflight_lock(&engine.lock)
            engine_enter(engine, now, &wake)
            ready = engine_ready(engine)
            if opened:
                ready += engine.open.size
            if count < min(ready, limit):
                engine_settle(engine, &wake)
                count = -1
            else:
                count = engine_dequeue_many(engine, taken, count, opened, now, &wake)
            inflight_unlock(&engine.lock)
            wake_all(&wake)
            for i in range(count):
                opset_fill(<OpSet>PyList_GET_ITEM(filled, before + i), self, taken[i])
        finally:
            PyMem_RawFree(taken)
        if count >= 0:
            break
        # Producers must not outrun it for ever.
        spare = 2 * spare + 8
    # Without memory, or rows that are taken could be lost with it.
    inflight_cut(filled, before + count)
    return filled


cdef bint queue_join(OpQueue self, double limit) except -1:
    cdef ThreadWaiter waiter = <ThreadWaiter>ThreadWaiter.__new__(ThreadWaiter)
    cdef WaitNode* node = &waiter.node
    cdef Engine* engine = &self.engine
    cdef double deadline = deadline_of(limit)
    cdef double remaining = limit
    cdef bint woken = False
    cdef Answer answer
    try:
        while True:
            inflight_lock(&engine.lock)
            if woken:
                node.signalled = False
            answer = engine_join(engine, node, remaining <= 0)
            inflight_unlock(&engine.lock)
            if answer != WAIT:
                return answer == DONE
            woken = waiter.park(remaining)
            remaining = remaining_until(deadline)
    except BaseException:
        inflight_lock(&engine.lock)
        list_remove(node)
        inflight_unlock(&engine.lock)
        raise


cdef void queue_clear(OpQueue self) noexcept:
    # Drops every row that waits. Nobody else has the queue any more, or the collector has found
    # that nobody can reach it; but dropping operations may run code that does, so each row is
    # taken out before it is dropped. O(rows).
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef Row* taken
    while True:
        taken = NULL
        inflight_lock(&self.engine.lock)
        # Or a callback that enqueues again what was dropped would keep this from ending.
        self.engine.closed = True
        engine_dequeue_many(&self.engine, &taken, 1, True, 0, &wake)
        if taken != NULL and self.engine.exclusive:
            engine_release(&self.engine, taken, 0, &wake)
        inflight_unlock(&self.engine.lock)
        wake_all(&wake)
        if taken == NULL:
            return
        row_free(taken)
