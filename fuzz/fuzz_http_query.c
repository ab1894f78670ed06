/* fuzz_http_query.c - what a request says of itself: path, query, Host, Origin, cookies, tokens, parameters, JSON.
 *
 * The first byte chooses; the rest is the text. A path that is let through has no segment that climbs, and nothing opens a
 * server with a token but the token. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "http_text.h"
#include "json_text.h"
#include "paths.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *text) {
    char out[512];
    int api = 0;
    if (srv_path_decode(out, sizeof out, &api, text)) return;
    if (out[0] != '/' || strchr(out, '\\') || strstr(out, "/../") || strstr(out, "/./")) abort();
    if (!srv_is_utf8(out, strlen(out))) abort();
}

static void check_query(const char *text) {
    char out[64];
    if (srv_query_get(out, sizeof out, text, "filename") != 1) return;
    if (strlen(out) >= sizeof out || !srv_is_utf8(out, strlen(out))) abort();
    if (srv_name_is_good(out) && (strchr(out, '/') || out[0] == '.' || !*out)) abort();
}

static void check_guard(const char *text) {
    static const char token[] = "a-token-nobody-finds-0123456789";
    const srv_guard locked = { .port = 8188, .token = token }, local = { .loopback = 1, .port = 8188 };
    srv_visitor visitor = {
        .method = "GET", .host = "a.example", .authorization = text, .cookie = text, .query = text
    };
    if (srv_guard_check(&locked, &visitor) == SRV_ADMITTED && !strstr(text, "token")) abort();
    visitor = (srv_visitor){ .method = "POST", .host = text };
    if (srv_guard_check(&local, &visitor) == SRV_ADMITTED && !strstr(text, ":8188")) abort();
    visitor = (srv_visitor){ .method = "POST", .host = "localhost:8188", .origin = text };
    if (srv_guard_check(&local, &visitor) == SRV_ADMITTED && !strstr(text, ":8188")) abort();
}

static void check_parameter(const char *text, size_t size) {
    char out[32];
    if (srv_parameter_get(out, sizeof out, text, size, "name") == 1 && strlen(out) >= sizeof out) abort();
    srv_list_has(text, "upgrade");
}

/* What was read can be written and read again, to the same text. */
static void check_json(const char *text, size_t size) {
    json_t *first = NULL, *second = NULL;
    if (srv_json_parse(&first, text, size, NULL) != TSR_OK) return;
    char *once = srv_json_dump(first);
    if (!once || srv_json_parse(&second, once, strlen(once), NULL) != TSR_OK) abort();
    char *twice = srv_json_dump(second);
    if (!twice || strcmp(once, twice) != 0) abort();
    free(once);
    free(twice);
    json_decref(first);
    json_decref(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    char *text = malloc(size);
    if (!text) return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    switch (data[0] % 5) {
    case 0: check_path(text); break;
    case 1: check_query(text); break;
    case 2: check_guard(text); break;
    case 3: check_parameter(text, size - 1); break;
    default: check_json(text, size - 1); break;
    }
    free(text);
    return 0;
}
