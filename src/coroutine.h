/* What of a coroutine only C can say: see awaits.pxi.
 *
 * `await` takes the result of a call from a slot: `am_send` hands it over as it is. But from 3.12
 * to 3.13, and wherever else Python iterates, the value travels in a StopIteration, and to make and
 * drop one costs more than all the rest of a call that is ready. So, where the GIL guards it, there
 * is a type of its own for them, whose objects are kept to be used again.
 */
#ifndef INFLIGHT_COROUTINE_H
#define INFLIGHT_COROUTINE_H

#include <Python.h>

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)

#define INFLIGHT_SPARE_STOPS 8

static PyObject *inflight_spare_stops[INFLIGHT_SPARE_STOPS];
static int inflight_spare_stop_count;

static void inflight_stop_dealloc(PyObject *self) {
    PyStopIterationObject *stop = (PyStopIterationObject *)self;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(stop->value);
    Py_CLEAR(stop->dict);
    Py_CLEAR(stop->args);
    Py_CLEAR(stop->notes);
    Py_CLEAR(stop->traceback);
    Py_CLEAR(stop->context);
    Py_CLEAR(stop->cause);
    if (inflight_spare_stop_count < INFLIGHT_SPARE_STOPS) {
        inflight_spare_stops[inflight_spare_stop_count++] = self;
    } else {
        PyObject_GC_Del(self);
    }
}

static PyTypeObject inflight_stop_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "StopIteration",
    .tp_basicsize = sizeof(PyStopIterationObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = inflight_stop_dealloc,
};

static int inflight_stop_ready(void) {
    inflight_stop_type.tp_base = (PyTypeObject *)PyExc_StopIteration;
    inflight_stop_type.tp_traverse = inflight_stop_type.tp_base->tp_traverse;
    inflight_stop_type.tp_clear = inflight_stop_type.tp_base->tp_clear;
    return PyType_Ready(&inflight_stop_type);
}

static PyObject *inflight_stop_new(void) {
    PyObject *self = (PyObject *)PyObject_GC_New(PyStopIterationObject, &inflight_stop_type);
    if (self == NULL) return NULL;
    memset((char *)self + sizeof(PyObject), 0, sizeof(PyStopIterationObject) - sizeof(PyObject));
    return self;
}

/* Whether what inflight_stop() needs is there, so that nothing is lost for want of it; -1: no memory. */
static int inflight_stop_reserve(void) {
    PyObject *self;
    if (inflight_spare_stop_count) return 1;
    self = inflight_stop_new();
    if (self == NULL) return -1;
    PyObject_GC_Track(self);
    Py_DECREF(self);
    return 1;
}

/* Ends an iteration with a value: without an exception where that is None. Not tracked by the
   collector: it lives for as long as it takes to look at it. */
static void inflight_stop(PyObject *value) {
    PyObject *self;
    if (value == Py_None) return;
    if (inflight_spare_stop_count) {
        self = PyObject_Init(inflight_spare_stops[--inflight_spare_stop_count], &inflight_stop_type);
    } else {
        self = inflight_stop_new();
        if (self == NULL) return;
    }
    ((PyStopIterationObject *)self)->suppress_context = 0;
    ((PyStopIterationObject *)self)->args = PyTuple_New(0);
    ((PyStopIterationObject *)self)->value = Py_NewRef(value);
    PyErr_SetRaisedException(self);
}

#else

static int inflight_stop_ready(void) { return 0; }
static int inflight_stop_reserve(void) { return 0; }
static void inflight_stop(PyObject *value) { (void)value; }

#endif

/* What `await` asks an object for. */
static int inflight_has_await(PyObject *awaitable) {
    PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
    return methods != NULL && methods->am_await != NULL;
}
static PyObject *inflight_await(PyObject *awaitable) {
    return Py_TYPE(awaitable)->tp_as_async->am_await(awaitable);
}

/* Lets `await` take a result straight from the type's slots. */
static int inflight_await_by(PyTypeObject *type, iternextfunc iternext, sendfunc send) {
    type->tp_iternext = iternext;
    type->tp_as_async->am_send = send;
    PyType_Modified(type);
    return inflight_stop_ready();
}

#endif
