/* engine/engine_denoise.c - the UNet as sampling sees it: calls of equal sigma become one batch.
 *
 * What the output means is engine_sampling.h's. Knows nothing of guidance. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_priv.h"

/* Above this many latent pixels (four 512x512 pictures) a larger batch no longer makes the network faster. */
#define BATCH_PIXELS ((size_t)16384)
/* Activations of SD1's full-size UNet hold about this many bytes a latent pixel at their peak. */
#define BYTES_PER_PIXEL ((size_t)96 * 1024)
#define FULL_CHANNELS   ((size_t)320)

size_t tsr__engine_cell_bytes(const tsr_engine *engine) {
    size_t channels = (size_t)engine->checkpoint.unet_channels;
    return BYTES_PER_PIXEL * (channels ? channels : FULL_CHANNELS) / FULL_CHANNELS;
}

static int batch_limit(const tsr_engine *engine, const int shape[4]) {
    size_t pixels = (size_t)shape[2] * (size_t)shape[3];
    size_t most = tsr__engine_memory(engine) / tsr__engine_cell_bytes(engine);
    if (most > BATCH_PIXELS) most = BATCH_PIXELS;
    size_t calls = most / (pixels * (size_t)shape[0]);
    return calls < 1 ? 1 : calls > 64 ? 64 : (int)calls;
}

typedef struct batch {
    const tsr_denoise_call *calls[64];
    int count;
    int channels;     /* that the UNet takes: c, and what is concatenated */
    float *in;        /* [count * n, channels, h, w] */
    float *out;       /* [count * n, c, h, w] */
    float *timesteps; /* [count * n] */
    tsr__unet_context **contexts;
    float *labels;               /* SDXL: [count, label width]; else NULL */
    const float **label_rows;    /* [count * n] */
    const tsr__nn_terms **terms; /* [count * n] */
} batch;

static void batch_clear(batch *b) {
    free(b->in);
    free(b->out);
    free(b->timesteps);
    free(b->contexts);
    free(b->labels);
    free(b->label_rows);
    free(b->terms);
    memset(b, 0, sizeof *b);
}

static tsr_status batch_alloc(batch *b, const int shape[4], int channels, int calls, int label_width, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t samples = (size_t)shape[0] * (size_t)calls, plane = (size_t)shape[2] * (size_t)shape[3];
    b->channels = channels;
    TSR_ALLOC(err, b->in, samples * (size_t)channels * plane);
    TSR_ALLOC(err, b->out, samples * (size_t)shape[1] * plane);
    TSR_ALLOC(err, b->timesteps, samples);
    TSR_ALLOC(err, b->contexts, samples);
    TSR_ALLOC(err, b->terms, samples);
    if (label_width) {
        TSR_ALLOC(err, b->labels, calls * label_width);
        TSR_ALLOC(err, b->label_rows, samples);
    }
done:
    return status;
}

/* The sizes that SDXL is told are those of the picture it sees: the canvas, or a crop of it. */
static void fill_labels(const tsr_engine *engine, batch *b, const int shape[4]) {
    const int factor = 8, width = tsr__unet_label_width(engine->unet),
              pooled = width - TSR__SIZE_VALUES * TSR__SIZE_WIDTH;
    const float high = (float)(shape[2] * factor), wide = (float)(shape[3] * factor);
    const float sizes[TSR__SIZE_VALUES] = { high, wide, 0.0f, 0.0f, high, wide };
    for (int i = 0; i < b->count; i++) {
        float *label = b->labels + (size_t)i * (size_t)width;
        tsr__family_label(label, ((const tsr__conditioning *)b->calls[i]->cond)->pooled, pooled, sizes);
        for (int k = 0; k < shape[0]; k++) b->label_rows[i * shape[0] + k] = label;
    }
}

/* One call's part of b->in: x scaled, then what is concatenated as it is. */
static tsr_status fill_input(const tsr_engine *engine, float *to, const batch *b, const tsr_denoise_call *call,
                             const int shape[4], const tsr__sampling *sampling, tsr_error *err) {
    size_t plane = (size_t)shape[2] * (size_t)shape[3], count = (size_t)shape[1] * plane;
    size_t stride = (size_t)b->channels * plane;
    const tsr_engine *host = engine->host ? engine->host : engine;
    const tsr_latent *given = ((const tsr__conditioning *)call->cond)->concat;
    if (!given) given = engine->checkpoint.variant == TSR_VARIANT_EDIT ? host->edited : host->concat;
    for (size_t n = 0; n < (size_t)shape[0]; n++)
        tsr__sampling_input(to + n * stride, call->x + n * count, count, call->sigma, sampling);
    if (stride == count) return TSR_OK;
    return tsr__concat_fill(to + count, stride, engine, given, call, shape, err);
}

