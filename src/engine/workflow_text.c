/* engine/workflow_text.c - JSON as Python's json module writes it, through a parser of strict JSON.
 *
 * Python knows integers of any size (seeds go to 2^64 - 1, jansson to 2^63 - 1) and writes NaN and Infinity. One pass
 * over the text, outside strings, turns the former into marked strings and the latter into null. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "engine/workflow_text.h"

#define MARK_ESCAPE "\\u0001"
enum { SAFE_DIGITS = 18, MAX_DEPTH = 64 };

/* Copies one string, quotes included; returns the number of bytes read. */
static size_t copy_string(char **to, const char *at, const char *end) {
    const char *start = at++;
    while (at < end && *at != '"') at += *at == '\\' && at + 1 < end ? 2 : 1;
    if (at < end) at++;
    memcpy(*to, start, (size_t)(at - start));
    *to += at - start;
    return (size_t)(at - start);
}

/* Copies one number; a long integer gets the mark. */
static size_t copy_number(char **to, const char *at, const char *end) {
    const char *start = at;
    int whole = 1;
    size_t digits = 0;
    while (at < end && (isalnum((unsigned char)*at) || *at == '+' || *at == '-' || *at == '.')) {
        if (isdigit((unsigned char)*at)) digits++;
        else if (*at != '-' || at != start) whole = 0;
        at++;
    }
    size_t size = (size_t)(at - start);
    int big = whole && digits > SAFE_DIGITS;
    if (big) {
        memcpy(*to, "\"" MARK_ESCAPE, 1 + sizeof MARK_ESCAPE - 1);
        *to += sizeof MARK_ESCAPE;
    }
    memcpy(*to, start, size);
    *to += size;
    if (big) *(*to)++ = '"';
    return size;
}

/* NaN, Infinity, -Infinity: their length, else 0. */
static size_t not_finite(const char *at, const char *end) {
    static const char *const words[] = { "NaN", "Infinity", "-Infinity" };
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(end - at) >= n && memcmp(at, words[i], n) == 0) return n;
    }
    return 0;
}

/* Also refuses what nests deeper than a workflow does, before a recursive parser sees it. */
static tsr_status rewrite(char *to, size_t *size_out, const char *at, const char *end, tsr_error *err) {
    char *start = to;
    int depth = 0;
    while (at < end) {
        size_t skip = not_finite(at, end);
        if (skip) {
            for (const char *word = "null"; *word; word++) *to++ = *word;
            at += skip;
        } else if (*at == '"') {
            at += copy_string(&to, at, end);
        } else if (*at == '-' || isdigit((unsigned char)*at)) {
            at += copy_number(&to, at, end);
        } else {
            if (*at == '{' || *at == '[') depth++;
            if (*at == '}' || *at == ']') depth--;
            if (depth > MAX_DEPTH)
                return tsr__fail(err, TSR_TOO_LARGE, "the workflow nests deeper than %d levels", MAX_DEPTH);
            *to++ = *at++;
        }
    }
    *size_out = (size_t)(to - start);
    return TSR_OK;
}

tsr_status tsr__workflow_parse(json_t **out, const char *text, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_error_t reason;
    char *clean = NULL;
    *out = NULL;
    if (size > TSR__WORKFLOW_TEXT_MAX)
        TSR_FAIL(err, TSR_TOO_LARGE, "the workflow has %zu bytes; %zu are the most", size, TSR__WORKFLOW_TEXT_MAX);
    /* NaN grows by a byte; a marked number has at least 19 characters and grows by 8. */
    TSR_ALLOC(err, clean, size * 2 + 16);
    TSR_TRY(rewrite(clean, &size, text, text + size, err));
    *out = json_loadb(clean, size, JSON_REJECT_DUPLICATES, &reason);
    if (!*out) TSR_FAIL(err, TSR_BAD_FORMAT, "the workflow is not JSON: line %d: %s", reason.line, reason.text);
done:
    free(clean);
    return status;
}

char *tsr__workflow_dump(const json_t *json, size_t flags) {
    char *text = json_dumps(json, flags | JSON_ENSURE_ASCII);
    const char *at = text;
    char *to = text;
    while (at && *at) {
        size_t mark = sizeof MARK_ESCAPE; /* with its quote */
        const char *end = at + mark;
        if (strncmp(at, "\"" MARK_ESCAPE, mark) == 0) {
            while (isdigit((unsigned char)*end) || (*end == '-' && end == at + mark)) end++;
            if (*end == '"' && end > at + mark) {
                memmove(to, at + mark, (size_t)(end - at) - mark);
                to += (size_t)(end - at) - mark;
                at = end + 1;
                continue;
            }
        }
        *to++ = *at++;
    }
    if (text) *to = 0;
    return text;
}
