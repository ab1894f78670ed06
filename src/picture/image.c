/* image.c - pictures in memory, their texts, and the choice of file format.
 *
 * Owns tsr_image and the limits of its texts. Each format's bytes are the matter of image_png.c, image_jpeg.c and
 * image_webp.c. */
#include "tessera/image.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/memory.h"
#include "picture_priv.h"

#define FILE_BYTES_MAX  ((size_t)1 << 30)
#define DEFAULT_QUALITY 95

static tsr_status allocate_image(tsr_image **out, int width, int height, int channels, int zeroed, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    size_t bytes = (size_t)width * (size_t)height * (size_t)channels;
    *out = NULL;
    TSR_ALLOC_ZERO(err, image, 1);
    image->width = width;
    image->height = height;
    image->channels = channels;
    TSR_ALLOC(err, image->pixels, bytes);
    if (zeroed) memset(image->pixels, 0, bytes);
    *out = image;
    image = NULL;
done:
    tsr_image_free(image);
    return status;
}

tsr_status tsr_image_new(tsr_image **out, int width, int height, int channels, tsr_error *err) {
    *out = NULL;
    if (width < 1 || height < 1 || width > TSR_IMAGE_MAX_SIDE || height > TSR_IMAGE_MAX_SIDE)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "picture of %dx%d: each side must be 1..%d", width, height,
                         TSR_IMAGE_MAX_SIDE);
    if (channels != 3 && channels != 4)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "picture of %d channels: must be 3 or 4", channels);
    return allocate_image(out, width, height, channels, 1, err);
}

tsr_status tsr__image_new_loaded(tsr_image **out, const char *format, uint32_t width, uint32_t height, int channels,
                                 tsr_error *err) {
    *out = NULL;
    if (width < 1 || height < 1) return tsr__fail(err, TSR_BAD_FORMAT, "%s: the picture is empty", format);
    if (width > TSR_IMAGE_MAX_SIDE || height > TSR_IMAGE_MAX_SIDE)
        return tsr__fail(err, TSR_TOO_LARGE, "%s: picture of %ux%u; each side may be at most %d", format, width, height,
                         TSR_IMAGE_MAX_SIDE);
    if (channels != 3 && channels != 4)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: pixels of %d channels", format, channels);
    return allocate_image(out, (int)width, (int)height, channels, 0, err);
}

void tsr_image_free(tsr_image *image) {
    if (!image) return;
    for (int i = 0; i < image->text_count; i++) {
        free(image->texts[i].key);
        free(image->texts[i].text);
    }
    free(image->texts);
    free(image->pixels);
    free(image);
}

/* Adds or replaces a text; takes both strings, also when it fails. */
static tsr_status take_text(tsr_image *image, char *key, char *text, tsr_error *err) {
    for (int i = 0; i < image->text_count; i++) {
        if (strcmp(image->texts[i].key, key) != 0) continue;
        free(key);
        free(image->texts[i].text);
        image->texts[i].text = text;
        return TSR_OK;
    }
    tsr_text_entry *grown = NULL;
    if (image->text_count < TSR__TEXT_COUNT_MAX)
        grown = realloc(image->texts, ((size_t)image->text_count + 1) * sizeof *grown);
    if (!grown) {
        free(key);
        free(text);
        return image->text_count < TSR__TEXT_COUNT_MAX
                   ? tsr__fail(err, TSR_NO_MEMORY, "out of memory")
                   : tsr__fail(err, TSR_TOO_LARGE, "a picture holds at most %d texts", TSR__TEXT_COUNT_MAX);
    }
    image->texts = grown;
    image->texts[image->text_count++] = (tsr_text_entry){ key, text };
    return TSR_OK;
}

tsr_status tsr_image_set_text(tsr_image *image, const char *key, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *key_copy = NULL, *text_copy = NULL;
    size_t bytes = 0;
    if (!image || !key || !*key || !text)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "picture text: no picture, no key or no text");
    if (!tsr__utf8_valid((const unsigned char *)key, strlen(key)) ||
        !tsr__utf8_valid((const unsigned char *)text, strlen(text)))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "picture text \"%.40s\": not valid UTF-8", key);
    for (int i = 0; i < image->text_count; i++)
        if (strcmp(image->texts[i].key, key) != 0) bytes += strlen(image->texts[i].key) + strlen(image->texts[i].text);
    if (bytes + strlen(key) + strlen(text) > TSR__TEXT_BYTES_MAX)
        TSR_FAIL(err, TSR_TOO_LARGE, "picture text \"%.40s\": all texts together may be at most %zu bytes", key,
                 TSR__TEXT_BYTES_MAX);
    key_copy = tsr__strdup(key);
    text_copy = tsr__strdup(text);
    if (!key_copy || !text_copy) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    status = take_text(image, key_copy, text_copy, err);
    key_copy = text_copy = NULL;
