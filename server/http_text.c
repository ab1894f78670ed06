/* server/http_text.c - see http_text.h. Functions that read never pass the size they are given. */
#include "http_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- characters ----------------------------------------------------------------------------------------------------------- */
static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Bytes of the UTF-8 sequence at s, 0 when it is none. */
static size_t sequence_length(const unsigned char *s, size_t size) {
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : 0;
    if (s[0] >= 0xf0 && s[0] < 0xf5) n = 4;
    if (n == 0 || n > size) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (n == 3 && s[0] == 0xe0 && s[1] < 0xa0) return 0; /* overlong */
    if (n == 3 && s[0] == 0xed && s[1] > 0x9f) return 0; /* surrogates */
    if (n == 4 && s[0] == 0xf0 && s[1] < 0x90) return 0;
    if (n == 4 && s[0] == 0xf4 && s[1] > 0x8f) return 0;
    return n;
}

int srv_is_utf8(const char *text, size_t size) {
    for (size_t i = 0; i < size;) {
        size_t n = sequence_length((const unsigned char *)text + i, size - i);
        if (n == 0) return 0;
        i += n;
    }
    return 1;
}

long srv_percent_decode(char *out, size_t out_size, const char *text, size_t size, int plus) {
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            int high = size - i > 2 ? hex_digit(text[i + 1]) : -1, low = size - i > 2 ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) return -1;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if ((unsigned char)c < ' ' || c == 0x7f || n + 1 >= out_size) return -1;
        out[n++] = c;
    }
    if (n >= out_size) return -1;
    out[n] = 0;
    return srv_is_utf8(out, n) ? (long)n : -1;
}

/* --- paths and queries ------------------------------------------------------------------------------------------------------ */
static int bad_segment(const char *segment, size_t length) {
    return length == 0 || (length == 1 && segment[0] == '.') || (length == 2 && memcmp(segment, "..", 2) == 0);
}

int srv_path_decode(char *out, size_t out_size, int *api, const char *raw) {
    *api = 0;
    if (raw[0] != '/' || srv_percent_decode(out, out_size, raw, strlen(raw), 0) < 0 || strchr(out, '\\')) return -1;
    for (const char *at = out + 1; *at;) {
        size_t length = strcspn(at, "/");
        if (bad_segment(at, length)) return -1;
        at += length;
        at += *at == '/'; /* one slash at the end is allowed */
    }
    if (strncmp(out, "/api", 4) == 0 && (out[4] == '/' || out[4] == 0)) {
        *api = 1;
        memmove(out, out[4] ? out + 4 : "/", strlen(out[4] ? out + 4 : "/") + 1);
    }
    return 0;
}

int srv_query_get(char *out, size_t out_size, const char *query, const char *name) {
    char key[64];
    while (query && *query) {
        size_t length = strcspn(query, "&"), head = strcspn(query, "=&");
        /* A key that is malformed or too long is not the one that is asked for. */
        if (srv_percent_decode(key, sizeof key, query, head, 1) >= 0 && strcmp(key, name) == 0) {
            size_t start = head < length ? head + 1 : length;
            return srv_percent_decode(out, out_size, query + start, length - start, 1) < 0 ? -1 : 1;
        }
        query += length;
        query += *query == '&';
    }
    return 0;
}

/* --- authorities -------------------------------------------------------------------------------------------------------- */
static int take_port(int *port, const char *text) {
    char *end = NULL;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[0] == '0' || text[digits]) return -1;
    long value = strtol(text, &end, 10);
    if (value < 1 || value > 65535) return -1;
    *port = (int)value;
    return 0;
}

int srv_authority_parse(char *host, size_t host_size, int *port, const char *text) {
    static const char NAME[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    int bracket = text[0] == '[';
    const char *start = text + bracket;
    size_t length = bracket ? strspn(start, "0123456789abcdefABCDEF:.") : strspn(start, NAME);
    *port = -1;
    if (length == 0 || length >= host_size || (bracket && start[length] != ']')) return -1;
    for (size_t i = 0; i < length; i++) host[i] = lower(start[i]);
    host[length] = 0;
    if (!bracket && host[length - 1] == '.' && length > 1) host[length - 1] = 0; /* "localhost." is the same name */
    const char *rest = start + length + bracket;
    if (*rest == 0) return 0;
    return *rest == ':' ? take_port(port, rest + 1) : -1;
}

int srv_origin_parse(char *host, size_t host_size, int *port, const char *text) {
    static const struct {
        const char *prefix;
        int port;
    } schemes[] = { { "http://", 80 }, { "https://", 443 } };
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t length = strlen(schemes[i].prefix);
        if (strncasecmp(text, schemes[i].prefix, length) != 0) continue;
        if (srv_authority_parse(host, host_size, port, text + length)) return -1;
        if (*port < 0) *port = schemes[i].port;
        return 0;
    }
    return -1;
}

