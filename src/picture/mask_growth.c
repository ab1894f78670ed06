/* mask_growth.c - a region's mask widened by its overlap, and the base masks that remain.
 *
 * Owns the rules of the Impact Pack's mask_erosion (it grows, whatever its name), RegionalSampler's and the two-sampler
 * nodes' base masks. The result of a growth is rounded, so it must equal the reference's in every pixel. */
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "resize_priv.h"
#include "tessera/mask.h"

#define OVERLAP_MAX 10000

/* Whether a window of `overlap` samples around each position holds a set one, along one line; stride as in memory.
 * The window starts ceil((overlap - 1) / 2) before the position: of an even overlap one more lies before than after. */
static void widen_line(float *line, size_t stride, int count, int overlap, float *copy) {
    int before = overlap / 2, after = overlap - 1 - before;
    int last = -OVERLAP_MAX * 2; /* the last set sample seen, at most position + after */
    for (int i = 0; i < count; i++) copy[i] = line[(size_t)i * stride];
    for (int i = 0; i < after && i < count; i++)
        if (copy[i] != 0.0f) last = i;
    for (int i = 0; i < count; i++) {
        if (i + after < count && copy[i + after] != 0.0f) last = i + after;
        line[(size_t)i * stride] = last >= i - before ? 1.0f : 0.0f;
    }
}

/* A box sum clamped to 1 of a 0/1 mask is "any set sample in the box", which splits into rows and columns. */
static tsr_status widen(tsr_mask *mask, int overlap, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *copy = NULL;
    TSR_ALLOC(err, copy, mask->width > mask->height ? mask->width : mask->height);
    for (int y = 0; y < mask->height; y++)
        widen_line(mask->values + (size_t)y * (size_t)mask->width, 1, mask->width, overlap, copy);
    for (int x = 0; x < mask->width; x++)
        widen_line(mask->values + x, (size_t)mask->width, mask->height, overlap, copy);
done:
    free(copy);
    return status;
}

tsr_status tsr_mask_grow(tsr_mask **out, const tsr_mask *mask, int width, int height, int overlap, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *grown = NULL;
    *out = NULL;
    if (overlap < 0 || overlap > OVERLAP_MAX)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "overlap of %d: must be 0..%d", overlap, OVERLAP_MAX);
    TSR_TRY(tsr_mask_resize(&grown, mask, width, height, err));
    for (size_t i = 0; i < (size_t)width * (size_t)height; i++) grown->values[i] = rintf(grown->values[i]);
    if (overlap > 1) TSR_TRY(widen(grown, overlap, err));
    *out = grown;
    grown = NULL;
done:
    tsr_mask_free(grown);
    return status;
}

tsr_status tsr_mask_region_growth(tsr_mask **out, const tsr_mask *mask, int width, int height, int overlap,
                                  tsr_error *err) {
    return tsr_mask_grow(out, mask, height, width, overlap, err);
}

tsr_status tsr_mask_inverse_of_union(tsr_mask **out, const tsr_mask *const *masks, int count, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *inverse = NULL;
    *out = NULL;
    if (!masks || count < 1) TSR_FAIL(err, TSR_BAD_ARGUMENT, "base mask: there is no region mask");
    for (int k = 1; k < count; k++)
        if (masks[k]->width != masks[0]->width || masks[k]->height != masks[0]->height)
            TSR_FAIL(
                err, TSR_BAD_ARGUMENT,
                "base mask: region mask %d is %dx%d but the first is %dx%d; make all masks the size of the picture",
                k + 1, masks[k]->width, masks[k]->height, masks[0]->width, masks[0]->height);
    TSR_TRY(tsr_mask_new(&inverse, masks[0]->width, masks[0]->height, 1.0f, err));
    for (int k = 0; k < count; k++)
        for (size_t i = 0; i < (size_t)inverse->width * (size_t)inverse->height; i++)
            if (ceilf(masks[k]->values[i]) != 0.0f) inverse->values[i] = 0.0f;
    *out = inverse;
    inverse = NULL;
done:
    tsr_mask_free(inverse);
    return status;
}

tsr_status tsr_mask_inverse_not_one(tsr_mask **out, const tsr_mask *mask, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr_mask_copy(out, mask, err));
    for (size_t i = 0; i < (size_t)mask->width * (size_t)mask->height; i++)
        (*out)->values[i] = mask->values[i] != 1.0f ? 1.0f : 0.0f;
done:
    return status;
}
