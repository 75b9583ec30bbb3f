# Shows the garbage collector what C structures refer to.
#
# Cython writes a traversal for the object attributes of a class, but knows nothing of the rows of
# a queue, the row of an OpSet, the finished operations of a group, or callbacks. Without them no
# cycle through an operation could be collected. So each of these classes gets traverse and clear
# functions that add the rest to Cython's, at import, before there is any instance.
#
# Op and OpSet, of which there are many, get traversals and deallocators of their own instead of
# Cython's, as they are made by functions of their own (op_new, opset_new). The collector looks at
# every operation that waits several times, and calls nothing here for what refers to nothing. A
# `__dealloc__` would save and restore the current exception, and Op's finalizer would be called
# for every finished operation, each of which costs more than the rest of the deallocation. A long
# chain of operations, each of which has the next as its result, must not be dropped by recursion:
# from some depth on they use the trashcan, as containers of Python do, which costs something too.
#
# A traversal must not touch reference counts, so the structures are found by their offset in the
# object instead of through Cython's typed access. It needs no lock: with the GIL nothing else
# runs, and a free-threaded build stops the world, which never happens inside a section.

ctypedef int (*visitproc)(PyObject* reference, void* arg) noexcept
ctypedef int (*traverseproc)(PyObject* self, visitproc visit, void* arg) noexcept
ctypedef int (*inquiry)(PyObject* self) noexcept
ctypedef void (*destructor)(PyObject* self) noexcept

cdef extern from "collect.h":
    void inflight_collect(PyTypeObject* type, traverseproc traverse, inquiry clear)
    void inflight_rename(PyTypeObject* type, const char* name)
    void inflight_make_abstract(PyTypeObject* type)
    traverseproc inflight_traverse_of(PyTypeObject* type)
    inquiry inflight_clear_of(PyTypeObject* type)
    destructor inflight_dealloc_of(PyTypeObject* type)
    void inflight_allocate_by(PyTypeObject* type, void* allocate)
    void inflight_dispose_by(PyTypeObject* type, destructor dealloc)
    destructor inflight_finalize_by(PyTypeObject* type, destructor finalize)
    bint inflight_is_plain(PyObject* reference)
    void inflight_bury(PyObject* self, destructor bury)
    void inflight_dispose_deep(PyObject* self, destructor dealloc, destructor dispose)
    void inflight_free(PyObject* self)

cdef extern from "Python.h":
    int PyObject_CallFinalizerFromDealloc(PyObject* self)
    void PyObject_ClearWeakRefs(PyObject* self)


cdef traverseproc queue_traverse_attributes, group_traverse_attributes
cdef inquiry queue_clear_attributes, opset_clear_attributes
cdef inquiry op_clear_attributes, group_clear_attributes
cdef size_t queue_engine, group_completion, group_finished
cdef destructor op_finalize_pending, queue_dealloc_attributes
cdef traverseproc waiter_traverse_attributes
cdef inquiry waiter_clear_attributes
cdef size_t waiter_node
cdef destructor wait_dealloc_attributes
cdef inquiry wait_clear_attributes
cdef size_t wait_phase


cdef int row_visit(Row* row, visitproc visit, void* arg) noexcept:
    cdef uint32_t i
    cdef int stop
    if row == NULL or row == &TOMBSTONE:
        return 0
    stop = visit(row.key, arg)
    for i in range(row.count):
        if stop:
            return stop
        stop = visit(row_ops(row)[i], arg)
    return stop


cdef int waiters_visit(WaitNode* head, visitproc visit, void* arg) noexcept:
    # What keeps tasks alive that wait.
    cdef WaitNode* node = head
    cdef int stop
    while node != NULL:
        if node.kept:
            stop = visit(node.owner, arg)
            if stop:
                return stop
        node = ring_following(head, node, BY_AGE)
    return 0


cdef int table_visit(Table* table, visitproc visit, void* arg) noexcept:
    cdef size_t i
    cdef int stop
    cdef Row* row
    if table.slots == NULL:
        return 0
    for i in range(table.mask + 1):
        row = table.slots[i].row
        if row != NULL and row != &TOMBSTONE and row.state == TAKEN:
            row = row.peer      # the owner itself is its OpSet's
        stop = row_visit(row, visit, arg)
        if not stop and row != NULL and row != &TOMBSTONE and row.state == PROMISED_ROW and row.place.waiter.kept:
            stop = visit(row.place.waiter.owner, arg)
        if stop:
            return stop
    return 0


