/* server/websocket.h - the WebSocket protocol (RFC 6455), a server's side, without sockets.
 *
 * Extensions are not offered, so that every reserved bit is a fault. */
#ifndef TSR_SERVER_WEBSOCKET_H
#define TSR_SERVER_WEBSOCKET_H

#include <stddef.h>

enum {
    SRV_WS_TEXT = 1,
    SRV_WS_BINARY = 2,
    SRV_WS_CLOSE = 8,
    SRV_WS_PING = 9,
    SRV_WS_PONG = 10,

    SRV_WS_NORMAL = 1000, /* codes of close frames */
    SRV_WS_GOING_AWAY = 1001,
    SRV_WS_PROTOCOL = 1002,
    SRV_WS_BAD_TEXT = 1007,
    SRV_WS_SLOW = 1008,
    SRV_WS_TOO_LARGE = 1009,
    SRV_WS_NO_MEMORY = 1011,

    SRV_WS_ACCEPT_SIZE = 29,
    SRV_WS_HEAD_MAX = 10
};

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key. 0, or -1 when the key is none. */
int srv_ws_accept(char out[SRV_WS_ACCEPT_SIZE], const char *key);

/* The head of a whole, unmasked frame; its length. */
size_t srv_ws_head(unsigned char out[SRV_WS_HEAD_MAX], int opcode, size_t size);

/* --- what a client sends ------------------------------------------------------------------------------------------------ */
typedef struct srv_ws_reader srv_ws_reader;
/* A whole message or control frame; the data is valid during the call. Text is UTF-8. Not 0 ends the reading. */
typedef int (*srv_ws_message_fn)(void *user, int opcode, const unsigned char *data, size_t size);

srv_ws_reader *srv_ws_reader_new(size_t limit); /* most bytes of a message; NULL when out of memory */
void srv_ws_reader_free(srv_ws_reader *reader); /* NULL is allowed */
/* Takes bytes in pieces of any size. 0, or the code to close with; then nothing more may be fed. */
int srv_ws_feed(srv_ws_reader *reader, const unsigned char *data, size_t size, srv_ws_message_fn take, void *user);

#endif /* TSR_SERVER_WEBSOCKET_H */
