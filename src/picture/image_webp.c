/* image_webp.c - WebP through libwebp; its RIFF container, and the EXIF chunk in it, are read and written here.
 *
 * Container: "RIFF" size "WEBP", then chunks of a four-letter name, a little-endian size and an even number of bytes. A
 * file with metadata starts with a VP8X chunk: flags, three zeros, width - 1 and height - 1 in 24 bits each. */
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/encode.h>

#include "core/memory.h"
#include "picture_priv.h"

#define FLAG_EXIF   0x08
#define FLAG_ALPHA  0x10
#define EXIF_HEADER 6 /* "Exif\0\0", which some programs put before the block */

typedef struct chunk {
    const unsigned char *name, *data;
    size_t size;
} chunk;

static uint32_t read_u32(const unsigned char *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u32(unsigned char *p, uint32_t value) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(value >> 8 * i);
}

/* The chunk at *at (12 for the first), which moves on: 1 found, 0 at the end, -1 when it reaches past the end. */
static int next_chunk(chunk *out, size_t *at, const unsigned char *data, size_t size) {
    if (size - *at < 8) return 0;
    *out = (chunk){ data + *at, data + *at + 8, read_u32(data + *at + 4) };
    if (out->size > size - *at - 8) return -1;
    *at += 8 + out->size;
    if (out->size % 2 && *at < size) ++*at;
    return 1;
}

static tsr_status read_exif(tsr_image *image, int *orientation, const unsigned char *data, size_t size,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__text_sink sink = { image, 0, 0 };
    size_t riff = (size_t)read_u32(data + 4) + 8, at = 12;
    chunk c = { NULL, NULL, 0 };
    int found;
    if (riff > size) TSR_FAIL(err, TSR_BAD_FORMAT, "WebP: the file is cut off (%zu of %zu bytes)", size, riff);
    if (riff < 12) TSR_FAIL(err, TSR_BAD_FORMAT, "WebP: the container is too short");
    while ((found = next_chunk(&c, &at, data, riff)) > 0) {
        if (memcmp(c.name, "EXIF", 4) != 0) continue;
        if (c.size > EXIF_HEADER && !memcmp(c.data, "Exif\0", EXIF_HEADER)) {
            c.data += EXIF_HEADER;
            c.size -= EXIF_HEADER;
        }
        TSR_TRY(tsr__exif_read(&sink, orientation, c.data, c.size, err));
    }
    if (found < 0) TSR_FAIL(err, TSR_BAD_FORMAT, "WebP: the chunk at byte %zu is longer than the file", at);
done:
    return status;
}

tsr_status tsr__webp_decode(tsr_image **out, const unsigned char *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    WebPBitstreamFeatures features;
    tsr_image *image = NULL;
    int orientation = 1;
    *out = NULL;
    if (WebPGetFeatures(data, size, &features) != VP8_STATUS_OK)
        TSR_FAIL(err, TSR_BAD_FORMAT, "WebP: the header is malformed or cut off");
    if (features.has_animation) TSR_FAIL(err, TSR_UNSUPPORTED, "WebP: an animation; save one picture of it as PNG");
    TSR_TRY(tsr__image_new_loaded(&image, "WebP", (uint32_t)features.width, (uint32_t)features.height,
                                  features.has_alpha ? 4 : 3, err));
    int stride = image->width * image->channels;
    size_t bytes = (size_t)stride * (size_t)image->height;
    if (!(features.has_alpha ? WebPDecodeRGBAInto(data, size, image->pixels, bytes, stride)
                             : WebPDecodeRGBInto(data, size, image->pixels, bytes, stride)))
        TSR_FAIL(err, TSR_BAD_FORMAT, "WebP: the pixels are damaged or cut off");
    TSR_TRY(read_exif(image, &orientation, data, size, err));
    TSR_TRY(tsr__image_orient(image, orientation, err));
    *out = image;
    image = NULL;
done:
    tsr_image_free(image);
    return status;
}

