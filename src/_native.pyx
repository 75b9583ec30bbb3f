# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: boundscheck=False, wraparound=False, initializedcheck=False, auto_pickle=False
"""The compiled implementation of inflight; an implementation detail, import from `inflight`.

One extension module, put together from one file per idea, kernel first, shell after:

    kernel   C structures behind functions that are `noexcept nogil`: they run no Python code,
             allocate no Python object and raise nothing, so that a section cannot be re-entered
             keys.pxi        a key being looked up: hash, kind, how it compares
             waiters.pxi     waiting, in one place: wait lists, waking, parking
             alike.pxi       producers that wait, by the hash of their keys
             completion.pxi  pending, then finished: what an operation and a group share
             rows.pxi        a row: the operations of one key, and lists of rows
             index.pxi       the hash table from key to row
             engine.pxi      the keyed queue: one engine, with windows and ownership as policies
             check.pxi       verifies the invariants, for tests
             proof.pxi       what a proof build counts
    shell    the Python-facing classes: convert, lock, call the kernel, unlock, act on the answer
             op.pxi, callgroup.pxi, opset.pxi, opqueue.pxi, dedupequeue.pxi, opwindow.pxi
             calls.pxi       what a queue's calls that may wait have in common
             tasks.pxi       waiting as a task of an event loop
             awaits.pxi      the calls that are awaited: a coroutine
             asks.pxi        what they ask for
             layout.pxi      where the fields of operations and rows are
             stow.pxi        finished operations that only their group still has
             collect.pxi     shows the references held in C structures to the garbage collector
             binding.pxi     what is said about arguments that do not fit
             fastcall.pxi    shortcuts to the calls that are made most

Methods are plain method descriptors (`binding=False`), which the interpreter calls faster than
Cython's own function type; the embedded signature keeps them introspectable.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree
from cpython.object cimport PyObject, PyTypeObject
from cpython.pythread cimport (
    NOWAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_get_thread_ident,
    PyThread_release_lock,
    PyThread_type_lock,
)
from libc.math cimport INFINITY, ceil
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from collections.abc import Sequence
from threading import main_thread
from time import monotonic
from types import GenericAlias, TracebackType
from warnings import warn

from inflight import _clock
from inflight._clock import LOOK_INTERVAL
from inflight._arguments import bound as check_bound
from inflight._arguments import error as check_error
from inflight._arguments import function as check_function
from inflight._arguments import kind as kind_of
from inflight._arguments import limit as check_limit
from inflight._arguments import seconds as check_seconds
from inflight._arguments import shown
from inflight._arguments import window as check_window
from inflight._exited import EXITED
from inflight._fork import in_child
from inflight._report import PASSED_ON, report, to_raise
from inflight._results import Results
from inflight._types import ALL, QueueStats
from inflight.errors import (
    AlreadyFinishedError,
    GroupClosedError,
    OpAbandonedError,
    OpCancelledError,
    QueueClosedError,
    QueueEmptyError,
    QueueSaturatedDepthError,
    QueueSaturatedWidthError,
)

cdef extern from "Python.h":
    bint PyErr_GivenExceptionMatches(object error, object kind)

cdef extern from "compat.h" nogil:
    const bint INFLIGHT_FREE_THREADED
    ctypedef struct inflight_mutex:
        pass
    const uint64_t INFLIGHT_SPREAD
    uint64_t inflight_generation
    unsigned long inflight_main_thread
    bint inflight_in_main_thread()
    void inflight_enter_child()
    void inflight_lock_init(inflight_mutex* self)
    void inflight_lock(inflight_mutex* self)
    void inflight_unlock(inflight_mutex* self)
    uint64_t inflight_load(uint64_t* word)
    void inflight_store(uint64_t* word, uint64_t value)
    bint inflight_swap(uint64_t* word, uint64_t expected, uint64_t desired)
    uint64_t inflight_add(uint64_t* word, uint64_t value)
    bint inflight_is_int(PyObject* reference)
    bint inflight_is_str(PyObject* reference)
    bint inflight_own_hash(PyObject* number, Py_hash_t* hash)
    bint inflight_has_hash(PyObject* str, Py_hash_t* hash)
    void inflight_prefetch(void* address)
    bint inflight_same_str(PyObject* a, PyObject* b)
    bint inflight_same_int(PyObject* a, PyObject* b)

cdef extern from "code_key.h":
    pass

cdef extern from "pages.h" nogil:
    void inflight_populate(void* memory, size_t size)

cdef extern from "proof.h" nogil:
    const bint INFLIGHT_IS_PROOF
    void inflight_count(int event)
    uint64_t inflight_counted(int event)
    void inflight_refuse_after(long long allocations)
    void inflight_outside()
    void* inflight_malloc(size_t size)
    void* inflight_calloc(size_t count, size_t size)
    void* inflight_realloc(void* memory, size_t size)
    void* inflight_small_malloc(size_t size)
    void* inflight_small_realloc(void* memory, size_t size)

# The kernel's functions are `nogil` because they run no Python code, but they are called with the
# GIL, or an attached thread: some use the object allocator, all count references.
cdef extern from "Python.h" nogil:
    void PyMem_Free(void* memory)

# References counted from inside the kernel. Incrementing runs no Python code; what is to be
# dropped is handed to the shell, which does so after the section.
cdef extern from "Python.h":
    bint Py_IsFinalizing()
    void retain "Py_INCREF"(PyObject* reference) noexcept nogil

# Calls of what may be Python code, where something is still to be done if it fails. Without memory a
# function can end in an error that is none (CPython loses the exception with the object of the frame),
# and an `except` clause sees nothing of it. These find out, and raise; Cython's own calls do not.
# For the same want of memory an exception may have no traceback, with which Cython's code crashes
# where an `except` clause is left by `return`, `break` or `continue`: here, none is. Nor is there any
# list comprehension: where Cython's cannot append, it drops the item twice.
cdef extern from "Python.h":
    object PyObject_CallOneArg(object function, object argument)
    object PyObject_CallFunctionObjArgs(object function, ...)
    object PyObject_CallMethodNoArgs(object self, object name)
    object PyObject_CallMethodOneArg(object self, object name, object argument)
    object PyObject_CallMethodObjArgs(object self, object name, ...)

cdef extern from "proof.h":
    void drop "inflight_drop"(PyObject* reference)
    void drop_if_any "inflight_drop_if_any"(PyObject* reference)


inflight_main_thread = main_thread().ident


@in_child
def _enter_child():
    inflight_enter_child()


include "proof.pxi"
include "keys.pxi"
include "waiters.pxi"
include "alike.pxi"
include "completion.pxi"
include "rows.pxi"
include "index.pxi"
include "engine.pxi"
include "layout.pxi"
include "op.pxi"
include "stow.pxi"
include "callgroup.pxi"
include "opset.pxi"
include "opqueue.pxi"
include "calls.pxi"
include "tasks.pxi"
include "awaits.pxi"
include "asks.pxi"
include "dedupequeue.pxi"
include "opwindow.pxi"
include "check.pxi"
include "collect.pxi"
include "binding.pxi"
include "fastcall.pxi"

if not INFLIGHT_IS_PROOF:
    # An ordinary build counts nothing, and shows nothing of its inside.
    del _check, _counters, _refuse_after
