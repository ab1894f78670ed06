/* server/server.h - `tessera serve`: ComfyUI's interface over HTTP and WebSocket, jobs that survive a crash, a page.
 *
 * Sees include/tessera, CivetWeb, SQLite and Jansson; nothing of src/. Threads: CivetWeb's threads parse, store and
 * relay; one worker thread owns the graph that runs (worker.h); a second graph, behind a mutex, only checks workflows and
 * lists nodes. */
#ifndef TSR_SERVER_H
#define TSR_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "tessera/tessera.h"

typedef struct srv_options {
    const char *listen;               /* address; NULL: 127.0.0.1 */
    int port;                         /* 0: any free one (tests); printed and in srv_server_port */
    const char *token_file;           /* first line is the token; required when `listen` is not a loopback address */
    const char *const *allowed_hosts; /* further Host names that are served (reverse proxies) */
    int n_allowed_hosts;
    const char *models, *input, *output, *temp; /* folders */
    const char *data;                           /* folder of the job store (jobs.sqlite) */
    tsr_history history;
    tsr_precision precision;
    int threads;
    size_t cache_memory, model_memory, memory_budget; /* of the worker's graph */
    int max_queue;                                    /* pending jobs; 0: 1000 */
    size_t max_body;                                  /* bytes of a JSON body; 0: 64 MiB */
    size_t max_upload;                                /* bytes of an upload; 0: 100 MiB */
    int max_sockets;                                  /* WebSockets at once; 0: 64 */
    int max_history;                                  /* finished jobs kept; 0: 10000 */
    double preview_seconds;                           /* 0: no previews */
    tsr_preview_method preview_method;                /* of jobs that do not say */
    double ping_seconds;                              /* WebSockets are pinged after this long a silence; 0: 30 */
    double patience; /* seconds a client has for a request or an answer, and more for long ones; 0: 30 */
    int log_json;    /* log lines as JSON */
    int quiet;       /* only warnings and errors are logged */
} srv_options;

typedef struct srv_server srv_server;

/* Binds, opens the store, starts the worker: returns when it serves. Errors: BAD_ARGUMENT, IO (port taken), ... */
tsr_status srv_server_start(srv_server **out, const srv_options *options, tsr_error *err);
int srv_server_port(const srv_server *server);
/* Stops taking requests, cancels the running job (which stays queued for the next start), closes everything. NULL is
 * allowed. */
void srv_server_stop(srv_server *server);

#endif /* TSR_SERVER_H */