done:
    free(key_copy);
    free(text_copy);
    return status;
}

const char *tsr_image_text(const tsr_image *image, const char *key) {
    for (int i = 0; i < image->text_count; i++)
        if (!strcmp(image->texts[i].key, key)) return image->texts[i].text;
    return NULL;
}

static tsr_status decode_text(char **out, const unsigned char *text, size_t size, tsr__encoding encoding,
                              tsr_error *err) {
    if (encoding == TSR__UTF16LE || encoding == TSR__UTF16BE)
        return tsr__utf8_from_utf16(out, text, size, encoding == TSR__UTF16BE, err);
    if (encoding == TSR__UTF8_OR_LATIN1) {
        const unsigned char *end = memchr(text, 0, size);
        if (end) size = (size_t)(end - text);
        if (tsr__utf8_valid(text, size)) {
            char *copy = malloc(size + 1);
            if (!copy) return tsr__fail(err, TSR_NO_MEMORY, "out of memory (%zu bytes)", size + 1);
            memcpy(copy, text, size);
            copy[size] = 0;
            *out = copy;
            return TSR_OK;
        }
    }
    return tsr__utf8_from_latin1(out, text, size, err);
}

tsr_status tsr__sink_text(tsr__text_sink *sink, const void *key, size_t key_size, const void *text, size_t text_size,
                          tsr__encoding encoding, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *key_copy = NULL, *text_copy = NULL;
    if (key_size == 0 || *(const char *)key == 0) return TSR_OK;
    if (sink->count >= TSR__TEXT_COUNT_MAX)
        TSR_FAIL(err, TSR_TOO_LARGE, "metadata: more than %d texts", TSR__TEXT_COUNT_MAX);
    if (key_size + text_size > TSR__TEXT_BYTES_MAX - sink->bytes)
        TSR_FAIL(err, TSR_TOO_LARGE, "metadata: more than %zu bytes of text", TSR__TEXT_BYTES_MAX);
    sink->count++;
    sink->bytes += key_size + text_size;
    TSR_TRY(decode_text(&key_copy, key, key_size, encoding == TSR__UTF8_OR_LATIN1 ? encoding : TSR__LATIN1, err));
    TSR_TRY(decode_text(&text_copy, text_size ? text : "", text_size, encoding, err));
    status = take_text(sink->image, key_copy, text_copy, err);
    key_copy = text_copy = NULL;
done:
    free(key_copy);
    free(text_copy);
    return status;
}

tsr_status tsr__image_orient(tsr_image *image, int orientation, tsr_error *err) {
    tsr_status status = TSR_OK;
    unsigned char *turned = NULL;
    int w = image->width, h = image->height, c = image->channels;
    if (orientation < 2 || orientation > 8) return TSR_OK;
    TSR_ALLOC(err, turned, (size_t)w * (size_t)h * (size_t)c);
    int swapped = orientation >= 5, tw = swapped ? h : w, th = swapped ? w : h;
    /* Where the stored column and row run: 2, 3, 7, 8 come from the far column, 3, 4, 6, 7 from the far row. */
    int far_column = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    int far_row = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    for (int y = 0; y < th; y++)
        for (int x = 0; x < tw; x++) {
            int column = swapped ? y : x, row = swapped ? x : y;
            if (far_column) column = w - 1 - column;
            if (far_row) row = h - 1 - row;
            memcpy(turned + ((size_t)y * (size_t)tw + (size_t)x) * (size_t)c,
                   image->pixels + ((size_t)row * (size_t)w + (size_t)column) * (size_t)c, (size_t)c);
        }
    free(image->pixels);
    image->pixels = turned;
    image->width = tw;
    image->height = th;
    turned = NULL;
done:
    free(turned);
    return status;
}

