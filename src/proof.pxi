# What a proof build (INFLIGHT_PROOF=1) counts, and how tests see it. See proof.h.

cdef enum Event:
    # A lock was held by another thread (free-threaded builds only).
    LOCK_CONTENDED
    # A step of a group was overtaken by another and done again (free-threaded builds only).
    STEP_REPEATED
    # A thread went to sleep.
    PARKED
    # A row was given to a consumer that waited, a slot to a producer.
    ROW_PROMISED
    SLOT_PROMISED
    # A consumer, a producer, found what it was promised before the wake-up reached it.
    ROW_TAKEN_UNWOKEN
    SLOT_USED_UNWOKEN
    # Who left without the row it was promised passed it on, or put it back; a promised slot was
    # used, or given up.
    ROW_PASSED_ON
    ROW_PUT_BACK
    SLOT_USED
    SLOT_GIVEN_UP
    # An operation was merged into a row that was promised, or that waits behind an owner.
    MERGED_INTO_PROMISED
    MERGED_BEHIND
    # A key was released with a row behind it; released again.
    REQUEUED
    RELEASED_AGAIN
    # A window ended because it was time; whatever it ended for.
    WINDOW_OVER
    WINDOW_ENDED
    # Keys were compared by code of theirs, outside the lock.
    KEYS_COMPARED
    # The rows of the index were moving to a larger or smaller table.
    ROWS_MOVED
    # An operation was finished by another caller first.
    FINISHED_SECOND
    # A callback came after the end.
    CALLBACK_LATE
    # A group refused an operation: it was sealed, or complete.
    ENROLLED_LATE
    # Wake-ups for tasks: put into a mailbox that was to be emptied anyhow; delivered; taken back
    # from a loop that was closed.
    POSTED_TO_SCHEDULED
    DELIVERED
    RETURNED
    EVENTS


cdef tuple EVENT_NAMES = (
    "LOCK_CONTENDED",
    "STEP_REPEATED",
    "PARKED",
    "ROW_PROMISED",
    "SLOT_PROMISED",
    "ROW_TAKEN_UNWOKEN",
    "SLOT_USED_UNWOKEN",
    "ROW_PASSED_ON",
    "ROW_PUT_BACK",
    "SLOT_USED",
    "SLOT_GIVEN_UP",
    "MERGED_INTO_PROMISED",
    "MERGED_BEHIND",
    "REQUEUED",
    "RELEASED_AGAIN",
    "WINDOW_OVER",
    "WINDOW_ENDED",
    "KEYS_COMPARED",
    "ROWS_MOVED",
    "FINISHED_SECOND",
    "CALLBACK_LATE",
    "ENROLLED_LATE",
    "POSTED_TO_SCHEDULED",
    "DELIVERED",
    "RETURNED",
)


def _counters():
    # How often each event has happened in this process.
    assert len(EVENT_NAMES) == EVENTS
    return {name: inflight_counted(event) for event, name in enumerate(EVENT_NAMES)}


def _refuse_after(long long allocations):
    # Lets so many of the kernel's allocations succeed and refuses the one that follows; a negative
    # number refuses none.
    inflight_refuse_after(allocations)
