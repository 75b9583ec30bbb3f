/* What Cython keeps the code objects of tracebacks by. By itself it is the number of a line alone, and all files
   that the module is put together from have line 100: a traceback named whichever of them had failed first. So
   setup.py has the generated C call this. */
#ifndef INFLIGHT_CODE_KEY_H
#define INFLIGHT_CODE_KEY_H

static inline int inflight_key_among(const char *const *files, size_t count, const char *file, int line) {
    for (size_t i = 0; i < count; i++) {
        if (files[i] == file) return (int)(i << 16) | line;
    }
    return line;
}

/* Cython's table of files is defined later than this is included. */
#define inflight_code_key(file, line) inflight_key_among(__pyx_f, sizeof(__pyx_f) / sizeof(*__pyx_f), file, line)

#endif
