# The calls that are awaited.
#
# `await queue.adequeue()` makes a Wait, which is a coroutine in all but its type: awaited, it asks
# for what it came for, and returns it without suspending if it is there; nothing else is made for
# that. Otherwise it lines up as a TaskWaiter and is suspended by its loop, and asks again each time
# that it is resumed, as a thread does between two parks (calls.pxi). Whatever ends it, an answer,
# an exception thrown in, being closed or dropped, it leaves the line, and what it was promised
# goes to the next. What it asks for is in asks.pxi.
#
# A coroutine, and not only an awaitable, so that create_task() and TaskGroup take it; made lazily,
# so that a call that nobody awaits has taken nothing, and says so.
#
# Rejected: Cython's coroutines (two objects for each call that is ready); a subclass for each kind
# of call (each level costs more than what it would say).

from collections.abc import Coroutine

cdef extern from "Python.h":
    bint PyExceptionClass_Check(object type)

cdef extern from "coroutine.h":
    ctypedef PyObject* (*iternextfunc)(PyObject* self) except? NULL
    ctypedef int (*sendfunc)(PyObject* self, PyObject* value, PyObject** result) except -1
    int inflight_stop_reserve() except -1
    void inflight_stop(PyObject* value) noexcept
    bint inflight_has_await(object awaitable)
    object inflight_await(object awaitable)
    int inflight_await_by(PyTypeObject* type, iternextfunc iternext, sendfunc send) except -1


cdef enum Phase:
    FRESH
    SUSPENDED
    ENDED        # or running, which `busy` tells where anybody can see it


cdef enum Kind:
    DEQUEUE
    DEQUEUE_MANY
    NEXT_ROW
    ENQUEUE
    SUBMIT
    JOIN
    ENTER
    AWAIT_OP
    AWAIT_GROUP


cdef tuple KIND_NAMES = (
    "OpQueue.adequeue", "OpQueue.adequeue_many", "OpQueue.__anext__", "OpQueue.aenqueue", "OpQueue.asubmit",
    "OpQueue.ajoin", "CallGroup.__aenter__", "Op.__await__", "CallGroup.__await__",
)

# What a call that is asked returns instead of an answer.
cdef object UNANSWERED = object()


@cython.final
@cython.freelist(64)
cdef class Wait:
    # All of it belongs to the thread that runs the coroutine.
    cdef Phase phase
    cdef Kind kind
    cdef object home         # the queue, operation or group
    cdef OpSet row           # of a consumer: what it will fill
    cdef object op           # of a producer; DEQUEUE_MANY: the list that it will return
    cdef object key
    cdef object argument     # SUBMIT: the message; DEQUEUE_MANY: the limit; NEXT_ROW: the iterator
    cdef object timeout      # as given, and in seconds
    cdef double limit
    cdef double deadline
    cdef TaskWaiter waiter   # None until it has to wait
    cdef object inner        # what suspends it, where Trio does
    cdef bint busy           # running code of the key's
    cdef bint awaited

    def __await__(self):
        # anext() with a default does so each time that it is resumed.
        if self.phase == SUSPENDED and self.kind != NEXT_ROW:
            raise RuntimeError("coroutine is being awaited already")
        self.awaited = True
        return self

    def __iter__(self):
        # What `__await__` returned may be iterated over. Where the `await` was forgotten, that would take rows
        # and drop them.
        if not self.awaited and self.kind < AWAIT_OP:
            raise TypeError("'coroutine' object is not iterable")
        return self

    def __next__(self):
        return wait_step(self, None)

    def send(self, value):
        """Start or resume it, as ``send`` of a coroutine."""
        return wait_step(self, value)

    def throw(self, type, value=None, traceback=None):
        """Raise an exception where it is suspended, as ``throw`` of a coroutine."""
        cdef bint suspended = self.phase == SUSPENDED
        cdef bint yielded = False
        cdef bint wrong = True
        if PyExceptionClass_Check(type):
            error = value if isinstance(value, BaseException) else type() if value is None else type(value)
            wrong = False
        elif not isinstance(type, BaseException):
            error = TypeError(f"exceptions must be classes or instances deriving from BaseException, not {kind_of(type)}")
        elif value is not None:
            error = TypeError("instance exception may not have a separate value")
        else:
            error = type
            wrong = False
        if wrong and not suspended:
            raise error
        if traceback is not None:
            error = error.with_traceback(traceback)
        if self.phase == ENDED:
            wait_refuse(self)
        self.phase = ENDED
        if suspended and self.inner is not None:
            answer = wait_resume(self, None, error, &yielded)
            if yielded:
                return answer
            wait_stop(answer)
        wait_leave(self)
        if suspended and is_of(error, StopIteration):
            raise wait_stopped(self) from error
        raise error

    def close(self):
        """End it, as ``close`` of a coroutine: what it was promised goes to the next in line."""
        inner = self.inner
        if self.busy:
            wait_refuse(self)
        self.inner = None
        self.phase = ENDED
        try:
            if inner is not None:
                inner.close()
        finally:
            wait_leave(self)

    # Dropped before it has ended, it leaves: wait_dealloc. In a cycle that is collected, it or its waiter does,
    # whichever comes first: wait_break, waiter_break.

    @property
    def __name__(self):
        return self.__qualname__.rpartition(".")[2]

    @property
    def __qualname__(self):
        return KIND_NAMES[self.kind]

    @property
    def cr_running(self):
        """Always false: nobody sees it while it runs."""
        return False

    @property
    def cr_await(self):
        """What it is suspended on, or ``None``."""
        return (self.waiter if self.inner is None else self.inner) if self.phase == SUSPENDED else None

    @property
    def cr_suspended(self):
        """Whether it was started, and waits."""
        return self.phase == SUSPENDED

    cr_frame = None
    cr_code = None

    def __repr__(self):
        return f"<coroutine {self.__qualname__}>"

    def __reduce__(self):
        # A copy would have the same place in line.
        raise TypeError("cannot pickle 'coroutine' object")


