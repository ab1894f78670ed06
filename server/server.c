/* server/server.c - start and stop: see server.h. The order of both is the order of who needs whom. */
#include "server.h"

#include <arpa/inet.h>
#include <civetweb.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "companion.h"
#include "context.h"
#include "fault.h"
#include "info_cache.h"
#include "peer.h"
#include "router.h"
#include "server_features.h"

enum { CLIENT_THREADS = 128, MAX_HOSTS = 64, LISTEN_BACKLOG = 256, HEAD_MS = 10000, KEEP_ALIVE_MS = 15000 };

struct srv_server {
    srv_context context;
    struct mg_context *civet;
    int library; /* CivetWeb is initialised */
    char listen[64];
    char token[SRV_TOKEN_MAX + 2];
    char *strings[8]; /* folders */
    int n_strings;
    char *hosts[MAX_HOSTS];
    char last_words[256]; /* of CivetWeb, when it did not start */
    atomic_int ready;
};

/* --- options ---------------------------------------------------------------------------------------------------------------- */
static tsr_status keep_string(srv_server *server, const char **field, tsr_error *err) {
    if (!*field) return TSR_OK;
    char *copy = strdup(*field);
    if (!copy) return srv_fail(err, TSR_NO_MEMORY, "out of memory");
    server->strings[server->n_strings++] = copy;
    *field = copy;
    return TSR_OK;
}

/* The folder and those above it. */
static tsr_status make_folder(const char *path, tsr_error *err) {
    char part[4096];
    struct stat about;
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) return srv_fail(err, TSR_BAD_ARGUMENT, "a folder's name is too long");
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST && i == length)
            return srv_fail(err, TSR_IO, "%.200s: cannot make this folder: %s", path, strerror(errno));
    }
    if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) return srv_fail(err, TSR_IO, "%.200s: not a folder", path);
    return TSR_OK;
}

static tsr_status take_folders(srv_server *server, tsr_error *err) {
    srv_options *o = &server->context.options;
    const char **required[] = { &o->input, &o->output, &o->temp, &o->data };
    static const char *const names[] = { "input", "output", "temp", "data" };
    tsr_status status = TSR_OK;
    char *shipped = NULL;
    struct stat about;
    SRV_TRY(keep_string(server, &o->models, err));
    if (!o->models) {
        SRV_TRY(tsr_engine_find_model(&shipped, err));
        char *slash = strrchr(shipped, '/');
        if (slash) *slash = 0;
        o->models = shipped;
        SRV_TRY(keep_string(server, &o->models, err));
    }
    if (stat(o->models, &about) != 0 || !S_ISDIR(about.st_mode))
        SRV_FAIL(err, TSR_NOT_FOUND, "%.200s: there is no such folder of models", o->models);
    for (int i = 0; i < 4; i++) {
        if (!*required[i] || !**required[i]) SRV_FAIL(err, TSR_BAD_ARGUMENT, "the %s folder is not given", names[i]);
        SRV_TRY(keep_string(server, required[i], err));
        SRV_TRY(make_folder(*required[i], err));
        if (i > 0 && access(*required[i], W_OK | X_OK) != 0)
            SRV_FAIL(err, TSR_IO, "%.200s: the %s folder cannot be written to: %s", *required[i], names[i],
                     strerror(errno));
    }
done:
    tsr_free(shipped);
    return status;
}

static tsr_status take_hosts(srv_server *server, tsr_error *err) {
    srv_options *o = &server->context.options;
    if (o->n_allowed_hosts > MAX_HOSTS)
        return srv_fail(err, TSR_TOO_LARGE, "at most %d hosts can be allowed", MAX_HOSTS);
    for (int i = 0; i < o->n_allowed_hosts; i++) {
        server->hosts[i] = strdup(o->allowed_hosts[i]);
        if (!server->hosts[i]) return srv_fail(err, TSR_NO_MEMORY, "out of memory");
    }
    o->allowed_hosts = (const char *const *)server->hosts;
    return TSR_OK;
}

