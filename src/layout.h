/* Instances of types that Cython has made, without what Cython does to make one: see layout.pxi. */
#ifndef INFLIGHT_LAYOUT_H
#define INFLIGHT_LAYOUT_H

#include <Python.h>

static inline size_t inflight_weak_list_offset(PyTypeObject *type) { return (size_t)type->tp_weaklistoffset; }

/* Not tracked by the collector, nothing in it set. */
static inline PyObject *inflight_new(PyTypeObject *type) { return (PyObject *)PyObject_GC_New(PyObject, type); }

/* The same in the memory of an instance that was deallocated, and not freed. */
static inline PyObject *inflight_new_again(PyObject *memory) { return PyObject_Init(memory, Py_TYPE(memory)); }

/* A reference that is handed over to Cython. */
static inline PyObject *inflight_owned(PyObject *reference) { return reference; }

#endif
