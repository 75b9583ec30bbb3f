/* What a proof build (INFLIGHT_PROOF=1) adds: it counts what happened, refuses allocations when told
 * to, verifies its invariants when asked to (check.pxi), and ends the process where a lock is taken or
 * let go out of turn.
 *
 * Tests of races need to know that there was a race: that a lock was contended, that a row was handed
 * over to a waiter which left at that moment. Tests of exhausted memory need every allocation to be
 * a real one that can fail. Nobody else should pay for either, so in any other build all of this is
 * nothing.
 *
 * The counters are relaxed atomics: they order nothing, so that they hide no race from
 * ThreadSanitizer.
 */
#ifndef INFLIGHT_PROOF_H
#define INFLIGHT_PROOF_H

#include <Python.h>
#include <stdint.h>

#ifdef INFLIGHT_PROOF

#define INFLIGHT_IS_PROOF 1

static uint64_t inflight_counters[64];
#define INFLIGHT_LOCK_CONTENDED 0   /* the first event of proof.pxi */

static inline void inflight_count(int event) {
    __atomic_fetch_add(&inflight_counters[event], 1, __ATOMIC_RELAXED);
}
static inline uint64_t inflight_counted(int event) {
    return __atomic_load_n(&inflight_counters[event], __ATOMIC_RELAXED);
}

/* How many more of the kernel's allocations succeed before one is refused; negative: all. */
static int64_t inflight_allocations_left = -1;

static inline void inflight_refuse_after(int64_t allocations) {
    __atomic_store_n(&inflight_allocations_left, allocations, __ATOMIC_RELAXED);
}
static inline int inflight_may_allocate(void) {
    if (__atomic_load_n(&inflight_allocations_left, __ATOMIC_RELAXED) < 0) return 1;
    return __atomic_fetch_sub(&inflight_allocations_left, 1, __ATOMIC_RELAXED) != 0;
}

/* Locks that this thread holds: one at most, and none while Python code may run. */
static _Thread_local int inflight_locks_held;

static inline void inflight_expect_locks(int held, const char *otherwise) {
    if (inflight_locks_held != held) Py_FatalError(otherwise);
}
static inline void inflight_outside(void) {
    inflight_expect_locks(0, "inflight: Python code may run while a lock is held");
}
static inline void inflight_locking(int contended) {
    inflight_expect_locks(0, "inflight: a lock is taken while one is held");
    inflight_locks_held = 1;
    if (contended) inflight_count(INFLIGHT_LOCK_CONTENDED);
}
static inline void inflight_unlocking(void) {
    inflight_expect_locks(1, "inflight: a lock is let go that is not held");
    inflight_locks_held = 0;
}

#else

#define INFLIGHT_IS_PROOF 0

static inline void inflight_count(int event) { (void)event; }
static inline uint64_t inflight_counted(int event) { (void)event; return 0; }
static inline void inflight_refuse_after(int64_t allocations) { (void)allocations; }
static inline int inflight_may_allocate(void) { return 1; }
static inline void inflight_outside(void) {}
static inline void inflight_locking(int contended) { (void)contended; }
static inline void inflight_unlocking(void) {}

#endif

/* References are given up outside every lock: that may run any code. */
static inline void inflight_drop(PyObject *reference) {
    inflight_outside();
    Py_DECREF(reference);
}
static inline void inflight_drop_if_any(PyObject *reference) {
    if (reference != NULL) inflight_drop(reference);
}

/* The kernel's allocators. */
static inline void *inflight_malloc(size_t size) {
    return inflight_may_allocate() ? PyMem_RawMalloc(size) : NULL;
}
static inline void *inflight_calloc(size_t count, size_t size) {
    return inflight_may_allocate() ? PyMem_RawCalloc(count, size) : NULL;
}
static inline void *inflight_realloc(void *memory, size_t size) {
    return inflight_may_allocate() ? PyMem_RawRealloc(memory, size) : NULL;
}
/* For many small objects, and only with the GIL, or an attached thread. */
static inline void *inflight_small_malloc(size_t size) {
    return inflight_may_allocate() ? PyMem_Malloc(size) : NULL;
}
static inline void *inflight_small_realloc(void *memory, size_t size) {
    return inflight_may_allocate() ? PyMem_Realloc(memory, size) : NULL;
}

#endif
