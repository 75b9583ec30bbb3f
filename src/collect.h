/* Slots of types that Cython has made, and what of a deallocator only C can say: see collect.pxi. */
#ifndef INFLIGHT_COLLECT_H
#define INFLIGHT_COLLECT_H

#include <Python.h>

static void inflight_collect(PyTypeObject *type, traverseproc traverse, inquiry clear) {
    type->tp_traverse = traverse;
    type->tp_clear = clear;
    PyType_Modified(type);
}
/* Instances can be made by Cython's own code only, which calls the function itself. */
static void inflight_make_abstract(PyTypeObject *type) {
    type->tp_new = NULL;
    type->tp_vectorcall = NULL;
    if (PyDict_DelItemString(type->tp_dict, "__new__") < 0) PyErr_Clear();
    PyType_Modified(type);
}
static void inflight_rename(PyTypeObject *type, const char *name) { type->tp_name = name; }
static traverseproc inflight_traverse_of(PyTypeObject *type) { return type->tp_traverse; }
static inquiry inflight_clear_of(PyTypeObject *type) { return type->tp_clear; }
static destructor inflight_dealloc_of(PyTypeObject *type) { return type->tp_dealloc; }

static void inflight_allocate_by(PyTypeObject *type, void *allocate) { type->tp_alloc = (allocfunc)allocate; }
static void inflight_dispose_by(PyTypeObject *type, destructor dealloc) { type->tp_dealloc = dealloc; }

/* Returns the finalizer that the type had. */
static destructor inflight_finalize_by(PyTypeObject *type, destructor finalize) {
    destructor before = type->tp_finalize;
    type->tp_finalize = finalize;
    return before;
}

/* Whether the object can be part of no cycle, as most keys and results. */
static inline int inflight_is_plain(PyObject *object) {
    return object == Py_None || PyLong_CheckExact(object) || PyUnicode_CheckExact(object);
}

/* The memory of an object that refers to nothing any more. */
static inline void inflight_free(PyObject *self) { Py_TYPE(self)->tp_free(self); }

/* Calls `bury` for an object that is being deallocated, as if it had a reference, and without the
   exception that is current. */
static void inflight_bury(PyObject *self, destructor bury) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_SET_REFCNT(self, Py_REFCNT(self) + 1);
    bury(self);
    Py_SET_REFCNT(self, Py_REFCNT(self) - 1);
    PyErr_Restore(type, value, traceback);
}

/* Disposes of an object of a type that `dealloc` belongs to, later if too many are under way. */
static void inflight_dispose_deep(PyObject *self, destructor dealloc, destructor dispose) {
    Py_TRASHCAN_BEGIN(self, dealloc)
    dispose(self);
    Py_TRASHCAN_END
}

#endif
