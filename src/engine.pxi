# The keyed queue: one engine. FIFO is its nature; a window and ownership are policies.
#
#     window > 0    a row becomes ready when its window is over, or when it is full
#     exclusive     a row that was handed out owns its key until it is released; operations
#                   that arrive meanwhile gather in a row behind it
#
# What holds whenever the lock is free (check.pxi verifies it):
#
#   1. Every key that waits or is owned has one row in the index; a row behind an owner is
#      reached through it. `waiting` counts the rows that are OPEN, READY, PROMISED or BEHIND.
#   2. While a row is READY, no consumer is in the list: whichever comes second is matched.
#      So newcomers, who take what is READY, never overtake anyone. And a row is promised only when
#      none is READY: what was promised and came back, `returned`, is older than all of `ready`.
#   3. While there is room for a new key, no producer is in the list; a slot that was promised
#      to a woken producer is counted in `reserved` and is nobody else's room.
#   4. Deadlines in `open` never decrease, and while a row is OPEN the oldest consumer, the
#      timekeeper, is parked no longer than until the first deadline, or has been woken.
#
# Every function here needs the queue's lock, is O(1) unless it says otherwise, and wakes nobody
# itself: it chains the waiters, and the shell wakes them when the lock is released.
#
# `now` is the queue's clock, read before the lock was taken, since reading it runs Python code.
#
# Rejected: a thread that watches the windows (the oldest consumer does it while it waits); a
# waiter that is woken to compete for rows (it could wait for ever, and a row promised by count
# instead of by name could be taken by a later consumer first).

cdef enum Answer:
    ACCEPTED
    TAKEN_ROW
    WAIT                     # the node is in its list: park, then ask again
    EMPTY
    CLOSED
    FULL_DEPTH
    FULL_WIDTH
    NO_MEMORY
    COMPARE                  # compare the probe's candidate, then ask again
    DONE


cdef struct Engine:
    inflight_mutex lock
    uint64_t generation      # of the last fork that was taken notice of
    # Written once.
    Py_ssize_t depth
    Py_ssize_t width
    double window
    bint exclusive
    # Guarded by lock.
    Index index
    RowList ready
    RowHeap returned
    RowList open
    WaitNode* consumers
    WaitNode* producers
    Alike alike              # the producers in their list
    WaitNode* joiners
    Py_ssize_t waiting
    Py_ssize_t reserved
    Py_ssize_t owned
    double now               # the latest reading of the clock
    uint64_t next_seq
    bint closed
    # Counters since the start, guarded by lock. What else there is to know follows from them.
    Py_ssize_t merged
    Py_ssize_t dequeued_rows
    Py_ssize_t dequeued_ops
    Py_ssize_t refused_depth
    Py_ssize_t refused_width
    Py_ssize_t requeued


cdef bint engine_init(
    Engine* self, Py_ssize_t depth, Py_ssize_t width, double window, bint exclusive
) noexcept nogil:
    # The memory is zeroed.
    self.depth = depth
    self.width = width
    self.window = window
    self.exclusive = exclusive
    self.generation = inflight_generation
    inflight_lock_init(&self.lock)
    return index_init(&self.index)


cdef inline Py_ssize_t engine_enqueued(Engine* self) noexcept nogil:
    # Every operation since the start: it was merged, or is the first of its row.
    return self.merged + self.dequeued_rows + self.waiting


# ---- matching rows with consumers, room with producers ------------------------------------------


cdef inline void engine_promise(Engine* self, Row* row, WakeChain* wake) noexcept nogil:
    # Binds a row that is in no list to the oldest consumer.
    cdef WaitNode* node = self.consumers
    list_remove(node)
    node.state = PROMISED
    node.row = row
    row.state = PROMISED_ROW
    row.place.waiter = node
    inflight_count(ROW_PROMISED)
    kick(node, wake)


cdef inline void engine_make_ready(Engine* self, Row* row, WakeChain* wake) noexcept nogil:
    # The row is in no list.
    row.turn.seq = self.next_seq
    self.next_seq += 1
    if self.consumers != NULL:
        engine_promise(self, row, wake)
    else:
        row.state = READY
        rows_append(&self.ready, row)


