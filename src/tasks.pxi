# Waiting as a task of an event loop.
#
# A TaskWaiter is what a suspended task waits on: the part of asyncio.Future that a task uses. Its
# loop's Mailbox brings wake-ups to the loop's thread, where alone tasks may be resumed: whoever
# wakes puts the waiter's node into the mailbox, and the first to do so has the loop run a Delivery,
# which resumes all that are there by then. So any number of wake-ups costs one callback, and inside
# a task or a callback of the same loop not even the system call that ends the loop's sleep.
#
# A loop may be closed with a wake-up on its way, or with an alarm set. Then it refuses the Delivery,
# or drops it, or the Alarm, unrun, which they notice; either way the waiters leave what they wait
# for, and what they were promised goes to the next in line. A loop that is only stopped keeps them.
#
# While a node is in a list, or promised, it holds a reference to its waiter (`kept`), which has
# the task: like asyncio's own queues, ours keep alive who waits for them. collect.pxi shows these
# references to the collector.
#
# A task that is cancelled leaves at once, woken or not: it runs later, but can do nothing then but fail.
#
# Mailbox, deliveries, and the closing of a loop are in proofs/wake.pml; waiters.pxi says how to read it.
#
# Rejected: an asyncio.Future for each wait (another callback between the wake-up and the task, and
# a promise that is lost if the loop is closed between the two); a callback for each wake-up.

from asyncio import CancelledError, _get_running_loop, current_task
from weakref import WeakKeyDictionary, ref

from inflight._loops import READY_ROWS, TrioLoop, current_loop, inside_callback

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    PyObject* PyThreadState_GetDict()
    PyObject* PyDict_GetItem(object mapping, object key)
    int Py_AddPendingCall(int (*function)(void*) except -1, void* argument)
    int PyThreadState_SetAsyncExc(unsigned long thread, object error)
    void PyErr_Fetch(PyObject** type, PyObject** value, PyObject** traceback) noexcept
    void PyErr_Restore(PyObject* type, PyObject* value, PyObject* traceback) noexcept


@cython.final
@cython.no_gc
cdef class Mailbox:
    # Wake-ups for the tasks of one loop.
    cdef object loop_ref     # written once
    # Guarded by lock.
    cdef inflight_mutex lock
    cdef WaitNode* head      # linked by wake_next, each with a reference to its owner
    cdef WaitNode* tail
    cdef bint scheduled      # a Delivery is on its way
    cdef int retries         # of the main thread, in turn
    cdef uint64_t generation # of the last fork: what was on its way in the parent is not here

    def __cinit__(self, loop):
        inflight_lock_init(&self.lock)
        self.generation = inflight_generation
        self.loop_ref = ref(loop)


@cython.final
cdef class Delivery:
    # What the loop runs.
    cdef Mailbox mailbox
    cdef object loop
    cdef bint pending        # given to the loop, which has not run it

    def __cinit__(self, Mailbox mailbox, loop):
        self.mailbox = mailbox
        self.loop = loop

    def __call__(self):
        self.pending = False
        mailbox_deliver(self.mailbox)

    def __del__(self):
        cdef WakeChain wake = WakeChain(NULL, NULL)
        if not self.pending or Py_IsFinalizing():
            return
        if loop_is_closed(self.loop):
            mailbox_return(self.mailbox, &wake)
        else:
            # A signal handler has raised between the loop and the call.
            mailbox_schedule(self.mailbox, self.loop, &wake)
        wake_all(&wake)


cdef enum:
    MOST_RETRIES = 1000      # a loop that always refuses must not keep the main thread busy


cdef object mailboxes = WeakKeyDictionary()
cdef object MAILBOX = object()


cdef Mailbox mailbox_of(object loop):
    # A thread mostly runs one loop after the other: the last one's is kept in the thread's dict.
    cdef PyObject* here = PyThreadState_GetDict()
    cdef PyObject* found = NULL
    cdef Mailbox mailbox
    if here != NULL:
        found = PyDict_GetItem(<object>here, MAILBOX)
        if found != NULL and (<Mailbox>found).loop_ref() is loop:
            return <Mailbox>found
    # No setdefault: CPython 3.13 miscounts a dict that has no memory to grow in it, and reads past its end
    # later. Nobody else puts it there meanwhile, as one thread only runs the loop.
    mailbox = mailboxes.get(loop)
    if mailbox is None:
        mailbox = Mailbox(loop)
        mailboxes[loop] = mailbox
    if here != NULL:
        (<dict>here)[MAILBOX] = mailbox
    return mailbox


