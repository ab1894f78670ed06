/* nn/onednn/onednn_backend.c - the CPU back end: linear layers and convolutions by oneDNN, the rest by src/nn/cpu. */
#include "nn/onednn/onednn_priv.h"
#include <omp.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Instruction sets are bit masks, each containing those it builds on. oneDNN's own limit (ONEDNN_MAX_CPU_ISA)
 * counts. */
static int has_isa(dnnl_cpu_isa_t isa) {
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)isa) == (unsigned)isa;
}

static int has_bf16(void) {
    return has_isa(dnnl_cpu_isa_avx512_core_bf16) && tsr__kernels_bf16_or_null() != NULL;
}

static void close_backend(tsr__nn *nn) {
    tsr__onednn *state = nn->state;
    if (!state) return;
    tsr__dnn_cache_clear(state);
    if (state->stream) (void)dnnl_stream_destroy(state->stream);
    if (state->engine) (void)dnnl_engine_destroy(state->engine);
    free(state);
    nn->state = NULL;
}

static tsr_status open_backend(tsr__nn *nn, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__onednn *state = NULL;
    TSR_ALLOC_ZERO(err, state, 1);
    nn->state = state;
    TSR_DNN(err, dnnl_engine_create(&state->engine, dnnl_cpu, 0), "CPU engine");
    state->pointwise_by_conv = has_isa(dnnl_cpu_isa_avx2) && !has_isa(dnnl_cpu_isa_avx512_core);
    TSR_DNN(err, dnnl_stream_create(&state->stream, state->engine, dnnl_stream_default_flags), "CPU stream");
done:
    if (status != TSR_OK) close_backend(nn);
    return status;
}

static const tsr__weight_spec *weight_spec(const tsr__nn_weight *weight) {
    return &weight->spec;
}

/* oneDNN sizes its work by OpenMP's thread count, which belongs to the calling thread: it is lent and given back. */
static int set_threads(const tsr__nn *nn) {
    int before = omp_get_max_threads();
    if (before != nn->threads) omp_set_num_threads(nn->threads);
    return before;
}

static void restore_threads(int before) {
    if (before != omp_get_max_threads()) omp_set_num_threads(before);
}

enum { PACKING_VERSION = 1 };

