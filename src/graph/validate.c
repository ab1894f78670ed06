/* graph/validate.c - every fault of a workflow at once, worded as ComfyUI's POST /prompt answers.
 *
 * Source of types and messages: reference/comfyui-api.md 4.1. Inputs are checked only on nodes that some output needs;
 * an output that has no faulty node above it can run while others cannot. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

enum { LIST_LIMIT = 20 }; /* longer lists of choices are counted instead */

static json_t *errors_of(tsr__check *check, const tsr__workflow_node *node) {
    json_t *entry = json_object_get(check->errors, node->id);
    if (!entry) {
        entry = json_pack("{s:[], s:[], s:s}", "errors", "dependent_outputs", "class_type", node->class_type);
        if (!entry || json_object_set_new(check->errors, node->id, entry) != 0) return NULL;
    }
    return json_object_get(entry, "errors");
}

/* Takes `details` and `extra` (either may be NULL). */
static tsr_status add_fault(tsr__check *check, const tsr__workflow_node *node, const char *type, const char *message,
                            char *details, json_t *extra, tsr_error *err) {
    json_t *errors = errors_of(check, node);
    json_t *fault = json_pack("{s:s, s:s, s:s, s:o}", "type", type, "message", message, "details",
                              details ? details : "", "extra_info", extra ? extra : json_object());
    free(details);
    check->faults++;
    if (!errors || !fault || json_array_append_new(errors, fault) != 0)
        return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    return TSR_OK;
}

/* --- what inputs must be ------------------------------------------------------------------------------------------------ */
static json_t *input_config(const tsr__input *input) {
    if (input->type == TSR__V_INT && !(input->flags & TSR__IN_SEED))
        return json_pack("[s, {s:I, s:I, s:I, s:I}]", tsr__type_name(input->type), "default",
                         (json_int_t)input->standard, "min", (json_int_t)input->min, "max", (json_int_t)input->max,
                         "step", (json_int_t)input->step);
    if (input->type == TSR__V_INT || input->type == TSR__V_FLOAT)
        return json_pack("[s, {s:f, s:f, s:f, s:f}]", tsr__type_name(input->type), "default", input->standard, "min",
                         input->min, "max", input->max, "step", input->step);
    return json_pack("[s, {}]", tsr__type_name(input->type));
}

static json_t *extra_of(const tsr__input *input, const json_t *received) {
    json_t *extra = json_pack("{s:s, s:o}", "input_name", input->name, "input_config", input_config(input));
    if (extra && received) (void)json_object_set(extra, "received_value", (json_t *)(uintptr_t)received);
    return extra;
}

/* As Python prints it: the fewest digits that mean the number, and a point in every float. */
static char *number_text(const tsr__input *input, double value) {
    char text[40];
    if (input->type == TSR__V_INT) return tsr__format("%.0f", value);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    return tsr__format(strpbrk(text, ".en") ? "%s" : "%s.0", text);
}

static tsr_status check_range(tsr__check *check, const tsr__workflow_node *node, const tsr__input *input,
                              const tsr__value *value, const json_t *literal, tsr_error *err) {
    int small = value->number<input->min, big = value->number> input->max;
    char *given, *limit, *message;
    if (!small && !big) return TSR_OK;
    given = number_text(input, value->number);
    limit = (input->flags & TSR__IN_SEED) && big ? tsr__strdup("18446744073709551615")
                                                 : number_text(input, small ? input->min : input->max);
    message = given && limit
                  ? tsr__format("Value %s %s of %s", given, small ? "smaller than min" : "bigger than max", limit)
                  : NULL;
    free(given);
    free(limit);
    if (!message) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    tsr_status status = add_fault(check, node, small ? "value_smaller_than_min" : "value_bigger_than_max", message,
                                  tsr__strdup(input->name), extra_of(input, literal), err);
    free(message);
    return status;
}

static char *list_text(const tsr__input *input, const char *value, const tsr__names *names) {
    if (names->count > LIST_LIMIT)
        return tsr__format("%s: '%.200s' not in (list of length %d)", input->name, value, names->count);
    char *text = tsr__format("%s: '%.200s' not in [", input->name, value);
    for (int i = 0; text && i < names->count; i++) {
        char *more = tsr__format("%s%s'%.200s'", text, i ? ", " : "", names->items[i]);
        free(text);
        text = more;
    }
    char *closed = text ? tsr__format("%s]", text) : NULL;
    free(text);
    return closed;
}

