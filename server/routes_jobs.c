/* server/routes_jobs.c - /prompt, /queue, /history, /interrupt, /free and /api/jobs, as ComfyUI 0.8.0 answers them. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "json_text.h"
#include "request.h"
#include "time_now.h"

enum { MAX_ID = 63, MAX_CLIENT = 127 };

static const char JSON_TYPE[] = "application/json; charset=utf-8";

/* --- what all of them do -------------------------------------------------------------------------------------------------------- */
static int answer_shared(srv_request *request, srv_text *text) {
    int status = srv_answer_bytes(request, 200, JSON_TYPE, srv_text_chars(text), srv_text_size(text), NULL);
    srv_text_unref(text);
    return status;
}

/* What the store or the graph says, in ComfyUI's shape. */
static int answer_fault(srv_request *request, const tsr_error *fault) {
    json_t *clean = srv_json_string(fault->message);
    const char *text = clean ? json_string_value(clean) : "";
    int status;
    switch (fault->status) {
    case TSR_TOO_LARGE: status = srv_answer_error(request, 429, "queue_full", text, ""); break;
    case TSR_WRONG_STATE: status = srv_answer_error(request, 400, "prompt_id_exists", text, ""); break;
    case TSR_NO_MEMORY:
    case TSR_IO:
    case TSR_BAD_FORMAT: status = srv_answer_error(request, 503, "store_failed", text, ""); break;
    default: status = srv_answer_error(request, 400, "invalid_prompt", text, ""); break;
    }
    json_decref(clean);
    return status;
}

static int is_true(const json_t *value) {
    return json_is_true(value) || (json_is_integer(value) && json_integer_value(value) != 0);
}

/* *out: an object, or NULL for no body. A body that is something else counts as none, as in ComfyUI. */
static int read_object(json_t **out, srv_request *request) {
    int refused = srv_request_json(out, request);
    if (refused || json_is_object(*out)) return refused;
    json_decref(*out);
    *out = NULL;
    return 0;
}

/* An id as ComfyUI takes it: a string or a number. NULL when it is neither, or too long. Release with free(). */
static char *text_of(const json_t *value, size_t most) {
    char number[32];
    const char *text = json_string_value(value);
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        text = number;
    }
    size_t size = text ? strlen(text) : 0;
    if (size == 0 || size > most || (json_is_string(value) && json_string_length(value) != size)) return NULL;
    return strdup(text);
}

/* --- POST /prompt: what came ------------------------------------------------------------------------------------------------------ */
typedef struct submission {
    json_t *body;
    const json_t *prompt;
    char *prompt_text, *extra_text, *id, *client;
    const char *workflow_id;
    json_t *extra;
    double number;
    int64_t created;
    srv_new_job job;
    tsr_workflow *workflow;
    tsr_workflow_report *report;
} submission;

static void clear_submission(submission *s) {
    tsr_workflow_report_free(s->report);
    tsr_workflow_free(s->workflow);
    json_decref(s->extra);
    json_decref(s->body);
    free(s->prompt_text);
    free(s->extra_text);
    free(s->id);
    free(s->client);
}

/* extra_data as /queue shows it. Keys to paid services, which ComfyUI's page sends along, are not kept. */
static void read_extra(submission *s) {
    const json_t *given = json_object_get(s->body, "extra_data");
    s->extra = json_is_object(given) ? json_copy((json_t *)given) : json_object();
    (void)json_object_del(s->extra, "auth_token_comfy_org");
    (void)json_object_del(s->extra, "api_key_comfy_org");
    s->created = srv_now_ms();
    if (s->client) (void)json_object_set_new(s->extra, "client_id", json_string(s->client));
    (void)json_object_set_new(s->extra, "create_time", json_integer(s->created));
    const json_t *workflow = json_object_get(json_object_get(s->extra, "extra_pnginfo"), "workflow");
    s->workflow_id = json_string_value(json_object_get(workflow, "id"));
}

