/* node_runner.h - runs one row of the node table with given values, without a workflow around it. */
#ifndef TSR_NODE_RUNNER_H
#define TSR_NODE_RUNNER_H

#include "graph/graph_priv.h"

typedef struct node_run {
    const tsr__node *row;
    tsr__value *values[TSR__MAX_INPUTS]; /* owned */
    tsr__call call;
    tsr_error err;
    tsr_status status;
} node_run;

static inline void node_begin(node_run *run, const char *class_type) {
    memset(run, 0, sizeof *run);
    run->row = tsr__node_find(class_type);
    assert_non_null(run->row);
    run->call.id = "1";
    run->call.in.row = run->row;
    run->call.in.values = run->values;
}

static inline tsr__value **node_input(node_run *run, const char *name) {
    int i = tsr__node_input_find(run->row, name);
    assert_true(i >= 0);
    return &run->values[i];
}

/* A literal, written as JSON. */
static inline void node_set(node_run *run, const char *name, const char *json) {
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    int i = tsr__node_input_find(run->row, name);
    assert_non_null(value);
    assert_true(i >= 0);
    assert_int_equal(tsr__literal(&run->values[i], &run->row->inputs[i], value, NULL), TSR_OK);
    assert_non_null(run->values[i]);
    json_decref(value);
}

/* A link's value; the caller keeps its own reference. */
static inline void node_link(node_run *run, const char *name, tsr__value *value) {
    *node_input(run, name) = tsr__value_ref(value);
}

static inline tsr_status node_go(node_run *run) {
    run->status = run->row->run(&run->call, &run->err);
    return run->status;
}

static inline void node_end(node_run *run) {
    for (int i = 0; i < TSR__MAX_INPUTS; i++) tsr__value_unref(run->values[i]);
    for (int i = 0; i < TSR__MAX_OUTPUTS; i++) tsr__value_unref(run->call.results[i]);
}

#endif /* TSR_NODE_RUNNER_H */