static tsr_status add_chunk(tsr__bytes *out, const char *name, const unsigned char *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    unsigned char head[8];
    memcpy(head, name, 4);
    put_u32(head + 4, (uint32_t)size);
    TSR_TRY(tsr__bytes_add(out, head, 8, err));
    TSR_TRY(tsr__bytes_add(out, data, size, err));
    if (size % 2) TSR_TRY(tsr__bytes_add(out, "", 1, err));
done:
    return status;
}

/* libwebp's file again, with a VP8X header and the EXIF chunk. */
static tsr_status wrap(tsr__bytes *out, const tsr_image *image, const unsigned char *file, size_t size,
                       tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__bytes exif = { NULL, 0, 0 };
    unsigned char extended[10] = { FLAG_EXIF };
    size_t at = 12, start = out->size;
    chunk c = { NULL, NULL, 0 };
    TSR_TRY(tsr__exif_write(&exif, image, err));
    if (image->channels == 4) extended[0] |= FLAG_ALPHA;
    for (int i = 0; i < 3; i++) {
        extended[4 + i] = (unsigned char)((image->width - 1) >> 8 * i);
        extended[7 + i] = (unsigned char)((image->height - 1) >> 8 * i);
    }
    TSR_TRY(tsr__bytes_add(out, "RIFF\0\0\0\0WEBP", 12, err));
    TSR_TRY(add_chunk(out, "VP8X", extended, sizeof extended, err));
    while (next_chunk(&c, &at, file, size) > 0)
        if (memcmp(c.name, "VP8X", 4) != 0) TSR_TRY(add_chunk(out, (const char *)c.name, c.data, c.size, err));
    TSR_TRY(add_chunk(out, "EXIF", exif.data, exif.size, err));
    put_u32(out->data + start + 4, (uint32_t)(out->size - start - 8));
done:
    tsr__bytes_clear(&exif);
    return status;
}

tsr_status tsr__webp_encode(tsr__bytes *out, const tsr_image *image, int quality, tsr_error *err) {
    tsr_status status = TSR_OK;
    WebPConfig config;
    WebPPicture picture;
    WebPMemoryWriter writer;
    WebPMemoryWriterInit(&writer);
    if (!WebPPictureInit(&picture) || !WebPConfigInit(&config))
        return tsr__fail(err, TSR_BACKEND, "WebP: the library is not the version this was built with");
    if (image->width > WEBP_MAX_DIMENSION || image->height > WEBP_MAX_DIMENSION)
        TSR_FAIL(err, TSR_UNSUPPORTED, "WebP holds sides up to %d and the picture is %dx%d; save as PNG",
                 WEBP_MAX_DIMENSION, image->width, image->height);
    config.lossless = quality == 100;
    config.exact = 1;                                         /* keep the colours under full transparency */
    config.quality = quality == 100 ? 70.0f : (float)quality; /* for lossless it is the effort */
    picture.use_argb = config.lossless;
    picture.width = image->width;
    picture.height = image->height;
    picture.writer = WebPMemoryWrite;
    picture.custom_ptr = &writer;
    int stride = image->width * image->channels;
    if (!(image->channels == 4 ? WebPPictureImportRGBA(&picture, image->pixels, stride)
                               : WebPPictureImportRGB(&picture, image->pixels, stride)))
        TSR_FAIL(err, TSR_NO_MEMORY, "WebP: out of memory");
    if (!WebPEncode(&config, &picture))
        TSR_FAIL(err, TSR_BACKEND, "WebP: encoding stopped (libwebp error %d)", (int)picture.error_code);
    if (image->text_count) TSR_TRY(wrap(out, image, writer.mem, writer.size, err));
    else TSR_TRY(tsr__bytes_add(out, writer.mem, writer.size, err));
done:
    WebPPictureFree(&picture);
    WebPMemoryWriterClear(&writer);
    return status;
}
