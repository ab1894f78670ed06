/* test_workflow_golden.c - every golden workflow, run as `tessera run` would, against the latent that ComfyUI saved.
 *
 * One line a case. A case that cannot run fails, unless PENDING names it with a reason. An argument or the environment
 * variable TESSERA_GOLDEN_CASE picks cases by a part of their name. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden_file.h"
#include "tessera/graph.h"

static const struct {
    const char *part, *reason;
} PENDING[] = {
    { NULL, NULL },
};

static const char *pending_reason(const char *name) {
    for (int i = 0; PENDING[i].part; i++)
        if (strstr(name, PENDING[i].part)) return PENDING[i].reason;
    return NULL;
}

typedef struct tally {
    tsr_graph *graph;
    json_t *index;
    int run, failed, pending;
} tally;

/* 0 when the latent is within the case's tolerance. */
static int compare(const char *name, const tsr_latent *latent, const json_t *limits) {
    char path[300];
    snprintf(path, sizeof path, "workflows/%s.latent", name);
    golden_file *file = golden_open(path);
    golden_tensor expected = golden_get(file, "latent_tensor");
    double rms_tol = json_number_value(json_object_get(limits, "rms_tol"));
    double max_tol = json_number_value(json_object_get(limits, "max_tol"));
    int bad = expected.count != tsr_latent_count(latent);
    if (bad) {
        printf("FAIL %-48s another size\n", name);
    } else {
        double rms = rms_diff(latent->values, expected.data, expected.count);
        double max = max_abs_diff(latent->values, expected.data, expected.count);
        bad = !(rms <= rms_tol && max <= max_tol);
        printf("%s %-48s rms %.2e of %.0e, max %.2e of %.0e\n", bad ? "FAIL" : "ok  ", name, rms, rms_tol, max,
               max_tol);
    }
    golden_close(file);
    fflush(stdout);
    return bad;
}

static void run_case(tally *t, const char *name) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    tsr_workflow_outputs *outputs = NULL;
    char path[1000];
    snprintf(path, sizeof path, TSR_GOLDEN_DIR "/workflows/%s.json", name);
    tsr_status status = tsr_workflow_load(&workflow, path, &err);
    if (status == TSR_OK) status = tsr_workflow_run(&outputs, t->graph, workflow, NULL, &err);
    int bad = 1;
    if (status != TSR_OK) printf("FAIL %-48s %s\n", name, err.message);
    else if (outputs->count != 1 || !outputs->items[0].latent) printf("FAIL %-48s no latent\n", name);
    else bad = compare(name, outputs->items[0].latent, json_object_get(t->index, name));
    t->run++;
    if (bad && pending_reason(name)) {
        printf("pending: %s: %s\n", name, pending_reason(name));
        t->pending++;
    } else {
        t->failed += bad;
    }
    tsr_workflow_outputs_free(outputs);
    tsr_workflow_free(workflow);
}

static void workflows__match_the_reference(void **state) {
    tally t = { .index = golden_json("workflows/index.json") };
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    const char *picked = getenv("TESSERA_GOLDEN_CASE"), *name;
    json_t *limits;
    (void)state;
    options.models = TSR_GOLDEN_DIR;
    options.precision = TSR_PRECISION_F32;
    assert_int_equal(tsr_graph_open(&t.graph, &options, &err), TSR_OK);
    json_object_foreach(t.index, name, limits) {
        if (!picked || strstr(name, picked)) run_case(&t, name);
    }
    printf("%d cases, %d failed, %d pending\n", t.run, t.failed, t.pending);
    tsr_graph_close(t.graph);
    json_decref(t.index);
    assert_true(t.run > 0);
    assert_int_equal(t.failed, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(workflows__match_the_reference) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
