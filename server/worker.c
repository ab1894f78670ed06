/* server/worker.c - see worker.h. */
#include "worker.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "context.h"
#include "events.h"
#include "fault.h"
#include "json_text.h"
#include "time_now.h"

struct srv_worker {
    struct srv_context *context;
    tsr_graph *graph; /* the thread's own */
    pthread_t thread;
    pthread_mutex_t taking; /* held while the store says that a job runs and the state here does not yet; before lock */
    pthread_mutex_t lock;   /* of what follows */
    pthread_cond_t changed;
    int awake, release_models, release_results;
    srv_worker_state state;
    atomic_int stopping, interrupted; /* the graph asks often */
};

/* A job in hand. */
typedef struct errand {
    srv_worker *worker;
    srv_run run;
} errand;

/* --- waiting --------------------------------------------------------------------------------------------------------------- */
/* Until woken, stopped, or for at most a second. */
static void wait_a_second(srv_worker *worker) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_mutex_lock(&worker->lock);
    if (!atomic_load(&worker->stopping)) pthread_cond_timedwait(&worker->changed, &worker->lock, &until);
    pthread_mutex_unlock(&worker->lock);
}

static void wait_for_work(srv_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    while (!worker->awake && !atomic_load(&worker->stopping)) pthread_cond_wait(&worker->changed, &worker->lock);
    worker->awake = 0;
    pthread_mutex_unlock(&worker->lock);
}

static void release_memory(srv_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    int models = worker->release_models, results = worker->release_results;
    worker->release_models = worker->release_results = 0;
    pthread_mutex_unlock(&worker->lock);
    if (models || results) tsr_graph_release(worker->graph, models);
    tsr_graph_memory memory = tsr_graph_get_memory(worker->graph);
    pthread_mutex_lock(&worker->lock);
    worker->state.memory = memory;
    pthread_mutex_unlock(&worker->lock);
}

/* --- what the graph tells ------------------------------------------------------------------------------------------------------ */
static void set_state(srv_worker *worker, const char *node, int step, int steps) {
    pthread_mutex_lock(&worker->lock);
    if (node) snprintf(worker->state.node, sizeof worker->state.node, "%s", node);
    worker->state.step = step;
    worker->state.steps = steps;
    pthread_mutex_unlock(&worker->lock);
}

/* The folder exists, the file does not yet. */
static char *whole_path(const char *path) {
    char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL, *folder = NULL, *whole = NULL;
    if (slash) *slash = 0;
    if (copy) folder = realpath(slash ? (*copy ? copy : "/") : ".", NULL);
    const char *name = slash ? path + (slash - copy) + 1 : path;
    size_t size = folder ? strlen(folder) + strlen(name) + 2 : 0;
    if (size) whole = malloc(size);
    if (whole) snprintf(whole, size, "%s/%s", folder, name);
    free(folder);
    free(copy);
    return whole;
}

/* A file goes away should this attempt not end, so it is recorded before it is written. Unrecorded it would only stay
 * behind, so the run goes on then too. */
static void record_file(errand *e, const tsr_workflow_output *output) {
    tsr_error err = TSR_ERROR_INIT;
    char *path = whole_path(output->path);
    if (path && srv_store_add_file(e->worker->context->store, e->run.job->id, path, &err) != TSR_OK)
        srv_log_event(e->worker->context->log, SRV_LOG_WARNING, "file_not_recorded", "reason=%s", err.message);
    free(path);
}

static int on_event(void *user, const tsr_graph_event *event) {
    errand *e = user;
    if (event->kind == TSR_GRAPH_NODE_STARTED) set_state(e->worker, event->node, 0, 0);
    if (event->kind == TSR_GRAPH_NODE_PROGRESS && event->progress)
        set_state(e->worker, NULL, event->progress->step, event->progress->steps);
    if (event->kind == TSR_GRAPH_NODE_SAVING) record_file(e, event->outputs);
    srv_run_event(&e->run, event);
    return 0;
}

static int on_cancelled(void *user) {
    const errand *e = user;
    return atomic_load(&e->worker->stopping) || atomic_load(&e->worker->interrupted);
}

/* --- one job ------------------------------------------------------------------------------------------------------------------- */
static tsr_status set_targets(tsr_workflow *workflow, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *list = NULL, *item;
    const char **ids = NULL;
    size_t i;
    int n = 0;
    SRV_TRY(srv_json_parse(&list, text, strlen(text), err));
    SRV_ALLOC(err, ids, json_array_size(list) + 1);
    json_array_foreach(list, i, item) {
        if (json_is_string(item)) ids[n++] = json_string_value(item);
    }
    SRV_TRY(tsr_workflow_set_targets(workflow, ids, n, err));
done:
    free(ids);
    json_decref(list);
    return status;
}

/* What of extra_data the run knows: metadata for saved pictures, and how previews are made; a method that is not known
 * ("default") is the server's own. */
