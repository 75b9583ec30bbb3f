/*
 * The wake protocol of the queues, for spin: who waits, who is woken, and who has what meanwhile.
 *
 * One waiter is one call: of a thread, parked on a lock of its own (src/calls.pxi), or of a task,
 * suspended by its loop and woken through the loop's mailbox (src/tasks.pxi, src/awaits.pxi). The
 * queue is src/engine.pxi, the chain of those to wake src/waiters.pxi; inline definitions have the
 * names of the functions they stand for. Each d_step that ends in check() is one section under the
 * queue's lock; each other d_step is under the mailbox's lock, or a call that the interpreter makes
 * in one piece. Between any two, everybody else may run. (inflight/_pure/ has the same states, but
 * instead of remembering that a waiter was woken, it lets him be woken again.)
 *
 *   a waiter's node   WAITING, PROMISED (a row, a slot for a new key, or the end)
 *   a row             OPEN, READY, PROMISED, TAKEN
 *   a waiter's call   OUTSIDE (not begun), PARKED (a task: suspended), WOKEN (runs), LEFT (ended)
 *
 * What must hold after each step (check): the invariants of engine.pxi, who is promised something
 * is woken or on the way to be, no node is linked twice, no lock released twice, no row handed out
 * twice. And when nothing can happen any more (Quiet): nobody is parked next to what he waits for,
 * nothing is promised, reserved or on its way, and no process hangs elsewhere.
 *
 * Left out: widths and keys that must be compared, rows behind an owned key, bulk calls, forks,
 * memory that ends, references, Trio, and the mailbox's second thoughts about those. Time is order:
 * windows end one after the other, whenever they like.
 *
 *     spin -a wake.pml && cc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m100000
 *
 * Configurations, as -D of spin; tests/test_protocol.py has those of the suite:
 *   CONSUMERS=2 PRODUCERS=2 JOINERS=0   how many calls; each producer brings a row
 *   DEPTH=1         how many rows may wait
 *   TASKS=0         which calls are tasks: a bit for each; consumers first, then producers, joiners
 *   EARLY=255       which calls may time out, look early, or be interrupted, whenever they are
 *                   parked or were just woken; the others show that no wake-up is lost
 *   CLOSING=0       whether somebody closes the queue
 *   LOOP_CLOSING=0  whether the loop may be closed
 *   OWNING=0        whether a row that was taken counts until it is released (exclusive)
 *   WINDOW=0        whether rows have a window
 *   SAME_KEY=0      whether the last two producers bring the same key
 * On demand, more of everything:
 *   spin -a -DCONSUMERS=3 -DPRODUCERS=3 -DDEPTH=2 -DEARLY=9 -DCLOSING=1 wake.pml
 *   cc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m100000 -w26      (6 million states, 0.9 GB)
 *
 * Faults, as -D of spin, each of which must be found: see FAULT_ below. With AT_END only Quiet
 * checks, so that a fault is found by what it does, not by the invariant that it breaks.
 */

#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef JOINERS
#define JOINERS 0
#endif
#ifndef DEPTH
#define DEPTH 1
#endif
#ifndef TASKS
#define TASKS 0
#endif
#ifndef CLOSING
#define CLOSING 0
#endif
#ifndef LOOP_CLOSING
#define LOOP_CLOSING 0
#endif
#ifndef OWNING
#define OWNING 0
#endif
#ifndef WINDOW
#define WINDOW 0
#endif
#ifndef SAME_KEY
#define SAME_KEY 0
#endif
#ifndef EARLY
#define EARLY 255
#endif

#define N (CONSUMERS + PRODUCERS + JOINERS)
#define NOBODY 255
#define NEVER 255
#define IS_CONSUMER(i) ((i) < CONSUMERS)
#define IS_PRODUCER(i) ((i) >= CONSUMERS && (i) < CONSUMERS + PRODUCERS)
#define IS_JOINER(i) ((i) >= CONSUMERS + PRODUCERS)
#define IS_TASK(i) ((TASKS >> (i)) & 1)
#define MAY_END(i) ((EARLY >> (i)) & 1)
#define KEY(i) ((SAME_KEY && (i) == CONSUMERS + PRODUCERS - 1) -> (i) - 1 : (i))
#define OVER (waiting == 0 && owned == 0)

