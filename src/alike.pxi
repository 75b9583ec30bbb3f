# The producers that wait at a queue, by the hash of their keys: who makes a key wait tells those who bring
# the same, since they can merge now, however many others there are.
#
# Each bucket is a ring like a wait list, oldest first; a node is in one while it is in the list of
# producers. There are at least as many buckets as nodes, unless there was no memory for more.
#
# Everything here needs the queue's lock, and is O(1) but for what grows.

cdef enum:
    ALIKE_FEW = 8            # buckets to begin with
    ALIKE_MANY = 1024        # not kept when nobody waits any more


cdef struct Alike:
    WaitNode** buckets       # NULL while nobody waits
    size_t mask
    size_t count


cdef inline WaitNode** alike_bucket(Alike* self, Py_hash_t hash) noexcept nogil:
    return &self.buckets[((<uint64_t>hash * INFLIGHT_SPREAD) >> 32) & self.mask]


cdef bint alike_add(Alike* self, WaitNode* node) noexcept nogil:
    # By `node.hash`. False if there is no memory.
    if self.count > self.mask or self.buckets == NULL:
        alike_grow(self)
        if self.buckets == NULL:
            return False
    alike_append(alike_bucket(self, node.hash), node)
    node.alike = self
    self.count += 1
    return True


cdef inline void alike_append(WaitNode** bucket, WaitNode* node) noexcept nogil:
    cdef WaitNode* head = bucket[0]
    if head == NULL:
        node.alike_prev = node
        node.alike_next = node
        bucket[0] = node
    else:
        node.alike_prev = head.alike_prev
        node.alike_next = head
        head.alike_prev.alike_next = node
        head.alike_prev = node


cdef inline void alike_take_out(WaitNode** bucket, WaitNode* node) noexcept nogil:
    if node.alike_next == node:
        bucket[0] = NULL
    else:
        node.alike_prev.alike_next = node.alike_next
        node.alike_next.alike_prev = node.alike_prev
        if bucket[0] == node:
            bucket[0] = node.alike_next


cdef void alike_grow(Alike* self) noexcept nogil:
    # O(nodes). Those of one hash keep their order, as they all are in one bucket before and after.
    cdef Alike grown
    cdef WaitNode* node
    cdef size_t i
    cdef size_t buckets = ALIKE_FEW if self.buckets == NULL else 2 * (self.mask + 1)
    grown.buckets = <WaitNode**>inflight_calloc(buckets, sizeof(WaitNode*))
    if grown.buckets == NULL:
        return
    grown.mask = buckets - 1
    if self.buckets != NULL:
        for i in range(self.mask + 1):
            while self.buckets[i] != NULL:
                node = self.buckets[i]
                alike_take_out(&self.buckets[i], node)
                alike_append(alike_bucket(&grown, node.hash), node)
        PyMem_RawFree(self.buckets)
    self.buckets = grown.buckets
    self.mask = grown.mask


cdef void alike_remove(WaitNode* node) noexcept nogil:
    cdef Alike* self = node.alike
    alike_take_out(alike_bucket(self, node.hash), node)
    node.alike = NULL
    self.count -= 1
    if self.count == 0 and self.mask >= ALIKE_MANY:
        alike_free(self)


cdef inline void alike_kick(Alike* self, Py_hash_t hash, WakeChain* wake) noexcept nogil:
    # O(nodes of this hash)
    cdef WaitNode* head
    cdef WaitNode* node
    if self.count == 0:
        return
    head = alike_bucket(self, hash)[0]
    node = head
    while node != NULL:
        if node.hash == hash:
            kick(node, wake)
        node = node.alike_next if node.alike_next != head else NULL


cdef void alike_free(Alike* self) noexcept nogil:
    PyMem_RawFree(self.buckets)
    self.buckets = NULL
    self.mask = 0