cdef void engine_take_back(Engine* self, WaitNode* node, WakeChain* wake) noexcept nogil:
    # A waiter leaves without the row it was promised: the next one gets it, or it goes back. Without
    # that it stays [PROMISED] to one who has [LEFT]: the model's FAULT_NO_HAND_BACK.
    cdef Row* row = node.row
    node.state = WAITING
    node.row = NULL
    row.place.waiter = NULL
    if self.consumers != NULL:
        inflight_count(ROW_PASSED_ON)
        engine_promise(self, row, wake)
    else:
        inflight_count(ROW_PUT_BACK)
        row.state = READY
        heap_add(&self.returned, row)


cdef inline void engine_settle(Engine* self, WakeChain* wake) noexcept nogil:
    # Restores invariants 3 and 4 after room, ownership, windows or the oldest consumer changed,
    # and tells those who wait for the end. There is nothing to do unless somebody waits.
    if <size_t>self.consumers | <size_t>self.producers | <size_t>self.joiners:
        engine_tell_waiters(self, wake)


cdef void engine_tell_waiters(Engine* self, WakeChain* wake) noexcept nogil:
    cdef WaitNode* node
    # Those who wait for the end first: they are to see it, if they run before others enqueue.
    if self.waiting == 0 and self.owned == 0:
        while self.joiners != NULL:
            # What they waited for has come, whatever is enqueued before they run.
            node = self.joiners
            list_remove(node)
            node.state = PROMISED
            kick(node, wake)
        if self.closed:
            list_dissolve(&self.consumers, wake)
    while self.producers != NULL and self.depth - self.waiting > self.reserved:
        node = self.producers
        list_remove(node)
        node.state = PROMISED
        node.generation = self.generation
        self.reserved += 1
        inflight_count(SLOT_PROMISED)
        kick(node, wake)
    if self.open.head != NULL and self.consumers != NULL:
        if self.consumers.armed > self.open.head.turn.deadline:
            kick(self.consumers, wake)


cdef void engine_after_fork(Engine* self) noexcept nogil:
    # In the child, once: waiters of threads that do not exist here are dropped, and what they
    # were promised goes back. A waiter that does exist (fork in a signal handler during its park)
    # finds its node in no list, and enters again. O(slots of the index).
    cdef size_t i
    cdef Row* row
    self.generation = inflight_generation
    while self.consumers != NULL:
        list_remove(self.consumers)
    while self.producers != NULL:
        list_remove(self.producers)
    while self.joiners != NULL:
        list_remove(self.joiners)
    self.reserved = 0
    for i in range(self.index.main.mask + 1):
        engine_unpromise(self, self.index.main.slots[i].row)
    if self.index.old.slots != NULL:
        for i in range(self.index.old.mask + 1):
            engine_unpromise(self, self.index.old.slots[i].row)


cdef void engine_unpromise(Engine* self, Row* row) noexcept nogil:
    if row == NULL or row == &TOMBSTONE or row.state != PROMISED_ROW:
        return
    # There is no consumer that it could be passed on to, and so nobody to wake.
    engine_take_back(self, row.place.waiter, NULL)


cdef inline void engine_enter(Engine* self, double now, WakeChain* wake) noexcept nogil:
    # What every call does first: notice a fork, and open windows that are over.
    if self.generation != inflight_generation:
        engine_after_fork(self)
    if self.window > 0:
        # Two threads may get here in another order than they read the clock.
        if now > self.now:
            self.now = now
        while self.open.head != NULL and self.open.head.turn.deadline <= self.now:
            inflight_count(WINDOW_OVER)
            engine_end_window(self, self.open.head, wake)


cdef bint engine_end_window(Engine* self, Row* row, WakeChain* wake) noexcept nogil:
    # True if the row is ready now, false if it still waits for its key.
    inflight_count(WINDOW_ENDED)
    rows_remove(&self.open, row)
    if row.peer != NULL:
        row.state = BEHIND
        return False
    engine_make_ready(self, row, wake)
    return True


# ---- adding ---------------------------------------------------------------------------------------


