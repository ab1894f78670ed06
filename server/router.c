/* server/router.c - see router.h. */
#include "router.h"

#include <stdio.h>
#include <string.h>

#include "request_priv.h"
#include "time_now.h"

static const srv_route *const TABLES[] = { SRV_SOCKET_ROUTES, SRV_JOB_ROUTES, SRV_FILE_ROUTES, SRV_INFO_ROUTES,
                                           SRV_PAGE_ROUTES };
enum { TABLE_COUNT = sizeof TABLES / sizeof *TABLES };

/* How well a pattern fits: 0 not at all, else longer is better, and a whole path best. */
static size_t fit(const srv_route *route, const srv_request *request) {
    size_t length = strlen(route->pattern);
    if ((route->flags & SRV_ROUTE_API_ONLY) && !request->api) return 0;
    if (length && route->pattern[length - 1] == '*')
        return strncmp(request->path, route->pattern, length - 1) == 0 ? length : 0;
    return strcmp(request->path, route->pattern) == 0 ? SRV_PATH_SIZE : 0;
}

/* The route, or NULL; *allowed lists the methods of the path when only the method is wrong. */
static const srv_route *find_route(const srv_request *request, char *allowed, size_t allowed_size) {
    const srv_route *best = NULL;
    const char *method = request->head ? "GET" : request->info->request_method;
    size_t best_fit = 0;
    allowed[0] = 0;
    for (int t = 0; t < TABLE_COUNT; t++) {
        for (const srv_route *route = TABLES[t]; route->method; route++) {
            size_t here = fit(route, request), used = strlen(allowed);
            if (here == 0) continue;
            if (strcmp(route->method, method) != 0) {
                snprintf(allowed + used, allowed_size - used, "%s%s", used ? ", " : "", route->method);
            } else if (here > best_fit) {
                best = route;
                best_fit = here;
            }
        }
    }
    return best;
}

static int answer_unknown(srv_request *request, const char *allowed) {
    static const char NOT_FOUND[] = "{\"error\":\"not found\"}", NOT_ALLOWED[] = "{\"error\":\"method not allowed\"}";
    char header[256];
    if (!*allowed) return srv_answer_json_text(request, 404, NOT_FOUND);
    snprintf(header, sizeof header, "Allow: %s\r\n", allowed);
    return srv_answer_bytes(request, 405, "application/json", NOT_ALLOWED, sizeof NOT_ALLOWED - 1, header);
}

/* --- admission ---------------------------------------------------------------------------------------------------------- */
static srv_verdict admit(const srv_request *request, const srv_route *route) {
    srv_visitor visitor = { .method = request->info->request_method,
                            .host = srv_request_header(request, "Host"),
                            .origin = srv_request_header(request, "Origin"),
                            .fetch_site = srv_request_header(request, "Sec-Fetch-Site"),
                            .authorization = srv_request_header(request, "Authorization"),
                            .cookie = srv_request_header(request, "Cookie"),
                            .query = request->info->query_string,
                            .upgrade = srv_request_header(request, "Upgrade") != NULL,
                            .open = route && (route->flags & SRV_ROUTE_OPEN) };
    return srv_guard_check(&request->context->guard, &visitor);
}

static int refuse(srv_request *request, srv_verdict verdict) {
    static const char ASK[] = "This server asks for its token: open http://HOST:PORT/?token=TOKEN once, or send the "
                              "header Authorization: Bearer TOKEN.\n";
    if (verdict == SRV_WRONG_HOST)
        return srv_answer_text(request, 403, "text/plain; charset=utf-8",
                               "This name is not one this server answers to; --allow-host NAME adds it.\n");
    if (verdict == SRV_WRONG_ORIGIN)
        return srv_answer_text(request, 403, "text/plain; charset=utf-8",
                               "Requests from pages of other sites are not served.\n");
    return srv_answer_bytes(request, 401, "text/plain; charset=utf-8", ASK, sizeof ASK - 1,
                            "WWW-Authenticate: Bearer realm=\"tessera\"\r\n");
}

/* /?token=T becomes a cookie, so that the token stays neither in the address bar nor in links. */
static int keep_token(srv_request *request) {
    char header[SRV_TOKEN_MAX + 160];
    snprintf(header, sizeof header,
             "Location: /\r\nSet-Cookie: " SRV_TOKEN_COOKIE "=%s; Path=/; HttpOnly; SameSite=Strict\r\n",
             request->context->guard.token);
    return srv_answer_bytes(request, 303, NULL, NULL, 0, header);
}

static int serve(srv_request *request) {
    char allowed[128];
    const srv_route *route = find_route(request, allowed, sizeof allowed);
    srv_verdict verdict = admit(request, route);
    if (verdict != SRV_ADMITTED) return refuse(request, verdict);
    if (strcmp(request->path, "/") == 0 && srv_guard_query_token(&request->context->guard, request->info->query_string))
        return keep_token(request);
    if (!route) return answer_unknown(request, allowed);
    size_t length = strlen(route->pattern);
    if (route->pattern[length - 1] == '*') request->rest = request->path + length - 1;
    return route->handle(request);
}

int srv_serve(struct srv_context *context, struct mg_connection *connection) {
    srv_request request;
    double start = srv_clock();
    int status = srv_request_begin(&request, context, connection);
    if (status) status = srv_answer_text(&request, 400, "text/plain; charset=utf-8", "This is no request for us.\n");
    else status = serve(&request);
    if (!request.answered) status = srv_answer_error(&request, 500, "no_answer", "The server failed", "");
    srv_request_end(&request);
    double seconds = srv_clock() - start;
    srv_metrics_request(context->metrics, status, seconds);
    /* Refusals are the client's affair; what the server could not do is ours. */
    if (status >= 500)
        srv_log_event(context->log, SRV_LOG_ERROR, "request_failed", "method=%.16s path=%.200s status=%d seconds=%.3f",
                      request.info->request_method, request.path, status, seconds);
    return status;
}
