/* server/fault.h - failing in one line, leaving through one label, as the library's own code does (docs/house.md). */
#ifndef TSR_SERVER_FAULT_H
#define TSR_SERVER_FAULT_H

#include "tessera/status.h"

/* Writes the message unless err already holds a failure; err may be NULL. Returns status. */
tsr_status srv_fail(tsr_error *err, tsr_status status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* An analyser that looks at one file cannot know that the call returns the status it is given. */
#if defined(__clang_analyzer__) && !defined(SRV_DEFINES_FAIL)
#define srv_fail(err, status, ...) (srv_fail((err), (status), __VA_ARGS__), (status))
#endif

/* Evaluates a call; leaves through `done:` with its status unless it is TSR_OK. */
#define SRV_TRY(call)                                                                                                  \
    do {                                                                                                               \
        tsr_status try_ = (call);                                                                                      \
        if (try_ != TSR_OK) {                                                                                          \
            status = try_;                                                                                             \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

/* Sets the message and leaves through `done:`. */
#define SRV_FAIL(err, code, ...)                                                                                       \
    do {                                                                                                               \
        status = srv_fail((err), (code), __VA_ARGS__);                                                                 \
        goto done;                                                                                                     \
    } while (0)

/* count zeroed elements, or leaves through `done:`. */
#define SRV_ALLOC(err, pointer, count)                                                                                 \
    do {                                                                                                               \
        (pointer) = calloc((size_t)(count), sizeof *(pointer));                                                        \
        if (!(pointer)) SRV_FAIL((err), TSR_NO_MEMORY, "out of memory");                                               \
    } while (0)

#endif /* TSR_SERVER_FAULT_H */
