/* resize.c - pictures and latents brought to another size, by ComfyUI's names for the methods.
 *
 * Owns the choice of method and the area average; the coordinate rules are in resize_taps.c. Knows nothing of files. */
#include "tessera/latent.h"

#include <math.h>
#include <string.h>

#include "core/memory.h"
#include "resize_priv.h"

/* PyTorch's adaptive_avg_pool2d: the mean of the whole source samples that an output sample touches. */
static void average_plane(float *out, int height, int width, const float *in, int in_height, int in_width) {
    for (int y = 0; y < height; y++) {
        int64_t y0 = (int64_t)y * in_height / height, y1 = ((int64_t)(y + 1) * in_height + height - 1) / height;
        for (int x = 0; x < width; x++) {
            int64_t x0 = (int64_t)x * in_width / width, x1 = ((int64_t)(x + 1) * in_width + width - 1) / width;
            double sum = 0.0;
            for (int64_t j = y0; j < y1; j++)
                for (int64_t i = x0; i < x1; i++) sum += in[j * in_width + i];
            out[(size_t)y * (size_t)width + (size_t)x] = (float)(sum / (double)((y1 - y0) * (x1 - x0)));
        }
    }
}

static tsr_status resize_by_taps(float *out, int height, int width, const float *in, const int shape[4],
                                 tsr_resize_method method, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__taps down = { 0, NULL, NULL }, across = { 0, NULL, NULL };
    if (method == TSR_RESIZE_NEAREST_EXACT) {
        TSR_TRY(tsr__taps_nearest_exact(&down, shape[2], height, err));
        TSR_TRY(tsr__taps_nearest_exact(&across, shape[3], width, err));
    } else if (method == TSR_RESIZE_BILINEAR) {
        TSR_TRY(tsr__taps_linear(&down, shape[2], height, 0, err));
        TSR_TRY(tsr__taps_linear(&across, shape[3], width, 0, err));
    } else {
        TSR_TRY(tsr__taps_cubic(&down, shape[2], height, err));
        TSR_TRY(tsr__taps_cubic(&across, shape[3], width, err));
    }
    for (int plane = 0; plane < shape[0] * shape[1]; plane++)
        tsr__taps_apply(out + (size_t)plane * (size_t)height * (size_t)width, height, width,
                        in + (size_t)plane * (size_t)shape[2] * (size_t)shape[3], shape[3], &down, &across);
done:
    tsr__taps_clear(&down);
    tsr__taps_clear(&across);
    return status;
}

tsr_status tsr_resize_nchw(float *out, int height, int width, const float *in, const int shape[4],
                           tsr_resize_method method, tsr_error *err) {
    if (!out || !in || !shape) return tsr__fail(err, TSR_BAD_ARGUMENT, "resize: no input or no room for the output");
    if (height < 1 || width < 1 || height > TSR_IMAGE_MAX_SIDE || width > TSR_IMAGE_MAX_SIDE)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "resize: target %dx%d; each side must be 1..%d", width, height,
                         TSR_IMAGE_MAX_SIDE);
    if (shape[0] < 1 || shape[1] < 1 || shape[2] < 1 || shape[3] < 1 || shape[2] > TSR_IMAGE_MAX_SIDE ||
        shape[3] > TSR_IMAGE_MAX_SIDE || (int64_t)shape[0] * shape[1] > 1 << 20)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "resize: source of shape [%d, %d, %d, %d] is empty or too large",
                         shape[0], shape[1], shape[2], shape[3]);
    switch (method) {
    case TSR_RESIZE_NEAREST_EXACT:
    case TSR_RESIZE_BILINEAR:
    case TSR_RESIZE_BICUBIC: return resize_by_taps(out, height, width, in, shape, method, err);
    case TSR_RESIZE_AREA:
        for (int plane = 0; plane < shape[0] * shape[1]; plane++)
            average_plane(out + (size_t)plane * (size_t)height * (size_t)width, height, width,
                          in + (size_t)plane * (size_t)shape[2] * (size_t)shape[3], shape[2], shape[3]);
        return TSR_OK;
    case TSR_RESIZE_LANCZOS: return tsr__resize_lanczos(out, height, width, in, shape, err);
    case TSR_RESIZE_BISLERP: return tsr__resize_bislerp(out, height, width, in, shape, err);
    }
    return tsr__fail(err, TSR_BAD_ARGUMENT, "resize: no method number %d", (int)method);
}

/* ComfyUI's names of the methods, in the order of the enum. */
static const char *const METHOD_NAMES[] = { "nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp" };

tsr_status tsr_resize_method_parse(tsr_resize_method *out, const char *name, tsr_error *err) {
    for (int i = 0; name && i < (int)(sizeof METHOD_NAMES / sizeof *METHOD_NAMES); i++)
        if (!strcmp(name, METHOD_NAMES[i])) {
            *out = (tsr_resize_method)i;
            return TSR_OK;
        }
    return tsr__fail(err, TSR_NOT_FOUND,
                     "resize: no method \"%s\"; use nearest-exact, bilinear, area, bicubic, lanczos or bislerp",
                     name ? name : "");
}

void tsr_resize_center_crop(int *x, int *y, int width, int height, int target_width, int target_height) {
    double have = (double)width / height, want = (double)target_width / target_height;
    *x = *y = 0;
    /* rint rounds half to even, as Python's round does. */
    if (have > want) *x = (int)rint((width - width * (want / have)) / 2);
    if (have < want) *y = (int)rint((height - height * (have / want)) / 2);
}
