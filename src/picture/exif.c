/* exif.c - texts in an EXIF (TIFF) block, as other programs write them:
 *
 *   UserComment (Exif directory, 0x9286)  "parameters", UTF-16 behind "UNICODE\0"       (Stable Diffusion web UI)
 *   Model (0x0110), Make (0x010f), ...    "prompt:...", "workflow:...", any "key:..."   (ComfyUI's WebP)
 *   0xfe00 (private use)                  key 0 text 0 key 0 text 0 ...                 (Tessera: every other key)
 *
 * Owns that mapping and nothing of JPEG or WebP. Numbers in the block may point anywhere: every access is checked, and
 * an entry that leads outside is ignored. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "picture_priv.h"

enum {
    TAG_FIRST_TEXT = 0x0100,
    TAG_MAKE = 0x010f,
    TAG_MODEL = 0x0110,
    TAG_ORIENTATION = 0x0112,
    TAG_EXIF = 0x8769,
    TAG_EXIF_VERSION = 0x9000,
    TAG_USER_COMMENT = 0x9286,
    TAG_TESSERA = 0xfe00
};
enum { TYPE_ASCII = 2, TYPE_SHORT = 3, TYPE_LONG = 4, TYPE_UNDEFINED = 7 };

typedef struct block {
    const unsigned char *data;
    size_t size;
    int big_endian;
} block;

typedef struct entry {
    unsigned tag, type;
    const unsigned char *data; /* inside the block */
    size_t size;               /* bytes */
} entry;

static uint32_t number(const block *b, const unsigned char *p, int bytes) {
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint32_t)p[i] << 8 * (b->big_endian ? bytes - 1 - i : i);
    return value;
}

/* Entry i of the directory at `offset`: 1 found, 0 none or useless, -1 past the last. */
static int find_entry(entry *out, const block *b, size_t offset, size_t i) {
    if (b->size < 2 || offset > b->size - 2 || i >= number(b, b->data + offset, 2)) return -1;
    size_t at = offset + 2 + 12 * i;
    if (b->size < 12 || at > b->size - 12) return -1;
    const unsigned char *p = b->data + at;
    out->tag = number(b, p, 2);
    out->type = number(b, p + 2, 2);
    size_t count = number(b, p + 4, 4);
    size_t unit = out->type == TYPE_SHORT ? 2 : out->type == TYPE_LONG ? 4 : 1;
    if (out->type != TYPE_ASCII && out->type != TYPE_UNDEFINED && unit == 1) return 0;
    if (count > b->size / unit) return 0;
    out->size = count * unit;
    out->data = p + 8;
    if (out->size > 4) {
        size_t from = number(b, p + 8, 4);
        if (from > b->size - out->size) return 0;
        out->data = b->data + from;
    }
    return 1;
}

/* UTF-16 in the order of the block, or against it where a byte-order mark or the zeros of plain letters say so. */
static tsr__encoding guess_utf16(const block *b, const unsigned char *text, size_t size) {
    size_t even = 0, odd = 0;
    if (size >= 2 && text[0] == 0xfe && text[1] == 0xff) return TSR__UTF16BE;
    if (size >= 2 && text[0] == 0xff && text[1] == 0xfe) return TSR__UTF16LE;
    for (size_t i = 0; i + 1 < size; i += 2) {
        even += text[i] == 0;
        odd += text[i + 1] == 0;
    }
    if (even == odd) return b->big_endian ? TSR__UTF16BE : TSR__UTF16LE;
    return even > odd ? TSR__UTF16BE : TSR__UTF16LE;
}

static tsr_status read_comment(tsr__text_sink *sink, const block *b, const entry *e, tsr_error *err) {
    if (e->size <= 8) return TSR_OK;
    const unsigned char *text = e->data + 8;
    size_t size = e->size - 8;
    tsr__encoding encoding = TSR__UTF8_OR_LATIN1;
    if (!memcmp(e->data, "UNICODE", 8)) encoding = guess_utf16(b, text, size);
    else if (memcmp(e->data, "ASCII\0\0", 8) != 0 && memcmp(e->data, "\0\0\0\0\0\0\0", 8) != 0) return TSR_OK;
    return tsr__sink_text(sink, "parameters", 10, text, size, encoding, err);
}

static int is_key_letter(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
}