static tsr_status take_address(srv_server *server, tsr_error *err) {
    srv_options *o = &server->context.options;
    struct in_addr address;
    const char *text = o->listen && *o->listen ? o->listen : "127.0.0.1";
    if (strcmp(text, "localhost") == 0) text = "127.0.0.1";
    if (strlen(text) >= sizeof server->listen || inet_pton(AF_INET, text, &address) != 1)
        return srv_fail(err, TSR_BAD_ARGUMENT,
                        "--listen takes an IPv4 address such as 127.0.0.1 or 0.0.0.0, not '%.80s'", text);
    if (o->port < 0 || o->port > 65535)
        return srv_fail(err, TSR_BAD_ARGUMENT, "the port is 0 to 65535, not %d", o->port);
    snprintf(server->listen, sizeof server->listen, "%s", text);
    o->listen = server->listen;
    server->context.guard.loopback = (ntohl(address.s_addr) >> 24) == 127;
    return TSR_OK;
}

/* The token is its file's first line. */
static tsr_status take_token(srv_server *server, tsr_error *err) {
    srv_options *o = &server->context.options;
    if (!o->token_file) {
        if (server->context.guard.loopback) return TSR_OK;
        return srv_fail(err, TSR_BAD_ARGUMENT, "others can reach %s: --token-file is needed to listen there",
                        server->listen);
    }
    FILE *file = fopen(o->token_file, "re");
    if (!file) return srv_fail(err, TSR_IO, "%.200s: cannot read the token: %s", o->token_file, strerror(errno));
    char *line = fgets(server->token, sizeof server->token, file);
    fclose(file);
    size_t length = line ? strcspn(line, "\r\n") : 0;
    server->token[length] = 0;
    for (size_t i = 0; i < length; i++)
        if (server->token[i] <= ' ' || server->token[i] >= 0x7f || strchr("\",;\\", server->token[i])) length = 0;
    if (length < SRV_TOKEN_MIN || length > SRV_TOKEN_MAX)
        return srv_fail(err, TSR_BAD_ARGUMENT,
                        "%.200s: the first line must be a token of %d to %d letters, digits and signs", o->token_file,
                        SRV_TOKEN_MIN, SRV_TOKEN_MAX);
    server->context.guard.token = server->token;
    return TSR_OK;
}

static tsr_status take_options(srv_server *server, const srv_options *options, tsr_error *err) {
    srv_context *context = &server->context;
    srv_options *o = &context->options;
    tsr_status status = TSR_OK;
    *o = *options;
    if (o->max_queue <= 0) o->max_queue = 1000;
    if (o->max_body == 0) o->max_body = (size_t)64 << 20;
    if (o->max_upload == 0) o->max_upload = (size_t)100 << 20;
    if (o->max_sockets <= 0) o->max_sockets = 64;
    if (o->max_history <= 0) o->max_history = 10000;
    if (o->ping_seconds <= 0.0) o->ping_seconds = 30.0;
    if (o->patience <= 0.0) o->patience = 30.0;
    context->threads = o->max_sockets + CLIENT_THREADS;
    SRV_TRY(take_folders(server, err));
    SRV_TRY(take_hosts(server, err));
    SRV_TRY(take_address(server, err));
    SRV_TRY(take_token(server, err));
    o->token_file = NULL;
    context->guard.allowed_hosts = o->allowed_hosts;
    context->guard.n_allowed_hosts = o->n_allowed_hosts;
done:
    return status;
}

/* --- CivetWeb ----------------------------------------------------------------------------------------------------------------- */
typedef struct arrival {
    srv_context *context;
    struct mg_connection *connection;
} arrival;

static int serve_arrival(void *user) {
    const arrival *a = user;
    return srv_serve(a->context, a->connection);
}

static void *on_thread(const struct mg_context *civet, int kind) {
    (void)civet;
    return kind == 1 ? srv_companion_new() : NULL; /* 1: a thread that serves */
}

