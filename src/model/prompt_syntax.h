/* model/prompt_syntax.h - weighted pieces of a prompt.
 *
 * Knows parentheses and weights, not tokens. Threads: plain values. */
#ifndef TSR_PROMPT_SYNTAX_H
#define TSR_PROMPT_SYNTAX_H

#include <stddef.h>

#include "tessera/status.h"

enum { TSR__PROMPT_MAX_NESTING = 256 };

typedef struct tsr__prompt_piece {
    const char *text; /* valid UTF-8 of length bytes inside the owner's buffer, not terminated */
    size_t length;
    double weight;
} tsr__prompt_piece;

typedef struct tsr__prompt_pieces {
    char *text;                /* owned */
    tsr__prompt_piece *pieces; /* owned */
    size_t count, room;
} tsr__prompt_pieces;

/* Cuts a prompt of at most TSR__PROMPT_MAX_BYTES into pieces of one weight each, in order. Bytes that are no UTF-8
 * become U+FFFD. Fails only for want of memory or with TOO_LARGE. */
tsr_status tsr__prompt_parse(tsr__prompt_pieces *out, const char *prompt, tsr_error *err);
void tsr__prompt_pieces_clear(tsr__prompt_pieces *pieces);

#endif /* TSR_PROMPT_SYNTAX_H */
