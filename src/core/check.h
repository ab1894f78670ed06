/* core/check.h - failing in one line, leaving through one label.
 *
 * A function that can fail has `tsr_status status = TSR_OK;`, pointers NULL at the top, and one label `done:` that
 * frees what it owns and returns status. */
#ifndef TSR_CHECK_H
#define TSR_CHECK_H

#include "tessera/status.h"

/* Writes the message unless err already holds a failure; err may be NULL. Returns status. */
tsr_status tsr__fail(tsr_error *err, tsr_status status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* An analyser that looks at one file cannot know that the call returns the status it is given, and would follow paths
 * on which a failure counts as success. */
#if defined(__clang_analyzer__) && !defined(TSR_DEFINES_FAIL)
#define tsr__fail(err, status, ...) (tsr__fail((err), (status), __VA_ARGS__), (status))
#endif

/* Evaluates a call; leaves through `done:` with its status unless it is TSR_OK. */
#define TSR_TRY(call)                                                                                                  \
    do {                                                                                                               \
        tsr_status try_ = (call);                                                                                      \
        if (try_ != TSR_OK) {                                                                                          \
            status = try_;                                                                                             \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

/* Sets the message and leaves through `done:`. */
#define TSR_FAIL(err, code, ...)                                                                                       \
    do {                                                                                                               \
        status = tsr__fail((err), (code), __VA_ARGS__);                                                                \
        goto done;                                                                                                     \
    } while (0)

#endif /* TSR_CHECK_H */
