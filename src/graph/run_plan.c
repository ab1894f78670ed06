/* graph/run_plan.c - see run_plan.h. Outputs are walked upwards; what is kept from an earlier run ends the walk, so that what
 * led to it need not run again. */
#include "graph/run_plan.h"

#include <stdlib.h>
#include <string.h>

static void drop_results(tsr__plan_entry *e) {
    for (int i = 0; i < TSR__MAX_OUTPUTS; i++) {
        tsr__value_unref(e->results[i]);
        e->results[i] = NULL;
    }
}

static void drop_outputs(tsr__plan_entry *e) {
    for (int i = 0; i < e->n_outputs; i++) tsr__output_clear(&e->outputs[i]);
    free(e->outputs);
}

void tsr__run_plan_clear(tsr__run_plan *p) {
    for (int i = 0; i < p->count; i++) {
        drop_results(&p->entries[i]);
        drop_outputs(&p->entries[i]);
    }
    free(p->entries);
    free(p->entry_of);
    free(p->keys);
}

tsr__plan_entry *tsr__run_plan_source(const tsr__run_plan *p, int node) {
    return &p->entries[p->entries[p->entry_of[node]].same_as];
}

/* --- order -------------------------------------------------------------------------------------------------------------- */
/* Depth first; validation has refused cycles. */
static void add_node(tsr__run_plan *p, int index) {
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

/* Output nodes run each for itself: two that save the same save it twice. */
static tsr_status set_keys(tsr__run_plan *p, tsr_graph *graph, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < p->count; i++) {
        tsr__plan_entry *e = &p->entries[i];
        tsr__key *key = &p->keys[e->index];
        const tsr__node *row = p->workflow->nodes[e->index].row;
        int equal = 0;
        TSR_TRY(tsr__key_of(key, &e->file_bytes, graph, p->workflow, e->index, p->keys, err));
        for (int k = 0; k < i; k++) {
            const tsr__plan_entry *before = &p->entries[k];
            const tsr__node *other = p->workflow->nodes[before->index].row;
            if (row != other) continue;
            if (row->is_output) {
                /* The first of them keeps the plain key. */
                tsr__key numbered = *key;
                if (equal) tsr__key_number(&numbered, equal);
                equal += memcmp(&p->keys[before->index], &numbered, sizeof numbered) == 0;
            } else if (e->same_as == i && memcmp(&p->keys[before->index], key, sizeof *key) == 0) {
                e->same_as = k;
            }
        }
        if (equal) tsr__key_number(key, equal);
    }
done:
    return status;
}

/* --- what is known ------------------------------------------------------------------------------------------------------ */
/* Copies, for the cache may drop what it keeps while the run stores other things. */
static tsr_status take_kept(tsr__plan_entry *e, const tsr__kept *kept, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < TSR__MAX_OUTPUTS; i++) e->results[i] = tsr__value_ref(kept->results[i]);
    TSR_ALLOC_ZERO(err, e->outputs, kept->n_files + 1);
    for (int i = 0; i < kept->n_files; i++) {
        const tsr_workflow_output *from = &kept->files[i].output;
        tsr_workflow_output *to = &e->outputs[i];
        e->n_outputs = i + 1;
        to->type = tsr__strdup(from->type);
        to->subfolder = tsr__strdup(from->subfolder);
        to->filename = tsr__strdup(from->filename);
        to->path = tsr__strdup(from->path);
        if (!to->type || !to->subfolder || !to->filename || !to->path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
    e->state = TSR__PLAN_KEPT;
done:
    return status;
}

static void count_uses(tsr__run_plan *p, const tsr__workflow_node *node, int change) {
    const char *name;
    json_t *value;
    int slot;
    json_object_foreach(node->inputs, name, value) {
        int from = tsr__is_link(value) ? tsr__workflow_link(p->workflow, value, &slot) : -1;
        if (from < 0 || tsr__node_input_find(node->row, name) < 0) continue;
        tsr__plan_entry *e = tsr__run_plan_source(p, from);
        e->uses += change;
        if (change < 0 && e->uses == 0) drop_results(e);
    }
}

/* From the outputs up: users of an entry stand behind it. */
static tsr_status set_states(tsr__run_plan *p, tsr_graph *graph, const tsr__check *check, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = p->count - 1; i >= 0; i--) {
        tsr__plan_entry *e = &p->entries[i];
        if (e->same_as != i) {
            e->state = TSR__PLAN_SAME;
            continue;
        }
        /* Found counts as used, though nothing may want it: it belongs to what is being worked on. */
        const tsr__kept *kept = tsr__cache_find(graph->cache, &p->keys[e->index]);
        if (e->uses == 0 && !check->outputs[e->index]) continue;
        if (kept) {
            TSR_TRY(take_kept(e, kept, err));
            continue;
        }
        e->state = TSR__PLAN_RUN;
        count_uses(p, &p->workflow->nodes[e->index], 1);
    }
done:
    return status;
}

tsr_status tsr__run_plan_make(tsr__run_plan *p, tsr_graph *graph, const tsr__check *check, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_workflow *workflow = check->workflow;
    p->workflow = workflow;
    TSR_ALLOC_ZERO(err, p->entries, workflow->n_nodes + 1);
    TSR_ALLOC_ZERO(err, p->keys, workflow->n_nodes + 1);
    TSR_ALLOC(err, p->entry_of, workflow->n_nodes + 1);
    for (int i = 0; i < workflow->n_nodes; i++) p->entry_of[i] = -1;
    for (int i = 0; i < workflow->n_nodes; i++)
        if (check->outputs[i]) add_node(p, i);
    TSR_TRY(set_keys(p, graph, err));
    TSR_TRY(set_states(p, graph, check, err));
done:
    return status;
}

void tsr__run_plan_done(tsr__run_plan *p, int entry) {
    tsr__plan_entry *e = &p->entries[entry];
    if (e->uses == 0) drop_results(e);
    if (e->state == TSR__PLAN_RUN) count_uses(p, &p->workflow->nodes[e->index], -1);
}
