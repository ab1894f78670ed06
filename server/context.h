/* server/context.h - what every part of the server may reach. One per server, alive from start to stop. */
#ifndef TSR_SERVER_CONTEXT_H
#define TSR_SERVER_CONTEXT_H

#include <pthread.h>

#include "guard.h"
#include "hub.h"
#include "log.h"
#include "metrics.h"
#include "peer.h"
#include "server.h"
#include "store.h"
#include "worker.h"

typedef struct srv_context {
    srv_options options; /* every default filled in; strings are the server's */
    srv_guard guard;     /* its token is NULL when none is asked */
    int port;
    int threads; /* CivetWeb's: the most connections at once */
    srv_peers *peers;
    srv_store *store;
    srv_hub *hub;
    srv_worker *worker;
    srv_log *log;
    srv_metrics *metrics;
    pthread_mutex_t checker_lock;
    tsr_graph *checker;           /* checks workflows and lists nodes; only with checker_lock held */
    pthread_mutex_t picture_lock; /* one large picture is decoded at a time */
    struct srv_info_cache *info;  /* routes_info.c: the text of /object_info */
    double started;               /* seconds since 1970 */
} srv_context;

#endif /* TSR_SERVER_CONTEXT_H */
