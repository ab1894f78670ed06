/* mask_widen.c - masks wider or narrower by a number of pixels, the same in every direction. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "tessera/mask.h"

/* out[x] = the largest of in[x - reach] to in[x + reach], as far as they exist. queue: room for `count` indices. */
static void widen_row(float *out, const float *in, int count, int reach, int *queue) {
    int first = 0, last = 0, next = 0; /* indices of ever smaller values in queue[first, last) */
    for (int x = 0; x < count; x++) {
        for (; next < count && next <= x + reach; next++) {
            while (last > first && in[queue[last - 1]] <= in[next]) last--;
            queue[last++] = next;
        }
        while (queue[first] < x - reach) first++;
        out[x] = in[queue[first]];
    }
}

/* A disc is a stack of rows: the further from its middle, the shorter. */
tsr_status tsr_mask_widen(tsr_mask *mask, int radius_px, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *in = NULL, *row = NULL;
    int *queue = NULL;
    if (!mask) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no mask to widen");
    if (radius_px < -4096 || radius_px > 4096)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "widening a mask by %d pixels: must be -4096..4096", radius_px);
    if (radius_px == 0) goto done;
    const int w = mask->width, h = mask->height, radius = abs(radius_px);
    const float sign = radius_px < 0 ? -1.0f : 1.0f; /* the smallest is the largest of the negated */
    size_t count = (size_t)w * (size_t)h;
    TSR_ALLOC(err, in, count);
    TSR_ALLOC(err, row, w);
    TSR_ALLOC(err, queue, w);
    for (size_t i = 0; i < count; i++) mask->values[i] = in[i] = sign * mask->values[i];
    for (int dy = 0; dy <= radius && dy < h; dy++) {
        int reach = (int)sqrt((double)radius * radius - (double)dy * dy);
        for (int y = 0; y < h; y++) {
            widen_row(row, in + (size_t)y * (size_t)w, w, reach, queue);
            for (int side = -1; side <= 1; side += 2) {
                float *to = mask->values + (size_t)(y + side * dy) * (size_t)w;
                if (y + side * dy < 0 || y + side * dy >= h) continue;
                for (int x = 0; x < w; x++) to[x] = row[x] > to[x] ? row[x] : to[x];
            }
        }
    }
    for (size_t i = 0; i < count; i++) mask->values[i] *= sign;
done:
    free(in);
    free(row);
    free(queue);
    return status;
}
