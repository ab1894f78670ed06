/* server/json_text.h - JSON as Python's json module writes it, through jansson's strict parser.
 *
 * Python knows integers of any size (seeds go to 2^64 - 1, jansson to 2^63 - 1) and writes NaN and Infinity. Reading turns
 * integers of more than 18 digits into marked strings and NaN and Infinity into null; writing undoes the marks. */
#ifndef TSR_SERVER_JSON_TEXT_H
#define TSR_SERVER_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

#include "tessera/status.h"

#define SRV_JSON_MAX_DEPTH 64

/* Errors: BAD_FORMAT; TOO_LARGE when it nests deeper than SRV_JSON_MAX_DEPTH, found before a recursive parser sees it. */
tsr_status srv_json_parse(json_t **out, const char *text, size_t size, tsr_error *err);
/* On one line; NULL when memory is out. Release with free(). */
char *srv_json_dump(const json_t *json);
/* A string with its quotes. */
char *srv_json_quote(const char *text);
/* A string of bytes that may be no UTF-8 (names of files, messages that were cut): those become question marks. */
json_t *srv_json_string(const char *text);

#endif /* TSR_SERVER_JSON_TEXT_H */