cdef void mailbox_post(Mailbox self, TaskWaiter waiter, WakeChain* wake) noexcept:
    # Has the waiter resumed. If its loop is closed, `wake` gets who is next, here and below.
    cdef bint first
    cdef WaitNode* node = &waiter.node
    inflight_lock(&self.lock)
    if self.generation != inflight_generation:
        self.generation = inflight_generation
        self.scheduled = False
    retain(node.owner)
    node.wake_next = NULL
    if self.tail == NULL:
        self.head = node
    else:
        self.tail.wake_next = node
    self.tail = node
    first = not self.scheduled
    self.scheduled = True
    inflight_unlock(&self.lock)
    if not first:
        inflight_count(POSTED_TO_SCHEDULED)
    if first and not Py_IsFinalizing():
        mailbox_schedule(self, waiter.loop, wake)


cdef void mailbox_schedule(Mailbox self, object loop, WakeChain* wake) noexcept:
    # Called from everywhere, deallocators included: the current exception is none of its business.
    cdef PyObject* type
    cdef PyObject* value
    cdef PyObject* traceback
    cdef PyObject* failure = NULL
    cdef int outcome = 0
    cdef bint again
    cdef int i
    PyErr_Fetch(&type, &value, &traceback)
    for i in range(3):
        outcome = mailbox_try_to_schedule(self, loop, &failure)
        if outcome:
            break
    if not outcome:
        # There is no memory, or no stack: whoever posts next tries again, or the main thread does.
        inflight_lock(&self.lock)
        self.scheduled = False
        self.retries += 1
        again = self.retries < MOST_RETRIES
        inflight_unlock(&self.lock)
        retain(<PyObject*>self)
        if not again or Py_AddPendingCall(mailbox_retry, <void*><PyObject*>self) != 0:
            drop(<PyObject*>self)
    elif outcome < 0:
        mailbox_return(self, wake)
    if failure != NULL:
        # Only now, or it would strike in the next try.
        raise_later(<object>failure)
        drop(failure)
    PyErr_Restore(type, value, traceback)


cdef int mailbox_retry(void* argument) except -1:
    cdef Mailbox self = <Mailbox><PyObject*>argument
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef object loop
    cdef bint posted
    drop(<PyObject*>argument)
    inflight_lock(&self.lock)
    posted = self.head != NULL and not self.scheduled
    if posted:
        self.scheduled = True
    inflight_unlock(&self.lock)
    if posted:
        loop = self.loop_ref()
        if loop is not None:
            mailbox_schedule(self, loop, &wake)
            wake_all(&wake)
    return 0


cdef int mailbox_try_to_schedule(Mailbox self, object loop, PyObject** failure) noexcept:
    # 1: the loop has a Delivery; -1: it is closed; 0: try again, a second one does no harm.
    # `failure`, a reference, is what a signal handler has raised meanwhile.
    cdef Delivery delivery = None
    cdef int outcome = 0
    try:
        delivery = Delivery(self, loop)
        delivery.pending = True
        # Only inside a step of its own is it certain that the loop looks at its callbacks before it
        # sleeps: see _loops.inside_step.
        if _get_running_loop() is loop and (current_task(loop) is not None or PyObject_CallOneArg(inside_callback, loop)):
            PyObject_CallMethodOneArg(loop, "call_soon", delivery)
            outcome = 1
        else:
            PyObject_CallMethodOneArg(loop, "call_soon_threadsafe", delivery)
            outcome = 1
            # One that was closed meanwhile may have taken it after it had cleared its callbacks.
            if loop_is_closed(loop):
                delivery.pending = False
                outcome = -1
    except BaseException as error:
        outcome = 0
        if delivery is not None:
            delivery.pending = False
        # By asking, not by the type: too deep a recursion is a RuntimeError as well.
        if loop_is_closed(loop):
            outcome = -1
        elif failure[0] == NULL and type(error) is not MemoryError and type(error) is not RecursionError:
            retain(<PyObject*>error)
            failure[0] = <PyObject*>error
    return outcome


cdef bint loop_is_closed(object loop) noexcept:
    cdef bint closed = False
    try:
        closed = PyObject_CallMethodNoArgs(loop, "is_closed")
    except BaseException:
        pass
    return closed