mtype = { WAITING, PROMISED };
mtype = { NO_ROW, OPEN, READY, TAKEN };
mtype = { OUTSIDE, PARKED, WOKEN, LEFT };
mtype = { ACCEPTED, TAKEN_ROW, WAIT, EMPTY, CLOSED, FULL, DONE };
mtype = { LOOK, LIMIT, CANCEL, INTERRUPT, RELEASE, CLOSE };

typedef Node {
    mtype state = WAITING;
    bool in_list;
    bool signalled;         /* from the chain until the waiter has taken notice */
    bool linked;            /* wake_next is in use: in a chain, or in the mailbox */
    byte has;               /* the row that it is promised */
    byte armed = NEVER;     /* until the end of which window it parks at most */
    mtype at = OUTSIDE;
    bool lock;              /* of a thread: released, by a wake-up that no park has consumed */
    bool woken;             /* a wake-up has arrived, and was not yet taken notice of */
    bool resumed;           /* of a task: the mailbox's delivery runs it */
    bool interrupted;       /* of a task: cancelled; it has nothing any more, but runs once more to fail */
};

typedef Row {
    mtype state = NO_ROW;
    byte key;
    byte waiter = NOBODY;
};

Node node[N + 1];
Row row[PRODUCERS];         /* by age: a lower index is an earlier deadline and an earlier seq */
byte rows;
int consumers, producers, joiners;  /* the lists, oldest first */
byte waiting, reserved, owned;
bool closed;
byte clock, now;            /* how many windows are over; and what the queue knows of it */

/* One loop, with its mailbox. */
int mail;
bool scheduled;             /* a Delivery is on its way */
byte deliveries;            /* given to the loop, which has not run them */
bool loop_busy, loop_closed;

hidden byte a, b, c, d, e, f, g, s;     /* scratch of one step */

hidden int l;

/* A list of nodes in a number, so that it can be local: four bits each, the first one lowest; so
 * there may be 7 calls. */
#define FIRST(list) ((list & 15) - 1)

inline push(list, i) {
    s = 0;
    do
    :: (list >> s) & 15 -> s = s + 4
    :: else -> break
    od;
    list = list | ((i + 1) << s)
}

inline pop(list, i) {
    i = FIRST(list);
    list = list >> 4
}

inline cut(list, i) {
    s = 0;
    do
    :: ((list >> s) & 15) != i + 1 -> s = s + 4
    :: else -> break
    od;
    list = (list & ((1 << s) - 1)) | ((list >> (s + 4)) << s)
}

/* ---- waiters.pxi -------------------------------------------------------------------------- */

inline list_append(list, i) {
    if
    :: !node[i].in_list -> push(list, i); node[i].in_list = true
    :: else
    fi
}

inline list_remove(i) {
    if
    :: node[i].in_list ->
        node[i].in_list = false;
        if
        :: IS_CONSUMER(i) -> cut(consumers, i)
        :: IS_PRODUCER(i) -> cut(producers, i)
        :: IS_JOINER(i) -> cut(joiners, i)
        fi
    :: else
    fi
}

inline kick(i) {
    if
#ifndef FAULT_NO_SIGNALLED          /* a node may be chained again before it was woken */
    :: node[i].signalled
#endif
    :: else ->
        node[i].signalled = true;
        assert(!node[i].linked);
        node[i].linked = true;
        push(chain, i)
    fi
}

inline kick_all(list) {
    l = list;
    do
    :: l != 0 -> pop(l, f); kick(f)
    :: else -> break
    od
}

/* ---- engine.pxi --------------------------------------------------------------------------- */

inline first(which, r) {            /* PRODUCERS: there is none */
    r = 0;
    do
    :: r < PRODUCERS && row[r].state != which -> r++
    :: else -> break
    od
}

