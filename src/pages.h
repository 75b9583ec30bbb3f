/* Memory that is about to be filled at random places.
 *
 * The kernel hands out a page when it is first used: one of zeros when it is read, as a lookup does, and another when it
 * is then written to. Asking for pages by the dozen, ahead of time, costs a fraction of that. It is a hint: where there
 * is no such call, or no memory, nothing is lost.
 */
#ifndef INFLIGHT_PAGES_H
#define INFLIGHT_PAGES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__linux__)
#include <sys/mman.h>
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23      /* since Linux 5.14; glibc before 2.35 does not name it */
#endif

static inline void inflight_populate(void *memory, size_t size) {
    enum { PAGE = 4096 };           /* larger ones are multiples of it, and refuse what is not theirs */
    uintptr_t first = (uintptr_t)memory & ~(uintptr_t)(PAGE - 1);
    (void)madvise((void *)first, size, MADV_POPULATE_WRITE);
}
#else
static inline void inflight_populate(void *memory, size_t size) {
    (void)memory;
    (void)size;
}
#endif

#endif
