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

/* --- by a TAESD of their own -------------------------------------------------------------------------------------------- */
/* The file for this engine's latents: NAME_decoder or NAME in `folder` (NULL: not looked at), else where tsr__find_taesd
 * looks. NULL: there is none. Released with free(). */
char *tsr__preview_find_tiny(const tsr_engine *engine, const char *folder);
/* What it would be called: "taesdxl_decoder". */
const char *tsr__preview_tiny_stem(const tsr_engine *engine);
/* Builds it beside the engine's networks, unless that file's is there already. */
tsr_status tsr__preview_open_tiny(tsr_engine *engine, const char *path, tsr_error *err);
/* Whether the engine has memory to paint with it. */
int tsr__preview_tiny_fits(const tsr_engine *engine, const int shape[4]);
/* The first of latent [n, c, h, w], raw VAE units, as a picture of 8w x 8h. */
tsr_status tsr__preview_tiny_paint(tsr_image **out, tsr_engine *engine, const float *latent, const int shape[4],
                                   tsr_error *err);

#endif /* TSR_ENGINE_PREVIEW_H */
