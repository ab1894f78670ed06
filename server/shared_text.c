/* server/shared_text.c - see shared_text.h. */
#include "shared_text.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct srv_text {
    atomic_int refs;
    size_t size, capacity; /* without the 0 byte */
    char chars[];
};

srv_text *srv_text_new(size_t capacity) {
    srv_text *text = malloc(sizeof *text + capacity + 1);
    if (!text) return NULL;
    atomic_init(&text->refs, 1);
    text->size = 0;
    text->capacity = capacity;
    text->chars[0] = 0;
    return text;
}

srv_text *srv_text_of(const char *chars) {
    srv_text *text = chars ? srv_text_new(strlen(chars)) : NULL;
    if (text) srv_text_puts(&text, chars);
    return text;
}

srv_text *srv_text_ref(srv_text *text) {
    if (text) atomic_fetch_add(&text->refs, 1);
    return text;
}

void srv_text_unref(srv_text *text) {
    if (text && atomic_fetch_sub(&text->refs, 1) == 1) free(text);
}

const char *srv_text_chars(const srv_text *text) {
    return text ? text->chars : "";
}

size_t srv_text_size(const srv_text *text) {
    return text ? text->size : 0;
}

void srv_text_add(srv_text **text, const char *chars, size_t size) {
    srv_text *old = *text;
    if (!old) return;
    if (size > old->capacity - old->size) {
        size_t capacity = old->size + size + old->size / 2;
        srv_text *grown = realloc(old, sizeof *old + capacity + 1);
        if (!grown) free(old);
        *text = grown;
        if (!grown) return;
        grown->capacity = capacity;
    }
    memcpy((*text)->chars + (*text)->size, chars, size);
    (*text)->size += size;
    (*text)->chars[(*text)->size] = 0;
}

void srv_text_puts(srv_text **text, const char *chars) {
    srv_text_add(text, chars, strlen(chars));
}

void srv_text_printf(srv_text **text, const char *format, ...) {
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    srv_text_puts(text, line);
}