cdef inline Answer engine_offer(
    Engine* self, Probe* probe, PyObject* op, bint give_up, double now, WakeChain* wake
) noexcept nogil:
    # Adds `op` for a caller who is in no list. Without room for a new key: FULL_DEPTH if it is to give
    # up, else WAIT.
    cdef Row* row = NULL
    cdef Answer answer
    engine_enter(self, now, wake)
    answer = engine_put(self, probe, op, 0, &row, wake)
    if answer == FULL_DEPTH:
        if give_up:
            self.refused_depth += 1
        else:
            answer = WAIT
    # Not only for producers: a window may have ended, a row may have opened.
    engine_settle(self, wake)
    return answer


cdef Answer engine_enqueue(
    Engine* self, Probe* probe, PyObject* op, WaitNode* node, bint give_up, double now,
    WakeChain* wake,
) noexcept nogil:
    # The same for a caller with a node, if it has one. WAIT: the node is in its list. With every other
    # answer but COMPARE it is out of it, and its slot given back.
    cdef Row* row = NULL
    cdef Answer answer
    if node == NULL:
        return engine_offer(self, probe, op, give_up, now, wake)
    engine_enter(self, now, wake)
    # A slot that was promised to this producer is room for it, and for nobody else.
    answer = engine_put(self, probe, op, engine_has_slot(self, node), &row, wake)
    if answer == COMPARE:
        engine_settle(self, wake)
        return COMPARE
    if answer == FULL_DEPTH:
        if give_up:
            self.refused_depth += 1
        elif engine_line_up(self, node, probe.hash):
            engine_settle(self, wake)
            return WAIT
        else:
            answer = NO_MEMORY
    if INFLIGHT_IS_PROOF and engine_has_slot(self, node):
        if row == NULL and answer == ACCEPTED:
            inflight_count(SLOT_USED)
            if node.signalled:
                inflight_count(SLOT_USED_UNWOKEN)
        else:
            inflight_count(SLOT_GIVEN_UP)
    engine_drop_producer(self, node)
    engine_settle(self, wake)
    return answer


cdef bint engine_line_up(Engine* self, WaitNode* node, Py_hash_t hash) noexcept nogil:
    # A producer, unless it is there already. False if there is no memory.
    if node.list == NULL:
        node.hash = hash
        if not alike_add(&self.alike, node):
            return False
        list_append(&self.producers, node)
    return True


cdef inline Answer engine_put(
    Engine* self, Probe* probe, PyObject* op, Py_ssize_t own, Row** found, WakeChain* wake
) noexcept nogil:
    # `own`: how many of the reserved slots are the caller's. `found`: the row that waits already.
    cdef Row* owner = NULL
    cdef Verdict verdict
    if self.closed:
        return CLOSED
    verdict = index_find(&self.index, probe, found)
    if verdict == UNKNOWN:
        return COMPARE
    if verdict == EQUAL and found[0].state == TAKEN:
        owner = found[0]
        found[0] = owner.peer
    if found[0] != NULL:
        return engine_merge(self, found[0], op, wake)
    if self.depth - self.waiting > self.reserved - own:
        return engine_add_row(self, probe, op, owner, wake)
    return FULL_DEPTH


cdef inline Answer engine_merge(Engine* self, Row* row, PyObject* op, WakeChain* wake) noexcept nogil:
    if row.count >= self.width:
        self.refused_width += 1
        return FULL_WIDTH
    if not row_append(row, op):
        return NO_MEMORY
    self.merged += 1
    if INFLIGHT_IS_PROOF:
        if row.state == PROMISED_ROW:
            inflight_count(MERGED_INTO_PROMISED)
        if row.peer != NULL:
            inflight_count(MERGED_BEHIND)
    if row.state == OPEN and row.count >= self.width:
        engine_end_window(self, row, wake)
    return ACCEPTED