inline promise(r) {
    pop(consumers, a); node[a].in_list = false;
    row[r].state = PROMISED;
    row[r].waiter = a;
#ifdef FAULT_WAKE_BEFORE_STATE      /* woken first, told what for later */
    late = r;
#else
    node[a].state = PROMISED;
    node[a].has = r;
#endif
    kick(a)
}

inline make_ready(r) {
    if
    :: consumers != 0 -> promise(r)
    :: else -> row[r].state = READY
    fi
}

inline take_back(i) {
    b = node[i].has;
    node[i].state = WAITING;
    row[b].waiter = NOBODY;
    make_ready(b)                   /* by age, so to its old place */
}

inline settle() {
    if
    :: OVER ->
        do
        :: joiners != 0 -> pop(joiners, a); node[a].in_list = false; node[a].state = PROMISED; kick(a)
        :: else -> break
        od;
        if
        :: closed -> kick_all(consumers)
        :: else
        fi
    :: else
    fi;
    do
    :: producers != 0 && DEPTH - waiting > reserved ->
        pop(producers, a); node[a].in_list = false;
        node[a].state = PROMISED;
        reserved++;
        kick(a)
    :: else -> break
    od;
    first(OPEN, c);
    if
    :: c < PRODUCERS && consumers != 0 ->
        a = FIRST(consumers);
        if
#ifndef FAULT_NO_TIMEKEEPER         /* the oldest consumer is not told of a window that ends earlier */
        :: node[a].armed > c -> kick(a)
#endif
        :: else
        fi
    :: else
    fi
}

inline enter(reading) {
    now = (reading > now -> reading : now);
    first(OPEN, c);
    do
    :: c < now -> make_ready(c); first(OPEN, c)
    :: else -> break
    od
}

inline take(r, i) {
    assert(row[r].state == READY || (row[r].state == PROMISED && row[r].waiter == i));
    row[r].state = TAKEN;
    row[r].waiter = NOBODY;
    waiting--;
    owned = owned + OWNING;
    settle()
}

inline dequeue(i) {
    enter(reading);
    first(READY, d);
    if
#ifdef FAULT_TIMEOUT_IGNORES_PROMISE
    :: node[i].state == PROMISED && how != LIMIT ->
#else
    :: node[i].state == PROMISED ->
#endif
        d = node[i].has;
        node[i].state = WAITING;
        take(d, i);
        answer = TAKEN_ROW
    :: node[i].state == WAITING && d < PRODUCERS ->
        assert(!node[i].in_list);
        take(d, i);
        answer = TAKEN_ROW
    :: else ->
        if
        :: closed && OVER -> list_remove(i); answer = CLOSED
        :: !(closed && OVER) && how == LIMIT -> list_remove(i); settle(); answer = EMPTY
        :: else ->
            list_append(consumers, i);
            first(OPEN, c);
            a = FIRST(consumers);
            node[i].armed = ((c < PRODUCERS && a == i) -> c : NEVER);
            settle();
            answer = WAIT
        fi
    fi
}

inline close() {
    closed = true;
    first(OPEN, c);
    do
    :: c < PRODUCERS -> make_ready(c); first(OPEN, c)
    :: else -> break
    od;
    settle();
    kick_all(producers)
}

inline leave_producer(i) {
    reserved = reserved - (node[i].state == PROMISED);
    node[i].state = WAITING;
    list_remove(i)
}

inline enqueue(i) {
    enter(reading);
    d = 0;                          /* a row with this key that waits */
    do
    :: d < rows && (row[d].key != KEY(i) || row[d].state == TAKEN) -> d++
    :: else -> break
    od;
    if
    :: closed -> answer = CLOSED
    :: !closed && d < rows -> answer = ACCEPTED
    :: !closed && d == rows && DEPTH - waiting > reserved - (node[i].state == PROMISED) ->
        row[d].key = KEY(i);
        rows++;
        waiting++;
        if
        :: WINDOW -> row[d].state = OPEN
        :: else -> make_ready(d)
        fi;
        kick_all(producers);        /* as if all keys had the same hash: some wait with the same */
        answer = ACCEPTED
    :: else -> answer = (how == LIMIT -> FULL : WAIT)
    fi;
    if
    :: answer != WAIT -> leave_producer(i)
    :: answer == WAIT && node[i].state == WAITING -> list_append(producers, i)
    :: else
    fi;
    settle()
}