static void packing(tsr__nn_packing *out) {
    const dnnl_version_t *v = dnnl_version();
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    const char *name = dnnl_cpu_isa2str((dnnl_cpu_isa_t)isa), *start = "cpu_isa_";
    memset(out, 0, sizeof *out);
    out->version = PACKING_VERSION;
    snprintf(out->library, sizeof out->library, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    if (strncmp(name, start, strlen(start)) == 0) name += strlen(start);
    if (strstr(name, "unknown")) snprintf(out->isa, sizeof out->isa, "isa 0x%x", isa);
    else snprintf(out->isa, sizeof out->isa, "%s", name);
}

/* A packed weight is described for the threads that it was packed for. */
static tsr_status weight_new(tsr__nn *nn, tsr__nn_weight **out, const tsr__weight_spec *spec, tsr_error *err) {
    int before = set_threads(nn);
    if (spec->packed && spec->packed->threads != nn->threads) omp_set_num_threads(spec->packed->threads);
    tsr_status status = tsr__dnn_weight_new(nn, out, spec, err);
    restore_threads(before);
    return status;
}

typedef struct buffers {
    const void *src, *residual;
    void *dst;
    const float *bias;
} buffers;

static void *writable(const void *p) {
    return (void *)(uintptr_t)p;
} /* oneDNN's handles are not const */

static dnnl_status_t execute(tsr__onednn *state, const tsr__entry *e, const tsr__pack *pack, const buffers *b,
                             void *scratch) {
    int residual_at = e->problem.act == TSR__ACT_NONE || e->problem.act_last ? 0 : 1, second = b->residual != NULL;
    dnnl_exec_arg_t args[] = { { DNNL_ARG_SRC, e->src },
                               { DNNL_ARG_WEIGHTS, pack->memory },
                               { DNNL_ARG_BIAS, e->bias },
                               { DNNL_ARG_DST, e->dst },
                               { DNNL_ARG_SCRATCHPAD, e->scratch },
                               { DNNL_ARG_ATTR_MULTIPLE_POST_OP(residual_at) | DNNL_ARG_SRC_1, e->residual } };
    dnnl_status_t code = dnnl_memory_set_data_handle(e->src, writable(b->src));
    if (code == dnnl_success) code = dnnl_memory_set_data_handle(e->dst, b->dst);
    if (code == dnnl_success) code = dnnl_memory_set_data_handle(e->bias, writable(b->bias));
    if (code == dnnl_success && scratch) code = dnnl_memory_set_data_handle(e->scratch, scratch);
    if (code == dnnl_success && second) code = dnnl_memory_set_data_handle(e->residual, writable(b->residual));
    if (code == dnnl_success) code = dnnl_primitive_execute(e->primitive, state->stream, second ? 6 : 5, args);
    if (code == dnnl_success) code = dnnl_stream_wait(state->stream);
    return code;
}

static tsr_status run(tsr__nn *nn, const tsr__problem *problem, const tsr__nn_weight *weight, const buffers *b,
                      tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__entry *entry = NULL;
    void *scratch = NULL;
    tsr__nn_weight *owned = writable(weight); /* the model lends it as const; a second layout may be added */
    int pack = 0, before = set_threads(nn);
    char text[128];
    if (!weight->packs[0].data) TSR_FAIL(err, TSR_BACKEND, "a weight without numbers (planned only) was to be used");
    TSR_TRY(tsr__dnn_primitive(nn, &entry, &pack, problem, owned, err));
    if (entry->scratch_size) {
        scratch = tsr__pool_take(&nn->pool, entry->scratch_size);
        tsr__dnn_problem_text(text, sizeof text, problem);
        if (!scratch) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory (%zu bytes) in %s", entry->scratch_size, text);
    }
    dnnl_status_t code = execute(nn->state, entry, &weight->packs[pack], b, scratch);
    if (code != dnnl_success) {
        tsr__dnn_problem_text(text, sizeof text, problem);
        TSR_FAIL(err, code == dnnl_out_of_memory ? TSR_NO_MEMORY : TSR_BACKEND, "oneDNN status %d in %s", (int)code,
                 text);
    }
done:
    tsr__pool_give(&nn->pool, scratch);
    restore_threads(before);
    return status;
}

/* Runs a problem from src to dst. A convolution finds its residual in its destination; one with an activation before
 * the sum has no fast implementation on AVX2, so there the residual is added by hand. */
static tsr_status run_with_residual(tsr__nn *nn, tsr__problem *p, const tsr__nn_weight *w, const tsr__tensor *src,
                                    tsr__tensor *dst, const tsr__tensor *residual, const float *bias, tsr_error *err) {
    int add_after = residual && p->conv && p->act != TSR__ACT_NONE && !p->act_last;
    p->residual = residual && !add_after;
    if (p->residual && p->conv) tsr__cpu_copy(nn, dst, residual);
    buffers b = { src->data, p->residual && !p->conv ? residual->data : NULL, dst->data, bias };
    tsr_status status = run(nn, p, w, &b, err);
    if (status == TSR_OK && add_after) tsr__cpu_add(nn, dst, residual);
    return status;
}

static tsr_status linear(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w, tsr__act act,
                         const tsr__tensor *residual, tsr_error *err) {
    size_t rows = tsr__tensor_rows(x);
    if (rows > INT32_MAX) return tsr__fail(err, TSR_TOO_LARGE, "linear layer over %zu rows", rows);
    tsr__problem p = tsr__pointwise_problem(nn->state, &w->spec, (int)rows);
    p.act = (int)act;
    return run_with_residual(nn, &p, w, x, out, residual, w->bias, err);
}

/* Samples [first, first + count) of a tensor. */
static tsr__tensor samples(const tsr__tensor *x, int first, int count) {
    tsr__tensor part = *x;
    size_t each = tsr__tensor_count(x) / (size_t)x->n * tsr__type_size(x->dtype);
    part.data = (char *)x->data + (size_t)first * each;
    part.n = count;
    return part;
}

/* One convolution over samples [first, first + count). */
static tsr_status conv_samples(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                               const float *bias, const tsr__tensor *residual, tsr__act act, int first, int count,
                               tsr_error *err) {
    const tsr__weight_spec *spec = &w->spec;
    tsr__tensor src = samples(x, first, count), dst = samples(out, first, count), rest = { 0 };
    tsr__problem p;
    if (residual) rest = samples(residual, first, count);
    if (tsr__is_pointwise(spec)) {
        if (tsr__tensor_rows(&src) > INT32_MAX)
            return tsr__fail(err, TSR_TOO_LARGE, "convolution over too many pixels");
        p = tsr__pointwise_problem(nn->state, spec, (int)tsr__tensor_rows(&src));
    } else {
        memset(&p, 0, sizeof p);
        p.conv = 1;
        p.n = count;
        p.h = x->h;
        p.w = x->w;
        p.out_h = out->h;
        p.out_w = out->w;
        p.out_c = spec->out_c;
        p.in_c = spec->in_c;
        p.k = spec->k;
        p.stride = spec->stride;
        p.pad_before = spec->pad_before;
        p.pad_after = spec->pad_after;
    }
    p.act = (int)act;
    p.act_last = act != TSR__ACT_NONE;
    return run_with_residual(nn, &p, w, &src, &dst, residual ? &rest : NULL, bias, err);
}

static tsr_status conv(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                       const float *channel_add, const tsr__tensor *residual, tsr__act act, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *bias = NULL;
    size_t c = (size_t)out->c;
    if (!channel_add) return conv_samples(nn, out, x, w, w->bias, residual, act, 0, x->n, err);
    bias = tsr__pool_take(&nn->pool, c * sizeof *bias);
    if (!bias) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory (%zu bytes)", c * sizeof *bias);
    /* Neighbours with equal vectors (a batch of one timestep has only equal ones) share one run with one bias. */
    for (int first = 0, next; first < x->n; first = next) {
        const float *add = channel_add + (size_t)first * c;
        for (next = first + 1; next < x->n; next++)
            if (memcmp(add, channel_add + (size_t)next * c, c * sizeof *add)) break;
        for (size_t i = 0; i < c; i++) bias[i] = w->bias[i] + add[i];
        TSR_TRY(conv_samples(nn, out, x, w, bias, residual, act, first, next - first, err));
    }
done:
    tsr__pool_give(&nn->pool, bias);
    return status;
}

const tsr__nn_backend tsr__nn_onednn = {
    .name = "onednn",
    .has_bf16 = has_bf16,
    .open = open_backend,
    .close = close_backend,
    .weight_new = weight_new,
    .weight_free = tsr__dnn_weight_free,
    .weight_spec = weight_spec,
    .weight_packed = tsr__dnn_weight_packed,
    .packing = packing,
    .linear = linear,
    .conv = conv,
    .group_norm = tsr__cpu_group_norm,
    .layer_norm = tsr__cpu_layer_norm,
    .attention = tsr__cpu_attention,
    .geglu = tsr__cpu_geglu,
    .upsample2x = tsr__cpu_upsample2x,
    .concat = tsr__cpu_concat,
    .add = tsr__cpu_add,
    .weigh_rows = tsr__cpu_weigh_rows,
    .scale_channels = tsr__cpu_scale_channels,
    .copy = tsr__cpu_copy,
    .activate = tsr__cpu_activate,
    .is_finite = tsr__cpu_is_finite,
    .from_nchw = tsr__cpu_from_nchw,
    .to_nchw = tsr__cpu_to_nchw,
    .from_rows = tsr__cpu_from_rows,
    .to_rows = tsr__cpu_to_rows,
};