static tsr_status add_not_in_list(tsr__check *check, const tsr__workflow_node *node, const tsr__input *input,
                                  const char *value, const tsr__names *names, const json_t *literal, tsr_error *err) {
    return add_fault(check, node, "value_not_in_list", "Value not in list", list_text(input, value, names),
                     extra_of(input, literal), err);
}

static tsr_status check_choice(tsr__check *check, const tsr__workflow_node *node, const tsr__input *input,
                               const tsr__value *value, const json_t *literal, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__names names = { 0 };
    char *plain = NULL;
    if (input->flags & TSR__IN_FILE) { /* any file of the folder, as LoadImage's own check */
        tsr_error reason = TSR_ERROR_INIT;
        if (tsr__find_file(&plain, check->graph, "input", value->text, &reason) != TSR_OK)
            status = add_fault(check, node, "custom_validation_failed", "Custom validation failed for node",
                               tsr__format("%s - Invalid file: %.200s (%s)", input->name, value->text, reason.message),
                               extra_of(input, literal), err);
        free(plain);
        return status;
    }
    TSR_TRY(tsr__input_choices(&names, input, check->graph, err));
    if (tsr__names_find(&names, value->text) < 0)
        TSR_TRY(add_not_in_list(check, node, input, value->text, &names, literal, err));
done:
    tsr__names_clear(&names);
    return status;
}

/* What was received is not repeated: masks inside make it long. */
static tsr_status check_scene(tsr__check *check, const tsr__workflow_node *node, const tsr__input *input,
                              const tsr__value *value, tsr_error *err) {
    tsr_error reason = TSR_ERROR_INIT;
    tsr_scene *scene = NULL;
    tsr_status status = tsr__scene_input(&scene, check->graph, value->text, &reason);
    tsr_scene_free(scene);
    if (status == TSR_OK) return TSR_OK;
    return add_fault(check, node, "custom_validation_failed", "Custom validation failed for node",
                     tsr__format("%s - %s", input->name, reason.message), extra_of(input, NULL), err);
}

/* Why Python's cast refuses the literal. */
static char *cast_reason(const tsr__input *input, const json_t *literal) {
    const char *text = json_string_value(literal);
    const char *cast = input->type == TSR__V_INT ? "int" : input->type == TSR__V_FLOAT ? "float" : "str";
    if (text && input->type == TSR__V_INT) return tsr__format("invalid literal for int() with base 10: '%.200s'", text);
    if (text) return tsr__format("could not convert string to float: '%.200s'", text);
    return tsr__format("%s() argument must be a string or a real number, not '%s'", cast,
                       json_is_null(literal) ? "NoneType" : "dict");
}

static tsr_status add_bad_cast(tsr__check *check, const tsr__workflow_node *node, const tsr__input *input,
                               const json_t *literal, tsr_error *err) {
    const char *type = tsr__type_name(input->type);
    char *text = json_is_null(literal)     ? tsr__strdup("None")
                 : json_is_string(literal) ? tsr__strdup(json_string_value(literal))
                                           : tsr__workflow_dump(literal, JSON_ENCODE_ANY | JSON_COMPACT);
    char *reason = cast_reason(input, literal);
    char *message = tsr__format("Failed to convert an input value to a %s value", type);
    char *details = text && reason ? tsr__format("%s, %.200s, %s", input->name, text, reason) : NULL;
    free(text);
    free(reason);
    if (!message || !details) {
        free(message);
        free(details);
        return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    }
    tsr_status status = add_fault(check, node, "invalid_input_type", message, details, extra_of(input, literal), err);
    free(message);
    return status;
}

static tsr_status check_literal(tsr__check *check, const tsr__workflow_node *node, const tsr__input *input,
                                const json_t *literal, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *value = NULL;
    tsr__names names = { 0 };
    TSR_TRY(tsr__literal(&value, input, literal, err));
    if (!value && input->type == TSR__V_COMBO) {
        TSR_TRY(tsr__input_choices(&names, input, check->graph, err));
        TSR_TRY(add_not_in_list(check, node, input, json_is_null(literal) ? "None" : "{}", &names, literal, err));
    } else if (!value) {
        TSR_TRY(add_bad_cast(check, node, input, literal, err));
    } else if (input->type == TSR__V_INT || input->type == TSR__V_FLOAT) {
        TSR_TRY(check_range(check, node, input, value, literal, err));
    } else if (input->type == TSR__V_COMBO) {
        TSR_TRY(check_choice(check, node, input, value, literal, err));
    } else if (input->flags & TSR__IN_SCENE) {
        TSR_TRY(check_scene(check, node, input, value, err));
    }
done:
    tsr__names_clear(&names);
    tsr__value_unref(value);
    return status;
}

