/* core/text.h - how a text ends, and texts that grow. */
#ifndef TSR_TEXT_H
#define TSR_TEXT_H

#include <stddef.h>

#include "core/check.h"

/* Whether the first `length` bytes of text end in `end`. */
int tsr__ends_with(const char *text, size_t length, const char *end);

/* Zeroed, it is empty and data is NULL; after an addition data ends in a zero. Release data with free(). */
typedef struct tsr__growing_text {
    char *data;
    size_t used, room;
} tsr__growing_text;
tsr_status tsr__growing_add(tsr__growing_text *to, const char *what, size_t length, tsr_error *err);

#endif /* TSR_TEXT_H */
