/* region/variation.c - a region's own noise mixed into the canvas noise.
 *
 * Source of the rules: reference/comfyui-sampling.md, "Noise variation per region". */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/plan_priv.h"
#include "tessera/noise.h"

static size_t count_of(const int shape[4]) {
    return (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
}

int tsr__plan_varies(const tsr_plan *plan) {
    for (int k = 1; k < plan->n_actors; k++)
        if (plan->actors[k].variation_strength > 0.0f) return 1;
    return 0;
}

/* Unit variance again after the mix: divide by sqrt((1 - s)^2 + s^2). */
static void mix_linear(float *out, const float *from, const float *to, size_t count, double s) {
    float norm = (float)sqrt((1.0 - s) * (1.0 - s) + s * s);
    for (size_t i = 0; i < count; i++) out[i] = ((float)(1.0 - s) * from[i] + (float)s * to[i]) / norm;
}

/* Along the great circle between two noises, each batch item for itself. Parallel ones leave nothing to turn. */
static void mix_slerp(float *out, const float *from, const float *to, size_t count, double s) {
    double ff = 0.0, tt = 0.0, ft = 0.0;
    for (size_t i = 0; i < count; i++) {
        ff += (double)from[i] * (double)from[i];
        tt += (double)to[i] * (double)to[i];
        ft += (double)from[i] * (double)to[i];
    }
    double cosine = ff > 0.0 && tt > 0.0 ? ft / sqrt(ff * tt) : 0.0;
    double omega = acos(fmax(-1.0, fmin(1.0, cosine)));
    double a = 1.0, b = 0.0;
    if (sin(omega) > 1e-6) {
        a = sin((1.0 - s) * omega) / sin(omega);
        b = sin(s * omega) / sin(omega);
    }
    for (size_t i = 0; i < count; i++) out[i] = (float)a * from[i] + (float)b * to[i];
}

/* out: noise turned towards the actor's own. own: room for as much. */
static tsr_status vary(float *out, float *own, const float *noise, const tsr__actor *actor, const int shape[4],
                       tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t item = count_of(shape) / (size_t)shape[0];
    TSR_TRY(tsr_initial_noise(own, shape, actor->variation_seed, NULL, err));
    for (int n = 0; n < shape[0]; n++) {
        size_t at = (size_t)n * item;
        if (actor->variation_method == TSR_VARIATION_SLERP)
            mix_slerp(out + at, noise + at, own + at, item, (double)actor->variation_strength);
        else mix_linear(out + at, noise + at, own + at, item, (double)actor->variation_strength);
    }
done:
    return status;
}

tsr_status tsr__restart_noise(float *out, const tsr_plan *plan, const tsr_latent *latent, uint64_t seed,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = tsr_latent_count(latent), plane = (size_t)latent->shape[2] * (size_t)latent->shape[3];
    float *mixed = NULL, *own = NULL;
    tsr_mask *mask = NULL;
    TSR_ALLOC(err, mixed, count);
    TSR_ALLOC(err, own, count);
    TSR_TRY(tsr_initial_noise(out, latent->shape, seed, latent->batch_index, err));
    for (int k = 1; k < plan->n_actors; k++) {
        const tsr__actor *actor = &plan->actors[k];
        if (!(actor->variation_strength > 0.0f)) continue;
        TSR_TRY(vary(mixed, own, out, actor, latent->shape, err));
        TSR_TRY(tsr_mask_resize(&mask, actor->mask, latent->shape[3], latent->shape[2], err));
        for (size_t i = 0; i < count; i++) { /* between 0 and 1 the reference leaves no noise at all */
            float m = mask->values[i % plane];
            out[i] = m == 1.0f ? mixed[i] : m == 0.0f ? out[i] : 0.0f;
        }
        tsr_mask_free(mask);
        mask = NULL;
    }
done:
    free(mixed);
    free(own);
    tsr_mask_free(mask);
    return status;
}

/* Variance of sum_k W_k n_k at a pixel, where n_k = a_k canvas + b_k own_k and equal variation seeds are one noise. */
static double mixed_variance(const tsr_plan *plan, size_t pixel) {
    double shared = 0.0, own = 0.0;
    for (int k = 0; k < plan->n_actors; k++) {
        const tsr__actor *actor = &plan->actors[k];
        double s = (double)actor->variation_strength, w = (double)actor->weights[pixel];
        double a = 1.0 - s, b = s, norm = sqrt(a * a + b * b), half_pi = 1.57079632679489662;
        if (actor->variation_method == TSR_VARIATION_SLERP) {
            a = cos(s * half_pi);
            b = sin(s * half_pi);
            norm = 1.0;
        }
        shared += w * a / norm;
        double sum = w * b / norm;
        for (int j = 0; j < k; j++) { /* cross terms with the same own noise */
            const tsr__actor *other = &plan->actors[j];
            double t = (double)other->variation_strength;
            double d = other->variation_method == TSR_VARIATION_SLERP ? sin(t * half_pi)
                                                                      : t / sqrt((1.0 - t) * (1.0 - t) + t * t);
            if (t > 0.0 && other->variation_seed == actor->variation_seed)
                own += 2.0 * sum * (double)other->weights[pixel] * d;
        }
        own += sum * sum;
    }
    return shared * shared + own;
}

tsr_status tsr__keep_noise(float *out, const tsr_plan *plan, const tsr_latent *latent, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = tsr_latent_count(latent), plane = (size_t)latent->shape[2] * (size_t)latent->shape[3];
    float *canvas = NULL, *mixed = NULL, *own = NULL;
    TSR_TRY(tsr_initial_noise(out, latent->shape, plan->options.seed, latent->batch_index, err));
    if (!tsr__plan_varies(plan)) goto done;
    TSR_ALLOC(err, canvas, count);
    TSR_ALLOC(err, mixed, count);
    TSR_ALLOC(err, own, count);
    memcpy(canvas, out, count * sizeof(float));
    for (int k = 0; k < plan->n_actors; k++) {
        const tsr__actor *actor = &plan->actors[k];
        if (actor->variation_strength > 0.0f) TSR_TRY(vary(mixed, own, canvas, actor, latent->shape, err));
        else memcpy(mixed, canvas, count * sizeof(float));
        for (size_t i = 0; i < count; i++) {
            float w = actor->weights[i % plane];
            out[i] = w == 1.0f ? mixed[i] : k == 0 ? w * mixed[i] : w > 0.0f ? out[i] + w * mixed[i] : out[i];
        }
    }
    for (size_t p = 0; p < plane; p++) {
        float scale = (float)(1.0 / sqrt(mixed_variance(plan, p)));
        int whole = 0;
        for (int k = 0; k < plan->n_actors; k++) whole |= plan->actors[k].weights[p] == 1.0f;
        for (size_t i = p; !whole && i < count; i += plane) out[i] *= scale;
    }
done:
    free(canvas);
    free(mixed);
    free(own);
    return status;
}