/* "key:text" with a key that looks like one; anything else is a camera's name or a caption. */
static tsr_status read_pair(tsr__text_sink *sink, const entry *e, tsr_error *err) {
    size_t key = 0;
    while (key < e->size && key < 80 && is_key_letter(e->data[key])) key++;
    if (key == 0 || key >= e->size || e->data[key] != ':') return TSR_OK;
    return tsr__sink_text(sink, e->data, key, e->data + key + 1, e->size - key - 1, TSR__UTF8_OR_LATIN1, err);
}

static tsr_status read_own(tsr__text_sink *sink, const entry *e, tsr_error *err) {
    const unsigned char *at = e->data, *end = e->data + e->size;
    while (at < end) {
        const unsigned char *key_end = memchr(at, 0, (size_t)(end - at));
        const unsigned char *text_end = key_end ? memchr(key_end + 1, 0, (size_t)(end - key_end - 1)) : NULL;
        if (!text_end) break;
        tsr_status status = tsr__sink_text(sink, at, (size_t)(key_end - at), key_end + 1,
                                           (size_t)(text_end - key_end - 1), TSR__UTF8_OR_LATIN1, err);
        if (status != TSR_OK) return status;
        at = text_end + 1;
    }
    return TSR_OK;
}

static tsr_status read_directory(tsr__text_sink *sink, int *orientation, const block *b, size_t offset, int depth,
                                 tsr_error *err) {
    tsr_status status = TSR_OK;
    entry e = { 0, 0, NULL, 0 };
    int found;
    for (size_t i = 0; (found = find_entry(&e, b, offset, i)) >= 0; i++) {
        if (!found) continue;
        if (e.tag == TAG_EXIF && e.type == TYPE_LONG && e.size == 4 && depth == 0)
            TSR_TRY(read_directory(sink, orientation, b, number(b, e.data, 4), 1, err));
        else if (e.tag == TAG_USER_COMMENT && e.type == TYPE_UNDEFINED) TSR_TRY(read_comment(sink, b, &e, err));
        else if (e.tag == TAG_ORIENTATION && e.type == TYPE_SHORT && e.size == 2 && depth == 0)
            *orientation = (int)number(b, e.data, 2);
        else if (e.tag == TAG_TESSERA && e.type == TYPE_ASCII) TSR_TRY(read_own(sink, &e, err));
        else if (e.tag >= TAG_FIRST_TEXT && e.tag <= TAG_MODEL && e.type == TYPE_ASCII)
            TSR_TRY(read_pair(sink, &e, err));
    }
done:
    return status;
}

tsr_status tsr__exif_read(tsr__text_sink *sink, int *orientation, const unsigned char *tiff, size_t size,
                          tsr_error *err) {
    block b = { tiff, size, 0 };
    if (size < 8) return TSR_OK;
    if (!memcmp(tiff, "MM\0*", 4)) b.big_endian = 1;
    else if (memcmp(tiff, "II*\0", 4) != 0) return TSR_OK;
    return read_directory(sink, orientation, &b, number(&b, tiff + 4, 4), 0, err);
}

static tsr_status add_number(tsr__bytes *out, uint32_t value, int bytes, tsr_error *err) {
    unsigned char big[4];
    for (int i = 0; i < bytes; i++) big[i] = (unsigned char)(value >> 8 * (bytes - 1 - i));
    return tsr__bytes_add(out, big, (size_t)bytes, err);
}

/* One entry of 12 bytes; what does not fit into its last four goes to `data`, which will lie at `base`. */
static tsr_status add_entry(tsr__bytes *entries, tsr__bytes *data, size_t base, unsigned tag, unsigned type,
                            const void *value, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(add_number(entries, tag, 2, err));
    TSR_TRY(add_number(entries, type, 2, err));
    TSR_TRY(add_number(entries, (uint32_t)size / (type == TYPE_LONG ? 4 : 1), 4, err));
    if (size <= 4) {
        unsigned char padded[4] = { 0 };
        memcpy(padded, value, size);
        TSR_TRY(tsr__bytes_add(entries, padded, 4, err));
    } else {
        TSR_TRY(add_number(entries, (uint32_t)(base + data->size), 4, err));
        TSR_TRY(tsr__bytes_add(data, value, size, err));
        if (data->size % 2) TSR_TRY(tsr__bytes_add(data, "", 1, err));
    }
done:
    return status;
}

