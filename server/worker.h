/* server/worker.h - the one thread that owns the graph: takes jobs, runs them, tells the hub and the store.
 *
 * Events go out in ComfyUI's order (reference: docs/server.md). Functions may be called from any thread. */
#ifndef TSR_SERVER_WORKER_H
#define TSR_SERVER_WORKER_H

#include <jansson.h>

#include "tessera/graph.h"

struct srv_context;
typedef struct srv_worker srv_worker;

tsr_status srv_worker_start(srv_worker **out, struct srv_context *context, tsr_error *err);
/* Cancels the running job, which is put back, and waits for the thread. NULL is allowed. */
void srv_worker_stop(srv_worker *worker);

/* A job was added. */
void srv_worker_wake(srv_worker *worker);
/* Interrupts the running job; id NULL: whichever it is. 1 when there was one. */
int srv_worker_interrupt(srv_worker *worker, const char *id);
/* POST /free: done before the next job. */
void srv_worker_release(srv_worker *worker, int models, int results);

typedef struct srv_worker_state {
    char job[64], client[128], node[64]; /* "" when idle */
    tsr_graph_memory memory;
    int step, steps;
} srv_worker_state;
srv_worker_state srv_worker_get_state(srv_worker *worker);

#endif /* TSR_SERVER_WORKER_H */