inline join(i) {
    if
    :: node[i].state == PROMISED || OVER -> list_remove(i); answer = DONE
    :: else ->
        if
        :: how == LIMIT -> list_remove(i); answer = EMPTY
        :: else -> list_append(joiners, i); answer = WAIT
        fi
    fi
}

inline end(i) {                     /* what nobody will look at */
    node[i].at = LEFT;
    node[i].lock = false;
    node[i].woken = false;
    node[i].signalled = false;
    node[i].interrupted = false;
    node[i].armed = NEVER;
    node[i].has = 0
}

inline leave_line(i) {              /* however it ended; can be repeated */
    if
    :: IS_CONSUMER(i) && node[i].state == PROMISED ->
#ifndef FAULT_NO_HAND_BACK          /* who leaves keeps the row that he was promised */
        take_back(i)
#else
        skip
#endif
    :: IS_PRODUCER(i) && node[i].state == PROMISED ->
#ifndef FAULT_NO_SLOT_BACK          /* and a producer the slot */
        leave_producer(i)
#else
        node[i].state = WAITING
#endif
    :: else
    fi;
    list_remove(i);
    settle()
}

inline leave(i) {
    leave_line(i);
    end(i)
}

#define ON_ITS_WAY(i) (node[i].linked || node[i].lock || node[i].woken)

inline invariants() {
    a = 0; f = 0;                   /* promised slots */
    do
    :: a < N ->
        assert(!node[a].signalled || ON_ITS_WAY(a));
        if
        :: node[a].state == PROMISED && !(IS_JOINER(a) && node[a].at == LEFT) ->
            assert(node[a].signalled && !node[a].in_list && node[a].at != LEFT);
            if
            :: IS_CONSUMER(a) -> assert(row[node[a].has].waiter == a)
            :: IS_PRODUCER(a) -> f++
            :: IS_JOINER(a)
            fi
        :: else
        fi;
        assert(!node[a].interrupted || (!node[a].in_list && (node[a].state == WAITING || IS_JOINER(a))));
        a++
    :: else -> break
    od;
    assert(f == reserved && reserved <= DEPTH - waiting);
    d = 0; e = 0; g = 0;            /* rows; those that wait; ready ones */
    do
    :: d < rows ->
        assert(row[d].state != NO_ROW);
        assert((row[d].state == PROMISED) == (row[d].waiter != NOBODY));
#ifndef FAULT_WAKE_BEFORE_STATE
        if
        :: row[d].state == PROMISED -> a = row[d].waiter; assert(node[a].state == PROMISED && node[a].has == d)
        :: else
        fi;
#endif
        e = e + (row[d].state != TAKEN);
        g = g + (row[d].state == READY);
        d++
    :: else -> break
    od;
    assert(e == waiting);
    assert(g == 0 || consumers == 0);
    assert(closed || producers == 0 || DEPTH - waiting <= reserved);
    assert(joiners == 0 || !OVER);
    first(OPEN, c);
    if
    :: c < PRODUCERS && consumers != 0 -> a = FIRST(consumers); assert(node[a].armed <= c || node[a].signalled)
    :: else
    fi
}

inline check() {
#ifndef AT_END
    invariants()
#else
    skip
#endif
}

/* ---- waking: wake_all, mailbox_post, mailbox_schedule, mailbox_return ------------------------ */

/* Whom a closed loop cannot resume leaves, and its row wakes the next, who may be of the same loop. */
inline wake_all() {
    do
    :: chain != 0 && !returning && batch == 0 ->
        d_step {
            pop(chain, w);
            if
            :: !IS_TASK(w) ->
                node[w].linked = false;
                assert(!node[w].lock);
                node[w].lock = (node[w].at != LEFT)
            :: else ->
                push(mail, w);
                first_post = !scheduled;
                scheduled = true
            fi
        };
        schedule()
    :: returning && batch == 0 ->
        d_step {
            batch = mail;
            mail = 0;
            scheduled = false;
            returning = false
        }
    :: batch != 0 ->
        d_step {
            pop(batch, w);
            node[w].linked = false;
#ifndef FAULT_CLOSED_LOOP_KEEPS     /* what its waiters hold stays with them */
            leave(w);
#endif
            check()
        }
    :: chain == 0 && !returning && batch == 0 -> break
    od
}

