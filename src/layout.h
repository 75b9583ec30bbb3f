/* Instances of types that Cython has made, without what Cython does to make one (see layout.pxi), and lists. */
#ifndef INFLIGHT_LAYOUT_H
#define INFLIGHT_LAYOUT_H

#include <Python.h>
#include <string.h>
#include <structmember.h>

/* Shows the reference at `offset` as the attribute `name` instead of the property that has been there. The
   interpreter reads a member of a structure without calling anything. */
static int inflight_show_member(PyTypeObject *type, const char *name, size_t offset) {
    PyGetSetDef *property = type->tp_getset;
    PyMemberDef *member = PyMem_RawCalloc(1, sizeof *member);   /* as long as the type: for ever */
    PyObject *descriptor;
    int status;
    if (member == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    while (strcmp(property->name, name) != 0) property++;
    member->name = property->name;
    member->doc = property->doc;
    member->type = T_OBJECT_EX;
    member->offset = (Py_ssize_t)offset;
    member->flags = READONLY;
    descriptor = PyDescr_NewMember(type, member);
    if (descriptor == NULL) return -1;
    status = PyDict_SetItemString(type->tp_dict, name, descriptor);
    Py_DECREF(descriptor);
    PyType_Modified(type);
    return status;
}

static inline size_t inflight_weak_list_offset(PyTypeObject *type) { return (size_t)type->tp_weaklistoffset; }

/* Not tracked by the collector, nothing in it set. */
static inline PyObject *inflight_new(PyTypeObject *type) { return (PyObject *)PyObject_GC_New(PyObject, type); }

/* Keeps an instance that is being deallocated, as if it had a reference. False if it is to be freed after all,
   where references are accounted for. */
static inline int inflight_keep(PyObject *self) {
#if defined(Py_GIL_DISABLED) || defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS) || defined(INFLIGHT_PROOF)
    (void)self;
    return 0;
#else
    Py_SET_REFCNT(self, 1);
    return 1;
#endif
}

/* Drops what a list has beyond `size`; unlike list.pop it never asks for other memory. */
static inline void inflight_cut(PyObject *list, Py_ssize_t size) {
    while (PyList_GET_SIZE(list) > size) {
        PyObject *last = PyList_GET_ITEM(list, PyList_GET_SIZE(list) - 1);
        Py_SET_SIZE(list, PyList_GET_SIZE(list) - 1);
        Py_DECREF(last);
    }
}

/* A reference that is handed over to Cython. */
static inline PyObject *inflight_owned(PyObject *reference) { return reference; }

#endif
