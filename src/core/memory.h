/* core/memory.h - allocation that cannot overflow, and files written whole or not at all. */
#ifndef TSR_MEMORY_H
#define TSR_MEMORY_H

#include <stddef.h>
#include <stdio.h>

#include "check.h"

/* count * size bytes, zeroed (calloc) or not, aligned to 64 bytes; NULL on overflow or no memory. Release with free(). */
void *tsr__alloc(size_t count, size_t size);
void *tsr__alloc_zero(size_t count, size_t size);

/* A copy of text, or NULL when text is NULL or memory is out. Release with free(). */
char *tsr__strdup(const char *text);
/* printf into a fresh string; NULL when memory is out. Release with free(). */
char *tsr__format(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

/* A file being written beside its final place. Nothing appears under `path` until _commit; _abort (or a failed
 * commit) removes the temporary. Both accept NULL and release the object. */
typedef struct tsr__outfile tsr__outfile;
tsr_status tsr__outfile_open(tsr__outfile **out, const char *path, tsr_error *err);
tsr_status tsr__outfile_write(tsr__outfile *file, const void *data, size_t size, tsr_error *err);
tsr_status tsr__outfile_commit(tsr__outfile *file, tsr_error *err); /* fsync, close, rename */
void tsr__outfile_abort(tsr__outfile *file);

/* Reads a whole file of at most limit bytes; *out gets size + 1 bytes, the last one 0. Release with free(). */
tsr_status tsr__read_file(void **out, size_t *size_out, const char *path, size_t limit, tsr_error *err);

#define TSR_ALLOC(err, pointer, count)                                                                                 \
    do {                                                                                                               \
        (pointer) = tsr__alloc((size_t)(count), sizeof *(pointer));                                                    \
        if (!(pointer))                                                                                                \
            TSR_FAIL((err), TSR_NO_MEMORY, "out of memory (%zu bytes)", (size_t)(count) * sizeof *(pointer));          \
    } while (0)
#define TSR_ALLOC_ZERO(err, pointer, count)                                                                            \
    do {                                                                                                               \
        (pointer) = tsr__alloc_zero((size_t)(count), sizeof *(pointer));                                               \
        if (!(pointer))                                                                                                \
            TSR_FAIL((err), TSR_NO_MEMORY, "out of memory (%zu bytes)", (size_t)(count) * sizeof *(pointer));          \
    } while (0)

#endif /* TSR_MEMORY_H */
