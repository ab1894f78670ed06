/* graph/workflow.c - a workflow read from a file or memory, told apart by content, and changed from outside. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

/* --- links -------------------------------------------------------------------------------------------------------------- */
int tsr__is_link(const json_t *value) {
    return json_is_array(value);
}

const json_t *tsr__unwrap(const json_t *value) {
    const json_t *inner = json_is_object(value) ? json_object_get(value, "__value__") : NULL;
    return inner ? inner : value;
}

int tsr__workflow_find(const tsr_workflow *workflow, const char *id) {
    for (int i = 0; i < workflow->n_nodes; i++)
        if (strcmp(workflow->nodes[i].id, id) == 0) return i;
    return -1;
}

int tsr__workflow_link(const tsr_workflow *workflow, const json_t *value, int *slot_out) {
    const json_t *from = json_array_get(value, 0), *slot = json_array_get(value, 1);
    char number[32];
    *slot_out = -1;
    if (json_array_size(value) != 2 || !json_is_integer(slot)) return -1;
    if (json_integer_value(slot) < 0 || json_integer_value(slot) > 1000) return -1;
    *slot_out = (int)json_integer_value(slot);
    if (json_is_integer(from)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(from));
        return tsr__workflow_find(workflow, number);
    }
    return json_is_string(from) ? tsr__workflow_find(workflow, json_string_value(from)) : -1;
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */
static tsr_status list_nodes(tsr_workflow *workflow, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t n = json_object_size(workflow->prompt), links = 0;
    const char *id, *name;
    json_t *entry, *value;
    if (n > TSR_WORKFLOW_MAX_NODES)
        TSR_FAIL(err, TSR_TOO_LARGE, "the workflow has %zu nodes; %d are the most", n, TSR_WORKFLOW_MAX_NODES);
    TSR_ALLOC_ZERO(err, workflow->nodes, n > 0 ? n : 1);
    json_object_foreach(workflow->prompt, id, entry) {
        json_t *class_type = json_object_get(entry, "class_type"), *inputs = json_object_get(entry, "inputs");
        if (!json_is_object(entry)) TSR_FAIL(err, TSR_BAD_FORMAT, "'%.80s' is not a node: it is no JSON object", id);
        if (inputs && !json_is_object(inputs))
            TSR_FAIL(err, TSR_BAD_FORMAT, "node %.80s: its inputs are no JSON object", id);
        if (!inputs) {
            inputs = json_object();
            if (!inputs || json_object_set_new(entry, "inputs", inputs) != 0)
                TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        }
        json_object_foreach(inputs, name, value) links += tsr__is_link(value) != 0;
        tsr__workflow_node *node = &workflow->nodes[workflow->n_nodes++];
        node->id = id;
        node->class_type = json_string_value(class_type);
        node->title = json_string_value(json_object_get(json_object_get(entry, "_meta"), "title"));
        node->inputs = inputs;
        node->row = tsr__node_find(node->class_type);
    }
    if (links > TSR_WORKFLOW_MAX_LINKS)
        TSR_FAIL(err, TSR_TOO_LARGE, "the workflow has %zu links; %d are the most", links, TSR_WORKFLOW_MAX_LINKS);
done:
    return status;
}

/* The body of POST /prompt holds the workflow one level down. */
static json_t *prompt_within(json_t *root) {
    json_t *prompt = json_object_get(root, "prompt");
    return json_is_object(prompt) && !json_object_get(prompt, "class_type") ? prompt : root;
}

static tsr_status from_json(tsr_workflow **out, const char *text, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_workflow *workflow = NULL;
    json_t *root = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, workflow, 1);
    TSR_TRY(tsr__workflow_parse(&root, text, size, err));
    if (!json_is_object(root)) TSR_FAIL(err, TSR_BAD_FORMAT, "a workflow is a JSON object; this is none");
    if (json_is_array(json_object_get(root, "nodes"))) {
        TSR_TRY(tsr__workflow_from_ui(&workflow->prompt, root, err));
        workflow->ui = json_incref(root);
    } else {
        workflow->prompt = json_incref(prompt_within(root));
    }
    TSR_TRY(list_nodes(workflow, err));
    *out = workflow;
    workflow = NULL;