cdef int raise_later(object error) noexcept:
    # A signal handler has raised while somebody was being woken, and what the caller came for has
    # been done: so it is as if the signal had come just after the call.
    try:
        if inflight_in_main_thread():
            retain(<PyObject*>error)
            if Py_AddPendingCall(raise_pending, <void*><PyObject*>error) == 0:
                return 0
            drop(<PyObject*>error)
        PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), type(error))
    except BaseException:
        pass
    return 0


cdef int raise_pending(void* argument) except -1:
    cdef object error = <object><PyObject*>argument
    drop(<PyObject*>argument)
    raise error


cdef inline WaitNode* mailbox_take(Mailbox self) noexcept:
    # All that is there, now the caller's.
    cdef WaitNode* node
    inflight_lock(&self.lock)
    node = self.head
    self.head = NULL
    self.tail = NULL
    self.retries = 0
    self.scheduled = False
    inflight_unlock(&self.lock)
    return node


cdef int mailbox_deliver(Mailbox self) except -1:
    # In the loop's thread, as one of its callbacks. What a task lets out of its step (Ctrl-C, an
    # exit) ends this one; the others are delivered when the loop goes on.
    cdef WakeChain wake = WakeChain(NULL, NULL)
    cdef WaitNode* node = mailbox_take(self)
    cdef TaskWaiter waiter
    cdef object failure = None
    while node != NULL:
        waiter = <TaskWaiter>node.owner
        # Once resumed, it may be woken again: what links the node is read before.
        node = node.wake_next
        drop(<PyObject*>waiter)
        if failure is not None and is_of(failure, PASSED_ON):
            # Still on its way, so that nobody posts it again.
            mailbox_post(self, waiter, &wake)
            continue
        inflight_count(DELIVERED)
        if waiter.wakeup is None:
            # Nobody is resumed: it is stepped by hand, or about to look. So what comes next is told again.
            waiter.forget_wake()
            continue
        waiter.woken = True
        try:
            waiter.resume()
        except BaseException as error:
            if failure is None or is_of(error, PASSED_ON):
                failure = error
    wake_all(&wake)
    if failure is not None:
        raise failure
    return 0


cdef void mailbox_return(Mailbox self, WakeChain* wake) noexcept:
    # The loop is gone, and nobody will be resumed: everybody leaves.
    cdef WaitNode* node = mailbox_take(self)
    cdef TaskWaiter waiter
    while node != NULL:
        waiter = <TaskWaiter>node.owner
        node = node.wake_next
        drop(<PyObject*>waiter)
        inflight_count(RETURNED)
        waiter.leave(wake)


@cython.final
cdef class Alarm:
    # What the loop, and only the loop, has to run when it is time for a waiter to look again.
    cdef TaskWaiter waiter
    cdef uint64_t number

    def __call__(self):
        if self.waiter.alarm == self.number:
            self.waiter.alarm += 1
            self.waiter.resume()

    def __del__(self):
        cdef WakeChain wake = WakeChain(NULL, NULL)
        if self.waiter is None or self.waiter.alarm != self.number or Py_IsFinalizing():
            return
        if loop_is_closed(self.waiter.loop):
            self.waiter.leave(&wake)
            wake_all(&wake)
        else:
            # A signal handler has raised between the loop and the call.
            self.waiter.loop.call_soon_threadsafe(self.waiter._resume)


cdef enum Role:
    CONSUMER
    PRODUCER
    JOINER
    AWAITER      # of an operation or a group


