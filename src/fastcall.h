/* Puts a function in front of that of a method: see fastcall.pxi. */
#ifndef INFLIGHT_FASTCALL_H
#define INFLIGHT_FASTCALL_H

#include <Python.h>
#include <string.h>

typedef PyObject *(*inflight_call)(PyObject *self, PyObject **arguments, Py_ssize_t count, PyObject *names);

/* Both return the function that the method had, to be called for what `shortcut` does not see to. */
static inflight_call inflight_put_before(PyMethodDef *method, inflight_call shortcut) {
    inflight_call full = (inflight_call)(void (*)(void))method->ml_meth;
    method->ml_meth = (PyCFunction)(void (*)(void))shortcut;
    return full;
}

static inflight_call inflight_call_by(PyTypeObject *type, const char *name, inflight_call shortcut) {
    PyMethodDef *method = type->tp_methods;
    while (method->ml_name != NULL && strcmp(method->ml_name, name) != 0) method++;
    if (method->ml_name == NULL || method->ml_flags != (METH_FASTCALL | METH_KEYWORDS)) {
        PyErr_Format(PyExc_SystemError, "%s.%s cannot be called by a shortcut", type->tp_name, name);
        return NULL;
    }
    return inflight_put_before(method, shortcut);
}

/* From 3.12 on, without counting it. */
static inline PyObject *inflight_none(void) { Py_RETURN_NONE; }

#endif
