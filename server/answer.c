/* server/answer.c - what goes: see request.h. Every answer carries its length, so that connections stay open. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json_text.h"
#include "request_priv.h"

enum { HEAD_SIZE = 4096, JOINED = 32 << 10, SPARE_THREADS = 16, UNREAD_BYTES = 64 << 10 };

/* A client keeps its connection unless others wait for a thread, or the rest of its body is not worth reading. */
static int must_close(const srv_request *request) {
    const srv_context *context = request->context;
    int unread = request->has_body && !request->body_read;
    if (!request->peer || srv_peers_count(context->peers) > context->threads - SPARE_THREADS) return 1;
    return unread && (request->info->content_length <= 0 || request->info->content_length > UNREAD_BYTES);
}

/* Writes the head of an answer into out; its length, or 0 when it does not fit. */
static size_t write_head(char *out, srv_request *request, int status, const char *type, long long size,
                         const char *extra) {
    int closing = must_close(request);
    if (closing) mg_disable_connection_keep_alive(request->connection);
    if (!extra) extra = "";
    int n = snprintf(out, HEAD_SIZE,
                     "HTTP/1.1 %d %s\r\nContent-Length: %lld\r\n%s%s%sConnection: %s\r\n"
                     "X-Content-Type-Options: nosniff\r\n%s%s\r\n",
                     status, mg_get_response_code_text(request->connection, status), size, type ? "Content-Type: " : "",
                     type ? type : "", type ? "\r\n" : "", closing ? "close" : "keep-alive",
                     strstr(extra, "Cache-Control:") ? "" : "Cache-Control: no-store\r\n", extra);
    return n > 0 && n < HEAD_SIZE ? (size_t)n : 0;
}

/* 1, or 0 when the client did not take all: then nothing may follow on the connection, an answer to a pipelined request
 * neither. */
static int write_out(srv_request *request, const void *data, size_t size) {
    if (mg_write(request->connection, data, size) == (int)size) return 1;
    mg_disable_connection_keep_alive(request->connection);
    return 0;
}

int srv_answer_bytes(srv_request *request, int status, const char *type, const void *data, size_t size,
                     const char *extra_headers) {
    char text[HEAD_SIZE + JOINED];
    size_t head = write_head(text, request, status, type, (long long)size, extra_headers);
    request->answered = status;
    srv_peer_allow(request->peer, request->context->options.patience, (long long)size);
    if (head == 0) {
        mg_disable_connection_keep_alive(request->connection);
        return status;
    }
    size_t sent = request->head || status == 304 || status == 204 ? 0 : size;
    if (sent <= JOINED) {
        if (sent) memcpy(text + head, data, sent);
        write_out(request, text, head + sent);
    } else if (write_out(request, text, head)) {
        write_out(request, data, sent);
    }
    return status;
}

int srv_answer_file(srv_request *request, int fd, long long size, const char *type, const char *extra_headers) {
    char text[JOINED];
    size_t head = write_head(text, request, 200, type, size, extra_headers);
    request->answered = 200;
    srv_peer_allow(request->peer, request->context->options.patience, size);
    int good = head && mg_write(request->connection, text, head) == (int)head;
    for (long long left = request->head ? 0 : size; good && left > 0;) {
        ssize_t n = read(fd, text, left < JOINED ? (size_t)left : (size_t)JOINED);
        /* A file that shrinks meanwhile: the length is promised, so the connection must end. */
        good = n > 0 && mg_write(request->connection, text, (size_t)n) == n;
        left -= n;
    }
    if (!good) mg_disable_connection_keep_alive(request->connection);
    return 200;
}

int srv_answer_empty(srv_request *request, int status) {
    return srv_answer_bytes(request, status, NULL, NULL, 0, NULL);
}

int srv_answer_text(srv_request *request, int status, const char *type, const char *text) {
    return srv_answer_bytes(request, status, type, text, strlen(text), NULL);
}

int srv_answer_json_text(srv_request *request, int status, const char *text) {
    return srv_answer_text(request, status, "application/json; charset=utf-8", text);
}

int srv_answer_json(srv_request *request, int status, json_t *json) {
    char *text = json ? srv_json_dump(json) : NULL;
    json_decref(json);
    if (!text) return srv_answer_text(request, 500, "text/plain; charset=utf-8", "out of memory\n");
    srv_answer_json_text(request, status, text);
    free(text);
    return status;
}

int srv_answer_error(srv_request *request, int status, const char *type, const char *message, const char *details) {
    return srv_answer_json(request, status,
                           json_pack("{s:{s:s, s:s, s:s, s:{}}, s:{}}", "error", "type", type, "message", message,
                                     "details", details ? details : "", "extra_info", "node_errors"));
}
