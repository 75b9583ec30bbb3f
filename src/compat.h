/* What differs between interpreters: the lock of an object, atomics, and comparing exact keys.
 *
 * On a build with the GIL, the GIL is the lock: a section runs no Python code, allocates no Python
 * object and never releases the GIL, so nothing can come between. The lock then is an empty
 * struct, the atomics are plain accesses, and both cost nothing. On a free-threaded build every
 * object has a PyMutex. It is not held across anything that could detach the thread, so the world
 * is never stopped (for a collection, for a fork) in the middle of a section.
 *
 * At a fork a mutex may still be locked: an unlock hands it over to a thread that has waited for
 * long, and that thread may not exist in the child. So a lock is stamped with the fork generation
 * it was last used in, and whoever meets an older stamp begins with an unlocked one.
 *
 * Rejected: critical sections, which any nested Python operation may suspend; a PyThread lock per
 * object on builds with the GIL, which costs several times the section it would guard.
 */
#ifndef INFLIGHT_COMPAT_H
#define INFLIGHT_COMPAT_H

#include "proof.h"

#include <Python.h>
#include <pythread.h>
#include <stdint.h>
#include <string.h>

/* How often this process came from a fork, counted from when it imported this module. */
static uint64_t inflight_generation;

/* The thread that runs signal handlers: in a child, the one that has forked. */
static unsigned long inflight_main_thread;

static inline int inflight_in_main_thread(void) { return PyThread_get_thread_ident() == inflight_main_thread; }
static inline void inflight_take_new_process(void) {
    inflight_generation++;
    inflight_main_thread = PyThread_get_thread_ident();
}

#ifdef Py_GIL_DISABLED

#define INFLIGHT_FREE_THREADED 1

