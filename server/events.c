/* server/events.c - see events.h. Order and shape are those of ComfyUI 0.8.0 (docs/jobs.md). */
#include "events.h"

#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "fault.h"
#include "json_text.h"
#include "time_now.h"

enum { PREVIEW_QUALITY = 85, LONG_VALUE = 1024 };

static json_t *timestamp(void) {
    return json_integer(srv_now_ms());
}

/* --- who hears what ------------------------------------------------------------------------------------------------------------ */
/* To the submitting client. Some events have nobody to go to when there is none, others then go to all sockets. */
static void send_own(const srv_run *run, const char *type, json_t *data) {
    if (run->client && data) srv_hub_send(run->context->hub, run->client, type, data);
    else json_decref(data);
}

static void send_any(const srv_run *run, const char *type, json_t *data) {
    if (data) srv_hub_send(run->context->hub, run->client, type, data);
}

static int somebody_listens(const srv_run *run) {
    return srv_hub_sockets(run->context->hub) > 0;
}

/* Into the history. */
static void note(srv_run *run, const char *type, json_t *data) {
    (void)json_array_append_new(run->messages, json_pack("[s, O]", type, data));
}

/* --- states of nodes ------------------------------------------------------------------------------------------------------------ */
static void set_state(srv_run *run, const char *node, const char *state, int value, int max) {
    json_t *known = json_object_get(run->nodes, node);
    if (known) {
        (void)json_object_set_new(known, "state", json_string(state));
        (void)json_object_set_new(known, "value", json_integer(value));
        (void)json_object_set_new(known, "max", json_integer(max));
        return;
    }
    (void)json_object_set_new(run->nodes, node,
                              json_pack("{s:i, s:i, s:s, s:s, s:s, s:s, s:n, s:s}", "value", value, "max", max, "state",
                                        state, "node_id", node, "prompt_id", run->job->id, "display_node_id", node,
                                        "parent_node_id", "real_node_id", node));
}

static void send_states(const srv_run *run) {
    if (!somebody_listens(run)) return;
    send_any(run, "progress_state",
             json_pack("{s:s, s:o}", "prompt_id", run->job->id, "nodes", json_deep_copy(run->nodes)));
}

static void end_state(srv_run *run, const char *node, const char *state) {
    json_int_t max = json_integer_value(json_object_get(json_object_get(run->nodes, node), "max"));
    set_state(run, node, state, (int)(max > 0 ? max : 1), (int)(max > 0 ? max : 1));
    send_states(run);
}

static void set_node(srv_run *run, const char *node, const char *class_type) {
    free(run->node);
    free(run->class_type);
    run->node = strdup(node);
    run->class_type = strdup(class_type ? class_type : "");
    run->value = 0;
}

/* --- outputs ---------------------------------------------------------------------------------------------------------------------- */
static const char *kind_of(const tsr_workflow_output *output) {
    const char *dot = strrchr(output->filename, '.');
    return dot && strcmp(dot, ".latent") == 0 ? "latents" : "images";
}

static json_t *outputs_of(const tsr_graph_event *event) {
    json_t *made = json_object();
    for (int i = 0; i < event->output_count; i++) {
        const tsr_workflow_output *output = &event->outputs[i];
        const char *kind = kind_of(output);
        if (!json_object_get(made, kind)) (void)json_object_set_new(made, kind, json_array());
        (void)json_array_append_new(json_object_get(made, kind),
                                    json_pack("{s:s, s:s, s:s}", "filename", output->filename, "subfolder",
                                              output->subfolder, "type", output->type));
    }
    return made;
}

static void on_outputs(srv_run *run, const tsr_graph_event *event) {
    json_t *made = outputs_of(event);
    (void)json_object_set(run->outputs, event->node, made);
    send_own(run, "executed",
             json_pack("{s:s, s:s, s:o, s:s}", "node", event->node, "display_node", event->node, "output", made,
                       "prompt_id", run->job->id));
}

