/* server/events.h - one run of a job as clients see it: the events of the graph become ComfyUI's, and the history.
 *
 * Used by the worker's thread only. */
#ifndef TSR_SERVER_EVENTS_H
#define TSR_SERVER_EVENTS_H

#include <jansson.h>

#include "store.h"
#include "tessera/graph.h"

struct srv_context;

typedef struct srv_run {
    struct srv_context *context;
    const srv_job *job;
    const char *client;      /* NULL when the prompt had no client_id */
    json_t *prompt;          /* the workflow */
    json_t *nodes;           /* progress_state of every node that has begun */
    json_t *outputs;         /* {node: {"images": [...]}} */
    json_t *messages;        /* status.messages of the history */
    json_t *executed;        /* ids of nodes that are done */
    char *node, *class_type; /* in hand, or the last; NULL before the first */
    int value;               /* of the newest progress */
    json_t *ending;          /* data of the event that ends the run; in `messages` too */
    const char *ending_type;
} srv_run;

/* Announces the job. Errors: NO_MEMORY, BAD_FORMAT. srv_run_clear in any case. */
tsr_status srv_run_begin(srv_run *run, struct srv_context *context, const srv_job *job, tsr_error *err);
void srv_run_clear(srv_run *run);
/* Tells clients what the graph tells. */
void srv_run_event(srv_run *run, const tsr_graph_event *event);

/* How the run ended: becomes part of the messages, but is not told yet. fault: NULL for success; CANCELLED is an
 * interruption. Returns the job's status in the store. */
const char *srv_run_end(srv_run *run, const tsr_error *fault);
/* Tells it, after the store has it. */
void srv_run_tell_end(srv_run *run);

#endif /* TSR_SERVER_EVENTS_H */
