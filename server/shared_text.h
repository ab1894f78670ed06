/* server/shared_text.h - text that several threads send at the same time without copying it.
 *
 * A text is built by one thread and then only read; the last reference frees it. */
#ifndef TSR_SERVER_SHARED_TEXT_H
#define TSR_SERVER_SHARED_TEXT_H

#include <stddef.h>

typedef struct srv_text srv_text;

/* One reference; NULL when out of memory. */
srv_text *srv_text_new(size_t capacity);
srv_text *srv_text_of(const char *chars); /* a copy; NULL also when chars is NULL */
srv_text *srv_text_ref(srv_text *text);   /* text itself; NULL is allowed, as in the next */
void srv_text_unref(srv_text *text);
const char *srv_text_chars(const srv_text *text); /* ends with a 0 byte; "" for NULL */
size_t srv_text_size(const srv_text *text);

/* Building, before the text is shared. Out of memory frees *text and makes it NULL; on a NULL text nothing happens, so
 * that one check at the end is enough. */
void srv_text_add(srv_text **text, const char *chars, size_t size);
void srv_text_puts(srv_text **text, const char *chars);
void srv_text_printf(srv_text **text, const char *format, ...) /* at most 255 characters */
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

#endif /* TSR_SERVER_SHARED_TEXT_H */
