/* server/metrics.c - see metrics.h. */
#include "metrics.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "context.h"

enum { STATUSES = 3, CLASSES = 6, BUCKETS = 8, PAGE_SIZE = 16 << 10 };
static const char *const STATUS_NAMES[STATUSES] = { "success", "error", "interrupted" };
static const double BOUNDS[BUCKETS] = { 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5 };

struct srv_metrics {
    pthread_mutex_t lock;
    unsigned long long jobs_added, jobs_ended[STATUSES], steps, requests[CLASSES], buckets[BUCKETS + 1], dropped;
    double job_seconds, request_seconds;
};

srv_metrics *srv_metrics_new(void) {
    srv_metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics) pthread_mutex_init(&metrics->lock, NULL);
    return metrics;
}

void srv_metrics_free(srv_metrics *metrics) {
    if (!metrics) return;
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

/* --- counting ----------------------------------------------------------------------------------------------------------- */
static void count(srv_metrics *metrics, unsigned long long *counter) {
    pthread_mutex_lock(&metrics->lock);
    ++*counter;
    pthread_mutex_unlock(&metrics->lock);
}

void srv_metrics_job_added(srv_metrics *metrics) {
    if (metrics) count(metrics, &metrics->jobs_added);
}

void srv_metrics_step(srv_metrics *metrics) {
    if (metrics) count(metrics, &metrics->steps);
}

void srv_metrics_event_dropped(srv_metrics *metrics) {
    if (metrics) count(metrics, &metrics->dropped);
}

void srv_metrics_job_ended(srv_metrics *metrics, const char *status, double seconds) {
    if (!metrics) return;
    pthread_mutex_lock(&metrics->lock);
    for (int i = 0; i < STATUSES; i++)
        if (strcmp(status, STATUS_NAMES[i]) == 0) metrics->jobs_ended[i]++;
    metrics->job_seconds += seconds;
    pthread_mutex_unlock(&metrics->lock);
}

void srv_metrics_request(srv_metrics *metrics, int status, double seconds) {
    if (!metrics) return;
    int bucket = 0;
    while (bucket < BUCKETS && seconds > BOUNDS[bucket]) bucket++;
    pthread_mutex_lock(&metrics->lock);
    metrics->requests[status >= 100 && status < 600 ? status / 100 : 0]++;
    /* A WebSocket lasts as long as it is open, which says nothing of speed. */
    if (status != 101) {
        metrics->buckets[bucket]++;
        metrics->request_seconds += seconds;
    }
    pthread_mutex_unlock(&metrics->lock);
}

/* --- the page ------------------------------------------------------------------------------------------------------------- */
typedef struct page {
    char *text;
    size_t size;
} page;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
put(page *p, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(p->text + p->size, PAGE_SIZE - p->size, format, args);
    va_end(args);
    if (n > 0 && (size_t)n < PAGE_SIZE - p->size) p->size += (size_t)n;
}

static void head(page *p, const char *name, const char *type, const char *help) {
    put(p, "# HELP tessera_%s %s\n# TYPE tessera_%s %s\n", name, help, name, type);
}

static void single(page *p, const char *name, const char *type, const char *help, double value) {
    head(p, name, type, help);
    put(p, "tessera_%s %.17g\n", name, value);
}

static double resident_bytes(void) {
    unsigned long long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) return 0.0;
    int fields = fscanf(file, "%llu %llu", &size, &resident);
    fclose(file);
    return fields == 2 ? (double)resident * (double)sysconf(_SC_PAGESIZE) : 0.0;
}

static void put_counters(page *p, const srv_metrics *now) {
    unsigned long long total = 0;
    single(p, "jobs_added_total", "counter", "Jobs accepted.", (double)now->jobs_added);
    head(p, "jobs_ended_total", "counter", "Jobs ended.");
    for (int i = 0; i < STATUSES; i++)
        put(p, "tessera_jobs_ended_total{status=\"%s\"} %llu\n", STATUS_NAMES[i], now->jobs_ended[i]);
    single(p, "job_seconds_total", "counter", "Time that ended jobs ran.", now->job_seconds);
    single(p, "steps_total", "counter", "Sampling steps done.", (double)now->steps);
    head(p, "requests_total", "counter", "HTTP requests answered.");
    for (int i = 1; i < CLASSES; i++) put(p, "tessera_requests_total{status=\"%dxx\"} %llu\n", i, now->requests[i]);
    head(p, "request_seconds", "histogram", "Time from a request's head to the end of its answer.");
    for (int i = 0; i < BUCKETS; i++) {
        total += now->buckets[i];
        put(p, "tessera_request_seconds_bucket{le=\"%g\"} %llu\n", BOUNDS[i], total);
    }
    total += now->buckets[BUCKETS];
    put(p, "tessera_request_seconds_bucket{le=\"+Inf\"} %llu\n", total);
    put(p, "tessera_request_seconds_sum %.6f\ntessera_request_seconds_count %llu\n", now->request_seconds, total);
    single(p, "websocket_events_dropped_total", "counter", "Previews that slow clients missed.", (double)now->dropped);
}

static void put_gauges(page *p, struct srv_context *context) {
    srv_worker_state state = srv_worker_get_state(context->worker);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    single(p, "queue_jobs", "gauge", "Jobs pending and running.", srv_store_remaining(context->store));
    single(p, "running_jobs", "gauge", "Jobs running.", state.job[0] ? 1 : 0);
    single(p, "job_steps_done", "gauge", "Steps done of the sampling that runs.", state.step);
    single(p, "job_steps", "gauge", "Steps of the sampling that runs.", state.steps);
    single(p, "websockets", "gauge", "WebSockets connected.", srv_hub_sockets(context->hub));
    single(p, "connections", "gauge", "HTTP connections, WebSockets among them.", srv_peers_count(context->peers));
    single(p, "memory_bytes", "gauge", "Memory of the process.", resident_bytes());
    single(p, "model_bytes", "gauge", "Open models, about.", (double)state.memory.models);
    single(p, "models", "gauge", "Open models.", state.memory.model_count);
    single(p, "result_bytes", "gauge", "Results kept for unchanged nodes.", (double)state.memory.results);
    single(p, "uptime_seconds", "gauge", "Since the server started.", (double)now.tv_sec - context->started);
}

char *srv_metrics_text(struct srv_context *context) {
    srv_metrics now;
    page p = { calloc(1, PAGE_SIZE), 0 };
    if (!p.text || !context->metrics) {
        free(p.text);
        return NULL;
    }
    pthread_mutex_lock(&context->metrics->lock);
    memcpy(&now, context->metrics, sizeof now);
    pthread_mutex_unlock(&context->metrics->lock);
    head(&p, "info", "gauge", "The version.");
    put(&p, "tessera_info{version=\"%s\"} 1\n", tsr_version());
    put_counters(&p, &now);
    put_gauges(&p, context);
    srv_worker_state state = srv_worker_get_state(context->worker);
    single(&p, "model_swaps_total", "counter", "Networks packed again for the memory bound.",
           (double)state.memory.swaps);
    single(&p, "model_swap_seconds_total", "counter", "Time that took.", state.memory.swap_seconds);
    return p.text;
}
