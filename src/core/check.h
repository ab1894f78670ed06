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
        status = (code); /* not what the call returns: analysers see that it is no TSR_OK */                           \
        tsr__fail((err), status, __VA_ARGS__);                                                                         \
        goto done;                                                                                                     \
    } while (0)

#endif /* TSR_CHECK_H */
