/* core/status.c - names of statuses and the one place that writes an error. */
#include <stdarg.h>
#include <stdio.h>

#define TSR_DEFINES_FAIL
#include "check.h"

const char *tsr_status_name(tsr_status status) {
    switch (status) {
#define X(name, value, text)                                                                                           \
    case TSR_##name: return #name;
        TSR_STATUS_MAP(X)
#undef X
    case TSR_STATUS_END_: break;
    }
    return "UNKNOWN";
}

const char *tsr_status_text(tsr_status status) {
    switch (status) {
#define X(name, value, text)                                                                                           \
    case TSR_##name: return text;
        TSR_STATUS_MAP(X)
#undef X
    case TSR_STATUS_END_: break;
    }
    return "unknown status";
}

const char *tsr_version(void) {
    return TSR_VERSION;
}

tsr_status tsr__fail(tsr_error *err, tsr_status status, const char *format, ...) {
    if (err && err->status == TSR_OK) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        err->status = status;
        /* One line, always: names taken from files may hold anything. */
        for (char *c = err->message; *c; c++)
            if ((unsigned char)*c < 0x20) *c = ' ';
    }
    return status;
}
