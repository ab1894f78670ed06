/* graph/workflow_subgraphs.c - drawn workflows with subgraphs, laid out flat.
 *
 * A node whose type is a subgraph's id stands for the subgraph's own nodes, which get ids "outer:inner", as in ComfyUI's API
 * export. Two nodes that are only followed take the place of its borders: the outer node passes its outputs on from within,
 * and "outer:-10" passes what comes in. */
#include <string.h>

#include "graph/graph_priv.h"

enum { MAX_DEPTH = 16, MODE_MUTED = 2, MODE_BYPASSED = 4, INPUTS_ID = -10, OUTPUTS_ID = -20, ID_SIZE = 512 };

typedef struct flat {
    const json_t *definitions; /* array of subgraphs */
    json_t *nodes, *links;     /* arrays being filled */
} flat;

static const json_t *definition_of(const flat *f, const json_t *node) {
    const char *type = json_string_value(json_object_get(node, "type"));
    size_t i;
    const json_t *one;
    json_array_foreach(f->definitions, i, one) {
        const char *id = json_string_value(json_object_get(one, "id"));
        if (type && id && strcmp(type, id) == 0) return one;
    }
    return NULL;
}

/* "prefix" + id as text. NULL for no id. */
static json_t *full_id(const char *prefix, const json_t *id) {
    if (json_is_string(id)) return json_sprintf("%s%s", prefix, json_string_value(id));
    return json_is_integer(id) ? json_sprintf("%s%lld", prefix, (long long)json_integer_value(id)) : NULL;
}

static const json_t *link_part(const json_t *link, size_t index, const char *name) {
    return json_is_array(link) ? json_array_get(link, index) : json_object_get(link, name);
}

/* --- borders ----------------------------------------------------------------------------------------------------------------- */
/* The value that the outer node shows for one of its inputs without a link, or NULL. */
static json_t *shown_value(const json_t *outer, size_t input) {
    const json_t *inputs = json_object_get(outer, "inputs"), *values = json_object_get(outer, "widgets_values");
    const json_t *shown = json_object_get(json_object_get(outer, "properties"), "proxyWidgets"), *entry;
    const char *name = json_string_value(json_object_get(json_array_get(inputs, input), "name"));
    size_t widgets = 0, at = 0, i;
    if (!json_object_get(json_array_get(inputs, input), "widget") || !name) return NULL;
    json_array_foreach(inputs, i, entry) {
        if (!json_object_get(entry, "widget")) continue;
        if (i < input) at++;
        widgets++;
    }
    if (json_array_size(values) == widgets) return json_array_get(values, at);
    if (json_array_size(values) != json_array_size(shown)) return NULL;
    json_array_foreach(shown, i, entry) { /* [node, widget]: node -1 is the outer one itself */
        const char *node = json_string_value(json_array_get(entry, 0)),
                   *widget = json_string_value(json_array_get(entry, 1));
        if (node && widget && strcmp(node, "-1") == 0 && strcmp(widget, name) == 0) return json_array_get(values, i);
    }
    return NULL;
}

/* A node of type `type` that is followed only: pass[slot] is {link} or {value}. */
static int add_border(flat *f, json_t *id, const char *type, json_t *pass) {
    json_t *node = json_pack("{s:o, s:s, s:o}", "id", id, "type", type, "pass", pass);
    return !node || json_array_append_new(f->nodes, node) != 0;
}

/* What comes into the subgraph. */
static int add_inputs(flat *f, const json_t *outer, const char *outside, const char *inside) {
    json_t *pass = json_array(), *entry, *id = json_sprintf("%s%d", inside, INPUTS_ID);
    size_t i;
    int bad = !pass || !id;
    json_array_foreach(json_object_get(outer, "inputs"), i, entry) {
        json_t *link = full_id(outside, json_object_get(entry, "link")), *value = shown_value(outer, i);
        json_t *made = link                            ? json_pack("{s:o}", "link", link)
                       : value && !json_is_null(value) ? json_pack("{s:O}", "value", value)
                                                       : json_object();
        bad |= !made || json_array_append_new(pass, made) != 0;
    }
    return bad | add_border(f, id, TSR__UI_BORDER, pass);
}

