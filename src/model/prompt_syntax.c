/* model/prompt_syntax.c - ComfyUI's weight syntax: \( \), (x), (x:1.3), nested.
 *
 * The rules, and the odd corners that follow from them (reference: ComfyUI 0.8.0, comfyui-sampling.md "Text"):
 *   - A group starts at "(" where the nesting level is 0 and ends at the ")" that brings the level back from 1 to 0. A stray
 *     ")" makes the level negative, so the next "(" does not start a group.
 *   - The text between groups, and a group left unclosed at the end, is plain. But an unclosed rest that happens to start
 *     with "(" and end with ")" is taken as a group, as in "(a (b)".
 *   - A group's inside is read again by the same rules with weight * 1.1, or with the number after its last ":" if that
 *     is a finite number (an infinite or NaN weight, which ComfyUI accepts, stays text here). A ":" at the start sets nothing.
 */
#include "model/prompt_syntax.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "model/prompt_text.h"
#include "model/unicode_text.h"

/* Stand for escaped parentheses while groups are sought: bytes that valid UTF-8 never holds. */
static const char ESCAPED_OPEN = (char)0xfe, ESCAPED_CLOSE = (char)0xff;

/* The prompt as valid UTF-8 with escapes marked; at most three bytes for each byte. */
static tsr_status clean_text(char **out, size_t *length_out, const char *prompt, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *text = NULL;
    size_t length = 0;
    const char *cursor = prompt, *end = prompt + size;
    TSR_ALLOC(err, text, size * 3 + 1);
    while (cursor < end) {
        if (*cursor == '\\' && cursor + 1 < end && (cursor[1] == '(' || cursor[1] == ')')) {
            text[length++] = cursor[1] == '(' ? ESCAPED_OPEN : ESCAPED_CLOSE;
            cursor += 2;
        } else {
            length += tsr__utf8_put(text + length, tsr__utf8_next(&cursor, end));
        }
    }
    text[length] = 0;
    *out = text;
    *length_out = length;
    text = NULL;
done:
    free(text);
    return status;
}

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Digits with single underscores between them, as Python's float() takes them. Collects at most 19 significant digits; the
 * others only move the exponent. Returns the number of digits passed, or -1 for a misplaced underscore. */
static int read_digits(const char **cursor, const char *end, uint64_t *mantissa, int *dropped) {
    const char *c = *cursor;
    int digits = 0;
    while (c < end && (is_digit(*c) || *c == '_')) {
        if (*c == '_') {
            if (digits == 0 || c + 1 == end || !is_digit(c[1])) return -1;
        } else {
            if (*mantissa < 1000000000000000000u) *mantissa = *mantissa * 10 + (uint64_t)(*c - '0');
            else ++*dropped;
            digits++;
        }
        c++;
    }
    *cursor = c;
    return digits;
}

/* Python's float() for a finite number, whatever the process's locale. */
static int parse_number(double *out, const char *text, const char *end) {
    uint64_t mantissa = 0, exponent_digits = 0;
    int ignored = 0, dropped = 0, dropped_exponent = 0;
    while (text < end && strchr(" \t\n\r\f\v", *text) && *text) text++;
    while (end > text && strchr(" \t\n\r\f\v", end[-1]) && end[-1]) end--;
    const int negative = text < end && *text == '-';
    if (text < end && (*text == '-' || *text == '+')) text++;

    const int whole = read_digits(&text, end, &mantissa, &dropped);
    int fraction = 0;
    if (text < end && *text == '.') {
        text++;
        fraction = read_digits(&text, end, &mantissa, &ignored);
    }
    if (whole < 0 || fraction < 0 || whole + fraction == 0) return 0;
    long exponent = (long)dropped - (fraction - ignored);
    if (text < end && (*text == 'e' || *text == 'E')) {
        text++;
        const int down = text < end && *text == '-';
        if (text < end && (*text == '-' || *text == '+')) text++;
        if (read_digits(&text, end, &exponent_digits, &dropped_exponent) <= 0) return 0;
        const long size = exponent_digits > 1000000 || dropped_exponent ? 1000000 : (long)exponent_digits;
        exponent += down ? -size : size;
    }
    if (text != end) return 0;
    /* Dividing by an exact power of ten rounds once: 1.3 is 13 / 10. */
    double value = (double)mantissa;
    if (mantissa != 0)
        value = exponent < 0 ? value / pow(10.0, (double)-exponent) : value * pow(10.0, (double)exponent);
    if (!(fabs(value) <= (double)FLT_MAX)) return 0;
    *out = negative ? -value : value;
    return 1;
}

