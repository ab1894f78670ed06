/* graph/node_table.c - all rows in one table: search, defaults, argument access. */
#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/suggest.h"
#include "graph/node.h"

static const tsr__node_group *const groups[] = {
    &tsr__nodes_loaders,
    &tsr__nodes_conditioning,
    &tsr__nodes_latent,
    &tsr__nodes_image,
    &tsr__nodes_vae,
    &tsr__nodes_mask,
    &tsr__nodes_sampling,
    &tsr__nodes_sigmas,
    &tsr__nodes_scene,
    &tsr__nodes_custom_sampling,
    &tsr__nodes_impact,
    &tsr__nodes_impact_upscale,
    &tsr__nodes_inspire,
    &tsr__nodes_latent_ops,
    &tsr__nodes_image_ops,
    &tsr__nodes_impact_ksampler,
    &tsr__nodes_control,
    &tsr__nodes_samplers,
    &tsr__nodes_image_filters,
    &tsr__nodes_differential,
    &tsr__nodes_inpaint,
    &tsr__nodes_edit,
    &tsr__nodes_model_sampling,
};
enum { GROUPS = sizeof groups / sizeof *groups };

/* --- names -------------------------------------------------------------------------------------------------------------- */
tsr_status tsr__names_add(tsr__names *names, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *copy = tsr__strdup(name);
    if (!copy) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (names->count == names->cap) {
        int cap = names->cap ? 2 * names->cap : 16;
        char **items = realloc(names->items, (size_t)cap * sizeof *items);
        if (!items) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        names->items = items;
        names->cap = cap;
    }
    names->items[names->count++] = copy;
    copy = NULL;
done:
    free(copy);
    return status;
}

void tsr__names_clear(tsr__names *names) {
    for (int i = 0; i < names->count; i++) free(names->items[i]);
    free(names->items);
    memset(names, 0, sizeof *names);
}

int tsr__names_find(const tsr__names *names, const char *name) {
    for (int i = 0; i < names->count; i++)
        if (strcmp(names->items[i], name) == 0) return i;
    return -1;
}

/* --- rows --------------------------------------------------------------------------------------------------------------- */
const tsr__node *tsr__node_at(int index) {
    for (int g = 0; g < GROUPS && index >= 0; g++) {
        if (index < groups[g]->count) return &groups[g]->rows[index];
        index -= groups[g]->count;
    }
    return NULL;
}

int tsr_node_count(void) {
    int count = 0;
    for (int g = 0; g < GROUPS; g++) count += groups[g]->count;
    return count;
}

int tsr_node_find(const char *name) {
    const tsr__node *row;
    for (int i = 0; name && (row = tsr__node_at(i)); i++)
        if (strcmp(row->name, name) == 0) return i;
    return -1;
}

const tsr__node *tsr__node_find(const char *class_type) {
    return tsr__node_at(tsr_node_find(class_type));
}

const char *tsr_node_name(int index) {
    const tsr__node *row = tsr__node_at(index);
    return row ? row->name : NULL;
}

const char *tsr_node_summary(int index) {
    const tsr__node *row = tsr__node_at(index);
    return row ? row->doc : NULL;
}

const char *tsr_node_category(int index) {
    const tsr__node *row = tsr__node_at(index);
    return row ? row->category : NULL;
}

const char *tsr__node_suggest(const char *class_type) {
    return tsr__suggest(class_type, tsr_node_name, tsr_node_count());
}

const char *tsr__node_pack(const tsr__node *row) {
    for (int g = 0; g < GROUPS; g++)
        if (row >= groups[g]->rows && row < groups[g]->rows + groups[g]->count) return groups[g]->pack;
    return "";
}

int tsr__node_inputs(const tsr__node *row) {
    int n = 0;
    while (row->inputs[n].name) n++;
    assert(n <= TSR__MAX_INPUTS);
    return n;
}

int tsr__node_outputs(const tsr__node *row) {
    int n = 0;
    while (n < TSR__MAX_OUTPUTS && row->outputs[n].name) n++;
    return n;
}

/* "regional_prompts12" is one of "regional_prompts1". */
static int is_one_of(const char *name, const char *first) {
    size_t stem = strlen(first) - 1;
    if (strncmp(name, first, stem) != 0 || !name[stem] || strlen(name + stem) > 4) return 0;
    for (const char *at = name + stem; *at; at++)
        if (!isdigit((unsigned char)*at)) return 0;
    return 1;
}

int tsr__node_input_find(const tsr__node *row, const char *name) {
    for (int i = 0; row->inputs[i].name; i++)
        if (strcmp(row->inputs[i].name, name) == 0) return i;
    for (int i = 0; row->inputs[i].name; i++)
        if ((row->inputs[i].flags & TSR__IN_MANY) && is_one_of(name, row->inputs[i].name)) return i;
    return -1;
}

int tsr__input_is_widget(const tsr__input *input) {
    switch (input->type) {
    case TSR__V_INT:
    case TSR__V_FLOAT:
    case TSR__V_STRING:
    case TSR__V_BOOLEAN:
    case TSR__V_COMBO: return (input->flags & TSR__IN_LINK) == 0;
    default: return 0;
    }
}

tsr_status tsr__input_choices(tsr__names *out, const tsr__input *input, const tsr_graph *graph, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (input->choices) return input->choices(out, graph, err);
    for (int i = 0; input->list && input->list[i]; i++) TSR_TRY(tsr__names_add(out, input->list[i], err));
done:
    return status;
}

/* --- arguments ---------------------------------------------------------------------------------------------------------- */
tsr__args tsr__record(const tsr__value *record) {
    tsr__args args = { record->row, record->parts };
    return args;
}

static int index_of(tsr__args args, const char *name) {
    for (int i = 0; args.row->inputs[i].name; i++)
        if (strcmp(args.row->inputs[i].name, name) == 0) return i;
    assert(!"the row has an input of that name");
    abort();
}

tsr__value *tsr__arg(tsr__args args, const char *name) {
    return args.values[index_of(args, name)];
}

int tsr__arg_int(tsr__args args, const char *name) {
    int i = index_of(args, name);
    return args.values[i] ? (int)args.values[i]->integer : (int)args.row->inputs[i].standard;
}

uint64_t tsr__arg_seed(tsr__args args, const char *name) {
    int i = index_of(args, name);
    return args.values[i] ? args.values[i]->bits : (uint64_t)args.row->inputs[i].standard;
}

double tsr__arg_float(tsr__args args, const char *name) {
    int i = index_of(args, name);
    return args.values[i] ? args.values[i]->number : args.row->inputs[i].standard;
}

int tsr__arg_bool(tsr__args args, const char *name) {
    int i = index_of(args, name);
    return args.values[i] ? args.values[i]->boolean : args.row->inputs[i].standard != 0.0;
}

const char *tsr__arg_text(tsr__args args, const char *name) {
    int i = index_of(args, name);
    const tsr__input *input = &args.row->inputs[i];
    if (args.values[i]) return args.values[i]->text ? args.values[i]->text : "";
    if (input->text) return input->text;
    return input->list ? input->list[0] : "";
}

tsr_status tsr__give(tsr__call *call, int slot, tsr__value *value, tsr_status status) {
    assert(slot >= 0 && slot < TSR__MAX_OUTPUTS && !call->results[slot]);
    call->results[slot] = value;
    return status;
}

tsr_status tsr__run_record(tsr__call *call, tsr_error *err) {
    const tsr__node *row = call->in.row;
    return tsr__value_parts(&call->results[0], row->outputs[0].type, row, call->in.values, tsr__node_inputs(row), err);
}