/* --- events of the graph -------------------------------------------------------------------------------------------------------- */
static void on_run_started(srv_run *run, const tsr_graph_event *event) {
    json_t *cached = json_array();
    for (int i = 0; i < event->cached_count; i++) (void)json_array_append_new(cached, json_string(event->cached[i]));
    json_t *data = json_pack("{s:o, s:s, s:o}", "nodes", cached, "prompt_id", run->job->id, "timestamp", timestamp());
    note(run, "execution_cached", data);
    send_own(run, "execution_cached", data);
}

static void on_started(srv_run *run, const tsr_graph_event *event) {
    set_node(run, event->node, event->class_type);
    set_state(run, event->node, "running", 0, 1);
    send_states(run);
    send_own(run, "executing",
             json_pack("{s:s, s:s, s:s}", "node", event->node, "display_node", event->node, "prompt_id", run->job->id));
}

static void on_progress(srv_run *run, const tsr_progress *progress) {
    if (!progress || progress->event != TSR_PROGRESS_STEP || !run->node) return;
    srv_metrics_step(run->context->metrics);
    int value = progress->step + 1 < progress->steps ? progress->step + 1 : progress->steps;
    if (value == run->value) return;
    run->value = value;
    set_state(run, run->node, "running", value, progress->steps);
    send_states(run);
    if (!somebody_listens(run)) return;
    send_any(run, "progress",
             json_pack("{s:i, s:i, s:s, s:s}", "value", value, "max", progress->steps, "prompt_id", run->job->id,
                       "node", run->node));
}

static void on_preview(const srv_run *run, const tsr_image *image) {
    void *bytes = NULL;
    size_t size = 0;
    if (!image || !run->node || !somebody_listens(run)) return;
    if (tsr_image_save_memory(&bytes, &size, image, ".jpg", PREVIEW_QUALITY, NULL) != TSR_OK) return;
    json_t *metadata =
        json_pack("{s:s, s:s, s:s, s:n, s:s, s:s}", "node_id", run->node, "prompt_id", run->job->id, "display_node_id",
                  run->node, "parent_node_id", "real_node_id", run->node, "image_type", "image/jpeg");
    if (metadata) srv_hub_send_preview(run->context->hub, run->client, "image/jpeg", bytes, size, metadata);
    json_decref(metadata);
    free(bytes);
}

static void on_done(srv_run *run, const tsr_graph_event *event) {
    if (event->output_count > 0) on_outputs(run, event);
    (void)json_array_append_new(run->executed, json_string(event->node));
    if (event->kind == TSR_GRAPH_NODE_CACHED && !event->output_count) set_state(run, event->node, "finished", 1, 1);
    else end_state(run, event->node, "finished");
}

void srv_run_event(srv_run *run, const tsr_graph_event *event) {
    switch (event->kind) {
    case TSR_GRAPH_RUN_STARTED: on_run_started(run, event); break;
    case TSR_GRAPH_NODE_STARTED: on_started(run, event); break;
    case TSR_GRAPH_NODE_PROGRESS: on_progress(run, event->progress); break;
    case TSR_GRAPH_NODE_PREVIEW: on_preview(run, event->preview); break;
    case TSR_GRAPH_NODE_DONE:
    case TSR_GRAPH_NODE_CACHED: on_done(run, event); break;
    case TSR_GRAPH_NODE_FAILED: set_node(run, event->node, event->class_type); break;
    case TSR_GRAPH_NODE_SAVING: break;
    }
}

