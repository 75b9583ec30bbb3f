# Shortcuts: the plain forms of the calls that are made for every operation.
#
# What Cython puts around a method takes a reference to every argument, fills in defaults and looks
# for keywords, which costs as much as what the method does. So these stand in front of it: they see
# to the call with the usual arguments, all positional, and leave any other, and every mistake, to
# the method itself. There must be nothing here that the method does otherwise.

cdef extern from "fastcall.h":
    ctypedef PyObject* (*Call "inflight_call")(
        PyObject* self, PyObject** arguments, Py_ssize_t count, PyObject* names
    ) except NULL
    Call inflight_call_by(PyTypeObject* type, const char* name, void* shortcut) except NULL
    PyObject* inflight_none() noexcept

cdef extern from "Python.h":
    PyObject* PyLong_FromSsize_t(Py_ssize_t number) except NULL

cdef object ONE = 1

cdef Call op_finish_method, group_add_method, opset_finish_all_method, queue_enqueue_method, queue_dequeue_method


cdef PyObject* call_finish(Op self, PyObject** arguments, Py_ssize_t count, PyObject* names) except NULL:
    if count > 1 or names != NULL:
        return op_finish_method(<PyObject*>self, arguments, count, names)
    if not op_try_finish(self, <object>(arguments[0] if count else <PyObject*>None), None):
        op_refuse_finish(self)
    return inflight_none()


cdef PyObject* call_add(CallGroup self, PyObject** arguments, Py_ssize_t count, PyObject* names) except NULL:
    if count < 1 or count > 2 or names != NULL:
        return group_add_method(<PyObject*>self, arguments, count, names)
    return group_add(self, arguments[0], arguments[1] if count == 2 else <PyObject*>None)


cdef PyObject* call_finish_all(OpSet self, PyObject** arguments, Py_ssize_t count, PyObject* names) except NULL:
    if count > 1 or names != NULL:
        return opset_finish_all_method(<PyObject*>self, arguments, count, names)
    count = opset_finish(self, SUCCEEDED, <object>(arguments[0] if count else <PyObject*>None), None)
    if count != 1:
        return PyLong_FromSsize_t(count)
    retain(<PyObject*>ONE)      # nearly always, and without asking for it
    return <PyObject*>ONE


cdef PyObject* call_enqueue(OpQueue self, PyObject** arguments, Py_ssize_t count, PyObject* names) except NULL:
    if count != 2 or names != NULL or not Py_IS_TYPE(arguments[1], <PyTypeObject*>Op):
        return queue_enqueue_method(<PyObject*>self, arguments, count, names)
    queue_enqueue(self, arguments[0], arguments[1], 0.0)
    return inflight_none()


cdef PyObject* call_dequeue(OpQueue self, PyObject** arguments, Py_ssize_t count, PyObject* names) except NULL:
    if count != 0 or names != NULL:
        return queue_dequeue_method(<PyObject*>self, arguments, count, names)
    return queue_take_one(self)


def _install_shortcuts():
    global op_finish_method, group_add_method, opset_finish_all_method, queue_enqueue_method, queue_dequeue_method
    op_finish_method = inflight_call_by(<PyTypeObject*>Op, "finish", <void*>call_finish)
    group_add_method = inflight_call_by(<PyTypeObject*>CallGroup, "add", <void*>call_add)
    opset_finish_all_method = inflight_call_by(<PyTypeObject*>OpSet, "finish_all", <void*>call_finish_all)
    queue_enqueue_method = inflight_call_by(<PyTypeObject*>OpQueue, "enqueue", <void*>call_enqueue)
    queue_dequeue_method = inflight_call_by(<PyTypeObject*>OpQueue, "dequeue", <void*>call_dequeue)


_install_shortcuts()
del _install_shortcuts
