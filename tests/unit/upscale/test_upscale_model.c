/* Upscale models without reference data: tiles against their definition, the simplest network, refusals, cancelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "upscale/upscale_model.h"
#include "weights/pth.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

static tsr__nn *nn;

static int open_context(void **state) {
    (void)state;
    const tsr__nn_options options = { TSR__F32, 2 };
    return tsr__nn_new(&nn, &options, NULL) == TSR_OK ? 0 : -1;
}

static int close_context(void **state) {
    (void)state;
    tsr__nn_free(nn);
    return 0;
}

static tsr__upscale_model *open_model(const char *file) {
    char path[512];
    tsr__weights *weights;
    tsr__upscale_model *model;
    (void)snprintf(path, sizeof path, "%s/upscale_models/%s", TSR_GOLDEN_DIR, file);
    OK(tsr__weights_open_any(&weights, path, &err));
    OK(tsr__upscale_model_open(&model, nn, weights, &err));
    tsr__weights_close(weights);
    return model;
}

/* A picture of waves in 0..1, so that no two places are alike. */
static float *picture(int n, int h, int w) {
    float *rgb = malloc((size_t)n * (size_t)h * (size_t)w * 3 * sizeof *rgb);
    assert_non_null(rgb);
    for (int i = 0; i < n * h * w * 3; i++) rgb[i] = 0.5f + 0.4f * (float)sin(0.37 * i + 1e-3 * i * (double)i);
    return rgb;
}

static double clamped(double value) {
    return value < 0 ? 0 : value > 1 ? 1 : value;
}

/* ComfyUI's tiled_scale as it is defined: tiles begin at 0, step, 2 step ... below size - overlap; each result is weighted
 * by (t + 1) / feather on the t-th pixel from each of its four sides. */
static void tile_by_definition(tsr__upscale_model *model, double *sum, double *weights, const float *rgb, int h, int w,
                               int y, int x, int tile, int overlap) {
    const int s = tsr__upscale_model_scale(model), th = h - y < tile ? h - y : tile, tw = w - x < tile ? w - x : tile;
    const int feather = overlap * s;
    float *in = malloc((size_t)(th * tw * 3) * sizeof *in), *out = malloc((size_t)(th * tw * s * s * 3) * sizeof *out);
    assert_true(in && out);
    for (int row = 0; row < th; row++)
        memcpy(in + row * tw * 3, rgb + ((y + row) * w + x) * 3, (size_t)tw * 3 * sizeof *in);
    OK(tsr__upscale_model_forward(model, out, in, th, tw, &err));
    for (int row = 0; row < th * s; row++) {
        for (int column = 0; column < tw * s; column++) {
            double weight = 1;
            const int sides[4] = { row, th * s - 1 - row, column, tw * s - 1 - column };
            for (int i = 0; i < 4; i++) {
                if (feather < (i < 2 ? th : tw) * s && sides[i] < feather) weight *= (sides[i] + 1.0) / feather;
            }
            const int to = (y * s + row) * w * s + x * s + column;
            weights[to] += weight;
            for (int c = 0; c < 3; c++) sum[to * 3 + c] += weight * clamped(out[(row * tw * s + column) * 3 + c]);
        }
    }
    free(in);
    free(out);
}

static void compare_tiled(const char *file, int h, int w, int tile, int overlap) {
    tsr__upscale_model *model = open_model(file);
    const int s = tsr__upscale_model_scale(model), pixels = h * w * s * s;
    float *rgb = picture(1, h, w), *got = calloc((size_t)pixels * 3, sizeof *got);
    double *sum = calloc((size_t)pixels * 3, sizeof *sum), *weights = calloc((size_t)pixels, sizeof *weights);
    assert_true(got && sum && weights);
    const int last_y = h > tile ? h - overlap : 1, last_x = w > tile ? w - overlap : 1;
    for (int y = 0; y < last_y; y += tile - overlap)
        for (int x = 0; x < last_x; x += tile - overlap)
            tile_by_definition(model, sum, weights, rgb, h, w, y, x, tile, overlap);
    OK(tsr__upscale_model_run(model, got, rgb, 1, h, w, tile, overlap, NULL, NULL, &err));
    for (int i = 0; i < pixels * 3; i++) {
        if (!(fabs(got[i] - clamped(sum[i] / weights[i / 3])) <= 2e-6))
            fail_msg("%s: [%d] %g", file, i, (double)got[i]);
    }
    free(rgb);
    free(got);
    free(sum);
    free(weights);
    tsr__upscale_model_free(model);
}