cdef inline Answer engine_add_row(
    Engine* self, Probe* probe, PyObject* op, Row* owner, WakeChain* wake
) noexcept nogil:
    cdef Row* row = row_new(probe)
    if row == NULL:
        return NO_MEMORY
    if owner != NULL:
        row.peer = owner
        owner.peer = row
    elif not index_insert(&self.index, probe, row):
        row_discard(row)
        return NO_MEMORY
    retain(row.key)
    row_start(row, op)
    self.waiting += 1
    if self.window > 0 and self.width > 1:
        row.state = OPEN
        row.turn.deadline = self.now + self.window
        rows_append(&self.open, row)
    elif owner != NULL:
        row.state = BEHIND
    else:
        engine_make_ready(self, row, wake)
    # Producers that wait with the same key can merge now.
    alike_kick(&self.alike, row.hash, wake)
    return ACCEPTED


cdef inline bint engine_has_slot(Engine* self, WaitNode* node) noexcept nogil:
    # What was promised before a fork is not reserved in the child.
    return node != NULL and node.state == PROMISED and node.generation == self.generation


cdef inline void engine_drop_producer(Engine* self, WaitNode* node) noexcept nogil:
    if engine_has_slot(self, node):
        self.reserved -= 1
    node.state = WAITING
    list_remove(node)


cdef inline void engine_leave_producer(Engine* self, WaitNode* node) noexcept nogil:
    # The wait was interrupted.
    if INFLIGHT_IS_PROOF and engine_has_slot(self, node):
        inflight_count(SLOT_GIVEN_UP)
    engine_drop_producer(self, node)


# ---- taking ---------------------------------------------------------------------------------------


cdef inline Row* engine_take_ready(Engine* self, double now, WakeChain* wake) noexcept nogil:
    # For a caller who does not wait: the oldest row that is ready, or NULL.
    cdef Row* row
    engine_enter(self, now, wake)
    row = engine_take_oldest(self)
    if row != NULL:
        engine_settle(self, wake)
    return row


cdef inline Row* engine_take_oldest(Engine* self) noexcept nogil:
    # To be settled, like engine_take. While there is one, nobody is in the list (invariant 2).
    cdef Row* row = self.ready.head
    if self.returned.oldest != NULL:
        row = heap_take(&self.returned)
    elif row != NULL:
        rows_remove_head(&self.ready)
        engine_foresee(self, self.ready.head)
    if row != NULL:
        engine_take(self, row)
    return row


cdef inline Py_ssize_t engine_ready(Engine* self) noexcept nogil:
    # How many rows a newcomer may take.
    return self.returned.size + self.ready.size


cdef inline void engine_foresee(Engine* self, Row* row) noexcept nogil:
    # Fetches what calls to come will need: `row` is the next to be taken. In a deep queue all of it is
    # far away, and a call would wait for one thing after the other.
    if row != NULL and row.next != NULL:
        row = row.next
        inflight_prefetch(row.key)
        inflight_prefetch(&self.index.main.slots[table_home(&self.index.main, row.hash)])
        if row.next != NULL:
            inflight_prefetch(row.next)
            inflight_prefetch(&row.next.next)


cdef Answer engine_dequeue(
    Engine* self, WaitNode* node, bint give_up, double now, Row** taken, WakeChain* wake
) noexcept nogil:
    # TAKEN_ROW: `taken` is the caller's. WAIT: park at most until `node.armed`. The node is out
    # of its list, and keeps no promise, with every other answer.
    cdef Row* row
    engine_enter(self, now, wake)
    if node != NULL and node.state == PROMISED:
        if node.signalled:
            inflight_count(ROW_TAKEN_UNWOKEN)
        row = node.row
        node.state = WAITING
        node.row = NULL
        row.place.waiter = NULL
        engine_take(self, row)
    else:
        row = engine_take_oldest(self)
    if row != NULL:
        engine_settle(self, wake)
        taken[0] = row
        return TAKEN_ROW
    if engine_is_over(self):
        if node != NULL:
            list_remove(node)
        return CLOSED
    if node == NULL or give_up:
        if node != NULL:
            list_remove(node)
        engine_settle(self, wake)
        return EMPTY
    if node.list == NULL:
        list_append(&self.consumers, node)
    node.armed = INFINITY
    if self.open.head != NULL and self.consumers == node:
        node.armed = self.open.head.turn.deadline
    engine_settle(self, wake)
    return WAIT


