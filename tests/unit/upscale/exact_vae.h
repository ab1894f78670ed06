/* upscale/exact_vae.h - a VAE whose answers are known: a latent cell is a block of 8x8 equal pixels, channels 0 to 2 are red,
 * green and blue, and the fourth is their sum. Encoding takes the block's mean. Nothing is clamped, so that no value is
 * lost. Counts its calls and remembers the newest tile size. */
#ifndef TSR_TEST_EXACT_VAE_H
#define TSR_TEST_EXACT_VAE_H

#include "../../region/gaussian.h"
#include "upscale/masked_upscaler.h"

typedef struct exact_vae {
    tsr__vae_table table;
    int decodes, encodes, tile_px;
} exact_vae;

static tsr_status exact_decode(void *user, float *rgb, const float *latent, int n, int h, int w, int tile_px,
                               tsr_error *err) {
    exact_vae *vae = user;
    (void)err;
    vae->decodes++;
    vae->tile_px = tile_px;
    for (int k = 0; k < n; k++)
        for (int y = 0; y < 8 * h; y++)
            for (int x = 0; x < 8 * w; x++)
                for (int c = 0; c < 3; c++)
                    rgb[((k * 8 * h + y) * 8 * w + x) * 3 + c] = latent[((k * 4 + c) * h + y / 8) * w + x / 8];
    return TSR_OK;
}

static tsr_status exact_encode(void *user, float *latent, const float *rgb, int n, int height, int width, int tile_px,
                               tsr_error *err) {
    exact_vae *vae = user;
    int h = height / 8, w = width / 8;
    (void)err;
    vae->encodes++;
    vae->tile_px = tile_px;
    assert_int_equal(height % 8 + width % 8, 0);
    for (int k = 0; k < n; k++)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                float sum = 0.0f;
                for (int c = 0; c < 3; c++) {
                    float mean = 0.0f;
                    for (int i = 0; i < 64; i++)
                        mean += rgb[((k * height + 8 * y + i / 8) * width + 8 * x + i % 8) * 3 + c] / 64.0f;
                    latent[((k * 4 + c) * h + y) * w + x] = mean;
                    sum += mean;
                }
                latent[((k * 4 + 3) * h + y) * w + x] = sum;
            }
    return TSR_OK;
}

static inline void exact_vae_init(exact_vae *vae) {
    memset(vae, 0, sizeof *vae);
    vae->table = (tsr__vae_table){ vae, 4, exact_decode, exact_encode };
}

static inline float *cell(tsr_latent *latent, int k, int c, int y, int x) {
    return &latent->values[((k * latent->shape[1] + c) * latent->shape[2] + y) * latent->shape[3] + x];
}

/* Different in every cell, and the fourth channel as this VAE makes it. */
static inline tsr_latent *pattern(int n, int h, int w) {
    tsr_latent *latent = zero_latent(n, 4, h, w);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < h * w; i++) {
            float sum = 0.0f;
            for (int c = 0; c < 3; c++) {
                float value = 0.1f * (float)((i * (c + 2) + k) % 11) - 0.3f;
                *cell(latent, k, c, i / w, i % w) = value;
                sum += value;
            }
            *cell(latent, k, 3, i / w, i % w) = sum;
        }
    return latent;
}

static inline void expect_near(const tsr_latent *a, const tsr_latent *b, float tolerance) {
    assert_memory_equal(a->shape, b->shape, sizeof a->shape);
    for (size_t i = 0; i < tsr_latent_count(a); i++)
        if (!(fabsf(a->values[i] - b->values[i]) <= tolerance))
            fail_msg("value %zu is %g, not %g", i, (double)a->values[i], (double)b->values[i]);
}

/* nearest-exact to twice the size, as the exact VAE sees it. */
static inline tsr_latent *doubled(tsr_latent *latent) {
    const int *s = latent->shape;
    tsr_latent *out = zero_latent(s[0], s[1], 2 * s[2], 2 * s[3]);
    for (int k = 0; k < s[0]; k++)
        for (int c = 0; c < s[1]; c++)
            for (int y = 0; y < 2 * s[2]; y++)
                for (int x = 0; x < 2 * s[3]; x++) *cell(out, k, c, y, x) = *cell(latent, k, c, y / 2, x / 2);
    return out;
}

#endif /* TSR_TEST_EXACT_VAE_H */