cdef int queue_traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef Engine* engine = <Engine*>(<char*>self + queue_engine)
    cdef int stop = queue_traverse_attributes(self, visit, arg)
    if not stop:
        stop = table_visit(&engine.index.main, visit, arg)
    if not stop:
        stop = table_visit(&engine.index.old, visit, arg)
    if not stop:
        stop = waiters_visit(engine.consumers, visit, arg)
    if not stop:
        stop = waiters_visit(engine.producers, visit, arg)
    if not stop:
        stop = waiters_visit(engine.joiners, visit, arg)
    return stop


cdef int opset_traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef PyObject* lease = opset_lease(self)[0]
    cdef int stop = 0
    if lease != <PyObject*>None:
        stop = visit(lease, arg)
    return stop or row_visit(opset_row_of(self)[0], visit, arg)


cdef inline int completion_visit(Completion* completion, visitproc visit, void* arg) noexcept:
    if completion.callbacks == NULL and completion.waiters == NULL:
        return 0
    return completion_visit_all(completion, visit, arg)


cdef int completion_visit_all(Completion* completion, visitproc visit, void* arg) noexcept:
    cdef Callback* callback = completion.callbacks
    cdef int stop
    while callback != NULL:
        stop = visit(callback.fn, arg)
        if stop:
            return stop
        callback = callback.next if callback.next != completion.callbacks else NULL
    return waiters_visit(completion.waiters, visit, arg)


cdef int op_traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef PyObject** references = op_references(self)
    cdef int stop = 0
    if not inflight_is_plain(references[<int>KEY]):
        stop = visit(references[<int>KEY], arg)
    if not stop and not inflight_is_plain(references[<int>MSG]):
        stop = visit(references[<int>MSG], arg)
    if not stop and references[<int>GROUP] != <PyObject*>None:
        stop = visit(references[<int>GROUP], arg)
    if not stop and not inflight_is_plain(references[<int>OUTCOME]):
        stop = visit(references[<int>OUTCOME], arg)
    return stop or completion_visit(op_completion_of(self), visit, arg)


cdef int group_traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef PyObject* op = (<PyObject**>(<char*>self + group_finished))[0]
    cdef int stop = group_traverse_attributes(self, visit, arg)
    while op != self and not stop:
        stop = op_traverse(op, visit, arg) if op_is_stowed(op) else visit(op, arg)
        op = op_below_of(op)[0]
    return stop or completion_visit(<Completion*>(<char*>self + group_completion), visit, arg)


cdef int queue_break(PyObject* self) noexcept:
    queue_clear(<OpQueue>self)
    return queue_clear_attributes(self)


cdef int opset_break(PyObject* self) noexcept:
    opset_clear(<OpSet>self)
    return opset_clear_attributes(self)


cdef int op_break(PyObject* self) noexcept:
    completion_forget(&(<Op>self).completion)
    return op_clear_attributes(self)


cdef int group_break(PyObject* self) noexcept:
    group_clear(<CallGroup>self)
    return group_clear_attributes(self)


cdef int waiter_traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    # A list shows what its nodes hold, a promised row its consumer's. What a node that is out of both still
    # holds, of a coroutine that was woken and that nobody resumes, is nobody's but the waiter's own.
    cdef WaitNode* node = <WaitNode*>(<char*>self + waiter_node)
    cdef int stop = waiter_traverse_attributes(self, visit, arg)
    if not stop and node.kept and node.list == NULL and node.row == NULL:
        stop = visit(self, arg)
    return stop


cdef int waiter_break(PyObject* self) noexcept:
    # Not without having left: what it is in the line of would keep pointing at it.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    (<TaskWaiter>self).leave(&wake)
    wake_all(&wake)
    return waiter_clear_attributes(self)


# How many deallocations are under way, one within the other; of all threads, which the GIL keeps
# apart. A free-threaded build goes to the trashcan at once, which counts for each thread.
cdef int nesting = 0

cdef enum:
    DEEP = 50


cdef inline void deallocate(PyObject* self, destructor dealloc, destructor dispose) noexcept:
    # Untracked before anything is dropped, or a collection that the dropping starts would find an
    # object without references.
    global nesting
    PyObject_GC_UnTrack(self)
    if INFLIGHT_FREE_THREADED or nesting >= DEEP:
        inflight_dispose_deep(self, dealloc, dispose)
    else:
        nesting += 1
        dispose(self)
        nesting -= 1


