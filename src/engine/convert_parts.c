/* engine/convert_parts.c - which tensors a conversion writes, under which names, as which numbers. */
#include <stdio.h>
#include <string.h>

#include "core/check.h"
#include "engine/convert_target.h"
#include "weights/diffusers_names.h"

static const struct {
    const char *name;
    tsr__dtype dtype;
} TYPES[] = {
    [TSR_WEIGHT_KEEP] = { "keep", TSR_DTYPE_COUNT_ }, [TSR_WEIGHT_F32] = { "f32", TSR_DTYPE_F32 },
    [TSR_WEIGHT_F16] = { "f16", TSR_DTYPE_F16 },      [TSR_WEIGHT_BF16] = { "bf16", TSR_DTYPE_BF16 },
    [TSR_WEIGHT_F8] = { "f8", TSR_DTYPE_F8_E4M3 },    [TSR_WEIGHT_Q8_0] = { "q8_0", TSR_DTYPE_Q8_0 },
    [TSR_WEIGHT_Q5_1] = { "q5_1", TSR_DTYPE_Q5_1 },   [TSR_WEIGHT_Q5_0] = { "q5_0", TSR_DTYPE_Q5_0 },
    [TSR_WEIGHT_Q4_1] = { "q4_1", TSR_DTYPE_Q4_1 },   [TSR_WEIGHT_Q4_0] = { "q4_0", TSR_DTYPE_Q4_0 },
    [TSR_WEIGHT_Q6_K] = { "q6_k", TSR_DTYPE_Q6_K },   [TSR_WEIGHT_Q5_K] = { "q5_k", TSR_DTYPE_Q5_K },
    [TSR_WEIGHT_Q4_K] = { "q4_k", TSR_DTYPE_Q4_K },   [TSR_WEIGHT_Q3_K] = { "q3_k", TSR_DTYPE_Q3_K },
    [TSR_WEIGHT_Q2_K] = { "q2_k", TSR_DTYPE_Q2_K },
};
enum { TYPE_COUNT = sizeof TYPES / sizeof *TYPES };

int tsr_weight_type_find(const char *name) {
    for (int i = 0; i < TYPE_COUNT; i++)
        if (strcmp(name, TYPES[i].name) == 0) return i;
    return -1;
}

tsr__dtype tsr__convert_dtype(tsr_weight_type type) {
    return (unsigned)type < TYPE_COUNT ? TYPES[type].dtype : TSR_DTYPE_COUNT_;
}

const char *tsr__convert_type_name(tsr_weight_type type) {
    return (unsigned)type < TYPE_COUNT ? TYPES[type].name : "?";
}

/* --- types of a safetensors file ----------------------------------------------------------------------------------------- */
/* Whole numbers and marks stay; what was scaled or stood in blocks is computed, to a type that can be written. */
static tsr__dtype choose_type(const tsr__convert_item *item, tsr_weight_type type) {
    const tsr__tensor_view *view = &item->view;
    if (!tsr__dtype_is_float(view->dtype)) return view->dtype;
    if (type == TSR_WEIGHT_KEEP) {
        const int plain = view->dtype == TSR_DTYPE_F32 || view->dtype == TSR_DTYPE_F16 || view->dtype == TSR_DTYPE_BF16;
        if (tsr__dtype_block(view->dtype) > 1 || view->scale != 0.0f) return TSR_DTYPE_F16;
        return plain || !item->turned ? view->dtype : TSR_DTYPE_F32;
    }
    if (type == TSR_WEIGHT_F8 && (view->rank < 2 || tsr__checkpoint_part_of(view->name) != TSR_PART_UNET))
        return TSR_DTYPE_F16;
    return tsr__convert_dtype(type);
}

void tsr__convert_parts_types(tsr__convert_list *list, tsr_weight_type type) {
    for (size_t i = 0; i < list->count; i++) list->out[i].dtype = choose_type(&list->items[i], type);
}

/* --- names ------------------------------------------------------------------------------------------------------------------ */
int tsr__convert_is_factor(const tsr__weights *weights, const tsr__tensor_view *view) {
    static const char *const ends[] = { ".scale_weight", ".weight_scale" };
    char name[512];
    const size_t length = strlen(view->name), size = strlen(ends[0]);
    if (length <= size || length > 400) return 0;
    const char *end = view->name + length - size;
    if (strcmp(end, ends[0]) != 0 && strcmp(end, ends[1]) != 0) return 0;
    (void)snprintf(name, sizeof name, "%.*s.weight", (int)(length - size), view->name);
    const tsr__tensor_view *scaled = tsr__weights_find(weights, name);
    return scaled && scaled->scale != 0.0f;
}

/* Averages over training steps double a file and are read by nobody. */
static int is_average(const char *name) {
    return strncmp(name, "model_ema.", strlen("model_ema.")) == 0;
}

