/* server/guard.c - see guard.h. */
#include "guard.h"

#include <string.h>
#include <strings.h>

#include "http_text.h"

enum { HOST_SIZE = 256 };

static int is_allowed(const srv_guard *guard, const char *host, int port) {
    for (int i = 0; i < guard->n_allowed_hosts; i++) {
        char name[HOST_SIZE];
        int wanted = -1;
        if (srv_authority_parse(name, sizeof name, &wanted, guard->allowed_hosts[i])) continue;
        if (strcmp(name, host) == 0 && (wanted < 0 || wanted == port)) return 1;
    }
    return 0;
}

/* A server on loopback is reached by loopback names only, or by those its owner has named. One that listens to the world
 * cannot know its names; there the token keeps strangers' pages out, since their browsers do not have it. */
static int host_is_right(const srv_guard *guard, const char *header) {
    char host[HOST_SIZE];
    int port = -1;
    if (!header || srv_authority_parse(host, sizeof host, &port, header)) return 0;
    if (!guard->loopback && guard->n_allowed_hosts == 0) return 1;
    if (port < 0) port = 80;
    return (srv_is_loopback(host) && port == guard->port) || is_allowed(guard, host, port);
}

/* An Origin must be the authority that the request went to. Behind a proxy that ends TLS the Host has no port and the
 * Origin's scheme implies another one: then the names decide. */
static int origin_is_right(const char *origin, const char *host_header) {
    char from[HOST_SIZE], to[HOST_SIZE];
    int from_port = -1, to_port = -1;
    if (srv_origin_parse(from, sizeof from, &from_port, origin)) return 0;
    if (srv_authority_parse(to, sizeof to, &to_port, host_header) || strcmp(from, to) != 0) return 0;
    return to_port < 0 ? from_port == 80 || from_port == 443 : from_port == to_port;
}

static int changes_state(const srv_visitor *visitor) {
    return visitor->upgrade || (strcmp(visitor->method, "GET") != 0 && strcmp(visitor->method, "HEAD") != 0);
}

int srv_guard_query_token(const srv_guard *guard, const char *query) {
    char given[SRV_TOKEN_MAX + 2];
    return guard->token && srv_query_get(given, sizeof given, query, "token") == 1 &&
           srv_same_secret(given, guard->token);
}

static int token_is_right(const srv_guard *guard, const srv_visitor *visitor) {
    char given[SRV_TOKEN_MAX + 2];
    const char *bearer = visitor->authorization;
    if (bearer && strncasecmp(bearer, "Bearer ", 7) == 0) {
        bearer += 7 + strspn(bearer + 7, " ");
        if (srv_same_secret(bearer, guard->token)) return 1;
    }
    if (srv_guard_query_token(guard, visitor->query)) return 1;
    return srv_cookie_get(given, sizeof given, visitor->cookie, SRV_TOKEN_COOKIE) &&
           srv_same_secret(given, guard->token);
}

srv_verdict srv_guard_check(const srv_guard *guard, const srv_visitor *visitor) {
    if (!host_is_right(guard, visitor->host)) return SRV_WRONG_HOST;
    if (visitor->origin && !origin_is_right(visitor->origin, visitor->host)) return SRV_WRONG_ORIGIN;
    if (visitor->fetch_site && strcasecmp(visitor->fetch_site, "cross-site") == 0 && changes_state(visitor))
        return SRV_WRONG_ORIGIN;
    if (guard->token && !visitor->open && !token_is_right(guard, visitor)) return SRV_WRONG_TOKEN;
    return SRV_ADMITTED;
}
