/* apps/cmd_serve.c - `tessera serve`: the command line of the server. What it serves is in server/. */
#include "cmd_serve.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "options.h"
#include "server.h"
#include "signals.h"

enum { MAX_HOSTS = 64 };
#define MEBIBYTE ((size_t)1 << 20)

typedef struct choice {
    srv_options options;
    const char *hosts[MAX_HOSTS];
} choice;

/* --- the table ---------------------------------------------------------------------------------------------------------- */
struct option_row;
/* Takes one value into the row's field: 0, or an exit status after a message. */
typedef int (*take_fn)(choice *c, const struct option_row *row, void *field, const char *value);

typedef struct option_row {
    const char *name, *metavar; /* no metavar: a flag */
    take_fn take;
    size_t field; /* where in a choice */
    double least, most;
    const char *help;
} option_row;

static int take_text(choice *c, const option_row *row, void *field, const char *value) {
    (void)c;
    (void)row;
    *(const char **)field = value;
    return 0;
}

static int take_number(choice *c, const option_row *row, void *field, const char *value) {
    char *end = NULL;
    double *out = field;
    (void)c;
    *out = strtod(value, &end);
    if (!*value || *end || !(*out >= row->least && *out <= row->most))
        return usage_error("--%s takes %g to %g, not '%.80s'", row->name, row->least, row->most, value);
    return 0;
}

static int take_whole(choice *c, const option_row *row, void *field, const char *value) {
    double number = 0.0;
    int result = take_number(c, row, &number, value), *out = field;
    *out = (int)number;
    if (!result && *out != number) return usage_error("--%s takes a whole number, not '%.80s'", row->name, value);
    return result;
}

static int take_mebibytes(choice *c, const option_row *row, void *field, const char *value) {
    double number = 0.0;
    int result = take_number(c, row, &number, value);
    *(size_t *)field = (size_t)number * MEBIBYTE;
    return result;
}

static int take_size(choice *c, const option_row *row, void *field, const char *value) {
    tsr_error err = TSR_ERROR_INIT;
    (void)c;
    if (tsr_size_parse(field, value, &err) == TSR_OK) return 0;
    return usage_error("--%s: %s", row->name, err.message);
}

static int take_host(choice *c, const option_row *row, void *field, const char *value) {
    (void)field;
    if (c->options.n_allowed_hosts == MAX_HOSTS) return usage_error("--%s may be given %d times", row->name, MAX_HOSTS);
    c->hosts[c->options.n_allowed_hosts++] = value;
    return 0;
}

static int take_history(choice *c, const option_row *row, void *field, const char *value) {
    int history = tsr_history_find(value);
    (void)c;
    if (history < 0) return usage_error("--%s takes restart or keep, not '%.80s'", row->name, value);
    *(tsr_history *)field = (tsr_history)history;
    return 0;
}

static int take_precision(choice *c, const option_row *row, void *field, const char *value) {
    tsr_precision *out = field;
    (void)c;
    if (strcmp(value, "f32") == 0) *out = TSR_PRECISION_F32;
    else if (strcmp(value, "bf16") == 0) *out = TSR_PRECISION_BF16;
    else return usage_error("--%s takes f32 or bf16, not '%.80s'", row->name, value);
    return 0;
}

static int take_preview_method(choice *c, const option_row *row, void *field, const char *value) {
    int method = tsr_preview_method_find(value);
    (void)c;
    if (method < 0) return usage_error("--%s takes auto, latent2rgb, taesd or none, not '%.80s'", row->name, value);
    *(tsr_preview_method *)field = (tsr_preview_method)method;
    return 0;
}

static int take_log_format(choice *c, const option_row *row, void *field, const char *value) {
    int *json = field;
    (void)c;
    *json = strcmp(value, "json") == 0;
    if (!*json && strcmp(value, "plain") != 0)
        return usage_error("--%s takes plain or json, not '%.80s'", row->name, value);
    return 0;
}

