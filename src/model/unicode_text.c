/* model/unicode_text.c - UTF-8 decoding that never fails, letter and number classes, lower case.
 *
 * Tables come from tools/make_unicode.py. Knows nothing of prompts or tokens. */
#include "model/unicode_text.h"

typedef struct code_range {
    uint32_t first, last;
} code_range;
typedef struct lower_run {
    uint32_t first, last, step;
    int32_t delta;
} lower_run;

#include "model/unicode_tables.inc"

uint32_t tsr__utf8_next(const char **cursor, const char *end) {
    const unsigned char *bytes = (const unsigned char *)*cursor;
    const size_t room = (size_t)(end - *cursor);
    const unsigned lead = bytes[0];
    *cursor += 1;
    if (lead < 0x80) return lead;
    const size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1; /* bytes that must follow */
    if (lead < 0xc2 || lead > 0xf4 || more >= room) return 0xfffd;
    uint32_t code = lead & (0x3fu >> more);
    for (size_t i = 1; i <= more; i++) {
        if ((bytes[i] & 0xc0) != 0x80) return 0xfffd;
        code = code << 6 | (bytes[i] & 0x3fu);
    }
    static const uint32_t least[4] = { 0, 0x80, 0x800, 0x10000 };
    if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return 0xfffd;
    *cursor += more;
    return code;
}

size_t tsr__utf8_put(char *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint32_t lead[4] = { 0, 0xc0, 0xe0, 0xf0 };
    for (size_t i = more; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)(lead[more] | code);
    return more + 1;
}

static int in_ranges(const code_range *ranges, size_t count, uint32_t code) {
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (code > ranges[middle].last) low = middle + 1;
        else if (code < ranges[middle].first) high = middle;
        else return 1;
    }
    return 0;
}

int tsr__unicode_is_letter(uint32_t code) {
    return in_ranges(LETTERS, sizeof LETTERS / sizeof *LETTERS, code);
}

int tsr__unicode_is_number(uint32_t code) {
    return in_ranges(NUMBERS, sizeof NUMBERS / sizeof *NUMBERS, code);
}

int tsr__unicode_is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x20) || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
           code == 0x205f || code == 0x3000;
}

int tsr__unicode_lower(uint32_t out[2], uint32_t code) {
    size_t low = 0, high = sizeof LOWER / sizeof *LOWER;
    out[0] = code;
    if (code == 0x130) { /* capital I with dot: the only letter whose lower case is two code points */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const lower_run *run = &LOWER[middle];
        if (code > run->last) {
            low = middle + 1;
        } else if (code < run->first) {
            high = middle;
        } else {
            if ((code - run->first) % run->step == 0) out[0] = (uint32_t)((int32_t)code + run->delta);
            break;
        }
    }
    return 1;
}
