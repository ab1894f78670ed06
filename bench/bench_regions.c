/* bench/bench_regions.c - what regions cost: 1, 2, 4 and 8 of them in each sharing mode against a plain run of the same
 * sampler, steps and cfg. Only sampling is timed: texts are encoded and weights packed before.
 *
 * Two layouts: tiles cover the picture, so the base has no pixel and must cost nothing; boxes are tiles with a margin
 * that is left to the base. Every figure is measured in turn with plain runs and
 * compared with the fastest of these: a machine's speed drifts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "core/check.h"
#include "synthetic.h"
#include "tessera/tessera.h"

enum { MOST_REGIONS = 8 };

/* One row per line of the table of modes: the mode, the layout, and the ratio wanted at a number of regions. */
typedef struct figure_row {
    const char *name, *mode; /* mode NULL: history restart */
    int boxes;               /* 1: boxes, 0: tiles */
    int goal_regions;        /* 0: no goal */
    double goal;
} figure_row;

static const figure_row rows[] = {
    { "full", "full", 0, 4, 3.2 },    { "full-base", "full", 1, 4, 3.2 }, { "crop", "crop", 0, 4, 2.0 },
    { "crop-base", "crop", 1, 0, 0 }, { "couple", "couple", 0, 8, 1.25 }, { "couple-base", "couple", 1, 8, 1.25 },
    { "restart", NULL, 1, 0, 0 },
};

typedef struct bench_run {
    const bench_options *options;
    bench_report *report;
    tsr_engine *engine;
    const tsr_denoiser *denoiser;
    const void *negative, *base, *prompts[MOST_REGIONS];
    tsr_latent *latent;
    int side, steps; /* side in pixels */
    int goals;       /* 1: the goals hold for this model and size */
    double plain;    /* seconds, the fastest so far */

} bench_run;

/* Is `name` one of a comma-separated list? NULL lists everything. */
static int listed(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == length && !strncmp(at, name, length)) return 1;
    return !list;
}

/* Region i of n: 1 whole, 2 halves, 4 quadrants, 8 in two rows of four; boxes leave an eighth of a tile on each side. */
static tsr_status make_mask(tsr_mask **out, int side, int i, int n, int boxes, tsr_error *err) {
    int columns = n == 8 ? 4 : n > 1 ? 2 : 1, lines = n / columns;
    int width = side / columns, height = side / lines, x = i % columns * width, y = i / columns * height;
    int in_x = boxes ? width / 8 : 0, in_y = boxes ? height / 8 : 0;
    return tsr_mask_from_box(out, side, side, x + in_x, y + in_y, width - 2 * in_x, height - 2 * in_y, err);
}

/* regions 0: the plain run. */
static tsr_status make_plan(tsr_plan **out, const bench_run *b, const figure_row *row, int regions, int steps,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_region list[MOST_REGIONS];
    tsr_mask *masks[MOST_REGIONS] = { 0 };
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    if (row && row->mode) options.sharing = (tsr_sharing)tsr_sharing_find(row->mode);
    if (row && !row->mode) options.history = TSR_HISTORY_RESTART;
    options.steps = steps;
    options.width = options.height = b->side;
    base.guide.denoiser = b->denoiser;
    base.guide.positive = b->base;
    base.guide.negative = b->negative;
    base.guide.cfg = 7.0f;
    for (int i = 0; i < MOST_REGIONS; i++) {
        const tsr_region region = TSR_REGION_INIT;
        list[i] = region;
    }
    for (int i = 0; i < regions; i++) {
        TSR_TRY(make_mask(&masks[i], b->side, i, regions, row ? row->boxes : 0, err));
        list[i].guide = base.guide;
        list[i].guide.positive = b->prompts[i];
        list[i].mask = masks[i];
    }
    TSR_TRY(tsr_plan_new(out, &base, list, regions, &options, b->latent->shape, err));
done:
    for (int i = 0; i < regions; i++) tsr_mask_free(masks[i]);
    return status;
}

static tsr_status run_plan(double *seconds, const bench_run *b, const tsr_plan *plan, tsr_error *err) {
    tsr_latent *result = NULL;
    double start = bench_now();
    tsr_status status = tsr_plan_run(&result, plan, b->latent, NULL, err);
    *seconds = bench_now() - start;
    tsr_latent_free(result);
    return status;
}

/* Two steps at most, to build what is built once: packed weights, primitives, keys and values of the texts. */
static tsr_status warm_up(const bench_run *b, const figure_row *row, int regions, tsr_error *err) {
    tsr_plan *plan = NULL;
    double seconds = 0;
    tsr_status status = make_plan(&plan, b, row, regions, row && !row->mode ? 2 : 1, err);
    if (status == TSR_OK) status = run_plan(&seconds, b, plan, err);
    tsr_plan_free(plan);
    return status;
}