static int take_quiet(choice *c, const option_row *row, void *field, const char *value) {
    (void)c;
    (void)row;
    (void)value;
    *(int *)field = 1;
    return 0;
}

static const option_row rows[] = {
    { "listen", "ADDRESS", take_text, offsetof(choice, options.listen), 0, 0,
      "IPv4 address; others than loopback need --token-file (default: 127.0.0.1)" },
    { "port", "N", take_whole, offsetof(choice, options.port), 0, 65535, "0: any free one (default: 8188)" },
    { "token-file", "FILE", take_text, offsetof(choice, options.token_file), 0, 0,
      "whoever asks must know this file's first line" },
    { "allow-host", "NAME", take_host, 0, 0, 0,
      "a further name the server is reached by, as NAME or NAME:PORT; may be repeated" },
    { "models", "DIR", take_text, offsetof(choice, options.models), 0, 0,
      "checkpoints/, loras/, ... (default: the folder of the shipped model)" },
    { "input", "DIR", take_text, offsetof(choice, options.input), 0, 0,
      "uploads, and pictures that workflows load (default: input)" },
    { "output", "DIR", take_text, offsetof(choice, options.output), 0, 0,
      "where pictures are saved (default: output)" },
    { "temp", "DIR", take_text, offsetof(choice, options.temp), 0, 0, "pictures of PreviewImage (default: DATA/temp)" },
    { "data", "DIR", take_text, offsetof(choice, options.data), 0, 0,
      "the queue and its history (default: $XDG_STATE_HOME/tessera, else ~/.local/state/tessera)" },
    { "history", "restart|keep", take_history, offsetof(choice, options.history), 0, 0,
      "restart: the picture ComfyUI paints (default); keep: every sampler keeps its history" },
    { "precision", "f32|bf16", take_precision, offsetof(choice, options.precision), 0, 0,
      "arithmetic (default: bf16 where the processor has it)" },
    { "threads", "N", take_whole, offsetof(choice, options.threads), 0, 1024, "processor threads (default: all)" },
    { "cache-memory", "MIB", take_mebibytes, offsetof(choice, options.cache_memory), 0, 16777216,
      "for results of nodes that did not change (default: 512)" },
    { "model-memory", "MIB", take_mebibytes, offsetof(choice, options.model_memory), 0, 16777216,
      "for models that stay open though the newest job did not need them (default: 4096)" },
    { "memory", "SIZE", take_size, offsetof(choice, options.memory_budget), 0, 0,
      "for the networks of all models, working and idle, with activations, such as 6GB (default: no bound)" },
    { "max-queue", "N", take_whole, offsetof(choice, options.max_queue), 1, 1000000,
      "jobs that may wait (default: 1000)" },
    { "max-upload", "MIB", take_mebibytes, offsetof(choice, options.max_upload), 1, 16777216,
      "largest upload (default: 100)" },
    { "max-sockets", "N", take_whole, offsetof(choice, options.max_sockets), 1, 1024,
      "WebSockets at once (default: 64)" },
    { "max-history", "N", take_whole, offsetof(choice, options.max_history), 1, 10000000,
      "finished jobs that are remembered (default: 10000)" },
    { "preview-seconds", "S", take_number, offsetof(choice, options.preview_seconds), 0, 3600,
      "least time between two previews; 0: none (default: 0.25)" },
    { "preview-method", "NAME", take_preview_method, offsetof(choice, options.preview_method), 0, 0,
      "auto, latent2rgb, taesd or none; auto: taesd where vae_approx has it (default: auto)" },
    { "ping-seconds", "S", take_number, offsetof(choice, options.ping_seconds), 0.1, 3600,
      "WebSockets are asked after so long a silence (default: 30)" },
    { "patience", "S", take_number, offsetof(choice, options.patience), 0.1, 3600,
      "a client has so long to send a request or to take an answer, and a second more for each 32 KiB (default: 30)" },
    { "log-format", "plain|json", take_log_format, offsetof(choice, options.log_json), 0, 0,
      "of the lines on standard error (default: plain)" },
    { "quiet", NULL, take_quiet, offsetof(choice, options.quiet), 0, 0, "log warnings and errors only" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void print_help(void) {
    puts("usage: tessera serve [OPTION]...\n\n"
         "Serves ComfyUI's HTTP and WebSocket interface, and a page to paint regions on.\n");
    for (int i = 0; i < ROWS; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", rows[i].name, rows[i].metavar ? rows[i].metavar : "");
        printf("  %-24s %s\n", left, rows[i].help);
    }
    puts("\nCtrl-C stops it; a job that runs then starts again next time.");
}

static const option_row *find_row(const char *name, size_t length) {
    for (int i = 0; i < ROWS; i++)
        if (strlen(rows[i].name) == length && strncmp(rows[i].name, name, length) == 0) return &rows[i];
    return NULL;
}

static int parse(choice *c, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        const char *text = argv[i], *equals = strchr(text, '=');
        size_t length = equals ? (size_t)(equals - text) : strlen(text);
        const option_row *row = strncmp(text, "--", 2) == 0 ? find_row(text + 2, length - 2) : NULL;
        if (!row) return usage_error("serve has no option '%.80s'; `tessera serve --help` lists them", text);
        const char *value = equals ? equals + 1 : NULL;
        if (!row->metavar && value) return usage_error("--%s takes no value", row->name);
        if (row->metavar && !value && ++i == argc)
            return usage_error("--%s needs a value: --%s %s", row->name, row->name, row->metavar);
        int result = row->take(c, row, (char *)c + row->field, value ? value : row->metavar ? argv[i] : "");
        if (result) return result;
    }
    c->options.allowed_hosts = c->hosts;
    return 0;
}

/* --- running ------------------------------------------------------------------------------------------------------------ */
/* Where the queue is kept, and PreviewImage's files below it. 0, or an exit status. */
static int default_folders(srv_options *options, char *data, char *temp, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (!options->data) {
        if (state && *state == '/') n = snprintf(data, size, "%s/tessera", state);
        else if (home && *home == '/') n = snprintf(data, size, "%s/.local/state/tessera", home);
        else return usage_error("--data is needed where neither XDG_STATE_HOME nor HOME is set");
        options->data = data;
    }
    if (n >= (int)size) return usage_error("the data folder's name is too long");
    if (!options->temp) {
        n = snprintf(temp, size, "%s/temp", options->data);
        options->temp = temp;
    }
    return n < (int)size ? 0 : usage_error("the data folder's name is too long");
}

static void wait_for_signal(void) {
    const struct timespec moment = { 0, 100000000 };
    while (!stop_signal()) nanosleep(&moment, NULL);
}

int command_serve(int argc, char **argv) {
    tsr_error err = TSR_ERROR_INIT;
    srv_server *server = NULL;
    char data[4096], temp[4096];
    choice c;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
        print_help();
        return 0;
    }
    memset(&c, 0, sizeof c);
    c.options.port = 8188;
    c.options.input = "input";
    c.options.output = "output";
    c.options.history = TSR_HISTORY_RESTART;
    c.options.precision = TSR_PRECISION_AUTO;
    c.options.cache_memory = 512 * MEBIBYTE;
    c.options.model_memory = 4096 * MEBIBYTE;
    c.options.preview_seconds = 0.25;
    int result = parse(&c, argc, argv);
    if (!result) result = default_folders(&c.options, data, temp, sizeof data);
    if (result) return result;
    watch_signals();
    if (srv_server_start(&server, &c.options, &err) != TSR_OK) return report(&err);
    printf("Tessera serves http://%s:%d/\n", c.options.listen ? c.options.listen : "127.0.0.1",
           srv_server_port(server));
    fflush(stdout);
    wait_for_signal();
    srv_server_stop(server);
    return 0;
}
