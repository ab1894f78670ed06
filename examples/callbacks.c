/* Watches a run: progress, a preview picture, and stopping it half way. */
#include <stdio.h>
#include <tessera/tessera.h>

typedef struct watcher {
    int steps, previews, stop_after;
} watcher;

static int on_progress(void *user, const tsr_progress *at) {
    watcher *w = user;
    if (at->event != TSR_PROGRESS_STEP) return 0;
    w->steps++;
    printf("step %d of %d, sigma %.3f, %lld of %lld evaluations\n", w->steps, at->steps, at->sigma,
           (long long)at->evaluations_done, (long long)at->evaluations_total);
    return w->steps == w->stop_after; /* not 0 stops before the next network call */
}

static int on_preview(void *user, const tsr_image *image, const tsr_progress *at) {
    (void)at;
    ((watcher *)user)->previews++;
    return tsr_image_save(image, "preview.png", 0, NULL) != TSR_OK;
}

int main(void) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_engine *engine = NULL;
    tsr_scene *scene = NULL;
    tsr_result *result = NULL;
    watcher w = { 0, 0, 6 };
    tsr_engine_callbacks callbacks = TSR_ENGINE_CALLBACKS_INIT;
    callbacks.user = &w;
    callbacks.progress = on_progress;
    callbacks.preview = on_preview;

    tsr_status status = tsr_engine_open(&engine, NULL, &err);
    if (status == TSR_OK) status = tsr_scene_new(&scene, &err);
    if (status == TSR_OK) status = tsr_scene_set(scene, "prompt", "a sailboat on sea", &err);
    if (status == TSR_OK) status = tsr_scene_set(scene, "steps", "12", &err);
    if (status == TSR_OK) status = tsr_engine_run(&result, engine, scene, &callbacks, &err);
    if (status == TSR_CANCELLED) printf("stopped after step %d, with %d previews\n", w.steps, w.previews);
    else fprintf(stderr, "%s: %s\n", tsr_status_name(status), err.message);

    tsr_result_free(result);
    tsr_scene_free(scene);
    tsr_engine_close(engine);
    return !(status == TSR_CANCELLED && w.steps == w.stop_after && w.previews > 0);
}