/* What the outer node gives: the inner links that end at the output border. */
static int add_outputs(flat *f, const json_t *outer, const json_t *definition, const char *outside,
                       const char *inside) {
    json_t *pass = json_array(), *id = full_id(outside, json_object_get(outer, "id")), *link;
    size_t i, n = json_array_size(json_object_get(definition, "outputs"));
    int bad = !pass || !id;
    for (i = 0; i < n && !bad; i++) bad |= json_array_append_new(pass, json_object()) != 0;
    json_array_foreach(json_object_get(definition, "links"), i, link) {
        json_int_t slot = json_integer_value(link_part(link, 4, "target_slot"));
        if (json_integer_value(link_part(link, 3, "target_id")) != OUTPUTS_ID || slot < 0 || (size_t)slot >= n)
            continue;
        bad |= json_object_set_new(json_array_get(pass, (size_t)slot), "link",
                                   full_id(inside, link_part(link, 0, "id"))) != 0;
    }
    return bad | add_border(f, id, TSR__UI_BORDER, pass);
}

/* --- the inside -------------------------------------------------------------------------------------------------------------- */
static int add_link(flat *f, const json_t *link, const char *prefix) {
    json_t *id = full_id(prefix, link_part(link, 0, "id")), *from = full_id(prefix, link_part(link, 1, "origin_id"));
    if (!id || !from) { /* old files hold nulls */
        json_decref(id);
        json_decref(from);
        return 0;
    }
    json_t *made = json_pack("{s:o, s:o, s:I}", "id", id, "origin_id", from, "origin_slot",
                             json_integer_value(link_part(link, 2, "origin_slot")));
    return !made || json_array_append_new(f->links, made) != 0;
}

static int add_node(flat *f, const json_t *node, const char *prefix) {
    json_t *copy = json_deep_copy(node), *entry, *id = full_id(prefix, json_object_get(node, "id"));
    size_t i;
    int bad = !copy || (id && json_object_set_new(copy, "id", id) != 0);
    json_array_foreach(json_object_get(copy, "inputs"), i, entry) {
        json_t *link = full_id(prefix, json_object_get(entry, "link"));
        if (link) bad |= json_object_set_new(entry, "link", link) != 0;
    }
    return bad | (json_array_append_new(f->nodes, copy) != 0);
}

static tsr_status add_graph(flat *f, const json_t *graph, const char *prefix, int depth, tsr_error *err) {
    tsr_status status = TSR_OK;
    const json_t *node, *link;
    char inside[ID_SIZE];
    size_t i;
    int bad = 0;
    if (depth > MAX_DEPTH) TSR_FAIL(err, TSR_TOO_LARGE, "subgraphs lie in one another more than %d deep", MAX_DEPTH);
    json_array_foreach(json_object_get(graph, "links"), i, link) {
        bad |= add_link(f, link, prefix);
    }
    json_array_foreach(json_object_get(graph, "nodes"), i, node) {
        const json_t *definition = definition_of(f, node);
        json_int_t mode = json_integer_value(json_object_get(node, "mode"));
        if (json_array_size(f->nodes) > TSR_WORKFLOW_MAX_NODES || json_array_size(f->links) > TSR_WORKFLOW_MAX_LINKS)
            TSR_FAIL(err, TSR_TOO_LARGE, "with its subgraphs the workflow has more than %d nodes or %d links",
                     TSR_WORKFLOW_MAX_NODES, TSR_WORKFLOW_MAX_LINKS);
        if (!definition || mode == MODE_MUTED || mode == MODE_BYPASSED) {
            bad |= add_node(f, node, prefix);
            continue;
        }
        json_t *id = full_id(prefix, json_object_get(node, "id"));
        int length = id ? snprintf(inside, sizeof inside, "%s:", json_string_value(id)) : -1;
        json_decref(id);
        if (length < 0 || length >= ID_SIZE) TSR_FAIL(err, TSR_BAD_FORMAT, "a subgraph's node has no usable id");
        bad |= add_inputs(f, node, prefix, inside);
        bad |= add_outputs(f, node, definition, prefix, inside);
        TSR_TRY(add_graph(f, definition, inside, depth + 1, err));
    }
    if (bad) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    return status;
}

tsr_status tsr__subgraphs_expand(json_t **out, const json_t *drawn, tsr_error *err) {
    tsr_status status = TSR_OK;
    flat f = { json_object_get(json_object_get(drawn, "definitions"), "subgraphs"), json_array(), json_array() };
    *out = NULL;
    if (!f.nodes || !f.links) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(add_graph(&f, drawn, "", 0, err));
    *out = json_pack("{s:O, s:O}", "nodes", f.nodes, "links", f.links);
    if (!*out) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    json_decref(f.nodes);
    json_decref(f.links);
    return status;
}
