/* picture_priv.h - what image.c shares with the files of the formats: texts while loading, bytes while saving. */
#ifndef TSR_PICTURE_PRIV_H
#define TSR_PICTURE_PRIV_H

#include "core/check.h"
#include "tessera/image.h"

/* Limits of a file's texts, all together. */
#define TSR__TEXT_COUNT_MAX 1024
#define TSR__TEXT_BYTES_MAX ((size_t)64 << 20)

/* A growing run of bytes. Start from { 0 }, release with tsr__bytes_clear. */
typedef struct tsr__bytes {
    unsigned char *data;
    size_t size, room;
} tsr__bytes;
tsr_status tsr__bytes_add(tsr__bytes *bytes, const void *data, size_t size, tsr_error *err);
void tsr__bytes_clear(tsr__bytes *bytes);

/* text_codec.c. Results are fresh strings, released with free(); a NUL in the input ends the text. */
int tsr__utf8_valid(const unsigned char *text, size_t size);
tsr_status tsr__utf8_from_latin1(char **out, const unsigned char *text, size_t size, tsr_error *err);
tsr_status tsr__utf8_from_utf16(char **out, const unsigned char *text, size_t size, int big_endian, tsr_error *err);
/* The text as Latin-1 in a fresh string; *out stays NULL, with TSR_OK, when it holds other letters. */
tsr_status tsr__latin1_from_utf8(char **out, const char *text, tsr_error *err);
tsr_status tsr__bytes_add_utf16be(tsr__bytes *bytes, const char *text, tsr_error *err);

/* Texts found in a file go through a sink, which counts them against the limits. */
typedef struct tsr__text_sink {
    tsr_image *image;
    size_t bytes;
    int count;
} tsr__text_sink;
typedef enum tsr__encoding { TSR__LATIN1, TSR__UTF8_OR_LATIN1, TSR__UTF16LE, TSR__UTF16BE } tsr__encoding;
/* key is Latin-1 (PNG keyword) or UTF-8; both are converted and copied. An empty key is ignored. */
tsr_status tsr__sink_text(tsr__text_sink *sink, const void *key, size_t key_size, const void *text, size_t text_size,
                          tsr__encoding encoding, tsr_error *err);

/* png_text.c: the texts of a whole PNG file; also checks that its chunks fit into it. */
tsr_status tsr__png_read_texts(tsr__text_sink *sink, const unsigned char *data, size_t size, tsr_error *err);

/* exif.c: a TIFF block as it stands in JPEG's APP1 (after "Exif\0\0") and WebP's EXIF chunk. Reading ignores what is
 * out of bounds or unknown; *orientation is set if the block has one. Writing adds to out, nothing without texts. */
tsr_status tsr__exif_read(tsr__text_sink *sink, int *orientation, const unsigned char *tiff, size_t size,
                          tsr_error *err);
tsr_status tsr__exif_write(tsr__bytes *out, const tsr_image *image, tsr_error *err);

/* Turns and mirrors the pixels by an EXIF orientation, 1..8. */
tsr_status tsr__image_orient(tsr_image *image, int orientation, tsr_error *err);
/* As tsr_image_new, but pixels are left unset and a wrong size is the file's fault (BAD_FORMAT or TOO_LARGE). */
tsr_status tsr__image_new_loaded(tsr_image **out, const char *format, uint32_t width, uint32_t height, int channels,
                                 tsr_error *err);

/* One pair a format. quality is 1..100. */
tsr_status tsr__png_decode(tsr_image **out, const unsigned char *data, size_t size, tsr_error *err);
tsr_status tsr__png_encode(tsr__bytes *out, const tsr_image *image, int quality, tsr_error *err);
tsr_status tsr__jpeg_decode(tsr_image **out, const unsigned char *data, size_t size, tsr_error *err);
tsr_status tsr__jpeg_encode(tsr__bytes *out, const tsr_image *image, int quality, tsr_error *err);
tsr_status tsr__webp_decode(tsr_image **out, const unsigned char *data, size_t size, tsr_error *err);
tsr_status tsr__webp_encode(tsr__bytes *out, const tsr_image *image, int quality, tsr_error *err);

#endif /* TSR_PICTURE_PRIV_H */
