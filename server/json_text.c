/* server/json_text.c - see json_text.h. One pass before the parser and one after the writer, both outside strings. */
#include "json_text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"

/* How a long integer begins in the parser's text, and as the writer writes that string. */
static const char MARK[] = "\"\\u0001#";
enum { MARK_SIZE = sizeof MARK - 1, SAFE_DIGITS = 18 };

static const char *end_of_string(const char *at, const char *end) {
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\') at++;
    return at < end ? at + 1 : end;
}

static const char *end_of_number(const char *at, const char *end, int *is_long) {
    const char *start = at;
    int whole = 1;
    size_t digits = 0;
    for (; at < end && (isalnum((unsigned char)*at) || *at == '+' || *at == '-' || *at == '.'); at++) {
        if (isdigit((unsigned char)*at)) digits++;
        else if (*at != '-' || at != start) whole = 0;
    }
    *is_long = whole && digits > SAFE_DIGITS;
    return at;
}

/* The length of NaN, Infinity or -Infinity; else 0. */
static size_t not_finite(const char *at, const char *end) {
    static const char *const words[] = { "NaN", "Infinity", "-Infinity" };
    if (*at != 'N' && *at != 'I' && *at != '-') return 0;
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(end - at) >= n && memcmp(at, words[i], n) == 0) return n;
    }
    return 0;
}

static char *copy(char *to, const char *from, size_t size) {
    memcpy(to, from, size);
    return to + size;
}

/* to: room for twice the text. */
static tsr_status mark(char *to, size_t *size_out, const char *at, const char *end, tsr_error *err) {
    char *start = to;
    int depth = 0, is_long = 0;
    while (at < end) {
        const char *next = at + 1;
        size_t skip = not_finite(at, end);
        if (skip) {
            to = copy(to, "null", 4);
            at += skip;
            continue;
        }
        if (*at == '"') next = end_of_string(at, end);
        else if (*at == '-' || isdigit((unsigned char)*at)) next = end_of_number(at, end, &is_long);
        else if (*at == '{' || *at == '[') depth++;
        else if (*at == '}' || *at == ']') depth--;
        if (depth > SRV_JSON_MAX_DEPTH)
            return srv_fail(err, TSR_TOO_LARGE, "the JSON nests deeper than %d levels", SRV_JSON_MAX_DEPTH);
        if (is_long) to = copy(to, MARK, MARK_SIZE);
        to = copy(to, at, (size_t)(next - at));
        if (is_long) *to++ = '"';
        is_long = 0;
        at = next;
    }
    *size_out = (size_t)(to - start);
    return TSR_OK;
}

tsr_status srv_json_parse(json_t **out, const char *text, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_error_t reason;
    char *marked = NULL;
    *out = NULL;
    SRV_ALLOC(err, marked, size * 2 + 16); /* a marked number has at least 19 characters, NaN grows by one */
    SRV_TRY(mark(marked, &size, text, text + size, err));
    *out = json_loadb(marked, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &reason);
    if (!*out)
        SRV_FAIL(err, TSR_BAD_FORMAT, "not JSON: line %d column %d: %s", reason.line, reason.column, reason.text);
done:
    free(marked);
    return status;
}

/* Length of a marked integer at `at`, quotes included; 0 when there is none. A name is never one: it keeps its quotes. */
static size_t marked_number(const char *at) {
    size_t n = MARK_SIZE;
    if (strncmp(at, MARK, MARK_SIZE) != 0) return 0;
    if (at[n] == '-') n++;
    size_t first = n;
    while (isdigit((unsigned char)at[n])) n++;
    return at[n] == '"' && at[n + 1] != ':' && n - first > SAFE_DIGITS ? n + 1 : 0;
}

char *srv_json_dump(const json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text) return NULL;
    const char *at = text, *end = text + strlen(text);
    char *to = text;
    while (at < end) {
        size_t n = *at == '"' ? marked_number(at) : 0;
        const char *next = n ? at + n : *at == '"' ? end_of_string(at, end) : at + 1;
        const char *from = n ? at + MARK_SIZE : at;
        size_t size = n ? n - MARK_SIZE - 1 : (size_t)(next - at);
        memmove(to, from, size);
        to += size;
        at = next;
    }
    *to = 0;
    return text;
}

char *srv_json_quote(const char *text) {
    json_t *string = json_string(text);
    char *quoted = string ? json_dumps(string, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(string);
    return quoted;
}

json_t *srv_json_string(const char *text) {
    json_t *string = json_string(text);
    char *plain = string ? NULL : strdup(text);
    for (char *c = plain; c && *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    if (plain) string = json_string(plain);
    free(plain);
    return string;
}
