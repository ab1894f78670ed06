/* engine/engine_guests.c - models that regions bring: opened once, kept with the engine that paints the picture.
 *
 * Regions of two models share a canvas when both mean the same by a latent. The plan says how large they are;
 * engine_budget.c decides what stays packed. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/engine_priv.h"

/* Whether two paths name one file. */
static int same_file(const char *a, const char *b) {
    struct stat one, two;
    if (strcmp(a, b) == 0) return 1;
    return stat(a, &one) == 0 && stat(b, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

static tsr_status check_latents(const tsr_engine *engine, const tsr_engine *guest, const char *who, tsr_error *err) {
    tsr_engine_info ours = tsr_engine_get_info(engine), theirs = tsr_engine_get_info(guest);
    double scale = (double)engine->denoiser.latent_scale, other = (double)guest->denoiser.latent_scale;
    if (ours.latent_channels == theirs.latent_channels && engine->denoiser.latent_scale == guest->denoiser.latent_scale)
        return TSR_OK;
    return tsr__fail(
        err, TSR_UNSUPPORTED,
        "%s: %s (%s) has latents of %d channels, scaled by %g; the picture's model %s (%s) has %d, scaled by "
        "%g: they cannot share a canvas, take a model of the same family",
        who, theirs.model, theirs.kind, theirs.latent_channels, other, ours.model, ours.kind, ours.latent_channels,
        scale);
}

/* Opens one more model with the picture's precision; kept with the picture's engine. Takes over nothing. */
static tsr_status open_guest(tsr_engine **out, tsr_engine *host, tsr_engine_options *options, const char *who,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *guest = NULL;
    tsr_error reason = TSR_ERROR_INIT;
    options->precision = tsr__nn_precision(host->nn) == TSR__BF16 ? TSR_PRECISION_BF16 : TSR_PRECISION_F32;
    options->threads = host->threads;
    options->memory_limit = host->memory_limit;
    status = tsr_engine_open(&guest, options, &reason);
    if (status != TSR_OK) TSR_FAIL(err, status, "%s: %s", who, reason.message);
    TSR_TRY(check_latents(host, guest, who, err));
    guest->host = host;
    tsr__budget_join(guest, host->budget);
    guest->next_guest = host->guests;
    host->guests = guest;
    *out = guest;
    guest = NULL;
done:
    tsr_engine_close(guest);
    return status;
}

tsr_status tsr__engine_for_model(tsr_engine **out, tsr_engine *engine, const char *path, const char *who,
                                 tsr_error *err) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    *out = NULL;
    if (!engine->file && same_file(engine->model, path)) {
        *out = engine;
        return TSR_OK;
    }
    for (tsr_engine *at = engine->guests; at; at = at->next_guest)
        if (same_file(at->model, path)) *out = at;
    if (*out) return TSR_OK;
    options.model = path;
    return open_guest(out, engine, &options, who, err);
}

void tsr__engine_close_guests(tsr_engine *engine) {
    while (engine->guests) {
        tsr_engine *next = engine->guests->next_guest;
        tsr_engine_close(engine->guests);
        engine->guests = next;
    }
}

size_t tsr__engine_weight_bytes(const tsr_engine *engine) {
    size_t bytes = 0, each = tsr__nn_precision(engine->nn) == TSR__BF16 ? 2 : 4;
    for (size_t i = 0; i < tsr__weights_count(engine->weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(engine->weights, i);
        int network = strncmp(view->name, "model.diffusion_model.", 22) == 0 ||
                      strncmp(view->name, "first_stage_model.", 18) == 0;
        if (tsr__dtype_is_float(view->dtype)) bytes += view->count * (network ? each : 4); /* text computes in f32 */
    }
    return bytes;
}

/* The base (0) or a region. */
static const tsr_engine *engine_at(const tsr__job *job, int k) {
    return k == 0 ? job->base.guide.denoiser->user : job->regions[k - 1].guide.denoiser->user;
}

tsr_status tsr__engine_list_models(char **out, const tsr__job *job, tsr_error *err) {
    int number = 0, several = 0;
    char *text = tsr__strdup("");
    for (int k = 1; k <= job->region_count; k++) several |= engine_at(job, k) != engine_at(job, 0);
    for (int k = 0; several && k <= job->region_count; k++) {
        const tsr_engine *engine = engine_at(job, k);
        tsr_engine_info info = tsr_engine_get_info(engine);
        int first = 0;
        while (engine_at(job, first) != engine) first++;
        if (first < k || !text) continue;
        char *more = tsr__format("%smodel %d: %s (%s, %s), weights %.1f MiB\n", text, ++number, info.model, info.kind,
                                 info.precision, (double)tsr__engine_weight_bytes(engine) / (1 << 20));
        free(text);
        text = more;
    }
    *out = text;
    return text ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}
