/* apps/generate.c - `tessera generate`: options to a scene, the scene through an engine, pictures to files.
 *
 * Writes nothing but whole files; Ctrl-C is looked at before every network call. */
#include "generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "progress.h"
#include "show.h"
#include "signals.h"

typedef struct run_view {
    progress_bar bar;
    const char *preview_path;
    int show;
    int shown_lines; /* of the last preview in the terminal */
    tsr_error preview_error;
    const char *state_path; /* NULL: no states */
    int saved;
} run_view;

static int on_cancelled(void *user) {
    (void)user;
    return stop_signal();
}

static int on_progress(void *user, const tsr_progress *at) {
    run_view *view = user;
    progress_show(&view->bar, at);
    return 0;
}

static int on_preview(void *user, const tsr_image *image, const tsr_progress *at) {
    run_view *view = user;
    (void)at;
    if (view->show) {
        progress_clear(&view->bar);
        if (view->shown_lines) printf("\033[%dA", view->shown_lines);
        view->shown_lines = show_image(image);
    }
    return view->preview_path && tsr_image_save(image, view->preview_path, 0, &view->preview_error) != TSR_OK;
}

static tsr_status on_save(void *user, const void *state, size_t size, tsr_error *err) {
    run_view *view = user;
    tsr_status status = tsr_state_write(view->state_path, state, size, err);
    if (status == TSR_OK) view->saved = 1;
    return status;
}

/* --- names of files ------------------------------------------------------------------------------------------------------- */
static int known_extension(const char *path) {
    static const char *const known[] = { ".png", ".jpg", ".jpeg", ".webp" };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof known / sizeof *known; i++)
        if (strcasecmp(dot, known[i]) == 0) return 1;
    return 0;
}

/* Fails before the work rather than after it. */
static int check_target(const char *key, const char *path) {
    char folder[4100];
    const char *slash = strrchr(path, '/');
    if (!*path) return 0;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    if (access(folder, W_OK | X_OK) == 0) return 0;
    fprintf(stderr, "tessera: %s: the folder %s does not exist or cannot be written\n", key, folder);
    return EXIT_RUN;
}

static int check_targets(const tsr_scene *scene) {
    static const char *const keys[] = { "output", "preview", "save_latent", "save_state" };
    for (int i = 0; i < 4; i++) {
        const char *path = tsr_scene_get(scene, keys[i]);
        if (i < 2 && *path && !known_extension(path))
            return usage_error("%s: '%.200s' does not end in .png, .jpg, .jpeg or .webp", keys[i], path);
        int result = check_target(keys[i], path);
        if (result) return result;
    }
    return 0;
}

/* "dir/name.png" -> "dir/name-3.png". */
static void numbered(char *out, size_t size, const char *path, int number) {
    const char *dot = strrchr(path, '.');
    snprintf(out, size, "%.*s-%d%s", (int)(dot - path), path, number, dot);
}

/* Picture `index` of `count`; a default name steps aside for files that exist, --output does not. */
static void output_name(char *out, size_t size, const tsr_scene *scene, int index, int count) {
    char plain[4200];
    const char *given = tsr_scene_get(scene, "output");
    if (*given) snprintf(plain, sizeof plain, "%s", given);
    else snprintf(plain, sizeof plain, "tessera-%s.png", tsr_scene_get(scene, "seed"));
    if (count > 1) numbered(out, size, plain, index + 1);
    else snprintf(out, size, "%s", plain);
    for (int i = count + 1; !*given && i < 100000 && access(out, F_OK) == 0; i++) numbered(out, size, plain, i);
}

/* A JPEG holds 64 KiB of texts. Masks that do not fit are left to their files, and that is said. */
static tsr_status without_masks(tsr_image *image, const tsr_scene *painted, const char *path, tsr_error *err) {
    tsr_scene *scene = NULL;
    char *json = NULL;
    tsr_status status = tsr_scene_copy(&scene, painted, err);
    if (status == TSR_OK) status = tsr_scene_set(scene, "mask_data", NULL, err);
    if (status == TSR_OK) status = tsr_scene_set(scene, "color_image_data", NULL, err);
    for (int i = 0; status == TSR_OK && i < tsr_scene_region_count(scene); i++)
        status = tsr_scene_set_region(scene, i, "mask_data", NULL, err);
    if (status == TSR_OK) status = tsr_scene_to_json(&json, scene, err);
    if (status == TSR_OK) status = tsr_image_set_text(image, "tessera", json, err);
    if (status == TSR_OK)
        fprintf(stderr,
                "tessera: note: %s: a JPEG has no room for the masks, which are recalled from their files only\n",
                path);
    tsr_free(json);
    tsr_scene_free(scene);
    return status;
}

static tsr_status save_picture(tsr_image *image, const tsr_scene *painted, const char *path, int quality,
                               tsr_error *err) {
    tsr_error first = TSR_ERROR_INIT;
    tsr_status status = tsr_image_save(image, path, quality, &first);
    if (status == TSR_TOO_LARGE && without_masks(image, painted, path, err) == TSR_OK)
        return tsr_image_save(image, path, quality, err);
    if (status != TSR_OK) *err = first;
    return status;
}

