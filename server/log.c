/* server/log.c - see log.h. */
#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXT_SIZE = 1024, LINE_SIZE = 2 * TEXT_SIZE };

struct srv_log {
    int json, quiet;
    pthread_mutex_t lock; /* one line at a time */
};

srv_log *srv_log_new(int json, int quiet) {
    srv_log *log = calloc(1, sizeof *log);
    if (!log) return NULL;
    log->json = json;
    log->quiet = quiet;
    pthread_mutex_init(&log->lock, NULL);
    return log;
}

void srv_log_free(srv_log *log) {
    if (!log) return;
    pthread_mutex_destroy(&log->lock);
    free(log);
}

static void put_time(char *out, size_t size) {
    struct timespec now;
    struct tm parts;
    char seconds[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out, size, "%s.%03dZ", seconds, (int)(now.tv_nsec / 1000000));
}

/* Appends one character to a line, harmless to terminals and valid inside a JSON string. */
static size_t put_character(char *line, size_t at, char c, int json) {
    unsigned char byte = (unsigned char)c;
    if (at + 8 >= LINE_SIZE) return at;
    if (byte < ' ' || byte == 0x7f) return at + (size_t)snprintf(line + at, LINE_SIZE - at, "\\u%04x", byte);
    if (json && (c == '"' || c == '\\')) line[at++] = '\\';
    line[at++] = c;
    return at;
}

static size_t put_text(char *line, size_t at, const char *text, size_t length, int json) {
    for (size_t i = 0; i < length; i++) at = put_character(line, at, text[i], json);
    return at;
}

/* "job=x seconds=1" as members of a JSON object; a value goes up to the next " name=". */
static size_t put_members(char *line, size_t at, const char *text) {
    while (*text) {
        size_t name = strcspn(text, "= ");
        if (text[name] != '=') name = 0; /* text without a name */
        const char *value = text + (name ? name + 1 : 0), *end = value;
        while (*end) {
            size_t next = *end == ' ' ? strspn(end + 1, "abcdefghijklmnopqrstuvwxyz_") : 0;
            if (next && end[1 + next] == '=') break;
            end++;
        }
        at = put_text(line, at, ",\"", 2, 0);
        at = name ? put_text(line, at, text, name, 1) : put_text(line, at, "text", 4, 1);
        at = put_text(line, at, "\":\"", 3, 0);
        at = put_text(line, at, value, (size_t)(end - value), 1);
        at = put_text(line, at, "\"", 1, 0);
        text = end + (*end == ' ');
    }
    return at;
}

void srv_log_event(srv_log *log, srv_log_level level, const char *event, const char *format, ...) {
    static const char *const levels[] = { "info", "warning", "error" };
    char text[TEXT_SIZE], when[48], line[LINE_SIZE + 4];
    va_list args;
    if (!log || (log->quiet && level == SRV_LOG_INFO)) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put_time(when, sizeof when);
    size_t at = 0;
    if (log->json) {
        at = (size_t)snprintf(line, LINE_SIZE, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%.64s\"", when,
                              levels[level], event);
        at = put_members(line, at, text);
        line[at++] = '}';
    } else {
        at = (size_t)snprintf(line, LINE_SIZE, "%s %s %.64s ", when, levels[level], event);
        at = put_text(line, at, text, strlen(text), 0);
    }
    line[at++] = '\n';
    pthread_mutex_lock(&log->lock);
    fwrite(line, 1, at, stderr);
    pthread_mutex_unlock(&log->lock);
}