cdef void op_finalize(PyObject* self) noexcept:
    # The collector finalizes whatever it deallocates; most operations are finished.
    if inflight_load(&op_completion_of(self).state) == PENDING:
        op_finalize_pending(self)


cdef void op_dealloc(PyObject* self) noexcept:
    if inflight_load(&op_completion_of(self).state) == PENDING:
        if PyObject_CallFinalizerFromDealloc(self) < 0:
            return      # its group has it now
    deallocate(self, op_dealloc, op_dispose)


cdef void op_dispose(PyObject* self) noexcept:
    cdef PyObject** references = op_references(self)
    cdef int i
    if weak_list(self, op_weak_list)[0] != NULL:
        PyObject_ClearWeakRefs(self)
    # The callbacks, if a finalizer of a subclass has kept ours from calling them.
    completion_forget(op_completion_of(self))
    for i in range(OP_REFERENCES):
        drop(references[i])
    op_free(self)


cdef void queue_dealloc(PyObject* self) noexcept:
    # The key of a row may be another queue, and so on. It is the finalizer that drops the rows, so that it is
    # called inside, unlike that of an operation.
    deallocate(self, queue_dealloc, queue_dispose)


cdef void queue_dispose(PyObject* self) noexcept:
    if not PyObject_GC_IsFinalized(self):
        PyObject_GC_Track(self)
        if PyObject_CallFinalizerFromDealloc(self) < 0:
            return      # a callback has it now
    queue_dealloc_attributes(self)


cdef void wait_dealloc(PyObject* self) noexcept:
    # Mostly it has ended. One that has not is kept whole until it has left.
    if (<Phase*>(<char*>self + wait_phase))[0] != ENDED and not Py_IsFinalizing():
        PyObject_GC_UnTrack(self)
        inflight_bury(self, wait_bury)
    wait_dealloc_attributes(self)


cdef int wait_break(PyObject* self) noexcept:
    # Not without having left: without its waiter it could not any more, and that one is the queue's, too.
    # Whoever still finds it finds that it has ended.
    cdef Phase* phase = <Phase*>(<char*>self + wait_phase)
    if phase[0] != ENDED and not Py_IsFinalizing():
        wait_drop(<Wait>self)
    phase[0] = ENDED
    return wait_clear_attributes(self)


cdef void wait_bury(PyObject* self) noexcept:
    wait_drop(<Wait>self)


cdef void opset_dealloc(PyObject* self) noexcept:
    # Most are kept, and become like new before anything is dropped. The row is freed as if they were
    # deallocated; where that would be too deep, they are.
    global nesting
    cdef Row* row = opset_row_of(self)[0]
    if (
        not INFLIGHT_FREE_THREADED and nesting < DEEP and weak_list(self, opset_weak_list)[0] == NULL
        and opset_lease(self)[0] == <PyObject*>None and opset_keep(self)
    ):
        opset_row_of(self)[0] = NULL
        if row != NULL:
            nesting += 1
            row_free(row)
            nesting -= 1
        return
    deallocate(self, opset_dealloc, opset_dispose)


cdef void opset_dispose(PyObject* self) noexcept:
    # First the key: until it is released, the queue has the row as its owner.
    cdef PyObject* lease = opset_lease(self)[0]
    cdef Row* row = opset_row_of(self)[0]
    if lease != <PyObject*>None:
        (<Lease>lease).release()
    if weak_list(self, opset_weak_list)[0] != NULL:
        PyObject_ClearWeakRefs(self)
    inflight_free(self)
    drop(lease)
    if row != NULL:
        row_free(row)