static tsr_status measure(bench_run *b, const figure_row *row, int regions, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_plan *plain = NULL, *plan = NULL;
    double best = 0, best_plain = 0, seconds = 0;
    char shape[64];
    TSR_TRY(make_plan(&plain, b, NULL, 0, b->steps, err));
    TSR_TRY(make_plan(&plan, b, row, regions, b->steps, err));
    TSR_TRY(warm_up(b, row, regions, err));
    for (int i = 0; i < b->options->repeat; i++) {
        TSR_TRY(run_plan(&seconds, b, plain, err));
        if (i == 0 || seconds < best_plain) best_plain = seconds;
        TSR_TRY(run_plan(&seconds, b, plan, err));
        if (i == 0 || seconds < best) best = seconds;
    }
    if (b->plain <= 0 || best_plain < b->plain) b->plain = best_plain;
    snprintf(shape, sizeof shape, "%d region%s, %s", regions, regions > 1 ? "s" : "",
             row->boxes ? "boxes on a base" : "tiles");
    bench_ratio(b->report, row->name, shape, best, best / best_plain, tsr_plan_evaluations(plan),
                b->goals && regions == row->goal_regions ? row->goal : 0);
done:
    tsr_plan_free(plan);
    tsr_plan_free(plain);
    return status;
}

static tsr_status encode(bench_run *b, tsr_error *err) {
    static const char *const objects[MOST_REGIONS] = { "house",  "tree", "car",    "cat face",
                                                       "castle", "fox",  "rocket", "star" };
    tsr_status status = tsr_engine_encode_prompt(&b->negative, b->engine, "", 0, err);
    if (status == TSR_OK) status = tsr_engine_encode_prompt(&b->base, b->engine, "grass field", 0, err);
    for (int i = 0; i < MOST_REGIONS && status == TSR_OK; i++) {
        char text[64];
        snprintf(text, sizeof text, "a %s on grass field", objects[i]);
        status = tsr_engine_encode_prompt(&b->prompts[i], b->engine, text, 0, err);
    }
    return status;
}

/* modes: what is measured when the options do not say. */
static tsr_status measure_all(bench_run *b, const char *model, const char *modes, tsr_error *err) {
    static const int counts[] = { 1, 2, 4, 8 };
    tsr_status status = TSR_OK;
    tsr_engine_options engine_options = TSR_ENGINE_OPTIONS_INIT;
    const char *chosen = b->options->modes ? b->options->modes : modes;
    engine_options.model = model;
    engine_options.precision = b->options->precision == TSR__BF16 ? TSR_PRECISION_BF16 : TSR_PRECISION_F32;
    engine_options.threads = b->options->threads;
    if (b->options->steps) b->steps = b->options->steps;
    TSR_TRY(tsr_engine_open(&b->engine, &engine_options, err));
    TSR_TRY(tsr_engine_denoiser(&b->denoiser, b->engine, err));
    TSR_TRY(encode(b, err));
    TSR_TRY(tsr_latent_new(&b->latent, 1, 4, b->side / 8, b->side / 8, err));
    TSR_TRY(warm_up(b, NULL, 0, err));
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (int i = 0; i < 4; i++) {
            char number[16];
            snprintf(number, sizeof number, "%d", counts[i]);
            if (!listed(chosen, rows[r].name) || !listed(b->options->counts, number)) continue;
            TSR_TRY(measure(b, &rows[r], counts[i], err));
        }
    bench_ratio(b->report, "plain", "no regions", b->plain, 1.0, 2 * (int64_t)b->steps, 0);
done:
    tsr_latent_free(b->latent);
    tsr_engine_close(b->engine);
    return status;
}

tsr_status bench_regions(const bench_options *options, bench_report *report, tsr_error *err) {
    bench_run b = { .options = options, .report = report, .side = 512, .steps = 2, .goals = 1 };
    const char *path = synthetic_checkpoint(SYNTHETIC_SD15);
    if (!path) return tsr__fail(err, TSR_IO, "no synthetic checkpoint: set TMPDIR to a folder with 2.2 GB of room");
    return measure_all(&b, path, "full,full-base,crop,crop-base,couple,couple-base", err);
}

tsr_status bench_regions_demo(const bench_options *options, bench_report *report, tsr_error *err) {
    bench_run b = { .options = options, .report = report, .side = 128, .steps = 20 };
    return measure_all(&b, NULL, NULL, err);
}