Coroutine.register(Wait)


cdef inline Wait wait_new(Kind kind, object home, object timeout):
    cdef Wait wait = <Wait>Wait.__new__(Wait)
    wait.phase = FRESH
    wait.kind = kind
    wait.home = home
    wait.timeout = timeout
    return wait


@cython.final
cdef class Begun:
    # What is awaited already. Asked by Cython to begin, an object's own `__await__` may raise what it likes, and
    # Cython makes a TypeError of that: of a cancellation and of Ctrl-C, too.
    cdef object iterator

    def __await__(self):
        return self.iterator


cdef object begin_awaiting(object awaitable):
    # What Cython's `await` takes. Without a slot there is nothing that could raise.
    cdef Begun begun
    if not inflight_has_await(awaitable):
        return awaitable
    begun = Begun()
    begun.iterator = inflight_await(awaitable)
    return begun


# ---- the coroutine ------------------------------------------------------------------------------


cdef inline object wait_advance(Wait self, object value, bint* yielded):
    # The answer, or what to yield.
    if self.phase == SUSPENDED:
        self.phase = ENDED
        return wait_resume(self, value, None, yielded)
    if self.phase == ENDED:
        wait_refuse(self)
        return None
    if value is not None:
        raise TypeError(f"can't send non-None value to a just-started {wait_noun(self)}")
    self.phase = ENDED
    if self.kind == NEXT_ROW and (<AsyncRowIterator>self.argument).streak >= READY_ROWS:
        (<AsyncRowIterator>self.argument).streak = 0
        return wait_share(self, yielded)
    return wait_begin(self, yielded)


cdef str wait_noun(Wait self):
    # What it is in Python: `__await__` there returns a generator.
    return "generator" if self.kind >= AWAIT_OP else "coroutine"


cdef int wait_refuse(Wait self) except -1:
    # Of one that has ended, or runs. A generator that has ended just ends again.
    if self.busy:
        raise ValueError(f"{wait_noun(self)} already executing")
    if self.kind < AWAIT_OP:
        raise RuntimeError("cannot reuse already awaited coroutine")
    return 0


cdef inline object wait_begin(Wait self, bint* yielded):
    # Most calls end here.
    if wait_is_plain(self):
        wait_check(self)
        answer = wait_ask(self, None, self.limit <= 0)
    else:
        answer = wait_begin_with_care(self)
    return answer if answer is not UNANSWERED else wait_suspend(self, yielded)


cdef inline bint wait_is_plain(Wait self) noexcept:
    # Whether it neither runs code of the key's nor raises what a reducer has raised.
    if self.kind == ENQUEUE:
        return type(self.key) is int or type(self.key) is str
    return self.kind != SUBMIT and self.kind != AWAIT_GROUP


cdef object wait_begin_with_care(Wait self):
    try:
        self.busy = True
        wait_check(self)
        return wait_ask(self, None, self.limit <= 0)
    except StopIteration as error:
        raise wait_stopped(self) from error
    finally:
        self.busy = False


cdef object wait_stopped(Wait self):
    # Let out, it would be taken for a result.
    return RuntimeError(f"{wait_noun(self)} raised StopIteration")


cdef object wait_share(Wait self, bint* yielded):
    # Lets the loop's others run before anything is taken: cancelled here, it has nothing to lose.
    cdef object loop = None
    try:
        loop = current_loop()
    except RuntimeError:
        pass
    if loop is None:
        return wait_begin(self, yielded)    # there is nobody to share with
    if isinstance(loop, TrioLoop):
        self.inner = loop.checkpoint().__await__()
        return wait_resume(self, None, None, yielded)
    self.phase = SUSPENDED
    yielded[0] = True
    return None


