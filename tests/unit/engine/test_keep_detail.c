/* Fine detail under history keep, with the shipped model: for every sampler but dpm_adaptive, the high-frequency energy of a
 * picture of regions is within 20 % of the same sampler's plain picture (docs/keep.md, "Detail"). Lost histories, doubled or
 * missing noise show here first: as noise, or as blur. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/tessera.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

static const char *const prompt = "a house on grass field";

/* Mean square of the Laplacian 4 p - left - right - above - below, over the inner pixels' red, green and blue, 0..255. */
static double detail(const tsr_image *image) {
    double sum = 0.0;
    int n = 0, row = image->width * image->channels;
    for (int y = 1; y < image->height - 1; y++)
        for (int x = 1; x < image->width - 1; x++)
            for (int c = 0; c < 3; c++, n++) {
                const unsigned char *p = image->pixels + y * row + x * image->channels + c;
                double bend = 4.0 * p[0] - p[-image->channels] - p[image->channels] - p[-row] - p[row];
                sum += bend * bend;
            }
    return sum / n;
}

static double painted(tsr_engine *engine, tsr_scene *scene) {
    tsr_result *result = NULL;
    OK(tsr_engine_run(&result, engine, scene, NULL, &err));
    double energy = detail(result->images[0]);
    tsr_result_free(result);
    return energy;
}

/* Soft borders everywhere: half a share, a feather that falls across it, and the base under both; the same text for all, so
 * that the plain picture is what should come out. */
static void add_regions(tsr_scene *scene) {
    static const char *const places[2][3] = { { "0:0:60%:100%", "strength", "0.5" },
                                              { "25%:25%:75%:75%", "feather", "12" } };
    for (int i = 0; i < 2; i++) {
        OK(tsr_scene_add_region(scene, NULL, &err));
        OK(tsr_scene_set_region(scene, i, "box", places[i][0], &err));
        OK(tsr_scene_set_region(scene, i, places[i][1], places[i][2], &err));
        OK(tsr_scene_set_region(scene, i, "prompt", prompt, &err));
    }
    OK(tsr_scene_set(scene, "mode", "full", &err));
}

static void keep__detail_is_that_of_a_plain_run(void **state) {
    tsr_engine *engine = *state;
    double worst = 1.0;
    int seen = 0;
    for (int i = 0; i < tsr_sampler_count(); i++) {
        const char *name = tsr_sampler_name(i);
        tsr_scene *scene = NULL;
        if (strcmp(name, "dpm_adaptive") == 0) continue; /* refused by keep */
        OK(tsr_scene_new(&scene, &err));
        OK(tsr_scene_set(scene, "prompt", prompt, &err));
        OK(tsr_scene_set(scene, "width", "64", &err));
        OK(tsr_scene_set(scene, "height", "64", &err));
        OK(tsr_scene_set(scene, "steps", "12", &err));
        OK(tsr_scene_set(scene, "seed", "3", &err));
        OK(tsr_scene_set(scene, "scheduler", "karras", &err));
        OK(tsr_scene_set(scene, "cfg", strstr(name, "cfg_pp") ? "1.5" : "4", &err)); /* what cfg++ kinds are made for */
        OK(tsr_scene_set(scene, "sampler", name, &err));
        double plain = painted(engine, scene);
        add_regions(scene);
        double ratio = painted(engine, scene) / plain;
        if (!(ratio >= 0.8 && ratio <= 1.2)) fail_msg("%s: %.3f times the plain run's %.2f", name, ratio, plain);
        if (fabs(log(ratio)) > fabs(log(worst))) worst = ratio;
        seen++;
        tsr_scene_free(scene);
    }
    assert_int_equal(seen, tsr_sampler_count() - 1);
    print_message("worst ratio %.4f of %d samplers\n", worst, seen);
}

static int open_engine(void **state) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    tsr_engine *engine = NULL;
    unsetenv("TESSERA_MODEL");
    options.precision = TSR_PRECISION_F32;
    options.threads = 1; /* no barriers: other tests run beside this one */
    if (tsr_engine_open(&engine, &options, &err) == TSR_OK) {
        *state = engine;
        return 0;
    }
    print_error("%s\n", err.message);
    return -1;
}

static int close_engine(void **state) {
    tsr_engine_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(keep__detail_is_that_of_a_plain_run) };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
