# The producers that wait at a queue, by the hash of their keys: who makes a key wait tells those who bring
# the same, since they can merge now, however many others there are.
#
# Each bucket is a ring (waiters.pxi); a node is in one while it is in the list of producers. There are at
# least as many buckets as nodes, unless there was no memory for more.
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
    ring_append(alike_bucket(self, node.hash), node, BY_HASH)
    node.alike = self
    self.count += 1
    return True


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
                ring_remove(&self.buckets[i], node, BY_HASH)
                ring_append(alike_bucket(&grown, node.hash), node, BY_HASH)
        PyMem_RawFree(self.buckets)
    self.buckets = grown.buckets
    self.mask = grown.mask


cdef void alike_remove(WaitNode* node) noexcept nogil:
    cdef Alike* self = node.alike
    ring_remove(alike_bucket(self, node.hash), node, BY_HASH)
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
        node = ring_following(head, node, BY_HASH)


cdef void alike_free(Alike* self) noexcept nogil:
    PyMem_RawFree(self.buckets)
    self.buckets = NULL
    self.mask = 0
