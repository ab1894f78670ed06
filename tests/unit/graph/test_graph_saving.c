/* A file is announced before it is there: whoever watches can undo a run that dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "graph/graph_priv.h"

static const char WORKFLOW[] =
    "{\"1\":{\"class_type\":\"SolidMask\",\"inputs\":{\"value\":0.5,\"width\":8,\"height\":8}},"
    "\"2\":{\"class_type\":\"MaskToImage\",\"inputs\":{\"mask\":[\"1\",0]}},"
    "\"3\":{\"class_type\":\"SaveImage\",\"inputs\":{\"images\":[\"2\",0],\"filename_prefix\":\"sub/x%width%\"}}}";

typedef struct watch {
    char path[256];
    int told, was_there, stop;
} watch;

static int on_event(void *user, const tsr_graph_event *event) {
    watch *w = user;
    if (event->kind != TSR_GRAPH_NODE_SAVING) return 0;
    assert_int_equal(event->output_count, 1);
    assert_string_equal(event->node, "3");
    snprintf(w->path, sizeof w->path, "%s", event->outputs[0].path);
    w->was_there = access(w->path, F_OK) == 0;
    w->told++;
    return w->stop;
}

static tsr_status run(watch *w, const char *folder) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    tsr_graph_callbacks callbacks = TSR_GRAPH_CALLBACKS_INIT;
    tsr_graph *graph = NULL;
    tsr_workflow *workflow = NULL;
    tsr_workflow_outputs *outputs = NULL;
    options.output = folder;
    callbacks.user = w;
    callbacks.event = on_event;
    assert_int_equal(tsr_graph_open(&graph, &options, NULL), TSR_OK);
    assert_int_equal(tsr_workflow_load_memory(&workflow, WORKFLOW, sizeof WORKFLOW - 1, NULL), TSR_OK);
    tsr_status status = tsr_workflow_run(&outputs, graph, workflow, &callbacks, NULL);
    tsr_workflow_outputs_free(outputs);
    tsr_workflow_free(workflow);
    tsr_graph_close(graph);
    return status;
}

static void saving__is_told_before_the_file_is_there(void **state) {
    char folder[] = "/tmp/tessera-saving-XXXXXX", command[64];
    (void)state;
    assert_non_null(mkdtemp(folder));
    watch w = { .stop = 1 };
    assert_int_equal(run(&w, folder), TSR_CANCELLED);
    assert_int_equal(w.told, 1);
    assert_int_not_equal(access(w.path, F_OK), 0);
    w = (watch){ .told = 0 };
    assert_int_equal(run(&w, folder), TSR_OK);
    assert_int_equal(w.told, 1);
    assert_int_equal(w.was_there, 0);
    assert_int_equal(access(w.path, F_OK), 0);
    assert_non_null(strstr(w.path, "/sub/x8_00001_.png"));
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void expect_prefix(const char *prefix, const char *wanted) {
    char *got = NULL;
    struct tm at = {
        .tm_year = 126, .tm_mon = 1, .tm_mday = 3, .tm_hour = 4, .tm_min = 5, .tm_sec = 6, .tm_isdst = -1
    };
    assert_int_equal(tsr__fill_prefix(&got, prefix, 640, 48, mktime(&at), NULL), TSR_OK);
    assert_string_equal(got, wanted);
    free(got);
}

/* What ComfyUI's server fills in, and nothing else. */
static void prefixes__hold_sizes_and_times(void **state) {
    (void)state;
    expect_prefix("%year%-%month%-%day%/p_%hour%%minute%%second%", "2026-02-03/p_040506");
    expect_prefix("%width%x%height%%width%", "640x48640");
    expect_prefix("100%", "100%");
    expect_prefix("%date:yyyy%_%KSampler.seed%_%Width%", "%date:yyyy%_%KSampler.seed%_%Width%");
    expect_prefix("", "");
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(saving__is_told_before_the_file_is_there),
                                        cmocka_unit_test(prefixes__hold_sizes_and_times) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
