/* server/fault.c - see fault.h. */
#define SRV_DEFINES_FAIL
#include "fault.h"

#include <stdarg.h>
#include <stdio.h>

tsr_status srv_fail(tsr_error *err, tsr_status status, const char *format, ...) {
    if (!err || err->status != TSR_OK) return status;
    va_list args;
    err->status = status;
    err->offset = -1;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    for (char *c = err->message; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' ';
    return status;
}