static void run__tiles_as_defined(void **state) {
    (void)state;
    compare_tiled("compact_x2.safetensors", 37, 45, 16, 4);
    compare_tiled("compact_x4.safetensors", 12, 40, 16, 7); /* one row of tiles; ramps that meet */
    compare_tiled("compact_x2.safetensors", 33, 20, 16, 0);
    compare_tiled("rrdb_x2.safetensors", 26, 19, 14, 5); /* tiles of odd sizes are mirrored before folding */
}

static void run__a_batch_is_picture_by_picture(void **state) {
    (void)state;
    tsr__upscale_model *model = open_model("compact_x2.safetensors");
    enum { N = 2, H = 20, W = 9, SIZE = H * W * 3 };
    float *rgb = picture(N, H, W), both[N * SIZE * 4], one[SIZE * 4];
    OK(tsr__upscale_model_run(model, both, rgb, N, H, W, 12, 3, NULL, NULL, &err));
    for (int i = 0; i < N; i++) {
        OK(tsr__upscale_model_run(model, one, rgb + i * SIZE, 1, H, W, 12, 3, NULL, NULL, &err));
        assert_memory_equal(one, both + i * SIZE * 4, sizeof one);
    }
    free(rgb);
    tsr__upscale_model_free(model);
}

static void forward__folded_models_take_any_size(void **state) {
    (void)state;
    tsr__upscale_model *model = open_model("rrdb_x2.safetensors");
    for (int size = 1; size < 6; size++) {
        float *rgb = picture(1, size, size + 1), out[6 * 7 * 4 * 3];
        for (size_t i = 0; i < sizeof out / sizeof *out; i++) out[i] = -99;
        OK(tsr__upscale_model_forward(model, out, rgb, size, size + 1, &err));
        for (size_t i = 0; i < sizeof out / sizeof *out; i++)
            assert_int_equal(out[i] != -99, i < (size_t)(size * (size + 1) * 4 * 3));
        free(rgb);
    }
    tsr__upscale_model_free(model);
}

typedef struct steps {
    int calls, stop_at, all;
} steps;

static int count_steps(void *user, int done, int all) {
    steps *s = user;
    assert_int_equal(done, ++s->calls);
    s->all = all;
    return done == s->stop_at;
}

static void run__reports_tiles_and_stops(void **state) {
    (void)state;
    tsr__upscale_model *model = open_model("compact_x2.safetensors");
    float *rgb = picture(1, 20, 20), out[20 * 20 * 4 * 3];
    steps s = { 0, 0, 0 };
    OK(tsr__upscale_model_run(model, out, rgb, 1, 20, 20, 12, 4, count_steps, &s, &err));
    assert_int_equal(s.calls, 4);
    assert_int_equal(s.all, 4);
    s = (steps){ 0, 2, 0 };
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__upscale_model_run(model, out, rgb, 1, 20, 20, 12, 4, count_steps, &s, &err), TSR_CANCELLED);
    assert_int_equal(s.calls, 2);
    assert_non_null(strstr(err.message, "2 of 4"));
    free(rgb);
    tsr__upscale_model_free(model);
}

static void run__refuses_bad_sizes(void **state) {
    (void)state;
    static const int bad[][5] = { { 0, 4, 4, 8, 2 },  { 1, 0, 4, 8, 2 }, { 1, 4, 0, 8, 2 },    { 1, 4, 4, 0, 0 },
                                  { 1, 4, 4, 8, -1 }, { 1, 4, 4, 8, 8 }, { 1, 4, 4, 5000, 2 }, { 1, 40000, 4, 8, 2 } };
    tsr__upscale_model *model = open_model("compact_x2.safetensors");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tsr_error err = TSR_ERROR_INIT;
        assert_int_not_equal(tsr__upscale_model_run(model, NULL, NULL, bad[i][0], bad[i][1], bad[i][2], bad[i][3],
                                                    bad[i][4], NULL, NULL, &err),
                             TSR_OK);
        assert_true(err.message[0]);
    }
    assert_int_not_equal(tsr__upscale_model_forward(model, NULL, NULL, 4, 5000, NULL), TSR_OK);
    tsr__upscale_model_free(model);
}

/* --- made models --- */

typedef struct part {
    const char *name;
    int shape[4]; /* 0 ends it */
} part;

