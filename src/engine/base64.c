/* engine/base64.c - RFC 4648 base64, for mask files kept inside metadata. Knows nothing of what the bytes are. */
#include <stdlib.h>
#include <string.h>

#include "engine/scene_priv.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

tsr_status tsr__base64_encode(char **out, const void *data, size_t size, tsr_error *err) {
    const unsigned char *in = data;
    char *text = NULL, *to = NULL;
    *out = NULL;
    if (size > TSR__SCENE_MAX_BYTES) return tsr__fail(err, TSR_TOO_LARGE, "%zu bytes are too many for base64", size);
    text = malloc((size + 2) / 3 * 4 + 1);
    if (!text) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    to = text;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        unsigned bits =
            (unsigned)in[i] << 16 | (left > 1 ? (unsigned)in[i + 1] << 8 : 0u) | (left > 2 ? in[i + 2] : 0u);
        *to++ = alphabet[bits >> 18];
        *to++ = alphabet[bits >> 12 & 63];
        *to++ = left > 1 ? alphabet[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? alphabet[bits & 63] : '=';
    }
    *to = 0;
    *out = text;
    return TSR_OK;
}

tsr_status tsr__base64_decode(void **out, size_t *size_out, const char *text, size_t limit, tsr_error *err) {
    tsr_status status = TSR_OK;
    unsigned char *data = NULL;
    size_t length = strlen(text), used = 0;
    *out = NULL;
    *size_out = 0;
    if (length % 4) TSR_FAIL(err, TSR_BAD_FORMAT, "base64 text of %zu characters is cut off", length);
    if (length / 4 * 3 > limit + 2) TSR_FAIL(err, TSR_TOO_LARGE, "base64 data is over the limit of %zu bytes", limit);
    data = malloc(length / 4 * 3 + 1);
    if (!data) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < length; i += 4) {
        unsigned bits = 0;
        int padding = 0;
        for (size_t k = 0; k < 4; k++) {
            char c = text[i + k];
            const char *place = c ? strchr(alphabet, c) : NULL;
            int pad_allowed = i + 4 == length && (k == 3 || (k == 2 && text[i + 3] == '='));
            if (c == '=' && pad_allowed) padding++;
            else if (!place) TSR_FAIL(err, TSR_BAD_FORMAT, "character %zu is not base64", i + k + 1);
            bits = bits << 6 | (unsigned)(place ? place - alphabet : 0);
        }
        data[used++] = (unsigned char)(bits >> 16);
        if (padding < 2) data[used++] = (unsigned char)(bits >> 8);
        if (padding < 1) data[used++] = (unsigned char)bits;
    }
    *out = data;
    *size_out = used;
    data = NULL;
done:
    free(data);
    return status;
}
