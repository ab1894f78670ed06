/* server/store_render.c - a job as JSON: in the queue, in the history, in the list of jobs. */
#include <stdlib.h>
#include <string.h>

#include "json_text.h"
#include "store_priv.h"

static void add_number(srv_text **text, double number) {
    srv_text_printf(text, "%.17g", number);
}

srv_text *srv__render_item(const srv_record *record, const char *prompt, const char *extra_data, const char *targets) {
    srv_text *text = srv_text_new(strlen(prompt) + strlen(extra_data) + strlen(targets) + 128);
    srv_text_puts(&text, "[");
    add_number(&text, record->number);
    srv_text_puts(&text, ",");
    srv_text_puts(&text, record->quoted_id);
    srv_text_puts(&text, ",");
    srv_text_puts(&text, prompt);
    srv_text_puts(&text, ",");
    srv_text_puts(&text, extra_data);
    srv_text_puts(&text, ",");
    srv_text_puts(&text, targets);
    srv_text_puts(&text, "]");
    return text;
}

srv_text *srv__render_entry(const srv_record *record, const char *prompt, const char *extra_data, const char *targets,
                            const char *result) {
    srv_text *item = srv__render_item(record, prompt, extra_data, targets);
    srv_text *text = item ? srv_text_new(srv_text_size(item) + strlen(result) + 32) : NULL;
    srv_text_puts(&text, "{\"prompt\":");
    srv_text_add(&text, srv_text_chars(item), srv_text_size(item));
    srv_text_puts(&text, ",");
    srv_text_puts(&text, *result ? result + 1 : "}"); /* one object of two */
    srv_text_unref(item);
    return text;
}

/* Which node an output belongs to; without subgraphs they are all the same. */
static json_t *meta_of(const json_t *outputs) {
    json_t *meta = json_object(), *value;
    const char *node;
    json_object_foreach((json_t *)outputs, node, value) {
        (void)json_object_set_new(meta, node,
                                  json_pack("{s:s, s:s, s:n, s:s}", "node_id", node, "display_node", node,
                                            "parent_node", "real_node_id", node));
    }
    return meta;
}

srv_text *srv__render_result(const char *status, const json_t *outputs, const json_t *messages) {
    int good = strcmp(status, "success") == 0;
    json_t *meta = meta_of(outputs);
    json_t *result = json_pack("{s:O, s:{s:s, s:b, s:O}, s:O}", "outputs", outputs, "status", "status_str",
                               good ? "success" : "error", "completed", good, "messages", messages, "meta", meta);
    char *chars = result ? srv_json_dump(result) : NULL;
    srv_text *text = srv_text_of(chars);
    free(chars);
    json_decref(result);
    json_decref(meta);
    return text;
}

/* What a gallery shows for the job: its first picture, a saved one rather than a passing one. */
json_t *srv__find_preview(const json_t *outputs, int *count_out) {
    json_t *found = NULL, *lists, *list, *item;
    const char *node, *kind;
    size_t i;
    int saved = 0;
    *count_out = 0;
    json_object_foreach((json_t *)outputs, node, lists) {
        json_object_foreach(lists, kind, list) {
            json_array_foreach(list, i, item) {
                const char *type = json_string_value(json_object_get(item, "type"));
                int is_saved = type && strcmp(type, "output") == 0;
                if (!json_is_object(item)) continue;
                ++*count_out;
                if (strcmp(kind, "images") != 0 || (found && (saved || !is_saved))) continue;
                json_decref(found);
                found = json_copy(item);
                saved = is_saved;
                (void)json_object_set_new(found, "nodeId", json_string(node));
                (void)json_object_set_new(found, "mediaType", json_string(kind));
            }
        }
    }
    return found;
}

/* As /api/jobs shows errors: what to print, without the inputs. */
static json_t *brief_error(const json_t *error) {
    static const char *const names[] = { "node_id",        "node_type", "exception_message",
                                         "exception_type", "traceback", "timestamp" };
    json_t *brief = error ? json_object() : json_null();
    for (size_t i = 0; error && i < sizeof names / sizeof *names; i++) {
        json_t *value = json_object_get(error, names[i]);
        if (value) (void)json_object_set(brief, names[i], value);
    }
    return brief;
}

srv_text *srv__render_summary(const srv_record *record, const json_t *outputs, const json_t *error) {
    static const char *const words[] = { "pending", "in_progress", "completed", "failed", "failed" };
    int outputs_count = 0;
    json_t *preview = outputs ? srv__find_preview(outputs, &outputs_count) : NULL;
    json_t *started = record->started ? json_integer(record->started) : json_null();
    json_t *ended = record->ended ? json_integer(record->ended) : json_null();
    json_t *summary = json_pack("{s:s, s:s, s:f, s:I, s:o, s:o, s:o, s:i, s:o, s:s?}", "id", record->id, "status",
                                words[record->state], "priority", record->number, "create_time",
                                (json_int_t)record->created, "execution_start_time", started, "execution_end_time",
                                ended, "execution_error", brief_error(error), "outputs_count", outputs_count,
                                "preview_output", preview ? preview : json_null(), "workflow_id", record->workflow_id);
    char *chars = summary ? srv_json_dump(summary) : NULL;
    srv_text *text = srv_text_of(chars);
    free(chars);
    json_decref(summary);
    return text;
}
