/* graph/execute.c - runs the nodes that the outputs need, each once, equal ones together, results dropped after their last
 * use or kept for later runs. */
#include <stdlib.h>
#include <string.h>

#include "graph/run_plan.h"

/* --- one node ------------------------------------------------------------------------------------------------------------ */
static int call_back(tsr__running *run) {
    const tsr_graph_callbacks *c = run->callbacks;
    if (c && c->cancelled && c->cancelled(c->user)) return 1;
    return c && c->event ? c->event(c->user, &run->event) : 0;
}

static int tell(tsr__running *run, tsr_graph_event_kind kind) {
    run->event.kind = kind;
    return call_back(run);
}

static int tell_preview(tsr__running *run, const tsr_progress *progress) {
    tsr_image *image = tsr__run_preview(run, progress);
    if (!image) return 0;
    run->event.preview = image;
    int stop = tell(run, TSR_GRAPH_NODE_PREVIEW);
    run->event.preview = NULL;
    tsr_image_free(image);
    return stop;
}

static int on_progress(void *user, const tsr_progress *progress) {
    tsr__running *run = user;
    run->event.progress = progress;
    int stop = tell(run, TSR_GRAPH_NODE_PROGRESS) || tell_preview(run, progress);
    run->event.progress = NULL;
    return stop;
}

/* The outputs that the node in hand has added. */
static int tell_outputs(tsr__running *run, tsr_graph_event_kind kind, int before) {
    run->event.output_count = run->outputs->count - before;
    run->event.outputs = run->event.output_count ? run->outputs->items + before : NULL;
    int stop = tell(run, kind);
    run->event.output_count = 0;
    run->event.outputs = NULL;
    return stop;
}

int tsr__run_tell_saving(tsr__running *run, const tsr_workflow_output *output) {
    run->event.outputs = output;
    run->event.output_count = 1;
    int stop = tell(run, TSR_GRAPH_NODE_SAVING);
    run->event.outputs = NULL;
    run->event.output_count = 0;
    return stop;
}

static int on_cancelled(void *user) {
    const tsr_graph_callbacks *c = ((tsr__running *)user)->callbacks;
    return c && c->cancelled && c->cancelled(c->user);
}

/* A linked number has not been held against the input's range yet. */
static tsr_status check_linked(const tsr__input *input, const tsr__value *value, tsr_error *err) {
    if ((input->type != TSR__V_INT && input->type != TSR__V_FLOAT) || (input->flags & TSR__IN_SEED)) return TSR_OK;
    if (value->number >= input->min && value->number <= input->max) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: the linked value %g is not in %g to %g", input->name, value->number,
                     input->min, input->max);
}

static tsr_status get_value(tsr__value **out, const tsr__run_plan *p, const tsr__input *input, const json_t *value,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    int slot, from = tsr__is_link(value) ? tsr__workflow_link(p->workflow, value, &slot) : -1;
    *out = NULL;
    if (from < 0) return tsr__literal(out, input, value, err);
    *out = tsr__value_ref(tsr__run_plan_source(p, from)->results[slot]);
    if (!*out)
        TSR_FAIL(err, TSR_WRONG_STATE, "%s: node %s gave no output %d", input->name, p->workflow->nodes[from].id, slot);
    TSR_TRY(check_linked(input, *out, err));
done:
    return status;
}

/* What a node's function gets; owns its values. */
typedef struct inputs {
    tsr__value *values[TSR__MAX_INPUTS];
    tsr__named_value *many;
    int n_many, many_before;
} inputs;

static void clear_inputs(inputs *in) {
    for (int i = 0; i < TSR__MAX_INPUTS; i++) tsr__value_unref(in->values[i]);
    for (int i = 0; i < in->n_many; i++) tsr__value_unref(in->many[i].value);
    free(in->many);
}