static tsr_status list_all(tsr__convert_list *list, tsr__conversion *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (size_t i = 0; i < tsr__weights_count(c->weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(c->weights, i);
        if (tsr__convert_is_factor(c->weights, view)) continue;
        if (is_average(view->name)) c->averages++;
        else TSR_TRY(tsr__convert_list_add(list, view->name, view, 0, err));
    }
done:
    return status;
}

static tsr_status list_below(tsr__convert_list *list, const tsr__conversion *c, const char *prefix, tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t length = strlen(prefix);
    for (size_t i = 0; i < tsr__weights_count(c->weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(c->weights, i);
        if (strncmp(view->name, prefix, length) != 0 || tsr__convert_is_factor(c->weights, view)) continue;
        TSR_TRY(tsr__convert_list_add(list, view->name + length, view, 0, err));
    }
done:
    return status;
}

/* --- text encoders ---------------------------------------------------------------------------------------------------------- */
/* OpenCLIP's q, k and v are one tensor: rows of it become three. */
static tsr_status add_split(tsr__convert_list *list, const char *name, const tsr__tensor_view *view, tsr_error *err) {
    tsr_status status = TSR_OK;
    char part[TSR__NAME_SIZE];
    const char *at = strstr(name, ".q_proj.");
    if (!at || view->rank < 1 || view->shape[0] % 3)
        TSR_FAIL(err, TSR_BAD_FORMAT, "tensor \"%.200s\" cannot be cut into three", view->name);
    tsr__tensor_view third = *view;
    third.shape[0] /= 3;
    third.count /= 3;
    if (third.count % tsr__dtype_block(third.dtype))
        TSR_FAIL(err, TSR_UNSUPPORTED, "tensor \"%.200s\" cannot be cut into three", view->name);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(part, sizeof part, "%.*s.%c_proj.%s", (int)(at - name), name, "qkv"[i], at + strlen(".q_proj."));
        third.data = (const unsigned char *)view->data + (size_t)i * tsr__tensor_bytes(&third);
        TSR_TRY(tsr__convert_list_add(list, part, &third, 0, err));
    }
done:
    return status;
}

tsr_status tsr__convert_parts_text(tsr__convert_list *list, tsr__conversion *c, const char *prefix, int is_open,
                                   tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t length = strlen(prefix);
    if (!is_open) return list_below(list, c, prefix, err);
    for (size_t i = 0; i < tsr__weights_count(c->weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(c->weights, i);
        char name[TSR__NAME_SIZE];
        if (strncmp(view->name, prefix, length) != 0 || tsr__convert_is_factor(c->weights, view)) continue;
        const tsr__open_clip_part part = tsr__open_clip_back(name, view->name + length);
        if (part == TSR__OPEN_NONE || (part == TSR__OPEN_TURNED && view->rank != 2)) c->others++;
        else if (part == TSR__OPEN_Q) TSR_TRY(add_split(list, name, view, err));
        else TSR_TRY(tsr__convert_list_add(list, name, view, part == TSR__OPEN_TURNED, err));
    }
done:
    return status;
}

/* --- parts ------------------------------------------------------------------------------------------------------------------ */
static const struct part {
    const char *name, *title;
    struct {
        const char *prefix;
        int is_text, is_open;
    } places[3];
} PARTS[] = {
    [TSR_CONVERT_ALL] = { "all", "model", { { NULL, 0, 0 } } },
    [TSR_CONVERT_UNET] = { "unet", "UNet", { { "model.diffusion_model.", 0, 0 } } },
    [TSR_CONVERT_TEXT_ENCODER] = { "text-encoder",
                                   "text encoder",
                                   { { "conditioner.embedders.0.transformer.", 1, 0 },
                                     { "cond_stage_model.transformer.", 1, 0 },
                                     { "cond_stage_model.model.", 1, 1 } } },
    [TSR_CONVERT_TEXT_ENCODER_2] = { "text-encoder-2",
                                     "second text encoder",
                                     { { "conditioner.embedders.1.model.", 1, 1 } } },
    [TSR_CONVERT_VAE] = { "vae", "VAE", { { "first_stage_model.", 0, 0 } } },
};
enum { PART_COUNT = sizeof PARTS / sizeof *PARTS };

int tsr_convert_part_find(const char *name) {
    for (int i = 0; i < PART_COUNT; i++)
        if (strcmp(name, PARTS[i].name) == 0) return i;
    return -1;
}

/* Marks of how a UNet was trained go with it. */
static tsr_status add_marks(tsr__convert_list *list, const tsr__conversion *c, tsr_error *err) {
    static const char *const marks[] = { "v_pred", "ztsnr" };
    tsr_status status = TSR_OK;
    for (int i = 0; i < 2; i++) {
        const tsr__tensor_view *view = tsr__weights_find(c->weights, marks[i]);
        if (view) TSR_TRY(tsr__convert_list_add(list, marks[i], view, 0, err));
    }
done:
    return status;
}

tsr_status tsr__convert_parts_list(tsr__convert_list *list, tsr__conversion *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    const struct part *part = &PARTS[c->part];
    if (c->part == TSR_CONVERT_ALL) return list_all(list, c, err);
    for (int i = 0; i < 3 && part->places[i].prefix && !list->count; i++) {
        if (part->places[i].is_text)
            TSR_TRY(tsr__convert_parts_text(list, c, part->places[i].prefix, part->places[i].is_open, err));
        else TSR_TRY(list_below(list, c, part->places[i].prefix, err));
    }
    if (!list->count) TSR_FAIL(err, TSR_UNSUPPORTED, "%s: no %s in it", tsr__weights_path(c->weights), part->title);
    if (c->part == TSR_CONVERT_UNET) TSR_TRY(add_marks(list, c, err));
done:
    return status;
}