inline schedule() {
    if
    :: first_post ->
        first_post = false;
        if
        :: loop_closed -> returning = true                  /* it refuses */
        :: !loop_closed ->
            deliveries++;
#ifndef FAULT_CLOSED_UNSEEN         /* one that was closed meanwhile may have cleared its callbacks before */
            returning = loop_closed
#endif
        fi
    :: !first_post
    fi
}

#define LOCALS \
    int chain, batch; \
    byte w, late = NOBODY; \
    bool first_post, returning

/* ---- who takes part ------------------------------------------------------------------------ */

/* One after the other, where they are alike. */
#define MAY_BEGIN(i) ((i) == 0 || (i) == CONSUMERS || (i) >= CONSUMERS + PRODUCERS \
    || IS_TASK(i) != IS_TASK((i) - 1) || MAY_END(i) != MAY_END((i) - 1) || node[(i) - 1].at != OUTSIDE)
#define LOOP_FREE (!loop_busy && !loop_closed)

/* One call; number N closes the queue. */
proctype Call(byte i) {
    LOCALS;
    byte reading;
    mtype answer = WAIT, how = (i == N -> CLOSE : LOOK);

end_outside:
    atomic {
        MAY_BEGIN(i) && (!IS_TASK(i) || LOOP_FREE);
        loop_busy = loop_busy || IS_TASK(i);
        node[i].at = WOKEN;
        reading = clock             /* before the lock is taken */
    };
section:
    skip;
    d_step {
        if
        :: how == LOOK || how == LIMIT ->
            if
            :: node[i].woken ->
                node[i].woken = false;
#ifndef FAULT_SIGNALLED_STAYS       /* so that it is never woken again */
                node[i].signalled = false
#endif
            :: else
            fi;
            if
            :: IS_CONSUMER(i) -> dequeue(i)
            :: IS_PRODUCER(i) -> enqueue(i)
            :: IS_JOINER(i) -> join(i)
            fi;
            if
            :: answer == WAIT -> node[i].at = PARKED
            :: else -> end(i)
            fi
        :: how == INTERRUPT || how == CANCEL ->
            node[i].interrupted = true;
            if
#ifdef FAULT_CANCELLED_STAYS        /* in line, and with what it was promised, until it runs */
            :: how == CANCEL
#endif
            :: else -> leave_line(i)
            fi;
            if
            :: how == INTERRUPT -> end(i); answer = EMPTY
            :: else
            fi
        :: how == RELEASE -> enter(reading); owned--; settle()
        :: how == CLOSE -> close(); end(i); answer = DONE
        fi;
        check()
    };
    wake_all();
#ifdef FAULT_WAKE_BEFORE_STATE
    if
    :: late != NOBODY ->
        d_step {
            w = row[late].waiter;
            node[w].state = PROMISED;
            node[w].has = late;
            late = NOBODY;
            check()
        }
    :: late == NOBODY
    fi;
#endif
    if
    :: answer == TAKEN_ROW && OWNING ->
        atomic { reading = clock; how = RELEASE; answer = DONE; goto section }
    :: !(answer == TAKEN_ROW && OWNING)
    fi;
    if
    :: IS_TASK(i) ->
        d_step {                    /* suspended, or ended */
            if
            :: node[i].resumed -> node[i].resumed = false
            :: else -> loop_busy = false
            fi
        }
    :: !IS_TASK(i)
    fi;
    if
    :: answer != WAIT -> goto ended
    :: answer == WAIT
    fi;
end_parked:
    atomic {
        if
        /* A thread. */
        :: !IS_TASK(i) && node[i].lock -> node[i].lock = false; node[i].woken = true
        :: !IS_TASK(i) && (MAY_END(i) || node[i].armed < clock)
        /* A task: by the delivery, by its Alarm, or since it was cancelled. */
        :: node[i].resumed
        :: IS_TASK(i) && LOOP_FREE && (MAY_END(i) || node[i].armed < clock) -> loop_busy = true
        :: IS_TASK(i) && LOOP_FREE && MAY_END(i) && !node[i].interrupted ->
            loop_busy = true;       /* another task, in whose step this one is cancelled */
            how = CANCEL;
            goto section
        :: LOOP_FREE && node[i].interrupted -> loop_busy = true
        fi;
        node[i].at = WOKEN;
        reading = clock;
        if
        :: node[i].interrupted -> how = INTERRUPT
        :: !node[i].interrupted -> how = LOOK
        :: !node[i].interrupted && MAY_END(i) -> how = LIMIT
        :: MAY_END(i) && !IS_TASK(i) -> how = INTERRUPT     /* a signal handler raises */
        fi;
        goto section
    };
ended:
    skip
}

