/* server/store.h - jobs in SQLite (WAL): the queue and the history survive kill -9 at any moment.
 *
 * A job is pending, running, then success, error or interrupted. What was accepted is committed before the client hears of
 * it; success is committed once, with the outputs, and never undone. Functions may be called from any thread. Times are
 * milliseconds since 1970. JSON goes in and comes out as text. */
#ifndef TSR_SERVER_STORE_H
#define TSR_SERVER_STORE_H

#include <jansson.h>
#include <stdint.h>

#include "shared_text.h"
#include "tessera/status.h"

typedef struct srv_store srv_store;

typedef struct srv_store_limits {
    size_t queue_bytes; /* of all waiting workflows together; 0: 256 MiB */
    int pages;          /* of the database, to try a full disk in tests; 0: no limit */
} srv_store_limits;

/* Opens or makes FOLDER/jobs.sqlite (private to the user). Jobs that ran when the process died are pending again, first in
 * line. limits: NULL for the defaults. Errors: IO, BAD_FORMAT (damaged, not a job store, or of a newer version),
 * WRONG_STATE (another server holds it). */
tsr_status srv_store_open(srv_store **out, const char *folder, const srv_store_limits *limits, tsr_error *err);
void srv_store_close(srv_store *store); /* NULL is allowed */

typedef struct srv_job {
    double number; /* order: smallest first; ComfyUI's priority */
    char *id;      /* prompt_id */
    char *client_id;
    char *prompt;     /* API workflow, JSON */
    char *extra_data; /* JSON object with client_id and create_time inside, as /queue shows it */
    char *targets;    /* JSON list: ids of the output nodes to run */
    int64_t created;
    int attempt; /* 1 for the first run */
} srv_job;
void srv_job_free(srv_job *job); /* NULL is allowed */

typedef struct srv_new_job {
    const char *id; /* NULL: a new UUID */
    const char *client_id;
    const char *prompt, *extra_data, *targets;
    const char *workflow_id; /* NULL: none; what /api/jobs filters by */
    int64_t created;
    int front;            /* before all pending ones */
    const double *number; /* NULL: the next one */
    int max_pending;
} srv_new_job;
/* Committed when it returns. *id_out and *number_out tell what was chosen (*id_out released with free). Errors:
 * TOO_LARGE (queue full), WRONG_STATE (a job of that id exists), IO (disk full, ...). */
tsr_status srv_store_add(srv_store *store, const srv_new_job *job, char **id_out, double *number_out, tsr_error *err);

/* The first pending job becomes running; *out NULL when there is none. Files that an attempt of it left behind are
 * removed. */
tsr_status srv_store_take(srv_store *store, srv_job **out, tsr_error *err);
/* A file that the running job is about to write: removed, and what its writing may have left beside it, should the job not
 * end, and run again. path: absolute. */
tsr_status srv_store_add_file(srv_store *store, const char *id, const char *path, tsr_error *err);
/* Ends a running job; committed when it returns, and after an error it still runs. status: "success", "error" or "interrupted"; outputs: {node: {"images": [...]}}; messages:
 * [[event, data], ...]; error: NULL or the data of execution_error. */
tsr_status srv_store_finish(srv_store *store, const char *id, const char *status, const json_t *outputs,
                            const json_t *messages, const json_t *error, tsr_error *err);
/* A running job goes back to the head of the queue (the server stops). */
tsr_status srv_store_put_back(srv_store *store, const char *id, tsr_error *err);

/* Pending jobs only. count_out may be NULL. */
tsr_status srv_store_delete_pending(srv_store *store, const char *id, int *count_out, tsr_error *err);
tsr_status srv_store_clear_pending(srv_store *store, int *count_out, tsr_error *err);
/* Finished jobs only. */
tsr_status srv_store_delete_history(srv_store *store, const char *id, tsr_error *err);
tsr_status srv_store_clear_history(srv_store *store, tsr_error *err);
/* Keeps the newest `keep` finished jobs. */
tsr_status srv_store_trim_history(srv_store *store, int keep, tsr_error *err);

/* --- what clients see: *out is a reference to text that is ready to send ----------------------------------------------------
 *
 * Answers come from memory, never from behind a write to the disk. */
tsr_status srv_store_queue(srv_text **out, srv_store *store, tsr_error *err); /* GET /queue */
/* GET /history; max_items < 0: all; offset < 0: the newest max_items. */
tsr_status srv_store_history(srv_text **out, srv_store *store, int max_items, int offset, tsr_error *err);
/* {} when unknown. */
tsr_status srv_store_history_of(srv_text **out, srv_store *store, const char *id, tsr_error *err);

enum { SRV_JOBS_PENDING = 1, SRV_JOBS_IN_PROGRESS = 2, SRV_JOBS_COMPLETED = 4, SRV_JOBS_FAILED = 8, SRV_JOBS_ALL = 15 };
typedef struct srv_jobs_query {
    unsigned statuses;       /* SRV_JOBS_... */
    const char *workflow_id; /* NULL: any */
    int by_duration;         /* else by time of creation */
    int descending;
    int limit, offset; /* limit < 0: all */
} srv_jobs_query;
/* GET /api/jobs */
tsr_status srv_store_jobs(srv_text **out, srv_store *store, const srv_jobs_query *query, tsr_error *err);
/* GET /api/jobs/ID; NOT_FOUND. */
tsr_status srv_store_job(srv_text **out, srv_store *store, const char *id, tsr_error *err);

/* Pending and running, without touching the disk. */
int srv_store_remaining(const srv_store *store);

#endif /* TSR_SERVER_STORE_H */