#ifdef _MSC_VER
#include <intrin.h>
/* One primitive that 32-bit targets have as well; a full barrier, stronger than what is asked for. */
static inline uint64_t inflight_swapped(uint64_t *word, uint64_t expected, uint64_t desired) {
    return (uint64_t)_InterlockedCompareExchange64((volatile __int64 *)word, (__int64)desired,
                                                   (__int64)expected);
}
static inline uint64_t inflight_load(uint64_t *word) { return inflight_swapped(word, 0, 0); }
static inline int inflight_swap(uint64_t *word, uint64_t expected, uint64_t desired) {
    return inflight_swapped(word, expected, desired) == expected;
}
static inline void inflight_store(uint64_t *word, uint64_t value) {
    while (!inflight_swap(word, inflight_load(word), value)) {}
}
static inline uint64_t inflight_add(uint64_t *word, uint64_t value) {
    uint64_t before;
    do { before = inflight_load(word); } while (!inflight_swap(word, before, before + value));
    return before;
}
#else
static inline uint64_t inflight_load(uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
static inline void inflight_store(uint64_t *word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
static inline int inflight_swap(uint64_t *word, uint64_t expected, uint64_t desired) {
    return __atomic_compare_exchange_n(word, &expected, desired, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}
static inline uint64_t inflight_add(uint64_t *word, uint64_t value) {
    return __atomic_fetch_add(word, value, __ATOMIC_ACQ_REL);
}
#endif

typedef struct {
    uint64_t generation;    /* atomic */
    PyMutex mutex;
} inflight_mutex;

/* Held while a lock is renewed; made anew in every child, where only one thread exists then. */
static PyMutex inflight_renewing;

static void inflight_renew(inflight_mutex *self) {
    PyMutex_Lock(&inflight_renewing);
    if (inflight_load(&self->generation) != inflight_generation) {
        memset(&self->mutex, 0, sizeof self->mutex);
        inflight_store(&self->generation, inflight_generation);
    }
    PyMutex_Unlock(&inflight_renewing);
}
static inline void inflight_lock_init(inflight_mutex *self) {
    memset(self, 0, sizeof *self);
    self->generation = inflight_generation;
}
static inline void inflight_lock(inflight_mutex *self) {
    if (inflight_load(&self->generation) != inflight_generation) inflight_renew(self);
    inflight_locking(__atomic_load_n(&self->mutex._bits, __ATOMIC_RELAXED));
    PyMutex_Lock(&self->mutex);
}
static inline void inflight_unlock(inflight_mutex *self) {
    inflight_unlocking();
    PyMutex_Unlock(&self->mutex);
}
static inline void inflight_enter_child(void) {
    memset(&inflight_renewing, 0, sizeof inflight_renewing);
    inflight_take_new_process();
}

#else /* with the GIL */

#define INFLIGHT_FREE_THREADED 0

typedef struct { char unused; } inflight_mutex;
static inline void inflight_lock_init(inflight_mutex *self) { (void)self; }
static inline void inflight_lock(inflight_mutex *self) { (void)self; inflight_locking(0); }
static inline void inflight_unlock(inflight_mutex *self) { (void)self; inflight_unlocking(); }
static inline void inflight_enter_child(void) { inflight_take_new_process(); }

static inline uint64_t inflight_load(uint64_t *word) { return *word; }
static inline void inflight_store(uint64_t *word, uint64_t value) { *word = value; }
static inline int inflight_swap(uint64_t *word, uint64_t expected, uint64_t desired) {
    if (*word != expected) return 0;
    *word = desired;
    return 1;
}
static inline uint64_t inflight_add(uint64_t *word, uint64_t value) {
    uint64_t before = *word;
    *word = before + value;
    return before;
}

#endif

/* Odd, near 2**64 divided by the golden ratio. */
#define INFLIGHT_SPREAD UINT64_C(0x9E3779B97F4A7C15)

/* Below this, an int is its own hash, so that equal hashes of two such ints mean equal ints. */
#if SIZEOF_VOID_P >= 8
#define INFLIGHT_HASH_MODULUS ((((int64_t)1) << 61) - 1)
#else
#define INFLIGHT_HASH_MODULUS ((((int64_t)1) << 31) - 1)
#endif

/* The value of an exact int that is its own hash; false for any other int. */
static inline int inflight_own_hash(PyObject *number, Py_hash_t *hash) {
    long long value;
#if PY_VERSION_HEX >= 0x030C0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)number)) {
        value = PyUnstable_Long_CompactValue((PyLongObject *)number);
    } else
#else
    if ((size_t)Py_SIZE(number) <= 1) {
        value = Py_SIZE(number) * (long long)((PyLongObject *)number)->ob_digit[0];
    } else
#endif
    {
        int overflow;
        value = PyLong_AsLongLongAndOverflow(number, &overflow);
        if (overflow) return 0;
    }
    *hash = (Py_hash_t)value;
    return value >= 0 && value < INFLIGHT_HASH_MODULUS;
}

static inline int inflight_is_int(PyObject *object) { return PyLong_CheckExact(object); }
static inline int inflight_is_str(PyObject *object) { return PyUnicode_CheckExact(object); }

/* The hash of a str that was hashed before; false if it was not. */
static inline int inflight_has_hash(PyObject *str, Py_hash_t *hash) {
#ifdef Py_GIL_DISABLED
    *hash = _Py_atomic_load_ssize_relaxed(&((PyASCIIObject *)str)->hash);
#else
    *hash = ((PyASCIIObject *)str)->hash;
#endif
    return *hash != -1;
}

/* Fetches a cache line that will soon be read and written. */
#ifdef __GNUC__
#define inflight_prefetch(address) __builtin_prefetch((address), 1)
#else
#define inflight_prefetch(address) ((void)(address))
#endif

#if PY_VERSION_HEX < 0x030D0000
#define Py_IsFinalizing _Py_IsFinalizing
#endif

/* Equality of two exact strs that have been hashed: cannot fail, runs no Python code. */
static inline int inflight_same_str(PyObject *a, PyObject *b) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(a);
    int kind = PyUnicode_KIND(a);
    return length == PyUnicode_GET_LENGTH(b) && kind == (int)PyUnicode_KIND(b) &&
           memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b), (size_t)length * (size_t)kind) == 0;
}

/* Equality of two exact ints: likewise. The slot itself, since the functions around it check the
   recursion limit and may refuse. */
static inline int inflight_same_int(PyObject *a, PyObject *b) {
    PyObject *equal = PyLong_Type.tp_richcompare(a, b, Py_EQ);
    Py_DECREF(equal);
    return equal == Py_True;
}

#endif
