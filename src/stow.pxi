# Finished operations that nobody but their group has any more.
#
# With the GIL they are stowed away in the group's stack: they forget the group and the collector forgets
# them, as if they were fields of the group's. So a group is not in a cycle with its operations, and they
# are not looked at by one collection after the other. It is nobody else's business before somebody looks
# at the Results, and then it is as before: group_ops fetches them. Meanwhile group_traverse shows what
# they refer to.
#
# There are two moments to see that nobody else has an operation: a row drops it, or the next one is
# pushed on top of it, since those that are finished one by one are mostly dropped one by one.


cdef inline void op_let_go(PyObject* op) noexcept:
    # Drops a row's reference.
    op_stow_unless_shared(op, 1)
    drop(op)


cdef inline void op_stow_unless_shared(PyObject* op, Py_ssize_t mine) noexcept:
    # If it is in the stack of a group, and besides there are just so many references, of a caller who does
    # not look at it any more. A weak one would still be a way to it.
    cdef PyObject** references = op_references(op)
    cdef PyObject* group = references[<int>GROUP]
    if (
        not INFLIGHT_FREE_THREADED and Py_REFCNT(op) == 1 + mine and op_below_of(op)[0] != NULL
        and not op_is_stowed(op) and weak_list(op, op_weak_list)[0] == NULL
    ):
        PyObject_GC_UnTrack(op)
        retain(<PyObject*>None)
        references[<int>GROUP] = <PyObject*>None
        drop(group)


cdef inline bint op_is_stowed(PyObject* op) noexcept nogil:
    # Of an operation in the stack of a group.
    return op_references(op)[<int>GROUP] == <PyObject*>None


cdef inline void op_fetch(PyObject* op, PyObject* group) noexcept:
    # Stowed away in the stack of this group, it becomes an object like others. (What the collector has
    # cleared looks stowed, too.)
    retain(group)
    drop(<PyObject*>None)
    op_references(op)[<int>GROUP] = group
    if not PyObject_GC_IsTracked(op):
        PyObject_GC_Track(op)
