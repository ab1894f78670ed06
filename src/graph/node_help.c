/* graph/node_help.c - the table of nodes told to people (help, docs/nodes.md) and to clients (object_info). */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

/* Takes `more`; 0 when memory is out. */
static int add(char **text, char *more) {
    char *joined = more && *text ? tsr__format("%s%s", *text, more) : NULL;
    free(more);
    free(*text);
    *text = joined;
    return joined != NULL;
}

/* "karras, normal, ..." */
static char *choices_text(const tsr__input *input) {
    tsr__names names = { 0 };
    char *text = tsr__strdup("");
    if (tsr__input_choices(&names, input, NULL, NULL) == TSR_OK)
        for (int i = 0; i < names.count; i++) add(&text, tsr__format("%s%s", i ? ", " : "", names.items[i]));
    if (text && !names.count) add(&text, tsr__strdup("a file's name"));
    tsr__names_clear(&names);
    return text;
}

static char *default_text(const tsr__input *input) {
    if (input->type == TSR__V_INT || input->type == TSR__V_FLOAT) return tsr__format("%.12g", input->standard);
    if (input->type == TSR__V_BOOLEAN) return tsr__strdup(input->standard != 0.0 ? "true" : "false");
    if (input->text) return tsr__strdup(*input->text ? input->text : "empty");
    return input->list ? tsr__strdup(input->list[0]) : tsr__strdup("");
}

static char *range_text(const tsr__input *input) {
    if (input->flags & TSR__IN_SEED) return tsr__strdup("0 to 18446744073709551615");
    if (input->type == TSR__V_INT || input->type == TSR__V_FLOAT)
        return tsr__format("%.12g to %.12g", input->min, input->max);
    if (input->type == TSR__V_BOOLEAN) return tsr__strdup("true or false");
    if (input->type == TSR__V_COMBO) return choices_text(input);
    return tsr__strdup("");
}

static const char *kind_text(const tsr__input *input) {
    return input->type == TSR__V_COMBO ? "COMBO" : tsr__type_name(input->type);
}

/* "vae: VAE" of every output. */
static char *outputs_text(const tsr__node *row) {
    char *text = tsr__strdup("");
    for (int i = 0; i < tsr__node_outputs(row); i++) {
        const tsr__output *o = &row->outputs[i];
        const char *type = tsr__type_name(o->type);
        add(&text, strcmp(o->name, type) == 0 ? tsr__format("%s%s", i ? ", " : "", type)
                                              : tsr__format("%s%s (%s)", i ? ", " : "", type, o->name));
    }
    if (text && !*text) add(&text, tsr__strdup("none: it saves its input"));
    return text;
}

/* --- help ------------------------------------------------------------------------------------------------------------------- */
static int add_input(char **text, const tsr__input *input) {
    char *range = range_text(input), *standard = default_text(input);
    int good = range && standard &&
               add(text, tsr__format("  %-26s %s%s: %s\n", input->name, kind_text(input),
                                     input->flags & TSR__IN_OPTIONAL ? ", optional" : "", input->doc));
    if (good && *range)
        good = add(text, tsr__format("  %-26s %s%s%s\n", "", range, *standard ? "; default " : "", standard));
    free(range);
    free(standard);
    return good;
}

tsr_status tsr_node_help(char **out, const char *name, tsr_error *err) {
    const tsr__node *row = tsr__node_find(name);
    const char *near = row ? NULL : tsr__node_suggest(name);
    *out = NULL;
    if (!row)
        return tsr__fail(err, TSR_NOT_FOUND, "no node is called '%.100s'%s%s%s", name, near ? "; did you mean " : "",
                         near ? near : "", near ? "?" : "; `tessera nodes` lists them");
    char *outputs = outputs_text(row);
    char *text = outputs ? tsr__format("%s (%s)\n%s\n\nInputs\n", row->name, row->category, row->doc) : NULL;
    int good = text != NULL;
    for (int i = 0; good && row->inputs[i].name; i++) good = add_input(&text, &row->inputs[i]);
    if (good && !row->inputs[0].name) good = add(&text, tsr__strdup("  none\n"));
    if (good) good = add(&text, tsr__format("\nOutputs\n  %s\n", outputs));
    free(outputs);
    *out = text;
    return good ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}

/* --- Markdown ----------------------------------------------------------------------------------------------------------------- */
/* A cell of a table: a bar would end it. */
static char *cell(char *text) {
    char *escaped = tsr__strdup("");
    for (const char *at = text; at && *at && escaped; at++)
        add(&escaped, tsr__format("%s%c", *at == '|' ? "\\" : "", *at));
    free(text);
    return escaped;
}

static int add_row(char **page, const tsr__input *input) {
    char *range = cell(range_text(input)), *standard = cell(default_text(input));
    int good = range && standard &&
               add(page, tsr__format("| `%s` | %s%s | %s | %s | %s |\n", input->name, kind_text(input),
                                     input->flags & TSR__IN_OPTIONAL ? ", optional" : "", range, standard, input->doc));
    free(range);
    free(standard);
    return good;
}

