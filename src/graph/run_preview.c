/* graph/run_preview.c - small pictures of a sampling run in between: decoded where that costs next to nothing, else by the
 * model's linear map. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "graph/graph_priv.h"

#define DECODING_SHARE (1.0 / 6.0) /* at most, of the time between two previews */

/* The map is made once for a model; one that cannot be made is tried again at the next preview. */
static const tsr__preview_map *map_of(tsr__slot *slot) {
    tsr_error ignored = TSR_ERROR_INIT;
    if (slot->preview.channels == 0 && tsr__preview_map_fit(&slot->preview, tsr__slot_now(slot), &ignored) != TSR_OK)
        slot->preview.channels = 0;
    return slot->preview.channels ? &slot->preview : NULL;
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
    const tsr__preview_map *map = map_of(slot);
    if (map && map->decode_seconds * progress->shape[2] * progress->shape[3] <= DECODING_SHARE * least)
        image = decode(tsr__slot_now(slot), progress);
    else if (map) (void)tsr__preview_map_paint(&image, map, progress->x0, progress->shape, NULL);
    run->last_preview = tsr__seconds();
    return image;
}
