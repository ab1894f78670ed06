/* graph/models_control.c - controls of conditionings as an engine takes them. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

enum { MAX_CHAIN = 64 };

/* The first picture without alpha; *out is the caller's. */
static tsr_status first_pixels(float **out, const tsr__pictures *pictures, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = (size_t)pictures->h * (size_t)pictures->w;
    *out = NULL;
    if (pictures->n < 1) TSR_FAIL(err, TSR_BAD_ARGUMENT, "a control network got no picture");
    TSR_ALLOC(err, *out, 3 * count);
    for (size_t i = 0; i < count; i++)
        memcpy(*out + 3 * i, pictures->values + (size_t)pictures->c * i, 3 * sizeof **out);
done:
    return status;
}

tsr_status tsr__control_bind(tsr__control_set **out, tsr_engine *engine, const tsr_sigma_table *table,
                             const tsr__control *control, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__control_use uses[MAX_CHAIN];
    float *pixels[MAX_CHAIN];
    int n = 0, last = 0;
    *out = NULL;
    for (const tsr__control *at = control; at; at = at->previous) n++;
    if (n > MAX_CHAIN) return tsr__fail(err, TSR_TOO_LARGE, "%d control networks on one conditioning", n);
    for (const tsr__control *at = control; at; at = at->previous) {
        TSR_TRY(first_pixels(&pixels[last], &at->image->pictures, err));
        tsr__control_use use = { .model = at->net->text,
                                 .pixels = pixels[last++],
                                 .width = at->image->pictures.w,
                                 .height = at->image->pictures.h,
                                 .strength = at->strength,
                                 .type = (int)at->net->integer,
                                 .start_sigma = tsr_sigma_of_percent(table, at->start),
                                 .end_sigma = tsr_sigma_of_percent(table, at->end) };
        uses[n - last] = use; /* the oldest first */
    }
    TSR_TRY(tsr__controls_get(out, engine, uses, n, "conditioning", err));
done:
    for (int i = 0; i < last; i++) free(pixels[i]);
    return status;
}

static int has_area(const tsr__cond *cond) {
    return cond->area_kind != TSR__AREA_NONE;
}

/* The entry that the i-th shared control goes to: those without an area take turns. */
static tsr__cond *target(const tsr__value *negative, int i) {
    int n = 0;
    for (int k = 0; k < negative->n_conds; k++) n += !has_area(&negative->conds[k]);
    for (int k = 0, seen = 0; n && k < negative->n_conds; k++) {
        if (has_area(&negative->conds[k])) continue;
        if (seen++ == i % n) return &negative->conds[k];
    }
    return NULL;
}

tsr_status tsr__control_negative(tsr__value **out, const tsr__value *positive, tsr__value *negative, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *copy = NULL;
    int shared = 0;
    *out = NULL;
    for (int i = 0; i < positive->n_conds; i++) {
        const tsr__cond *from = &positive->conds[i];
        if (!from->control || !from->control->everywhere || has_area(from)) continue;
        if (!copy) TSR_TRY(tsr__value_copy_conds(&copy, negative, err));
        tsr__cond *to = target(copy, shared++);
        if (!to || to->control) continue;
        to->control = from->control;
        to->control->refs++;
    }
    *out = copy ? copy : tsr__value_ref(negative);
    copy = NULL;
done:
    tsr__value_unref(copy);
    return status;
}