/* The thread of the loop, as far as it is no task's. Its callbacks run in any order. */
proctype Loop() {
    LOCALS;
    byte i;

end_asleep:
    do
    :: atomic { LOOP_FREE && deliveries > 0 ->              /* mailbox_deliver */
            loop_busy = true;
            deliveries--;
            batch = mail;
            mail = 0;
            scheduled = false
        };
        do
        :: batch != 0 ->
            d_step {
                pop(batch, i);
                node[i].linked = false;
                node[i].woken = (node[i].at != LEFT);
                node[i].resumed = (node[i].at == PARKED)
            };
            !node[i].resumed                                /* until it is suspended again */
        :: batch == 0 -> break
        od;
        loop_busy = false
    :: atomic { LOOP_FREE && LOOP_CLOSING -> loop_closed = true };
        break
    od;

    /* Its callbacks are dropped, unrun: deliveries, then alarms. */
    atomic { returning = (deliveries > 0); deliveries = 0; i = 0 };
    do
    ::  wake_all();
        do
        :: i < N && !(IS_TASK(i) && node[i].at == PARKED && (MAY_END(i) || node[i].armed != NEVER)) -> i++
        :: else -> break
        od;
        if
        :: i < N -> d_step { leave(i); check() }
        :: i == N -> break
        fi
    od
}

proctype Clock() {
end_stopped:
    do
    :: clock < rows -> clock++
    :: clock == PRODUCERS -> break
    od
}

/* Nothing can happen any more: nobody may be left with something, or without it. */
proctype Quiet() {
    byte i;
end_never:
    timeout;
    d_step {
        assert(mail == 0 && (!scheduled || deliveries > 0));
        i = 0;
        do
        :: i < N ->
            assert(node[i].at != WOKEN);
            assert(node[i].at != OUTSIDE || (IS_TASK(i) && loop_closed));
            assert(node[i].state == WAITING || IS_JOINER(i));
            if
            :: node[i].at == PARKED && !(IS_TASK(i) && loop_closed) ->
                assert(node[i].in_list);
                assert(!node[i].signalled && !node[i].lock && !node[i].woken);
                assert(!MAY_END(i));
                assert(!closed || (!IS_PRODUCER(i) && !OVER));
                d = 0;
                do
                :: d < rows ->
                    assert(row[d].state == TAKEN || !IS_CONSUMER(i));
                    assert(row[d].state == TAKEN || row[d].key != KEY(i));
                    d++
                :: else -> break
                od
            :: else -> assert(node[i].at != LEFT || !node[i].in_list)
            fi;
            i++
        :: else -> break
        od;
        first(PROMISED, c);
        assert(c == PRODUCERS && reserved == 0 && owned == 0);
        invariants()
    }
}

init {
    byte i;
    atomic {
        do
        :: i < N -> run Call(i); i++
        :: else -> break
        od;
        if
        :: TASKS -> run Loop()
        :: !TASKS
        fi;
        if
        :: CLOSING -> run Call(N)
        :: !CLOSING
        fi;
        if
        :: WINDOW -> run Clock()
        :: !WINDOW
        fi;
        run Quiet()
    }
}
