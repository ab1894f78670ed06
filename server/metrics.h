/* server/metrics.h - counters for GET /metrics, in Prometheus' text form. Any thread; every function takes NULL. */
#ifndef TSR_SERVER_METRICS_H
#define TSR_SERVER_METRICS_H

struct srv_context;
typedef struct srv_metrics srv_metrics;

srv_metrics *srv_metrics_new(void); /* NULL when out of memory */
void srv_metrics_free(srv_metrics *metrics);

void srv_metrics_job_added(srv_metrics *metrics);
void srv_metrics_job_ended(srv_metrics *metrics, const char *status, double seconds);
void srv_metrics_step(srv_metrics *metrics);
void srv_metrics_request(srv_metrics *metrics, int status, double seconds);
void srv_metrics_event_dropped(srv_metrics *metrics);

/* The whole page, with gauges (queue, memory, sockets) read from the context; release with free(). NULL: no memory. */
char *srv_metrics_text(struct srv_context *context);

#endif /* TSR_SERVER_METRICS_H */
