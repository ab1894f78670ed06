/* core/text.c - see text.h. */
#include "core/text.h"

#include <stdlib.h>
#include <string.h>

int tsr__ends_with(const char *text, size_t length, const char *end) {
    const size_t size = strlen(end);
    return length >= size && memcmp(text + length - size, end, size) == 0;
}

tsr_status tsr__growing_add(tsr__growing_text *to, const char *what, size_t length, tsr_error *err) {
    if (to->used + length + 1 > to->room) {
        const size_t room = 2 * (to->room + length + 1);
        char *grown = realloc(to->data, room);
        if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        to->data = grown;
        to->room = room;
    }
    memcpy(to->data + to->used, what, length);
    to->used += length;
    to->data[to->used] = 0;
    return TSR_OK;
}