static tsr_status run_batch(tsr_engine *engine, const tsr__sampling *sampling, batch *b, const int shape[4],
                            tsr_error *err) {
    size_t each = (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3], call_count = each * (size_t)shape[0];
    float sigma = b->calls[0]->sigma; /* NOLINT(clang-analyzer-core.NullDereference): a batch has a first call */
    float timestep = tsr_timestep_of_sigma(sampling->table, sigma);
    int samples = 0;
    tsr_status status = tsr__engine_check_cancel(engine, err);
    if (status != TSR_OK) return status;
    for (int i = 0; i < b->count; i++) {
        const tsr__conditioning *cond = b->calls[i]->cond;
        float *to = b->in + (size_t)(i * shape[0] * b->channels) * (size_t)shape[2] * (size_t)shape[3];
        status = fill_input(engine, to, b, b->calls[i], shape, sampling, err);
        if (status != TSR_OK) return status;
        for (int k = 0; k < shape[0]; k++) {
            b->timesteps[samples] = timestep;
            b->terms[samples] = tsr__adapters_unet(cond->adapters);
            b->contexts[samples++] = cond->context;
        }
    }
    if (b->labels) fill_labels(engine, b, shape);
    tsr_error inner = TSR_ERROR_INIT;
    tsr__control_batch asked = { .calls = b->calls,
                                 .count = b->count,
                                 .shape = shape,
                                 .in = b->in,
                                 .channels = b->channels,
                                 .timestep = timestep,
                                 .labels = b->label_rows };
    tsr__control_result control;
    status = tsr__controls_run(&control, engine, &asked, err);
    if (status != TSR_OK) return status;
    tsr__nn_terms_use(engine->nn, b->terms, samples);
    status = tsr__unet_run_controlled(engine->unet, b->out, b->in, samples, shape[2], shape[3], b->timesteps,
                                      b->contexts, b->label_rows, control.controls, control.count, &inner);
    tsr__nn_terms_use(engine->nn, NULL, 0);
    tsr__controls_result_clear(&control);
    tsr__budget_used(engine);
    /* Sampling knows the step, the noise level and the side; it names them when it finds the NaN. */
    if (status == TSR_NOT_FINITE)
        for (size_t i = 0; i < (size_t)samples * each; i++) b->out[i] = NAN;
    else if (status != TSR_OK) return tsr__fail(err, status, "%s", inner.message);
    for (int i = 0; i < b->count; i++)
        tsr__sampling_denoised(b->calls[i]->denoised, b->calls[i]->x, b->out + (size_t)i * call_count, call_count,
                               sigma, sampling);
    return TSR_OK;
}

static int same_batch(const tsr_denoise_call *a, const tsr_denoise_call *b) {
    return a->sigma == b->sigma &&
           ((const tsr__conditioning *)a->cond)->tokens == ((const tsr__conditioning *)b->cond)->tokens;
}

tsr_status tsr__engine_denoise_as(tsr_engine *engine, const tsr__sampling *sampling, const int shape[4],
                                  const tsr_denoise_call *calls, int count, tsr_error *err) {
    tsr_status status = TSR_OK;
    batch b = { .count = 0 };
    unsigned char *taken = NULL;
    if (count < 1) return TSR_OK;
    for (int i = 0; i < count; i++) {
        /* The handles are this engine's own objects; sampling only passes them on. */
        TSR_TRY(tsr__conditioning_need(engine, (tsr__conditioning *)(uintptr_t)calls[i].cond, err));
    }
    const size_t cells = (size_t)shape[0] * (size_t)shape[2] * (size_t)shape[3],
                 call = cells * tsr__engine_cell_bytes(engine);
    TSR_TRY(tsr__engine_need_unet_for(engine, call, err));
    for (int i = 0; i < count; i++) { /* where the UNet was packed again */
        const tsr__conditioning *cond = calls[i].cond;
        TSR_TRY(tsr__adapters_bind_unet(cond->adapters, engine, err));
        TSR_TRY(tsr__controls_need(cond->controls, engine, calls[i].sigma, call, err));
    }
    int limit = batch_limit(engine, shape);
    int channels = tsr__unet_in_channels(engine->unet), concat = tsr__concat_channels(engine);
    if (shape[1] != channels - concat)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: its UNet takes latents of %d channels, this one has %d", engine->model,
                 channels - concat, shape[1]);
    TSR_ALLOC_ZERO(err, taken, count);
    TSR_TRY(batch_alloc(&b, shape, channels, limit < count ? limit : count, tsr__unet_label_width(engine->unet), err));
    for (int first = 0; first < count; first++) {
        if (taken[first]) continue;
        b.count = 0;
        for (int i = first; i < count && b.count < limit; i++) {
            if (taken[i] || !same_batch(&calls[first], &calls[i])) continue;
            b.calls[b.count++] = &calls[i];
            taken[i] = 1;
        }
        TSR_TRY(run_batch(engine, sampling, &b, shape, err));
    }
done:
    batch_clear(&b);
    free(taken);
    return status;
}

tsr_status tsr__engine_denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count,
                               tsr_error *err) {
    tsr_engine *engine = user;
    return tsr__engine_denoise_as(engine, &engine->sampling, shape, calls, count, err);
}
