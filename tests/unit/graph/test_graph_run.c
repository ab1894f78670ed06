/* test_graph_run.c - running workflows without a model: order, sharing, files, cancelling, and what picture, mask and latent
 * nodes compute. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "golden_file.h"
#include "tessera/graph.h"

static char folder[64];
static tsr_graph *graph; /* writes nothing */

static int set_up(void **state) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    (void)state;
    strcpy(folder, "/tmp/tessera-graph-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    options.models = TSR_GOLDEN_DIR;
    options.input = folder;
    return tsr_graph_open(&graph, &options, NULL) != TSR_OK;
}

static int tear_down(void **state) {
    char command[100];
    (void)state;
    tsr_graph_close(graph);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) != 0;
}

static tsr_workflow *load(const char *text) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    if (tsr_workflow_load_memory(&workflow, text, strlen(text), &err) != TSR_OK) fail_msg("%s", err.message);
    return workflow;
}

static tsr_workflow_outputs *run_in(tsr_graph *where, const char *text) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *outputs = NULL;
    tsr_workflow *workflow = load(text);
    if (tsr_workflow_run(&outputs, where, workflow, NULL, &err) != TSR_OK) fail_msg("%s", err.message);
    tsr_workflow_free(workflow);
    return outputs;
}

static tsr_workflow_outputs *run(const char *text) {
    return run_in(graph, text);
}

/* Runs `nodes` (which end with a comma) and shows the mask of node "m". */
static tsr_image *shown_mask(const char *nodes) {
    char *text = malloc(strlen(nodes) + 300);
    assert_non_null(text);
    sprintf(text,
            "{%s\"v\":{\"class_type\":\"MaskToImage\",\"inputs\":{\"mask\":[\"m\",0]}},"
            "\"o\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"v\",0]}}}",
            nodes);
    tsr_workflow_outputs *outputs = run(text);
    free(text);
    assert_int_equal(outputs->count, 1);
    tsr_image *image = outputs->items[0].image;
    outputs->items[0].image = NULL;
    tsr_workflow_outputs_free(outputs);
    return image;
}

#define SOLID(id, value, w, h)                                                                                         \
    "\"" id "\":{\"class_type\":\"SolidMask\",\"inputs\":{\"value\":" value ",\"width\":" w ",\"height\":" h "}},"
/* A white square of 2x2 at (3, 2) of a black 8x6 mask, as node `id`. */
#define SQUARE(id)                                                                                                     \
    SOLID("b", "0", "8", "6")                                                                                          \
    SOLID("s", "1", "2", "2")                                                                                          \
    "\"" id "\":{\"class_type\":\"MaskComposite\",\"inputs\":{\"destination\":[\"b\",0],"                              \
    "\"source\":[\"s\",0],\"x\":3,\"y\":2,"                                                                            \
    "\"operation\":\"add\"}},"

static void expect_rows(const tsr_image *image, const char *const *rows) {
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++) {
            int white = image->pixels[(y * image->width + x) * 3] == 255;
            if (white != (rows[y][x] == '#')) fail_msg("row %d, column %d", y, x);
        }
}

static void masks__grow_by_cross_square_and_dilation(void **state) {
    static const char *const cross[] = { "........", "...##...", "..####..", "..####..", "...##...", "........" };
    static const char *const square[] = { "........", "..####..", "..####..", "..####..", "..####..", "........" };
    static const char *const even[] = { "........", "........", "...###..", "...###..", "...###..", "........" };
    (void)state;
    tsr_image *image = shown_mask(SQUARE("q") "\"m\":{\"class_type\":\"GrowMask\",\"inputs\":{\"mask\":[\"q\",0],"
                                              "\"expand\":1,\"tapered_corners\":true}},");
    expect_rows(image, cross);
    tsr_image_free(image);
    image = shown_mask(SQUARE("q") "\"m\":{\"class_type\":\"GrowMask\",\"inputs\":{\"mask\":[\"q\",0],"
                                   "\"expand\":1,\"tapered_corners\":false}},");
    expect_rows(image, square);
    tsr_image_free(image);
    image = shown_mask(SQUARE("q") "\"m\":{\"class_type\":\"ImpactDilateMask\",\"inputs\":{\"mask\":[\"q\",0],"
                                   "\"dilation\":2}},");
    expect_rows(image, even);
    tsr_image_free(image);
}