cdef inline bint engine_is_over(Engine* self) noexcept nogil:
    # For good: nothing is added any more.
    return self.closed and self.waiting == 0 and self.owned == 0


cdef inline void engine_take(Engine* self, Row* row) noexcept nogil:
    # The row is in no list. Room may have come free: to be settled.
    row.state = TAKEN
    self.waiting -= 1
    self.dequeued_rows += 1
    self.dequeued_ops += row.count
    if self.exclusive:
        self.owned += 1
    else:
        index_remove(&self.index, row)


cdef Py_ssize_t engine_dequeue_many(
    Engine* self, Row** taken, Py_ssize_t limit, bint opened, double now, WakeChain* wake
) noexcept nogil:
    # Takes up to `limit` rows that are nobody's, and then (`opened`) those whose window is open.
    cdef Py_ssize_t count = 0
    cdef Row* row
    cdef Row* following
    engine_enter(self, now, wake)
    while count < limit and engine_ready(self):
        taken[count] = engine_take_oldest(self)
        count += 1
    row = self.open.head if opened else NULL
    while count < limit and row != NULL:
        following = row.next
        if row.peer == NULL:
            rows_remove(&self.open, row)
            engine_take(self, row)
            taken[count] = row
            count += 1
        row = following
    engine_settle(self, wake)
    return count


cdef void engine_leave_consumer(Engine* self, WaitNode* node, WakeChain* wake) noexcept nogil:
    # The wait was interrupted: [LEFT].
    if node.state == PROMISED:
        engine_take_back(self, node, wake)
    list_remove(node)
    engine_settle(self, wake)


cdef void engine_release(Engine* self, Row* owner, double now, WakeChain* wake) noexcept nogil:
    # The key of a TAKEN row is free again; the row now belongs to its OpSet alone.
    cdef Row* behind = owner.peer
    engine_enter(self, now, wake)
    self.owned -= 1
    if behind == NULL:
        index_remove(&self.index, owner)
    else:
        behind.peer = NULL
        owner.peer = NULL
        index_replace(&self.index, owner, behind)
        self.requeued += 1
        inflight_count(REQUEUED)
        if behind.state == BEHIND:
            engine_make_ready(self, behind, wake)
    engine_settle(self, wake)


# ---- the rest -------------------------------------------------------------------------------------


cdef Py_ssize_t engine_flush(Engine* self, double now, WakeChain* wake) noexcept nogil:
    # Ends all windows; how many rows that made ready. O(rows whose window is open).
    cdef Py_ssize_t count = 0
    engine_enter(self, now, wake)
    while self.open.head != NULL:
        if engine_end_window(self, self.open.head, wake):
            count += 1
    engine_settle(self, wake)
    return count


cdef Answer engine_flush_key(Engine* self, Probe* probe, double now, WakeChain* wake) noexcept nogil:
    # ACCEPTED if that made a row ready.
    cdef Row* row = NULL
    cdef Answer answer = EMPTY
    engine_enter(self, now, wake)
    if index_find(&self.index, probe, &row) == UNKNOWN:
        engine_settle(self, wake)
        return COMPARE
    if row != NULL and row.state == TAKEN:
        row = row.peer
    if row != NULL and row.state == OPEN and engine_end_window(self, row, wake):
        answer = ACCEPTED
    engine_settle(self, wake)
    return answer


cdef void engine_close(Engine* self, WakeChain* wake) noexcept nogil:
    # Without a look at the clock: all windows end, in order.
    self.closed = True
    engine_flush(self, -INFINITY, wake)
    list_dissolve(&self.producers, wake)


cdef Answer engine_join(Engine* self, WaitNode* node, bint give_up) noexcept nogil:
    if self.generation != inflight_generation:
        engine_after_fork(self)
    # Without a node it only looks.
    if (node != NULL and node.state == PROMISED) or (self.waiting == 0 and self.owned == 0):
        if node != NULL:
            list_remove(node)
        return DONE
    if node == NULL or give_up:
        if node != NULL:
            list_remove(node)
        return EMPTY
    if node.list == NULL:
        list_append(&self.joiners, node)
    return WAIT