static tsr_status gather(inputs *in, const tsr__run_plan *p, const tsr__workflow_node *node, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *name;
    json_t *value;
    TSR_ALLOC_ZERO(err, in->many, json_object_size(node->inputs) + 1);
    json_object_foreach(node->inputs, name, value) {
        int i = tsr__node_input_find(node->row, name);
        if (i < 0) continue;
        const tsr__input *input = &node->row->inputs[i];
        if (strcmp(input->name, name) == 0) {
            TSR_TRY(get_value(&in->values[i], p, input, value, err));
            if (input->flags & TSR__IN_MANY) in->many_before = in->n_many;
        } else {
            tsr__named_value *extra = &in->many[in->n_many++];
            extra->name = name;
            TSR_TRY(get_value(&extra->value, p, input, value, err));
        }
    }
done:
    return status;
}

/* Of what only its maker knows, a network behind a value, the file's size tells about how large it is. */
static void settle(tsr__value *value, size_t file_bytes) {
    tsr__value_hold_slot(value);
    if (value && value->other) value->bytes = sizeof *value + file_bytes;
}

static tsr_status run_node(tsr__running *run, tsr__run_plan *p, tsr__plan_entry *e, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__workflow_node *node = &p->workflow->nodes[e->index];
    inputs in = { .n_many = 0 };
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    tsr__call call = { .graph = run->graph, .id = node->id, .hooks = &hooks, .run = run };
    hooks.user = run;
    hooks.progress = on_progress;
    TSR_TRY(gather(&in, p, node, err));
    call.in.row = node->row;
    call.in.values = in.values;
    call.many = in.many;
    call.n_many = in.n_many;
    call.many_before = in.many_before;
    TSR_TRY(node->row->run(&call, err));
    TSR_TRY(tsr__slots_tell(&call, err));
done:
    for (int i = 0; i < TSR__MAX_OUTPUTS; i++) {
        e->results[i] = call.results[i];
        settle(e->results[i], e->file_bytes);
    }
    clear_inputs(&in);
    return status;
}

/* What an earlier run saved counts as saved by this one. */
static tsr_status take_outputs(tsr__running *run, tsr__plan_entry *e, const char *node, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < e->n_outputs; i++) {
        tsr_workflow_output *to = NULL;
        TSR_TRY(tsr__new_output(&to, run->outputs, err));
        *to = e->outputs[i];
        memset(&e->outputs[i], 0, sizeof e->outputs[i]);
        to->node = tsr__strdup(node);
        if (!to->node) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
done:
    return status;
}

static tsr_status run_one(tsr__running *run, tsr__run_plan *p, tsr__plan_entry *e, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error reason = TSR_ERROR_INIT;
    const tsr__workflow_node *node = &p->workflow->nodes[e->index];
    int before = run->outputs->count;
    if (tell(run, TSR_GRAPH_NODE_STARTED)) TSR_FAIL(err, TSR_CANCELLED, "stopped by the caller");
    status = run_node(run, p, e, &reason);
    if (status == TSR_CANCELLED) TSR_FAIL(err, status, "%s", reason.message);
    if (status != TSR_OK) {
        run->event.message = reason.message;
        (void)tell(run, TSR_GRAPH_NODE_FAILED);
        run->event.message = NULL;
        TSR_FAIL(err, status, "node %s (%s): %s", node->id, node->class_type, reason.message);
    }
    run->outputs->nodes_run++;
    tsr__cache_store(run->graph->cache, &p->keys[e->index], e->results, run->outputs->items + before,
                     run->outputs->count - before);
    run->event.done++;
    if (tell_outputs(run, TSR_GRAPH_NODE_DONE, before)) TSR_FAIL(err, TSR_CANCELLED, "stopped by the caller");
done:
    return status;
}