/* 0, or the status of the answer that was sent. */
static int read_submission(submission *s, srv_request *request) {
    const json_t *id = NULL, *client = NULL, *number = NULL;
    int refused = read_object(&s->body, request);
    if (refused) return refused;
    s->prompt = json_object_get(s->body, "prompt");
    if (!json_is_object(s->prompt))
        return srv_answer_error(request, 400, "no_prompt", "No prompt provided", "No prompt provided");
    id = json_object_get(s->body, "prompt_id");
    if (id && !json_is_null(id) && !(s->id = text_of(id, MAX_ID)))
        return srv_answer_error(request, 400, "invalid_prompt_id", "prompt_id is not text of 1 to 63 bytes", "");
    client = json_object_get(s->body, "client_id");
    if (json_is_string(client) && json_string_length(client) == 0) client = NULL;
    if (client && !json_is_null(client) && !(s->client = text_of(client, MAX_CLIENT)))
        return srv_answer_error(request, 400, "invalid_client_id", "client_id is not text of at most 127 bytes", "");
    number = json_object_get(s->body, "number");
    if (number && !json_is_null(number) && !json_is_number(number))
        return srv_answer_error(request, 400, "invalid_number", "number is not a number", "");
    if (json_is_number(number)) s->number = json_number_value(number);
    s->job.number = json_is_number(number) ? &s->number : NULL;
    s->job.front = is_true(json_object_get(s->body, "front"));
    read_extra(s);
    s->prompt_text = srv_json_dump(s->prompt);
    s->extra_text = s->extra ? srv_json_dump(s->extra) : NULL;
    if (!s->prompt_text || !s->extra_text) return srv_answer_error(request, 503, "no_memory", "out of memory", "");
    return 0;
}

/* --- POST /prompt: checking -------------------------------------------------------------------------------------------------------- */
/* Ids of other nodes are passed over, as in ComfyUI. *none: there is a list, and it names no node. */
static tsr_status set_targets(int *none, submission *s, tsr_error *err) {
    tsr_status status = TSR_OK;
    const json_t *list = json_object_get(s->body, "partial_execution_targets"), *item;
    const char **ids = NULL;
    size_t i;
    int n = 0;
    *none = 0;
    if (!json_is_array(list)) return TSR_OK;
    SRV_ALLOC(err, ids, json_array_size(list) + 1);
    json_array_foreach(list, i, item) {
        if (json_is_string(item) && json_object_get(s->prompt, json_string_value(item)))
            ids[n++] = json_string_value(item);
    }
    *none = n == 0;
    if (n) SRV_TRY(tsr_workflow_set_targets(s->workflow, ids, n, err));
done:
    free(ids);
    return status;
}

/* Loads and checks the workflow; *none: as above. */
static tsr_status check_workflow(int *none, submission *s, srv_context *context, tsr_error *err) {
    tsr_status status = TSR_OK;
    SRV_TRY(tsr_workflow_load_memory(&s->workflow, s->prompt_text, strlen(s->prompt_text), err));
    SRV_TRY(set_targets(none, s, err));
    pthread_mutex_lock(&context->checker_lock);
    status = tsr_workflow_validate(&s->report, context->checker, s->workflow, err);
    pthread_mutex_unlock(&context->checker_lock);
done:
    return status;
}

/* 400 with {"error", "node_errors"} when nothing can run; else 0, and *node_errors is the caller's. */
static int refuse_faulty(json_t **node_errors, const submission *s, srv_request *request) {
    json_t *found = NULL;
    tsr_error err = TSR_ERROR_INIT;
    *node_errors = NULL;
    if (srv_json_parse(&found, s->report->json, strlen(s->report->json), &err) != TSR_OK)
        return answer_fault(request, &err);
    if (s->report->good_outputs == 0) return srv_answer_json(request, 400, found);
    *node_errors = json_incref(json_object_get(found, "node_errors"));
    json_decref(found);
    return 0;
}

/* --- POST /prompt ------------------------------------------------------------------------------------------------------------------- */
static int add_job(submission *s, json_t *node_errors, srv_request *request) {
    srv_context *context = srv_request_context(request);
    tsr_error err = TSR_ERROR_INIT;
    char *id = NULL;
    double number = 0;
    s->job.id = s->id;
    s->job.client_id = s->client;
    s->job.prompt = s->prompt_text;
    s->job.extra_data = s->extra_text;
    s->job.targets = s->report->outputs;
    s->job.workflow_id = s->workflow_id;
    s->job.created = s->created;
    s->job.max_pending = context->options.max_queue;
    if (srv_store_add(context->store, &s->job, &id, &number, &err) != TSR_OK) {
        json_decref(node_errors);
        return answer_fault(request, &err);
    }
    srv_metrics_job_added(context->metrics);
    srv_worker_wake(context->worker);
    srv_hub_send_status(context->hub);
    int whole = number >= -1e15 && number <= 1e15 && number == (double)(json_int_t)number;
    json_t *answer =
        json_pack("{s:s, s:o, s:o}", "prompt_id", id, "number",
                  whole ? json_integer((json_int_t)number) : json_real(number), "node_errors", node_errors);
    free(id);
    return srv_answer_json(request, 200, answer);
}

