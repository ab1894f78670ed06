/* graph/run_preview.c - small pictures of a sampling run in between: decoded where that costs next to nothing, else by the
 * model's linear map. */
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

/* A preview that cannot be made (not finite yet, memory) is no reason to lose the picture: then there is none. */
tsr_image *tsr__run_preview(tsr__running *run, const tsr_progress *progress) {
    tsr__slot *slot = run->graph->painter;
    tsr_image *image = NULL;
    if (!run->callbacks || !run->callbacks->event || !slot || !tsr__slot_now(slot)) return NULL;
    double least = run->callbacks->preview_seconds, now = tsr__seconds();
    if (!(least > 0.0)) return NULL;
    if (progress->event != TSR_PROGRESS_STEP || !progress->x0 || now - run->last_preview < least) return NULL;
    tsr_engine *engine = tsr__slot_now(slot);
    const int *shape = progress->shape;
    /* No network goes for it in the middle of sampling. */
    int can_build = tsr__budget_has_room_for_vae(
        engine, tsr__engine_vae_bytes_least(engine, shape[3] * FACTOR, shape[2] * FACTOR, 0));
    const tsr__preview_map *map = slot->preview.channels || can_build ? map_of(slot) : NULL;
    if (map && can_build && map->decode_seconds * shape[2] * shape[3] <= DECODING_SHARE * least)
        image = decode(engine, progress);
    else if (map) (void)tsr__preview_map_paint(&image, map, progress->x0, shape, NULL);
    run->last_preview = tsr__seconds();
    return image;
}