def _install():
    global wait_dealloc_attributes, wait_clear_attributes, wait_phase
    global queue_traverse_attributes, group_traverse_attributes
    global queue_clear_attributes, opset_clear_attributes, queue_dealloc_attributes
    global op_clear_attributes, group_clear_attributes
    global waiter_traverse_attributes, waiter_clear_attributes, waiter_node
    global queue_engine, group_completion, group_finished, op_finalize_pending
    global opset_row, opset_weak_list, op_size, op_completion, op_below, op_weak_list, results_weak_list
    cdef OpQueue queue = <OpQueue>OpQueue.__new__(OpQueue)
    cdef OpSet opset = <OpSet>OpSet.__new__(OpSet)
    cdef Op op = <Op>Op.__new__(Op)
    cdef CallGroup group = <CallGroup>CallGroup.__new__(CallGroup)
    cdef Wait wait = <Wait>Wait.__new__(Wait)
    cdef Waiter waiter = Waiter.__new__(Waiter)
    queue_engine = <size_t>(<char*>&queue.engine - <char*><PyObject*>queue)
    opset_row = <size_t>(<char*>&opset.row - <char*><PyObject*>opset)
    opset_weak_list = inflight_weak_list_offset(<PyTypeObject*>OpSet)
    op_size = Op.__basicsize__
    op_completion = <size_t>(<char*>&op.completion - <char*><PyObject*>op)
    op_below = <size_t>(<char*>&op.below - <char*><PyObject*>op)
    op_weak_list = inflight_weak_list_offset(<PyTypeObject*>Op)
    results_weak_list = inflight_weak_list_offset(<PyTypeObject*>Results)
    group_completion = <size_t>(<char*>&group.completion - <char*><PyObject*>group)
    group_finished = <size_t>(<char*>&group.finished - <char*><PyObject*>group)

    op_finalize_pending = inflight_finalize_by(<PyTypeObject*>Op, op_finalize)
    inflight_allocate_by(<PyTypeObject*>Op, <void*>op_alloc)
    inflight_dispose_by(<PyTypeObject*>Op, op_dealloc)
    inflight_dispose_by(<PyTypeObject*>OpSet, opset_dealloc)
    queue_traverse_attributes = inflight_traverse_of(<PyTypeObject*>OpQueue)
    queue_clear_attributes = inflight_clear_of(<PyTypeObject*>OpQueue)
    queue_dealloc_attributes = inflight_dealloc_of(<PyTypeObject*>OpQueue)
    for kind in (OpQueue, DedupeQueue, OpWindow):
        inflight_collect(<PyTypeObject*>kind, queue_traverse, queue_break)
        inflight_dispose_by(<PyTypeObject*>kind, queue_dealloc)
    opset_clear_attributes = inflight_clear_of(<PyTypeObject*>OpSet)
    inflight_collect(<PyTypeObject*>OpSet, opset_traverse, opset_break)
    op_clear_attributes = inflight_clear_of(<PyTypeObject*>Op)
    inflight_collect(<PyTypeObject*>Op, op_traverse, op_break)
    group_traverse_attributes = inflight_traverse_of(<PyTypeObject*>CallGroup)
    group_clear_attributes = inflight_clear_of(<PyTypeObject*>CallGroup)
    inflight_collect(<PyTypeObject*>CallGroup, group_traverse, group_break)

    wait_phase = <size_t>(<char*>&wait.phase - <char*><PyObject*>wait)
    wait.phase = ENDED
    inflight_await_by(<PyTypeObject*>Wait, wait_iternext, wait_send)
    wait_dealloc_attributes = inflight_dealloc_of(<PyTypeObject*>Wait)
    inflight_dispose_by(<PyTypeObject*>Wait, wait_dealloc)
    wait_clear_attributes = inflight_clear_of(<PyTypeObject*>Wait)
    inflight_collect(<PyTypeObject*>Wait, inflight_traverse_of(<PyTypeObject*>Wait), wait_break)
    # As a coroutine of Python: one that waits for nothing could not be asked.
    inflight_make_abstract(<PyTypeObject*>Wait)
    inflight_rename(<PyTypeObject*>Wait, b"coroutine")
    waiter_node = <size_t>(<char*>&waiter.node - <char*><PyObject*>waiter)
    waiter_traverse_attributes = inflight_traverse_of(<PyTypeObject*>TaskWaiter)
    waiter_clear_attributes = inflight_clear_of(<PyTypeObject*>TaskWaiter)
    inflight_collect(<PyTypeObject*>TaskWaiter, waiter_traverse, waiter_break)

    for number, name in enumerate((b"key", b"msg", b"group")):
        inflight_show_member(<PyTypeObject*>Op, name, op_completion - (OP_REFERENCES - <int>number) * sizeof(PyObject*))

    # The names that users know them by: in reprs, in documentation, in error messages.
    inflight_rename(<PyTypeObject*>Op, b"inflight.Op")
    inflight_rename(<PyTypeObject*>OpSet, b"inflight.OpSet")
    inflight_rename(<PyTypeObject*>CallGroup, b"inflight.CallGroup")
    inflight_rename(<PyTypeObject*>OpQueue, b"inflight.OpQueue")
    inflight_rename(<PyTypeObject*>DedupeQueue, b"inflight.DedupeQueue")
    inflight_rename(<PyTypeObject*>OpWindow, b"inflight.OpWindow")


_install()
del _install
