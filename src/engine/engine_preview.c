/* engine/engine_preview.c - see engine_preview.h. The map is the least-squares fit of the decoder's mean colour of each latent
 * pixel, over a latent of plain squares: large enough that each shows its own colour, small enough that there are many. */
#include "engine/engine_preview.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "engine/engine_priv.h"
#include "tessera/noise.h"
#include "weights/model_open.h"
#include "weights/taesd_files.h"

static const char *const METHODS[] = {
    [TSR_PREVIEW_AUTO] = "auto",
    [TSR_PREVIEW_LATENT2RGB] = "latent2rgb",
    [TSR_PREVIEW_TAESD] = "taesd",
    [TSR_PREVIEW_NONE] = "none",
};

int tsr_preview_method_find(const char *name) {
    for (size_t i = 0; i < sizeof METHODS / sizeof *METHODS; i++)
        if (strcmp(name, METHODS[i]) == 0) return (int)i;
    return -1;
}

/* --- by a linear map ------------------------------------------------------------------------------------------------------ */
enum { SIDE = 16, SQUARE = 4, TERMS = TSR__PREVIEW_CHANNELS + 1 };

typedef struct fit {
    int n;                           /* terms: channels and a constant */
    double normal[TERMS][TERMS + 3]; /* the normal equations, three right sides */
} fit;

/* [c, SIDE, SIDE] of squares with values as sampling gives them: of variance 1 before the model's scale. */
static void draw_squares(float *latent, int channels, float scale) {
    enum { ACROSS = SIDE / SQUARE };
    float values[TSR__PREVIEW_CHANNELS * ACROSS * ACROSS];
    tsr_rng rng;
    tsr_rng_seed(&rng, 0);
    tsr_rng_randn(&rng, values, (size_t)channels * ACROSS * ACROSS);
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                latent[(c * SIDE + y) * SIDE + x] = values[(c * ACROSS + y / SQUARE) * ACROSS + x / SQUARE] / scale;
}

/* rgb [SIDE factor, SIDE factor, 3]: its mean over the latent pixel (x, y). */
static void mean_color(double out[3], const float *rgb, int factor, int x, int y) {
    double sum[3] = { 0, 0, 0 };
    for (int i = 0; i < factor; i++)
        for (int j = 0; j < factor; j++)
            for (int k = 0; k < 3; k++)
                sum[k] +=
                    (double)rgb[((size_t)(y * factor + i) * (size_t)(SIDE * factor) + (size_t)(x * factor + j)) * 3 +
                                (size_t)k];
    for (int k = 0; k < 3; k++) out[k] = sum[k] / (factor * factor);
}

static void add_pixel(fit *f, const double *terms, const double color[3]) {
    for (int i = 0; i < f->n; i++) {
        for (int j = 0; j < f->n; j++) f->normal[i][j] += terms[i] * terms[j];
        for (int k = 0; k < 3; k++) f->normal[i][f->n + k] += terms[i] * color[k];
    }
}

/* Gauss and Jordan; the matrix is positive definite. */
static int solve(fit *f) {
    for (int i = 0; i < f->n; i++) {
        double pivot = f->normal[i][i];
        if (!(pivot > 1e-12)) return 0;
        for (int j = i; j < f->n + 3; j++) f->normal[i][j] /= pivot;
        for (int k = 0; k < f->n; k++) {
            double factor = f->normal[k][i];
            if (k == i) continue;
            for (int j = i; j < f->n + 3; j++) f->normal[k][j] -= factor * f->normal[i][j];
        }
    }
    return 1;
}

tsr_status tsr__preview_map_fit(tsr__preview_map *out, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *latent = NULL, *rgb = NULL;
    fit f = { 0 };
    TSR_TRY(tsr__engine_need_vae(engine, err));
    int channels = tsr__vae_latent_channels(engine->vae), factor = tsr__vae_factor(engine->vae);
    if (channels > TSR__PREVIEW_CHANNELS)
        TSR_FAIL(err, TSR_UNSUPPORTED, "no preview of latents with %d channels", channels);
    TSR_ALLOC(err, latent, (size_t)channels * SIDE * SIDE);
    TSR_ALLOC(err, rgb, (size_t)SIDE * SIDE * (size_t)(factor * factor) * 3);
    draw_squares(latent, channels, engine->denoiser.latent_scale);
    double start = tsr__seconds();
    TSR_TRY(tsr__vae_decode(engine->vae, rgb, latent, 1, SIDE, SIDE, 0, err));
    out->decode_seconds = (tsr__seconds() - start) / (SIDE * SIDE);
    out->channels = channels;
    f.n = channels + 1;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            double terms[TERMS], color[3];
            for (int c = 0; c < channels; c++) terms[c] = (double)latent[(c * SIDE + y) * SIDE + x];
            terms[channels] = 1.0;
            mean_color(color, rgb, factor, x, y);
            add_pixel(&f, terms, color);
        }
    if (!solve(&f)) TSR_FAIL(err, TSR_NOT_FINITE, "%s: no colours can be found for previews", engine->model);
    for (int i = 0; i < f.n; i++)
        for (int k = 0; k < 3; k++) out->colors[i][k] = f.normal[i][f.n + k];
