/* server/router.h - from a connection with a request to the handler of its route. */
#ifndef TSR_SERVER_ROUTER_H
#define TSR_SERVER_ROUTER_H

struct mg_connection;
struct srv_context;

/* Admits, finds the route, handles, answers; the HTTP status that was sent. */
int srv_serve(struct srv_context *context, struct mg_connection *connection);

#endif /* TSR_SERVER_ROUTER_H */
