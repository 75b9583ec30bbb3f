# Waiting, in one place.
#
# Whoever waits puts a node into a wait list under the lock of the object it waits for, and parks
# outside it. Whoever has something for a waiter chains its node onto a WakeChain under the lock
# and calls wake_all() after it, because waking a task runs Python code. The chain holds a
# reference to the waiter, which may meanwhile have given up.
#
# A wait list is a ring, oldest first, so that a list costs its owner one pointer; so is a bucket of those
# that can be found by a hash (alike.pxi). A node is in at most one list, and whoever waits takes it out
# before its call ends. A thread's call does so by itself; a task may be forgotten by everybody but what
# it waits for, so its node `keeps` a reference, from when it is first in a list until it leaves for good.
# `signalled` is set from when a node is chained until its waiter has consumed the wake-up: in between it
# is not chained again, so that no wake-up is counted twice and none is lost.
#
# proofs/wake.pml is a model of this, of which a checker tries every order of steps. Its states are
# named in brackets: a call is [PARKED] while it sleeps, [WOKEN] while it runs after that, [LEFT] once
# it has ended and holds nothing; nodes and rows have the states that they have here.
#
# Tasks are in tasks.pxi.
#
# After a fork, nodes of threads that do not exist in the child stay in lists. Their memory stays
# valid, since nothing unwinds those threads, and waking one wakes nobody. For the waiters of an
# operation or a group, who are all woken, that is all; the engine, which gives each row to one
# waiter, drops them first (engine_after_fork).
#
# Rejected: condition variables, which wake a thread to race for what it was woken for.

cdef enum WaitState:
    WAITING
    # Taken out of the list, and holds what it waited for: a row, or a slot for a new key.
    PROMISED


cdef struct WaitNode


cdef enum:
    BY_AGE                   # in a wait list
    BY_HASH                  # in a bucket


cdef struct RingLinks:
    WaitNode* prev
    WaitNode* next


cdef struct WaitNode:
    # All guarded by the lock of the object that is waited for.
    RingLinks rings[2]       # BY_AGE, BY_HASH
    WaitNode** list          # the list the node is in, or NULL
    WaitState state
    bint signalled
    bint keeps               # written once: whether lists and promises hold a reference to the owner
    bint kept                # whether they do
    Row* row                 # a consumer's promised row
    uint64_t generation      # a producer's: in which its slot was promised
    double armed             # a consumer: until when it parks at most, on the queue's clock
    Py_hash_t hash           # a producer: of its key
    Alike* alike             # where it is found by that, while it is in its list
    WaitNode* wake_next      # belongs to the chain while signalled
    PyObject* owner          # the Waiter; written once


cdef struct WakeChain:
    WaitNode* head
    WaitNode* tail


cdef inline void ring_append(WaitNode** ring, WaitNode* node, int which) noexcept nogil:
    cdef WaitNode* head = ring[0]
    cdef WaitNode* last
    if head == NULL:
        head = node
        last = node
        ring[0] = node
    else:
        last = head.rings[which].prev
    node.rings[which].prev = last
    node.rings[which].next = head
    last.rings[which].next = node
    head.rings[which].prev = node


cdef inline void ring_remove(WaitNode** ring, WaitNode* node, int which) noexcept nogil:
    cdef WaitNode* following = node.rings[which].next
    if following == node:
        ring[0] = NULL
        return
    following.rings[which].prev = node.rings[which].prev
    node.rings[which].prev.rings[which].next = following
    if ring[0] == node:
        ring[0] = following


cdef inline WaitNode* ring_following(WaitNode* head, WaitNode* node, int which) noexcept nogil:
    # The next younger one, or NULL.
    cdef WaitNode* following = node.rings[which].next
    return following if following != head else NULL


cdef inline void list_append(WaitNode** list, WaitNode* node) noexcept nogil:
    ring_append(list, node, BY_AGE)
    node.list = list
    if node.keeps and not node.kept:
        node.kept = True
        retain(node.owner)


cdef inline void list_remove(WaitNode* node) noexcept nogil:
    if node.list == NULL:
        return
    ring_remove(node.list, node, BY_AGE)
    node.list = NULL
    if node.alike != NULL:
        alike_remove(node)


cdef inline Py_ssize_t list_length(WaitNode* head) noexcept nogil:
    cdef Py_ssize_t length = 0
    cdef WaitNode* node = head
    while node != NULL:
        length += 1
        node = ring_following(head, node, BY_AGE)
    return length


cdef inline void kick(WaitNode* node, WakeChain* wake) noexcept nogil:
    # Wakes the waiter to look again; what it finds depends on its state.
    if node.signalled:
        return
    node.signalled = True
    node.wake_next = NULL
    retain(node.owner)
    if wake.tail == NULL:
        wake.head = node
    else:
        wake.tail.wake_next = node
    wake.tail = node


