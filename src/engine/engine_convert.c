/* engine/engine_convert.c - a model of any layout written as one safetensors file, tensor by tensor. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_priv.h"
#include "weights/model_open.h"
#include "weights/tensor_pack.h"

static const struct {
    const char *name;
    tsr__dtype dtype;
} TYPES[] = {
    [TSR_WEIGHT_KEEP] = { "keep", TSR_DTYPE_COUNT_ }, [TSR_WEIGHT_F32] = { "f32", TSR_DTYPE_F32 },
    [TSR_WEIGHT_F16] = { "f16", TSR_DTYPE_F16 },      [TSR_WEIGHT_BF16] = { "bf16", TSR_DTYPE_BF16 },
    [TSR_WEIGHT_F8] = { "f8", TSR_DTYPE_F8_E4M3 },
};

int tsr_weight_type_find(const char *name) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (strcmp(name, TYPES[i].name) == 0) return (int)i;
    return -1;
}

typedef struct conversion {
    const tsr__weights *weights;
    tsr__tensor_out *tensors;
    float *values; /* room for the largest tensor; NULL: none is converted */
    unsigned char *bytes;
} conversion;

/* Whole numbers and marks stay; scaled values are computed, as their factors are left behind. */
static tsr__dtype choose_type(const tsr__tensor_view *view, tsr_weight_type type) {
    if (!tsr__dtype_is_float(view->dtype)) return view->dtype;
    if (type == TSR_WEIGHT_KEEP)
        return tsr__dtype_block(view->dtype) > 1 || view->scale != 0.0f ? TSR_DTYPE_F16 : view->dtype;
    if (type == TSR_WEIGHT_F8 &&
        (view->rank < 2 || strncmp(view->name, "model.diffusion_model.", strlen("model.diffusion_model.")) != 0))
        return TSR_DTYPE_F16;
    return TYPES[type].dtype;
}

/* Factors of scaled F8 files: applied while converting. */
static int is_scale(const tsr__weights *weights, const tsr__tensor_view *view) {
    static const char end[] = ".scale_weight";
    char name[512];
    const size_t length = strlen(view->name), size = sizeof end - 1;
    if (length <= size || length > 400 || strcmp(view->name + length - size, end) != 0) return 0;
    (void)snprintf(name, sizeof name, "%.*s.weight", (int)(length - size), view->name);
    const tsr__tensor_view *scaled = tsr__weights_find(weights, name);
    return scaled && scaled->scale != 0.0f;
}

static tsr_status make_tensor(void *user, size_t index, const void **data, tsr_error *err) {
    const conversion *c = user;
    const tsr__tensor_out *out = &c->tensors[index];
    const tsr__tensor_view *view = out->data;
    *data = view->data;
    if (out->dtype == view->dtype && view->scale == 0.0f) return TSR_OK;
    tsr_status status = tsr__tensor_to_f32(view, c->values, err);
    if (status != TSR_OK) return status;
    (void)tsr__tensor_from_f32(c->bytes, out->dtype, c->values, view->count);
    tsr__weights_release_pages(c->weights, view);
    *data = c->bytes;
    return TSR_OK;
}

/* Lists what is written; *largest: elements of the largest tensor that is converted. */
static size_t list_tensors(conversion *c, tsr_weight_type type, size_t *largest) {
    size_t count = 0;
    *largest = 0;
    for (size_t i = 0; i < tsr__weights_count(c->weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(c->weights, i);
        if (is_scale(c->weights, view)) continue;
        tsr__tensor_out *out = &c->tensors[count++];
        out->name = view->name;
        out->dtype = choose_type(view, type);
        out->rank = view->rank;
        memcpy(out->shape, view->shape, sizeof out->shape);
        out->data = view; /* make_tensor's */
        if ((out->dtype != view->dtype || view->scale != 0.0f) && view->count > *largest) *largest = view->count;
    }
    return count;
}

static tsr_status save(const char *path, const tsr__weights *weights, tsr_weight_type type, tsr_error *err) {
    tsr_status status = TSR_OK;
    conversion c = { .weights = weights };
    const char **metadata = NULL;
    size_t largest = 0;
    TSR_ALLOC_ZERO(err, c.tensors, tsr__weights_count(weights) + 1);
    const size_t count = list_tensors(&c, type, &largest);
    TSR_ALLOC(err, c.values, largest + 1);
    TSR_ALLOC(err, c.bytes, (largest + 1) * sizeof(float));
    TSR_TRY(tsr__weights_all_metadata(&metadata, weights, err));
    TSR_TRY(tsr__safetensors_save_made(path, c.tensors, count, metadata, make_tensor, &c, err));
done:
    free(metadata);
    free(c.tensors);
    free(c.values);
    free(c.bytes);
    return status;
}

tsr_status tsr_convert_model(char **report, const char *path, const char *model, const tsr_model_parts *parts,
                             tsr_weight_type type, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    tsr__model_files files = { .model = model };
    tsr__checkpoint_info info;
    if (report) *report = NULL;
    if (parts) {
        files.unet = parts->unet;
        files.text[0] = parts->text_encoder;
        files.text[1] = parts->text_encoder_2;
        files.vae = parts->vae;
    }
    if ((unsigned)type >= sizeof TYPES / sizeof *TYPES) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no such type of weights");
    if (!(model && *model) && !tsr__model_files_given(&files))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "nothing to convert: give a model or its parts");
    TSR_TRY(tsr__model_open(&weights, &files, err));
    if (tsr__weights_count(weights) == 0)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: no tensors in it", tsr__weights_path(weights));
    TSR_TRY(save(path, weights, type, err));
    if (!report) goto done;
    tsr__checkpoint_describe(&info, weights);
    *report = tsr__format("%s: %s, %zu tensors, %.2f M parameters\n", path, tsr__checkpoint_kind_name(info.kind),
                          info.tensors, (double)info.parameters * 1e-6);
    if (!*report) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    tsr__weights_close(weights);
    return status;
}
