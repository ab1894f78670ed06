/* latent.c - latents as plain memory: made, copied, laid over one another.
 *
 * Owns tsr_latent; .latent files are read and written in src/weights, which knows safetensors. */
#include "tessera/latent.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "mask_priv.h"
#include "resize_priv.h"

tsr_status tsr_latent_new(tsr_latent **out, int n, int c, int h, int w, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *latent = NULL;
    *out = NULL;
    if (n < 1 || n > 4096 || c < 1 || c > 64 || h < 1 || h > 2048 || w < 1 || w > 2048)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "latent of shape [%d, %d, %d, %d]: n must be 1..4096, c 1..64, h and w 1..2048",
                 n, c, h, w);
    TSR_ALLOC_ZERO(err, latent, 1);
    latent->shape[0] = n;
    latent->shape[1] = c;
    latent->shape[2] = h;
    latent->shape[3] = w;
    TSR_ALLOC_ZERO(err, latent->values, tsr_latent_count(latent));
    *out = latent;
    latent = NULL;
done:
    tsr_latent_free(latent);
    return status;
}

void tsr_latent_free(tsr_latent *latent) {
    if (!latent) return;
    free(latent->values);
    tsr_mask_free(latent->noise_mask);
    free(latent->batch_index);
    free(latent);
}

tsr_status tsr_latent_copy(tsr_latent **out, const tsr_latent *latent, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *copy = NULL;
    *out = NULL;
    if (!latent) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no latent to copy");
    TSR_TRY(tsr_latent_new(&copy, latent->shape[0], latent->shape[1], latent->shape[2], latent->shape[3], err));
    memcpy(copy->values, latent->values, tsr_latent_count(latent) * sizeof *copy->values);
    if (latent->noise_mask) TSR_TRY(tsr_mask_copy(&copy->noise_mask, latent->noise_mask, err));
    if (latent->batch_index) {
        TSR_ALLOC(err, copy->batch_index, latent->shape[0]);
        memcpy(copy->batch_index, latent->batch_index, (size_t)latent->shape[0] * sizeof *copy->batch_index);
    }
    *out = copy;
    copy = NULL;
done:
    tsr_latent_free(copy);
    return status;
}

size_t tsr_latent_count(const tsr_latent *latent) {
    return (size_t)latent->shape[0] * (size_t)latent->shape[1] * (size_t)latent->shape[2] * (size_t)latent->shape[3];
}

/* Mixes the part of a source plane that falls on the destination plane; weight NULL = 1 everywhere. */
static void mix_plane(float *to, int to_h, int to_w, const float *from, int from_h, int from_w, const float *weight,
                      int x, int y) {
    for (int j = y < 0 ? -y : 0; j < from_h && j + y < to_h; j++) {
        for (int i = x < 0 ? -x : 0; i < from_w && i + x < to_w; i++) {
            size_t at = (size_t)j * (size_t)from_w + (size_t)i;
            float *d = to + (size_t)(j + y) * (size_t)to_w + (size_t)(i + x);
            float m = weight ? weight[at] : 1.0f;
            *d = m * from[at] + (1.0f - m) * *d;
        }
    }
}

tsr_status tsr_latent_composite(tsr_latent *destination, const tsr_latent *source, int x, int y, const tsr_mask *mask,
                                tsr_error *err) {
    tsr_status status = TSR_OK;
    float *weight = NULL; /* [h, w] of the source */
    if (!destination || !source) TSR_FAIL(err, TSR_BAD_ARGUMENT, "latent composite: destination or source is missing");
    const int *to = destination->shape, *from = source->shape;
    if (to[1] != from[1])
        TSR_FAIL(err, TSR_BAD_ARGUMENT,
                 "latent composite: the source has %d channels and the destination %d; both must come from the same "
                 "kind of VAE",
                 from[1], to[1]);
    /* Far outside is outside: the bounds also keep the sums below from overflowing. */
    if (x >= to[3] || y >= to[2] || x <= -from[3] || y <= -from[2]) return TSR_OK;
    if (mask) TSR_ALLOC(err, weight, (size_t)from[2] * (size_t)from[3]);
    for (int n = 0; n < to[0]; n++) {
        if (mask && (n == 0 || tsr__mask_count(mask) > 1))
            TSR_TRY(tsr__resize_bilinear(weight, from[2], from[3], tsr__mask_item(mask, n), mask->height, mask->width,
                                         0, err));
        for (int c = 0; c < to[1]; c++)
            mix_plane(destination->values + ((size_t)n * (size_t)to[1] + (size_t)c) * (size_t)to[2] * (size_t)to[3],
                      to[2], to[3],
                      /* A smaller batch is repeated, as ComfyUI does. */
                      source->values +
                          ((size_t)(n % from[0]) * (size_t)from[1] + (size_t)c) * (size_t)from[2] * (size_t)from[3],
                      from[2], from[3], weight, x, y);
    }
done:
    free(weight);
    return status;
}
