/* support/run_watcher.h - hooks of an engine's run that stop it at a chosen event and keep its last state. */
#ifndef TSR_RUN_WATCHER_H
#define TSR_RUN_WATCHER_H

#include <stdlib.h>
#include <string.h>

#include "tessera/engine.h"

typedef struct watcher {
    int events, stop_at; /* progress; 0: never */
    int stop_decoding;   /* once all steps have ended */
    int steps, ended;
    unsigned char *state; /* the last one saved; the test's to free */
    size_t size;
    int saves;
} watcher;

static inline int watcher_progress(void *user, const tsr_progress *at) {
    watcher *w = user;
    w->ended += at->event == TSR_PROGRESS_STEP;
    return ++w->events == w->stop_at;
}

static inline int watcher_cancelled(void *user) {
    const watcher *w = user;
    return w->stop_decoding && w->ended == w->steps;
}

static inline tsr_status watcher_save(void *user, const void *state, size_t size, tsr_error *err) {
    watcher *w = user;
    (void)err;
    free(w->state);
    w->state = malloc(size);
    if (!w->state) abort();
    memcpy(w->state, state, size);
    w->size = size;
    w->saves++;
    return TSR_OK;
}

static inline tsr_engine_callbacks watcher_callbacks(watcher *w) {
    tsr_engine_callbacks callbacks = TSR_ENGINE_CALLBACKS_INIT;
    callbacks.user = w;
    callbacks.progress = watcher_progress;
    callbacks.cancelled = watcher_cancelled;
    callbacks.save = watcher_save;
    return callbacks;
}

#endif /* TSR_RUN_WATCHER_H */
