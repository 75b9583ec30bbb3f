# A key being looked up.
#
# The hash is taken before any lock, since it may be user code. Under the lock, keys of exact type
# int and str are compared at once: that runs no Python code and cannot fail. Any other pair with
# equal hashes is compared outside the lock, and the lookup is then repeated; the probe remembers
# what was compared, by identity, and keeps those objects alive so that identities stay true.
# Equality is that of a dict: identical, or equal with equal hashes; 1, 1.0 and True are one key.

cdef enum KeyKind:
    # An exact int that is its own hash: two of them are equal if their hashes are.
    SMALL_INT
    # Any other exact int: negative, or large.
    INT
    # An exact str.
    STR
    # Anything else, with hash and equality of its own.
    OTHER


cdef enum Verdict:
    UNEQUAL = 0
    EQUAL = 1
    # Only user code can tell: compare outside the lock, and look again.
    UNKNOWN = -1


cdef struct Slot


cdef struct Probe:
    PyObject* key            # borrowed from the caller
    Py_hash_t hash
    KeyKind kind
    PyObject* candidate      # to be compared with key before the next lookup; a new reference
    PyObject* equal          # found equal to key; owned
    PyObject** unequal       # found not equal to key; owned, as many as unequal_count
    Py_ssize_t unequal_count
    Py_ssize_t passed        # by this lookup, of those: it mostly meets them in the same order
    Slot* vacant             # where the last lookup ended without finding it; until the lock is let go


cdef inline int probe_init(Probe* probe, PyObject* key) except -1:
    if not probe_init_plain(probe, key):
        probe.hash = hash(<object>key)
    return 0


cdef inline bint probe_init_plain(Probe* probe, PyObject* key) noexcept nogil:
    # False if the hash is still missing, and may take a call of Python code.
    probe.key = key
    probe.candidate = NULL
    probe.equal = NULL
    probe.unequal = NULL
    probe.unequal_count = 0
    probe.passed = 0
    if inflight_is_int(key):
        if inflight_own_hash(key, &probe.hash):
            probe.kind = SMALL_INT
            return True
        probe.kind = INT
    elif inflight_is_str(key):
        probe.kind = STR
        return inflight_has_hash(key, &probe.hash)
    else:
        probe.kind = OTHER
    return False


cdef inline Verdict probe_match(Probe* probe, PyObject* key, KeyKind kind) noexcept nogil:
    # `key` has the hash of the probe.
    cdef Py_ssize_t i
    if key == probe.key:
        return EQUAL
    if probe.kind != OTHER and kind != OTHER:
        if probe.kind != kind:
            return UNEQUAL
        if kind == SMALL_INT:
            return EQUAL
        if kind == STR:
            return EQUAL if inflight_same_str(key, probe.key) else UNEQUAL
        return EQUAL if inflight_same_int(key, probe.key) else UNEQUAL
    if key == probe.equal:
        return EQUAL
    if probe.passed < probe.unequal_count and key == probe.unequal[probe.passed]:
        probe.passed += 1
        return UNEQUAL
    for i in range(probe.unequal_count):
        if key == probe.unequal[i]:
            probe.passed = i + 1
            return UNEQUAL
    return UNKNOWN


cdef int probe_compare(Probe* probe) except -1:
    # Compares the candidate, outside every lock: user code, which may raise, block, re-enter.
    cdef PyObject* candidate = probe.candidate
    cdef PyObject** unequal
    cdef bint equal
    probe.candidate = NULL
    probe.passed = 0
    inflight_outside()
    inflight_count(KEYS_COMPARED)
    try:
        equal = bool(<object>candidate == <object>probe.key)
        if equal:
            drop_if_any(probe.equal)
            probe.equal = candidate
            return 0
        unequal = <PyObject**>inflight_realloc(
            probe.unequal, <size_t>(probe.unequal_count + 1) * sizeof(PyObject*)
        )
        if unequal == NULL:
            raise MemoryError
    except BaseException:
        drop(candidate)
        probe_clear(probe)
        raise
    probe.unequal = unequal
    unequal[probe.unequal_count] = candidate
    probe.unequal_count += 1
    return 0


cdef int probe_clear(Probe* probe) except -1:
    cdef Py_ssize_t i
    drop_if_any(probe.candidate)
    drop_if_any(probe.equal)
    for i in range(probe.unequal_count):
        drop(probe.unequal[i])
    PyMem_RawFree(probe.unequal)
    probe.candidate = NULL
    probe.equal = NULL
    probe.unequal = NULL
    probe.unequal_count = 0
    return 0
