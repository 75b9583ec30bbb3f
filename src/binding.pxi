# Arguments that do not fit: TypeErrors that read like Python's own.
#
# Cython's code for taking arguments apart has texts of its own ("takes exactly 2 positional arguments (1 given)"),
# which do not name what is missing. So each public method and constructor is called by a layer that looks
# at what it raises: where that begins like such a text, it asks what Python would have said
# (inflight/_binding.py). What raises nothing pays for one call of C; the shortcuts (fastcall.pxi) stand in
# front of it.
#
# Special methods that the interpreter calls by a slot keep its texts: nobody calls those by name.

cdef extern from "binding.h":
    PyObject* inflight_misfit
    int inflight_bind(PyTypeObject* type, object name) except -1


def _install_binding():
    global inflight_misfit
    from inflight._binding import misfit
    retain(<PyObject*>misfit)
    inflight_misfit = <PyObject*>misfit
    inflight_bind(<PyTypeObject*>Op, "Op")
    inflight_bind(<PyTypeObject*>OpSet, "OpSet")
    inflight_bind(<PyTypeObject*>CallGroup, "CallGroup")
    inflight_bind(<PyTypeObject*>OpQueue, "OpQueue")
    inflight_bind(<PyTypeObject*>DedupeQueue, "DedupeQueue")
    inflight_bind(<PyTypeObject*>OpWindow, "OpWindow")


_install_binding()
del _install_binding
