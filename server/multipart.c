/* server/multipart.c - see multipart.h. */
#include "multipart.h"

#include <string.h>
#include <strings.h>

#include "http_text.h"

enum { BOUNDARY_SIZE = 71, HEADERS_MAX = 8192 };

/* "\r\n--boundary"; its length, or 0 when there is none. */
static size_t find_boundary(char out[BOUNDARY_SIZE + 4], const char *content_type, const char *body, size_t size) {
    memcpy(out, "\r\n--", 4);
    if (content_type && strncasecmp(content_type, "multipart/", 10) == 0) {
        if (srv_parameter_get(out + 4, BOUNDARY_SIZE, content_type, strlen(content_type), "boundary") != 1) return 0;
    } else {
        size_t length = 0;
        if (size < 4 || memcmp(body, "--", 2) != 0) return 0;
        while (2 + length < size && body[2 + length] != '\r') length++;
        if (length >= BOUNDARY_SIZE || 2 + length == size || memchr(body + 2, 0, length)) return 0;
        memcpy(out + 4, body + 2, length);
        out[4 + length] = 0;
    }
    return out[4] ? strlen(out) : 0;
}

/* A header of a part, by name: its value, and *size of it; NULL when absent. */
static const char *find_header(const char *headers, size_t headers_size, const char *name, size_t *size) {
    size_t name_length = strlen(name);
    for (const char *at = headers, *end = headers + headers_size; at < end;) {
        const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
        if (!line_end) line_end = end;
        size_t length = (size_t)(line_end - at);
        if (length > name_length && at[name_length] == ':' && strncasecmp(at, name, name_length) == 0) {
            at += name_length + 1;
            *size = (size_t)(line_end - at);
            return at;
        }
        at = line_end < end ? line_end + 2 : end;
    }
    return NULL;
}

static const char *read_headers(srv_part *part, const char *headers, size_t size) {
    size_t length = 0;
    const char *value = find_header(headers, size, "Content-Disposition", &length);
    if (!value || srv_parameter_get(part->name, sizeof part->name, value, length, "name") != 1)
        return "a part has no name";
    int named = srv_parameter_get(part->filename, sizeof part->filename, value, length, "filename");
    if (named < 0) return "a file's name is malformed or too long";
    if (named == 0) part->filename[0] = 0;
    if (!srv_is_utf8(part->name, strlen(part->name)) || !srv_is_utf8(part->filename, strlen(part->filename)))
        return "a name is not UTF-8";
    return NULL;
}

/* Reads the part at *at, which moves behind the delimiter that ends it. */
static const char *read_part(srv_part *part, const char **at, const char *end, const char *delimiter, size_t length) {
    size_t room = (size_t)(end - *at) < HEADERS_MAX ? (size_t)(end - *at) : HEADERS_MAX;
    const char *headers = *at, *blank = memmem(headers, room, "\r\n\r\n", 4);
    if (!blank) return "a part's headers do not end";
    const char *fault = read_headers(part, headers, (size_t)(blank - headers));
    if (fault) return fault;
    part->data = blank + 4;
    /* An empty part's delimiter begins with the line end of its headers. */
    const char *stop = memmem(blank + 2, (size_t)(end - blank - 2), delimiter, length);
    if (!stop) return "the body ends within a part";
    part->size = stop > part->data ? (size_t)(stop - part->data) : 0;
    *at = stop + length;
    return NULL;
}

const char *srv_form_parse(srv_form *out, const char *content_type, const void *body, size_t size) {
    char delimiter[BOUNDARY_SIZE + 4];
    const char *at = body, *end = at + size;
    out->count = 0;
    if (size == 0) return "the body is empty";
    size_t length = find_boundary(delimiter, content_type, at, size);
    if (length == 0) return "the form has no boundary";
    if (size >= length - 2 && memcmp(at, delimiter + 2, length - 2) == 0) at += length - 2;
    else if ((at = memmem(at, size, delimiter, length))) at += length;
    else return "the form's boundary is not in its body";
    for (;;) {
        if (end - at >= 2 && memcmp(at, "--", 2) == 0) return NULL;
        while (at < end && (*at == ' ' || *at == '\t')) at++;
        if (end - at < 2 || memcmp(at, "\r\n", 2) != 0) return "a boundary is not on a line of its own";
        at += 2;
        if (out->count == SRV_FORM_PARTS) return "the form has too many parts";
        const char *fault = read_part(&out->parts[out->count], &at, end, delimiter, length);
        if (fault) return fault;
        out->count++;
    }
}

const srv_part *srv_form_part(const srv_form *form, const char *name) {
    for (int i = 0; i < form->count; i++)
        if (strcmp(form->parts[i].name, name) == 0) return &form->parts[i];
    return NULL;
}

int srv_form_text(char *out, size_t out_size, const srv_form *form, const char *name) {
    const srv_part *part = srv_form_part(form, name);
    if (!part) return 0;
    if (part->size >= out_size || memchr(part->data, 0, part->size) || !srv_is_utf8(part->data, part->size)) return -1;
    memcpy(out, part->data, part->size);
    out[part->size] = 0;
    return 1;
}
