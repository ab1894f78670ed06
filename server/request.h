/* server/request.h - one HTTP request and its answer; the table of routes.
 *
 * Handlers return the HTTP status they sent. They must send exactly one answer. */
#ifndef TSR_SERVER_REQUEST_H
#define TSR_SERVER_REQUEST_H

#include <jansson.h>
#include <stddef.h>

#include "context.h"

typedef struct srv_request srv_request;

/* --- what came ---------------------------------------------------------------------------------------------------------- */
const char *srv_request_method(const srv_request *request);
const char *srv_request_path(const srv_request *request); /* decoded, without /api, without query */
/* The part of the path that the route's "*" stands for, decoded; "" when the route has none. */
const char *srv_request_rest(const srv_request *request);
int srv_request_is_api(const srv_request *request); /* came below /api */
/* Decoded value of a query parameter; NULL when absent. Valid while the request is. */
const char *srv_request_query(srv_request *request, const char *name);
/* The body as JSON (read by srv_json_parse), whatever its Content-Type; an empty body gives *out NULL. Answers 400 or 413
 * itself and returns that status; 0 when all is well. Release *out with json_decref. */
int srv_request_json(json_t **out, srv_request *request);
srv_context *srv_request_context(const srv_request *request);
struct mg_connection *srv_request_connection(const srv_request *request);

/* --- what goes ---------------------------------------------------------------------------------------------------------- */
int srv_answer_empty(srv_request *request, int status);
int srv_answer_text(srv_request *request, int status, const char *type, const char *text);
int srv_answer_bytes(srv_request *request, int status, const char *type, const void *data, size_t size,
                     const char *extra_headers); /* "Name: value\r\n"... or NULL */
/* The first `size` bytes of an open file, whose position is at its start; status 200. */
int srv_answer_file(srv_request *request, int fd, long long size, const char *type, const char *extra_headers);
/* Takes the reference to json. */
int srv_answer_json(srv_request *request, int status, json_t *json);
/* JSON that is text already. */
int srv_answer_json_text(srv_request *request, int status, const char *text);
/* {"error": {"type", "message", "details", "extra_info": {}}, "node_errors": {}} */
int srv_answer_error(srv_request *request, int status, const char *type, const char *message, const char *details);

/* --- routes ------------------------------------------------------------------------------------------------------------- */
enum {
    SRV_ROUTE_API_ONLY = 1, /* only below /api */
    SRV_ROUTE_OPEN = 2      /* no token asked (health) */
};

typedef struct srv_route {
    const char *method;  /* "GET", "POST", ... */
    const char *pattern; /* "/history", or with one trailing "*": "/history/" "*" */
    unsigned flags;
    int (*handle)(srv_request *request);
} srv_route;

/* Each file of routes has one table that ends with a NULL method; router.c knows them all. */
extern const srv_route SRV_JOB_ROUTES[];    /* routes_jobs.c: /prompt /queue /history /interrupt /free /api/jobs */
extern const srv_route SRV_FILE_ROUTES[];   /* routes_files.c: /view /upload/image /upload/mask /view_metadata */
extern const srv_route SRV_INFO_ROUTES[];   /* routes_info.c: /object_info /system_stats /features /models /embeddings
                                             /extensions /health /metrics /tessera/... */
extern const srv_route SRV_SOCKET_ROUTES[]; /* hub_socket.c: /ws */
extern const srv_route SRV_PAGE_ROUTES[];   /* routes_page.c: / and the page's files, embedded */

#endif /* TSR_SERVER_REQUEST_H */