cdef object wait_suspend(Wait self, bint* yielded):
    # Asks, and lets the loop suspend it until there is a reason to ask again.
    cdef TaskWaiter waiter = self.waiter
    cdef double remaining, seconds
    cdef object loop
    try:
        if waiter is None:
            waiter = wait_line_up(self)
        loop = waiter.loop
        while True:
            remaining = remaining_until(self.deadline)
            # While there is nothing to lose: it runs Python code, at whose entry a handler may raise.
            waiter.clear_alarm()
            self.busy = True
            answer = wait_ask(self, waiter, remaining <= 0)
            self.busy = False
            if answer is not UNANSWERED:
                wait_leave(self)
                return answer
            # Windows are measured on the queue's clock, the limit on the real one.
            seconds = min(remaining, waiter.rest)
            if not isinstance(loop, TrioLoop):
                waiter.set_alarm(seconds)
                waiter._asyncio_future_blocking = True
                self.phase = SUSPENDED
                yielded[0] = True
                return waiter
            self.inner = loop.park(waiter, seconds).__await__()
            try:
                answer = self.inner.send(None)
            except StopIteration:
                self.inner = None
            if self.inner is None:
                continue
            self.phase = SUSPENDED
            yielded[0] = True
            return answer
    except BaseException as error:
        self.busy = False
        self.inner = None
        wait_leave(self)
        if is_of(error, StopIteration):
            raise wait_stopped(self) from error
        raise


cdef TaskWaiter wait_line_up(Wait self):
    # Makes the waiter, and tells it where it will stand.
    cdef TaskWaiter waiter = TaskWaiter(current_loop())
    waiter.home = self.home
    if self.kind == AWAIT_OP or self.kind == AWAIT_GROUP:
        waiter.role = AWAITER
        waiter.completion = wait_completion(self)
    elif self.kind == JOIN:
        waiter.role = JOINER
    elif self.kind == ENQUEUE or self.kind == SUBMIT:
        waiter.role = PRODUCER
    else:
        waiter.role = CONSUMER
    self.waiter = waiter
    self.deadline = deadline_of(self.limit)
    return waiter


cdef object wait_resume(Wait self, object value, object error, bint* yielded):
    # After a suspension, with what its loop sends or throws.
    if self.inner is not None:
        try:
            answer = self.inner.send(value) if error is None else self.inner.throw(error)
        except StopIteration:
            self.inner = None
        except BaseException:
            self.inner = None
            wait_leave(self)
            raise
        else:
            self.phase = SUSPENDED
            yielded[0] = True
            return answer
    return wait_begin(self, yielded) if self.waiter is None else wait_suspend(self, yielded)


cdef int wait_leave(Wait self) except -1:
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef TaskWaiter waiter = self.waiter
    if self.kind == SUBMIT:
        self.op = None
    if waiter is None:
        return 0
    waiter.leave(&wake)
    wake_all(&wake)
    waiter.left = True
    return waiter.clear_alarm()


cdef void wait_drop(Wait self) noexcept:
    # Of the coroutine that is going away.
    try:
        if self.phase == SUSPENDED:
            wait_leave(self)
        elif self.kind < AWAIT_OP:
            warn_here(f"coroutine '{KIND_NAMES[self.kind]}' was never awaited", RuntimeWarning, None)
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        PyErr_WriteUnraisable(Wait)


cdef object wait_step(Wait self, object value):
    cdef bint yielded = False
    answer = wait_advance(self, value, &yielded)
    if yielded:
        return answer
    wait_stop(answer)


cdef int wait_stop(object answer) except -1:
    # As Python ends a coroutine.
    if answer is None:
        raise StopIteration
    raise StopIteration(answer)


# The same for the slots by which `await` and tasks step a coroutine.

cdef PyObject* wait_iternext(PyObject* self) except? NULL:
    cdef bint yielded = False
    cdef object stop = None
    # What carries the answer is made before there is one that could be lost for want of it; and
    # `raise` would lose it for want of a traceback.
    if not inflight_stop_reserve():
        stop = StopIteration()
    answer = wait_advance(<Wait>self, None, &yielded)
    if yielded:
        retain(<PyObject*>answer)
        return <PyObject*>answer
    if stop is None:
        inflight_stop(<PyObject*>answer)
    elif answer is not None:
        stop.value = answer
        PyErr_SetObject(StopIteration, stop)
    return NULL


cdef int wait_send(PyObject* self, PyObject* value, PyObject** result) except -1:
    cdef bint yielded = False
    answer = wait_advance(<Wait>self, <object>value, &yielded)
    retain(<PyObject*>answer)
    result[0] = <PyObject*>answer
    return 1 if yielded else 0


@cython.final
cdef class AsyncRowIterator:
    cdef OpQueue queue
    cdef int streak          # rows in turn that were ready

    def __cinit__(self, OpQueue queue not None):
        self.queue = queue

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Wait wait = wait_new(NEXT_ROW, self.queue, None)
        wait.argument = self
        return wait
