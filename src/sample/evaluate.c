/* sample/evaluate.c - from requests to network calls and back. See evaluate.h. */
#include "sample/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "sample/rescale.h"

typedef struct masked_x {
    const float *x;
    float sigma;
    const tsr__inpaint *inpaint;
    float *values; /* owned */
} masked_x;

typedef struct network_call {
    const tsr_denoiser *denoiser;
    const float *x;     /* as requested: the identity of the call */
    const float *input; /* what the network sees: x, or x under the noise mask */
    float sigma;
    const void *cond;
    const tsr__inpaint *inpaint;
    tsr__crop crop;
    float *cropped; /* owned: the crop of `input`; NULL before the first */
    float *out;     /* owned */
    int done;
} network_call;

static size_t count_of(const int shape[4]) {
    return (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
}

void tsr__evaluator_init(tsr__evaluator *evaluator, const int shape[4]) {
    memset(evaluator, 0, sizeof *evaluator);
    memcpy(evaluator->shape, shape, sizeof evaluator->shape);
    evaluator->count = count_of(shape);
}

void tsr__evaluator_clear(tsr__evaluator *evaluator) {
    for (int i = 0; i < evaluator->cap_calls; i++) {
        free(evaluator->calls[i].cropped);
        free(evaluator->calls[i].out);
    }
    for (int i = 0; i < evaluator->cap_masked; i++) free(evaluator->masked[i].values);
    free(evaluator->calls);
    free(evaluator->masked);
    free(evaluator->batch);
    free(evaluator->sides);
    memset(evaluator, 0, sizeof *evaluator);
}

int tsr__guide_is_plain(const tsr_guide *guide) {
    double cfg = (double)guide->cfg;
    return fabs(cfg - 1.0) <= 1e-9 * fmax(fabs(cfg), 1.0);
}

void tsr__evaluator_set_start(tsr__evaluator *evaluator, const float *latent, const float *mask) {
    const tsr_start_picture start = { evaluator->shape[3], evaluator->shape[2], latent, mask };
    evaluator->start = start;
}

/* Room for n requests: at most 2n network calls and n masked inputs. Result buffers are allocated when first used. */
static tsr_status reserve(tsr__evaluator *evaluator, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (n <= evaluator->cap_requests) return TSR_OK;
    int shape[4];
    const tsr_start_picture start = evaluator->start;
    memcpy(shape, evaluator->shape, sizeof shape);
    tsr__evaluator_clear(evaluator);
    tsr__evaluator_init(evaluator, shape);
    evaluator->start = start;
    TSR_ALLOC_ZERO(err, evaluator->calls, 2 * n);
    evaluator->cap_calls = 2 * n;
    TSR_ALLOC_ZERO(err, evaluator->masked, n);
    evaluator->cap_masked = n;
    TSR_ALLOC_ZERO(err, evaluator->batch, 2 * n);
    TSR_ALLOC_ZERO(err, evaluator->sides, 2 * n);
    evaluator->cap_requests = n;
done:
    return status;
}

static int same_crop(const tsr__crop *a, const tsr__crop *b) {
    return a->x == b->x && a->y == b->y && a->width == b->width && a->height == b->height;
}

/* Index of the network call for one side of a request, made if it is new. */
static int find_call(tsr__evaluator *evaluator, const tsr__request *request, const void *cond) {
    network_call *call;
    for (int i = 0; i < evaluator->n_calls; i++) {
        call = &evaluator->calls[i];
        if (call->denoiser == request->guide->denoiser && call->x == request->x && call->cond == cond &&
            call->sigma == request->sigma && call->inpaint == request->inpaint &&
            same_crop(&call->crop, &request->crop))
            return i;
    }
    call = &evaluator->calls[evaluator->n_calls];
    call->denoiser = request->guide->denoiser;
    call->x = call->input = request->x;
    call->sigma = request->sigma;
    call->cond = cond;
    call->inpaint = request->inpaint;
    call->crop = request->crop;
    return evaluator->n_calls++;
}

/* Lists the distinct network calls. */
static tsr_status collect(tsr__evaluator *evaluator, tsr__request *requests, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(reserve(evaluator, n, err));
    evaluator->requests = requests;
    evaluator->n_requests = n;
    evaluator->n_calls = 0;
    for (int i = 0; i < n; i++) {
        const tsr_guide *guide = requests[i].guide;
        evaluator->sides[2 * i] = find_call(evaluator, &requests[i], guide->positive);
        evaluator->sides[2 * i + 1] = -1;
    }
    for (int i = 0; i < n; i++) { /* negatives after the positives: those that share an x stay together */
        const tsr_guide *guide = requests[i].guide;
        if (tsr__guide_is_plain(guide) && !requests[i].uncond) continue;
        evaluator->sides[2 * i + 1] = find_call(evaluator, &requests[i], guide->negative);
    }
done:
    return status;
}

tsr_status tsr__evaluate_count(int *out, int64_t *pixels, int64_t whole, tsr__evaluator *evaluator,
                               tsr__request *requests, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = 0;
    TSR_TRY(collect(evaluator, requests, n, err));
    *out = evaluator->n_calls;
    if (pixels) *pixels = 0;
    for (int i = 0; pixels && i < evaluator->n_calls; i++) {
        const tsr__crop *crop = &evaluator->calls[i].crop;
        *pixels += crop->width ? (int64_t)crop->width * crop->height : whole;
    }
done:
    return status;
}

int tsr__evaluate_calls_of(const tsr__evaluator *evaluator, const tsr_denoiser *denoiser) {
    int n = 0;
    for (int i = 0; i < evaluator->n_calls; i++) n += evaluator->calls[i].denoiser == denoiser;
    return n;
}

/* The mask's value for value i of a latent. */
static size_t mask_at(const tsr__evaluator *evaluator, size_t i) {
    size_t plane = (size_t)evaluator->shape[2] * (size_t)evaluator->shape[3];
    return i / (plane * (size_t)evaluator->shape[1]) * plane + i % plane;
}

/* Puts the known picture, with its noise, under the network's input where nothing is to be repainted. */
static tsr_status mask_input(tsr__evaluator *evaluator, network_call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    masked_x *m = NULL;
    for (int i = 0; i < evaluator->n_masked; i++) {
        m = &evaluator->masked[i];
        if (m->x == call->x && m->sigma == call->sigma && m->inpaint == call->inpaint) {
            call->input = m->values;
            return TSR_OK;
        }
    }
    m = &evaluator->masked[evaluator->n_masked];
    if (!m->values) TSR_ALLOC(err, m->values, evaluator->count);
    m->x = call->x;
    m->sigma = call->sigma;
    m->inpaint = call->inpaint;
    evaluator->n_masked++;
    tsr__mask_step step = tsr__differential_at(&call->inpaint->differential, call->sigma);
    for (size_t i = 0; i < evaluator->count; i++) {
        float weight = tsr__mask_weight(&step, call->inpaint->mask[mask_at(evaluator, i)]);
        float known = call->inpaint->latent[i] + call->inpaint->noise[i] * call->sigma;
        m->values[i] = call->x[i] * weight + known * (1.0f - weight);
    }
    call->input = m->values;
done:
    return status;
}

/* The shape that the network sees. */
static void shape_of(int shape[4], const tsr__evaluator *evaluator, const tsr__crop *crop) {
    memcpy(shape, evaluator->shape, sizeof evaluator->shape);
    if (!crop->width) return;
    shape[2] = crop->height;
    shape[3] = crop->width;
}

/* Rows of the crop between a canvas and a buffer of the crop's own size: out of the canvas, or into it. */
static void copy_crop(const tsr__evaluator *evaluator, const tsr__crop *crop, const float *from, float *to, int into) {
    size_t width = (size_t)evaluator->shape[3], planes = (size_t)evaluator->shape[0] * (size_t)evaluator->shape[1];
    for (size_t p = 0; p < planes; p++)
        for (size_t y = 0; y < (size_t)crop->height; y++) {
            size_t at = (p * (size_t)evaluator->shape[2] + (size_t)crop->y + y) * width + (size_t)crop->x;
            size_t own = (p * (size_t)crop->height + y) * (size_t)crop->width;
            memcpy(to + (into ? at : own), from + (into ? own : at), (size_t)crop->width * sizeof *to);
        }
}

static tsr_status check_finite(const tsr__evaluator *evaluator, int index, const tsr__run *run, tsr_error *err) {
    const network_call *call = &evaluator->calls[index];
    char where[96];
    int region = 0, negative = 0, has_nan = 0, shape[4];
    shape_of(shape, evaluator, &call->crop);
    size_t bad = 0, count = count_of(shape);
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(call->out[i])) bad++;
        has_nan |= isnan(call->out[i]);
    }
    if (!bad) return TSR_OK;
    for (int i = evaluator->n_requests - 1; i >= 0; i--) {
        if (evaluator->sides[2 * i] != index && evaluator->sides[2 * i + 1] != index) continue;
        region = evaluator->requests[i].region;
        negative = evaluator->sides[2 * i] != index;
    }
    tsr__run_describe(run, call->sigma, region, where, sizeof where);
    return tsr__fail(
        err, TSR_NOT_FINITE,
        "%s: the network returned %s for the %s prompt (%zu of %zu values); use a lower cfg, f32 precision "
        "or another checkpoint",
        where, has_nan ? "NaN" : "infinity", negative ? "negative" : "positive", bad, count);
}

