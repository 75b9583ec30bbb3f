# A row: the operations that wait under one key, and lists of rows.
#
# A row is made by the first operation under its key and goes through these states:
#
#     OPEN       its window runs; in the list `open`, oldest deadline first
#     READY      to be handed out; in the list `ready`, in the order of `seq`, or, if it was promised
#                before, in the heap `returned`
#     PROMISED   bound to one woken waiter; in no list, still in the index, still merging
#     BEHIND     its window is over, but its key is owned; in no list
#     TAKEN      handed out: it belongs to an OpSet. In an exclusive queue it stays in the index
#                as the owner of its key until it is released
#
# A row that waits behind an owner is linked with it through `peer`, in both directions; it is
# BEHIND, or OPEN while its window still runs. The index has the owner, never the one behind.
#
# The first operation is stored in place, since most rows never have a second one. What no row needs
# at the same time shares its place, so that a row is one cache line long: deep queues are bound by
# how many of those they touch.

cdef enum RowState:
    OPEN
    READY
    PROMISED_ROW
    BEHIND
    TAKEN


cdef union RowPlace:
    Row* prev                # in a list
    Row* child               # in a heap: the first of those below it
    WaitNode* waiter         # PROMISED: to whom


cdef union RowContent:
    PyObject* one            # an owned reference, if there is no more than one
    PyObject** many          # owned references; room for 4, 16, 64, and then twice as many each time


cdef union RowTurn:
    double deadline          # OPEN: when its window ends
    uint64_t seq             # READY or PROMISED: its place among the rows that became ready


cdef struct Row:
    # All guarded by the queue's lock; once TAKEN, key and operations belong to the OpSet alone.
    PyObject* key            # owned
    Py_hash_t hash
    RowPlace place
    Row* next                # in a list, or of the children of a row in a heap
    RowContent ops
    RowTurn turn
    Row* peer
    uint32_t count
    uint8_t kind
    uint8_t state


cdef struct RowList:
    Row* head
    Row* tail
    Py_ssize_t size


# Rows to be used again, linked by `next`: with the GIL, one list for the process, which the GIL
# guards. A free-threaded build leaves it to its allocator, which keeps such lists per thread; in a
# proof build every row is a real allocation.
cdef Row* spare_rows = NULL
cdef int spare_count = 0

cdef enum:
    SPARE_ROWS = 1 << 15     # 2 MB; enough for the bursts of most programs


cdef inline Row* row_new(Probe* probe) noexcept nogil:
    # NULL if there is no memory. The key is retained by whoever puts the row to use.
    global spare_rows, spare_count
    cdef Row* row = NULL
    if not INFLIGHT_FREE_THREADED:
        row = spare_rows
    if row != NULL:
        spare_rows = row.next
        spare_count -= 1
        inflight_prefetch(spare_rows)
    else:
        # Not the raw allocator: this one is made for many small objects.
        row = <Row*>inflight_small_malloc(sizeof(Row))
        if row == NULL:
            return NULL
    row.key = probe.key
    row.hash = probe.hash
    row.kind = <uint8_t>probe.kind
    row.place.prev = NULL
    row.next = NULL
    row.turn.seq = 0
    row.peer = NULL
    row.count = 0
    row.state = READY
    return row


cdef inline PyObject** row_ops(Row* row) noexcept nogil:
    return &row.ops.one if row.count <= 1 else row.ops.many


cdef inline void row_start(Row* row, PyObject* op) noexcept nogil:
    # Its first operation.
    retain(op)
    row.ops.one = op
    row.count = 1


cdef inline bint row_append(Row* row, PyObject* op) noexcept nogil:
    # Another one; false, and nothing changed, if there is no memory.
    if row_is_full(row) and not row_grow(row):
        return False
    retain(op)
    row.ops.many[row.count] = op
    row.count += 1
    return True


cdef inline bint row_is_full(Row* row) noexcept nogil:
    # With 1, 4, 16, 64, or another power of two above.
    return row.count & (row.count - 1) == 0 and (row.count >= 64 or row.count & (1 | 4 | 16) != 0)


