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
    average(actor->claims, plan->shape[2], plan->shape[3], mask);
    for (size_t p = 0; p < plane; p++) {
        float w = actor->claims[p];
        w = w > 1.0f - SNAP ? 1.0f : w < SNAP ? 0.0f : w;
        actor->claims[p] = w * actor->strength;
        if (actor->claims[p] > top) top = actor->claims[p];
    }
    if (top <= 0.0f)
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

/* Overlapping regions share a pixel by their claims; the base gets the rest. */
static void blend_pixel(float *const *shares, int n, size_t pixel) {
    double sum = 0.0;
    for (int k = 1; k < n; k++) sum += (double)shares[k][pixel];
    for (int k = 1; k < n; k++) {
        float *w = &shares[k][pixel];
        if (sum > 1.0 - (double)SNAP && *w != 1.0f) *w = (float)((double)*w / sum);
        if (sum > 1.0 + (double)SNAP && *w == 1.0f) *w = (float)(1.0 / sum);
    }
    shares[0][pixel] = sum > 1.0 - (double)SNAP ? 0.0f : (float)(1.0 - sum);
}

/* Later regions cover earlier ones as paint does: each takes its claim of what the later ones leave. */
static void stack_pixel(float *const *shares, int n, size_t pixel) {
    double rest = 1.0;
    for (int k = n - 1; k > 0; k--) {
        double claimed = (double)shares[k][pixel];
        float share = (float)(claimed * rest);
        shares[k][pixel] = share < SNAP ? 0.0f : share;
        rest *= 1.0 - claimed;
    }
    shares[0][pixel] = rest < (double)SNAP ? 0.0f : (float)rest;
}

void tsr__plan_share(const tsr_plan *plan, float *const *shares, const float *const *claims,
                     const unsigned char *takes_part, size_t count) {
    int n = plan->n_actors;
    for (int k = 1; k < n; k++) {
        if (takes_part[k]) memcpy(shares[k], claims[k], count * sizeof(float));
        else memset(shares[k], 0, count * sizeof(float));
    }
    for (size_t p = 0; p < count; p++) {
        if (plan->options.overlap_policy == TSR_OVERLAP_STACK) stack_pixel(shares, n, p);
        else blend_pixel(shares, n, p);
    }
}

static int any_above_zero(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (values[i] > 0.0f) return 1;
    return 0;
}

tsr_status tsr__plan_set_weights(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t plane = (size_t)plan->shape[2] * (size_t)plan->shape[3];
    int n = plan->n_actors;
    float **shares = NULL;
    const float **claims = NULL;
    unsigned char *everybody = NULL;
    TSR_ALLOC_ZERO(err, shares, n);
    TSR_ALLOC_ZERO(err, claims, n);
    TSR_ALLOC(err, everybody, n);
    memset(everybody, 1, (size_t)n);
    for (int k = 0; k < n; k++) {
        tsr__actor *actor = &plan->actors[k];
        TSR_ALLOC_ZERO(err, actor->weights, plane);
        if (k > 0) TSR_ALLOC_ZERO(err, actor->claims, plane);
        if (k > 0) TSR_TRY(claim(plan, actor, err));
        shares[k] = actor->weights;
        claims[k] = actor->claims;
    }
    tsr__plan_share(plan, shares, claims, everybody, plane);
    if (n > 1 && !any_above_zero(plan->actors[0].weights, plane))
        TSR_TRY(tsr__plan_warn(plan, err, "the regions cover the whole picture: the base prompt paints nothing%s",
                               plan->options.system == TSR_SYSTEM_REGIONAL && plan->options.base_only_steps > 0
                                   ? " after its own first steps"
                                   : ""));
    for (int k = 1; k < n; k++)
        if (!any_above_zero(plan->actors[k].weights, plane))
            TSR_TRY(tsr__plan_warn(plan, err, "%s lies wholly under later regions", plan->actors[k].label));
done:
    free(shares);
    free(claims);
    free(everybody);
    return status;
}

/* Who of those that take part in step i has a share of some pixel. */
static void set_step(tsr_plan *plan, int i, float *const *shares, const float *const *claims,
                     unsigned char *takes_part) {
    size_t plane = (size_t)plan->shape[2] * (size_t)plan->shape[3];
    int n = plan->n_actors, same = i > 0;
    unsigned char *active = plan->active + (size_t)i * (size_t)n;
    for (int k = 1; k < n; k++) {
        unsigned char now = i >= plan->actors[k].first && i < plan->actors[k].last;
        same &= now == takes_part[k];
        takes_part[k] = now;
    }
    if (same) {
        memcpy(active, active - n, (size_t)n);
        return;
    }
    tsr__plan_share(plan, shares, claims, takes_part, plane);
    for (int k = 0; k < n; k++) active[k] = (unsigned char)any_above_zero(shares[k], plane);
}

tsr_status tsr__plan_set_active(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = plan->n_actors;
    size_t plane = (size_t)plan->shape[2] * (size_t)plan->shape[3];
    float **shares = NULL, *room = NULL;
    const float **claims = NULL;
    unsigned char *takes_part = NULL;
    TSR_ALLOC_ZERO(err, plan->active, plan->steps * n);
    TSR_ALLOC(err, room, plane * (size_t)n);
    TSR_ALLOC_ZERO(err, shares, n);
    TSR_ALLOC_ZERO(err, claims, n);
    TSR_ALLOC_ZERO(err, takes_part, n);
    plan->crops_base = 1;
    for (int k = 0; k < n; k++) {
        shares[k] = room + (size_t)k * plane;
        claims[k] = plan->actors[k].claims;
    }
    for (int i = 0; i < plan->steps; i++) {
        set_step(plan, i, shares, claims, takes_part);
        for (int k = 0; k < n; k++) plan->actors[k].used |= plan->active[(size_t)i * (size_t)n + (size_t)k];
        for (int k = 1; k < n; k++) plan->crops_base &= takes_part[k];
    }
done:
    free(room);
    free(shares);
    free(claims);
    free(takes_part);
    return status;
}