int srv_is_loopback(const char *host) {
    if (strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0) return 1;
    unsigned part[4];
    char rest = 0;
    if (strncmp(host, "127.", 4) != 0 || strspn(host, "0123456789.") != strlen(host) || strlen(host) > 15) return 0;
    if (sscanf(host, "%u.%u.%u.%u%c", &part[0], &part[1], &part[2], &part[3], &rest) != 4) return 0;
    return part[1] < 256 && part[2] < 256 && part[3] < 256;
}

/* --- header values -------------------------------------------------------------------------------------------------------- */
int srv_cookie_get(char *out, size_t out_size, const char *header, const char *name) {
    size_t name_length = strlen(name);
    while (header && *header) {
        header += strspn(header, " \t;");
        size_t length = strcspn(header, ";");
        if (length > name_length && strncmp(header, name, name_length) == 0 && header[name_length] == '=') {
            const char *value = header + name_length + 1;
            size_t size = length - name_length - 1;
            while (size && (value[size - 1] == ' ' || value[size - 1] == '\t')) size--;
            if (size >= 2 && value[0] == '"' && value[size - 1] == '"') {
                value++;
                size -= 2;
            }
            if (size >= out_size) return 0;
            memcpy(out, value, size);
            out[size] = 0;
            return 1;
        }
        header += length;
    }
    return 0;
}

/* Reads a value at text[*at], quoted or plain, into out (which may be NULL: skipped). 0, or -1. */
static int take_value(char *out, size_t out_size, const char *text, size_t size, size_t *at) {
    size_t n = 0;
    int quoted = *at < size && text[*at] == '"';
    *at += (size_t)quoted;
    for (; *at < size; (*at)++) {
        char c = text[*at];
        if (quoted && c == '"') break;
        if (!quoted && (c == ';' || c == ' ' || c == '\t')) break;
        /* Browsers write a quote in a file name as %22; others put a backslash before it, and before nothing else. */
        if (quoted && c == '\\' && *at + 1 < size && (text[*at + 1] == '"' || text[*at + 1] == '\\')) c = text[++*at];
        if ((unsigned char)c < ' ') return -1;
        if (out && n + 1 >= out_size) return -1;
        if (out) out[n] = c;
        n++;
    }
    if (quoted && *at >= size) return -1;
    *at += (size_t)quoted;
    if (out) out[n] = 0;
    return 0;
}

int srv_parameter_get(char *out, size_t out_size, const char *header, size_t header_size, const char *name) {
    size_t at = 0, name_length = strlen(name);
    while (at < header_size && header[at] != ';') at++;
    while (at < header_size) {
        while (at < header_size && (header[at] == ';' || header[at] == ' ' || header[at] == '\t')) at++;
        size_t start = at;
        while (at < header_size && header[at] != '=' && header[at] != ';') at++;
        if (at >= header_size || header[at] != '=') continue;
        int wanted = at - start == name_length && strncasecmp(header + start, name, name_length) == 0;
        at++;
        if (take_value(wanted ? out : NULL, out_size, header, header_size, &at)) return -1;
        if (wanted) return 1;
        while (at < header_size && header[at] != ';') at++;
    }
    return 0;
}

int srv_list_has(const char *header, const char *word) {
    size_t length = strlen(word);
    while (header && *header) {
        header += strspn(header, " \t,");
        size_t n = strcspn(header, ",");
        size_t end = n;
        while (end && (header[end - 1] == ' ' || header[end - 1] == '\t')) end--;
        if (end == length && strncasecmp(header, word, length) == 0) return 1;
        header += n;
    }
    return 0;
}

int srv_same_secret(const char *a, const char *b) {
    size_t a_length = strlen(a), b_length = strlen(b);
    volatile unsigned char difference = a_length != b_length;
    for (size_t i = 0; i < a_length; i++) {
        unsigned char other = b_length ? (unsigned char)b[i % b_length] : 0;
        difference = (unsigned char)(difference | ((unsigned char)a[i] ^ other));
    }
    return difference == 0;
}
