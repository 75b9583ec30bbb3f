# The index: from key to row, an open-addressing hash table that grows by steps.
#
# Linear probing over slots of (hash, row), at most three quarters full. A row is removed by
# identity, and the slots after it are shifted back, so that a queue's steady coming and going
# leaves no tombstones behind. The table doubles when it fills up and shrinks when it has become
# nearly empty; either way the rows move a few slots at a time, with each insertion or removal,
# so that no single call pays for all of them. While they move there are two tables: `main`
# takes every insertion; in `old`, what has moved or was removed leaves a tombstone, so that
# lookups still find what lies beyond. The memory of a large table is given back by steps, too:
# to unmap a hundred megabytes takes milliseconds.
#
# Lookup, insertion and removal are O(1), expected, however many rows there are.

cdef struct Slot:
    Py_hash_t hash
    Row* row


cdef struct Table:
    Slot* slots
    size_t mask
    int shift                # 64 - log2 of the number of blocks
    size_t used
    size_t room              # how many slots may be used


cdef struct Index:
    Table main
    Table old                # slots is NULL unless rows are moving
    size_t cursor            # slots of old before this one have moved
    Slot* spent              # a table from which all have moved, or NULL
    size_t spent_slots


cdef enum:
    INDEX_MIN_BITS = 3
    INDEX_BLOCK_BITS = 2     # 4 slots: a cache line
    INDEX_STEP = 16          # slots moved per call: the move ends before main can fill up
    INDEX_RETURN = 1 << 16   # slots given back per call: a megabyte
    INDEX_SPARSE = 32        # a table with fewer rows than slots / this one shrinks,
    INDEX_KEPT = 1 << 18     # unless it has no more slots than this: bursts tend to come again

# What an emptied slot of the old table points to.
cdef Row TOMBSTONE


cdef inline size_t table_home(Table* table, Py_hash_t hash) noexcept nogil:
    # Blocks are spread, slots within a block are not: consecutive ints, the usual kind of key,
    # share cache lines, and no pattern of keys can share more than a block.
    cdef uint64_t block = ((<uint64_t>hash >> INDEX_BLOCK_BITS) * INFLIGHT_SPREAD) >> table.shift
    return <size_t>((block << INDEX_BLOCK_BITS) | (<uint64_t>hash & ((1 << INDEX_BLOCK_BITS) - 1)))


cdef bint table_init(Table* table, int bits) noexcept nogil:
    table.slots = <Slot*>inflight_calloc(<size_t>1 << bits, sizeof(Slot))
    table.mask = (<size_t>1 << bits) - 1
    table.shift = 64 - (bits - INDEX_BLOCK_BITS)
    table.used = 0
    table.room = (table.mask + 1) // 4 * 3
    return table.slots != NULL


cdef inline void table_insert(Table* table, Row* row, Py_hash_t hash) noexcept nogil:
    # Does not look at the row, which may be far away.
    cdef size_t i = table_home(table, hash)
    while table.slots[i].row != NULL:
        i = (i + 1) & table.mask
    table_fill(table, &table.slots[i], row, hash)


cdef inline void table_fill(Table* table, Slot* slot, Row* row, Py_hash_t hash) noexcept nogil:
    slot.hash = hash
    slot.row = row
    table.used += 1


cdef inline Slot* table_slot_of(Table* table, Row* row) noexcept nogil:
    # The slot that has this very row, or NULL.
    cdef size_t i = table_home(table, row.hash)
    while table.slots[i].row != NULL:
        if table.slots[i].row == row:
            return &table.slots[i]
        i = (i + 1) & table.mask
    return NULL


cdef inline Verdict table_find(Table* table, Probe* probe, Row** found) noexcept nogil:
    cdef size_t i = table_home(table, probe.hash)
    cdef Row* row
    cdef Verdict verdict
    while True:
        row = table.slots[i].row
        if row == NULL:
            probe.vacant = &table.slots[i]
            return UNEQUAL
        if table.slots[i].hash == probe.hash and row != &TOMBSTONE:
            verdict = probe_match(probe, row.key, <KeyKind>row.kind)
            if verdict == EQUAL:
                found[0] = row
                return EQUAL
            if verdict == UNKNOWN:
                # The only reference that a lookup takes: it must outlive the section.
                probe.candidate = row.key
                retain(row.key)
                return UNKNOWN
        i = (i + 1) & table.mask


