/* fuzz_png_text.c - pictures from anywhere: PNG, JPEG and WebP with their texts (PNG chunks, EXIF).
 *
 * Whatever loads and can be saved again as PNG must load again. The corpus holds small sound files of every kind, and
 * the same ones cut off, with hostile lengths, and with checksums made right again so that the texts are reached. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "tessera/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tsr_image *image = NULL, *again = NULL;
    void *saved = NULL;
    size_t saved_size = 0;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr_image_load_memory(&image, data, size, &err) != TSR_OK) {
        if (image || !err.message[0]) abort(); /* a failure gives no picture and says why */
        return 0;
    }
    if ((size_t)image->width * (size_t)image->height <= 1 << 16 &&
        tsr_image_save_memory(&saved, &saved_size, image, ".png", 0, NULL) == TSR_OK &&
        tsr_image_load_memory(&again, saved, saved_size, NULL) != TSR_OK)
        abort();
    tsr_image_free(again);
    tsr_image_free(image);
    free(saved);
    return 0;
}