static tsr_status add_piece(tsr__prompt_pieces *out, const char *begin, const char *end, double weight,
                            tsr_error *err) {
    if (begin == end) return TSR_OK;
    if (out->count == out->room) {
        const size_t room = out->room ? out->room * 2 : 16;
        tsr__prompt_piece *pieces = realloc(out->pieces, room * sizeof *pieces);
        if (!pieces) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        out->pieces = pieces;
        out->room = room;
    }
    out->pieces[out->count++] = (tsr__prompt_piece){ begin, (size_t)(end - begin), weight };
    return TSR_OK;
}

static tsr_status read_pieces(tsr__prompt_pieces *out, const char *begin, const char *end, double weight, int depth,
                              tsr_error *err);

/* One item: plain text, or a group with its parentheses. */
static tsr_status read_item(tsr__prompt_pieces *out, const char *begin, const char *end, double weight, int depth,
                            tsr_error *err) {
    if (end - begin < 2 || *begin != '(' || end[-1] != ')') return add_piece(out, begin, end, weight, err);
    begin++;
    end--;
    weight *= 1.1;
    const char *colon = end;
    while (colon > begin && *colon != ':') colon--;
    if (colon > begin && parse_number(&weight, colon + 1, end)) end = colon;
    return read_pieces(out, begin, end, weight, depth + 1, err);
}

static tsr_status read_pieces(tsr__prompt_pieces *out, const char *begin, const char *end, double weight, int depth,
                              tsr_error *err) {
    const char *item = begin;
    long level = 0;
    if (depth > TSR__PROMPT_MAX_NESTING)
        return tsr__fail(err, TSR_TOO_LARGE, "prompt: parentheses nest deeper than %d", TSR__PROMPT_MAX_NESTING);
    for (const char *c = begin; c <= end; c++) {
        const int at_end = c == end;
        const int opens = !at_end && *c == '(' && level++ == 0;
        const int closes = !at_end && *c == ')' && --level == 0;
        if (!at_end && !opens && !closes) continue;
        const char *stop = closes ? c + 1 : c;
        if (stop > item) {
            tsr_status status = read_item(out, item, stop, weight, depth, err);
            if (status != TSR_OK) return status;
        }
        item = stop;
    }
    return TSR_OK;
}

tsr_status tsr__prompt_parse(tsr__prompt_pieces *out, const char *prompt, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t length = 0;
    memset(out, 0, sizeof *out);
    const size_t size = strnlen(prompt, TSR__PROMPT_MAX_BYTES + 1);
    if (size > TSR__PROMPT_MAX_BYTES)
        TSR_FAIL(err, TSR_TOO_LARGE, "prompt: longer than %d bytes", TSR__PROMPT_MAX_BYTES);
    TSR_TRY(clean_text(&out->text, &length, prompt, size, err));
    TSR_TRY(read_pieces(out, out->text, out->text + length, 1.0, 0, err));
    for (size_t i = 0; i < length; i++) {
        if (out->text[i] == ESCAPED_OPEN) out->text[i] = '(';
        if (out->text[i] == ESCAPED_CLOSE) out->text[i] = ')';
    }
done:
    if (status != TSR_OK) tsr__prompt_pieces_clear(out);
    return status;
}

void tsr__prompt_pieces_clear(tsr__prompt_pieces *pieces) {
    free(pieces->text);
    free(pieces->pieces);
    memset(pieces, 0, sizeof *pieces);
}