tsr_status tsr_image_load_memory(tsr_image **out, const void *data, size_t size, tsr_error *err) {
    const unsigned char *bytes = data;
    *out = NULL;
    if (size >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8)) return tsr__png_decode(out, bytes, size, err);
    if (size >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3)) return tsr__jpeg_decode(out, bytes, size, err);
    if (size >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp(bytes + 8, "WEBP", 4))
        return tsr__webp_decode(out, bytes, size, err);
    return tsr__fail(err, TSR_BAD_FORMAT, "not a PNG, JPEG or WebP picture");
}

tsr_status tsr_image_load(tsr_image **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error inner = TSR_ERROR_INIT;
    void *data = NULL;
    size_t size = 0;
    *out = NULL;
    TSR_TRY(tsr__read_file(&data, &size, path, FILE_BYTES_MAX, err));
    status = tsr_image_load_memory(out, data, size, &inner);
    if (status != TSR_OK) status = tsr__fail(err, status, "%s: %s", path, inner.message);
done:
    free(data);
    return status;
}

typedef tsr_status (*encode_fn)(tsr__bytes *out, const tsr_image *image, int quality, tsr_error *err);

static const struct {
    const char *extension;
    encode_fn encode;
} FORMATS[] = {
    { ".png", tsr__png_encode },
    { ".jpg", tsr__jpeg_encode },
    { ".jpeg", tsr__jpeg_encode },
    { ".webp", tsr__webp_encode },
};

static tsr_status encode(tsr__bytes *out, const tsr_image *image, const char *name, int quality, tsr_error *err) {
    if (!image || !name) return tsr__fail(err, TSR_BAD_ARGUMENT, "no picture to save, or no name for it");
    if (quality < 0 || quality > 100)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "quality %d: must be 1..100, or 0 for %d", quality, DEFAULT_QUALITY);
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof FORMATS / sizeof *FORMATS; i++)
        if (!strcasecmp(dot, FORMATS[i].extension))
            return FORMATS[i].encode(out, image, quality ? quality : DEFAULT_QUALITY, err);
    return tsr__fail(err, TSR_BAD_ARGUMENT,
                     "%s: unknown picture format; use a name ending in .png, .jpg, .jpeg or .webp", name);
}

tsr_status tsr_image_save_memory(void **out, size_t *size_out, const tsr_image *image, const char *extension,
                                 int quality, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__bytes bytes = { NULL, 0, 0 };
    *out = NULL;
    *size_out = 0;
    TSR_TRY(encode(&bytes, image, extension, quality, err));
    *out = bytes.data;
    *size_out = bytes.size;
    bytes.data = NULL;
done:
    tsr__bytes_clear(&bytes);
    return status;
}

tsr_status tsr_image_save(const tsr_image *image, const char *path, int quality, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error inner = TSR_ERROR_INIT;
    tsr__outfile *file = NULL;
    tsr__bytes bytes = { NULL, 0, 0 };
    status = encode(&bytes, image, path, quality, &inner);
    if (status != TSR_OK)
        TSR_FAIL(err, status, "%s%s%s", path && strncmp(inner.message, path, strlen(path)) ? path : "",
                 path && strncmp(inner.message, path, strlen(path)) ? ": " : "", inner.message);
    TSR_TRY(tsr__outfile_open(&file, path, err));
    TSR_TRY(tsr__outfile_write(file, bytes.data, bytes.size, err));
    status = tsr__outfile_commit(file, err);
    file = NULL;
done:
    tsr__outfile_abort(file);
    tsr__bytes_clear(&bytes);
    return status;
}

void tsr_image_to_floats(const tsr_image *image, float *out) {
    for (size_t i = 0; i < (size_t)image->width * (size_t)image->height; i++)
        for (size_t c = 0; c < 3; c++) out[i * 3 + c] = (float)image->pixels[i * (size_t)image->channels + c] / 255.0f;
}

tsr_status tsr_image_from_floats(tsr_image **out, const float *rgb, int width, int height, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr_image_new(out, width, height, 3, err));
    for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++) {
        float v = 255.0f * rgb[i];
        (*out)->pixels[i] = (unsigned char)(v > 0.0f ? (v < 255.0f ? v : 255.0f) : 0.0f);
    }
done:
    return status;
}
