/* server/request.c - what came: see request.h. Bodies are in body.c, answers in answer.c. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_text.h"
#include "request_priv.h"

enum { DRAIN_BYTES = 16 << 20 };
#define DRAIN_SECONDS   2.0
#define REQUEST_SECONDS 60.0

int srv_request_begin(srv_request *request, srv_context *context, struct mg_connection *connection) {
    const char *expect_body;
    memset(request, 0, sizeof *request);
    request->context = context;
    request->connection = connection;
    request->info = mg_get_request_info(connection);
    request->peer = srv_peer_of(context->peers, connection);
    request->rest = "";
    request->head = strcmp(request->info->request_method, "HEAD") == 0;
    expect_body = mg_get_header(connection, "Transfer-Encoding");
    request->has_body = expect_body || request->info->content_length > 0;
    srv_peer_allow(request->peer, REQUEST_SECONDS, 0);
    if (expect_body && mg_get_header(connection, "Content-Length")) return -1; /* which of them is right? */
    if (!request->info->local_uri_raw) return -1;
    return srv_path_decode(request->path, sizeof request->path, &request->api, request->info->local_uri_raw);
}

void srv_request_end(srv_request *request) {
    char bytes[16384];
    long long total = 0;
    int n;
    while (request->values) {
        srv_query_value *next = request->values->next;
        free(request->values);
        request->values = next;
    }
    srv_peer_allow(request->peer, DRAIN_SECONDS, 0);
    if (request->has_body && !request->body_read)
        while (total < DRAIN_BYTES && (n = mg_read(request->connection, bytes, sizeof bytes)) > 0) total += n;
    srv_peer_rest(request->peer);
}

const char *srv_request_method(const srv_request *request) {
    return request->info->request_method;
}

const char *srv_request_path(const srv_request *request) {
    return request->path;
}

const char *srv_request_rest(const srv_request *request) {
    return request->rest;
}

int srv_request_is_api(const srv_request *request) {
    return request->api;
}

const char *srv_request_header(const srv_request *request, const char *name) {
    return mg_get_header(request->connection, name);
}

const char *srv_request_query(srv_request *request, const char *name) {
    char value[SRV_VALUE_SIZE];
    size_t name_size = strlen(name) + 1;
    for (const srv_query_value *known = request->values; known; known = known->next)
        if (strcmp(known->text, name) == 0) return known->text + name_size;
    if (srv_query_get(value, sizeof value, request->info->query_string, name) != 1) return NULL;
    srv_query_value *fresh = malloc(sizeof *fresh + name_size + strlen(value) + 1);
    if (!fresh) return NULL;
    memcpy(fresh->text, name, name_size);
    memcpy(fresh->text + name_size, value, strlen(value) + 1);
    fresh->next = request->values;
    request->values = fresh;
    return fresh->text + name_size;
}

srv_context *srv_request_context(const srv_request *request) {
    return request->context;
}

struct mg_connection *srv_request_connection(const srv_request *request) {
    return request->connection;
}
