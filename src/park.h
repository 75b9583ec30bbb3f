/* How a thread sleeps until its lock is let go.
 *
 * Whoever will let go of it may be about to do so on another processor. To have the system wake a thread there
 * takes tens of microseconds, a hundred times as long as that; so a park looks for a while before it sleeps, and
 * lets others that want its processor go first. How long, each thread learns: what was worth it is tried again, what
 * was not is halved, and now and then the full time is tried, since two threads that answer each other late each time
 * would never find out.
 *
 * All of it without the GIL, if there is one: who wakes a thread mostly waits itself soon, and gives it up for that.
 */
#ifndef INFLIGHT_PARK_H
#define INFLIGHT_PARK_H

#include <Python.h>

#ifdef _WIN32
#include <windows.h>
#define inflight_yield() ((void)SwitchToThread())
#else
#include <sched.h>
#define inflight_yield() ((void)sched_yield())
#endif

#ifdef _MSC_VER
#define INFLIGHT_THREAD_LOCAL __declspec(thread)
#else
#define INFLIGHT_THREAD_LOCAL _Thread_local
#endif

enum {
    INFLIGHT_MOST_LOOKS = 128,      /* some 50 microseconds, if nobody else wants the processor */
    INFLIGHT_FEWEST_LOOKS = 4,
    INFLIGHT_WORTH_LOOKING = 100,   /* microseconds: a shorter park only sleeps */
    INFLIGHT_TRY_AGAIN = 32         /* one park in so many takes the full time */
};

static INFLIGHT_THREAD_LOCAL unsigned inflight_looks = INFLIGHT_MOST_LOOKS, inflight_parks = 0;

static inline int inflight_look_for(PyThread_type_lock lock, long long microseconds) {
    unsigned looks = inflight_looks, look;
    if (microseconds >= 0 && microseconds <= INFLIGHT_WORTH_LOOKING) return 0;
    if (inflight_parks++ % INFLIGHT_TRY_AGAIN == 0) looks = INFLIGHT_MOST_LOOKS;
    for (look = 0; look < looks; look++) {
        if (PyThread_acquire_lock(lock, NOWAIT_LOCK)) {
            if (look > 0) inflight_looks = INFLIGHT_MOST_LOOKS;
            return 1;
        }
        inflight_yield();
    }
    looks /= 2;
    inflight_looks = looks > INFLIGHT_FEWEST_LOOKS ? looks : INFLIGHT_FEWEST_LOOKS;
    return 0;
}

/* For so many microseconds, or for ever if they are negative; a signal ends it. */
static inline PyLockStatus inflight_park(PyThread_type_lock lock, long long microseconds) {
    if (inflight_look_for(lock, microseconds)) return PY_LOCK_ACQUIRED;
    return PyThread_acquire_lock_timed(lock, microseconds, 1);
}

#endif