static int add_node(char **page, const tsr__node *row) {
    char *outputs = outputs_text(row);
    int good = outputs && add(page, tsr__format("### %s\n\n%s Category: %s. Outputs: %s.\n\n", row->name, row->doc,
                                                row->category, outputs));
    if (good && row->inputs[0].name)
        good = add(page, tsr__strdup("| input | type | values | default | meaning |\n|---|---|---|---|---|\n"));
    for (int i = 0; good && row->inputs[i].name; i++) good = add_row(page, &row->inputs[i]);
    if (good) good = add(page, tsr__strdup("\n"));
    free(outputs);
    return good;
}

tsr_status tsr_nodes_markdown(char **out, tsr_error *err) {
    char *page =
        tsr__format("# Nodes\n\nThe %d nodes that `tessera run` knows, made from its own table by `tessera nodes "
                    "--markdown`. Names, inputs and defaults are those of ComfyUI 0.8.0, the Impact Pack 7.10.6 "
                    "and the Inspire Pack.\n\n",
                    tsr_node_count());
    int good = page != NULL;
    for (int i = 0; good && tsr__node_at(i); i++) good = add_node(&page, tsr__node_at(i));
    /* One newline at the end. */
    if (good) page[strlen(page) - 1] = 0;
    *out = page;
    return good ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}

/* --- object_info ---------------------------------------------------------------------------------------------------------------- */
static json_t *number(const tsr__input *input, double value) {
    if (input->type == TSR__V_FLOAT) return json_real(value);
    /* 2^64 - 1 is beyond jansson's integers; the mark makes it one again. */
    return value > 9.2e18 ? json_string("\x01"
                                        "18446744073709551615")
                          : json_integer((json_int_t)value);
}

static json_t *input_options(const tsr__input *input) {
    json_t *options = json_object();
    if (input->type == TSR__V_INT || input->type == TSR__V_FLOAT) {
        json_object_set_new(options, "default", number(input, input->standard));
        json_object_set_new(options, "min", number(input, input->min));
        json_object_set_new(options, "max", number(input, input->max));
        json_object_set_new(options, "step", number(input, input->step));
    } else if (input->type == TSR__V_BOOLEAN) {
        json_object_set_new(options, "default", json_boolean(input->standard != 0.0));
    } else if (input->text) {
        json_object_set_new(options, "default", json_string(input->text));
    }
    if (input->flags & TSR__IN_MULTILINE) json_object_set_new(options, "multiline", json_true());
    if (input->flags & TSR__IN_CONTROL) json_object_set_new(options, "control_after_generate", json_true());
    if (input->flags & TSR__IN_FILE) json_object_set_new(options, "image_upload", json_true());
    json_object_set_new(options, "tooltip", json_string(input->doc));
    return options;
}

static json_t *input_info(const tsr__input *input, const tsr_graph *graph) {
    tsr__names names = { 0 };
    json_t *choices;
    if (input->type != TSR__V_COMBO) return json_pack("[s, o]", tsr__type_name(input->type), input_options(input));
    choices = json_array();
    if (tsr__input_choices(&names, input, graph, NULL) == TSR_OK)
        for (int i = 0; i < names.count; i++) json_array_append_new(choices, json_string(names.items[i]));
    tsr__names_clear(&names);
    return json_pack("[o, o]", choices, input_options(input));
}

static json_t *node_info(const tsr__node *row, const tsr_graph *graph) {
    json_t *sides[2] = { json_object(), json_object() }, *order[2] = { json_array(), json_array() };
    json_t *types = json_array(), *names = json_array(), *lists = json_array();
    for (int i = 0; row->inputs[i].name; i++) {
        int side = (row->inputs[i].flags & TSR__IN_OPTIONAL) != 0;
        json_object_set_new(sides[side], row->inputs[i].name, input_info(&row->inputs[i], graph));
        json_array_append_new(order[side], json_string(row->inputs[i].name));
    }
    for (int i = 0; i < tsr__node_outputs(row); i++) {
        json_array_append_new(types, json_string(tsr__type_name(row->outputs[i].type)));
        json_array_append_new(names, json_string(row->outputs[i].name));
        json_array_append_new(lists, json_false());
    }
    return json_pack("{s:{s:o, s:o}, s:{s:o, s:o}, s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:s, s:b}", "input", "required",
                     sides[0], "optional", sides[1], "input_order", "required", order[0], "optional", order[1],
                     "output", types, "output_is_list", lists, "output_name", names, "name", row->name, "display_name",
                     row->display, "description", row->doc, "python_module", tsr__node_pack(row), "category",
                     row->category, "output_node", row->is_output);
}

tsr_status tsr_node_object_info(char **out, tsr_graph *graph, const char *name, tsr_error *err) {
    json_t *all = json_object();
    const tsr__node *row;
    int good = all != NULL;
    for (int i = 0; good && (row = tsr__node_at(i)); i++)
        if (!name || strcmp(name, row->name) == 0)
            good = json_object_set_new(all, row->name, node_info(row, graph)) == 0;
    *out = good ? tsr__workflow_dump(all, JSON_COMPACT) : NULL;
    json_decref(all);
    return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}
