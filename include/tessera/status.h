/* tessera/status.h - what a call returns, and why it failed.
 *
 *   tsr_error err = TSR_ERROR_INIT;
 *   if (tsr_engine_open(&engine, &opts, &err) != TSR_OK)
 *       fprintf(stderr, "%s: %s\n", tsr_status_name(err.status), err.message);
 *
 * Every fallible function takes a `tsr_error *err` last; NULL is allowed. The first failure wins: a call never
 * overwrites an error that is already set.
 *
 * Threads: tsr_error is a plain value owned by the caller; nothing here is shared. */
#ifndef TSR_STATUS_H
#define TSR_STATUS_H

#include "tessera/export.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Values are stable: new ones are only added at the end. */
#define TSR_STATUS_MAP(X)                                                                                              \
    X(OK, 0, "ok")                                                                                                     \
    X(NO_MEMORY, 1, "out of memory")                                                                                   \
    X(BAD_ARGUMENT, 2, "bad argument")                                                                                 \
    X(IO, 3, "read or write failed")                                                                                   \
    X(BAD_FORMAT, 4, "file or message is malformed")                                                                   \
    X(UNSUPPORTED, 5, "valid, but not supported here")                                                                 \
    X(NOT_FOUND, 6, "no such name, file or node")                                                                      \
    X(TOO_LARGE, 7, "over a configured limit")                                                                         \
    X(BACKEND, 8, "compute backend failed")                                                                            \
    X(CANCELLED, 9, "stopped by the caller or a hook")                                                                 \
    X(WRONG_STATE, 10, "call not allowed in this state")                                                               \
    X(NOT_FINITE, 11, "the network returned NaN or infinity")

typedef enum tsr_status {
#define X(name, value, text) TSR_##name = value,
    TSR_STATUS_MAP(X)
#undef X
        TSR_STATUS_END_
} tsr_status;

#define TSR_ERROR_MESSAGE_SIZE 512

typedef struct tsr_error {
    tsr_status status;
    int64_t offset;                       /* byte in the input, or -1 */
    char message[TSR_ERROR_MESSAGE_SIZE]; /* one line, no newline */
} tsr_error;

#define TSR_ERROR_INIT                                                                                                 \
    {                                                                                                                  \
        TSR_OK, -1, {                                                                                                  \
            0                                                                                                          \
        }                                                                                                              \
    }

/* The constant's name without prefix ("BAD_FORMAT") and a short English text ("file or message is malformed").
 * Both return a string with static lifetime, never NULL. */
TSR_API const char *tsr_status_name(tsr_status status);
TSR_API const char *tsr_status_text(tsr_status status);

/* The library's version, "MAJOR.MINOR.PATCH"; static lifetime. */
TSR_API const char *tsr_version(void);

#ifdef __cplusplus
}
#endif
#endif /* TSR_STATUS_H */