static tsr_status add_pair(tsr__bytes *entries, tsr__bytes *data, size_t base, unsigned tag, const char *key,
                           const char *text, tsr_error *err) {
    char *joined = tsr__format("%s:%s", key, text);
    if (!joined) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    tsr_status status = add_entry(entries, data, base, tag, TYPE_ASCII, joined, strlen(joined) + 1, err);
    free(joined);
    return status;
}

/* The Exif directory with the user comment, placed at the end of `data`, and the entry that points to it. */
static tsr_status add_comment(tsr__bytes *entries, tsr__bytes *data, size_t base, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__bytes comment = { NULL, 0, 0 }, directory = { NULL, 0, 0 }, tail = { NULL, 0, 0 };
    size_t at = base + data->size, tail_base = at + 2 + 2 * 12 + 4;
    unsigned char pointer[4] = { (unsigned char)(at >> 24), (unsigned char)(at >> 16), (unsigned char)(at >> 8),
                                 (unsigned char)at };
    TSR_TRY(add_entry(entries, data, base, TAG_EXIF, TYPE_LONG, pointer, 4, err));
    TSR_TRY(tsr__bytes_add(&comment, "UNICODE", 8, err));
    TSR_TRY(tsr__bytes_add_utf16be(&comment, text, err));
    TSR_TRY(add_number(&directory, 2, 2, err));
    TSR_TRY(add_entry(&directory, &tail, tail_base, TAG_EXIF_VERSION, TYPE_UNDEFINED, "0232", 4, err));
    TSR_TRY(add_entry(&directory, &tail, tail_base, TAG_USER_COMMENT, TYPE_UNDEFINED, comment.data, comment.size, err));
    TSR_TRY(add_number(&directory, 0, 4, err));
    TSR_TRY(tsr__bytes_add(data, directory.data, directory.size, err));
    TSR_TRY(tsr__bytes_add(data, tail.data, tail.size, err));
done:
    tsr__bytes_clear(&comment);
    tsr__bytes_clear(&directory);
    tsr__bytes_clear(&tail);
    return status;
}

static tsr_status collect_others(tsr__bytes *out, const tsr_image *image, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < image->text_count; i++) {
        const tsr_text_entry *t = &image->texts[i];
        if (!strcmp(t->key, "parameters") || !strcmp(t->key, "prompt") || !strcmp(t->key, "workflow")) continue;
        TSR_TRY(tsr__bytes_add(out, t->key, strlen(t->key) + 1, err));
        TSR_TRY(tsr__bytes_add(out, t->text, strlen(t->text) + 1, err));
    }
done:
    return status;
}

tsr_status tsr__exif_write(tsr__bytes *out, const tsr_image *image, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__bytes entries = { NULL, 0, 0 }, data = { NULL, 0, 0 }, others = { NULL, 0, 0 };
    const char *workflow = tsr_image_text(image, "workflow"), *prompt = tsr_image_text(image, "prompt");
    const char *parameters = tsr_image_text(image, "parameters");
    if (image->text_count == 0) return TSR_OK;
    TSR_TRY(collect_others(&others, image, err));
    uint32_t count = (uint32_t)((workflow != NULL) + (prompt != NULL) + (parameters != NULL) + (others.size != 0));
    size_t base = 8 + 2 + 12 * count + 4;
    /* Entries stand in the order of their tags. */
    if (workflow) TSR_TRY(add_pair(&entries, &data, base, TAG_MAKE, "workflow", workflow, err));
    if (prompt) TSR_TRY(add_pair(&entries, &data, base, TAG_MODEL, "prompt", prompt, err));
    if (parameters) TSR_TRY(add_comment(&entries, &data, base, parameters, err));
    if (others.size) TSR_TRY(add_entry(&entries, &data, base, TAG_TESSERA, TYPE_ASCII, others.data, others.size, err));
    TSR_TRY(tsr__bytes_add(out, "MM\0*\0\0\0\x08", 8, err));
    TSR_TRY(add_number(out, count, 2, err));
    TSR_TRY(tsr__bytes_add(out, entries.data, entries.size, err));
    TSR_TRY(add_number(out, 0, 4, err));
    TSR_TRY(tsr__bytes_add(out, data.data, data.size, err));
done:
    tsr__bytes_clear(&entries);
    tsr__bytes_clear(&data);
    tsr__bytes_clear(&others);
    return status;
}