/* A file with these tensors, all values `fill`; must be refused with that text, or opened when it is NULL. */
static void open_made(const part *parts, int count, float fill, const char *says) {
    tsr__tensor_out tensors[16];
    float values[4096];
    char path[] = "/tmp/tsr_upscale_XXXXXX";
    tsr__weights *weights = NULL;
    tsr__upscale_model *model = NULL;
    tsr_error refusal = TSR_ERROR_INIT;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) values[i] = fill;
    for (int i = 0; i < count; i++) {
        tensors[i] = (tsr__tensor_out){ .name = parts[i].name, .dtype = TSR_DTYPE_F32, .data = values };
        for (; tensors[i].rank < 4 && parts[i].shape[tensors[i].rank]; tensors[i].rank++)
            tensors[i].shape[tensors[i].rank] = parts[i].shape[tensors[i].rank];
    }
    int handle = mkstemp(path);
    assert_true(handle >= 0);
    OK(tsr__safetensors_save(path, tensors, (size_t)count, NULL, &err));
    OK(tsr__weights_open_any(&weights, path, &err));
    tsr_status status = tsr__upscale_model_open(&model, nn, weights, &refusal);
    if (says && (status == TSR_OK || model || !strstr(refusal.message, says)))
        fail_msg("\"%s\", not \"%s\"", refusal.message, says);
    if (!says) {
        if (status != TSR_OK) fail_msg("%s", refusal.message);
        float rgb[2 * 3 * 3], out[2 * 3 * 9 * 3];
        for (int i = 0; i < 18; i++) rgb[i] = (float)i / 20;
        assert_int_equal(tsr__upscale_model_scale(model), 3);
        OK(tsr__upscale_model_forward(model, out, rgb, 2, 3, &err));
        for (int y = 0; y < 6; y++)
            for (int x = 0; x < 9; x++)
                for (int c = 0; c < 3; c++) assert_true(out[(y * 9 + x) * 3 + c] == rgb[(y / 3 * 3 + x / 3) * 3 + c]);
    }
    tsr__upscale_model_free(model);
    tsr__weights_close(weights);
    (void)remove(path);
}

#define MADE(fill, says, ...)                                                                                          \
    open_made((const part[]){ __VA_ARGS__ }, (int)(sizeof((const part[]){ __VA_ARGS__ }) / sizeof(part)), fill, says)

static void open__zero_weights_enlarge_to_the_nearest(void **state) {
    (void)state;
    MADE(0, NULL, { "body.0.weight", { 4, 3, 3, 3 } }, { "body.1.weight", { 4 } },
         { "body.2.weight", { 27, 4, 3, 3 } });
}

static void open__says_why_not(void **state) {
    (void)state;
    MADE(0, "needed", { "something.weight", { 2, 2 } });
    MADE(0, "this is a LoRA", { "lora_unet_conv_in.lora_up.weight", { 2, 2 } });
    MADE(0, "\"body.1.weight\" is missing", { "body.0.weight", { 4, 3, 3, 3 } }, { "body.2.weight", { 12, 4, 3, 3 } });
    MADE(0, "no RGB picture of any scale", { "body.0.weight", { 4, 3, 3, 3 } }, { "body.1.weight", { 4 } },
         { "body.2.weight", { 13, 4, 3, 3 } });
    MADE(0, "has not 4 values", { "body.0.weight", { 4, 3, 3, 3 } }, { "body.1.weight", { 5 } },
         { "body.2.weight", { 12, 4, 3, 3 } });
    MADE(0, "which has no \"body.9.weight\"", { "body.0.weight", { 4, 3, 3, 3 } }, { "body.1.weight", { 4 } },
         { "body.2.weight", { 12, 4, 3, 3 } }, { "body.9.weight", { 4 } });
    MADE(0, "\"conv_first.weight\" is missing", { "body.0.rdb1.conv1.weight", { 4, 8, 3, 3 } });
    MADE(0, "takes 4 channels", { "body.0.rdb1.conv1.weight", { 4, 8, 3, 3 } },
         { "conv_first.weight", { 8, 4, 3, 3 } });
    MADE(0, "makes pictures smaller", { "body.0.rdb1.conv1.weight", { 4, 8, 3, 3 } },
         { "conv_first.weight", { 8, 48, 3, 3 } });
    MADE(0, "[4, 8, 3, 3] would fit", { "body.0.rdb1.conv1.weight", { 4, 9, 3, 3 } },
         { "conv_first.weight", { 8, 3, 3, 3 } });
    MADE(0, "no 3x3 convolution", { "body.0.rdb1.conv1.weight", { 4, 8, 1, 1 } },
         { "conv_first.weight", { 8, 3, 3, 3 } });
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run__tiles_as_defined),
        cmocka_unit_test(run__a_batch_is_picture_by_picture),
        cmocka_unit_test(forward__folded_models_take_any_size),
        cmocka_unit_test(run__reports_tiles_and_stops),
        cmocka_unit_test(run__refuses_bad_sizes),
        cmocka_unit_test(open__zero_weights_enlarge_to_the_nearest),
        cmocka_unit_test(open__says_why_not),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
