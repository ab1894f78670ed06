/* graph/workflow_ui.c - ComfyUI's UI format (a drawn graph) to its API format (what runs).
 *
 * What the page's own export does: muted nodes and the links to them go away; bypassed nodes pass an input of the same type
 * through; reroutes are followed; primitive nodes become values; widget values get their names from the node table; subgraphs
 * are laid out flat (workflow_subgraphs.c). Notes and groups are only drawn. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

enum { MODE_MUTED = 2, MODE_BYPASSED = 4, MAX_HOPS = 1000 };

typedef struct ui {
    json_t *nodes; /* id as text -> node, borrowed entries */
    json_t *links; /* id as text -> link */
} ui;

/* Where a link comes from, once reroutes and bypasses are followed. */
typedef struct source {
    const json_t *node; /* NULL: from nowhere */
    json_int_t slot;
    const json_t *value; /* of a primitive, instead of a node */
} source;

static const char *id_text(const json_t *id, char *out, size_t size) {
    if (json_is_string(id)) snprintf(out, size, "%.*s", (int)size - 1, json_string_value(id));
    else snprintf(out, size, "%lld", (long long)json_integer_value(id));
    return out;
}

static json_t *by_id(const json_t *map, const json_t *id) {
    char text[64];
    return id && !json_is_null(id) ? json_object_get(map, id_text(id, text, sizeof text)) : NULL;
}

/* A link is [id, from, from slot, to, to slot, type] or an object of the same. */
static const json_t *link_part(const json_t *link, size_t index, const char *name) {
    return json_is_array(link) ? json_array_get(link, index) : json_object_get(link, name);
}

static int is_type(const json_t *node, const char *const *names) {
    const char *type = json_string_value(json_object_get(node, "type"));
    for (int i = 0; type && names[i]; i++)
        if (strcmp(type, names[i]) == 0) return 1;
    return 0;
}

static int is_reroute(const json_t *node) {
    static const char *const names[] = { "Reroute", "Reroute (rgthree)", NULL };
    return is_type(node, names);
}

static int is_primitive(const json_t *node) {
    static const char *const names[] = { "PrimitiveNode", NULL };
    return is_type(node, names);
}

static int is_border(const json_t *node) {
    static const char *const names[] = { TSR__UI_BORDER, NULL };
    return is_type(node, names);
}

static int is_drawn_only(const json_t *node) {
    static const char *const names[] = { "Note", "MarkdownNote", NULL };
    return is_type(node, names) || is_reroute(node) || is_primitive(node) || is_border(node);
}

static json_int_t mode_of(const json_t *node) {
    return json_integer_value(json_object_get(node, "mode"));
}

static int same_type(const json_t *input, const json_t *output) {
    const char *a = json_string_value(json_object_get(input, "type"));
    const char *b = json_string_value(json_object_get(output, "type"));
    return a && b && (strcmp(a, b) == 0 || strcmp(a, "*") == 0 || strcmp(b, "*") == 0);
}

/* The link id that a bypassed node passes on to one of its outputs: the input at the same place, else the first of its
 * type. */
static const json_t *bypass(const json_t *node, json_int_t slot) {
    const json_t *inputs = json_object_get(node, "inputs");
    const json_t *output = json_array_get(json_object_get(node, "outputs"), (size_t)slot);
    const json_t *input = json_array_get(inputs, (size_t)slot);
    if (same_type(input, output)) return json_object_get(input, "link");
    for (size_t i = 0; i < json_array_size(inputs); i++) {
        input = json_array_get(inputs, i);
        if (same_type(input, output)) return json_object_get(input, "link");
    }
    return NULL;
}

static source follow(const ui *u, const json_t *link_id) {
    source none = { NULL, 0, NULL }, found = none;
    for (int hop = 0; hop < MAX_HOPS; hop++) {
        const json_t *link = by_id(u->links, link_id);
        found.node = by_id(u->nodes, link_part(link, 1, "origin_id"));
        found.slot = json_integer_value(link_part(link, 2, "origin_slot"));
        if (!found.node || found.slot < 0 || mode_of(found.node) == MODE_MUTED) return none;
        if (is_primitive(found.node)) {
            found.value = json_array_get(json_object_get(found.node, "widgets_values"), 0);
            return found;
        }
        if (is_border(found.node)) {
            const json_t *pass = json_array_get(json_object_get(found.node, "pass"), (size_t)found.slot);
            found.value = json_object_get(pass, "value");
            if (found.value) return found;
            link_id = json_object_get(pass, "link");
        } else if (is_reroute(found.node))
            link_id = json_object_get(json_array_get(json_object_get(found.node, "inputs"), 0), "link");
        else if (mode_of(found.node) == MODE_BYPASSED) link_id = bypass(found.node, found.slot);
        else return found;
        if (!link_id) return none;
    }
    return none; /* a ring of reroutes */
}

/* --- widgets ------------------------------------------------------------------------------------------------------------ */
static int is_control(const json_t *value) {
    static const char *const words[] = { "fixed", "increment", "decrement", "randomize", "increment-wrap" };
    const char *text = json_string_value(value);
    for (size_t i = 0; text && i < sizeof words / sizeof *words; i++)
        if (strcmp(text, words[i]) == 0) return 1;
    return 0;
}

