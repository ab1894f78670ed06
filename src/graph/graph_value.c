/* graph/graph_value.c - see graph_value.h. */
#include "graph/graph_value.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

const char *tsr__type_name(tsr__type type) {
    static const char *const names[] = {
#define X(name, text) text,
        TSR__TYPE_MAP(X)
#undef X
    };
    return (int)type >= 0 && type < TSR__V_COUNT ? names[type] : "?";
}

tsr_status tsr__value_new(tsr__value **out, tsr__type type, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_ALLOC_ZERO(err, *out, 1);
    (*out)->type = type;
    (*out)->refs = 1;
done:
    return status;
}

tsr__value *tsr__value_ref(tsr__value *value) {
    if (value) value->refs++;
    return value;
}

static void free_masks(tsr__masks *masks) {
    for (int i = 0; i < masks->n; i++) tsr_mask_free(masks->items[i]);
    free(masks->items);
}

static void clear_cond(tsr__cond *cond) {
    tsr__text_unref(cond->text);
    tsr__value_unref(cond->mask);
    tsr__control_unref(cond->control);
    tsr__value_unref(cond->concat);
}

void tsr__control_unref(tsr__control *control) {
    while (control && --control->refs == 0) {
        tsr__control *previous = control->previous;
        tsr__value_unref(control->net);
        tsr__value_unref(control->image);
        free(control);
        control = previous;
    }
}

void tsr__value_unref(tsr__value *value) {
    if (!value || --value->refs > 0) return;
    free(value->text);
    tsr_latent_free(value->latent);
    free(value->pictures.values);
    free_masks(&value->masks);
    for (int i = 0; i < value->n_conds; i++) clear_cond(&value->conds[i]);
    free(value->conds);
    free(value->sigmas);
    for (int i = 0; i < value->n_parts; i++) tsr__value_unref(value->parts[i]);
    free(value->parts);
    if (value->free_other) value->free_other(value->other);
    if (value->holds_slot) tsr__slot_refs(value->slot, -1);
    tsr__model_sampling_unref(value->sampling);
    free(value);
}

void tsr__value_hold_slot(tsr__value *value) {
    if (!value || !value->slot || value->holds_slot) return;
    tsr__slot_refs(value->slot, 1);
    value->holds_slot = 1;
}

/* --- size --------------------------------------------------------------------------------------------------------------- */
static size_t add(size_t a, size_t b) {
    return b > SIZE_MAX - a ? SIZE_MAX : a + b;
}

static size_t conds_bytes(const tsr__value *value) {
    size_t bytes = 0;
    for (int i = 0; i < value->n_conds; i++) {
        const tsr__text *text = value->conds[i].text;
        bytes =
            add(bytes, sizeof *value->conds +
                           ((size_t)text->tokens * (size_t)text->width + (size_t)text->pooled_width) * sizeof(float));
        if (value->conds[i].mask) bytes = add(bytes, tsr__value_bytes(value->conds[i].mask));
        if (value->conds[i].concat) bytes = add(bytes, tsr__value_bytes(value->conds[i].concat));
        for (const tsr__control *at = value->conds[i].control; at; at = at->previous)
            bytes = add(bytes, tsr__value_bytes(at->image));
    }
    return bytes;
}

/* Remembered, because a list of lists of the same list would be walked for ever. */
size_t tsr__value_bytes(tsr__value *value) {
    if (value->bytes) return value->bytes;
    const tsr__pictures *p = &value->pictures;
    size_t bytes = sizeof *value + (value->text ? strlen(value->text) : 0);
    bytes += (size_t)p->n * (size_t)p->h * (size_t)p->w * (size_t)p->c * sizeof *p->values;
    bytes += (size_t)value->n_sigmas * sizeof *value->sigmas;
    if (value->latent) {
        const tsr_mask *mask = value->latent->noise_mask;
        bytes += tsr_latent_count(value->latent) * sizeof *value->latent->values;
        if (mask) bytes += (size_t)mask->width * (size_t)mask->height * sizeof *mask->values;
    }
    for (int i = 0; i < value->masks.n; i++)
        bytes += (size_t)value->masks.items[i]->width * (size_t)value->masks.items[i]->height * sizeof(float);
    bytes = add(bytes, conds_bytes(value));
    for (int i = 0; i < value->n_parts; i++)
        if (value->parts[i]) bytes = add(bytes, tsr__value_bytes(value->parts[i]));
    value->bytes = bytes;
    return bytes;
}

tsr_status tsr__value_take_latent(tsr__value **out, tsr_latent *latent, tsr_error *err) {
    tsr_status status = tsr__value_new(out, TSR__V_LATENT, err);
    if (status == TSR_OK) (*out)->latent = latent;
    else tsr_latent_free(latent);
    return status;
}

tsr_status tsr__value_take_mask(tsr__value **out, tsr_mask *mask, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *value = NULL;
    *out = NULL;
    TSR_TRY(tsr__value_new(&value, TSR__V_MASK, err));
    TSR_ALLOC_ZERO(err, value->masks.items, 1);
    value->masks.n = 1;
    value->masks.items[0] = mask;
    mask = NULL;
    *out = value;
    value = NULL;
done:
    tsr_mask_free(mask);
    tsr__value_unref(value);
    return status;
}