static int post_prompt(srv_request *request) {
    submission s = { 0 };
    tsr_error err = TSR_ERROR_INIT;
    json_t *node_errors = NULL;
    int none = 0, status = read_submission(&s, request);
    if (status) goto done;
    if (check_workflow(&none, &s, srv_request_context(request), &err) != TSR_OK) {
        status = srv_answer_error(request, 400, "invalid_prompt", "Cannot execute because the prompt cannot be read.",
                                  err.message);
        goto done;
    }
    if (none) {
        status = srv_answer_error(request, 400, "prompt_no_outputs", "Prompt has no outputs", "");
        goto done;
    }
    status = refuse_faulty(&node_errors, &s, request);
    if (!status) status = add_job(&s, node_errors, request);
done:
    clear_submission(&s);
    return status;
}

static int get_prompt(srv_request *request) {
    int left = srv_store_remaining(srv_request_context(request)->store);
    return srv_answer_json(request, 200, json_pack("{s:{s:i}}", "exec_info", "queue_remaining", left));
}

/* --- /queue ----------------------------------------------------------------------------------------------------------------------------- */
static int get_queue(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    srv_text *text = NULL;
    if (srv_store_queue(&text, srv_request_context(request)->store, &err) != TSR_OK) return answer_fault(request, &err);
    return answer_shared(request, text);
}

/* {"clear": true} and {"delete": [ids]}, for the queue and for the history. */
static tsr_status change_list(srv_request *request, const json_t *body, int history, tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_context *context = srv_request_context(request);
    srv_store *store = context->store;
    const json_t *item;
    char *id = NULL;
    size_t i;
    if (is_true(json_object_get(body, "clear")))
        SRV_TRY(history ? srv_store_clear_history(store, err) : srv_store_clear_pending(store, NULL, err));
    json_array_foreach(json_object_get(body, "delete"), i, item) {
        free(id);
        id = text_of(item, MAX_ID);
        if (id)
            SRV_TRY(history ? srv_store_delete_history(store, id, err)
                            : srv_store_delete_pending(store, id, NULL, err));
    }
done:
    free(id);
    if (!history) srv_hub_send_status(context->hub);
    return status;
}

static int post_change(srv_request *request, int history) {
    tsr_error err = TSR_ERROR_INIT;
    json_t *body = NULL;
    int refused = read_object(&body, request);
    if (refused) return refused;
    tsr_status status = change_list(request, body, history, &err);
    json_decref(body);
    return status == TSR_OK ? srv_answer_empty(request, 200) : answer_fault(request, &err);
}

static int post_queue(srv_request *request) {
    return post_change(request, 0);
}

/* --- /history --------------------------------------------------------------------------------------------------------------------------- */
/* A whole number of the query, or `missing`; 0 when it is none. */
static int query_int(int *out, srv_request *request, const char *name, int missing) {
    const char *text = srv_request_query(request, name);
    char *end = NULL;
    *out = missing;
    if (!text || !*text) return 1;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (*end || errno || value > INT_MAX || value < INT_MIN) return 0;
    *out = (int)value;
    return 1;
}

static int get_history(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    srv_text *text = NULL;
    int max_items, offset;
    if (!query_int(&max_items, request, "max_items", -1) || !query_int(&offset, request, "offset", -1))
        return srv_answer_error(request, 400, "invalid_query", "max_items and offset are whole numbers", "");
    if (srv_store_history(&text, srv_request_context(request)->store, max_items, offset, &err) != TSR_OK)
        return answer_fault(request, &err);
    return answer_shared(request, text);
}

static int get_history_of(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    srv_text *text = NULL;
    if (srv_store_history_of(&text, srv_request_context(request)->store, srv_request_rest(request), &err) != TSR_OK)
        return answer_fault(request, &err);
    return answer_shared(request, text);
}

static int post_history(srv_request *request) {
    return post_change(request, 1);
}