cdef bint row_grow(Row* row) noexcept nogil:
    # It is full.
    cdef PyObject* one = row.ops.one
    cdef PyObject** many = NULL if row.count == 1 else row.ops.many
    cdef uint32_t capacity = row.count * 4 if row.count < 64 else row.count * 2
    if capacity < row.count:
        return False    # 2**31 operations under one key
    many = <PyObject**>inflight_small_realloc(many, <size_t>capacity * sizeof(PyObject*))
    if many == NULL:
        return False
    if row.count == 1:
        many[0] = one
    row.ops.many = many
    return True


cdef inline void row_discard(Row* row) noexcept nogil:
    # The memory of a row that refers to nothing.
    global spare_rows, spare_count
    if INFLIGHT_FREE_THREADED or INFLIGHT_IS_PROOF or spare_count == SPARE_ROWS:
        PyMem_Free(row)
    else:
        row.next = spare_rows
        spare_rows = row
        spare_count += 1


cdef void row_free(Row* row) noexcept:
    # Drops the references of a row that is in no list and in no index. The memory goes first:
    # dropping may run any code.
    cdef PyObject* key = row.key
    cdef PyObject* one = row.ops.one
    cdef PyObject** many = row.ops.many
    cdef uint32_t count = row.count
    cdef uint32_t i
    row_discard(row)
    if count == 1:
        op_let_go(one)
    elif count:
        for i in range(count):
            op_let_go(many[i])
        PyMem_Free(many)
    drop(key)


cdef inline void rows_append(RowList* rows, Row* row) noexcept nogil:
    row.next = NULL
    row.place.prev = rows.tail
    if rows.tail == NULL:
        rows.head = row
    else:
        rows.tail.next = row
    rows.tail = row
    rows.size += 1


cdef inline void rows_remove_head(RowList* rows) noexcept nogil:
    cdef Row* following = rows.head.next
    rows.head = following
    if following == NULL:
        rows.tail = NULL
    else:
        following.place.prev = NULL
    rows.size -= 1


cdef inline void rows_remove(RowList* rows, Row* row) noexcept nogil:
    cdef Row* before = row.place.prev
    if before == NULL:
        rows.head = row.next
    else:
        before.next = row.next
    if row.next == NULL:
        rows.tail = before
    else:
        row.next.place.prev = before
    row.place.prev = NULL
    row.next = NULL
    rows.size -= 1


# Rows that came back: their waiters left without them. A pairing heap by `seq`: each row has its first
# child in `place`, and the children of one are linked by `next`. Adding is O(1), taking the oldest
# O(log n) in the long run. Many come back at once where a loop ends, and in any order: a list in the
# order of `seq` would be walked by each.


cdef struct RowHeap:
    Row* oldest
    Py_ssize_t size


cdef inline Row* heap_joined(Row* one, Row* other) noexcept nogil:
    # The older of two roots, with the other below it.
    if other.turn.seq < one.turn.seq:
        one, other = other, one
    other.next = one.place.child
    one.place.child = other
    return one


cdef inline void heap_add(RowHeap* heap, Row* row) noexcept nogil:
    row.next = NULL
    row.place.child = NULL
    heap.oldest = row if heap.oldest == NULL else heap_joined(heap.oldest, row)
    heap.size += 1


cdef Row* heap_take(RowHeap* heap) noexcept nogil:
    # The oldest; there is one.
    cdef Row* row = heap.oldest
    cdef Row* rest = row.place.child
    cdef Row* pairs = NULL
    cdef Row* one
    cdef Row* other
    # In pairs from the first to the last, then all of these from the last to the first: in one pass from
    # one end, the next to be taken might have all the others below it again.
    while rest != NULL:
        one = rest
        other = one.next
        rest = NULL
        if other != NULL:
            rest = other.next
            one = heap_joined(one, other)
        one.next = pairs
        pairs = one
    heap.oldest = NULL
    while pairs != NULL:
        one = pairs
        pairs = one.next
        heap.oldest = one if heap.oldest == NULL else heap_joined(heap.oldest, one)
    if heap.oldest != NULL:
        heap.oldest.next = NULL
    heap.size -= 1
    row.place.child = NULL
    row.next = NULL
    return row
