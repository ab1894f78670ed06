/* upscale/iterative.c - see iterative.h. Knows the sizes of the steps; what a step does is the upscaler's. */
#include "upscale/iterative.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

enum { FACTOR = 8 };

static tsr_status check_options(const tsr__iterative_options *o, const int shape[4], tsr_error *err) {
    if (!(o->factor >= 1.0) || !isfinite(o->factor))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "upscale_factor is %g; give 1 or more", o->factor);
    if (o->steps < 1 || o->steps > 10000)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "upscale steps is %d; give 1 to 10000", o->steps);
    double width = FACTOR * shape[3] * o->factor, height = FACTOR * shape[2] * o->factor;
    if (width > TSR_IMAGE_MAX_SIDE || height > TSR_IMAGE_MAX_SIDE)
        return tsr__fail(err, TSR_TOO_LARGE, "upscale_factor %g makes %.0fx%.0f pixels; %d is the longest side",
                         o->factor, width, height, TSR_IMAGE_MAX_SIDE);
    return TSR_OK;
}

tsr_status tsr__iterative_steps(tsr__iterative_step **out, int *n_out, const int latent_shape[4],
                                const tsr__iterative_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__iterative_step *steps = NULL;
    double width = FACTOR * latent_shape[3], height = FACTOR * latent_shape[2], scale = 1.0;
    *out = NULL;
    *n_out = 0;
    TSR_TRY(check_options(options, latent_shape, err));
    double unit =
        options->geometric ? pow(options->factor, 1.0 / options->steps) : (options->factor - 1.0) / options->steps;
    TSR_ALLOC_ZERO(err, steps, options->steps);
    for (int i = 0; i < options->steps - 1; i++) {
        scale = options->geometric ? scale * unit : scale + unit;
        steps[i] = (tsr__iterative_step){ width * scale, height * scale, { i, options->steps } };
    }
    *n_out = options->steps - 1;
    if (scale < options->factor)
        steps[(*n_out)++] = (tsr__iterative_step){ width * options->factor,
                                                   height * options->factor,
                                                   { options->steps - 1, options->steps } };
    *out = steps;
done:
    return status;
}

static tsr_status check_upscaler(const tsr__upscaler *upscaler, tsr_error *err) {
    if (!upscaler || !upscaler->check || !upscaler->upscale || !upscaler->count)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "there is no upscaler; fill it with one of masked_upscaler.h");
    return upscaler->check(upscaler->self, err);
}

static tsr_status count_step(int64_t *evaluations, int *sampling_steps, const tsr__upscaler *upscaler,
                             const tsr__iterative_step *step, const int from[4], tsr_error *err) {
    const int shape[4] = { from[0], from[1], (int)step->height / FACTOR, (int)step->width / FACTOR };
    return upscaler->count(upscaler->self, step->time, shape, evaluations, sampling_steps, err);
}

