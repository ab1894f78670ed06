/* engine/engine_preview.h - a small picture of a latent for almost nothing: a linear map from latent values to colours.
 *
 * The map is found for each model from its own decoder, so that it fits every VAE. */
#ifndef TSR_ENGINE_PREVIEW_H
#define TSR_ENGINE_PREVIEW_H

#include "tessera/engine.h"

enum { TSR__PREVIEW_CHANNELS = 16 };

typedef struct tsr__preview_map {
    int channels;
    double colors[TSR__PREVIEW_CHANNELS + 1][3]; /* of each channel; the last: of nothing */
    double decode_seconds;                       /* that the decoder took, for a latent pixel */
} tsr__preview_map;

/* Decodes one small latent. */
tsr_status tsr__preview_map_fit(tsr__preview_map *out, tsr_engine *engine, tsr_error *err);
/* The first of latent [n, c, h, w], raw VAE units, as a picture of w x h. */
tsr_status tsr__preview_map_paint(tsr_image **out, const tsr__preview_map *map, const float *latent, const int shape[4],
                                  tsr_error *err);

#endif /* TSR_ENGINE_PREVIEW_H */