/* Calls that one denoise() takes: one network, one size. */
static int goes_with(const network_call *a, const network_call *b) {
    return a->denoiser == b->denoiser && a->crop.width == b->crop.width && a->crop.height == b->crop.height;
}

static tsr_status set_input(tsr__evaluator *evaluator, network_call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!call->out) TSR_ALLOC(err, call->out, evaluator->count);
    if (call->inpaint) TSR_TRY(mask_input(evaluator, call, err));
    if (call->crop.width) {
        if (!call->cropped) TSR_ALLOC(err, call->cropped, evaluator->count);
        copy_crop(evaluator, &call->crop, call->input, call->cropped, 0);
        call->input = call->cropped;
    }
done:
    return status;
}

/* One call of one denoiser with everything of one size that is asked of it. */
static tsr_status call_denoiser(tsr__evaluator *evaluator, const network_call *like, tsr__run *run, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_denoiser *denoiser = like->denoiser;
    int n = 0, shape[4];
    shape_of(shape, evaluator, &like->crop);
    for (int i = 0; i < evaluator->n_calls; i++) {
        network_call *call = &evaluator->calls[i];
        if (!goes_with(call, like)) continue;
        TSR_TRY(set_input(evaluator, call, err));
        tsr_denoise_call asked = { .x = call->input, .sigma = call->sigma, .cond = call->cond, .denoised = call->out };
        if (call->crop.width) {
            asked.left = call->crop.x;
            asked.top = call->crop.y;
            asked.canvas_width = evaluator->shape[3];
            asked.canvas_height = evaluator->shape[2];
        }
        if (evaluator->start.latent) {
            asked.start = &evaluator->start;
            asked.start_left = call->crop.x; /* 0 where the whole is asked for */
            asked.start_top = call->crop.y;
        }
        evaluator->batch[n++] = asked;
    }
    TSR_TRY(tsr__run_notify(run, TSR_PROGRESS_EVALUATE, like->sigma, err));
    TSR_TRY(denoiser->denoise(denoiser->user, shape, evaluator->batch, n, err));
    run->evaluations_done += n;
    for (int i = 0; i < evaluator->n_calls; i++)
        if (goes_with(&evaluator->calls[i], like)) {
            evaluator->calls[i].done = 1;
            TSR_TRY(check_finite(evaluator, i, run, err));
        }
done:
    return status;
}