@cython.final
cdef class TaskWaiter(Waiter):
    # One suspended call of a task. To the task it is a future, which never has a result: the call
    # looks for itself.
    # Written once, before the node is in a list.
    cdef object loop
    cdef Mailbox mailbox
    cdef Role role
    cdef object home                # the queue, operation or group; keeps `completion` alive
    cdef Completion* completion     # an AWAITER's
    # Belong to the loop's thread.
    # Resumes the task, while it is suspended. Not dropped by a coroutine that is being closed: the
    # task may go with it, and would close the coroutine a second time.
    cdef object wakeup
    cdef object context
    cdef bint left                  # nobody is to be resumed any more
    cdef object timer               # of the alarm; weak, or the alarm would not notice being dropped
    cdef uint64_t alarm             # the number of the alarm that is set, if one is
    cdef double rest                # until the queue wants to be looked at again, in seconds
    cdef bint woken                 # a wake-up was delivered, and not yet taken notice of
    cdef bint interrupted
    cdef object message
    cdef public bint _asyncio_future_blocking

    def __cinit__(self, loop):
        self.node.keeps = True
        self.loop = loop
        self.mailbox = mailbox_of(loop)
        self.rest = INFINITY

    cdef void wake(self, WakeChain* wake) noexcept:
        mailbox_post(self.mailbox, self, wake)

    cdef int resume(self) except -1:
        # [PARKED] to [WOKEN]: runs the task until it is suspended again, or ends.
        cdef object wakeup = self.wakeup
        cdef object context = self.context
        if wakeup is None or self.left:
            return 0    # it runs already, or has left
        self.wakeup = None
        self.context = None
        if context is None:
            PyObject_CallOneArg(wakeup, self)
            return 0
        PyContext_Enter(context)
        try:
            PyObject_CallOneArg(wakeup, self)
        finally:
            PyContext_Exit(context)
        return 0

    cdef void forget_wake(self) noexcept:
        cdef Engine* engine
        if self.home is None or self.role == AWAITER:
            return      # cleared by the collector, or told for the last time
        engine = &(<OpQueue>self.home).engine
        inflight_lock(&engine.lock)
        self.node.signalled = False
        self.node.armed = -INFINITY     # told to watch the windows
        inflight_unlock(&engine.lock)

    cdef int set_alarm(self, double seconds) except -1:
        # Lets the task be resumed after so many seconds; the caller looks at its clock.
        cdef Alarm alarm
        cdef object delay
        if seconds < INFINITY:
            alarm = Alarm()
            alarm.waiter = self
            alarm.number = self.alarm
            delay = max(seconds, 0.0)
            self.timer = ref(
                PyObject_CallMethodObjArgs(self.loop, "call_later", <PyObject*>delay, <PyObject*>alarm, NULL)
            )
        return 0

    cdef int clear_alarm(self) except -1:
        if self.timer is None:
            return 0
        self.alarm += 1
        timer = self.timer()
        self.timer = None
        if timer is not None:
            timer.cancel()
        return 0

    cdef void leave(self, WakeChain* wake) noexcept:
        # [LEFT], however the wait ended: what it still holds goes to the next in line, whom the caller
        # wakes. Can be repeated, and called by another thread, for a loop that is gone.
        cdef WaitNode* node = &self.node
        cdef Engine* engine
        cdef bint kept
        if self.home is None:
            return      # cleared by the collector
        if self.role == AWAITER:
            inflight_lock(&self.completion.lock)
            list_remove(node)
            kept = node.kept
            node.kept = False
            inflight_unlock(&self.completion.lock)
        else:
            engine = &(<OpQueue>self.home).engine
            inflight_lock(&engine.lock)
            if self.role == CONSUMER:
                engine_leave_consumer(engine, node, wake)
            elif self.role == PRODUCER:
                engine_leave_producer(engine, node)
                engine_settle(engine, wake)
            else:
                list_remove(node)
            kept = node.kept
            node.kept = False
            inflight_unlock(&engine.lock)
        if kept:
            drop(node.owner)

    # The part of asyncio.Future that a task uses, in the loop's thread.

    def get_loop(self):
        return self.loop

    def add_done_callback(self, fn, *, context=None):
        self.wakeup = fn
        self.context = context

    def remove_done_callback(self, fn):
        if self.wakeup is not fn:
            return 0
        self.wakeup = None
        self.context = None
        return 1

    def cancel(self, msg=None):
        if self.wakeup is None or self.left or self.interrupted:
            return False
        # Not at once: it is called from within other tasks.
        self.loop.call_soon(self._resume)
        self.interrupted = True
        self.message = msg
        self.withdraw()
        return True

    def withdraw(self):
        # [LEFT] before it runs: the wait can only end by an exception, and what it is promised is for others.
        cdef WakeChain wake = WakeChain(NULL, NULL)
        self.leave(&wake)
        wake_all(&wake)

    def _resume(self):
        self.resume()

    def result(self):
        if self.interrupted:
            raise CancelledError() if self.message is None else CancelledError(self.message)

    def exception(self):
        self.result()

    def done(self):
        return self.wakeup is None or self.left

    def cancelled(self):
        return self.interrupted

    def __repr__(self):
        return f"<wait for {self.home!r}>"
