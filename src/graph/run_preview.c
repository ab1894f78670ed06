/* graph/run_preview.c - small pictures of a sampling run in between: by a TAESD where there is one, decoded where that costs
 * next to nothing, else by the model's linear map. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "graph/graph_priv.h"

#define DECODING_SHARE (1.0 / 6.0) /* at most, of the time between two previews */
enum { FACTOR = 8 };               /* pixels of a latent's cell */

/* The map is made once for a model; one that cannot be made is tried again at the next preview. */
static const tsr__preview_map *map_of(tsr__slot *slot) {
    tsr_error ignored = TSR_ERROR_INIT;
    if (slot->preview.channels == 0 && tsr__preview_map_fit(&slot->preview, tsr__slot_now(slot), &ignored) != TSR_OK)
        slot->preview.channels = 0;
    return slot->preview.channels ? &slot->preview : NULL;
}

void tsr__run_prepare_preview(const tsr_graph *graph, tsr__slot *slot) {
    if (graph->preview_seconds > 0.0 && tsr__budget_is_on(tsr__slot_now(slot))) (void)map_of(slot);
}

static tsr_image *decode(tsr_engine *engine, const tsr_progress *progress) {
    tsr_error ignored = TSR_ERROR_INIT;
    tsr_latent *latent = NULL;
    tsr_image *image = NULL;
    const int *shape = progress->shape;
    if (tsr_latent_new(&latent, 1, shape[1], shape[2], shape[3], &ignored) != TSR_OK) return NULL;
    memcpy(latent->values, progress->x0, tsr_latent_count(latent) * sizeof *latent->values);
    (void)tsr_engine_decode(&image, engine, latent, 0, 0, &ignored);
    tsr_latent_free(latent);
    return image;
}

/* What is wrong with a file that is there, or that none is where one was asked for: once a run. */
static void note_no_tiny(tsr__running *run, const char *text) {
    tsr_error ignored = TSR_ERROR_INIT;
    const tsr__call call = { .graph = run->graph, .id = run->event.node, .run = run };
    char *note = run->told_no_tiny ? NULL : tsr__format("previews without TAESD: %s", text);
    if (note) (void)tsr__call_note(&call, note, &ignored);
    run->told_no_tiny = 1;
    free(note);
}

/* Whether a TAESD is there for the slot's model; looked for once a run. */
static int has_tiny(tsr__running *run, tsr__slot *slot) {
    tsr_error reason = TSR_ERROR_INIT;
    tsr_engine *engine = tsr__slot_now(slot);
    char text[128];
    if (slot->tiny_run == run->graph->runs) return slot->has_tiny;
    slot->tiny_run = run->graph->runs;
    slot->has_tiny = 0;
    char *folder = tsr__vae_approx(run->graph), *path = folder ? tsr__preview_find_tiny(engine, folder) : NULL;
    if (path) {
        slot->has_tiny = tsr__preview_open_tiny(engine, path, &reason) == TSR_OK;
        if (!slot->has_tiny) note_no_tiny(run, reason.message);
    } else if (run->callbacks->preview_method == TSR_PREVIEW_TAESD) {
        (void)snprintf(text, sizeof text, "there is no %s.safetensors in the vae_approx folder",
                       tsr__preview_tiny_stem(engine));
        note_no_tiny(run, text);
    }
    free(path);
    free(folder);
    return slot->has_tiny;
}

/* By the VAE where that costs next to nothing, else by the map. No network goes for it in the middle of sampling. */
static tsr_image *paint_without_tiny(tsr__slot *slot, const tsr_progress *progress, const tsr_graph_callbacks *wanted) {
    tsr_engine *engine = tsr__slot_now(slot);
    tsr_image *image = NULL;
    const int *shape = progress->shape;
    int can_build = tsr__budget_has_room_for_vae(
        engine, tsr__engine_vae_bytes_least(engine, shape[3] * FACTOR, shape[2] * FACTOR, 0));
    const tsr__preview_map *map = slot->preview.channels || can_build ? map_of(slot) : NULL;
    if (map && can_build && wanted->preview_method == TSR_PREVIEW_AUTO &&
        map->decode_seconds * shape[2] * shape[3] <= DECODING_SHARE * wanted->preview_seconds)
        return decode(engine, progress);
    if (map) (void)tsr__preview_map_paint(&image, map, progress->x0, shape, NULL);
    return image;
}

/* TAESD's pictures come so seldom that they take no more than their share of the time. */
static int is_due(const tsr__running *run, const tsr_progress *progress) {
    const double least = run->graph->preview_seconds, waited = tsr__seconds() - run->last_preview;
    return least > 0.0 && progress->event == TSR_PROGRESS_STEP && progress->x0 && waited >= least &&
           waited >= run->preview_cost * (1.0 / DECODING_SHARE - 1.0);
}

/* A preview that cannot be made (not finite yet, memory) is no reason to lose the picture: then there is none. */
tsr_image *tsr__run_preview(tsr__running *run, const tsr_progress *progress) {
    tsr__slot *slot = run->graph->painter;
    tsr_image *image = NULL;
    if (!run->callbacks || !run->callbacks->event || !slot || !tsr__slot_now(slot) || !is_due(run, progress))
        return NULL;
    const double start = tsr__seconds();
    tsr_engine *engine = tsr__slot_now(slot);
    const int tiny = run->callbacks->preview_method != TSR_PREVIEW_LATENT2RGB && has_tiny(run, slot) &&
                     tsr__preview_tiny_fits(engine, progress->shape);
    if (tiny) (void)tsr__preview_tiny_paint(&image, engine, progress->x0, progress->shape, NULL);
    else image = paint_without_tiny(slot, progress, run->callbacks);
    run->last_preview = tsr__seconds();
    run->preview_cost = tiny ? run->last_preview - start : 0.0;
    return image;
}