tsr_status tsr__value_take_sigmas(tsr__value **out, float *sigmas, int n, tsr_error *err) {
    tsr_status status = tsr__value_new(out, TSR__V_SIGMAS, err);
    if (status != TSR_OK) {
        free(sigmas);
        return status;
    }
    (*out)->sigmas = sigmas;
    (*out)->n_sigmas = n;
    return TSR_OK;
}

tsr_status tsr__value_pictures(tsr__value **out, int n, int h, int w, int c, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    if (n < 1 || n > 4096 || h < 1 || h > TSR_IMAGE_MAX_SIDE || w < 1 || w > TSR_IMAGE_MAX_SIDE)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%d pictures of %dx%d; a batch has 1 to 4096, sides 1 to %d", n, w, h,
                 TSR_IMAGE_MAX_SIDE);
    TSR_TRY(tsr__value_new(out, TSR__V_IMAGE, err));
    tsr__pictures shape = { n, h, w, c, NULL };
    (*out)->pictures = shape;
    TSR_ALLOC_ZERO(err, (*out)->pictures.values, (size_t)n * (size_t)h * (size_t)w * (size_t)c);
done:
    if (status != TSR_OK) {
        tsr__value_unref(*out);
        *out = NULL;
    }
    return status;
}

tsr_status tsr__value_masks(tsr__value **out, int n, int width, int height, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_TRY(tsr__value_new(out, TSR__V_MASK, err));
    TSR_ALLOC_ZERO(err, (*out)->masks.items, n);
    (*out)->masks.n = n;
    for (int i = 0; i < n; i++) TSR_TRY(tsr_mask_new(&(*out)->masks.items[i], width, height, 0.0f, err));
done:
    if (status != TSR_OK) {
        tsr__value_unref(*out);
        *out = NULL;
    }
    return status;
}

tsr_status tsr__value_parts(tsr__value **out, tsr__type type, const struct tsr__node *row, tsr__value *const *parts,
                            int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_TRY(tsr__value_new(out, type, err));
    (*out)->row = row;
    TSR_ALLOC_ZERO(err, (*out)->parts, n > 0 ? n : 1);
    (*out)->n_parts = n;
    for (int i = 0; i < n; i++) (*out)->parts[i] = tsr__value_ref(parts[i]);
done:
    if (status != TSR_OK) {
        tsr__value_unref(*out);
        *out = NULL;
    }
    return status;
}

/* --- conditionings ------------------------------------------------------------------------------------------------- */
tsr_status tsr__text_new(tsr__text **out, int tokens, int width, int pooled_width, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_ALLOC_ZERO(err, *out, 1);
    (*out)->refs = 1;
    (*out)->tokens = tokens;
    (*out)->width = width;
    (*out)->pooled_width = pooled_width;
    TSR_ALLOC_ZERO(err, (*out)->values, (size_t)tokens * (size_t)width);
    if (pooled_width) TSR_ALLOC_ZERO(err, (*out)->pooled, pooled_width);
done:
    if (status != TSR_OK) {
        tsr__text_unref(*out);
        *out = NULL;
    }
    return status;
}

void tsr__text_unref(tsr__text *text) {
    if (!text || --text->refs > 0) return;
    free(text->values);
    free(text->pooled);
    free(text);
}

tsr_status tsr__value_take_text(tsr__value **out, tsr__text *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *value = NULL;
    *out = NULL;
    TSR_TRY(tsr__value_new(&value, TSR__V_CONDITIONING, err));
    TSR_ALLOC_ZERO(err, value->conds, 1);
    value->n_conds = 1;
    tsr__cond plain = { .text = text, .strength = 1.0f, .mask_strength = 1.0f, .start = 0.0, .end = 1.0 };
    value->conds[0] = plain;
    text = NULL;
    *out = value;
    value = NULL;
done:
    tsr__text_unref(text);
    tsr__value_unref(value);
    return status;
}

static void copy_cond(tsr__cond *to, const tsr__cond *from) {
    *to = *from;
    to->text->refs++;
    to->mask = tsr__value_ref(from->mask);
    if (to->control) to->control->refs++;
    to->concat = tsr__value_ref(from->concat);
}

tsr_status tsr__value_join_conds(tsr__value **out, const tsr__value *a, const tsr__value *b, tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = a->n_conds + (b ? b->n_conds : 0);
    *out = NULL;
    if (n > 1024) TSR_FAIL(err, TSR_TOO_LARGE, "%d conditionings are combined; 1024 are the most", n);
    TSR_TRY(tsr__value_new(out, TSR__V_CONDITIONING, err));
    TSR_ALLOC_ZERO(err, (*out)->conds, n > 0 ? n : 1);
    (*out)->n_conds = n;
    for (int i = 0; i < n; i++) copy_cond(&(*out)->conds[i], i < a->n_conds ? &a->conds[i] : &b->conds[i - a->n_conds]);
done:
    if (status != TSR_OK) {
        tsr__value_unref(*out);
        *out = NULL;
    }
    return status;
}

tsr_status tsr__value_copy_conds(tsr__value **out, const tsr__value *value, tsr_error *err) {
    return tsr__value_join_conds(out, value, NULL, err);
}
