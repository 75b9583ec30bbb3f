/* A layer around methods and constructors, for arguments that do not fit: see binding.pxi. */
#ifndef INFLIGHT_BINDING_H
#define INFLIGHT_BINDING_H

#include <Python.h>
#include "fastcall.h"

/* All written at import. */
static PyObject *inflight_misfit;
typedef struct { PyObject *cls, *name, *start; } inflight_names;     /* "OpQueue", "enqueue", "enqueue() " */
static struct { inflight_call call; inflight_names names; } inflight_methods[64];
static struct { vectorcallfunc call; initproc init; inflight_names names; } inflight_constructors[8];
static int inflight_method_count, inflight_constructor_count;

/* Whether an exception was raised that begins like those of Cython's code for arguments. It is usually none of them,
   but what an operation failed with, or a check of ours. */
static int inflight_about_arguments(const inflight_names *names) {
    PyObject *type, *value, *traceback, *arguments = NULL, *text;
    int found = 0;
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) return 0;
    PyErr_Fetch(&type, &value, &traceback);
    text = value;       /* before 3.12 there is no exception yet */
    if (value != NULL && Py_IS_TYPE(value, (PyTypeObject *)PyExc_TypeError)) {
        arguments = PyObject_GetAttrString(value, "args");
        text = arguments == NULL || PyTuple_GET_SIZE(arguments) != 1 ? NULL : PyTuple_GET_ITEM(arguments, 0);
    }
    if (text != NULL && PyUnicode_CheckExact(text))
        found = PyUnicode_Tailmatch(text, names->start, 0, PY_SSIZE_T_MAX, -1) == 1;
    Py_XDECREF(arguments);
    PyErr_Restore(type, value, traceback);
    return found;
}

/* After such an exception of a call: raises what Python would, the error by which the search for it ended, or what was
   raised again. `keywords` are a dict, or names of what follows the `count` arguments, or NULL. */
static void inflight_reword(
    const inflight_names *called, PyObject *self, PyObject *const *arguments, size_t count, PyObject *keywords
) {
    PyObject *type, *value, *traceback, *text = NULL;
    int named = keywords != NULL && PyTuple_Check(keywords);
    size_t all = count + (named ? (size_t)PyTuple_GET_SIZE(keywords) : 0);
    PyErr_Fetch(&type, &value, &traceback);
    PyObject **passed = PyMem_New(PyObject *, all + 3);
    if (passed == NULL) {
        PyErr_NoMemory();
    } else {
        passed[0] = called->cls;
        passed[1] = called->name;
        passed[2] = self;
        if (all > 0) memcpy(passed + 3, arguments, all * sizeof(PyObject *));
        text = (named ? PyObject_Vectorcall : PyObject_VectorcallDict)(inflight_misfit, passed, count + 3, keywords);
        PyMem_Free(passed);
    }
    if (text == Py_None) {
        PyErr_Restore(type, value, traceback);
    } else {
        if (text != NULL) PyErr_SetObject(PyExc_TypeError, text);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    Py_XDECREF(text);
}

static PyObject *inflight_method(int i, PyObject *self, PyObject **arguments, Py_ssize_t count, PyObject *names) {
    PyObject *answer = inflight_methods[i].call(self, arguments, count, names);
    const inflight_names *called = &inflight_methods[i].names;
    if (answer == NULL && inflight_about_arguments(called))
        inflight_reword(called, self, arguments, (size_t)count, names);
    return answer;
}

/* A call of the class: there is no object to be seen. */
static PyObject *inflight_construct(int i, PyObject *cls, PyObject *const *arguments, size_t count, PyObject *names) {
    PyObject *answer = inflight_constructors[i].call(cls, arguments, count, names);
    const inflight_names *called = &inflight_constructors[i].names;
    if (answer == NULL && inflight_about_arguments(called))
        inflight_reword(called, cls, arguments, PyVectorcall_NARGS(count), names);
    return answer;
}

static int inflight_init(int i, PyObject *self, PyObject *arguments, PyObject *keywords) {
    int answer = inflight_constructors[i].init(self, arguments, keywords);
    const inflight_names *called = &inflight_constructors[i].names;
    if (answer < 0 && inflight_about_arguments(called))
        inflight_reword(
            called, self, ((PyTupleObject *)arguments)->ob_item, (size_t)PyTuple_GET_SIZE(arguments), keywords
        );
    return answer;
}

/* What is called is not told which method it is: a function for each. The numbers are octal. */
#define INFLIGHT_METHOD(i) \
    static PyObject *inflight_method_##i(PyObject *self, PyObject **arguments, Py_ssize_t count, PyObject *names) { \
        return inflight_method(i, self, arguments, count, names); \
    }
