/* bench/bench_sizes.c - the families at their real sizes, through the engine: from a file of float16 to the first step and
 * the picture, with the memory that takes. --modes sd15,sd21,sdxl chooses. */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "core/check.h"
#include "core/memory.h"
#include "engine/engine_priv.h"
#include "synthetic.h"

enum { TOKENS = 77, EVALUATIONS = 2, PROFILE_ROWS = 40 };

static const struct size_row {
    const char *name;
    synthetic_family family;
    int side; /* pixels */
} rows[] = {
    { "sd15", SYNTHETIC_SD15, 512 },
    { "sd21", SYNTHETIC_SD21, 768 },
    { "sdxl", SYNTHETIC_SDXL, 1024 },
};

static tsr_status make_scene(tsr_scene **out, int side, tsr_error *err) {
    tsr_status status = TSR_OK;
    char text[16];
    snprintf(text, sizeof text, "%d", side);
    TSR_TRY(tsr_scene_new(out, err));
    TSR_TRY(tsr_scene_set(*out, "width", text, err));
    TSR_TRY(tsr_scene_set(*out, "height", text, err));
    TSR_TRY(tsr_scene_set(*out, "steps", "1", err));
    TSR_TRY(tsr_scene_set(*out, "cfg", "7", err));
    TSR_TRY(tsr_scene_set(*out, "prompt", "a house on a hill", err));
    TSR_TRY(tsr_scene_set(*out, "negative", "blurry", err));
done:
    return status;
}

static tsr_status one_step(tsr_latent **out, const tsr__job *job, double *seconds, tsr_error *err) {
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    options.steps = 1;
    tsr_latent_free(*out);
    double start = bench_now();
    tsr_status status = tsr_ksampler(out, job->latent, &job->base.guide, &options, err);
    *seconds = bench_now() - start;
    return status;
}

/* What is packed so far. */
static double packed_mib(const tsr_engine *engine) {
    size_t bytes = tsr__nn_weight_bytes(engine->nn);
    if (engine->text_nn != engine->nn) bytes += tsr__nn_weight_bytes(engine->text_nn);
    return (double)bytes / (1 << 20);
}

static void report_memory(bench_report *report, const char *what, const tsr_engine *engine) {
    double peak = bench_peak_resident();
    char name[64];
    snprintf(name, sizeof name, "%s: resident, most at once", what);
    bench_value(report, name, peak, "MiB");
    snprintf(name, sizeof name, "%s: beside packed weights", what);
    bench_value(report, name, peak - packed_mib(engine), "MiB");
}

/* The first step, with everything built for it; then more, and the picture. */
static tsr_status measure_engine(const struct size_row *row, const bench_options *options, bench_report *report,
                                 tsr_engine *engine, double opened, double peak, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_scene *scene = NULL;
    tsr__job *job = NULL;
    tsr_latent *latent = NULL;
    tsr_image *image = NULL;
    double seconds = 0, best = 0;
    char shape[64];
    double work = EVALUATIONS * synthetic_count(row->family, row->side / 8, row->side / 8, TOKENS).unet_flop;
    TSR_TRY(make_scene(&scene, row->side, err));
    TSR_TRY(tsr__job_new(&job, engine, scene, NULL, 1, err));
    TSR_TRY(one_step(&latent, job, &seconds, err));
    snprintf(shape, sizeof shape, "file to the end of the first step, %d x %d", row->side, row->side);
    bench_line(report, row->name, shape, bench_now() - opened, 0, 0);
    bench_value(report, "packed weights", packed_mib(engine), "MiB");
    report_memory(report, "first step", engine);
    for (int i = 0; i < options->repeat; i++) {
        if (options->profile && i + 1 == options->repeat) TSR_TRY(tsr__nn_profile_start(engine->nn, err));
        TSR_TRY(one_step(&latent, job, &seconds, err));
        if (i == 0 || seconds < best) best = seconds;
    }
    if (options->profile) bench_profile(report, engine->nn, PROFILE_ROWS, peak);
    bench_line(report, row->name, "a step, two evaluations of the UNet", best, work, peak);
    double start = bench_now();
    TSR_TRY(tsr_engine_decode(&image, engine, latent, 0, 0, err));
    bench_line(report, row->name, "decoding", bench_now() - start, 0, 0);
    report_memory(report, "with the picture", engine);
done:
    tsr_image_free(image);
    tsr_latent_free(latent);
    tsr__job_free(job);
    tsr_scene_free(scene);
    return status;
}

static tsr_status measure(const struct size_row *row, const bench_options *options, bench_report *report, double peak,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    tsr_engine_options engine_options = TSR_ENGINE_OPTIONS_INIT;
    engine_options.model = synthetic_checkpoint(row->family);
    engine_options.precision = options->precision == TSR__BF16 ? TSR_PRECISION_BF16 : TSR_PRECISION_F32;
    engine_options.threads = options->threads;
    if (!engine_options.model) TSR_FAIL(err, TSR_IO, "no synthetic checkpoint: set TMPDIR to a folder with room");
    bench_reset_peak_resident();
    double start = bench_now();
    TSR_TRY(tsr_engine_open(&engine, &engine_options, err));
    TSR_TRY(tsr__engine_need_unet(engine, err));
    if (tsr__unet_parameters(engine->unet) != synthetic_count(row->family, 64, 64, TOKENS).unet_parameters)
        TSR_FAIL(err, TSR_BACKEND, "the UNet loaded another number of parameters than the file has");
    status = measure_engine(row, options, report, engine, start, peak, err);
done:
    tsr_engine_close(engine);
    return status;
}

tsr_status bench_sizes(const bench_options *options, bench_report *report, tsr_error *err) {
    double peak = 0;
    tsr_status status = bench_matmul_peak(report, options, &peak, err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && status == TSR_OK; i++)
        if (!options->modes || strstr(options->modes, rows[i].name))
            status = measure(&rows[i], options, report, peak, err);
    return status;
}