done:
    free(latent);
    free(rgb);
    return status;
}

tsr_status tsr__preview_map_paint(tsr_image **out, const tsr__preview_map *map, const float *latent, const int shape[4],
                                  tsr_error *err) {
    tsr_status status = TSR_OK;
    float *rgb = NULL;
    int c = shape[1], h = shape[2], w = shape[3];
    size_t pixels = (size_t)h * (size_t)w;
    *out = NULL;
    if (c != map->channels) TSR_FAIL(err, TSR_BAD_ARGUMENT, "%d channels; the model has %d", c, map->channels);
    TSR_ALLOC(err, rgb, pixels * 3);
    for (size_t i = 0; i < pixels; i++)
        for (int k = 0; k < 3; k++) {
            double sum = map->colors[c][k];
            for (int j = 0; j < c; j++) sum += map->colors[j][k] * (double)latent[(size_t)j * pixels + i];
            rgb[i * 3 + (size_t)k] = isfinite(sum) ? (float)sum : 0.0f;
        }
    TSR_TRY(tsr_image_from_floats(out, rgb, w, h, err));
done:
    free(rgb);
    return status;
}

/* --- by a TAESD of their own ---------------------------------------------------------------------------------------------- */
enum { TILE_CELLS = 32 };

const char *tsr__preview_tiny_stem(const tsr_engine *engine) {
    return engine->family->kind == TSR_CHECKPOINT_SDXL ? "taesdxl_decoder" : "taesd_decoder";
}

char *tsr__preview_find_tiny(const tsr_engine *engine, const char *folder) {
    const char *name = tsr__taesd_name(engine->family->kind);
    char *found = folder ? tsr__taesd_with_ending(folder, tsr__preview_tiny_stem(engine)) : NULL;
    if (!found && folder) found = tsr__taesd_with_ending(folder, name);
    return found ? found : tsr__find_taesd(engine, name);
}

tsr_status tsr__preview_open_tiny(tsr_engine *engine, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__model_files files = { .vae = path };
    tsr__weights *weights = NULL;
    tsr__vae *tiny = NULL;
    const int channels = (int)engine->checkpoint.vae_channels;
    if (engine->preview_vae && strcmp(engine->preview_path, path) == 0) return TSR_OK;
    TSR_TRY(tsr__model_open(&weights, &files, err));
    TSR_TRY(tsr__vae_new(&tiny, engine->nn, weights, "first_stage_model.", NULL, err));
    if (channels && tsr__vae_latent_channels(tiny) != channels)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: for latents of %d channels; the model's have %d", path,
                 tsr__vae_latent_channels(tiny), channels);
    char *kept = tsr__strdup(path);
    if (!kept) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    free(engine->preview_path);
    tsr__vae_free(engine->preview_vae);
    engine->preview_path = kept;
    engine->preview_vae = tiny;
    tiny = NULL;
done:
    tsr__vae_free(tiny);
    tsr__weights_close(weights);
    return status;
}

int tsr__preview_tiny_fits(const tsr_engine *engine, const int shape[4]) {
    const int h = shape[2] < TILE_CELLS ? shape[2] : TILE_CELLS, w = shape[3] < TILE_CELLS ? shape[3] : TILE_CELLS;
    return tsr__vae_decode_bytes(engine->preview_vae, h, w) <= tsr__engine_memory(engine);
}

tsr_status tsr__preview_tiny_paint(tsr_image **out, tsr_engine *engine, const float *latent, const int shape[4],
                                   tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__vae *tiny = engine->preview_vae;
    float *rgb = NULL;
    const int h = shape[2], w = shape[3], factor = tsr__vae_factor(tiny);
    *out = NULL;
    if (shape[1] != tsr__vae_latent_channels(tiny))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%d channels; TAESD has %d", shape[1], tsr__vae_latent_channels(tiny));
    const int whole = tsr__vae_decode_bytes(tiny, h, w) <= tsr__engine_memory(engine);
    TSR_ALLOC(err, rgb, (size_t)h * (size_t)w * (size_t)(factor * factor) * 3);
    TSR_TRY(tsr__vae_decode(tiny, rgb, latent, 1, h, w, whole ? 0 : TILE_CELLS * factor, err));
    TSR_TRY(tsr_image_from_floats(out, rgb, w * factor, h * factor, err));
done:
    free(rgb);
    return status;
}
