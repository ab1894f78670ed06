/* server/routes_info.c - what the server is, has and knows: nodes, models, the machine, its health. */
#include <stdlib.h>
#include <string.h>

#include "info_cache.h"
#include "json_text.h"
#include "request.h"
#include "server_features.h"
#include "system_info.h"

/* --- nodes ---------------------------------------------------------------------------------------------------------------- */
static int answer_failure(srv_request *request, const tsr_error *err) {
    return srv_answer_error(request, 500, "server_error", "The server failed", err->message);
}

static int all_nodes(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    srv_text *text = NULL;
    if (srv_info_all(&text, srv_request_context(request), &err) != TSR_OK) return answer_failure(request, &err);
    int status = srv_answer_bytes(request, 200, "application/json; charset=utf-8", srv_text_chars(text),
                                  srv_text_size(text), NULL);
    srv_text_unref(text);
    return status;
}

static tsr_status node_info(char **out, srv_context *context, const char *name, tsr_error *err) {
    pthread_mutex_lock(&context->checker_lock);
    tsr_status status = tsr_node_object_info(out, context->checker, name, err);
    pthread_mutex_unlock(&context->checker_lock);
    return status;
}

static int one_node(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    tsr_status found = node_info(&text, srv_request_context(request), srv_request_rest(request), &err);
    if (found != TSR_OK && found != TSR_NOT_FOUND) return answer_failure(request, &err);
    int status = srv_answer_json_text(request, 200, found == TSR_OK ? text : "{}");
    tsr_free(text);
    return status;
}

/* --- models --------------------------------------------------------------------------------------------------------------- */
/* The files of a kind are what the node that opens them offers. */
static const struct {
    const char *folder, *node, *input;
} FOLDERS[] = {
    { "checkpoints", "CheckpointLoaderSimple", "ckpt_name" },
    { "loras", "LoraLoader", "lora_name" },
    { "vae", "VAELoader", "vae_name" },
    { "controlnet", "ControlNetLoader", "control_net_name" },
    { "clip", "CLIPLoader", "clip_name" },
    { "diffusion_models", "UNETLoader", "unet_name" },
    { "upscale_models", "UpscaleModelLoader", "model_name" },
};
enum { FOLDER_COUNT = sizeof FOLDERS / sizeof *FOLDERS };

/* The choices of a node's input: [[...], {...}] or ["COMBO", {"options": [...]}]. A new reference; NULL when it has none. */
static json_t *choices_of(srv_context *context, const char *node, const char *input) {
    char *text = NULL;
    json_t *info = NULL, *list = NULL;
    if (tsr_node_find(node) < 0 || node_info(&text, context, node, NULL) != TSR_OK) return NULL;
    if (srv_json_parse(&info, text, strlen(text), NULL) == TSR_OK) {
        const json_t *inputs = json_object_get(json_object_get(info, node), "input");
        const json_t *row = json_object_get(json_object_get(inputs, "required"), input);
        list = json_array_get(row, 0);
        if (!json_is_array(list)) list = json_object_get(json_array_get(row, 1), "options");
        list = json_incref(list);
    }
    json_decref(info);
    tsr_free(text);
    return list;
}

int srv_has_checkpoints(struct srv_context *context) {
    json_t *files = choices_of(context, "CheckpointLoaderSimple", "ckpt_name");
    int found = json_array_size(files) > 0;
    json_decref(files);
    return found;
}

static int all_folders(srv_request *request) {
    json_t *names = json_array();
    for (int i = 0; i < FOLDER_COUNT; i++)
        if (tsr_node_find(FOLDERS[i].node) >= 0) json_array_append_new(names, json_string(FOLDERS[i].folder));
    json_array_append_new(names, json_string("embeddings"));
    return srv_answer_json(request, 200, names);
}

static int list_embeddings(srv_request *request, int with_endings) {
    srv_context *context = srv_request_context(request);
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    pthread_mutex_lock(&context->checker_lock);
    tsr_status status = tsr_graph_embeddings(&text, context->checker, with_endings, &err);
    pthread_mutex_unlock(&context->checker_lock);
    if (status != TSR_OK) return answer_failure(request, &err);
    int answered = srv_answer_json_text(request, 200, text);
    tsr_free(text);
    return answered;
}

static int all_embeddings(srv_request *request) {
    return list_embeddings(request, 0);
}

static int one_folder(srv_request *request) {
    const char *name = srv_request_rest(request);
    for (int i = 0; i < FOLDER_COUNT; i++) {
        if (strcmp(name, FOLDERS[i].folder) != 0) continue;
        json_t *files = choices_of(srv_request_context(request), FOLDERS[i].node, FOLDERS[i].input);
        if (files) return srv_answer_json(request, 200, files);
    }
    if (strcmp(name, "embeddings") == 0) return list_embeddings(request, 1);
    return srv_answer_json_text(request, 404, "{\"error\":\"no such folder\"}");
}

/* --- the server ----------------------------------------------------------------------------------------------------------- */
json_t *srv_features(const struct srv_context *context) {
    return json_pack("{s:b, s:I, s:{s:{s:b}}}", "supports_preview_metadata", 1, "max_upload_size",
                     (json_int_t)context->options.max_upload, "extension", "manager", "supports_v4", 0);
}

static int features(srv_request *request) {
    return srv_answer_json(request, 200, srv_features(srv_request_context(request)));
}

static int system_stats(srv_request *request) {
    return srv_answer_json(request, 200, srv_system_stats());
}

static int health(srv_request *request) {
    const srv_context *context = srv_request_context(request);
    return srv_answer_json(request, 200,
                           json_pack("{s:s, s:s, s:i}", "status", "ok", "version", tsr_version(), "queue",
                                     srv_store_remaining(context->store)));
}

static int metrics(srv_request *request) {
    char *text = srv_metrics_text(srv_request_context(request));
    if (!text) return srv_answer_empty(request, 500);
    int status = srv_answer_text(request, 200, "text/plain; version=0.0.4; charset=utf-8", text);
    free(text);
    return status;
}

/* Clients of ComfyUI's own page ask for these when they start; there is nothing to tell. */
static int empty_list(srv_request *request) {
    return srv_answer_json_text(request, 200, "[]");
}

static int empty_object(srv_request *request) {
    return srv_answer_json_text(request, 200, "{}");
}

static int users(srv_request *request) {
    return srv_answer_json_text(request, 200, "{\"storage\":\"server\",\"migrated\":true}");
}

const srv_route SRV_INFO_ROUTES[] = {
    { "GET", "/object_info", 0, all_nodes },
    { "GET", "/object_info/*", 0, one_node },
    { "GET", "/models", 0, all_folders },
    { "GET", "/models/*", 0, one_folder },
    { "GET", "/embeddings", 0, all_embeddings },
    { "GET", "/extensions", 0, empty_list },
    { "GET", "/features", 0, features },
    { "GET", "/system_stats", 0, system_stats },
    { "GET", "/health", SRV_ROUTE_OPEN, health },
    { "GET", "/metrics", 0, metrics },
    { "GET", "/users", 0, users },
    { "GET", "/settings", 0, empty_object },
    { "GET", "/userdata", 0, empty_list },
    { "GET", "/i18n", 0, empty_object },
    { "GET", "/workflow_templates", 0, empty_object },
    { "GET", "/global_subgraphs", 0, empty_object },
    { "GET", "/experiment/models", 0, empty_list },
    { NULL, NULL, 0, NULL },
};
