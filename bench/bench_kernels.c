/* bench/bench_kernels.c - the layers of Stable Diffusion 1.5's UNet at batch 2 and a latent of 64 x 64, one by one.
 *
 * Weights and activations hold small random numbers. Every line is the fastest of the repeats, after a warm-up. */
#include "bench.h"
#include "core/check.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static tsr_status fill_random(void *user, float *dst, size_t count, tsr_error *err) {
    uint32_t *state = user;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        *state = *state * 1664525u + 1013904223u;
        dst[i] = ((float)(*state >> 8) / 16777216.0f - 0.5f) * 0.1f;
    }
    return TSR_OK;
}

/* What a case needs to run once. */
typedef struct bench_case {
    tsr__nn *nn;
    tsr__tensor x;
    tsr__nn_weight *weight;
    float *vector; /* c zeros, for norms */
    int sizes[6];
} bench_case;

typedef tsr_status (*run_fn)(bench_case *c, tsr__tensor *out, tsr_error *err);

static tsr_status run_conv(bench_case *c, tsr__tensor *out, tsr_error *err) {
    return tsr__nn_conv2d(c->nn, out, &c->x, c->weight, NULL, NULL, err);
}
static tsr_status run_linear(bench_case *c, tsr__tensor *out, tsr_error *err) {
    return tsr__nn_linear(c->nn, out, &c->x, c->weight, TSR__ACT_NONE, NULL, err);
}
static tsr_status run_attention(bench_case *c, tsr__tensor *out, tsr_error *err) {
    int width = c->sizes[1] * c->sizes[2];
    tsr__token_view q = { &c->x, c->sizes[3], 3 * width, 0 }, k = { &c->x, c->sizes[4], 3 * width, width };
    tsr__token_view v = { &c->x, c->sizes[4], 3 * width, 2 * width };
    return tsr__nn_attention(c->nn, out, q, k, v, c->sizes[0], c->sizes[1], c->sizes[2], NULL, 0, err);
}
static tsr_status run_group_norm(bench_case *c, tsr__tensor *out, tsr_error *err) {
    return tsr__nn_group_norm(c->nn, out, &c->x, 32, 1e-5f, c->vector, c->vector, 1, err);
}
static tsr_status run_layer_norm(bench_case *c, tsr__tensor *out, tsr_error *err) {
    return tsr__nn_layer_norm(c->nn, out, &c->x, 1e-5f, c->vector, c->vector, err);
}
static tsr_status run_geglu(bench_case *c, tsr__tensor *out, tsr_error *err) {
    return tsr__nn_geglu(c->nn, out, &c->x, err);
}

static tsr_status measure(bench_case *c, run_fn run, int repeat, double *best, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i <= 2 * repeat; i++) {
        tsr__tensor out;
        double start = bench_now();
        TSR_TRY(run(c, &out, err));
        double seconds = bench_now() - start;
        tsr__nn_release(c->nn, &out);
        if (i == 1 || (i > 1 && seconds < *best)) *best = seconds;
    }
done:
    return status;
}

static tsr_status random_tensor(tsr__nn *nn, tsr__tensor *out, int n, int h, int w, int c, tsr_error *err) {
    tsr_status status = TSR_OK;
    uint32_t seed = 1;
    size_t count = (size_t)n * (size_t)h * (size_t)w * (size_t)c;
    float *values = malloc(count * sizeof *values);
    if (!values) return tsr__fail(err, TSR_NO_MEMORY, "out of memory (%zu bytes)", count * sizeof *values);
    (void)fill_random(&seed, values, count, err);
    TSR_TRY(tsr__nn_from_rows(nn, out, values, n, h * w, c, err));
    out->h = h;
    out->w = w;
done:
    free(values);
    return status;
}

typedef struct kernel_row {
    char kind; /* c conv, l linear, a attention, g group norm, n layer norm, u geglu */
    int sizes[6];
} kernel_row;