static tsr_status apply_extra(tsr_workflow *workflow, tsr_graph_callbacks *callbacks, const char *text,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *extra = NULL;
    char *info = NULL;
    SRV_TRY(srv_json_parse(&extra, text, strlen(text), err));
    const char *method = json_string_value(json_object_get(extra, "preview_method"));
    if (method && tsr_preview_method_find(method) >= 0)
        callbacks->preview_method = (tsr_preview_method)tsr_preview_method_find(method);
    json_t *pictures = json_object_get(extra, "extra_pnginfo");
    if (!json_is_object(pictures)) goto done;
    info = srv_json_dump(pictures);
    if (!info) SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
    SRV_TRY(tsr_workflow_set_extra(workflow, info, strlen(info), err));
done:
    free(info);
    json_decref(extra);
    return status;
}

static tsr_status run_workflow(errand *e, tsr_error *err) {
    tsr_status status = TSR_OK;
    const srv_job *job = e->run.job;
    tsr_workflow *workflow = NULL;
    tsr_workflow_outputs *outputs = NULL;
    tsr_graph_callbacks callbacks = TSR_GRAPH_CALLBACKS_INIT;
    callbacks.user = e;
    callbacks.event = on_event;
    callbacks.cancelled = on_cancelled;
    callbacks.preview_seconds = e->worker->context->options.preview_seconds;
    callbacks.preview_method = e->worker->context->options.preview_method;
    SRV_TRY(tsr_workflow_load_memory(&workflow, job->prompt, strlen(job->prompt), err));
    SRV_TRY(set_targets(workflow, job->targets, err));
    SRV_TRY(apply_extra(workflow, &callbacks, job->extra_data, err));
    SRV_TRY(tsr_workflow_run(&outputs, e->worker->graph, workflow, &callbacks, err));
    for (int i = 0; i < outputs->note_count; i++)
        srv_log_event(e->worker->context->log, SRV_LOG_WARNING, "job_note", "job=%s note=%s", job->id,
                      outputs->notes[i]);
    if (outputs->swaps)
        srv_log_event(e->worker->context->log, SRV_LOG_INFO, "models_swapped",
                      "job=%s swaps=%d seconds=%.2f megabytes=%.1f", job->id, outputs->swaps, outputs->swap_seconds,
                      (double)outputs->swap_bytes / 1e6);
done:
    tsr_workflow_outputs_free(outputs);
    tsr_workflow_free(workflow);
    return status;
}

/* Nobody hears of an end that is not on the disk: while the store cannot write, the job waits here, and runs again should
 * the server stop first. 0 when it did. */
static int store_end(errand *e, const char *status, const json_t *error) {
    struct srv_context *context = e->worker->context;
    for (int tries = 0;; tries++) {
        tsr_error err = TSR_ERROR_INIT;
        if (srv_store_finish(context->store, e->run.job->id, status, e->run.outputs, e->run.messages, error, &err) ==
            TSR_OK)
            return 1;
        if (tries % 60 == 0)
            srv_log_event(context->log, SRV_LOG_ERROR, "job_not_stored", "job=%s reason=%s", e->run.job->id,
                          err.message);
        if (atomic_load(&e->worker->stopping)) return 0;
        wait_a_second(e->worker);
    }
}

static void put_back(srv_worker *worker, const srv_job *job) {
    tsr_error err = TSR_ERROR_INIT;
    if (srv_store_put_back(worker->context->store, job->id, &err) != TSR_OK) /* the next start does it */
        srv_log_event(worker->context->log, SRV_LOG_WARNING, "job_not_put_back", "reason=%s", err.message);
    srv_log_event(worker->context->log, SRV_LOG_INFO, "job_waits",
                  "job=%s reason=the server stops; it starts again with the next one", job->id);
}

static void end_job(errand *e, const tsr_error *fault, double seconds) {
    struct srv_context *context = e->worker->context;
    tsr_error err = TSR_ERROR_INIT;
    const char *status = srv_run_end(&e->run, fault);
    if (!store_end(e, status, strcmp(status, "error") == 0 ? e->run.ending : NULL)) return;
    if (srv_store_trim_history(context->store, context->options.max_history, &err) != TSR_OK)
        srv_log_event(context->log, SRV_LOG_WARNING, "history_not_trimmed", "reason=%s", err.message);
    srv_metrics_job_ended(context->metrics, status, seconds);
    srv_log_event(context->log, fault && fault->status != TSR_CANCELLED ? SRV_LOG_WARNING : SRV_LOG_INFO, "job_done",
                  "job=%s status=%s seconds=%.2f attempt=%d", e->run.job->id, status, seconds, e->run.job->attempt);
    set_state(e->worker, "", 0, 0); /* who connects from here on has nothing to follow */
    srv_run_tell_end(&e->run);
}

