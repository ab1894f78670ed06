/* server/http_text.h - the small languages of HTTP: percent encoding, paths, queries, authorities, cookies.
 *
 * Knows strings only, no connection and no CivetWeb, so that tests and fuzz targets can call it alone. Everything it reads
 * comes from strangers. */
#ifndef TSR_SERVER_HTTP_TEXT_H
#define TSR_SERVER_HTTP_TEXT_H

#include <stddef.h>

/* Decodes %XX (and + as space when `plus`) of text[0..size) into out, with a final NUL. Returns the length, or -1 when an
 * escape is malformed, the result holds a NUL byte or other control character, is no UTF-8, or has no room. */
long srv_percent_decode(char *out, size_t out_size, const char *text, size_t size, int plus);

/* Decodes the path of a request into out. It must start with '/' and may hold no empty, "." or ".." segment and no
 * backslash, encoded or plain. "/api" and "/api/..." lose their first segment and set *api. 0, or -1. */
int srv_path_decode(char *out, size_t out_size, int *api, const char *raw);

/* The decoded value of a query parameter in out. 1; 0 when absent; -1 when malformed or too long. */
int srv_query_get(char *out, size_t out_size, const char *query, const char *name);

/* "host", "host:port", "[v6]:port". host is lower case, without brackets; *port is -1 when none is given. 0, or -1 when it
 * is no authority. */
int srv_authority_parse(char *host, size_t host_size, int *port, const char *text);
/* The authority of an Origin ("https://host:port") and the port that its scheme implies. 0, or -1 ("null", malformed). */
int srv_origin_parse(char *host, size_t host_size, int *port, const char *text);
/* "localhost", 127.0.0.0/8 or ::1. */
int srv_is_loopback(const char *host);

/* The value of a cookie in a Cookie header. 1, or 0. */
int srv_cookie_get(char *out, size_t out_size, const char *header, const char *name);

/* A parameter of a header value: boundary in `multipart/form-data; boundary="x"`. Quotes and escapes are resolved; names
 * are compared without case. 1, 0 when absent, -1 when malformed or too long. */
int srv_parameter_get(char *out, size_t out_size, const char *header, size_t header_size, const char *name);

/* Whether a list header ("Connection: keep-alive, Upgrade") holds the word, without case. */
int srv_list_has(const char *header, const char *word);

/* Equal strings, in a time that depends on their lengths only. */
int srv_same_secret(const char *a, const char *b);

/* Valid UTF-8 without overlong forms and surrogates. */
int srv_is_utf8(const char *text, size_t size);

#endif /* TSR_SERVER_HTTP_TEXT_H */
