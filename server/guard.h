/* server/guard.h - who may ask: Host, Origin and token of one request.
 *
 * Knows strings only. A web page anywhere can make a browser send requests to a server on this machine; what tells those
 * apart is the Host it believed it spoke to (DNS rebinding) and the Origin it came from. */
#ifndef TSR_SERVER_GUARD_H
#define TSR_SERVER_GUARD_H

typedef struct srv_guard {
    int loopback;                     /* the server listens on a loopback address */
    int port;                         /* its own */
    const char *const *allowed_hosts; /* "name" (any port) or "name:port" */
    int n_allowed_hosts;
    const char *token; /* NULL: none asked */
} srv_guard;

/* What a request says of itself; each may be NULL. */
typedef struct srv_visitor {
    const char *method;
    const char *host, *origin, *fetch_site; /* headers Host, Origin, Sec-Fetch-Site */
    const char *authorization, *cookie;
    const char *query; /* undecoded */
    int upgrade;       /* wants a WebSocket */
    int open;          /* the route asks no token */
} srv_visitor;

typedef enum srv_verdict {
    SRV_ADMITTED,
    SRV_WRONG_HOST,   /* 403 */
    SRV_WRONG_ORIGIN, /* 403 */
    SRV_WRONG_TOKEN   /* 401 */
} srv_verdict;

#define SRV_TOKEN_COOKIE "tessera_token"
enum { SRV_TOKEN_MIN = 16, SRV_TOKEN_MAX = 512 };

srv_verdict srv_guard_check(const srv_guard *guard, const srv_visitor *visitor);
/* ?token= alone is right: the page may turn it into a cookie. */
int srv_guard_query_token(const srv_guard *guard, const char *query);

#endif /* TSR_SERVER_GUARD_H */
