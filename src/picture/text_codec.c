/* text_codec.c - UTF-8 from and to the encodings that picture metadata uses. Knows nothing of pictures. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "picture_priv.h"

tsr_status tsr__bytes_add(tsr__bytes *bytes, const void *data, size_t size, tsr_error *err) {
    if (size > bytes->room - bytes->size) {
        size_t room = bytes->room;
        while (size > room - bytes->size) {
            if (room > SIZE_MAX / 2) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
            room = room ? room * 2 : 256;
        }
        unsigned char *grown = realloc(bytes->data, room);
        if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory (%zu bytes)", room);
        bytes->data = grown;
        bytes->room = room;
    }
    if (size) memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
    return TSR_OK;
}

void tsr__bytes_clear(tsr__bytes *bytes) {
    free(bytes->data);
    *bytes = (tsr__bytes){ NULL, 0, 0 };
}

/* Reads one code point; returns its length in bytes, or 0 for anything that is not well-formed UTF-8. */
static int read_utf8(uint32_t *code, const unsigned char *s, size_t size) {
    static const uint32_t smallest[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    int length = s[0] < 0x80             ? 1
                 : (s[0] & 0xe0) == 0xc0 ? 2
                 : (s[0] & 0xf0) == 0xe0 ? 3
                 : (s[0] & 0xf8) == 0xf0 ? 4
                                         : 0;
    if (length == 0 || (size_t)length > size) return 0;
    *code = length == 1 ? s[0] : s[0] & (0x7fu >> length);
    for (int i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        *code = *code << 6 | (s[i] & 0x3fu);
    }
    if (*code < smallest[length] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000)) return 0;
    return length;
}

static int write_utf8(char *out, uint32_t code) {
    int length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (length == 1) {
        out[0] = (char)code;
        return 1;
    }
    for (int i = length - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf00u >> length & 0xf0) | code);
    return length;
}

int tsr__utf8_valid(const unsigned char *text, size_t size) {
    uint32_t code;
    for (size_t i = 0; i < size;) {
        int length = read_utf8(&code, text + i, size - i);
        if (length == 0) return 0;
        i += (size_t)length;
    }
    return 1;
}

tsr_status tsr__utf8_from_latin1(char **out, const unsigned char *text, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *to = NULL;
    *out = NULL;
    TSR_ALLOC(err, to, size * 2 + 1);
    *out = to;
    for (size_t i = 0; i < size && text[i]; i++) to += write_utf8(to, text[i]);
    *to = 0;
done:
    return status;
}

tsr_status tsr__utf8_from_utf16(char **out, const unsigned char *text, size_t size, int big_endian, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *to = NULL;
    size_t units = size / 2;
    int high = big_endian ? 0 : 1;
    *out = NULL;
    TSR_ALLOC(err, to, units * 3 + 1); /* a pair of units makes 4 bytes, one unit at most 3 */
    *out = to;
    for (size_t i = 0; i < units; i++) {
        uint32_t code = (uint32_t)text[2 * i + (size_t)high] << 8 | text[2 * i + (size_t)!high];
        if (code == 0) break;
        if (code == 0xfeff && i == 0) continue;
        if (code >= 0xd800 && code < 0xe000) {
            uint32_t low = 0;
            if (i + 1 < units) low = (uint32_t)text[2 * i + 2 + (size_t)high] << 8 | text[2 * i + 2 + (size_t)!high];
            if (code < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                i++;
            } else {
                code = 0xfffd; /* a surrogate alone stands for no letter: the replacement character */
            }
        }
        to += write_utf8(to, code);
    }
    *to = 0;
done:
    return status;
}

tsr_status tsr__latin1_from_utf8(char **out, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    const unsigned char *s = (const unsigned char *)text;
    size_t size = strlen(text), used = 0;
    char *to = NULL;
    *out = NULL;
    TSR_ALLOC(err, to, size + 1);
    for (size_t i = 0; i < size;) {
        uint32_t code;
        int length = read_utf8(&code, s + i, size - i);
        if (length == 0 || code > 0xff) goto done;
        to[used++] = (char)code;
        i += (size_t)length;
    }
    to[used] = 0;
    *out = to;
    to = NULL;
done:
    free(to);
    return status;
}

tsr_status tsr__bytes_add_utf16be(tsr__bytes *bytes, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    const unsigned char *s = (const unsigned char *)text;
    size_t size = strlen(text);
    for (size_t i = 0; i < size;) {
        uint32_t code;
        int length = read_utf8(&code, s + i, size - i);
        if (length == 0) TSR_FAIL(err, TSR_BAD_ARGUMENT, "text is not valid UTF-8 at byte %zu", i);
        i += (size_t)length;
        uint32_t first = code < 0x10000 ? code : 0xd800 + ((code - 0x10000) >> 10), second = 0xdc00 + (code & 0x3ff);
        unsigned char unit[4] = { (unsigned char)(first >> 8), (unsigned char)first, (unsigned char)(second >> 8),
                                  (unsigned char)second };
        TSR_TRY(tsr__bytes_add(bytes, unit, code < 0x10000 ? 2 : 4, err));
    }
done:
    return status;
}