/* --- links -------------------------------------------------------------------------------------------------------------- */
static int types_fit(tsr__type from, tsr__type to) {
    if (from == to || from == TSR__V_ANY || to == TSR__V_ANY) return 1;
    int text = from == TSR__V_STRING || from == TSR__V_COMBO;
    return text && (to == TSR__V_STRING || to == TSR__V_COMBO);
}

static tsr_status check_link(tsr__check *check, const tsr__workflow_node *node, const tsr__input *input,
                             const json_t *link, tsr_error *err) {
    int slot, from = tsr__workflow_link(check->workflow, link, &slot);
    if (slot < 0)
        return add_fault(check, node, "bad_linked_input",
                         "Bad linked input, must be a length-2 list of [node_id, slot_index]", tsr__strdup(input->name),
                         extra_of(input, link), err);
    if (from < 0)
        return add_fault(check, node, "bad_linked_input", "Bad linked input, its node does not exist",
                         tsr__strdup(input->name), extra_of(input, link), err);
    const tsr__node *row = check->workflow->nodes[from].row;
    if (slot >= tsr__node_outputs(row))
        return add_fault(
            check, node, "bad_linked_input", "Bad linked input, its node has no such output",
            tsr__format("%s: output %d of node %s (%s)", input->name, slot, check->workflow->nodes[from].id, row->name),
            extra_of(input, link), err);
    if (!types_fit(row->outputs[slot].type, input->type))
        return add_fault(check, node, "return_type_mismatch", "Return type mismatch between linked nodes",
                         tsr__format("%s, received_type(%s) mismatch input_type(%s)", input->name,
                                     tsr__type_name(row->outputs[slot].type), tsr__type_name(input->type)),
                         extra_of(input, link), err);
    return TSR_OK;
}

static tsr_status check_input(tsr__check *check, const tsr__workflow_node *node, const tsr__input *input,
                              const json_t *value, tsr_error *err) {
    if (!value) {
        if (input->flags & TSR__IN_OPTIONAL) return TSR_OK;
        return add_fault(check, node, "required_input_missing", "Required input is missing", tsr__strdup(input->name),
                         json_pack("{s:s}", "input_name", input->name), err);
    }
    if (tsr__is_link(value)) return check_link(check, node, input, value, err);
    if (!tsr__input_is_widget(input))
        return add_fault(check, node, "bad_linked_input",
                         "Bad linked input, must be a length-2 list of [node_id, slot_index]", tsr__strdup(input->name),
                         extra_of(input, value), err);
    return check_literal(check, node, input, value, err);
}

/* --- the walk ------------------------------------------------------------------------------------------------------------- */
enum { UNSEEN, OPEN, GOOD, BAD };

typedef struct walk {
    tsr__check *check;
    unsigned char *state; /* [nodes] */
} walk;

static tsr_status visit(walk *w, int index, tsr_error *err);

/* The nodes that an input leads to count as this node's own. */
static tsr_status visit_above(walk *w, int index, int *good, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__workflow_node *node = &w->check->workflow->nodes[index];
    const char *name;
    json_t *value;
    int slot;
    json_object_foreach(node->inputs, name, value) {
        int from = tsr__is_link(value) ? tsr__workflow_link(w->check->workflow, value, &slot) : -1;
        if (from < 0 || tsr__node_input_find(node->row, name) < 0) continue;
        if (w->state[from] == OPEN) {
            TSR_TRY(add_fault(w->check, node, "dependency_cycle", "Dependency cycle detected",
                              tsr__format("%s: node %s needs the result of node %s, which needs node %s", name,
                                          node->id, w->check->workflow->nodes[from].id, node->id),
                              json_pack("{s:s}", "input_name", name), err));
            *good = 0;
            continue;
        }
        TSR_TRY(visit(w, from, err));
        if (w->state[from] != GOOD) *good = 0;
    }
done:
    return status;
}

