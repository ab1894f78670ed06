/* server/hub_socket.c - one WebSocket: its handshake, and the thread that reads and writes it until it ends.
 *
 * CivetWeb would allocate whatever length a frame announces and block its sender, so the protocol is ours (websocket.h),
 * on the connection's own socket. Nothing here waits for a client: what cannot be sent now stays in the bounded queue. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_text.h"
#include "hub_priv.h"
#include "json_text.h"
#include "request_priv.h"
#include "server_features.h"
#include "time_now.h"
#include "websocket.h"

enum { MESSAGE_MAX = 64 << 10, UNANSWERED_MAX = 4, CLOSE_MS = 500 };

typedef struct session {
    srv_socket socket;
    srv_context *context;
    srv_ws_reader *reader;
    int fd;
    double last_heard, last_ping;
    int unanswered;
    int spoke;      /* the first text has come */
    int close_code; /* what the client did wrong, or 1000; 0: none */
} session;

/* --- what the client says --------------------------------------------------------------------------------------------------- */
/* ComfyUI asks for features in the first text only. */
static void negotiate(session *s, const char *text, size_t size) {
    json_t *message = NULL;
    if (srv_json_parse(&message, text, size, NULL) != TSR_OK) return;
    const char *type = json_string_value(json_object_get(message, "type"));
    if (type && strcmp(type, "feature_flags") == 0) {
        const json_t *wanted = json_object_get(json_object_get(message, "data"), "supports_preview_metadata");
        pthread_mutex_lock(&s->socket.hub->lock);
        s->socket.wants_metadata = json_is_true(wanted);
        pthread_mutex_unlock(&s->socket.hub->lock);
        srv_hub_push(s->socket.hub, &s->socket, srv_hub_frame("feature_flags", srv_features(s->context)));
    }
    json_decref(message);
}

static int on_message(void *user, int opcode, const unsigned char *data, size_t size) {
    session *s = user;
    if (opcode == SRV_WS_CLOSE) return 1;
    if (opcode == SRV_WS_PING)
        srv_hub_push(s->socket.hub, &s->socket, srv_frame_new(SRV_WS_PONG, NULL, 0, data, size, 0));
    if (opcode == SRV_WS_TEXT && !s->spoke) {
        s->spoke = 1;
        negotiate(s, (const char *)data, size);
    }
    return 0;
}

/* 0, or -1 when the connection has ended. */
static int hear(session *s) {
    unsigned char bytes[8192];
    ssize_t n = recv(s->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0) return -1;
    s->last_heard = srv_clock();
    s->unanswered = 0;
    s->close_code = srv_ws_feed(s->reader, bytes, (size_t)n, on_message, s);
    return 0;
}