static int save_result(const tsr_result *result, const tsr_scene *scene, int show) {
    tsr_error err = TSR_ERROR_INIT;
    int quality = atoi(tsr_scene_get(scene, "quality"));
    const char *latent = tsr_scene_get(scene, "save_latent");
    char path[4300];
    for (int i = 0; i < result->image_count; i++) {
        /* The name follows the seed that was used; `random` is gone from the result's scene. */
        tsr_scene *named = NULL;
        if (tsr_scene_copy(&named, result->scene, &err) != TSR_OK) return report(&err);
        tsr_status status = tsr_scene_set(named, "output", tsr_scene_get(scene, "output"), &err);
        if (status == TSR_OK) output_name(path, sizeof path, named, i, result->image_count);
        tsr_scene_free(named);
        if (status == TSR_OK) status = save_picture(result->images[i], result->scene, path, quality, &err);
        if (status != TSR_OK) return report(&err);
        if (show) (void)show_image(result->images[i]);
        printf("%s\n", path);
    }
    if (*latent && tsr_latent_save(result->latent, latent, &err) != TSR_OK) return report(&err);
    if (*latent) printf("%s\n", latent);
    return 0;
}

/* --- the run ------------------------------------------------------------------------------------------------------------------ */
static int print_plan(tsr_engine *engine, const tsr_scene *scene) {
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    if (tsr_engine_plan(&text, engine, scene, &err) != TSR_OK) return report(&err);
    fputs(text, stdout);
    tsr_free(text);
    return fflush(stdout) ? EXIT_RUN : 0;
}

/* Says how to go on, as a line for the shell. */
static int interrupted(const run_view *view, const resume_from *resume) {
    if (view->saved || resume->path) {
        const char *path = view->saved ? view->state_path : resume->path;
        fputs("tessera: interrupted; go on with: tessera generate --resume '", stderr);
        for (; *path; path++) fputs(*path == '\'' ? "'\\''" : (char[2]){ *path, 0 }, stderr);
        fputs("'\n", stderr);
    } else {
        fputs("tessera: interrupted; nothing was written\n", stderr);
    }
    return 128 + stop_signal();
}

static tsr_engine_callbacks callbacks_of(run_view *view, const tsr_scene *scene, const resume_from *resume, int show) {
    tsr_engine_callbacks callbacks = TSR_ENGINE_CALLBACKS_INIT;
    view->preview_path = tsr_scene_get(scene, "preview");
    view->state_path = tsr_scene_get(scene, "save_state");
    if (!*view->preview_path) view->preview_path = NULL;
    if (!*view->state_path) view->state_path = resume->path;
    view->show = show && can_show() && view->preview_path;
    callbacks.user = view;
    callbacks.progress = on_progress;
    callbacks.cancelled = on_cancelled;
    callbacks.preview = view->preview_path ? on_preview : NULL;
    callbacks.preview_method = (tsr_preview_method)tsr_preview_method_find(tsr_scene_get(scene, "preview_method"));
    callbacks.save = view->state_path ? on_save : NULL;
    callbacks.save_seconds = strtod(tsr_scene_get(scene, "save_every"), NULL);
    return callbacks;
}

static int paint(tsr_engine *engine, const tsr_scene *scene, const resume_from *resume) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_result *result = NULL;
    tsr_status status;
    run_view view = { .preview_error = TSR_ERROR_INIT };
    int show = strcmp(tsr_scene_get(scene, "show"), "true") == 0;
    tsr_engine_callbacks callbacks = callbacks_of(&view, scene, resume, show);
    progress_begin(&view.bar);
    if (resume->path) status = tsr_engine_resume(&result, engine, resume->state, resume->size, &callbacks, &err);
    else status = tsr_engine_run(&result, engine, scene, &callbacks, &err);
    progress_clear(&view.bar);
    if (stop_signal() && status == TSR_CANCELLED) return interrupted(&view, resume);
    if (status != TSR_OK) return report(view.preview_error.status != TSR_OK ? &view.preview_error : &err);
    for (int i = 0; i < result->warning_count; i++) fprintf(stderr, "tessera: note: %s\n", result->warnings[i]);
    if (view.show && view.shown_lines) printf("\033[%dA", view.shown_lines);
    int failed = save_result(result, scene, show && can_show());
    if (!failed) {
        fprintf(stderr, "text %.2f s, sampling %.2f s, decoding %.2f s", result->text_seconds, result->sample_seconds,
                result->decode_seconds);
        show_swaps(result->swaps, result->swap_seconds, result->swap_bytes);
        fputc('\n', stderr);
        /* The picture is there: its state has no more use. */
        if (view.saved) (void)unlink(view.state_path);
        if (resume->path) (void)unlink(resume->path);
    }
    tsr_result_free(result);
    return failed;
}

int command_generate(int argc, char **argv) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_scene *scene = NULL;
    tsr_engine *engine = NULL;
    resume_from resume = { 0 };
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
        print_generate_help(stdout);
        return fflush(stdout) ? EXIT_RUN : 0;
    }
    int result = parse_options(&scene, &resume, argc, argv);
    if (!result && tsr_scene_check(scene, &err) != TSR_OK) {
        report(&err);
        result = EXIT_USAGE;
    }
    if (!result) result = check_targets(scene);
    if (!result) {
        watch_signals();
        if (tsr_engine_open_for(&engine, scene, &err) != TSR_OK) result = report(&err);
    }
    if (!result)
        result = strcmp(tsr_scene_get(scene, "dry_run"), "true") == 0 ? print_plan(engine, scene)
                                                                      : paint(engine, scene, &resume);
    tsr_engine_close(engine);
    tsr_scene_free(scene);
    tsr_free(resume.state);
    return result;
}
