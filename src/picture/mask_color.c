/* mask_color.c - masks taken from pictures: by channel, or by an exact colour.
 *
 * Owns the rules of ComfyUI's LoadImage mask and of the Inspire Pack's colour masks. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "tessera/mask.h"

static float weigh_pixel(const unsigned char *p, int channels, tsr_mask_channel channel) {
    switch (channel) {
    case TSR_MASK_LUMA: return (float)(p[0] + p[1] + p[2]) / 765.0f;
    case TSR_MASK_ALPHA: return channels == 4 ? 1.0f - (float)p[3] / 255.0f : 0.0f;
    case TSR_MASK_RED: return (float)p[0] / 255.0f;
    case TSR_MASK_GREEN: return (float)p[1] / 255.0f;
    case TSR_MASK_BLUE: return (float)p[2] / 255.0f;
    }
    return 0.0f;
}

tsr_status tsr_mask_from_image(tsr_mask **out, const tsr_image *image, tsr_mask_channel channel, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    if (!image) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no picture to take a mask from");
    if ((int)channel < TSR_MASK_LUMA || channel > TSR_MASK_BLUE)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "mask: no channel number %d", (int)channel);
    TSR_TRY(tsr_mask_new(out, image->width, image->height, 0.0f, err));
    for (size_t i = 0; i < (size_t)image->width * (size_t)image->height; i++)
        (*out)->values[i] = weigh_pixel(image->pixels + i * (size_t)image->channels, image->channels, channel);
done:
    return status;
}

tsr_status tsr_mask_from_color(tsr_mask **out, const tsr_image *image, unsigned rgb, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    if (!image) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no picture to take a mask from");
    if (rgb > 0xffffff) TSR_FAIL(err, TSR_BAD_ARGUMENT, "colour 0x%x: must be 0x000000..0xffffff", rgb);
    TSR_TRY(tsr_mask_new(out, image->width, image->height, 0.0f, err));
    for (size_t i = 0; i < (size_t)image->width * (size_t)image->height; i++) {
        const unsigned char *p = image->pixels + i * (size_t)image->channels;
        (*out)->values[i] = ((unsigned)p[0] << 16 | (unsigned)p[1] << 8 | p[2]) == rgb ? 1.0f : 0.0f;
    }
done:
    return status;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

tsr_status tsr_mask_parse_color(unsigned *out, const char *text, tsr_error *err) {
    *out = 0;
    const char *digits = !text ? "" : text[0] == '#' ? text + 1 : text;
    size_t count = strlen(digits);
    unsigned rgb = 0;
    for (size_t i = 0; i < count && (count == 3 || count == 6); i++) {
        int digit = hex_digit(digits[i]);
        if (digit < 0) count = 0;
        /* A short colour repeats each digit: #f80 is #ff8800. */
        else rgb = count == 3 ? rgb << 8 | (unsigned)digit * 17 : rgb << 4 | (unsigned)digit;
    }
    if (count != 3 && count != 6)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "\"%s\" is not a colour; write it as #RRGGBB, for example #ff8000",
                         text ? text : "");
    *out = rgb;
    return TSR_OK;
}