static tsr_status visit(walk *w, int index, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__workflow_node *node = &w->check->workflow->nodes[index];
    int good = 1, before = w->check->faults;
    const char *name;
    json_t *value;
    if (w->state[index] != UNSEEN) return TSR_OK;
    w->state[index] = OPEN;
    for (int i = 0; node->row->inputs[i].name; i++)
        TSR_TRY(check_input(w->check, node, &node->row->inputs[i],
                            json_object_get(node->inputs, node->row->inputs[i].name), err));
    json_object_foreach(node->inputs, name, value) { /* regional_prompts2, 3, ...: links of the first one's type */
        int i = tsr__node_input_find(node->row, name);
        if (i < 0 || strcmp(node->row->inputs[i].name, name) == 0) continue;
        TSR_TRY(check_input(w->check, node, &node->row->inputs[i], value, err));
    }
    if (w->check->faults > before) good = 0;
    TSR_TRY(visit_above(w, index, &good, err));
    w->state[index] = good ? GOOD : BAD;
    w->check->good[index] = (unsigned char)good;
done:
    return status;
}

/* --- text ----------------------------------------------------------------------------------------------------------------- */
static int append(char **text, char *line) {
    char *joined = *text && line ? tsr__format("%s%s", *text, line) : NULL;
    free(*text);
    free(line);
    *text = joined;
    return joined != NULL;
}

static const char *field(const json_t *fault, const char *name) {
    const char *text = json_string_value(json_object_get(fault, name));
    return text ? text : "";
}

/* --- the whole prompt ------------------------------------------------------------------------------------------------------ */
/* Takes `details` and `extra` (either may be NULL). */
static tsr_status set_error(tsr__check *check, const char *type, const char *message, char *details, json_t *extra,
                            tsr_error *err) {
    check->error = json_pack("{s:s, s:s, s:s, s:o}", "type", type, "message", message, "details",
                             details ? details : "", "extra_info", extra ? extra : json_object());
    free(details);
    check->faults++;
    return check->error ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}

/* ComfyUI names only the first unknown node; the others are listed in node_errors. */
static tsr_status check_classes(tsr__check *check, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < check->workflow->n_nodes; i++) {
        const tsr__workflow_node *node = &check->workflow->nodes[i];
        if (node->row) continue;
        const char *near = node->class_type ? tsr__node_suggest(node->class_type) : NULL;
        char *details = tsr__format("Node ID '#%s'", node->id);
        json_t *extra = near ? json_pack("{s:s}", "nearest_name", near) : NULL;
        char *message = node->class_type
                            ? tsr__format("Cannot execute because node %.100s does not exist.", node->class_type)
                            : tsr__strdup("Cannot execute because a node is missing the class_type property.");
        if (!message) status = tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        else if (!check->error) status = set_error(check, "invalid_prompt", message, details, extra, err);
        else {
            tsr__workflow_node named = *node;
            if (!named.class_type) named.class_type = "";
            status = add_fault(check, &named, "invalid_prompt", message, details, extra, err);
        }
        free(message);
        if (status != TSR_OK) return status;
    }
    return TSR_OK;
}

/* Which outputs a faulty node keeps from running. */
static tsr_status set_dependents(tsr__check *check, const walk *w, tsr_error *err) {
    for (int i = 0; i < check->workflow->n_nodes; i++) {
        const tsr__workflow_node *output = &check->workflow->nodes[i];
        const char *id;
        json_t *entry;
        if (!tsr__workflow_wants(check->workflow, output) || w->state[i] != BAD) continue;
        json_object_foreach(check->errors, id, entry) {
            if (json_array_append_new(json_object_get(entry, "dependent_outputs"), json_string(output->id)) != 0)
                return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        }
    }
    return TSR_OK;
}

/* "message: details" of the faults that output nodes have themselves, a line each. */
static char *own_faults(const tsr__check *check) {
    char *text = tsr__strdup("");
    for (int i = 0; i < check->workflow->n_nodes; i++) {
        const tsr__workflow_node *node = &check->workflow->nodes[i];
        const json_t *fault, *list = json_object_get(json_object_get(check->errors, node->id), "errors");
        size_t k;
        if (!node->row->is_output) continue;
        json_array_foreach(list, k, fault) {
            append(&text, tsr__format("%s%s: %s", text && *text ? "\n" : "", field(fault, "message"),
                                      field(fault, "details")));
        }
    }
    return text;
}