/* --- what goes to it ------------------------------------------------------------------------------------------------------- */
/* Sends as much as the socket takes. 0, or -1 when the connection has ended. */
static int say(session *s) {
    srv_hub *hub = s->socket.hub;
    for (;;) {
        pthread_mutex_lock(&hub->lock);
        srv_frame *frame = srv_queue_take(&s->socket.queue);
        size_t sent = s->socket.queue.sent;
        pthread_mutex_unlock(&hub->lock);
        if (!frame) return 0;
        size_t size = srv_frame_size(frame) - sent;
        ssize_t n = send(s->fd, srv_frame_bytes(frame) + sent, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        int ended = n < 0 && errno != EAGAIN && errno != EINTR;
        srv_frame_unref(frame);
        pthread_mutex_lock(&hub->lock);
        srv_queue_advance(&s->socket.queue, n > 0 ? (size_t)n : 0);
        pthread_mutex_unlock(&hub->lock);
        if (ended) return -1;
        if (n < 0 || (size_t)n < size) return 0;
    }
}

/* A close frame, unless another is half sent, and a moment for the client to close first. */
static void say_goodbye(session *s, int code) {
    unsigned char frame[SRV_WS_HEAD_MAX + 2];
    size_t size = srv_ws_head(frame, SRV_WS_CLOSE, 2);
    struct pollfd wait = { s->fd, POLLIN, 0 };
    frame[size++] = (unsigned char)(code >> 8);
    frame[size++] = (unsigned char)code;
    pthread_mutex_lock(&s->socket.hub->lock);
    int half = s->socket.queue.sent > 0;
    pthread_mutex_unlock(&s->socket.hub->lock);
    if (half || send(s->fd, frame, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
    shutdown(s->fd, SHUT_WR);
    if (poll(&wait, 1, CLOSE_MS) > 0 && recv(s->fd, frame, sizeof frame, MSG_DONTWAIT) < 0) return;
}

/* --- the loop ----------------------------------------------------------------------------------------------------------------- */
/* A ping after a silence; -1 when too many stayed without any sign of life. */
static int keep_alive(session *s, double now) {
    double pause = s->context->options.ping_seconds;
    if (now - s->last_heard < pause || now - s->last_ping < pause) return 0;
    if (s->unanswered == UNANSWERED_MAX) return -1;
    s->unanswered++;
    s->last_ping = now;
    srv_hub_push(s->socket.hub, &s->socket, srv_frame_new(SRV_WS_PING, NULL, 0, NULL, 0, 0));
    return 0;
}

static void run(session *s) {
    srv_hub *hub = s->socket.hub;
    int ended = 0;
    s->last_heard = s->last_ping = srv_clock();
    while (!ended && !s->close_code) {
        uint64_t count;
        pthread_mutex_lock(&hub->lock);
        int waiting = s->socket.queue.count > 0;
        s->close_code = s->socket.close_code;
        pthread_mutex_unlock(&hub->lock);
        if (s->close_code) break;
        struct pollfd fds[2] = { { s->fd, (short)(POLLIN | (waiting ? POLLOUT : 0)), 0 },
                                 { s->socket.wake, POLLIN, 0 } };
        int ready = poll(fds, 2, (int)(s->context->options.ping_seconds * 500.0) + 1);
        if (ready < 0 && errno != EINTR) break;
        if (fds[1].revents && read(s->socket.wake, &count, sizeof count) < 0 && errno != EAGAIN) break;
        if (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) ended = hear(s);
        if (!ended) ended = keep_alive(s, srv_clock());
        if (!ended) ended = say(s);
    }
    if (!ended) say_goodbye(s, s->close_code ? s->close_code : SRV_WS_GOING_AWAY);
}

/* --- the handshake ------------------------------------------------------------------------------------------------------------ */
static int take_id(srv_request *request, char id[SRV_CLIENT_ID_SIZE]) {
    const char *given = srv_request_query(request, "clientId");
    unsigned char random[16];
    if (given && *given) {
        if (strlen(given) >= SRV_CLIENT_ID_SIZE) return -1;
        snprintf(id, SRV_CLIENT_ID_SIZE, "%s", given);
        return 0;
    }
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) return -1;
    for (int i = 0; i < 16; i++) snprintf(id + 2 * i, 3, "%02x", random[i]);
    return 0;
}

static int open_session(session *s, srv_request *request, char accept[SRV_WS_ACCEPT_SIZE]) {
    const char *key = srv_request_header(request, "Sec-WebSocket-Key");
    const char *version = srv_request_header(request, "Sec-WebSocket-Version");
    if (!srv_list_has(srv_request_header(request, "Upgrade"), "websocket"))
        return srv_answer_bytes(request, 426, "text/plain; charset=utf-8", "This is a WebSocket.\n", 21,
                                "Upgrade: websocket\r\n");
    if (!srv_list_has(srv_request_header(request, "Connection"), "upgrade") || !key || srv_ws_accept(accept, key))
        return srv_answer_text(request, 400, "text/plain; charset=utf-8", "This is no WebSocket handshake.\n");
    if (!version || strcmp(version, "13") != 0)
        return srv_answer_bytes(request, 426, NULL, NULL, 0, "Sec-WebSocket-Version: 13\r\n");
    if (take_id(request, s->socket.id))
        return srv_answer_text(request, 400, "text/plain; charset=utf-8", "The clientId is too long.\n");
    s->context = request->context;
    s->reader = srv_ws_reader_new(MESSAGE_MAX);
    s->socket.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!s->reader || s->socket.wake < 0 || !request->peer || srv_hub_add(request->context->hub, &s->socket)) {
        srv_ws_reader_free(s->reader);
        if (s->socket.wake >= 0) close(s->socket.wake);
        return srv_answer_text(request, 503, "text/plain; charset=utf-8", "Too many WebSockets are open.\n");
    }
    return 0;
}

static int handle_socket(srv_request *request) {
    char accept[SRV_WS_ACCEPT_SIZE], answer[256];
    session s;
    memset(&s, 0, sizeof s);
    int status = open_session(&s, request, accept);
    if (status) return status;
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\n\r\n",
                     accept);
    request->answered = 101;
    mg_disable_connection_keep_alive(request->connection);
    if (mg_write(request->connection, answer, (size_t)n) == n) {
        s.fd = srv_peer_socket(request->peer);
        srv_peer_rest(request->peer); /* from here on pings tell whether it lives */
        srv_hub_tell_node(s.socket.hub, &s.socket);
        run(&s);
    }
    srv_hub_remove(s.socket.hub, &s.socket);
    srv_ws_reader_free(s.reader);
    close(s.socket.wake);
    return 101;
}

const srv_route SRV_SOCKET_ROUTES[] = { { "GET", "/ws", 0, handle_socket }, { NULL, NULL, 0, NULL } };
