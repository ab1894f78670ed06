/* core/memory.c - aligned allocation and strings. */
#include "memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *tsr__alloc(size_t count, size_t size) {
    if (size && count > (SIZE_MAX - 63) / size) return NULL;
    size_t bytes = (count * size + 63) / 64 * 64;
    return aligned_alloc(64, bytes ? bytes : 64);
}

void *tsr__alloc_zero(size_t count, size_t size) {
    if (size && count > (SIZE_MAX - 63) / size) return NULL;
    void *p = tsr__alloc(count, size);
    if (p) memset(p, 0, count * size);
    return p;
}

char *tsr__strdup(const char *text) {
    if (!text) return NULL;
    size_t n = strlen(text) + 1;
    char *copy = malloc(n);
    if (copy) memcpy(copy, text, n);
    return copy;
}

char *tsr__format(const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n < 0 ? NULL : malloc((size_t)n + 1);
    if (text) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}