static void masks__shrink_crop_and_combine(void **state) {
    static const char *const gone[] = { "........", "........", "........", "........", "........", "........" };
    static const char *const cropped[] = { "##.", "##.", "..." };
    (void)state;
    tsr_image *image = shown_mask(SQUARE("q") "\"m\":{\"class_type\":\"GrowMask\",\"inputs\":{\"mask\":[\"q\",0],"
                                              "\"expand\":-1,\"tapered_corners\":true}},");
    expect_rows(image, gone);
    tsr_image_free(image);
    image = shown_mask(SQUARE("q") "\"m\":{\"class_type\":\"CropMask\",\"inputs\":{\"mask\":[\"q\",0],\"x\":3,\"y\":2,"
                                   "\"width\":3,\"height\":3}},");
    assert_int_equal(image->width, 3);
    expect_rows(image, cropped);
    tsr_image_free(image);
    image = shown_mask(SQUARE("q") "\"i\":{\"class_type\":\"InvertMask\",\"inputs\":{\"mask\":[\"q\",0]}},"
                                   "\"m\":{\"class_type\":\"BitwiseAndMask\",\"inputs\":{\"mask1\":[\"q\",0],"
                                   "\"mask2\":[\"i\",0]}},");
    expect_rows(image, gone);
    tsr_image_free(image);
}

/* A blur keeps a constant and the sum of what is far from the border. */
static void masks__blur_keeps_the_mean(void **state) {
    double sum = 0.0;
    (void)state;
    tsr_image *image = shown_mask(SOLID("b", "0", "64", "64") SOLID(
        "s", "1", "8", "8") "\"q\":{\"class_type\":\"MaskComposite\",\"inputs\":"
                            "{\"destination\":[\"b\",0],\"source\":[\"s\",0],\"x\":28,\"y\":28,\"operation\":\"add\"}},"
                            "\"m\":{\"class_type\":\"ImpactGaussianBlurMask\",\"inputs\":{\"mask\":[\"q\",0],\"kernel_"
                            "size\":8,\"sigma\":2}},");
    for (int i = 0; i < 64 * 64; i++) sum += image->pixels[3 * i];
    assert_true(fabs(sum / 255.0 - 64.0) < 2.0); /* bytes are cut off, not rounded */
    assert_true(image->pixels[3 * (32 * 64 + 32)] > 200 && image->pixels[3 * (32 * 64 + 27)] > 60);
    tsr_image_free(image);
}

static void run__equal_nodes_run_once(void **state) {
    (void)state;
    tsr_workflow_outputs *o =
        run("{" SOLID("1", "0.5", "8", "8") SOLID("2", "0.5", "8", "8")
                SOLID("3", "0.25", "8",
                      "8") "\"4\":{\"class_type\":\"AddMask\",\"inputs\":{\"mask1\":[\"1\",0],\"mask2\":[\"2\",0]}},"
                           "\"5\":{\"class_type\":\"AddMask\",\"inputs\":{\"mask1\":[\"2\",0],\"mask2\":[\"1\",0]}},"
                           "\"6\":{\"class_type\":\"MaskToImage\",\"inputs\":{\"mask\":[\"4\",0]}},"
                           "\"7\":{\"class_type\":\"MaskToImage\",\"inputs\":{\"mask\":[\"5\",0]}},"
                           "\"8\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"6\",0]}},"
                           "\"9\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"7\",0]}}}");
    assert_int_equal(o->nodes_run, 5);
    assert_int_equal(o->nodes_cached, 3);
    assert_int_equal(o->count, 2);
    assert_int_equal(o->items[1].image->pixels[0], 255);
    tsr_workflow_outputs_free(o);
}

#define LATENTS                                                                                                        \
    "\"1\":{\"class_type\":\"EmptyLatentImage\",\"inputs\":{\"width\":64,\"height\":32,\"batch_size\":2}},"            \
    "\"2\":{\"class_type\":\"RepeatLatentBatch\",\"inputs\":{\"samples\":[\"1\",0],\"amount\":2}},"                    \
    "\"3\":{\"class_type\":\"LatentFromBatch\",\"inputs\":{\"samples\":[\"2\",0],\"batch_index\":3,\"length\":5}},"    \
    "\"4\":{\"class_type\":\"LatentUpscaleBy\",\"inputs\":{\"samples\":[\"3\",0],\"upscale_method\":\"bilinear\","     \
    "\"scale_by\":1.5}},"

static void run__latents_go_to_files_and_back(void **state) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    tsr_graph *writing = NULL;
    char path[200];
    (void)state;
    options.models = TSR_GOLDEN_DIR;
    options.input = options.output = folder;
    assert_int_equal(tsr_graph_open(&writing, &options, NULL), TSR_OK);
    for (int i = 1; i <= 2; i++) {
        tsr_workflow_outputs *o =
            run_in(writing, "{" LATENTS "\"5\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"samples\":[\"4\",0],"
                            "\"filename_prefix\":\"a/b\"}}}");
        snprintf(path, sizeof path, "%s/a/b_%05d_.latent", folder, i);
        assert_string_equal(o->items[0].path, path);
        assert_string_equal(o->items[0].subfolder, "a");
        assert_int_equal(o->items[0].latent->shape[0], 1);
        assert_int_equal(o->items[0].latent->shape[2], 6);
        assert_int_equal(o->items[0].latent->shape[3], 12);
        assert_int_equal(o->items[0].latent->batch_index[0], 3);
        assert_int_equal(access(path, R_OK), 0);
        tsr_workflow_outputs_free(o);
    }
    tsr_workflow_outputs *o = run_in(
        writing, "{\"1\":{\"class_type\":\"LoadLatent\",\"inputs\":{\"latent\":\"a/b_00002_.latent\"}},"
                 "\"2\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"samples\":[\"1\",0],\"filename_prefix\":\"c\"}}}");
    assert_int_equal(o->items[0].latent->shape[3], 12);
    tsr_workflow_outputs_free(o);
    tsr_graph_close(writing);
}