cdef void list_dissolve(WaitNode** list, WakeChain* wake) noexcept nogil:
    # They look themselves, and find the end.
    cdef WaitNode* node
    while list[0] != NULL:
        node = list[0]
        list_remove(node)
        kick(node, wake)


cdef void wake_all(WakeChain* wake) noexcept:
    # Outside every lock. The chain may grow meanwhile: a task whose loop is closed leaves, and what it
    # was promised goes to the next, whose loop may be closed too, and so on. As calls within calls,
    # thousands of such loops would use up the stack.
    cdef WaitNode* node
    cdef PyObject* owner
    inflight_outside()
    while wake.head != NULL:
        node = wake.head
        # Once woken, a waiter may reuse its node.
        wake.head = node.wake_next
        if wake.head == NULL:
            wake.tail = NULL
        owner = node.owner
        (<Waiter>owner).wake(wake)
        drop(owner)


cdef extern from "park.h" nogil:
    ctypedef enum PyLockStatus:
        PY_LOCK_ACQUIRED
    PyLockStatus inflight_park(PyThread_type_lock lock, long long microseconds)


cdef class Waiter:
    # One call that waits. A subclass says how it sleeps and how it is woken: a thread on a lock
    # of its own, a task on a future of its loop.
    cdef WaitNode node

    def __cinit__(self):
        memset(&self.node, 0, sizeof(WaitNode))
        self.node.owner = <PyObject*>self
        self.node.armed = INFINITY

    cdef void wake(self, WakeChain* wake) noexcept:
        # Puts into the chain who is to be woken instead, if nobody can be here.
        pass


# Locks to be used again, all of them held; the GIL guards them. See rows.pxi.
cdef enum:
    SPARE_LOCKS = 64

cdef PyThread_type_lock spare_locks[SPARE_LOCKS]
cdef int spare_lock_count = 0


@cython.final
cdef class ThreadWaiter(Waiter):
    cdef PyThread_type_lock lock    # held, except between a wake-up and the park that consumes it
    cdef double longest             # seconds of one park

    def __cinit__(self):
        # The main thread runs the signal handlers.
        self.longest = LOOK_INTERVAL if inflight_in_main_thread() else INFINITY
        global spare_lock_count
        if spare_lock_count:
            spare_lock_count -= 1
            self.lock = spare_locks[spare_lock_count]
            return
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError
        PyThread_acquire_lock(self.lock, NOWAIT_LOCK)

    def __dealloc__(self):
        global spare_lock_count
        if self.lock == NULL:
            return
        # A wake-up that nobody has consumed has let go of it.
        PyThread_acquire_lock(self.lock, NOWAIT_LOCK)
        if INFLIGHT_FREE_THREADED or INFLIGHT_IS_PROOF or spare_lock_count == SPARE_LOCKS:
            PyThread_release_lock(self.lock)
            PyThread_free_lock(self.lock)
        else:
            spare_locks[spare_lock_count] = self.lock
            spare_lock_count += 1

    cdef void wake(self, WakeChain* wake) noexcept:
        PyThread_release_lock(self.lock)

    cdef bint park(self, double seconds) except -1:
        # [PARKED], then [WOKEN]. Sleeps for so many seconds at most; true if woken. It may end early: the caller looks at
        # what it waits for and at its clock, and parks again. Signal handlers run here, and raise
        # here.
        cdef PyLockStatus status
        cdef long long microseconds = -1
        seconds = min(seconds, self.longest)
        if seconds < INFINITY:
            microseconds = <long long>ceil(min(seconds, 3600.0) * 1e6)
        inflight_outside()
        inflight_count(PARKED)
        with nogil:
            status = inflight_park(self.lock, microseconds)
        # Also when woken: a handler that raises now still finds what was promised untaken.
        PyErr_CheckSignals()
        return status == PY_LOCK_ACQUIRED


cdef inline double now_seconds() except -1:
    return <double>monotonic()


cdef inline double deadline_of(double limit) except? -1:
    # On the clock of timeouts. Who waits for ever never looks at a clock.
    return INFINITY if limit == INFINITY else now_seconds() + limit


cdef inline double remaining_until(double deadline) except? -1:
    return INFINITY if deadline == INFINITY else deadline - now_seconds()


cdef inline double seconds_of(object timeout) except? -1:
    # A timeout argument in seconds; infinity where it means for ever.
    cdef double seconds
    if timeout is None:
        return INFINITY
    if type(timeout) is float:
        seconds = <double>timeout
        if seconds == seconds:
            return seconds
    timeout = check_seconds(timeout)
    return INFINITY if timeout is None else <double>timeout