#define INFLIGHT_CONSTRUCTOR(i) \
    static PyObject *inflight_construct_##i(PyObject *cls, PyObject *const *all, size_t count, PyObject *names) { \
        return inflight_construct(i, cls, all, count, names); \
    } \
    static int inflight_init_##i(PyObject *self, PyObject *arguments, PyObject *keywords) { \
        return inflight_init(i, self, arguments, keywords); \
    }
#define INFLIGHT_METHOD_NAME(i) inflight_method_##i,
#define INFLIGHT_CONSTRUCTOR_NAME(i) {inflight_construct_##i, inflight_init_##i},
#define INFLIGHT_EIGHT(each, i) each(i##0) each(i##1) each(i##2) each(i##3) each(i##4) each(i##5) each(i##6) each(i##7)
#define INFLIGHT_64(each) \
    INFLIGHT_EIGHT(each, 0) INFLIGHT_EIGHT(each, 01) INFLIGHT_EIGHT(each, 02) INFLIGHT_EIGHT(each, 03) \
    INFLIGHT_EIGHT(each, 04) INFLIGHT_EIGHT(each, 05) INFLIGHT_EIGHT(each, 06) INFLIGHT_EIGHT(each, 07)

INFLIGHT_64(INFLIGHT_METHOD)
INFLIGHT_EIGHT(INFLIGHT_CONSTRUCTOR, 0)

static const inflight_call inflight_method_by[] = {INFLIGHT_64(INFLIGHT_METHOD_NAME)};
static const struct { vectorcallfunc call; initproc init; } inflight_constructor_by[] = {
    INFLIGHT_EIGHT(INFLIGHT_CONSTRUCTOR_NAME, 0)
};

/* What is called. One whose default is no literal is a function of Cython's, which is one of C's with more to it. */
static PyMethodDef *inflight_definition(PyTypeObject *type, PyMethodDef *listed) {
    PyObject *method = PyDict_GetItemString(type->tp_dict, listed->ml_name);
    if (method == NULL || Py_IS_TYPE(method, &PyMethodDescr_Type)) return listed;
    return ((PyCFunctionObject *)method)->m_ml;
}

static int inflight_name(inflight_names *names, PyObject *cls, const char *name) {
    names->cls = Py_NewRef(cls);
    names->name = PyUnicode_InternFromString(name);
    names->start = PyUnicode_FromFormat("%s() ", name);
    return names->name == NULL || names->start == NULL ? -1 : 0;
}

/* Puts the layer around the methods of a type that take any arguments, and around its constructor. */
static int inflight_bind(PyTypeObject *type, PyObject *cls) {
    PyMethodDef *method;
    PyObject *constructor;
    int i;
    for (method = type->tp_methods; method->ml_name != NULL; method++) {
        if (method->ml_flags != (METH_FASTCALL | METH_KEYWORDS)) continue;
        if (method->ml_name[0] == '_' && method->ml_name[1] != '_') continue;
        i = inflight_method_count++;
        if (i == sizeof(inflight_method_by) / sizeof(*inflight_method_by)) {
            PyErr_SetString(PyExc_SystemError, "more methods than there are functions for them");
            return -1;
        }
        if (inflight_name(&inflight_methods[i].names, cls, method->ml_name) < 0) return -1;
        inflight_methods[i].call = inflight_put_before(inflight_definition(type, method), inflight_method_by[i]);
    }
    constructor = PyDict_GetItemString(type->tp_dict, "__init__");
    if (constructor == NULL || !Py_IS_TYPE(constructor, &PyWrapperDescr_Type)) return 0;
    i = inflight_constructor_count++;
    if (inflight_name(&inflight_constructors[i].names, cls, "__init__") < 0) return -1;
    inflight_constructors[i].init = type->tp_init;
    type->tp_init = inflight_constructor_by[i].init;
    /* Of subclasses that call it by name. */
    ((PyWrapperDescrObject *)constructor)->d_wrapped = (void *)inflight_constructor_by[i].init;
    if (type->tp_vectorcall != NULL) {
        inflight_constructors[i].call = type->tp_vectorcall;
        type->tp_vectorcall = inflight_constructor_by[i].call;
    }
    return 0;
}

#endif
