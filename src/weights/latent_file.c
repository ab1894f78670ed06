/* weights/latent_file.c - ComfyUI's .latent files: a latent in a safetensors file.
 *
 * latent_tensor holds the values, [n, c, h, w]. An empty tensor latent_format_version_0 beside it marks raw units;
 * files from before that mark hold SD1's scaled units (raw * 0.18215). Noise mask and batch index are no part of the
 * format. */
#include "core/memory.h"
#include "tessera/latent.h"
#include "weights/weights.h"

static const char VALUES[] = "latent_tensor", RAW_UNITS[] = "latent_format_version_0";
static const float FROM_SD1_UNITS = (float)(1.0 / 0.18215);

tsr_status tsr_latent_save(const tsr_latent *latent, const char *path, tsr_error *err) {
    if (!latent || !path) return tsr__fail(err, TSR_BAD_ARGUMENT, "latent and path must be given");
    const tsr__tensor_out tensors[] = {
        { .name = VALUES,
          .dtype = TSR_DTYPE_F32,
          .rank = 4,
          .shape = { latent->shape[0], latent->shape[1], latent->shape[2], latent->shape[3] },
          .data = latent->values },
        { .name = RAW_UNITS, .dtype = TSR_DTYPE_F32, .rank = 1, .shape = { 0 }, .data = NULL },
    };
    return tsr__safetensors_save(path, tensors, 2, NULL, err);
}

tsr_status tsr_latent_load(tsr_latent **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    tsr_latent *latent = NULL;
    if (!out || !path) return tsr__fail(err, TSR_BAD_ARGUMENT, "out and path must be given");
    *out = NULL;

    TSR_TRY(tsr__weights_open(&weights, path, err));
    const tsr__tensor_view *view = tsr__weights_find(weights, VALUES);
    if (!view) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: no latent: there is no tensor \"%s\"", path, VALUES);
    if (view->rank != 4)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: a latent has 4 axes (n, c, h, w), this one has %d", path, view->rank);
    for (int i = 0; i < 4; i++) {
        if (view->shape[i] < 1 || view->shape[i] > 4096)
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: size %lld of axis %d is out of range", path, (long long)view->shape[i],
                     i);
    }
    TSR_TRY(tsr_latent_new(&latent, (int)view->shape[0], (int)view->shape[1], (int)view->shape[2], (int)view->shape[3],
                           err));
    TSR_TRY(tsr__tensor_to_f32(view, latent->values, err));
    if (!tsr__weights_find(weights, RAW_UNITS)) {
        for (size_t i = 0; i < view->count; i++) latent->values[i] *= FROM_SD1_UNITS;
    }
    *out = latent;
    latent = NULL;
done:
    tsr_latent_free(latent);
    tsr__weights_close(weights);
    return status;
}
