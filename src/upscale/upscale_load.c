/* upscale/upscale_load.c - the loader of src/upscale: names to packed weights, every shape checked. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "upscale/upscale_priv.h"

enum { NAME_SIZE = 160, MAX_CHANNELS = 4096 };

static const char *path_of(const tsr__upscale_loader *loader) {
    return tsr__weights_path(loader->weights);
}

int tsr__upscale_has(const tsr__upscale_loader *loader, const char *format, ...) {
    char name[NAME_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return tsr__weights_find(loader->weights, name) != NULL;
}

/* PREFIX + suffix, marked as taken; NULL when absent. */
static const tsr__tensor_view *take(const tsr__upscale_loader *loader, const char *prefix, const char *suffix) {
    char name[NAME_SIZE];
    (void)snprintf(name, sizeof name, "%s%s", prefix, suffix);
    const tsr__tensor_view *view = tsr__weights_find(loader->weights, name);
    if (view) loader->taken[view - tsr__weights_at(loader->weights, 0)] = 1;
    return view;
}

tsr_status tsr__upscale_conv_shape(const tsr__upscale_loader *loader, const char *name, int64_t shape[4],
                                   tsr_error *err) {
    memset(shape, 0, 4 * sizeof *shape);
    const tsr__tensor_view *view = take(loader, name, ".weight");
    if (!view)
        return tsr__fail(err, TSR_NOT_FOUND, "%s: tensor \"%s.weight\" is missing: this upscale model is not complete",
                         path_of(loader), name);
    if (view->rank != 4 || view->shape[2] != 3 || view->shape[3] != 3 || view->shape[0] < 1 || view->shape[1] < 1 ||
        view->shape[0] > MAX_CHANNELS || view->shape[1] > MAX_CHANNELS)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: \"%s.weight\" is no 3x3 convolution of at most %d channels",
                         path_of(loader), name, MAX_CHANNELS);
    memcpy(shape, view->shape, 4 * sizeof *shape);
    return TSR_OK;
}

typedef struct source {
    const tsr__tensor_view *view;
    float factor;
} source;

static tsr_status fill_scaled(void *user, float *dst, size_t count, tsr_error *err) {
    const source *from = user;
    tsr_status status = tsr__tensor_to_f32(from->view, dst, err);
    for (size_t i = 0; i < count && status == TSR_OK; i++) dst[i] *= from->factor;
    return status;
}

static tsr_status load_bias(const tsr__upscale_loader *loader, float **out, const char *name, int count, float factor,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    float *bias = NULL;
    *out = NULL;
    const tsr__tensor_view *view = take(loader, name, ".bias");
    if (!view) return TSR_OK;
    if (view->rank != 1 || view->shape[0] != count)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: \"%s.bias\" has not %d values", path_of(loader), name, count);
    TSR_ALLOC(err, bias, count);
    TSR_TRY(tsr__tensor_to_f32(view, bias, err));
    for (int i = 0; i < count; i++) bias[i] *= factor;
    *out = bias;
    bias = NULL;
done:
    free(bias);
    return status;
}

tsr_status tsr__upscale_load_conv(tsr__upscale_loader *loader, tsr__nn_weight **out, const char *name, int out_c,
                                  int in_c, float factor, tsr_error *err) {
    tsr_status status = TSR_OK;
    int64_t shape[4];
    float *bias = NULL;
    *out = NULL;
    TSR_TRY(tsr__upscale_conv_shape(loader, name, shape, err));
    if (shape[0] != out_c || shape[1] != in_c)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: \"%s.weight\" is [%lld, %lld, 3, 3]; [%d, %d, 3, 3] would fit the model",
                 path_of(loader), name, (long long)shape[0], (long long)shape[1], out_c, in_c);
    TSR_TRY(load_bias(loader, &bias, name, out_c, factor, err));
    source from = { take(loader, name, ".weight"), factor };
    TSR_TRY(tsr__nn_conv_weight(loader->nn, out, out_c, in_c, 3, 1, 1, 1, fill_scaled, &from, bias, err));
done:
    free(bias);
    return status;
}

tsr_status tsr__upscale_load_vector(tsr__upscale_loader *loader, float **out, const char *name, int count,
                                    tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    *out = NULL;
    const tsr__tensor_view *view = take(loader, name, "");
    if (!view)
        TSR_FAIL(err, TSR_NOT_FOUND, "%s: tensor \"%s\" is missing: this upscale model is not complete",
                 path_of(loader), name);
    if (view->rank != 1 || (view->shape[0] != count && view->shape[0] != 1))
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: \"%s\" has not %d values", path_of(loader), name, count);
    TSR_ALLOC(err, values, count);
    TSR_TRY(tsr__tensor_to_f32(view, values, err));
    if (view->shape[0] == 1)
        for (int i = 1; i < count; i++) values[i] = values[0];
    *out = values;
    values = NULL;
done:
    free(values);
    return status;
}
