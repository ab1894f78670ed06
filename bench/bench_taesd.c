/* bench/bench_taesd.c - TAESD's decoder against the whole VAE's, to the same sizes in one run: seconds and memory. Each
 * decoder has a context of its own, so that its memory is told apart. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "core/check.h"
#include "core/memory.h"
#include "model/model.h"
#include "synthetic.h"

enum { LATENT = 4, FACTOR = 8, PROFILE_ROWS = 40 };

static const struct decoder_row {
    const char *name, *prefix;
    int which; /* of synthetic_vae_flop's */
} decoders[] = { { "vae", "full", 0 }, { "taesd", "tiny", 1 } };
static const int sides[] = { 512, 1024 };

/* The fastest of `repeat` runs behind one that makes the primitives. */
static tsr_status time_decodes(double *best, tsr__vae *vae, float *rgb, const float *latent, int cells, int repeat,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i <= repeat && status == TSR_OK; i++) {
        double start = bench_now();
        status = tsr__vae_decode(vae, rgb, latent, 1, cells, cells, 0, err);
        double seconds = bench_now() - start;
        if (i == 1 || (i && seconds < *best)) *best = seconds;
    }
    return status;
}

static tsr_status measure(const struct decoder_row *row, int side, const tsr__weights *weights, double peak,
                          const bench_options *options, bench_report *report, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn_options nn_options = { options->precision, options->threads };
    tsr__nn *nn = NULL;
    tsr__vae *vae = NULL;
    float *latent = NULL, *rgb = NULL;
    const int cells = side / FACTOR;
    double best = 0, flop[2];
    char shape[64];
    synthetic_vae_flop(flop, cells, cells);
    TSR_ALLOC_ZERO(err, latent, LATENT * cells * cells);
    TSR_ALLOC_ZERO(err, rgb, 3 * side * side);
    for (int i = 0; i < LATENT * cells * cells; i++) latent[i] = (float)(i * 37 % 101) / 25.0f - 2.0f;
    bench_reset_peak_resident();
    TSR_TRY(tsr__nn_new(&nn, &nn_options, err));
    TSR_TRY(tsr__vae_new(&vae, nn, weights, row->prefix, NULL, err));
    TSR_TRY(time_decodes(&best, vae, rgb, latent, cells, options->repeat, err));
    snprintf(shape, sizeof shape, "decode to %d x %d", side, side);
    bench_line(report, row->name, shape, best, flop[row->which], peak);
    bench_value(report, "activations, most at once", (double)tsr__nn_peak_bytes(nn) / (1 << 20), "MiB");
    bench_value(report, "activations, foretold", (double)tsr__vae_decode_bytes(vae, cells, cells) / (1 << 20), "MiB");
    bench_value(report, "packed weights", (double)tsr__nn_weight_bytes(nn) / (1 << 20), "MiB");
    bench_value(report, "resident, most at once", bench_peak_resident(), "MiB");
    if (options->profile) {
        TSR_TRY(tsr__nn_profile_start(nn, err));
        TSR_TRY(tsr__vae_decode(vae, rgb, latent, 1, cells, cells, 0, err));
        bench_profile(report, nn, PROFILE_ROWS, peak);
    }
done:
    tsr__vae_free(vae);
    tsr__nn_free(nn);
    free(latent);
    free(rgb);
    return status;
}

tsr_status bench_taesd(const bench_options *options, bench_report *report, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    double peak = 0;
    const char *path = synthetic_vaes();
    if (!path) TSR_FAIL(err, TSR_IO, "no synthetic autoencoders: set TMPDIR to a folder with 180 MB of room");
    TSR_TRY(bench_matmul_peak(report, options, &peak, err));
    TSR_TRY(tsr__weights_open(&weights, path, err));
    for (size_t s = 0; s < sizeof sides / sizeof *sides; s++)
        for (size_t i = 0; i < sizeof decoders / sizeof *decoders; i++)
            TSR_TRY(measure(&decoders[i], sides[s], weights, peak, options, report, err));
done:
    tsr__weights_close(weights);
    return status;
}
