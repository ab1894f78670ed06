/* server/body.c - see body.h and srv_request_json in request.h. */
#include "body.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "json_text.h"
#include "request_priv.h"
#include "time_now.h"

enum { CHUNK = 64 << 10 };

/* Takes the next bytes; not 0 when it cannot. */
typedef int (*sink_fn)(void *user, const void *data, size_t size);

static int too_large(srv_request *request, size_t limit) {
    char details[64];
    snprintf(details, sizeof details, "%zu bytes are the most", limit);
    return srv_answer_error(request, 413, "request_too_large", "The body is too large", details);
}

/* Gives the whole body to sink. Answers itself when that fails. */
static int read_body(srv_request *request, size_t limit, sink_fn sink, void *user) {
    long long announced = request->info->content_length; /* 0 or -1 when it comes in chunks */
    int chunked = srv_request_header(request, "Transfer-Encoding") != NULL;
    const char *expect = srv_request_header(request, "Expect");
    double patience = request->context->options.patience, start = srv_clock();
    size_t total = 0;
    char bytes[CHUNK];
    if (!request->has_body) return 0;
    if (!chunked && (unsigned long long)announced > limit) return too_large(request, limit);
    srv_peer_allow(request->peer, patience, 0);
    if (expect && strcasecmp(expect, "100-continue") == 0)
        mg_write(request->connection, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    for (;;) {
        int n = mg_read(request->connection, bytes, sizeof bytes);
        if (n == 0) break;
        if (n > 0 && (size_t)n > limit - total) return too_large(request, limit);
        if (n < 0) return srv_answer_error(request, 400, "bad_body", "The body did not arrive whole", "");
        if (sink(user, bytes, (size_t)n))
            return srv_answer_error(request, 507, "no_space", "The body could not be stored", "");
        total += (size_t)n;
        srv_peer_allow(request->peer, start - srv_clock() + patience, (long long)total);
        if (!chunked && total == (size_t)announced) break;
    }
    request->body_read = 1;
    if (!chunked && total != (size_t)announced)
        return srv_answer_error(request, 400, "bad_body", "The body did not arrive whole", "");
    return 0;
}

/* --- JSON --------------------------------------------------------------------------------------------------------------- */
typedef struct buffer {
    char *data;
    size_t size, room;
} buffer;

static int add_to_buffer(void *user, const void *data, size_t size) {
    buffer *b = user;
    if (b->room - b->size < size) {
        size_t room = b->room ? b->room * 2 : CHUNK;
        while (room - b->size < size) room *= 2;
        char *grown = realloc(b->data, room);
        if (!grown) return -1;
        b->data = grown;
        b->room = room;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
    return 0;
}

static int is_blank(const buffer *b) {
    for (size_t i = 0; i < b->size; i++)
        if (!strchr(" \t\r\n", b->data[i]) || !b->data[i]) return 0;
    return 1;
}

int srv_request_json(json_t **out, srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    buffer b = { 0 };
    *out = NULL;
    int status = read_body(request, request->context->options.max_body, add_to_buffer, &b);
    if (!status && !is_blank(&b) && srv_json_parse(out, b.data, b.size, &err) != TSR_OK)
        status = srv_answer_error(request, 400, "invalid_json", "The body is not JSON that can be read", err.message);
    free(b.data);
    return status;
}

/* --- uploads -------------------------------------------------------------------------------------------------------------- */
static int add_to_file(void *user, const void *data, size_t size) {
    const int *fd = user;
    const char *at = data;
    while (size) {
        ssize_t n = write(*fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

/* A file that vanishes with its descriptor. */
static int open_nameless(const char *folder) {
    char name[4096];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    if (snprintf(name, sizeof name, "%s/.upload-XXXXXX", folder) >= (int)sizeof name) return -1;
    fd = mkstemp(name);
    if (fd >= 0) unlink(name);
    return fd;
}

int srv_request_spool(srv_spool *out, srv_request *request, size_t limit) {
    memset(out, 0, sizeof *out);
    int fd = open_nameless(request->context->options.data);
    if (fd < 0) return srv_answer_error(request, 507, "no_space", "The body could not be stored", "");
    int status = read_body(request, limit, add_to_file, &fd);
    off_t size = status ? 0 : lseek(fd, 0, SEEK_END);
    if (size > 0) {
        void *map = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) status = srv_answer_error(request, 507, "no_space", "The body could not be stored", "");
        else *out = (srv_spool){ map, (size_t)size };
    }
    close(fd);
    return status;
}

void srv_spool_clear(srv_spool *spool) {
    if (spool->data) munmap((void *)(size_t)spool->data, spool->size);
    spool->data = NULL;
}