static void set_job(srv_worker *worker, const srv_job *job) {
    pthread_mutex_lock(&worker->lock);
    tsr_graph_memory memory = worker->state.memory;
    memset(&worker->state, 0, sizeof worker->state);
    worker->state.memory = memory;
    if (job) snprintf(worker->state.job, sizeof worker->state.job, "%s", job->id);
    if (job) snprintf(worker->state.client, sizeof worker->state.client, "%s", job->client_id);
    atomic_store(&worker->interrupted, 0);
    pthread_mutex_unlock(&worker->lock);
}

static void run_job(srv_worker *worker, const srv_job *job) {
    tsr_error err = TSR_ERROR_INIT;
    errand e = { .worker = worker };
    double start = srv_clock();
    srv_hub_send_status(worker->context->hub);
    tsr_status status = srv_run_begin(&e.run, worker->context, job, &err);
    if (status == TSR_OK) status = run_workflow(&e, &err);
    if (status == TSR_CANCELLED && !atomic_load(&worker->interrupted)) put_back(worker, job);
    else end_job(&e, status == TSR_OK ? NULL : &err, srv_clock() - start);
    set_job(worker, NULL);
    srv_run_clear(&e.run);
}

/* Who sees the job run in /queue may interrupt it. */
static tsr_status take_job(srv_job **out, srv_worker *worker, tsr_error *err) {
    pthread_mutex_lock(&worker->taking);
    tsr_status status = srv_store_take(worker->context->store, out, err);
    if (*out) set_job(worker, *out);
    pthread_mutex_unlock(&worker->taking);
    return status;
}

/* --- the thread ------------------------------------------------------------------------------------------------------------------ */
static void *work(void *argument) {
    srv_worker *worker = argument;
    int failures = 0;
    while (!atomic_load(&worker->stopping)) {
        tsr_error err = TSR_ERROR_INIT;
        srv_job *job = NULL;
        release_memory(worker);
        if (take_job(&job, worker, &err) != TSR_OK) {
            if (failures++ % 60 == 0)
                srv_log_event(worker->context->log, SRV_LOG_ERROR, "job_not_taken", "reason=%s", err.message);
            wait_a_second(worker);
            continue;
        }
        failures = 0;
        if (job) run_job(worker, job);
        else wait_for_work(worker);
        srv_job_free(job);
    }
    return NULL;
}

static tsr_status open_graph(srv_worker *worker, tsr_error *err) {
    const srv_options *from = &worker->context->options;
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    options.models = from->models;
    options.input = from->input;
    options.output = from->output;
    options.temp = from->temp;
    options.history = from->history;
    options.precision = from->precision;
    options.threads = from->threads;
    options.cache_memory = from->cache_memory;
    options.model_memory = from->model_memory;
    options.memory_budget = from->memory_budget;
    return tsr_graph_open(&worker->graph, &options, err);
}

static void free_worker(srv_worker *worker) {
    if (!worker) return;
    tsr_graph_close(worker->graph);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    pthread_mutex_destroy(&worker->taking);
    free(worker);
}

tsr_status srv_worker_start(srv_worker **out, struct srv_context *context, tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_worker *worker = NULL;
    pthread_condattr_t steady;
    *out = NULL;
    SRV_ALLOC(err, worker, 1);
    worker->context = context;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_mutex_init(&worker->taking, NULL);
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC); /* a clock that is set back must not hold a second up */
    pthread_cond_init(&worker->changed, &steady);
    pthread_condattr_destroy(&steady);
    SRV_TRY(open_graph(worker, err));
    *out = worker; /* the thread's first event may ask for the worker's state */
    if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
        *out = NULL;
        SRV_FAIL(err, TSR_NO_MEMORY, "cannot start the worker's thread");
    }
    worker = NULL;
done:
    free_worker(worker);
    return status;
}

void srv_worker_stop(srv_worker *worker) {
    if (!worker) return;
    pthread_mutex_lock(&worker->lock);
    atomic_store(&worker->stopping, 1);
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    free_worker(worker);
}

/* --- from other threads ---------------------------------------------------------------------------------------------------------- */
void srv_worker_wake(srv_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    worker->awake = 1;
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}

int srv_worker_interrupt(srv_worker *worker, const char *id) {
    pthread_mutex_lock(&worker->taking);
    pthread_mutex_lock(&worker->lock);
    int runs = *worker->state.job && (!id || strcmp(worker->state.job, id) == 0);
    if (runs) atomic_store(&worker->interrupted, 1);
    pthread_mutex_unlock(&worker->lock);
    pthread_mutex_unlock(&worker->taking);
    return runs;
}

void srv_worker_release(srv_worker *worker, int models, int results) {
    pthread_mutex_lock(&worker->lock);
    worker->release_models |= models;
    worker->release_results |= results;
    pthread_mutex_unlock(&worker->lock);
    srv_worker_wake(worker);
}

srv_worker_state srv_worker_get_state(srv_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    srv_worker_state state = worker->state;
    pthread_mutex_unlock(&worker->lock);
    return state;
}
