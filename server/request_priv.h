/* server/request_priv.h - the inside of srv_request, for the files that make, read and answer it. */
#ifndef TSR_SERVER_REQUEST_PRIV_H
#define TSR_SERVER_REQUEST_PRIV_H

#include <civetweb.h>

#include "peer.h"
#include "request.h"

enum { SRV_PATH_SIZE = 2048, SRV_VALUE_SIZE = 8192 };

typedef struct srv_query_value {
    struct srv_query_value *next;
    char text[]; /* name, 0, value, 0 */
} srv_query_value;

struct srv_request {
    srv_context *context;
    struct mg_connection *connection;
    const struct mg_request_info *info;
    srv_peer *peer; /* NULL: the connection closes after its answer */
    char path[SRV_PATH_SIZE];
    const char *rest; /* inside path */
    int api, head;
    srv_query_value *values;
    int has_body, body_read;
    int answered; /* the status that was sent; 0: none yet */
};

/* Fills the request from its connection. 0, or -1 when its path is no path. */
int srv_request_begin(srv_request *request, srv_context *context, struct mg_connection *connection);
/* Reads what the client still sends, for a short while, so that it sees the answer rather than a reset. */
void srv_request_end(srv_request *request);
const char *srv_request_header(const srv_request *request, const char *name); /* NULL when absent */

#endif /* TSR_SERVER_REQUEST_PRIV_H */
