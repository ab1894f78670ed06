/* server/hub.h - WebSockets: who is connected, and what is on its way to them.
 *
 * The route /ws (SRV_SOCKET_ROUTES) makes sockets. On connect it sends `status` with sid; on reconnect of a client whose job
 * runs also `executing` of the node in hand, as ComfyUI does.
 * Every socket has a bounded backlog and never holds up its sender: previews are dropped first, and a socket whose
 * backlog stays full is closed. Functions may be called from any thread. */
#ifndef TSR_SERVER_HUB_H
#define TSR_SERVER_HUB_H

#include <jansson.h>
#include <stddef.h>

#include "tessera/status.h"

struct srv_context;
typedef struct srv_hub srv_hub;

tsr_status srv_hub_new(srv_hub **out, struct srv_context *context, tsr_error *err);
void srv_hub_free(srv_hub *hub); /* after every thread of it has ended; NULL is allowed */
/* Closes every socket and takes no more: the threads that serve them end soon. */
void srv_hub_close(srv_hub *hub);

/* {"type": type, "data": data} to the sockets of client_id; NULL or "": to all. Takes the reference to data. */
void srv_hub_send(srv_hub *hub, const char *client_id, const char *type, json_t *data);
/* A preview: binary event 4 with metadata to sockets that negotiated it, else event 1. type: "image/jpeg" or "image/png".
 * metadata: borrowed. */
void srv_hub_send_preview(srv_hub *hub, const char *client_id, const char *type, const void *bytes, size_t size,
                          const json_t *metadata);
/* `status` with the number of jobs left, to all. Called after every change of the queue. */
void srv_hub_send_status(srv_hub *hub);
int srv_hub_sockets(const srv_hub *hub);

#endif /* TSR_SERVER_HUB_H */
