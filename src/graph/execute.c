/* graph/execute.c - runs the nodes that the outputs need, each once, equal ones together, results dropped after their last
 * use. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

/* What the runner knows of one node. */
typedef struct entry {
    int index; /* in the workflow */
    char *signature;
    int same_as; /* entry that stands for it, or itself */
    int uses;    /* inputs that still want its results */
    tsr__value *results[TSR__MAX_OUTPUTS];
} entry;

typedef struct plan {
    const tsr_workflow *workflow;
    entry *entries; /* in the order of running */
    int count;
    int *entry_of; /* [nodes]: index into entries, -1 */
} plan;

static void drop_results(entry *e) {
    for (int i = 0; i < TSR__MAX_OUTPUTS; i++) {
        tsr__value_unref(e->results[i]);
        e->results[i] = NULL;
    }
}

static void clear_plan(plan *p) {
    for (int i = 0; i < p->count; i++) {
        free(p->entries[i].signature);
        drop_results(&p->entries[i]);
    }
    free(p->entries);
    free(p->entry_of);
}

/* --- order ------------------------------------------------------------------------------------------------------------------ */
/* Depth first; validation has refused cycles. */
static void add_node(plan *p, int index) {
    const tsr__workflow_node *node = &p->workflow->nodes[index];
    const char *name;
    json_t *value;
    int slot;
    if (p->entry_of[index] >= 0) return;
    json_object_foreach(node->inputs, name, value) {
        int from = tsr__is_link(value) ? tsr__workflow_link(p->workflow, value, &slot) : -1;
        if (from >= 0 && tsr__node_input_find(node->row, name) >= 0) add_node(p, from);
    }
    p->entry_of[index] = p->count;
    p->entries[p->count].index = index;
    p->entries[p->count].same_as = p->count;
    p->count++;
}

/* Grows *text; 0 when memory is out. */
static int extend(char **text, char *more) {
    char *joined = *text && more ? tsr__format("%s;%s", *text, more) : NULL;
    free(*text);
    free(more);
    *text = joined;
    return joined != NULL;
}

/* Class, values and sources: equal signatures give equal results. */
static char *signature_of(const plan *p, const tsr__workflow_node *node) {
    char *text = tsr__strdup(node->class_type);
    const char *name;
    json_t *value;
    int slot;
    json_object_foreach(node->inputs, name, value) {
        if (tsr__node_input_find(node->row, name) < 0) continue;
        int from = tsr__is_link(value) ? tsr__workflow_link(p->workflow, value, &slot) : -1;
        if (from >= 0) {
            extend(&text, tsr__format("%s=#%d.%d", name, p->entries[p->entry_of[from]].same_as, slot));
        } else {
            char *literal = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
            extend(&text, literal ? tsr__format("%s=%s", name, literal) : NULL);
            free(literal);
        }
    }
    return text;
}

static void count_uses(plan *p, const tsr__workflow_node *node, int change) {
    const char *name;
    json_t *value;
    int slot;
    json_object_foreach(node->inputs, name, value) {
        int from = tsr__is_link(value) ? tsr__workflow_link(p->workflow, value, &slot) : -1;
        if (from < 0 || tsr__node_input_find(node->row, name) < 0) continue;
        entry *e = &p->entries[p->entries[p->entry_of[from]].same_as];
        e->uses += change;
        if (change < 0 && e->uses == 0) drop_results(e);
    }
}

static tsr_status make_plan(plan *p, const tsr__check *check, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_workflow *workflow = check->workflow;
    p->workflow = workflow;
    TSR_ALLOC_ZERO(err, p->entries, workflow->n_nodes + 1);
    TSR_ALLOC(err, p->entry_of, workflow->n_nodes + 1);
    for (int i = 0; i < workflow->n_nodes; i++) p->entry_of[i] = -1;
    for (int i = 0; i < workflow->n_nodes; i++)
        if (check->outputs[i]) add_node(p, i);
    for (int i = 0; i < p->count; i++) {
        entry *e = &p->entries[i];
        const tsr__workflow_node *node = &workflow->nodes[e->index];
        e->signature = signature_of(p, node);
        if (!e->signature) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        for (int k = 0; k < i && !node->row->is_output && e->same_as == i; k++)
            if (strcmp(p->entries[k].signature, e->signature) == 0) e->same_as = k;
        if (e->same_as == i) count_uses(p, node, 1);
    }
done:
    return status;
}