cdef bint index_init(Index* index) noexcept nogil:
    # The memory is zeroed.
    return table_init(&index.main, INDEX_MIN_BITS)


cdef void index_free(Index* index) noexcept nogil:
    PyMem_RawFree(index.main.slots)
    PyMem_RawFree(index.old.slots)
    PyMem_RawFree(index.spent)
    index.main.slots = NULL
    index.old.slots = NULL
    index.spent = NULL


cdef inline Verdict index_find(Index* index, Probe* probe, Row** found) noexcept nogil:
    cdef Verdict verdict = table_find(&index.main, probe, found)
    if verdict == UNEQUAL and index.old.slots != NULL:
        verdict = table_find(&index.old, probe, found)
    return verdict


cdef inline bint index_insert(Index* index, Probe* probe, Row* row) noexcept nogil:
    # The probe has just not found it; false, and nothing changed, if there is no memory to grow.
    if index.main.used >= index.main.room and not index_resize(index, +1):
        return False
    if index_is_settling(index):
        index_settle(index)
        table_insert(&index.main, row, probe.hash)
    else:
        table_fill(&index.main, probe.vacant, row, probe.hash)
    return True


cdef inline void index_remove(Index* index, Row* row) noexcept nogil:
    cdef Slot* slot = table_slot_of(&index.main, row)
    if slot != NULL:
        table_close_gap(&index.main, slot)
    else:
        slot = table_slot_of(&index.old, row)
        slot.row = &TOMBSTONE
        index.old.used -= 1
    if index_is_settling(index):
        index_settle(index)
    elif index.main.mask >= INDEX_KEPT and index.main.used * INDEX_SPARSE < index.main.mask:
        index_resize(index, -2)


cdef inline void index_replace(Index* index, Row* row, Row* other) noexcept nogil:
    # Puts a row of the same key into the other's place.
    cdef Slot* slot = table_slot_of(&index.main, row)
    if slot == NULL:
        slot = table_slot_of(&index.old, row)
    slot.row = other


cdef inline void table_close_gap(Table* table, Slot* slot) noexcept nogil:
    # Shifts back whatever the gap would cut off from its home.
    cdef size_t gap = <size_t>(slot - table.slots)
    cdef size_t i = gap
    cdef size_t home
    while True:
        i = (i + 1) & table.mask
        if table.slots[i].row == NULL:
            break
        home = table_home(table, table.slots[i].hash)
        # Its home lies cyclically in (gap, i]: the gap is not in its way.
        if ((i - home) & table.mask) < ((i - gap) & table.mask):
            continue
        table.slots[gap] = table.slots[i]
        gap = i
    table.slots[gap].row = NULL
    table.used -= 1


cdef bint index_resize(Index* index, int by) noexcept nogil:
    # Starts moving to a table of 2**by times as many slots.
    cdef Table table
    while index_is_settling(index):
        index_settle(index)     # for nothing, unless INDEX_STEP was chosen wrong
    if not table_init(&table, 64 - index.main.shift + INDEX_BLOCK_BITS + by):
        return False
    index.old = index.main
    index.main = table
    index.cursor = 0
    return True


cdef inline bint index_is_settling(Index* index) noexcept nogil:
    # Whether rows move, or memory is still to be given back.
    return index.old.slots != NULL or index.spent != NULL


cdef void index_settle(Index* index) noexcept nogil:
    # One step.
    cdef Slot* less = NULL
    if index.old.slots != NULL:
        index_move(index)
        return
    if index.spent_slots > INDEX_RETURN:
        index.spent_slots -= INDEX_RETURN
        less = <Slot*>inflight_realloc(index.spent, index.spent_slots * sizeof(Slot))
    if less != NULL:
        index.spent = less
    else:
        PyMem_RawFree(index.spent)
        index.spent = NULL


cdef void index_move(Index* index) noexcept nogil:
    cdef Table* old = &index.old
    cdef Row* row
    cdef size_t end = min(index.cursor + INDEX_STEP, old.mask + 1)
    inflight_count(ROWS_MOVED)
    while index.cursor < end:
        row = old.slots[index.cursor].row
        if row != NULL and row != &TOMBSTONE:
            table_insert(&index.main, row, old.slots[index.cursor].hash)
            old.slots[index.cursor].row = &TOMBSTONE
            old.used -= 1
        index.cursor += 1
    if index.cursor > old.mask:
        index.spent = old.slots
        index.spent_slots = old.mask + 1
        old.slots = NULL
