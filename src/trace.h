/* Line tracing without a tracer (INFLIGHT_TRACE=1): which lines of the Cython sources were reached.
 *
 * Cython marks every line with a macro that would call Python's tracer, from inside the kernel's
 * sections too, where no Python code may run. This one writes the line to the file that INFLIGHT_LINES
 * names, the first time it is reached; in every process, so that children count as well. Of the macro's
 * last argument, the jump in case of an error, only the text is used: it has the number of the source
 * file.
 */
#ifndef INFLIGHT_TRACE_H
#define INFLIGHT_TRACE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void inflight_reached(const char *jump, int line) {
    const char *path = getenv("INFLIGHT_LINES");
    char text[64];
    int file = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (file < 0) return;
    (void)!write(file, text, (size_t)snprintf(text, sizeof text, "%d %d\n", atoi(strchr(jump, '(') + 1), line));
    close(file);
}

#undef __Pyx_TraceLine
#define __Pyx_TraceLine(line, offset, nogil, jump) \
    do { \
        static char reached; \
        if (!reached) { \
            reached = 1; \
            inflight_reached(#jump, line); \
        } \
    } while (0);

#endif