static tsr_status run_entry(tsr__running *run, tsr__run_plan *p, int i, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__plan_entry *e = &p->entries[i];
    const tsr__workflow_node *node = &p->workflow->nodes[e->index];
    int before = run->outputs->count;
    run->event.node = node->id;
    run->event.class_type = node->class_type;
    run->event.done = i;
    if (e->state == TSR__PLAN_RUN) {
        TSR_TRY(run_one(run, p, e, err));
    } else {
        run->outputs->nodes_cached++;
        run->event.done++;
        TSR_TRY(take_outputs(run, e, node->id, err));
        if (tell_outputs(run, TSR_GRAPH_NODE_CACHED, before)) TSR_FAIL(err, TSR_CANCELLED, "stopped by the caller");
    }
    tsr__run_plan_done(p, i);
done:
    return status;
}

/* The ids of what will not run, before anything does. */
static tsr_status tell_started(tsr__running *run, const tsr__run_plan *p, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char **cached = NULL;
    int n = 0;
    TSR_ALLOC(err, cached, p->count + 1);
    for (int i = 0; i < p->count; i++)
        if (p->entries[i].state != TSR__PLAN_RUN) cached[n++] = p->workflow->nodes[p->entries[i].index].id;
    run->event.cached = cached;
    run->event.cached_count = n;
    if (tell(run, TSR_GRAPH_RUN_STARTED)) TSR_FAIL(err, TSR_CANCELLED, "stopped by the caller");
done:
    run->event.cached = NULL;
    run->event.cached_count = 0;
    free(cached);
    return status;
}

/* --- the run -------------------------------------------------------------------------------------------------------------- */
static tsr_status refuse(const tsr__check *check, tsr_error *err) {
    char *text = tsr__check_text(check);
    char *line = text ? strchr(text, '\n') : NULL;
    if (line) *line = 0;
    tsr_status status = tsr__fail(err, TSR_BAD_ARGUMENT, "%.400s%s", text && *text ? text : "no output can run",
                                  check->faults > 1 ? " (and more)" : "");
    free(text);
    return status;
}

tsr_status tsr_workflow_run(tsr_workflow_outputs **out, tsr_graph *graph, const tsr_workflow *workflow,
                            const tsr_graph_callbacks *callbacks, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__check check = { 0 };
    tsr__run_plan p = { 0 };
    tsr__running run = { .graph = graph, .workflow = workflow, .callbacks = callbacks };
    *out = NULL;
    TSR_ALLOC_ZERO(err, run.outputs, 1);
    TSR_TRY(tsr__check_run(&check, graph, workflow, err));
    if (!check.good_outputs) {
        status = refuse(&check, err);
        goto done;
    }
    TSR_TRY(tsr__run_plan_make(&p, graph, &check, err));
    graph->runs++;
    run.event.struct_size = sizeof run.event;
    run.event.total = p.count;
    run.engine_callbacks.struct_size = sizeof run.engine_callbacks;
    run.engine_callbacks.user = &run;
    run.engine_callbacks.cancelled = on_cancelled;
    graph->callbacks = &run.engine_callbacks;
    int previews = callbacks && callbacks->event && callbacks->preview_method != TSR_PREVIEW_NONE;
    graph->preview_seconds = previews ? callbacks->preview_seconds : 0.0;
    tsr__budget_begin(&graph->budget);
    TSR_TRY(tell_started(&run, &p, err));
    for (int i = 0; i < p.count; i++) TSR_TRY(run_entry(&run, &p, i, err));
    run.outputs->swaps = graph->budget.swaps;
    run.outputs->swap_seconds = graph->budget.swap_seconds;
    run.outputs->swap_bytes = graph->budget.swap_bytes;
    *out = run.outputs;
    run.outputs = NULL;
done:
    tsr__run_plan_clear(&p); /* values before the slots that they stand for */
    if (graph->callbacks == &run.engine_callbacks) {
        graph->callbacks = NULL;
        graph->swaps += (uint64_t)graph->budget.swaps;
        graph->swap_seconds += graph->budget.swap_seconds;
        tsr__slots_end_run(graph);
    }
    tsr__check_clear(&check);
    tsr_workflow_outputs_free(run.outputs);
    return status;
}
