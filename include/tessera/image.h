/* tessera/image.h - pictures: 8-bit RGB or RGBA, read and written with their metadata.
 *
 * Threads: a tsr_image is plain memory; share it for reading only. */
#ifndef TSR_IMAGE_H
#define TSR_IMAGE_H

#include "tessera/status.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_text_entry {
    char *key;  /* "parameters", "tessera", "prompt", "workflow", ... */
    char *text; /* UTF-8 */
} tsr_text_entry;

/* Rows top to bottom, interleaved channels, no padding. Made by the functions below, released by tsr_image_free. */
typedef struct tsr_image {
    int width, height;
    int channels;          /* 3 = RGB, 4 = RGBA */
    unsigned char *pixels; /* [height, width, channels] */
    tsr_text_entry *texts; /* metadata, in file order */
    int text_count;
} tsr_image;

#define TSR_IMAGE_MAX_SIDE 16384

/* Pixels are zeroed. channels is 3 or 4; sides 1..TSR_IMAGE_MAX_SIDE. */
TSR_API tsr_status tsr_image_new(tsr_image **out, int width, int height, int channels, tsr_error *err);
TSR_API void tsr_image_free(tsr_image *image); /* NULL is allowed */
/* Adds or replaces a text; both strings are UTF-8 and copied. At most 1024 texts of 64 MiB together. */
TSR_API tsr_status tsr_image_set_text(tsr_image *image, const char *key, const char *text, tsr_error *err);
TSR_API const char *tsr_image_text(const tsr_image *image, const char *key); /* NULL when absent; owned by the image */

/* PNG, JPEG or WebP, told apart by content. Palette, grey and 16-bit PNGs become RGB(A); the EXIF orientation of JPEG
 * and WebP is applied. Metadata: PNG tEXt/zTXt/iTXt; JPEG and WebP EXIF UserComment as "parameters" and ComfyUI's EXIF
 * "prompt:"/"workflow:" strings; WebP/JPEG written by Tessera carry every text in EXIF (docs/metadata.md).
 * Errors: NOT_FOUND, IO, BAD_FORMAT, TOO_LARGE, UNSUPPORTED. */
TSR_API tsr_status tsr_image_load(tsr_image **out, const char *path, tsr_error *err);
TSR_API tsr_status tsr_image_load_memory(tsr_image **out, const void *data, size_t size, tsr_error *err);
/* Format by the name's extension (.png .jpg .jpeg .webp). quality 1..100 for JPEG and WebP (100 in WebP = lossless),
 * 0 = 95. Written to a temporary beside it, then renamed. JPEG: UNSUPPORTED with alpha, TOO_LARGE when the texts do not
 * fit 64 KiB. */
TSR_API tsr_status tsr_image_save(const tsr_image *image, const char *path, int quality, tsr_error *err);
/* The same bytes in memory; extension as in a file's name (".png"). Release *out with free(). */
TSR_API tsr_status tsr_image_save_memory(void **out, size_t *size_out, const tsr_image *image, const char *extension,
                                         int quality, tsr_error *err);

/* float32 [height, width, 3] in 0..1 from pixels (value / 255), and back with clamping and truncation of 255 * v as
 * ComfyUI's SaveImage does. to_floats: out has room for height * width * 3. */
TSR_API void tsr_image_to_floats(const tsr_image *image, float *out);
TSR_API tsr_status tsr_image_from_floats(tsr_image **out, const float *rgb, int width, int height, tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_IMAGE_H */
