/* png_text.c - the tEXt, zTXt and iTXt chunks of a PNG file, with a limit on what they unpack to.
 *
 * libpng is told to skip them: it limits each text but not all of them together, and reading them here also gives one
 * clear line about where a cut-off file ends. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/memory.h"
#include "picture_priv.h"

static uint32_t read_u32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Unpacks a zlib stream of at most `limit` bytes. */
static tsr_status unpack(tsr__bytes *out, const unsigned char *data, size_t size, size_t limit, tsr_error *err) {
    tsr_status status = TSR_OK;
    z_stream stream = { 0 };
    unsigned char block[1 << 14];
    int code = inflateInit(&stream);
    if (code != Z_OK) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    stream.next_in = (unsigned char *)data;
    stream.avail_in = (uInt)size; /* a chunk is below 2^31 bytes */
    while (code != Z_STREAM_END) {
        stream.next_out = block;
        stream.avail_out = sizeof block;
        code = inflate(&stream, Z_NO_FLUSH);
        size_t made = sizeof block - stream.avail_out;
        if (code != Z_STREAM_END && (code != Z_OK || made == 0))
            TSR_FAIL(err, TSR_BAD_FORMAT, "PNG: a compressed text is damaged");
        if (made > limit - out->size)
            TSR_FAIL(err, TSR_TOO_LARGE, "PNG: compressed texts unpack to more than %zu bytes", TSR__TEXT_BYTES_MAX);
        TSR_TRY(tsr__bytes_add(out, block, made, err));
    }
done:
    inflateEnd(&stream);
    return status;
}

/* The bytes up to the next NUL, which is stepped over; NULL when there is none. */
static const unsigned char *next_string(const unsigned char **at, const unsigned char *end, size_t *size) {
    const unsigned char *start = *at, *zero = memchr(start, 0, (size_t)(end - start));
    if (!zero) return NULL;
    *size = (size_t)(zero - start);
    *at = zero + 1;
    return start;
}

/* tEXt: keyword 0 text. zTXt: keyword 0 method stream. iTXt: keyword 0 compressed method language 0 keyword 0 text. */
static tsr_status read_text(tsr__text_sink *sink, const unsigned char *type, const unsigned char *data, size_t size,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__bytes text = { NULL, 0, 0 };
    const unsigned char *at = data, *end = data + size;
    size_t key_size = 0, skipped = 0;
    int packed = type[0] == 'z', international = type[0] == 'i';
    const unsigned char *key = next_string(&at, end, &key_size);
    int sound = key && key_size >= 1 && key_size <= 79;
    if (sound && international) {
        sound = end - at >= 2 && at[0] <= 1;
        packed = sound && at[0] == 1;
        at += sound ? 1 : 0;
    }
    if (sound && (packed || international)) {
        sound = end - at >= 1 && (*at == 0 || !packed);
        at += sound ? 1 : 0;
    }
    if (sound && international) sound = next_string(&at, end, &skipped) && next_string(&at, end, &skipped);
    if (!sound) TSR_FAIL(err, TSR_BAD_FORMAT, "PNG: the %.4s chunk is malformed", (const char *)type);
    if (packed) {
        TSR_TRY(unpack(&text, at, (size_t)(end - at), TSR__TEXT_BYTES_MAX - sink->bytes, err));
        at = text.data;
        end = at ? at + text.size : at;
    }
    TSR_TRY(tsr__sink_text(sink, key, key_size, at, at ? (size_t)(end - at) : 0,
                           international ? TSR__UTF8_OR_LATIN1 : TSR__LATIN1, err));
done:
    tsr__bytes_clear(&text);
    return status;
}

tsr_status tsr__png_read_texts(tsr__text_sink *sink, const unsigned char *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (size_t at = 8;;) {
        if (size - at < 12) TSR_FAIL(err, TSR_BAD_FORMAT, "PNG: cut off at byte %zu, before the end chunk", at);
        size_t length = read_u32(data + at);
        const unsigned char *type = data + at + 4;
        if (length > 0x7fffffff || length > size - at - 12)
            TSR_FAIL(err, TSR_BAD_FORMAT, "PNG: the chunk at byte %zu is longer than the file", at);
        if (!memcmp(type, "tEXt", 4) || !memcmp(type, "zTXt", 4) || !memcmp(type, "iTXt", 4)) {
            if (crc32(crc32(0, NULL, 0), type, (uInt)length + 4) != read_u32(type + 4 + length))
                TSR_FAIL(err, TSR_BAD_FORMAT, "PNG: the text chunk at byte %zu is damaged (wrong checksum)", at);
            TSR_TRY(read_text(sink, type, type + 4, length, err));
        }
        if (!memcmp(type, "IEND", 4)) break;
        at += length + 12;
    }
done:
    return status;
}