/* --- beginning and end ----------------------------------------------------------------------------------------------------------- */
tsr_status srv_run_begin(srv_run *run, struct srv_context *context, const srv_job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    memset(run, 0, sizeof *run);
    run->context = context;
    run->job = job;
    run->client = *job->client_id ? job->client_id : NULL;
    run->nodes = json_object();
    run->outputs = json_object();
    run->messages = json_array();
    run->executed = json_array();
    json_t *data = json_pack("{s:s, s:o}", "prompt_id", job->id, "timestamp", timestamp());
    if (!run->nodes || !run->outputs || !run->messages || !run->executed || !data)
        SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
    note(run, "execution_start", data);
    send_own(run, "execution_start", json_incref(data));
    SRV_TRY(srv_json_parse(&run->prompt, job->prompt, strlen(job->prompt), err));
done:
    json_decref(data);
    return status;
}

void srv_run_clear(srv_run *run) {
    json_decref(run->prompt);
    json_decref(run->nodes);
    json_decref(run->outputs);
    json_decref(run->messages);
    json_decref(run->executed);
    json_decref(run->ending);
    free(run->node);
    free(run->class_type);
    memset(run, 0, sizeof *run);
}

/* The names that Python programs know. */
static const char *exception_of(tsr_status status) {
    switch (status) {
    case TSR_NO_MEMORY: return "MemoryError";
    case TSR_BAD_ARGUMENT:
    case TSR_BAD_FORMAT: return "ValueError";
    case TSR_NOT_FOUND: return "FileNotFoundError";
    case TSR_IO: return "OSError";
    case TSR_UNSUPPORTED: return "NotImplementedError";
    default: return "RuntimeError";
    }
}

/* The values in hand, as lists; links and embedded pictures are left out. */
static json_t *current_inputs(const srv_run *run) {
    json_t *shown = json_object(), *value;
    const char *name;
    json_t *inputs = json_object_get(json_object_get(run->prompt, run->node ? run->node : ""), "inputs");
    json_object_foreach(inputs, name, value) {
        if (json_is_array(value) || json_is_object(value)) continue;
        if (json_is_string(value) && json_string_length(value) > LONG_VALUE) continue;
        (void)json_object_set_new(shown, name, json_pack("[O]", value));
    }
    return shown;
}

static json_t *error_data(const srv_run *run, const tsr_error *fault) {
    json_t *message = srv_json_string(fault->message);
    return json_pack("{s:s, s:s, s:s, s:O, s:O, s:s, s:[o], s:o, s:O, s:o}", "prompt_id", run->job->id, "node_id",
                     run->node ? run->node : "", "node_type", run->class_type ? run->class_type : "", "executed",
                     run->executed, "exception_message", message, "exception_type", exception_of(fault->status),
                     "traceback", message, "current_inputs", current_inputs(run), "current_outputs", run->executed,
                     "timestamp", timestamp());
}

const char *srv_run_end(srv_run *run, const tsr_error *fault) {
    const char *status = !fault ? "success" : fault->status == TSR_CANCELLED ? "interrupted" : "error";
    if (!fault) {
        run->ending_type = "execution_success";
        run->ending = json_pack("{s:s, s:o}", "prompt_id", run->job->id, "timestamp", timestamp());
    } else if (fault->status == TSR_CANCELLED) {
        run->ending_type = "execution_interrupted";
        run->ending = json_pack("{s:s, s:s, s:s, s:O, s:o}", "prompt_id", run->job->id, "node_id",
                                run->node ? run->node : "", "node_type", run->class_type ? run->class_type : "",
                                "executed", run->executed, "timestamp", timestamp());
    } else {
        run->ending_type = "execution_error";
        run->ending = error_data(run, fault);
        if (run->node) end_state(run, run->node, "error");
    }
    note(run, run->ending_type, run->ending);
    return status;
}

void srv_run_tell_end(srv_run *run) {
    json_t *data = json_incref(run->ending);
    if (strcmp(run->ending_type, "execution_interrupted") == 0) send_any(run, run->ending_type, data);
    else send_own(run, run->ending_type, data);
    srv_hub_send_status(run->context->hub);
    send_own(run, "executing", json_pack("{s:n, s:s}", "node", "prompt_id", run->job->id));
}
