# Verifies the invariants of the kernel, for tests, of a proof build. Each function returns which one is
# broken, or NULL, and is O(slots of the index).

cdef const char* index_check(Index* index) noexcept nogil:
    cdef size_t seen = 0
    cdef size_t i
    cdef size_t distance, before
    for i in range(index.main.mask + 1):
        if index.main.slots[i].row != NULL:
            seen += 1
            distance = table_distance(&index.main, i)
            before = (i - 1) & index.main.mask
            if distance and (
                index.main.slots[before].row == NULL or table_distance(&index.main, before) + 1 < distance
            ):
                return b"the slots are not in the order of their homes"
            if table_slot_of(&index.main, index.main.slots[i].row) != &index.main.slots[i]:
                return b"a row cannot be reached from the home of its hash"
            if index.main.slots[i].hash != index.main.slots[i].row.hash:
                return b"a slot and its row differ in the hash"
    if seen != index.main.used:
        return b"the table's count of used slots is wrong"
    if index.main.used > index.main.room:
        return b"the table is too full"
    if index.old.slots != NULL:
        seen = 0
        for i in range(index.old.mask + 1):
            if index.old.slots[i].row != NULL and index.old.slots[i].row != &TOMBSTONE:
                seen += 1
                if i < index.cursor:
                    return b"a row was left behind by the move"
        if seen != index.old.used:
            return b"the old table's count of used slots is wrong"
    return NULL


cdef const char* alike_check(Alike* self, WaitNode** producers) noexcept nogil:
    cdef size_t seen = 0
    cdef size_t i
    cdef WaitNode* node
    if self.buckets != NULL:
        for i in range(self.mask + 1):
            node = self.buckets[i]
            while node != NULL:
                seen += 1
                if node.list != producers or node.alike != self:
                    return b"a producer that does not wait can be found by its hash"
                if alike_bucket(self, node.hash) != &self.buckets[i]:
                    return b"a producer is in another bucket than that of its hash"
                node = ring_following(self.buckets[i], node, BY_HASH)
    if seen != self.count or seen != <size_t>list_length(producers[0]):
        return b"a producer that waits cannot be found by its hash"
    return NULL


cdef bint heap_check(Row* row, Row* younger, Py_ssize_t* left) noexcept nogil:
    # Whether `row` and all below it are older than `younger`, if there is one; counts them down.
    cdef Row* child = row.place.child
    if row.state != READY or (younger != NULL and row.turn.seq > younger.turn.seq):
        return False
    left[0] -= 1
    while child != NULL:
        if child.turn.seq < row.turn.seq or not heap_check(child, younger, left):
            return False
        child = child.next
    return True


cdef const char* engine_check(Engine* self) noexcept nogil:
    cdef Py_ssize_t waiting = 0, owned = 0, ops = 0, ready = 0, open = 0
    cdef const char* broken = index_check(&self.index)
    cdef Row* row
    cdef size_t i
    cdef Table* tables[2]
    cdef Table* table
    cdef double deadline = -INFINITY
    cdef uint64_t seq = 0
    if broken == NULL:
        broken = alike_check(&self.alike, &self.producers)
    if broken != NULL:
        return broken
    tables[0] = &self.index.main
    tables[1] = &self.index.old
    for table in tables:
        if table.slots == NULL:
            continue
        for i in range(table.mask + 1):
            row = table.slots[i].row
            if row == NULL or row == &TOMBSTONE:
                continue
            if row.state == TAKEN:
                if not self.exclusive:
                    return b"a row that was handed out is still in the index"
                owned += 1
                row = row.peer
                if row == NULL:
                    continue
                if row.state != BEHIND and row.state != OPEN:
                    return b"a row behind an owner is neither BEHIND nor OPEN"
            elif row.state == BEHIND or row.peer != NULL:
                return b"a row is behind no owner"
            if row.state == PROMISED_ROW:
                if row.place.waiter.row != row or row.place.waiter.state != PROMISED:
                    return b"a promised row and its waiter disagree"
            waiting += 1
            ops += row.count
            ready += row.state == READY
            open += row.state == OPEN
            if row.count < 1 or row.count > self.width:
                return b"a row is empty or too wide"
    if waiting != self.waiting or owned != self.owned or ops != engine_enqueued(self) - self.dequeued_ops:
        return b"the counts of rows and operations are wrong"
    if ready != engine_ready(self) or open != self.open.size:
        return b"a list and the states of its rows disagree"
    if self.reserved < 0 or self.reserved > self.depth - self.waiting:
        return b"more slots are reserved than there is room"
    if self.joiners != NULL and self.waiting == 0 and self.owned == 0:
        return b"a caller waits for the end, which has come"
    if self.returned.oldest != NULL:
        if not heap_check(self.returned.oldest, self.ready.head, &ready):
            return b"the rows that came back are out of order"
        if ready != self.ready.size:
            return b"the number of rows that came back is wrong"
    row = self.ready.head
    while row != NULL:
        if row.state != READY or row.turn.seq < seq:
            return b"the ready list is out of order"
        seq = row.turn.seq
        ready -= 1
        row = row.next
    row = self.open.head
    while row != NULL:
        if row.state != OPEN or row.turn.deadline < deadline:
            return b"the open list is out of order"
        deadline = row.turn.deadline
        open -= 1
        row = row.next
    if ready != 0 or open != 0:
        return b"a list has lost a row"
    if engine_ready(self) and self.consumers != NULL:
        return b"a consumer waits although a row is ready"
    if self.producers != NULL and self.closed:
        return b"a producer waits at a closed queue"
    if self.producers != NULL and self.depth - self.waiting > self.reserved:
        return b"a producer waits although there is room"
    if self.consumers != NULL and engine_is_over(self):
        return b"a consumer waits at the end"
    if self.open.head != NULL and self.consumers != NULL:
        if self.consumers.armed > self.open.head.turn.deadline and not self.consumers.signalled:
            return b"nobody watches the windows"
    return NULL


def _check(OpQueue queue not None):
    # Which invariant of the queue does not hold, or None.
    cdef const char* broken
    inflight_lock(&queue.engine.lock)
    if queue.engine.generation != inflight_generation:
        engine_after_fork(&queue.engine)
    broken = engine_check(&queue.engine)
    inflight_unlock(&queue.engine.lock)
    return None if broken == NULL else (<bytes>broken).decode()