/* --- /interrupt, /free -------------------------------------------------------------------------------------------------------------------- */
static int post_interrupt(srv_request *request) {
    json_t *body = NULL;
    int refused = read_object(&body, request);
    if (refused) return refused;
    const json_t *given = json_object_get(body, "prompt_id");
    char *id = given && !json_is_null(given) ? text_of(given, MAX_ID) : NULL;
    /* An id that is none names no running job. */
    if (id || !given || json_is_null(given)) (void)srv_worker_interrupt(srv_request_context(request)->worker, id);
    free(id);
    json_decref(body);
    return srv_answer_empty(request, 200);
}

static int post_free(srv_request *request) {
    json_t *body = NULL;
    int refused = read_object(&body, request);
    if (refused) return refused;
    srv_worker_release(srv_request_context(request)->worker, is_true(json_object_get(body, "unload_models")),
                       is_true(json_object_get(body, "free_memory")));
    json_decref(body);
    return srv_answer_empty(request, 200);
}

/* --- /api/jobs ------------------------------------------------------------------------------------------------------------------------------ */
static int answer_plain(srv_request *request, int status, const char *message) {
    return srv_answer_json(request, status, json_pack("{s:s}", "error", message));
}

static int read_statuses(unsigned *out, const char *text) {
    static const struct {
        const char *name;
        unsigned bit;
    } known[] = { { "pending", SRV_JOBS_PENDING },
                  { "in_progress", SRV_JOBS_IN_PROGRESS },
                  { "completed", SRV_JOBS_COMPLETED },
                  { "failed", SRV_JOBS_FAILED } };
    *out = 0;
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, ","), i = 0, count = sizeof known / sizeof *known;
        while (i < count && (strlen(known[i].name) != n || strncmp(known[i].name, at, n) != 0)) i++;
        if (i == count && n > 0) return 0;
        if (n > 0) *out |= known[i].bit;
        at += n + (at[n] == ',');
    }
    return *out != 0;
}

static int get_jobs(srv_request *request) {
    srv_jobs_query query = { .statuses = SRV_JOBS_ALL };
    tsr_error err = TSR_ERROR_INIT;
    srv_text *text = NULL;
    const char *statuses = srv_request_query(request, "status"), *by = srv_request_query(request, "sort_by"),
               *order = srv_request_query(request, "sort_order");
    query.workflow_id = srv_request_query(request, "workflow_id");
    if (statuses && *statuses && !read_statuses(&query.statuses, statuses))
        return answer_plain(request, 400, "status holds other words than pending, in_progress, completed, failed");
    if (by && strcmp(by, "created_at") != 0 && strcmp(by, "execution_duration") != 0)
        return answer_plain(request, 400, "sort_by is created_at or execution_duration");
    if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0)
        return answer_plain(request, 400, "sort_order is asc or desc");
    if (!query_int(&query.limit, request, "limit", -1) || query.limit == 0 || query.limit < -1)
        return answer_plain(request, 400, "limit must be a positive integer");
    if (!query_int(&query.offset, request, "offset", 0)) return answer_plain(request, 400, "offset must be an integer");
    if (query.offset < 0) query.offset = 0;
    query.by_duration = by && strcmp(by, "execution_duration") == 0;
    query.descending = !order || strcmp(order, "desc") == 0;
    if (srv_store_jobs(&text, srv_request_context(request)->store, &query, &err) != TSR_OK)
        return answer_fault(request, &err);
    return answer_shared(request, text);
}

static int get_job(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    srv_text *text = NULL;
    tsr_status status = srv_store_job(&text, srv_request_context(request)->store, srv_request_rest(request), &err);
    if (status == TSR_NOT_FOUND) return answer_plain(request, 404, "Job not found");
    return status == TSR_OK ? answer_shared(request, text) : answer_fault(request, &err);
}

const srv_route SRV_JOB_ROUTES[] = {
    { "GET", "/prompt", 0, get_prompt },
    { "POST", "/prompt", 0, post_prompt },
    { "GET", "/queue", 0, get_queue },
    { "POST", "/queue", 0, post_queue },
    { "GET", "/history", 0, get_history },
    { "POST", "/history", 0, post_history },
    { "GET", "/history/*", 0, get_history_of },
    { "POST", "/interrupt", 0, post_interrupt },
    { "POST", "/free", 0, post_free },
    { "GET", "/jobs", SRV_ROUTE_API_ONLY, get_jobs },
    { "GET", "/jobs/*", SRV_ROUTE_API_ONLY, get_job },
    { NULL, NULL, 0, NULL },
};
