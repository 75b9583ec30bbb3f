# Where the fields of Op and OpSet are, for code that must not count references.
#
# Cython takes and drops a reference with nearly every access to an attribute that is an object, and
# makes an instance by filling it with None first. The functions that make, traverse and deallocate
# operations and rows do neither: they find the fields by their offsets, which collect.pxi computes at
# import, before there is any instance. Those that make one return a plain pointer, which is a reference
# of the caller's; `owned` hands it over to Cython.

cdef enum:
    # The references of an operation, in this order just before the completion.
    KEY
    MSG
    GROUP
    OUTCOME
    OP_REFERENCES            # how many

cdef size_t op_size, op_completion, op_below, op_weak_list, opset_row, opset_weak_list, results_weak_list

cdef extern from "Python.h":
    PyObject* PyType_GenericAlloc(PyTypeObject* type, Py_ssize_t items) except NULL
    void PyObject_GC_Track(PyObject* self)
    void PyObject_GC_UnTrack(PyObject* self)
    bint PyObject_GC_IsTracked(PyObject* self)
    bint PyObject_GC_IsFinalized(PyObject* self)
    Py_ssize_t Py_REFCNT(PyObject* self)
    void _Py_NewReference(PyObject* self)
    # Borrowed references.
    PyObject* PyTuple_GET_ITEM(object items, Py_ssize_t i)
    PyObject* PyList_GET_ITEM(object items, Py_ssize_t i)
    PyObject* PyTuple_New(Py_ssize_t size) except NULL
    void PyTuple_SET_ITEM(PyObject* items, Py_ssize_t i, PyObject* item) noexcept   # takes over a reference
    bint Py_IS_TYPE(PyObject* instance, PyTypeObject* type)

cdef extern from "layout.h":
    size_t inflight_weak_list_offset(PyTypeObject* type)
    int inflight_show_member(PyTypeObject* type, const char* name, size_t offset) except -1
    PyObject* inflight_new(PyTypeObject* type) except NULL
    bint inflight_keep(PyObject* self)
    object owned "inflight_owned"(PyObject* reference)
    void inflight_cut(list items, Py_ssize_t size)


cdef inline Completion* op_completion_of(PyObject* op) noexcept nogil:
    return <Completion*>(<char*>op + op_completion)


cdef inline PyObject** op_references(PyObject* op) noexcept nogil:
    return <PyObject**>(<char*>op + op_completion) - OP_REFERENCES


cdef inline PyObject** op_below_of(PyObject* op) noexcept nogil:
    return <PyObject**>(<char*>op + op_below)


cdef inline Row** opset_row_of(PyObject* opset) noexcept nogil:
    return <Row**>(<char*>opset + opset_row)


cdef inline PyObject** opset_lease(PyObject* opset) noexcept nogil:
    # Next to the row. None where the queue is not exclusive.
    return <PyObject**>(<char*>opset + opset_row) + 1


cdef inline PyObject** weak_list(PyObject* self, size_t offset) noexcept nogil:
    return <PyObject**>(<char*>self + offset)