/* --- one node ------------------------------------------------------------------------------------------------------------ */
static int tell(tsr__running *run, tsr_graph_event_kind kind, const tsr_progress *progress) {
    run->event.kind = kind;
    run->event.progress = progress;
    const tsr_graph_callbacks *c = run->callbacks;
    if (c && c->cancelled && c->cancelled(c->user)) return 1;
    return c && c->event ? c->event(c->user, &run->event) : 0;
}

static int on_progress(void *user, const tsr_progress *progress) {
    return tell(user, TSR_GRAPH_NODE_PROGRESS, progress);
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

static tsr_status get_value(tsr__value **out, const plan *p, const tsr__input *input, const json_t *value,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    int slot, from = tsr__is_link(value) ? tsr__workflow_link(p->workflow, value, &slot) : -1;
    *out = NULL;
    if (from < 0) return tsr__literal(out, input, value, err);
    *out = tsr__value_ref(p->entries[p->entries[p->entry_of[from]].same_as].results[slot]);
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
    int n_many;
} inputs;

static void clear_inputs(inputs *in) {
    for (int i = 0; i < TSR__MAX_INPUTS; i++) tsr__value_unref(in->values[i]);
    for (int i = 0; i < in->n_many; i++) tsr__value_unref(in->many[i].value);
    free(in->many);
}

static tsr_status gather(inputs *in, const plan *p, const tsr__workflow_node *node, tsr_error *err) {
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
        } else {
            tsr__named_value *extra = &in->many[in->n_many++];
            extra->name = name;
            TSR_TRY(get_value(&extra->value, p, input, value, err));
        }
    }
done:
    return status;
}

static tsr_status run_node(tsr__running *run, plan *p, entry *e, tsr_error *err) {
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
    TSR_TRY(node->row->run(&call, err));
done:
    for (int i = 0; i < TSR__MAX_OUTPUTS; i++) e->results[i] = call.results[i];
    clear_inputs(&in);
    return status;
}

static tsr_status run_entry(tsr__running *run, plan *p, int i, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error reason = TSR_ERROR_INIT;
    entry *e = &p->entries[i];
    const tsr__workflow_node *node = &p->workflow->nodes[e->index];
    run->event.node = node->id;
    run->event.class_type = node->class_type;
    run->event.done = i;
    if (e->same_as != i) {
        run->outputs->nodes_cached++;
        if (tell(run, TSR_GRAPH_NODE_CACHED, NULL)) TSR_FAIL(err, TSR_CANCELLED, "stopped by the caller");
        goto done;
    }
    if (tell(run, TSR_GRAPH_NODE_STARTED, NULL)) TSR_FAIL(err, TSR_CANCELLED, "stopped by the caller");
    status = run_node(run, p, e, &reason);
    if (status == TSR_CANCELLED) TSR_FAIL(err, status, "%s", reason.message);
    if (status != TSR_OK) TSR_FAIL(err, status, "node %s (%s): %s", node->id, node->class_type, reason.message);
    run->outputs->nodes_run++;
    if (e->uses == 0) drop_results(e);
    count_uses(p, node, -1);
    run->event.done = i + 1;
    if (tell(run, TSR_GRAPH_NODE_DONE, NULL)) TSR_FAIL(err, TSR_CANCELLED, "stopped by the caller");
done:
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
    plan p = { 0 };
    tsr__running run = { .graph = graph, .workflow = workflow, .callbacks = callbacks };
    *out = NULL;
    TSR_ALLOC_ZERO(err, run.outputs, 1);
    TSR_TRY(tsr__check_run(&check, graph, workflow, err));
    if (!check.good_outputs) {
        status = refuse(&check, err);
        goto done;
    }
    TSR_TRY(make_plan(&p, &check, err));
    run.event.struct_size = sizeof run.event;
    run.event.total = p.count;
    run.engine_callbacks.struct_size = sizeof run.engine_callbacks;
    run.engine_callbacks.user = &run;
    run.engine_callbacks.cancelled = on_cancelled;
    graph->callbacks = &run.engine_callbacks;
    for (int i = 0; i < p.count; i++) TSR_TRY(run_entry(&run, &p, i, err));
    *out = run.outputs;
    run.outputs = NULL;
done:
    clear_plan(&p); /* values before the slots that they stand for */
    if (graph->callbacks == &run.engine_callbacks) {
        graph->callbacks = NULL;
        tsr__slots_end_run(graph);
    }
    tsr__check_clear(&check);
    tsr_workflow_outputs_free(run.outputs);
    return status;
}