static tsr_status check_outputs(tsr__check *check, tsr_error *err) {
    tsr_status status = TSR_OK;
    walk w = { check, NULL };
    int outputs = 0;
    TSR_ALLOC_ZERO(err, w.state, check->workflow->n_nodes + 1);
    for (int i = 0; i < check->workflow->n_nodes; i++) {
        if (!tsr__workflow_wants(check->workflow, &check->workflow->nodes[i])) continue;
        outputs++;
        TSR_TRY(visit(&w, i, err));
        check->outputs[i] = w.state[i] == GOOD;
        check->good_outputs += check->outputs[i];
    }
    if (!outputs) {
        TSR_TRY(set_error(check, "prompt_no_outputs", "Prompt has no outputs", NULL, NULL, err));
    } else if (!check->good_outputs) {
        TSR_TRY(set_error(check, "prompt_outputs_failed_validation", "Prompt outputs failed validation",
                          own_faults(check), NULL, err));
        check->faults--; /* it repeats what the nodes say */
    }
    TSR_TRY(set_dependents(check, &w, err));
done:
    free(w.state);
    return status;
}

tsr_status tsr__check_run(tsr__check *check, const tsr_graph *graph, const tsr_workflow *workflow, tsr_error *err) {
    tsr_status status = TSR_OK;
    memset(check, 0, sizeof *check);
    check->workflow = workflow;
    check->graph = graph;
    check->errors = json_object();
    if (!check->errors) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_ALLOC_ZERO(err, check->good, workflow->n_nodes + 1);
    TSR_ALLOC_ZERO(err, check->outputs, workflow->n_nodes + 1);
    TSR_TRY(check_classes(check, err));
    if (!check->error) TSR_TRY(check_outputs(check, err));
done:
    return status;
}

void tsr__check_clear(tsr__check *check) {
    free(check->good);
    free(check->outputs);
    json_decref(check->errors);
    json_decref(check->error);
    memset(check, 0, sizeof *check);
}

/* --- telling -------------------------------------------------------------------------------------------------------------- */
static char *line_of(const json_t *fault, const char *start) {
    const char *near = field(json_object_get(fault, "extra_info"), "nearest_name");
    return tsr__format("%s %s%s%s\n", start, field(fault, "details"), *near ? "; the nearest name is " : "", near);
}

char *tsr__check_text(const tsr__check *check) {
    char *text = tsr__strdup("");
    const char *id;
    json_t *entry, *fault;
    size_t i;
    if (check->error && strcmp(field(check->error, "type"), "prompt_outputs_failed_validation") != 0)
        append(&text, line_of(check->error, field(check->error, "message")));
    json_object_foreach(check->errors, id, entry) {
        json_array_foreach(json_object_get(entry, "errors"), i, fault) {
            append(&text, tsr__format("node %s (%s): %s: %s\n", id, field(entry, "class_type"), field(fault, "message"),
                                      field(fault, "details")));
        }
    }
    return text;
}

/* The ids of the outputs that can run, a JSON list; NULL: out of memory. */
static char *list_outputs(const tsr__check *check) {
    json_t *ids = json_array();
    for (int i = 0; i < check->workflow->n_nodes; i++)
        if (check->outputs[i]) (void)json_array_append_new(ids, json_string(check->workflow->nodes[i].id));
    char *text = ids ? json_dumps(ids, JSON_COMPACT) : NULL;
    json_decref(ids);
    return text;
}

tsr_status tsr_workflow_validate(tsr_workflow_report **out, tsr_graph *graph, const tsr_workflow *workflow,
                                 tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_workflow_report *report = NULL;
    tsr__check check = { 0 };
    json_t *answer = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, report, 1);
    TSR_TRY(tsr__check_run(&check, graph, workflow, err));
    report->faults = check.faults;
    report->good_outputs = check.good_outputs;
    answer = json_pack("{s:O?, s:O}", "error", check.error, "node_errors", check.errors);
    if (answer && !check.error) (void)json_object_set_new(answer, "error", json_null());
    report->json = answer ? tsr__workflow_dump(answer, 0) : NULL;
    report->text = tsr__check_text(&check);
    report->outputs = list_outputs(&check);
    if (!report->json || !report->text || !report->outputs) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    *out = report;
    report = NULL;
done:
    json_decref(answer);
    tsr__check_clear(&check);
    tsr_workflow_report_free(report);
    return status;
}

void tsr_workflow_report_free(tsr_workflow_report *report) {
    if (!report) return;
    free(report->json);
    free(report->text);
    free(report->outputs);
    free(report);
}
