/* server/hub_priv.h - what the hub (who gets what) and its sockets (how it travels) share. */
#ifndef TSR_SERVER_HUB_PRIV_H
#define TSR_SERVER_HUB_PRIV_H

#include <pthread.h>

#include "hub.h"
#include "hub_queue.h"

enum { SRV_CLIENT_ID_SIZE = 128 };

/* Owned by the thread that serves it; everything but `hub`, `id` and `wake` is the hub's lock's. */
typedef struct srv_socket {
    struct srv_socket *next, *previous;
    srv_hub *hub;
    char id[SRV_CLIENT_ID_SIZE]; /* clientId */
    int wake;                    /* eventfd: something waits, or the end has come */
    srv_queue queue;
    int wants_metadata; /* negotiated: previews as event 4 */
    int replaced;       /* a newer socket has its clientId: it gets nothing more */
    int close_code;     /* not 0: to be closed */
} srv_socket;

struct srv_hub {
    struct srv_context *context;
    pthread_mutex_t lock;
    srv_socket *first;
    int count, closing;
};

/* Adds the socket, with `status` as its first frame. 0, or -1 when there is no room, or the server stops. */
int srv_hub_add(srv_hub *hub, srv_socket *socket);
void srv_hub_remove(srv_hub *hub, srv_socket *socket);
/* One frame for one socket; takes the reference. */
void srv_hub_push(srv_hub *hub, srv_socket *socket, srv_frame *frame);
/* To a client that comes back while its job runs: where that is. */
void srv_hub_tell_node(srv_hub *hub, srv_socket *socket);
/* {"type": type, "data": data} as a frame; takes the reference to data. NULL when out of memory. */
srv_frame *srv_hub_frame(const char *type, json_t *data);

#endif /* TSR_SERVER_HUB_PRIV_H */