/* Values stand in the order of the node's widgets; behind a seed may stand what the page does to it after a run. */
static int set_widgets(json_t *inputs, const tsr__node *row, const json_t *values) {
    size_t at = 0;
    int bad = 0;
    for (int i = 0; row->inputs[i].name; i++) {
        const tsr__input *input = &row->inputs[i];
        if (!tsr__input_is_widget(input)) continue;
        json_t *value = json_is_object(values) ? json_object_get(values, input->name) : json_array_get(values, at++);
        if ((input->flags & TSR__IN_CONTROL) && json_is_array(values) && is_control(json_array_get(values, at))) at++;
        if (value && !json_is_null(value) && !json_is_array(value)) bad |= json_object_set(inputs, input->name, value);
    }
    return bad;
}

static int set_links(json_t *inputs, const ui *u, const json_t *node) {
    size_t i;
    json_t *slot;
    char id[64];
    int bad = 0;
    json_array_foreach(json_object_get(node, "inputs"), i, slot) {
        const char *name = json_string_value(json_object_get(slot, "name"));
        const json_t *link = json_object_get(slot, "link");
        if (!name || !link || json_is_null(link)) continue;
        source from = follow(u, link);
        if (from.value) bad |= json_object_set(inputs, name, (json_t *)(uintptr_t)from.value);
        else if (from.node)
            bad |= json_object_set_new(
                inputs, name, json_pack("[s, I]", id_text(json_object_get(from.node, "id"), id, sizeof id), from.slot));
        else if (!json_object_get(slot, "widget")) (void)json_object_del(inputs, name);
    }
    return bad;
}

static tsr_status convert_node(json_t *prompt, const ui *u, const json_t *node, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *type = json_string_value(json_object_get(node, "type"));
    const char *title = json_string_value(json_object_get(node, "title"));
    const tsr__node *row = tsr__node_find(type);
    json_t *entry = NULL, *inputs = json_object();
    char id[64];
    int bad = inputs == NULL;
    id_text(json_object_get(node, "id"), id, sizeof id);
    if (!type) TSR_FAIL(err, TSR_BAD_FORMAT, "node %.40s of the drawn workflow has no type", id);
    if (row && !bad) bad |= set_widgets(inputs, row, json_object_get(node, "widgets_values"));
    if (!bad) bad |= set_links(inputs, u, node);
    if (!bad)
        entry = json_pack("{s:s, s:O, s:{s:s}}", "class_type", type, "inputs", inputs, "_meta", "title",
                          title ? title : type);
    if (!entry || json_object_set_new(prompt, id, entry) != 0) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    json_decref(inputs);
    return status;
}

/* --- the graph ------------------------------------------------------------------------------------------------------------ */
static tsr_status index_nodes(ui *u, const json_t *nodes, tsr_error *err) {
    size_t i;
    json_t *node;
    char id[64];
    if (json_array_size(nodes) > TSR_WORKFLOW_MAX_NODES)
        return tsr__fail(err, TSR_TOO_LARGE, "the workflow has %zu nodes; %d are the most", json_array_size(nodes),
                         TSR_WORKFLOW_MAX_NODES);
    json_array_foreach(nodes, i, node) {
        const json_t *key = json_object_get(node, "id");
        if (!json_is_integer(key) && !json_is_string(key))
            return tsr__fail(err, TSR_BAD_FORMAT, "node number %zu of the drawn workflow has no id", i + 1);
        if (json_object_get(u->nodes, id_text(key, id, sizeof id)))
            return tsr__fail(err, TSR_BAD_FORMAT, "two nodes of the drawn workflow have the id %.40s", id);
        if (json_object_set(u->nodes, id, node) != 0) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    }
    return TSR_OK;
}

static tsr_status index_links(ui *u, const json_t *links, tsr_error *err) {
    size_t i;
    json_t *link;
    char id[64];
    if (json_array_size(links) > TSR_WORKFLOW_MAX_LINKS)
        return tsr__fail(err, TSR_TOO_LARGE, "the workflow has %zu links; %d are the most", json_array_size(links),
                         TSR_WORKFLOW_MAX_LINKS);
    json_array_foreach(links, i, link) {
        const json_t *key = link_part(link, 0, "id");
        if (!json_is_integer(key) && !json_is_string(key)) continue; /* old files hold nulls */
        if (json_object_set(u->links, id_text(key, id, sizeof id), link) != 0)
            return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    }
    return TSR_OK;
}

tsr_status tsr__workflow_from_ui(json_t **out, const json_t *drawn, tsr_error *err) {
    tsr_status status = TSR_OK;
    ui u = { json_object(), json_object() };
    json_t *prompt = json_object(), *node;
    json_t *flat = NULL;
    size_t i;
    *out = NULL;
    if (!u.nodes || !u.links || !prompt) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (json_array_size(json_object_get(json_object_get(drawn, "definitions"), "subgraphs")) > 0) {
        TSR_TRY(tsr__subgraphs_expand(&flat, drawn, err));
        drawn = flat;
    }
    const json_t *nodes = json_object_get(drawn, "nodes");
    TSR_TRY(index_nodes(&u, nodes, err));
    TSR_TRY(index_links(&u, json_object_get(drawn, "links"), err));
    json_array_foreach(nodes, i, node) {
        if (mode_of(node) == MODE_MUTED || mode_of(node) == MODE_BYPASSED || is_drawn_only(node)) continue;
        TSR_TRY(convert_node(prompt, &u, node, err));
    }
    *out = prompt;
    prompt = NULL;
done:
    json_decref(prompt);
    json_decref(u.nodes);
    json_decref(u.links);
    json_decref(flat);
    return status;
}
