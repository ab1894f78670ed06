/* fuzz_png_text.c - pictures from anywhere: PNG, JPEG and WebP with their texts (PNG chunks, EXIF).
 *
 * A PNG is tried as it is and with its checksums made right, so that changed chunks are read and not only refused.
 * Whatever loads and can be saved again as PNG must load again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_picture(const uint8_t *data, size_t size) {
    tsr_image *image = NULL, *again = NULL;
    void *saved = NULL;
    size_t saved_size = 0;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr_image_load_memory(&image, data, size, &err) != TSR_OK) {
        if (image || !err.message[0]) abort(); /* a failure gives no picture and says why */
        return;
    }
    if ((size_t)image->width * (size_t)image->height <= 1 << 16 &&
        tsr_image_save_memory(&saved, &saved_size, image, ".png", 0, NULL) == TSR_OK &&
        tsr_image_load_memory(&again, saved, saved_size, NULL) != TSR_OK)
        abort();
    tsr_image_free(again);
    tsr_image_free(image);
    free(saved);
}

static uint32_t checksum(const uint8_t *data, size_t size) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* Writes the right checksum behind every chunk that fits into the file. */
static void repair(uint8_t *png, size_t size) {
    for (size_t at = 8; size - at >= 12;) {
        size_t length = (size_t)png[at] << 24 | (size_t)png[at + 1] << 16 | (size_t)png[at + 2] << 8 | png[at + 3];
        if (length > size - at - 12) break;
        uint32_t crc = checksum(png + at + 4, length + 4);
        for (int i = 0; i < 4; i++) png[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += length + 12;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_picture(data, size);
    if (size < 8 || size > 1 << 20 || memcmp(data, "\x89PNG\r\n\x1a\n", 8) != 0) return 0;
    uint8_t *copy = malloc(size);
    if (!copy) return 0;
    memcpy(copy, data, size);
    repair(copy, size);
    try_picture(copy, size);
    free(copy);
    return 0;
}
