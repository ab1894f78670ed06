/* model/unicode_text.h - the little of Unicode that a tokenizer needs: UTF-8, classes, lower case.
 *
 * Threads: pure functions of constant tables. */
#ifndef TSR_UNICODE_TEXT_H
#define TSR_UNICODE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* The code point at *cursor < end, moving *cursor behind it. A byte that starts no valid sequence (overlong, surrogate, cut
 * off) counts as U+FFFD by itself. */
uint32_t tsr__utf8_next(const char **cursor, const char *end);
/* Writes 1..4 bytes, returns how many. */
size_t tsr__utf8_put(char *out, uint32_t code);

int tsr__unicode_is_letter(uint32_t code); /* \p{L} */
int tsr__unicode_is_number(uint32_t code); /* \p{N} */
int tsr__unicode_is_space(uint32_t code);  /* Python's str.isspace */
/* Lower case without context; writes 1 or 2 code points, returns how many. */
int tsr__unicode_lower(uint32_t out[2], uint32_t code);

#endif /* TSR_UNICODE_TEXT_H */
