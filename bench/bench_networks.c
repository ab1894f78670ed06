/* bench/bench_networks.c - whole networks at Stable Diffusion 1.5's real size, on synthetic weights: time against the
 * machine's matmul peak, and resident memory against the packed weights. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "model/model.h"
#include "synthetic.h"

enum { SIDE = 64, BATCH = 2, TOKENS = 77, CELLS = SIDE * SIDE, PROFILE_ROWS = 40 };

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != TSR_OK) goto done;                                                                               \
    } while (0)

static tsr_status refuse(tsr_error *err, tsr_status status, const char *message) {
    if (err && err->status == TSR_OK) {
        err->status = status;
        snprintf(err->message, sizeof err->message, "%s", message);
    }
    return status;
}

/* Repeatable values of standard deviation about one. */
static float *values(size_t count) {
    float *out = malloc(count * sizeof *out);
    uint32_t state = 1;
    for (size_t i = 0; out && i < count; i++) {
        state = state * 1664525u + 1013904223u;
        out[i] = (float)(state >> 8) / (float)(1 << 23) * 1.7f - 1.7f;
    }
    return out;
}

/* What both benchmarks open and report. */
typedef struct network {
    tsr__weights *weights;
    tsr__nn *nn;
    double peak; /* GFLOP/s */
} network;

static tsr_status open_network(network *n, const bench_options *options, bench_report *report, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn_options nn_options = { options->precision, options->threads };
    TRY(bench_matmul_peak(report, options, &n->peak, err));
    const char *path = synthetic_checkpoint(SYNTHETIC_SD15);
    if (!path) TRY(refuse(err, TSR_IO, "no synthetic checkpoint: set TMPDIR to a folder with 2.2 GB of room"));
    bench_reset_peak_resident();
    TRY(tsr__weights_open(&n->weights, path, err));
    TRY(tsr__nn_new(&n->nn, &nn_options, err));
done:
    return status;
}

static void report_memory(const network *n, bench_report *report) {
    double packed = (double)tsr__nn_weight_bytes(n->nn) / (1 << 20), peak = bench_peak_resident();
    bench_value(report, "packed weights", packed, "MiB");
    bench_value(report, "activations, most at once", (double)tsr__nn_peak_bytes(n->nn) / (1 << 20), "MiB");
    bench_value(report, "resident, most at once", peak, "MiB");
    bench_value(report, "resident beside packed weights", peak - packed, "MiB");
}

static void close_network(network *n) {
    tsr__weights_close(n->weights);
    tsr__nn_free(n->nn);
}

tsr_status bench_unet(const bench_options *options, bench_report *report, tsr_error *err) {
    tsr_status status = TSR_OK;
    synthetic_counts counts = synthetic_count(SYNTHETIC_SD15, SIDE, SIDE, TOKENS);
    network n = { 0 };
    tsr__unet *unet = NULL;
    tsr__unet_context *contexts[BATCH] = { 0 };
    float *x = values((size_t)BATCH * 4 * CELLS), *out = values((size_t)BATCH * 4 * CELLS), *text = NULL;
    float timesteps[BATCH] = { 500, 500 };
    double best = 0;
    TRY(open_network(&n, options, report, err));
    TRY(tsr__unet_new(&unet, n.nn, n.weights, "model.diffusion_model", NULL, err));
    if (tsr__unet_parameters(unet) != counts.unet_parameters)
        TRY(refuse(err, TSR_BACKEND, "the UNet loaded another number of parameters than the file has"));
    text = values((size_t)TOKENS * (size_t)tsr__unet_context_width(unet));
    if (!x || !out || !text) TRY(refuse(err, TSR_NO_MEMORY, "out of memory"));
    for (int i = 0; i < BATCH; i++) TRY(tsr__unet_context_new(&contexts[i], unet, text, TOKENS, err));
    for (int i = 0; i <= options->repeat; i++) { /* the first run makes the primitives */
        if (options->profile && i == options->repeat) TRY(tsr__nn_profile_start(n.nn, err));
        double start = bench_now();
        TRY(tsr__unet_run(unet, out, x, BATCH, SIDE, SIDE, timesteps, contexts, NULL, err));
        double seconds = bench_now() - start;
        if (i == 1 || (i && seconds < best)) best = seconds;
    }
    bench_value(report, "parameters", (double)counts.unet_parameters / 1e6, "million");
    bench_value(report, "operations a run", BATCH * counts.unet_flop / 1e9, "GFLOP");
    bench_line(report, "unet", "2x4x64x64, 77 tokens", best, BATCH * counts.unet_flop, n.peak);
    report_memory(&n, report);
    if (options->profile) bench_profile(report, n.nn, PROFILE_ROWS, n.peak);
done:
    for (int i = 0; i < BATCH; i++) tsr__unet_context_free(contexts[i]);
    tsr__unet_free(unet);
    close_network(&n);
    free(x);
    free(out);
    free(text);
    return status;
}

tsr_status bench_vae(const bench_options *options, bench_report *report, tsr_error *err) {
    tsr_status status = TSR_OK;
    synthetic_counts counts = synthetic_count(SYNTHETIC_SD15, SIDE, SIDE, TOKENS);
    network n = { 0 };
    tsr__vae *vae = NULL;
    float *latent = values((size_t)4 * CELLS), *rgb = values((size_t)3 * 64 * CELLS);
    double best = 0;
    TRY(open_network(&n, options, report, err));
    TRY(tsr__vae_new(&vae, n.nn, n.weights, "first_stage_model", NULL, err));
    if (!latent || !rgb) TRY(refuse(err, TSR_NO_MEMORY, "out of memory"));
    for (int i = 0; i <= options->repeat; i++) {
        if (options->profile && i == options->repeat) TRY(tsr__nn_profile_start(n.nn, err));
        double start = bench_now();
        TRY(tsr__vae_decode(vae, rgb, latent, 1, SIDE, SIDE, 0, err));
        double seconds = bench_now() - start;
        if (i == 1 || (i && seconds < best)) best = seconds;
    }
    bench_value(report, "operations a run", counts.decode_flop / 1e9, "GFLOP");
    bench_line(report, "vae", "decode to 512x512", best, counts.decode_flop, n.peak);
    report_memory(&n, report);
    if (options->profile) bench_profile(report, n.nn, PROFILE_ROWS, n.peak);
done:
    tsr__vae_free(vae);
    close_network(&n);
    free(latent);
    free(rgb);
    return status;
}

tsr_status bench_clean(const bench_options *options, bench_report *report, tsr_error *err) {
    (void)options;
    (void)report;
    (void)err;
    synthetic_clean();
    return TSR_OK;
}
