# A row: the operations that wait under one key, and lists of rows.
#
# A row is made by the first operation under its key and goes through these states:
#
#     OPEN       its window runs; in the list `open`, oldest deadline first
#     READY      to be handed out; in the list `ready`, in the order of `seq`
#     PROMISED   bound to one woken waiter; in no list, still in the index, still merging
#     BEHIND     its window is over, but its key is owned; in no list
#     TAKEN      handed out: it belongs to an OpSet. In an exclusive queue it stays in the index
#                as the owner of its key until it is released
#
# A row that waits behind an owner is linked with it through `peer`, in both directions; it is
# BEHIND, or OPEN while its window still runs. The index has the owner, never the one behind.
#
# The first operation is stored in place, since most rows never have a second one.

cdef enum RowState:
    OPEN
    READY
    PROMISED_ROW
    BEHIND
    TAKEN


cdef struct Row:
    # All guarded by the queue's lock; once TAKEN, key and operations belong to the OpSet alone.
    # What every enqueue and dequeue touches comes first, in 64 bytes.
    PyObject* key            # owned
    Py_hash_t hash
    Row* prev
    Row* next
    PyObject* one            # an owned reference, if capacity is 1
    uint32_t count
    uint32_t capacity
    uint64_t seq             # its place among the rows that became ready
    uint8_t kind
    uint8_t state
    PyObject** many          # owned references, if capacity is more than 1
    double deadline          # when its window ends, while OPEN
    Row* peer
    WaitNode* waiter         # to whom it is PROMISED


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
    SPARE_ROWS = 1 << 14     # less than 2 MB; enough for the bursts of most programs


cdef inline Row* row_new(Probe* probe) noexcept nogil:
    # NULL if there is no memory. The key is retained by whoever puts the row to use.
    global spare_rows, spare_count
    cdef Row* row = NULL
    if not INFLIGHT_FREE_THREADED:
        row = spare_rows
    if row != NULL:
        spare_rows = row.next
        spare_count -= 1
    else:
        # Not the raw allocator: this one is made for many small objects.
        row = <Row*>inflight_small_malloc(sizeof(Row))
        if row == NULL:
            return NULL
    row.key = probe.key
    row.hash = probe.hash
    row.kind = <uint8_t>probe.kind
    row.prev = NULL
    row.next = NULL
    row.many = NULL
    row.one = NULL
    row.count = 0
    row.capacity = 1
    row.deadline = 0
    row.seq = 0
    row.peer = NULL
    row.waiter = NULL
    row.state = READY
    return row


cdef inline PyObject** row_ops(Row* row) noexcept nogil:
    return &row.one if row.capacity == 1 else row.many


cdef inline bint row_append(Row* row, PyObject* op) noexcept nogil:
    # Retains the operation; false, and nothing changed, if there is no memory.
    if row.count == row.capacity and not row_grow(row):
        return False
    retain(op)
    row_ops(row)[row.count] = op
    row.count += 1
    return True


cdef bint row_grow(Row* row) noexcept nogil:
    cdef uint32_t capacity = 4 if row.capacity == 1 else row.capacity * 2
    cdef PyObject** many
    if capacity < row.capacity:
        return False    # 2**31 operations under one key
    many = <PyObject**>inflight_realloc(row.many, <size_t>capacity * sizeof(PyObject*))
    if many == NULL:
        return False
    if row.capacity == 1:
        many[0] = row.one
        row.one = NULL
    row.many = many
    row.capacity = capacity
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
    cdef PyObject* one = row.one
    cdef PyObject** many = NULL if row.capacity == 1 else row.many
    cdef uint32_t count = row.count
    cdef uint32_t i
    row_discard(row)
    if many == NULL:
        if count:
            drop(one)
    else:
        for i in range(count):
            drop(many[i])
        PyMem_RawFree(many)
    drop(key)


cdef inline void rows_append(RowList* rows, Row* row) noexcept nogil:
    row.next = NULL
    row.prev = rows.tail
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
        following.prev = NULL
    rows.size -= 1


cdef inline void rows_remove(RowList* rows, Row* row) noexcept nogil:
    if row.prev == NULL:
        rows.head = row.next
    else:
        row.prev.next = row.next
    if row.next == NULL:
        rows.tail = row.prev
    else:
        row.next.prev = row.prev
    row.prev = NULL
    row.next = NULL
    rows.size -= 1


cdef void rows_insert_by_seq(RowList* rows, Row* row) noexcept nogil:
    # Back to its old place. Only rows given back by other waiters can be older, so the walk is
    # as long as the number of waiters that left, not as the queue.
    cdef Row* after = rows.head
    while after != NULL and after.seq < row.seq:
        after = after.next
    if after == NULL:
        rows_append(rows, row)
        return
    row.next = after
    row.prev = after.prev
    if after.prev == NULL:
        rows.head = row
    else:
        after.prev.next = row
    after.prev = row
    rows.size += 1
