/* apps/cmd_pack.c - see cmd_pack.h. */
#include "cmd_pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "signals.h"

int is_pack_name(const char *path) {
    static const char end[] = ".tsrpack";
    const size_t length = strlen(path), tail = sizeof end - 1;
    return length > tail && strcmp(path + length - tail, end) == 0;
}

typedef struct view {
    int terminal, told; /* per cent */
} view;

static int on_progress(void *user, size_t done, size_t total) {
    view *v = user;
    const int percent = total ? (int)(100.0 * (double)done / (double)total) : 100;
    if (percent > v->told && v->terminal) {
        fprintf(stderr, "\rpacked %d %%", percent);
        fflush(stderr);
        v->told = percent;
    }
    return stop_signal();
}

static int parse(tsr_pack_options *options, const pack_request *request) {
    static const char *const names[] = { "auto", "f32", "bf16" };
    int known = !request->precision;
    for (int i = 0; i < 3 && request->precision; i++) {
        if (strcmp(request->precision, names[i]) != 0) continue;
        options->precision = (tsr_precision)i;
        known = 1;
    }
    if (!known) return usage_error("--precision takes auto, f32 or bf16, not '%.80s'", request->precision);
    if (!request->threads) return 0;
    char *end = NULL;
    const long threads = strtol(request->threads, &end, 10);
    if (*end || threads < 0 || threads > 1024)
        return usage_error("--threads takes 0 to 1024, not '%.80s'", request->threads);
    options->threads = (int)threads;
    return 0;
}

int command_pack(const pack_request *request) {
    tsr_pack_options options = TSR_PACK_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    view v = { .terminal = isatty(STDERR_FILENO), .told = -1 };
    char *text = NULL;
    int failed = parse(&options, request);
    if (failed) return failed;
    options.user = &v;
    options.progress = on_progress;
    watch_signals();
    tsr_status status = tsr_pack_model(&text, request->out, request->in, request->parts, &options, &err);
    if (v.terminal && v.told >= 0) fputs("\r\033[K", stderr);
    if (status == TSR_CANCELLED && stop_signal()) {
        fputs("tessera: interrupted; nothing was written\n", stderr);
        return 128 + stop_signal();
    }
    if (status != TSR_OK) return report(&err);
    fputs(text, stdout);
    tsr_free(text);
    return 0;
}