static tsr_status count_all(int64_t *evaluations, int *sampling_steps, const tsr__upscaler *upscaler,
                            const tsr__iterative_step *steps, int n, const int from[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    *evaluations = 0;
    *sampling_steps = 0;
    for (int i = 0; i < n; i++) TSR_TRY(count_step(evaluations, sampling_steps, upscaler, &steps[i], from, err));
done:
    return status;
}

static tsr_status append(char **text, char *line, tsr_error *err) {
    char *longer = line ? tsr__format("%s%s", *text ? *text : "", line) : NULL;
    free(line);
    if (!longer) return tsr__fail(err, TSR_NO_MEMORY, "out of memory for the plan's text");
    free(*text);
    *text = longer;
    return TSR_OK;
}

tsr_status tsr__iterative_text(char **out, const int latent_shape[4], const tsr__upscaler *upscaler,
                               const tsr__iterative_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__iterative_step *steps = NULL;
    char *text = NULL;
    int n = 0, taken = 0;
    int64_t evaluations = 0;
    *out = NULL;
    TSR_TRY(check_upscaler(upscaler, err));
    TSR_TRY(tsr__iterative_steps(&steps, &n, latent_shape, options, err));
    TSR_TRY(append(&text,
                   tsr__format("from %dx%d by %g in %d %s steps\n", FACTOR * latent_shape[3], FACTOR * latent_shape[2],
                               options->factor, options->steps, options->geometric ? "geometric" : "simple"),
                   err));
    for (int i = 0; i < n; i++) {
        int64_t cost = 0;
        int own = 0;
        TSR_TRY(count_step(&cost, &own, upscaler, &steps[i], latent_shape, err));
        TSR_TRY(append(&text,
                       tsr__format("  %d: %dx%d, %s, %d sampling steps, %lld evaluations\n", i + 1,
                                   (int)steps[i].width / FACTOR * FACTOR, (int)steps[i].height / FACTOR * FACTOR,
                                   upscaler->describe(upscaler->self, steps[i].time), own, (long long)cost),
                       err));
        evaluations += cost;
        taken += own;
    }
    TSR_TRY(append(&text, tsr__format("%d sampling steps, %lld network evaluations\n", taken, (long long)evaluations),
                   err));
    *out = text;
    text = NULL;
done:
    free(steps);
    free(text);
    return status;
}

/* The node hands its latent's noise mask on from step to step, whatever the upscaler made of it. */
static tsr_status hand_mask_on(tsr_latent *latent, const tsr_mask *mask, tsr_error *err) {
    if (!mask) return TSR_OK;
    tsr_mask_free(latent->noise_mask);
    latent->noise_mask = NULL;
    return tsr_mask_copy(&latent->noise_mask, mask, err);
}

tsr_status tsr__iterative_latent(tsr_latent **out, const tsr_latent *latent, const tsr__upscaler *upscaler,
                                 const tsr__iterative_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__iterative_step *steps = NULL;
    tsr_latent *now = NULL;
    tsr__run run = { 0 };
    tsr_error own = TSR_ERROR_INIT;
    int n = 0;
    if (!err) err = &own; /* the status of a stopped solver is read from it */
    *out = NULL;
    if (!latent || !options) TSR_FAIL(err, TSR_BAD_ARGUMENT, "iterative upscale: latent or options is NULL");
    TSR_TRY(check_upscaler(upscaler, err));
    TSR_TRY(tsr__iterative_steps(&steps, &n, latent->shape, options, err));
    tsr__run_init(&run, options->hooks, latent->shape, upscaler->latent_scale);
    run.regions = upscaler->regions;
    TSR_TRY(count_all(&run.evaluations_total, &run.steps, upscaler, steps, n, latent->shape, err));
    TSR_TRY(tsr_latent_copy(&now, latent, err));
    for (int i = 0; i < n; i++) {
        tsr_latent *next = NULL;
        TSR_TRY(
            upscaler->upscale(upscaler->self, &next, now, steps[i].time, steps[i].width, steps[i].height, &run, err));
        tsr_latent_free(now);
        now = next;
        if (steps[i].time.step < options->steps - 1) TSR_TRY(hand_mask_on(now, latent->noise_mask, err));
    }
    *out = now;
    now = NULL;
done:
    tsr__run_clear(&run);
    tsr_latent_free(now);
    free(steps);
    return status;
}

tsr_status tsr__iterative_image(float **out, int *width_out, int *height_out, const float *rgb, int n, int width,
                                int height, const tsr__vae_table *vae, const tsr__upscaler *upscaler,
                                const tsr__iterative_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *latent = NULL, *larger = NULL;
    float *result = NULL;
    *out = NULL;
    *width_out = *height_out = 0;
    if (!rgb || !vae || !vae->decode || !vae->encode || n < 1)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "IterativeImageUpscale: there is no picture or no VAE");
    TSR_TRY(check_upscaler(upscaler, err));
    TSR_TRY(tsr__pixels_encode(&latent, vae, rgb, n, width, height, 0, err));
    TSR_TRY(tsr__iterative_latent(&larger, latent, upscaler, options, err));
    int h = larger->shape[2], w = larger->shape[3];
    TSR_ALLOC(err, result, (size_t)n * (size_t)(FACTOR * h) * (size_t)(FACTOR * w) * 3);
    TSR_TRY(vae->decode(vae->user, result, larger->values, n, h, w, 0, err));
    *width_out = FACTOR * w;
    *height_out = FACTOR * h;
    *out = result;
    result = NULL;
done:
    tsr_latent_free(latent);
    tsr_latent_free(larger);
    free(result);
    return status;
}