static void run__saved_pictures_can_be_run_again(void **state) {
    static const char text[] =
        "{\"1\":{\"class_type\":\"SolidMask\",\"inputs\":{\"value\":0.5,\"width\":8,\"height\":8}},"
        "\"2\":{\"class_type\":\"MaskToImage\",\"inputs\":{\"mask\":[\"1\",0]}},"
        "\"3\":{\"class_type\":\"SaveImage\",\"inputs\":{\"images\":[\"2\",0],\"filename_prefix\":\"p\"}}}";
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    tsr_graph *writing = NULL;
    tsr_workflow *again = NULL;
    tsr_workflow_outputs *o, *second = NULL;
    (void)state;
    options.models = TSR_GOLDEN_DIR;
    options.output = folder;
    assert_int_equal(tsr_graph_open(&writing, &options, NULL), TSR_OK);
    o = run_in(writing, text);
    assert_int_equal(tsr_workflow_load(&again, o->items[0].path, &err), TSR_OK);
    assert_int_equal(tsr_workflow_run(&second, writing, again, NULL, &err), TSR_OK);
    assert_string_equal(second->items[0].filename, "p_00002_.png");
    assert_memory_equal(second->items[0].image->pixels, o->items[0].image->pixels, 8 * 8 * 3);
    tsr_workflow_outputs_free(o);
    tsr_workflow_outputs_free(second);
    tsr_workflow_free(again);
    tsr_graph_close(writing);
}

static void fails(const char *text, tsr_status expected, const char *words) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *outputs = (tsr_workflow_outputs *)&err;
    tsr_workflow *workflow = load(text);
    assert_int_equal(tsr_workflow_run(&outputs, graph, workflow, NULL, &err), expected);
    assert_null(outputs);
    if (!strstr(err.message, words)) fail_msg("'%s' does not say '%s'", err.message, words);
    tsr_workflow_free(workflow);
}

static void run__failures_name_the_node(void **state) {
    (void)state;
    fails("{" SOLID("1", "1", "9", "8") "\"3\":{\"class_type\":\"CropMask\",\"inputs\":"
                                        "{\"mask\":[\"1\",0],\"x\":9,\"y\":0,\"width\":4,\"height\":4}},"
                                        "\"4\":{\"class_type\":\"MaskToImage\",\"inputs\":{\"mask\":[\"3\",0]}},"
                                        "\"5\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"4\",0]}}}",
          TSR_BAD_ARGUMENT, "node 3 (CropMask): the box starts at (9, 0)");
    fails("{" LATENTS "\"5\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"samples\":[\"4\",0],\"filename_prefix\":"
          "\"../x\"}}}",
          TSR_BAD_ARGUMENT, "node 5 (SaveLatent): filename_prefix");
    fails("{\"1\":{\"class_type\":\"SaveLatent\",\"inputs\":{}}}", TSR_BAD_ARGUMENT, "Required input is missing");
}

static int stop_at_second(void *user, const tsr_graph_event *event) {
    int *seen = user;
    return event->kind == TSR_GRAPH_NODE_STARTED && ++*seen == 2;
}

static void run__can_be_stopped(void **state) {
    tsr_graph_callbacks callbacks = TSR_GRAPH_CALLBACKS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *outputs = NULL;
    int seen = 0;
    (void)state;
    tsr_workflow *w = load("{" LATENTS "\"5\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"samples\":[\"4\",0],"
                           "\"filename_prefix\":\"x\"}}}");
    callbacks.user = &seen;
    callbacks.event = stop_at_second;
    assert_int_equal(tsr_workflow_run(&outputs, graph, w, &callbacks, &err), TSR_CANCELLED);
    assert_null(outputs);
    assert_int_equal(seen, 2);
    tsr_workflow_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks__grow_by_cross_square_and_dilation),
        cmocka_unit_test(masks__shrink_crop_and_combine),
        cmocka_unit_test(masks__blur_keeps_the_mean),
        cmocka_unit_test(run__equal_nodes_run_once),
        cmocka_unit_test(run__latents_go_to_files_and_back),
        cmocka_unit_test(run__saved_pictures_can_be_run_again),
        cmocka_unit_test(run__failures_name_the_node),
        cmocka_unit_test(run__can_be_stopped),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