done:
    json_decref(root);
    tsr_workflow_free(workflow);
    return status;
}

static tsr_status from_picture(tsr_workflow **out, const void *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    *out = NULL;
    TSR_TRY(tsr_image_load_memory(&image, data, size, err));
    const char *text = tsr_image_text(image, "prompt");
    if (!text) text = tsr_image_text(image, "workflow");
    if (!text)
        TSR_FAIL(err, TSR_NOT_FOUND, "the picture carries no workflow: it has neither a text `prompt` nor `workflow`");
    TSR_TRY(from_json(out, text, strlen(text), err));
    const char *ui = (*out)->ui ? NULL : tsr_image_text(image, "workflow");
    /* Kept for the pictures to come; one that cannot be read is no reason to refuse the prompt beside it. */
    if (ui && tsr__workflow_parse(&(*out)->ui, ui, strlen(ui), NULL) != TSR_OK) (*out)->ui = NULL;
done:
    tsr_image_free(image);
    return status;
}

static int is_picture(const unsigned char *data, size_t size) {
    return (size >= 8 && memcmp(data, "\x89PNG", 4) == 0) || (size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) ||
           (size >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0);
}

tsr_status tsr_workflow_load_memory(tsr_workflow **out, const void *data, size_t size, tsr_error *err) {
    if (!out) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_workflow_load_memory: out is NULL");
    *out = NULL;
    if (!data) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_workflow_load_memory: data is NULL");
    return is_picture(data, size) ? from_picture(out, data, size, err) : from_json(out, data, size, err);
}

tsr_status tsr_workflow_load(tsr_workflow **out, const char *path, tsr_error *err) {
    tsr_error reason = TSR_ERROR_INIT;
    void *data = NULL;
    size_t size = 0;
    if (!out) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_workflow_load: out is NULL");
    *out = NULL;
    if (!path) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_workflow_load: path is NULL");
    tsr_status status = tsr__read_file(&data, &size, path, TSR_WORKFLOW_MAX_BYTES, err);
    if (status != TSR_OK) return status;
    status = tsr_workflow_load_memory(out, data, size, &reason);
    free(data);
    return status == TSR_OK ? TSR_OK : tsr__fail(err, status, "%s: %s", path, reason.message);
}

void tsr_workflow_free(tsr_workflow *workflow) {
    if (!workflow) return;
    free(workflow->nodes);
    json_decref(workflow->prompt);
    json_decref(workflow->ui);
    json_decref(workflow->extra);
    tsr__names_clear(&workflow->targets);
    free(workflow);
}

tsr_status tsr_workflow_json(char **out, const tsr_workflow *workflow, tsr_error *err) {
    *out = tsr__workflow_dump(workflow->prompt, JSON_INDENT(1));
    return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}

/* --- what runs, what is saved with it --------------------------------------------------------------------------------------- */
int tsr__workflow_wants(const tsr_workflow *workflow, const tsr__workflow_node *node) {
    if (!node->row || !node->row->is_output) return 0;
    return workflow->targets.count == 0 || tsr__names_find(&workflow->targets, node->id) >= 0;
}

tsr_status tsr_workflow_set_targets(tsr_workflow *workflow, const char *const *ids, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__names targets = { 0 };
    for (int i = 0; ids && i < n; i++) {
        if (tsr__workflow_find(workflow, ids[i]) < 0)
            TSR_FAIL(err, TSR_NOT_FOUND, "the workflow has no node with the id '%.80s'", ids[i]);
        TSR_TRY(tsr__names_add(&targets, ids[i], err));
    }
    tsr__names_clear(&workflow->targets);
    workflow->targets = targets;
    memset(&targets, 0, sizeof targets);
done:
    tsr__names_clear(&targets);
    return status;
}

/* A key of a picture's text: 1 to 79 printable characters without spaces around or in a row, as PNG has it. */
static int is_text_key(const char *key) {
    size_t n = strlen(key);
    if (n < 1 || n > 79 || key[0] == ' ' || key[n - 1] == ' ' || strstr(key, "  ")) return 0;
    for (size_t i = 0; i < n; i++)
        if (key[i] < ' ' || key[i] > '~') return 0;
    return 1;
}

