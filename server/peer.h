/* server/peer.h - the sockets below CivetWeb's connections, and when each must be done.
 *
 * CivetWeb limits the time between two bytes, so that a client that sends, or takes, one byte now and then could hold a
 * thread for ever. Here every connection has a deadline; a watchdog shuts down those that are past it, which wakes the
 * thread that waits. CivetWeb does not tell the number of its socket: it is found by the two addresses. */
#ifndef TSR_SERVER_PEER_H
#define TSR_SERVER_PEER_H

#include <stddef.h>

#include "tessera/status.h"

struct mg_connection;
typedef struct srv_peers srv_peers;
typedef struct srv_peer srv_peer;

tsr_status srv_peers_new(srv_peers **out, tsr_error *err);
void srv_peers_free(srv_peers *peers); /* after CivetWeb has stopped; NULL is allowed */
int srv_peers_count(const srv_peers *peers);
/* The server stops: threads that wait for a client's next bytes find the end of the stream. */
void srv_peers_wake(srv_peers *peers);

/* The peer of a connection, from its first request to srv_peer_closed. NULL when memory is out or the socket is not found:
 * then the connection must be closed after its answer. */
srv_peer *srv_peer_of(srv_peers *peers, struct mg_connection *connection);
/* A request began, or goes on: it has `seconds` from now, and more for every byte that is moved at 32 KiB a second. */
void srv_peer_allow(srv_peer *peer, double seconds, long long bytes);
void srv_peer_rest(srv_peer *peer); /* no deadline: between requests CivetWeb's own limits hold */
int srv_peer_socket(const srv_peer *peer);
void srv_peer_closed(srv_peers *peers, const struct mg_connection *connection);

#endif /* TSR_SERVER_PEER_H */
