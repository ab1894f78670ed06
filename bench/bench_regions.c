/* bench/bench_regions.c - what regions cost: 1, 2, 4 and 8 of them against a plain run, with the shipped model at 128x128,
 * 20 steps, in both histories. Shows whether time grows with the number of regions. */
#include <stdio.h>

#include "bench.h"
#include "tessera/tessera.h"

enum { STEPS = 20, SIDE = 128 };

static tsr_status set_number(tsr_scene *scene, const char *key, int value, tsr_error *err) {
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    return tsr_scene_set(scene, key, text, err);
}

/* The picture in `regions` equal strips, each with a prompt of its own; 0 is a plain run. */
static tsr_status make_scene(tsr_scene **out, int regions, const char *history, tsr_error *err) {
    static const char *const objects[] = { "house", "tree", "car", "cat face", "castle", "fox", "rocket", "star" };
    tsr_scene *scene = NULL;
    tsr_status status = tsr_scene_new(&scene, err);
    if (status == TSR_OK) status = tsr_scene_set(scene, "prompt", "grass field", err);
    if (status == TSR_OK) status = tsr_scene_set(scene, "history", history, err);
    if (status == TSR_OK) status = set_number(scene, "steps", STEPS, err);
    if (status == TSR_OK) status = set_number(scene, "width", SIDE, err);
    if (status == TSR_OK) status = set_number(scene, "height", SIDE, err);
    for (int i = 0; i < regions && status == TSR_OK; i++) {
        char text[128];
        int width = SIDE / regions;
        snprintf(text, sizeof text, "box=%d:0:%d:%d,prompt=a %s on grass field", i * width, width, SIDE / 2,
                 objects[i]);
        status = tsr_scene_parse_region(scene, text, NULL, err);
    }
    if (status == TSR_OK) *out = scene;
    else tsr_scene_free(scene);
    return status;
}

/* Seconds of sampling, the fastest of `repeat` runs after one that builds what is built once. */
static tsr_status measure(double *seconds, tsr_engine *engine, const tsr_scene *scene, int repeat, tsr_error *err) {
    *seconds = 0;
    for (int i = 0; i <= repeat; i++) {
        tsr_result *result = NULL;
        tsr_status status = tsr_engine_run(&result, engine, scene, NULL, err);
        if (status != TSR_OK) return status;
        if (i == 1 || (i > 1 && result->sample_seconds < *seconds)) *seconds = result->sample_seconds;
        tsr_result_free(result);
    }
    return TSR_OK;
}

tsr_status bench_regions(const bench_options *options, bench_report *report, tsr_error *err) {
    static const int counts[] = { 0, 1, 2, 4, 8 };
    static const char *const histories[] = { "keep", "restart" };
    tsr_engine_options engine_options = TSR_ENGINE_OPTIONS_INIT;
    tsr_engine *engine = NULL;
    double plain = 0;
    engine_options.precision = options->precision == TSR__BF16 ? TSR_PRECISION_BF16 : TSR_PRECISION_F32;
    engine_options.threads = options->threads;
    tsr_status status = tsr_engine_open(&engine, &engine_options, err);
    for (int h = 0; h < 2 && status == TSR_OK; h++) {
        for (int i = h; i < 5 && status == TSR_OK; i++) {
            char name[32], shape[64];
            double seconds = 0;
            tsr_scene *scene = NULL;
            status = make_scene(&scene, counts[i], histories[h], err);
            if (status == TSR_OK) status = measure(&seconds, engine, scene, options->repeat, err);
            tsr_scene_free(scene);
            if (status != TSR_OK) break;
            if (counts[i] == 0) plain = seconds;
            if (counts[i] == 0) snprintf(name, sizeof name, "plain");
            else snprintf(name, sizeof name, "%s %d", histories[h], counts[i]);
            snprintf(shape, sizeof shape, "%dx%d, %d steps, %.2f of the plain run", SIDE, SIDE, STEPS,
                     plain > 0 ? seconds / plain : 0.0);
            bench_line(report, name, shape, seconds, 0, 0);
        }
    }
    tsr_engine_close(engine);
    return status;
}
