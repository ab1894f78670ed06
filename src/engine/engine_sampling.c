/* engine/engine_sampling.c - see engine_sampling.h. */
#include "engine/engine_sampling.h"

#include <math.h>
#include <string.h>

#include "engine/engine_priv.h"

/* The consistency model's own spread of clean latents, and how its timesteps are stretched (Luo et al. 2023). */
#define LCM_DATA    0.5
#define LCM_STRETCH 10.0

void tsr__sampling_input(float *out, const float *x, size_t count, float sigma, const tsr__sampling *sampling) {
    const float data = (float)sampling->data, scale = sqrtf(sigma * sigma + data * data);
    if (sampling->rule == TSR__OUTPUT_IMAGE) memcpy(out, x, count * sizeof *out);
    else
        for (size_t i = 0; i < count; i++) out[i] = x[i] / scale;
}

/* denoised = keep x - take out. */
typedef struct mix {
    float keep, take;
} mix;

static mix mix_of(float at, const tsr__sampling *sampling) {
    const double sigma = (double)at, data = sampling->data, spread = sigma * sigma + data * data;
    mix m = { 1.0f, at };
    switch (sampling->rule) {
    case TSR__OUTPUT_EPS: break;
    case TSR__OUTPUT_V:
    case TSR__OUTPUT_EDM:
        m.keep = (float)(data * data / spread);
        m.take = (float)(sigma * data / sqrt(spread));
        if (sampling->rule == TSR__OUTPUT_EDM) m.take = -m.take;
        break;
    case TSR__OUTPUT_LCM: { /* c_skip x + c_out (x - sigma out) */
        double t = (double)tsr_timestep_of_sigma(sampling->table, at) * LCM_STRETCH;
        double skip = LCM_DATA * LCM_DATA / (t * t + LCM_DATA * LCM_DATA), out = t / sqrt(t * t + LCM_DATA * LCM_DATA);
        m.keep = (float)(skip + out);
        m.take = (float)(out * sigma);
        break;
    }
    case TSR__OUTPUT_X0:
    case TSR__OUTPUT_IMAGE:
        m.keep = 0.0f;
        m.take = -1.0f;
        break;
    }
    return m;
}

void tsr__sampling_denoised(float *denoised, const float *x, const float *out, size_t count, float sigma,
                            const tsr__sampling *sampling) {
    const mix m = mix_of(sigma, sampling);
    for (size_t i = 0; i < count; i++) denoised[i] = x[i] * m.keep - out[i] * m.take;
}

/* --- a denoiser ------------------------------------------------------------------------------------------------------------- */
static tsr_status denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count, tsr_error *err) {
    const tsr__sampled_denoiser *self = user;
    return tsr__engine_denoise_as(self->engine, self->sampling, shape, calls, count, err);
}

static tsr_status couple(void *user, const void **out, const void *const *conds, const float *const *weights, int n,
                         int height, int width, tsr_error *err) {
    return tsr__conditioning_couple(((tsr__sampled_denoiser *)user)->engine, out, conds, weights, n, height, width,
                                    err);
}

static void uncouple(void *user, const void *cond) {
    tsr__conditioning_uncouple(((tsr__sampled_denoiser *)user)->engine, cond);
}

static int is_ready(void *user) {
    return tsr__engine_is_ready(((tsr__sampled_denoiser *)user)->engine);
}

void tsr__sampled_denoiser_init(tsr__sampled_denoiser *out, tsr_engine *engine, const tsr__sampling *sampling) {
    out->engine = engine;
    out->sampling = sampling;
    out->denoiser = engine->denoiser;
    out->denoiser.user = out;
    out->denoiser.table = sampling->table;
    out->denoiser.denoise = denoise;
    out->denoiser.couple = couple;
    out->denoiser.uncouple = uncouple;
    out->denoiser.is_ready = is_ready;
}
