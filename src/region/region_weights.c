/* region/region_weights.c - keep: from masks to how much of each latent pixel belongs to whom.
 *
 * Picture mask -> feather -> overlap ramp -> strength -> area average to latent pixels -> shares that sum to 1,
 * where the base gets what no region takes. Interior pixels come out as exactly 1 and 0, so that hard borders stay
 * exact. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/plan_priv.h"

/* Shares nearer than this to 0 or 1 are rounding, not paint. */
#define SNAP 1e-6f

/* Box average of `width` samples around each of n samples `stride` apart; the ends are repeated. Sums are kept in
 * double, where whole numbers stay exact: all ones give exactly 1. prefix: n + 1 values. */
static void box_line(float *line, int n, size_t stride, int width, double *prefix) {
    double half = 0.5 * (double)width;
    prefix[0] = 0.0;
    for (int i = 0; i < n; i++) prefix[i + 1] = prefix[i] + (double)line[(size_t)i * stride];
    double first = prefix[1], last = prefix[n] - prefix[n - 1];
    for (int i = 0; i < n; i++) {
        double edge[2] = { (double)i + 0.5 - half, (double)i + 0.5 + half }, integral[2];
        for (int side = 0; side < 2; side++) {
            double at = edge[side];
            if (at <= 0.0) {
                integral[side] = at * first;
            } else if (at >= (double)n) {
                integral[side] = prefix[n] + (at - (double)n) * last;
            } else {
                int cell = (int)at;
                integral[side] = prefix[cell] + (at - (double)cell) * (prefix[cell + 1] - prefix[cell]);
            }
        }
        line[(size_t)i * stride] = (float)((integral[1] - integral[0]) / (double)width);
    }
}

/* A straight border becomes a linear ramp of `width` pixels, half of it on either side. */
static tsr_status soften_border(tsr_mask *mask, int width, tsr_error *err) {
    tsr_status status = TSR_OK;
    double *prefix = NULL;
    size_t w = (size_t)mask->width;
    if (width <= 1) return TSR_OK;
    TSR_ALLOC(err, prefix, (mask->width > mask->height ? mask->width : mask->height) + 1);
    for (int y = 0; y < mask->height; y++) box_line(mask->values + (size_t)y * w, mask->width, 1, width, prefix);
    for (int x = 0; x < mask->width; x++) box_line(mask->values + x, mask->height, w, width, prefix);
done:
    free(prefix);
    return status;
}

/* Average of the picture pixels that a latent pixel covers. */
static void average(float *out, int height, int width, const tsr_mask *mask) {
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int y0 = (int)((int64_t)y * mask->height / height);
            int y1 = (int)(((int64_t)(y + 1) * mask->height + height - 1) / height);
            int x0 = (int)((int64_t)x * mask->width / width);
            int x1 = (int)(((int64_t)(x + 1) * mask->width + width - 1) / width);
            double sum = 0.0;
            for (int j = y0; j < y1; j++)
                for (int i = x0; i < x1; i++) sum += (double)mask->values[(size_t)j * (size_t)mask->width + (size_t)i];
            out[(size_t)y * (size_t)width + (size_t)x] = (float)(sum / (double)((y1 - y0) * (x1 - x0)));
        }
}

/* A region's claim on each latent pixel, before the shares are settled. */
static tsr_status claim(tsr_plan *plan, tsr__actor *actor, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *mask = NULL;
    size_t plane = (size_t)plan->shape[2] * (size_t)plan->shape[3];
    float top = 0.0f;
    TSR_TRY(tsr_mask_copy(&mask, actor->mask, err));
    if (actor->feather_px > 0.0f) TSR_TRY(tsr_mask_feather(mask, actor->feather_px, err));
    TSR_TRY(soften_border(mask, plan->options.overlap, err));
    average(actor->weights, plan->shape[2], plan->shape[3], mask);
    for (size_t p = 0; p < plane; p++) {
        float w = actor->weights[p];
        w = w > 1.0f - SNAP ? 1.0f : w < SNAP ? 0.0f : w;
        actor->weights[p] = w * actor->strength;
        if (actor->weights[p] > top) top = actor->weights[p];
    }
    actor->used = top > 0.0f;
    if (!actor->used)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: %s; %s", actor->label,
                 actor->strength > 0.0f ? "its mask covers no pixel of the picture" : "its strength is 0",
                 actor->strength > 0.0f ? "paint where the region shall be"
                                        : "give a strength up to 1, or leave it out");
    if (top < 0.1f)
        TSR_TRY(tsr__plan_warn(plan, err, "%s is at most %.2g %% opaque and will hardly be seen", actor->label,
                               100.0 * (double)top));
done:
    tsr_mask_free(mask);
    return status;
}

/* Overlapping regions share; the base gets the rest. */
static void settle(tsr_plan *plan, size_t pixel) {
    double sum = 0.0;
    for (int k = 1; k < plan->n_actors; k++) sum += (double)plan->actors[k].weights[pixel];
    for (int k = 1; k < plan->n_actors; k++) {
        float *w = &plan->actors[k].weights[pixel];
        if (sum > 1.0 - (double)SNAP && *w != 1.0f) *w = (float)((double)*w / sum);
        if (sum > 1.0 + (double)SNAP && *w == 1.0f) *w = (float)(1.0 / sum);
    }
    plan->actors[0].weights[pixel] = sum > 1.0 - (double)SNAP ? 0.0f : (float)(1.0 - sum);
}

tsr_status tsr__plan_set_weights(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t plane = (size_t)plan->shape[2] * (size_t)plan->shape[3];
    for (int k = 0; k < plan->n_actors; k++) {
        TSR_ALLOC_ZERO(err, plan->actors[k].weights, plane);
        if (k > 0) TSR_TRY(claim(plan, &plan->actors[k], err));
    }
    for (size_t p = 0; p < plane; p++) {
        settle(plan, p);
        if (plan->actors[0].weights[p] > 0.0f) plan->actors[0].used = 1;
    }
    if (!plan->actors[0].used && plan->n_actors > 1)
        TSR_TRY(tsr__plan_warn(plan, err, "the regions cover the whole picture: the base prompt paints nothing%s",
                               plan->options.system == TSR_SYSTEM_REGIONAL && plan->options.base_only_steps > 0
                                   ? " after its own first steps"
                                   : ""));
done:
    return status;
}
