/* bench/bench_lora.c - what a LoRA per region costs: two halves of a picture with negatives of their own, with and
 * without a LoRA each, at Stable Diffusion 1.5's size. Only sampling is timed.
 *
 * An adapter changes the model that the negative is evaluated with, too, so two regions with two adapters need four
 * evaluations a step whatever their negatives are. The plain run has two different negatives for that reason: both make the
 * same four evaluations, and what is left between them is the adapters' own work. Runs go in pairs, one of each kind,
 * and the fastest of each kind is compared. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "core/check.h"
#include "core/memory.h"
#include "engine/engine_priv.h"
#include "synthetic.h"

enum { SIDE = 512, HALVES = 2, RANKS = 2, PROFILE_ROWS = 60 };

static const struct rank_row {
    int rank;
    double goal; /* 0: none */
} ranks[RANKS] = { { 16, 1.15 }, { 64, 0 } };

/* A scene made ready to sample. */
typedef struct prepared {
    tsr_scene *scene;
    tsr__job *job;
    tsr_plan *plan;
} prepared;

static void clear(prepared *p) {
    tsr_plan_free(p->plan);
    tsr__job_free(p->job);
    tsr_scene_free(p->scene);
}

static tsr_status set_number(tsr_scene *scene, const char *key, int value, tsr_error *err) {
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    return tsr_scene_set(scene, key, text, err);
}

static tsr_status add_half(tsr_scene *scene, int i, int rank, tsr_error *err) {
    static const char *const boxes[HALVES] = { "0:0:50%:100%", "50%:0:50%:100%" };
    static const char *const prompts[HALVES] = { "a house", "a tree" }, *const negatives[HALVES] = { "blurry", "dark" };
    tsr_status status = TSR_OK;
    int index = 0;
    TSR_TRY(tsr_scene_add_region(scene, &index, err));
    TSR_TRY(tsr_scene_set_region(scene, index, "box", boxes[i], err));
    TSR_TRY(tsr_scene_set_region(scene, index, "prompt", prompts[i], err));
    TSR_TRY(tsr_scene_set_region(scene, index, "negative", negatives[i], err));
    if (!rank) goto done;
    const char *path = synthetic_lora(rank, i);
    if (!path) TSR_FAIL(err, TSR_IO, "no synthetic LoRA: set TMPDIR to a folder with room");
    TSR_TRY(tsr_scene_set_region(scene, index, "lora", path, err));
done:
    return status;
}

/* rank 0: without adapters. */
static tsr_status prepare(prepared *out, tsr_engine *engine, int rank, int steps, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr_scene_new(&out->scene, err));
    TSR_TRY(set_number(out->scene, "width", SIDE, err));
    TSR_TRY(set_number(out->scene, "height", SIDE, err));
    TSR_TRY(set_number(out->scene, "steps", steps, err));
    TSR_TRY(tsr_scene_set(out->scene, "mode", "full", err));
    for (int i = 0; i < HALVES; i++) TSR_TRY(add_half(out->scene, i, rank, err));
    TSR_TRY(tsr__job_new(&out->job, engine, out->scene, NULL, 1, err));
    TSR_TRY(tsr_plan_new(&out->plan, &out->job->base, out->job->regions, out->job->region_count, &out->job->options,
                         out->job->latent->shape, err));
done:
    return status;
}

static tsr_status run(double *seconds, const prepared *p, tsr_error *err) {
    tsr_latent *result = NULL;
    double start = bench_now();
    tsr_status status = tsr_plan_run(&result, p->plan, p->job->latent, NULL, err);
    *seconds = bench_now() - start;
    tsr_latent_free(result);
    return status;
}

static tsr_status measure(const bench_options *options, bench_report *report, tsr_engine *engine,
                          const struct rank_row *row, tsr_error *err) {
    tsr_status status = TSR_OK;
    prepared plain = { 0 }, adapted = { 0 };
    double best_plain = 0, best = 0, seconds = 0;
    char shape[64];
    int steps = options->steps ? options->steps : 1;
    TSR_TRY(prepare(&plain, engine, 0, steps, err));
    TSR_TRY(prepare(&adapted, engine, row->rank, steps, err));
    TSR_TRY(run(&seconds, &plain, err)); /* texts, keys and values, primitives */
    TSR_TRY(run(&seconds, &adapted, err));
    for (int i = 0; i < options->repeat; i++) {
        TSR_TRY(run(&seconds, &plain, err));
        if (i == 0 || seconds < best_plain) best_plain = seconds;
        if (options->profile && i + 1 == options->repeat) TSR_TRY(tsr__nn_profile_start(engine->nn, err));
        TSR_TRY(run(&seconds, &adapted, err));
        if (i == 0 || seconds < best) best = seconds;
    }
    if (options->profile) {
        bench_profile(report, engine->nn, PROFILE_ROWS, 0);
        tsr__nn_profile_stop(engine->nn);
    }
    bench_ratio(report, "plain", "2 regions", best_plain, 1.0, tsr_plan_evaluations(plain.plan), 0);
    snprintf(shape, sizeof shape, "2 regions, rank %d", row->rank);
    bench_ratio(report, "lora", shape, best, best / best_plain, tsr_plan_evaluations(adapted.plan), row->goal);
done:
    clear(&plain);
    clear(&adapted);
    return status;
}

tsr_status bench_lora(const bench_options *options, bench_report *report, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    tsr_engine_options engine_options = TSR_ENGINE_OPTIONS_INIT;
    engine_options.model = synthetic_checkpoint(SYNTHETIC_SD15);
    engine_options.precision = options->precision == TSR__BF16 ? TSR_PRECISION_BF16 : TSR_PRECISION_F32;
    engine_options.threads = options->threads;
    if (!engine_options.model)
        TSR_FAIL(err, TSR_IO, "no synthetic checkpoint: set TMPDIR to a folder with 2.2 GB of room");
    TSR_TRY(tsr_engine_open(&engine, &engine_options, err));
    for (int i = 0; i < RANKS; i++) TSR_TRY(measure(options, report, engine, &ranks[i], err));
done:
    tsr_engine_close(engine);
    return status;
}