static void on_thread_end(const struct mg_context *civet, int kind, void *companion) {
    (void)civet;
    if (kind == 1) srv_companion_free(companion);
}

static int on_request(struct mg_connection *connection) {
    srv_server *server = mg_get_user_data(mg_get_context(connection));
    srv_companion *companion = mg_get_thread_pointer(connection);
    arrival a = { &server->context, connection };
    if (!atomic_load(&server->ready) || !companion) {
        static const char TEXT[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        mg_disable_connection_keep_alive(connection);
        mg_write(connection, TEXT, sizeof TEXT - 1);
        return 503;
    }
    return srv_companion_run(companion, serve_arrival, &a);
}

/* What CivetWeb refuses by itself. Its own page has a Date from gmtime(), whose buffer all threads share. */
static int on_error(struct mg_connection *connection, int status, const char *message) {
    char text[160];
    (void)message;
    int n = snprintf(text, sizeof text, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status,
                     mg_get_response_code_text(connection, status));
    mg_disable_connection_keep_alive(connection);
    if (n > 0 && n < (int)sizeof text) mg_write(connection, text, (size_t)n);
    return 0;
}

static void on_close(const struct mg_connection *connection) {
    srv_server *server = mg_get_user_data(mg_get_context(connection));
    srv_peer_closed(server->context.peers, connection);
}

/* CivetWeb's own words go nowhere once it runs: they quote what clients sent. */
static int on_message(const struct mg_connection *connection, const char *message) {
    if (connection && mg_get_context(connection)) {
        srv_server *server = mg_get_user_data(mg_get_context(connection));
        if (server && !atomic_load(&server->ready))
            snprintf(server->last_words, sizeof server->last_words, "%s", message);
    }
    return 1;
}

/* CivetWeb does not tell why it cannot listen. */
static tsr_status try_address(const srv_options *options, tsr_error *err) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)options->port) };
    const int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return srv_fail(err, TSR_IO, "cannot open a socket: %s", strerror(errno));
    inet_pton(AF_INET, options->listen, &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    int failed = bind(fd, (struct sockaddr *)&address, sizeof address) ? errno : 0;
    close(fd);
    if (!failed) return TSR_OK;
    return srv_fail(err, TSR_IO, "cannot listen on %s:%d: %s%s", options->listen, options->port, strerror(failed),
                    failed == EADDRINUSE ? "; another program, or another Tessera, does; --port N takes another port"
                                         : "");
}

static tsr_status listen_there(srv_server *server, tsr_error *err) {
    srv_context *context = &server->context;
    char address[80], threads[16], backlog[16], request_ms[16], keep_alive_ms[16];
    struct mg_callbacks callbacks;
    struct mg_server_port port;
    snprintf(address, sizeof address, "%s:%d", server->listen, context->options.port);
    snprintf(threads, sizeof threads, "%d", context->threads);
    snprintf(backlog, sizeof backlog, "%d", LISTEN_BACKLOG);
    double head_ms = context->options.patience * 1000.0;
    snprintf(request_ms, sizeof request_ms, "%d", head_ms < HEAD_MS ? (int)head_ms : HEAD_MS);
    snprintf(keep_alive_ms, sizeof keep_alive_ms, "%d", KEEP_ALIVE_MS);
    const char *settings[] = { "listening_ports",
                               address,
                               "num_threads",
                               threads,
                               "listen_backlog",
                               backlog,
                               "connection_queue",
                               backlog,
                               "request_timeout_ms",
                               request_ms,
                               "keep_alive_timeout_ms",
                               keep_alive_ms,
                               "enable_keep_alive",
                               "yes",
                               "tcp_nodelay",
                               "1",
                               "decode_url",
                               "no",
                               "enable_directory_listing",
                               "no",
                               NULL };
    memset(&callbacks, 0, sizeof callbacks);
    callbacks.init_thread = on_thread;
    callbacks.exit_thread = on_thread_end;
    callbacks.begin_request = on_request;
    callbacks.connection_close = on_close;
    callbacks.http_error = on_error;
    callbacks.log_message = on_message;
    mg_init_library(MG_FEATURES_DEFAULT);
    server->library = 1;
    server->civet = mg_start(&callbacks, server, settings);
    if (!server->civet)
        return srv_fail(err, TSR_IO, "cannot listen on %s%s%.150s", address, *server->last_words ? ": " : "",
                        server->last_words);
    if (mg_get_server_ports(server->civet, 1, &port) != 1)
        return srv_fail(err, TSR_IO, "cannot learn the port of %s", address);
    context->port = context->guard.port = port.port;
    return TSR_OK;
}