/* out: the guided prediction of a call; x: what the network saw, which may be out itself. Without a negative side, or where the
 * guide has no use for it, the positive alone. */
static void guide_call(float *out, const float *x, const network_call *positive, const float *negative,
                       const tsr_guide *guide, const int shape[4]) {
    size_t count = count_of(shape), each = count / (size_t)shape[0];
    if (!negative || tsr__guide_is_plain(guide)) {
        memcpy(out, positive->out, count * sizeof *out);
        return;
    }
    for (size_t i = 0; guide->rescale > 0.0 && i < (size_t)shape[0]; i++)
        tsr__guide_rescaled(out + i * each, x + i * each, positive->out + i * each, negative + i * each, each,
                            positive->sigma, guide);
    for (size_t i = 0; !(guide->rescale > 0.0) && i < count; i++)
        out[i] = negative[i] + (positive->out[i] - negative[i]) * guide->cfg;
}

/* The guided crop is made in the positive call's input buffer, which nobody reads any more. */
static void combine_crop(const tsr__evaluator *evaluator, const tsr__request *request, network_call *call,
                         const float *negative) {
    int shape[4];
    shape_of(shape, evaluator, &call->crop);
    guide_call(call->cropped, call->cropped, call, negative, request->guide, shape);
    memcpy(request->denoised, request->x, evaluator->count * sizeof(float));
    copy_crop(evaluator, &call->crop, call->cropped, request->denoised, 1);
    if (!request->uncond || !negative) return;
    memcpy(request->uncond, request->x, evaluator->count * sizeof(float));
    copy_crop(evaluator, &call->crop, negative, request->uncond, 1);
}