tsr_status tsr_workflow_set_extra(tsr_workflow *workflow, const char *text, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *extra = NULL, *value;
    const char *key;
    if (text) {
        TSR_TRY(tsr__workflow_parse(&extra, text, size, err));
        if (!json_is_object(extra)) TSR_FAIL(err, TSR_BAD_FORMAT, "what goes into pictures must be a JSON object");
        json_object_foreach(extra, key, value) {
            if (!is_text_key(key))
                TSR_FAIL(err, TSR_BAD_FORMAT, "'%.80s' cannot name a text in a picture: 1 to 79 printable characters",
                         key);
        }
    }
    json_decref(workflow->extra);
    workflow->extra = extra;
    extra = NULL;
done:
    json_decref(extra);
    return status;
}

/* --- changing ------------------------------------------------------------------------------------------------------------- */
static tsr_status find_node(int *out, const tsr_workflow *workflow, const char *name, tsr_error *err) {
    int same = 0;
    *out = tsr__workflow_find(workflow, name);
    if (*out >= 0) return TSR_OK;
    for (int i = 0; i < workflow->n_nodes; i++) {
        if (!workflow->nodes[i].title || strcmp(workflow->nodes[i].title, name) != 0) continue;
        *out = i;
        same++;
    }
    if (same == 1) return TSR_OK;
    if (same > 1) return tsr__fail(err, TSR_BAD_ARGUMENT, "%d nodes have the title '%.80s'; give the id", same, name);
    return tsr__fail(err, TSR_NOT_FOUND, "the workflow has no node with the id or title '%.80s'", name);
}

/* What a person typed, as the input's type wants it; text that does not fit stays text, for validation to refuse. */
static json_t *typed(const tsr__input *input, const char *text) {
    char *end = NULL;
    if (input && input->type == TSR__V_BOOLEAN) {
        if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0) return json_true();
        if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0) return json_false();
    }
    if (input && input->type == TSR__V_INT) {
        long long whole = strtoll(text, &end, 10);
        if (*text && !*end && strlen(text) <= 18) return json_integer(whole);
    }
    if (input && input->type == TSR__V_FLOAT) {
        double real = strtod(text, &end);
        if (*text && !*end) return json_real(real); /* NULL for NaN and infinity */
    }
    return json_string(text);
}

static const char *input_name(const tsr__node *row, int i) {
    return i < tsr__node_inputs(row) ? row->inputs[i].name : NULL;
}

/* The inputs of a node in a message: few enough to list. */
static char *list_inputs(const tsr__node *row) {
    char *text = tsr__strdup("");
    for (int i = 0; text && input_name(row, i); i++) {
        char *more = tsr__format("%s%s%s", text, i ? ", " : "", input_name(row, i));
        free(text);
        text = more;
    }
    return text;
}

tsr_status tsr_workflow_set(tsr_workflow *workflow, const char *target, const char *value, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *name = NULL, *names = NULL;
    int index = -1;
    const char *dot = strrchr(target, '.');
    if (!dot || dot == target || !dot[1])
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "'%.80s' names no input; write NODE.INPUT, as in 7.seed", target);
    name = tsr__format("%.*s", (int)(dot - target), target);
    if (!name) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(find_node(&index, workflow, name, err));
    tsr__workflow_node *node = &workflow->nodes[index];
    int input = node->row ? tsr__node_input_find(node->row, dot + 1) : -1;
    if (node->row && input < 0) {
        names = list_inputs(node->row);
        TSR_FAIL(err, TSR_NOT_FOUND, "node %s (%s) has no input '%.80s'; it has %.300s", node->id, node->class_type,
                 dot + 1, names ? names : "others");
    }
    if (input >= 0 && !tsr__input_is_widget(&node->row->inputs[input]))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s of node %s (%s) is %s: only a link can give it", dot + 1, node->id,
                 node->class_type, tsr__type_name(node->row->inputs[input].type));
    json_t *made = typed(input >= 0 ? &node->row->inputs[input] : NULL, value);
    if (!made) TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: '%.80s' is not a value", target, value);
    if (json_object_set_new(node->inputs, dot + 1, made) != 0) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    free(names);
    free(name);
    return status;
}
