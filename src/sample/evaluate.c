/* sample/evaluate.c - from requests to network calls and back. See evaluate.h. */
#include "sample/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

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
    float *out; /* owned */
} network_call;

void tsr__evaluator_init(tsr__evaluator *evaluator, const int shape[4]) {
    memset(evaluator, 0, sizeof *evaluator);
    memcpy(evaluator->shape, shape, sizeof evaluator->shape);
    evaluator->count = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
}

void tsr__evaluator_clear(tsr__evaluator *evaluator) {
    for (int i = 0; i < evaluator->cap_calls; i++) free(evaluator->calls[i].out);
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

/* Room for n requests: at most 2n network calls and n masked inputs. Result buffers are allocated when first used. */
static tsr_status reserve(tsr__evaluator *evaluator, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (n <= evaluator->cap_requests) return TSR_OK;
    int shape[4];
    memcpy(shape, evaluator->shape, sizeof shape);
    tsr__evaluator_clear(evaluator);
    tsr__evaluator_init(evaluator, shape);
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

/* Index of the network call for one side of a request, made if it is new. */
static int find_call(tsr__evaluator *evaluator, const tsr__request *request, const void *cond) {
    network_call *call;
    for (int i = 0; i < evaluator->n_calls; i++) {
        call = &evaluator->calls[i];
        if (call->denoiser == request->guide->denoiser && call->x == request->x && call->cond == cond &&
            call->sigma == request->sigma && call->inpaint == request->inpaint)
            return i;
    }
    call = &evaluator->calls[evaluator->n_calls];
    call->denoiser = request->guide->denoiser;
    call->x = call->input = request->x;
    call->sigma = request->sigma;
    call->cond = cond;
    call->inpaint = request->inpaint;
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

tsr_status tsr__evaluate_count(int *out, tsr__evaluator *evaluator, tsr__request *requests, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = 0;
    TSR_TRY(collect(evaluator, requests, n, err));
    *out = evaluator->n_calls;
done:
    return status;
}

/* Puts the known picture, with its noise, under the network's input where nothing is to be repainted. */
static tsr_status mask_input(tsr__evaluator *evaluator, network_call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t plane = (size_t)evaluator->shape[2] * (size_t)evaluator->shape[3];
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
    for (size_t i = 0; i < evaluator->count; i++) {
        float weight = call->inpaint->mask[i % plane];
        float known = call->inpaint->latent[i] + call->inpaint->noise[i] * call->sigma;
        m->values[i] = call->x[i] * weight + known * (1.0f - weight);
    }
    call->input = m->values;
done:
    return status;
}

static tsr_status check_finite(const tsr__evaluator *evaluator, int index, const tsr__run *run, tsr_error *err) {
    const network_call *call = &evaluator->calls[index];
    char where[96];
    int region = 0, negative = 0, has_nan = 0;
    size_t bad = 0;
    for (size_t i = 0; i < evaluator->count; i++) {
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
        where, has_nan ? "NaN" : "infinity", negative ? "negative" : "positive", bad, evaluator->count);
}

/* One call of one denoiser with everything that is asked of it. */
static tsr_status call_denoiser(tsr__evaluator *evaluator, const tsr_denoiser *denoiser, tsr__run *run,
                                tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = 0;
    float sigma = 0.0f;
    for (int i = 0; i < evaluator->n_calls; i++) {
        network_call *call = &evaluator->calls[i];
        if (call->denoiser != denoiser) continue;
        if (!call->out) TSR_ALLOC(err, call->out, evaluator->count);
        if (call->inpaint) TSR_TRY(mask_input(evaluator, call, err));
        tsr_denoise_call asked = { call->input, call->sigma, call->cond, call->out };
        evaluator->batch[n++] = asked;
        sigma = call->sigma;
    }
    TSR_TRY(tsr__run_notify(run, TSR_PROGRESS_EVALUATE, sigma, err));
    TSR_TRY(denoiser->denoise(denoiser->user, evaluator->shape, evaluator->batch, n, err));
    run->evaluations_done += n;
    for (int i = 0; i < evaluator->n_calls; i++)
        if (evaluator->calls[i].denoiser == denoiser) TSR_TRY(check_finite(evaluator, i, run, err));
done:
    return status;
}

static void combine(const tsr__evaluator *evaluator, int index) {
    const tsr__request *request = &evaluator->requests[index];
    const float *positive = evaluator->calls[evaluator->sides[2 * index]].out;
    int other = evaluator->sides[2 * index + 1];
    const float *negative = other < 0 ? NULL : evaluator->calls[other].out;
    const tsr__inpaint *inpaint = request->inpaint;
    size_t plane = (size_t)evaluator->shape[2] * (size_t)evaluator->shape[3];
    float cfg = request->guide->cfg;
    if (negative && !tsr__guide_is_plain(request->guide))
        for (size_t i = 0; i < evaluator->count; i++)
            request->denoised[i] = negative[i] + (positive[i] - negative[i]) * cfg;
    else memcpy(request->denoised, positive, evaluator->count * sizeof(float));
    if (request->uncond && negative) memcpy(request->uncond, negative, evaluator->count * sizeof(float));
    if (!inpaint) return;
    for (size_t i = 0; i < evaluator->count; i++) {
        float weight = inpaint->mask[i % plane];
        request->denoised[i] = request->denoised[i] * weight + inpaint->latent[i] * (1.0f - weight);
    }
}

tsr_status tsr__evaluate(tsr__evaluator *evaluator, tsr__request *requests, int n, tsr__run *run, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(collect(evaluator, requests, n, err));
    evaluator->n_masked = 0;
    for (int i = 0; i < evaluator->n_calls; i++) {
        const tsr_denoiser *denoiser = evaluator->calls[i].denoiser;
        int seen = 0;
        for (int j = 0; j < i && !seen; j++) seen = evaluator->calls[j].denoiser == denoiser;
        if (!seen) TSR_TRY(call_denoiser(evaluator, denoiser, run, err));
    }
    for (int i = 0; i < n; i++) combine(evaluator, i);
done:
    return status;
}