static void combine(const tsr__evaluator *evaluator, int index) {
    const tsr__request *request = &evaluator->requests[index];
    network_call *positive = &evaluator->calls[evaluator->sides[2 * index]];
    int other = evaluator->sides[2 * index + 1];
    const float *negative = other < 0 ? NULL : evaluator->calls[other].out;
    const tsr__inpaint *inpaint = request->inpaint;
    if (positive->crop.width) {
        combine_crop(evaluator, request, positive, negative);
    } else {
        guide_call(request->denoised, positive->input, positive, negative, request->guide, evaluator->shape);
        if (request->uncond && negative) memcpy(request->uncond, negative, evaluator->count * sizeof(float));
    }
    if (!inpaint) return;
    tsr__mask_step step = tsr__differential_at(&inpaint->differential, request->sigma);
    for (size_t i = 0; i < evaluator->count; i++) {
        float weight = tsr__mask_weight(&step, inpaint->mask[mask_at(evaluator, i)]);
        request->denoised[i] = request->denoised[i] * weight + inpaint->latent[i] * (1.0f - weight);
    }
}

/* The call to make next: the first of a network that is in memory, else the first. NULL: all are done. */
static const network_call *next_call(const tsr__evaluator *evaluator) {
    const network_call *first = NULL;
    for (int i = 0; i < evaluator->n_calls; i++) {
        const network_call *call = &evaluator->calls[i];
        if (call->done) continue;
        if (!call->denoiser->is_ready || call->denoiser->is_ready(call->denoiser->user)) return call;
        if (!first) first = call;
    }
    return first;
}

tsr_status tsr__evaluate(tsr__evaluator *evaluator, tsr__request *requests, int n, tsr__run *run, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(collect(evaluator, requests, n, err));
    evaluator->n_masked = 0;
    for (int i = 0; i < evaluator->n_calls; i++) evaluator->calls[i].done = 0;
    for (const network_call *call; (call = next_call(evaluator)) != NULL;)
        TSR_TRY(call_denoiser(evaluator, call, run, err));
    for (int i = 0; i < n; i++) combine(evaluator, i);
done:
    return status;
}
