/* image_png.c - PNG through libpng: pixels of any kind become 8-bit RGB or RGBA.
 *
 * libpng reports errors by longjmp. Everything that lives across a jump is in a struct the jump does not touch, and
 * every function called from the jumping ones only adds to it. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "picture_priv.h"

typedef struct job {
    png_structp png;
    png_infop info;
    tsr_error *err;
    tsr_status status;
    const unsigned char *data; /* reading */
    size_t size, at;
    tsr_image *image;
    png_bytep *rows;
    tsr__bytes *out; /* writing */
} job;

static void on_error(png_structp png, png_const_charp text) {
    job *j = png_get_error_ptr(png);
    if (j->status == TSR_OK) j->status = tsr__fail(j->err, TSR_BAD_FORMAT, "PNG: %s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text; /* odd ancillary chunks are no business of ours */
}

static void read_bytes(png_structp png, png_bytep to, size_t size) {
    job *j = png_get_io_ptr(png);
    if (size > j->size - j->at) png_error(png, "the file is cut off");
    memcpy(to, j->data + j->at, size);
    j->at += size;
}

static void write_bytes(png_structp png, png_bytep from, size_t size) {
    job *j = png_get_io_ptr(png);
    j->status = tsr__bytes_add(j->out, from, size, j->err);
    if (j->status != TSR_OK) png_error(png, "out of memory");
}

static void flush_bytes(png_structp png) {
    (void)png; /* the bytes stay in memory */
}

static tsr_status make_rows(job *j) {
    tsr_status status = TSR_OK;
    size_t row = (size_t)j->image->width * (size_t)j->image->channels;
    TSR_ALLOC(j->err, j->rows, j->image->height);
    for (int y = 0; y < j->image->height; y++) j->rows[y] = j->image->pixels + (size_t)y * row;
done:
    return status;
}

/* Fills j->image, or leaves a failure in j->status. */
static void read_pixels(job *j) {
    if (setjmp(png_jmpbuf(j->png))) return;
    png_set_read_fn(j->png, j, read_bytes);
    png_set_user_limits(j->png, TSR_IMAGE_MAX_SIDE, TSR_IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(j->png, TSR__TEXT_BYTES_MAX + 4096); /* texts that png_text.c takes must get past libpng */
    /* Of the optional chunks only transparency (never in this list) matters for the pixels. */
    png_set_keep_unknown_chunks(j->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(j->png, j->info);
    png_set_expand(j->png);
    png_set_scale_16(j->png);
    png_set_gray_to_rgb(j->png);
    png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    j->status = tsr__image_new_loaded(&j->image, "PNG", png_get_image_width(j->png, j->info),
                                      png_get_image_height(j->png, j->info), png_get_channels(j->png, j->info), j->err);
    if (j->status == TSR_OK) j->status = make_rows(j);
    if (j->status != TSR_OK) return;
    if (png_get_rowbytes(j->png, j->info) != (size_t)j->image->width * (size_t)j->image->channels)
        png_error(j->png, "unexpected row size");
    png_read_image(j->png, j->rows);
    png_read_end(j->png, NULL);
}

/* Deflate packs at most 1032 to 1: a header that promises more pixels than the file can hold is refused before any
 * memory is taken for them. */
static tsr_status check_header(const unsigned char *data, size_t size, tsr_error *err) {
    static const int samples[7] = { 1, 0, 3, 1, 2, 0, 4 }; /* by colour type */
    if (size < 33 || memcmp(data + 12, "IHDR", 4)) return tsr__fail(err, TSR_BAD_FORMAT, "PNG: the header is cut off");
    uint64_t width = png_get_uint_32(data + 16), height = png_get_uint_32(data + 20);
    if (width > TSR_IMAGE_MAX_SIDE || height > TSR_IMAGE_MAX_SIDE)
        return tsr__fail(err, TSR_TOO_LARGE, "PNG: picture of %llux%llu; each side may be at most %d",
                         (unsigned long long)width, (unsigned long long)height, TSR_IMAGE_MAX_SIDE);
    uint64_t bits = (uint64_t)data[24] * (uint64_t)(data[25] < 7 ? samples[data[25]] : 0);
    if (width * height * bits / 8 > (uint64_t)size * 1040 + 4096)
        return tsr__fail(err, TSR_BAD_FORMAT, "PNG: the file is too short for a picture of %llux%llu",
                         (unsigned long long)width, (unsigned long long)height);
    return TSR_OK;
}

tsr_status tsr__png_decode(tsr_image **out, const unsigned char *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    job j = { .err = err, .data = data, .size = size };
    *out = NULL;
    TSR_TRY(check_header(data, size, err));
    j.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &j, on_error, on_warning);
    j.info = j.png ? png_create_info_struct(j.png) : NULL;
    if (!j.info) TSR_FAIL(err, TSR_NO_MEMORY, "PNG: out of memory");
    read_pixels(&j);
    TSR_TRY(j.status);
    tsr__text_sink sink = { j.image, 0, 0 };
    TSR_TRY(tsr__png_read_texts(&sink, data, size, err));
    *out = j.image;
    j.image = NULL;
done:
    png_destroy_read_struct(&j.png, &j.info, NULL);
    free(j.rows);
    tsr_image_free(j.image);
    return status;
}

static int is_ascii(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text > 0x7e) return 0;
    return 1;
}

/* A PNG keyword: 1..79 printable letters, no space at an end or beside another. libpng would mend others silently. */
static int is_keyword(const char *key) {
    size_t size = strlen(key);
    if (size < 1 || size > 79 || key[0] == ' ' || key[size - 1] == ' ') return 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)key[i];
        if (c < 0x20 || (c > 0x7e && c < 0xa1) || (c == ' ' && key[i + 1] == ' ')) return 0;
    }
    return 1;
}

