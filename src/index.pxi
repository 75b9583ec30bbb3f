# The index: from key to row, an open-addressing hash table that grows by steps.
#
# Linear probing over slots of (hash, row), at most four fifths full, in the order of their homes
# (Robin Hood hashing): nobody is farther from home than the next one would be in its place. So a lookup
# ends where that would be broken. A row is removed by identity, and what follows is shifted back, up to
# the first slot that is at home, so that a queue's steady coming and going leaves no tombstones behind.
#
# The table doubles when it fills up and shrinks when it has become nearly empty; either way the rows
# move a few slots at a time, with each insertion or removal, so that no single call pays for all of
# them. While they move there are two tables: `main` takes every insertion; in `old`, what has moved or
# was removed leaves a tombstone, with its hash, so that lookups still find what lies beyond. The memory
# of a large table is given back by steps, too: to unmap a hundred megabytes takes milliseconds.
#
# Lookup, insertion and removal are O(1), expected, however many rows there are.

cdef struct Slot:
    Py_hash_t hash
    Row* row


cdef struct Table:
    Slot* slots
    size_t mask
    int shift                # 64 - log2 of the number of slots
    int block_bits           # log2 of the slots of a block
    uint64_t block_mask
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
    INDEX_NEAR_BITS = 16     # a table of a megabyte; in a larger one
    INDEX_BLOCK_BITS = 2     # blocks have, instead of 4 slots, a cache line,
    INDEX_FAR_BLOCK_BITS = 4 # 16
    INDEX_STEP = 16          # slots moved per call: the move ends before main can fill up
    INDEX_PAGES = 1 << 12    # slots whose pages are asked for at once, 16,
    INDEX_PAGES_EVERY = 16   # with every so many steps: well ahead of the rows
    INDEX_RETURN = 1 << 16   # slots given back per call: a megabyte
    INDEX_SPARSE = 32        # a table with fewer rows than slots / this one shrinks,
    INDEX_KEPT = 1 << 18     # unless it has no more slots than this: bursts tend to come again

# What an emptied slot of the old table points to.
cdef Row TOMBSTONE


cdef inline size_t table_home(Table* table, Py_hash_t hash) noexcept nogil:
    # Blocks are spread, slots within a block are not: consecutive ints, the usual kind of key,
    # share cache lines, and no pattern of keys can share more than a block. Where each block is a page
    # that the processor has forgotten, they share more.
    cdef uint64_t spread = ((<uint64_t>hash >> table.block_bits) * INFLIGHT_SPREAD) >> table.shift
    return <size_t>(spread ^ ((spread ^ <uint64_t>hash) & table.block_mask))


cdef bint table_init(Table* table, int bits) noexcept nogil:
    table.slots = <Slot*>inflight_calloc(<size_t>1 << bits, sizeof(Slot))
    table.mask = (<size_t>1 << bits) - 1
    table.block_bits = INDEX_BLOCK_BITS if bits <= INDEX_NEAR_BITS else INDEX_FAR_BLOCK_BITS
    table.block_mask = (<uint64_t>1 << table.block_bits) - 1
    table.shift = 64 - bits
    table.used = 0
    table.room = (table.mask + 1) * 4 // 5
    return table.slots != NULL


cdef inline size_t table_distance(Table* table, size_t i) noexcept nogil:
    # How far what is in this slot is from its home.
    return (i - table_home(table, table.slots[i].hash)) & table.mask


cdef inline void table_insert(Table* table, Row* row, Py_hash_t hash) noexcept nogil:
    # Does not look at the row, which may be far away.
    cdef size_t i = table_home(table, hash)
    cdef size_t distance = 0
    while table.slots[i].row != NULL and table_distance(table, i) >= distance:
        i = (i + 1) & table.mask
        distance += 1
    table_fill(table, &table.slots[i], row, hash)


cdef inline void table_fill(Table* table, Slot* slot, Row* row, Py_hash_t hash) noexcept nogil:
    # Its place in the order; what is there, and what follows without a gap, makes room.
    if slot.row != NULL:
        table_make_room(table, slot)
    slot.hash = hash
    slot.row = row
    table.used += 1


cdef void table_make_room(Table* table, Slot* slot) noexcept nogil:
    cdef Slot moved = slot[0]
    cdef Slot displaced
    cdef size_t i = <size_t>(slot - table.slots)
    while moved.row != NULL:
        i = (i + 1) & table.mask
        displaced = table.slots[i]
        table.slots[i] = moved
        moved = displaced


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
    cdef size_t distance = 0
    cdef Row* row
    cdef Verdict verdict
    while True:
        row = table.slots[i].row
        if row == NULL:
            break
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
        elif table_distance(table, i) < distance:
            break
        i = (i + 1) & table.mask
        distance += 1
    probe.vacant = &table.slots[i]
    return UNEQUAL


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
    # Shifts back what would be nearer to its home.
    cdef size_t gap = <size_t>(slot - table.slots)
    cdef size_t i = (gap + 1) & table.mask
    while table.slots[i].row != NULL and table_distance(table, i) != 0:
        table.slots[gap] = table.slots[i]
        gap = i
        i = (i + 1) & table.mask
    table.slots[gap].row = NULL
    table.used -= 1


cdef bint index_resize(Index* index, int by) noexcept nogil:
    # Starts moving to a table of 2**by times as many slots.
    cdef Table table
    while index_is_settling(index):
        index_settle(index)     # for nothing, unless INDEX_STEP was chosen wrong
    if not table_init(&table, 64 - index.main.shift + by):
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
    if index.main.mask >= 1 << INDEX_NEAR_BITS:
        index_populate(index)
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


cdef void index_populate(Index* index) noexcept nogil:
    # Pages of the table that the rows move to: all, by the time that an eighth of them has moved.
    cdef size_t step = index.cursor // INDEX_STEP
    cdef size_t i = step // INDEX_PAGES_EVERY * INDEX_PAGES
    if step % INDEX_PAGES_EVERY == 0 and i < index.main.mask:
        inflight_populate(&index.main.slots[i], INDEX_PAGES * sizeof(Slot))