/* --- life ----------------------------------------------------------------------------------------------------------------------- */
static tsr_status open_checker(srv_context *context, tsr_error *err) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    options.models = context->options.models;
    options.input = context->options.input;
    options.history = context->options.history;
    return tsr_graph_open(&context->checker, &options, err);
}

tsr_status srv_server_start(srv_server **out, const srv_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_server *server = NULL;
    srv_context *context;
    struct timespec now;
    *out = NULL;
    SRV_ALLOC(err, server, 1);
    context = &server->context;
    pthread_mutex_init(&context->checker_lock, NULL);
    pthread_mutex_init(&context->picture_lock, NULL);
    clock_gettime(CLOCK_REALTIME, &now);
    context->started = (double)now.tv_sec;
    SRV_TRY(take_options(server, options, err));
    context->log = srv_log_new(context->options.log_json, context->options.quiet);
    context->metrics = srv_metrics_new();
    context->info = srv_info_cache_new();
    if (!context->log || !context->metrics || !context->info) SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
    SRV_TRY(try_address(&context->options, err));
    SRV_TRY(srv_peers_new(&context->peers, err));
    SRV_TRY(open_checker(context, err));
    SRV_TRY(srv_store_open(&context->store, context->options.data, NULL, err));
    SRV_TRY(srv_hub_new(&context->hub, context, err));
    SRV_TRY(listen_there(server, err));
    SRV_TRY(srv_worker_start(&context->worker, context, err));
    atomic_store(&server->ready, 1);
    srv_log_event(context->log, SRV_LOG_INFO, "started", "address=%s port=%d models=%s output=%s data=%s",
                  server->listen, context->port, context->options.models, context->options.output,
                  context->options.data);
    if (!srv_has_checkpoints(context))
        srv_log_event(context->log, SRV_LOG_WARNING, "no_models", "reason=%s/checkpoints has no model to paint with",
                      context->options.models);
    *out = server;
    server = NULL;
done:
    srv_server_stop(server);
    return status;
}

int srv_server_port(const srv_server *server) {
    return server->context.port;
}

void srv_server_stop(srv_server *server) {
    if (!server) return;
    srv_context *context = &server->context;
    if (atomic_load(&server->ready)) srv_log_event(context->log, SRV_LOG_INFO, "stopping", "port=%d", context->port);
    /* Threads that read wake up, those that answer finish. */
    if (context->hub) srv_hub_close(context->hub);
    if (context->peers) srv_peers_wake(context->peers);
    if (server->civet) mg_stop(server->civet);
    if (server->library) mg_exit_library();
    srv_worker_stop(context->worker);
    srv_hub_free(context->hub);
    srv_store_close(context->store);
    srv_peers_free(context->peers);
    tsr_graph_close(context->checker);
    srv_info_cache_free(context->info);
    srv_metrics_free(context->metrics);
    srv_log_free(context->log);
    pthread_mutex_destroy(&context->checker_lock);
    pthread_mutex_destroy(&context->picture_lock);
    for (int i = 0; i < server->n_strings; i++) free(server->strings[i]);
    for (int i = 0; i < MAX_HOSTS; i++) free(server->hosts[i]);
    free(server);
}