static const kernel_row rows[] = {
    /* n, h = w, in, out, kernel, stride */
    { 'c', { 2, 64, 4, 320, 3, 1 } },
    { 'c', { 2, 64, 320, 320, 3, 1 } },
    { 'c', { 2, 64, 640, 320, 3, 1 } },
    { 'c', { 2, 64, 960, 320, 3, 1 } },
    { 'c', { 2, 64, 320, 320, 3, 2 } },
    { 'c', { 2, 32, 320, 640, 3, 1 } },
    { 'c', { 2, 32, 640, 640, 3, 1 } },
    { 'c', { 2, 32, 1920, 640, 3, 1 } },
    { 'c', { 2, 64, 640, 640, 3, 1 } },
    { 'c', { 2, 16, 1280, 1280, 3, 1 } },
    { 'c', { 2, 16, 2560, 1280, 3, 1 } },
    { 'c', { 2, 32, 1280, 1280, 3, 1 } },
    { 'c', { 2, 8, 1280, 1280, 3, 1 } },
    { 'c', { 2, 8, 2560, 1280, 3, 1 } },
    { 'c', { 2, 64, 320, 4, 3, 1 } },
    { 'c', { 2, 64, 640, 320, 1, 1 } },
    { 'c', { 2, 16, 2560, 1280, 1, 1 } },
    /* rows, in, out */
    { 'l', { 8192, 320, 320 } },
    { 'l', { 8192, 320, 960 } },
    { 'l', { 8192, 320, 2560 } },
    { 'l', { 8192, 1280, 320 } },
    { 'l', { 2048, 640, 1920 } },
    { 'l', { 2048, 640, 5120 } },
    { 'l', { 2048, 2560, 640 } },
    { 'l', { 512, 1280, 3840 } },
    { 'l', { 512, 1280, 10240 } },
    { 'l', { 512, 5120, 1280 } },
    { 'l', { 128, 1280, 10240 } },
    { 'l', { 154, 768, 640 } },
    { 'l', { 2, 1280, 320 } },
    /* n, heads, head size, queries, keys */
    { 'a', { 2, 8, 40, 4096, 4096 } },
    { 'a', { 2, 8, 40, 4096, 77 } },
    { 'a', { 2, 8, 80, 1024, 1024 } },
    { 'a', { 2, 8, 80, 1024, 77 } },
    { 'a', { 2, 8, 160, 256, 256 } },
    { 'a', { 2, 8, 160, 64, 64 } },
    { 'a', { 2, 10, 64, 4096, 4096 } },
    { 'a', { 1, 1, 512, 4096, 4096 } },
    /* n, h, w, c */
    { 'g', { 2, 64, 64, 320 } },
    { 'g', { 2, 64, 64, 640 } },
    { 'g', { 2, 16, 16, 1280 } },
    { 'n', { 2, 64, 64, 320 } },
    { 'u', { 2, 64, 64, 2560 } },
};

static tsr_status prepare(bench_case *c, const kernel_row *row, char *shape, size_t size, double *work, run_fn *run,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    const int *s = row->sizes;
    uint32_t seed = 2;
    *work = 0;
    if (row->kind == 'c') {
        TSR_TRY(random_tensor(c->nn, &c->x, s[0], s[1], s[1], s[2], err));
        TSR_TRY(tsr__nn_conv_weight(c->nn, &c->weight, s[3], s[2], s[4], s[5], s[4] / 2, s[4] / 2, fill_random, &seed,
                                    NULL, err));
        snprintf(shape, size, "%dx%dx%dx%d -> %d, kernel %d, stride %d", s[0], s[1], s[1], s[2], s[3], s[4], s[5]);
        *work = 2.0 * s[0] * s[1] * s[1] / (s[5] * s[5]) * s[2] * s[3] * s[4] * s[4];
        *run = run_conv;
    } else if (row->kind == 'l') {
        TSR_TRY(random_tensor(c->nn, &c->x, 1, 1, s[0], s[1], err));
        TSR_TRY(tsr__nn_linear_weight(c->nn, &c->weight, s[2], s[1], fill_random, &seed, NULL, err));
        snprintf(shape, size, "%dx%d -> %d", s[0], s[1], s[2]);
        *work = 2.0 * s[0] * s[1] * s[2];
        *run = run_linear;
    } else if (row->kind == 'a') {
        TSR_TRY(random_tensor(c->nn, &c->x, s[0], 1, s[3] > s[4] ? s[3] : s[4], 3 * s[1] * s[2], err));
        snprintf(shape, size, "%d x %d heads of %d, %d on %d", s[0], s[1], s[2], s[3], s[4]);
        *work = 4.0 * s[0] * s[1] * s[2] * s[3] * s[4];
        *run = run_attention;
    } else {
        TSR_TRY(random_tensor(c->nn, &c->x, s[0], s[1], s[2], s[3], err));
        snprintf(shape, size, "%dx%dx%dx%d", s[0], s[1], s[2], s[3]);
        *run = row->kind == 'g' ? run_group_norm : row->kind == 'n' ? run_layer_norm : run_geglu;
    }
done:
    return status;
}

static const char *kind_name(char kind) {
    switch (kind) {
    case 'c': return "conv";
    case 'l': return "linear";
    case 'a': return "attention";
    case 'g': return "group norm";
    case 'n': return "layer norm";
    default: return "geglu";
    }
}

tsr_status bench_kernels(const bench_options *options, bench_report *report, tsr_error *err) {
    tsr_status status = TSR_OK;
    bench_case c = { NULL, { 0 }, NULL, NULL, { 0 } };
    tsr__nn_options nn_options = { options->precision, options->threads };
    double peak = 0;
    c.vector = calloc(4096, sizeof *c.vector);
    if (!c.vector) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(tsr__nn_new(&c.nn, &nn_options, err));
    TSR_TRY(bench_matmul_peak(report, options, &peak, err));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char shape[96];
        double work = 0, seconds = 0;
        run_fn run = NULL;
        for (int j = 0; j < 6; j++) c.sizes[j] = rows[i].sizes[j];
        TSR_TRY(prepare(&c, &rows[i], shape, sizeof shape, &work, &run, err));
        TSR_TRY(measure(&c, run, options->repeat, &seconds, err));
        bench_line(report, kind_name(rows[i].kind), shape, seconds, work, peak);
        tsr__nn_release(c.nn, &c.x);
        tsr__nn_weight_free(c.nn, c.weight);
        c.weight = NULL;
    }
done:
    if (c.nn) {
        tsr__nn_release(c.nn, &c.x);
        tsr__nn_weight_free(c.nn, c.weight);
    }
    tsr__nn_free(c.nn);
    free(c.vector);
    return status;
}