/* Keywords in Latin-1 and texts for libpng, keys[] being released by the caller. */
static tsr_status prepare_texts(png_text *texts, char **keys, const tsr_image *image, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < image->text_count; i++) {
        const tsr_text_entry *entry = &image->texts[i];
        TSR_TRY(tsr__latin1_from_utf8(&keys[i], entry->key, err));
        if (!keys[i] || !is_keyword(keys[i]))
            TSR_FAIL(err, TSR_BAD_ARGUMENT,
                     "PNG: the text key \"%.60s\" must be 1..79 printable Latin-1 letters without spaces at its ends "
                     "or in a row",
                     entry->key);
        texts[i].compression = is_ascii(entry->text) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        texts[i].key = keys[i];
        texts[i].text = entry->text;
        texts[i].text_length = strlen(entry->text);
    }
done:
    return status;
}

static void write_pixels(job *j, const tsr_image *image, const png_text *texts) {
    if (setjmp(png_jmpbuf(j->png))) return;
    png_set_write_fn(j->png, j, write_bytes, flush_bytes);
    png_set_IHDR(j->png, j->info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 image->channels == 4 ? PNG_COLOR_TYPE_RGB_ALPHA : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(j->png, 4); /* as ComfyUI's SaveImage */
    if (image->text_count) png_set_text(j->png, j->info, texts, image->text_count);
    png_write_info(j->png, j->info);
    for (int y = 0; y < image->height; y++)
        png_write_row(j->png, image->pixels + (size_t)y * (size_t)image->width * (size_t)image->channels);
    png_write_end(j->png, j->info);
}

tsr_status tsr__png_encode(tsr__bytes *out, const tsr_image *image, int quality, tsr_error *err) {
    tsr_status status = TSR_OK;
    job j = { .err = err, .out = out };
    png_text *texts = NULL;
    char **keys = NULL;
    (void)quality; /* always lossless */
    TSR_ALLOC_ZERO(err, texts, image->text_count);
    TSR_ALLOC_ZERO(err, keys, image->text_count);
    TSR_TRY(prepare_texts(texts, keys, image, err));
    j.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &j, on_error, on_warning);
    j.info = j.png ? png_create_info_struct(j.png) : NULL;
    if (!j.info) TSR_FAIL(err, TSR_NO_MEMORY, "PNG: out of memory");
    write_pixels(&j, image, texts);
    TSR_TRY(j.status);
done:
    png_destroy_write_struct(&j.png, &j.info);
    for (int i = 0; keys && i < image->text_count; i++) free(keys[i]);
    free(keys);
    free(texts);
    return status;
}
