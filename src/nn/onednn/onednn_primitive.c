/* nn/onednn/onednn_primitive.c - primitives: described from a problem, made once, kept by shape in a bounded cache.
 *
 * Primitives are shared by all weights of one shape and layout. The least recently used one leaves a full cache. */
#include "nn/onednn/onednn_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tsr__dnn_problem_text(char *out, size_t size, const tsr__problem *p) {
    if (p->conv)
        snprintf(out, size, "convolution %dx%dx%dx%d -> %dx%dx%d, kernel %d, stride %d", p->n, p->h, p->w, p->in_c,
                 p->out_h, p->out_w, p->out_c, p->k, p->stride);
    else snprintf(out, size, "linear %dx%d -> %d", p->w, p->in_c, p->out_c);
}

tsr__problem tsr__pointwise_problem(const tsr__onednn *state, const tsr__weight_spec *spec, int rows) {
    tsr__problem p;
    memset(&p, 0, sizeof p);
    p.conv = state->pointwise_by_conv;
    p.n = p.h = p.out_h = p.out_w = 1;
    p.w = rows;
    p.out_c = spec->out_c;
    p.in_c = spec->in_c;
    if (p.conv) {
        p.out_w = rows;
        p.k = p.stride = 1;
    }
    return p;
}

static tsr_status fail(tsr_error *err, dnnl_status_t code, const tsr__problem *problem) {
    char text[128];
    tsr__dnn_problem_text(text, sizeof text, problem);
    return code == dnnl_out_of_memory ? tsr__fail(err, TSR_NO_MEMORY, "out of memory in %s", text)
                                      : tsr__fail(err, TSR_BACKEND, "oneDNN status %d in %s", (int)code, text);
}

/* Layouts of one problem's tensors. */
typedef struct layouts {
    tsr__md src, dst, bias, weights;
} layouts;

static void free_layouts(layouts *l) {
    tsr__md_free(l->src);
    tsr__md_free(l->dst);
    tsr__md_free(l->bias);
    tsr__md_free(l->weights);
}

static dnnl_status_t conv_layouts(layouts *l, const tsr__problem *p, dnnl_data_type_t type) {
    dnnl_dim_t src[] = { p->n, p->in_c, p->h, p->w }, dst[] = { p->n, p->out_c, p->out_h, p->out_w };
    dnnl_dim_t weights[] = { p->out_c, p->in_c, p->k, p->k }, bias[] = { p->out_c };
    dnnl_status_t code = tsr__md_tag(&l->src, 4, src, type, dnnl_nhwc);
    if (code == dnnl_success) code = tsr__md_tag(&l->dst, 4, dst, type, dnnl_nhwc);
    if (code == dnnl_success) code = tsr__md_tag(&l->weights, 4, weights, type, dnnl_format_tag_any);
    if (code == dnnl_success) code = tsr__md_tag(&l->bias, 1, bias, dnnl_f32, dnnl_a);
    return code;
}

static dnnl_status_t matmul_layouts(layouts *l, const tsr__problem *p, dnnl_data_type_t type) {
    dnnl_dim_t src[] = { p->w, p->in_c }, dst[] = { p->w, p->out_c };
    dnnl_dim_t weights[] = { p->in_c, p->out_c }, bias[] = { 1, p->out_c };
    dnnl_status_t code = tsr__md_tag(&l->src, 2, src, type, dnnl_ab);
    if (code == dnnl_success) code = tsr__md_tag(&l->dst, 2, dst, type, dnnl_ab);
    if (code == dnnl_success) code = tsr__md_tag(&l->weights, 2, weights, type, dnnl_format_tag_any);
    if (code == dnnl_success) code = tsr__md_tag(&l->bias, 2, bias, dnnl_f32, dnnl_ab);
    return code;
}

static dnnl_status_t append_act(dnnl_post_ops_t ops, int act) {
    switch (act) {
    case TSR__ACT_SILU: return tsr__dnn_append_eltwise(ops, dnnl_eltwise_swish, 1.0f);
    case TSR__ACT_GELU: return tsr__dnn_append_eltwise(ops, dnnl_eltwise_gelu_erf, 0.0f);
    case TSR__ACT_QUICK_GELU: return tsr__dnn_append_eltwise(ops, dnnl_eltwise_swish, 1.702f);
    case TSR__ACT_RELU: return tsr__dnn_append_eltwise(ops, dnnl_eltwise_relu, 0.0f);
    default: return dnnl_success;
    }
}

/* Caller-owned scratch memory, strict float32, then activation and residual on the accumulator. oneDNN 2.6's
 * fast convolutions take a residual only as a sum with the destination; as a second tensor it falls to slower ones
 * (AVX-512) or is read at wrong places (its gemm convolution, on CPUs without AVX2). */
static dnnl_status_t make_attr(dnnl_primitive_attr_t *out, const tsr__problem *p, tsr__const_md dst) {
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_attr_t attr = NULL;
    *out = NULL;
    dnnl_status_t code = dnnl_primitive_attr_create(&attr);
    if (code == dnnl_success) code = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (code == dnnl_success) code = dnnl_primitive_attr_set_fpmath_mode(attr, dnnl_fpmath_mode_strict);
    if (code == dnnl_success) code = dnnl_post_ops_create(&ops);
    if (code == dnnl_success && !p->act_last) code = append_act(ops, p->act);
    if (code == dnnl_success && p->residual && p->conv) code = tsr__dnn_append_sum(ops);
    if (code == dnnl_success && p->residual && !p->conv) code = dnnl_post_ops_append_binary(ops, dnnl_binary_add, dst);
    if (code == dnnl_success && p->act_last) code = append_act(ops, p->act);
    if (code == dnnl_success) code = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (ops) (void)dnnl_post_ops_destroy(ops);
    if (code == dnnl_success) *out = attr;
    else if (attr) (void)dnnl_primitive_attr_destroy(attr);
    return code;
}

/* The implementation oneDNN chose, "brgconv:avx512_core" for example; static lifetime, never NULL. */
static const char *implementation(const_dnnl_primitive_desc_t pd) {
    const char *name = NULL;
    dnnl_status_t code = dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name);
    return code == dnnl_success && name ? name : "";
}

static dnnl_status_t describe(tsr__onednn *state, dnnl_primitive_desc_t *out, const tsr__problem *p, const layouts *l,
                              tsr__const_md weights) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t code = make_attr(&attr, p, l->dst);
    *out = NULL;
    if (code == dnnl_success && p->conv) {
        tsr__dnn_conv_shape shape = { { p->stride, p->stride },
                                      { p->pad_before, p->pad_before },
                                      { p->pad_after, p->pad_after } };
        code = tsr__dnn_conv(out, state->engine, l->src, weights, l->bias, l->dst, &shape, attr);
    } else if (code == dnnl_success) {
        code = tsr__dnn_matmul(out, state->engine, l->src, weights, l->bias, l->dst, attr);
    }
    if (attr) (void)dnnl_primitive_attr_destroy(attr);
    return code;
}

tsr_status tsr__dnn_describe(tsr__nn *nn, tsr__described *out, const tsr__problem *p, tsr__const_md weights,
                             tsr_error *err) {
    tsr__onednn *state = nn->state;
    layouts l = { NULL, NULL, NULL, NULL };
    memset(out, 0, sizeof *out);
    dnnl_status_t code = p->conv ? conv_layouts(&l, p, tsr__dnn_type(nn)) : matmul_layouts(&l, p, tsr__dnn_type(nn));
    if (code == dnnl_success) code = describe(state, &out->pd, p, &l, weights ? weights : l.weights);
    free_layouts(&l);
    if (code != dnnl_success) return fail(err, code, p);
    out->fast = !strstr(implementation(out->pd), "ref");
    return TSR_OK;
}

/* --- the cache ---------------------------------------------------------------------------------------------------- */
static uint64_t hash_problem(const tsr__problem *p) {
    const unsigned char *bytes = (const unsigned char *)p;
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *p; i++) h = (h ^ bytes[i]) * 1099511628211u;
    return h;
}

static void clear_entry(tsr__entry *e) {
    if (e->primitive) (void)dnnl_primitive_destroy(e->primitive);
    dnnl_memory_t memories[] = { e->src, e->dst, e->bias, e->residual, e->scratch };
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i]) (void)dnnl_memory_destroy(memories[i]);
    tsr__md_free(e->weight_md);
    memset(e, 0, sizeof *e);
}

void tsr__dnn_cache_clear(tsr__onednn *state) {
    for (int i = 0; i < TSR__CACHE_SIZE; i++) clear_entry(&state->cache[i]);
}

/* The pack of the weight that the entry reads, or -1. */
static int matching_pack(const tsr__entry *e, const tsr__nn_weight *weight) {
    for (int i = 0; i < weight->pack_count; i++)
        if (tsr__md_equal(e->weight_md, weight->packs[i].md)) return i;
    return -1;
}

static tsr__entry *find(tsr__onednn *state, const tsr__problem *problem, uint64_t hash, const tsr__nn_weight *weight,
                        int *pack) {
    for (int i = 0; i < TSR__CACHE_SIZE; i++) {
        tsr__entry *e = &state->cache[i];
        if (!e->used || e->hash != hash || memcmp(&e->problem, problem, sizeof *problem)) continue;
        *pack = matching_pack(e, weight);
        if (*pack >= 0) return e;
    }
    return NULL;
}

static tsr__entry *oldest(tsr__onednn *state) {
    tsr__entry *best = &state->cache[0];
    for (int i = 1; i < TSR__CACHE_SIZE && best->used; i++)
        if (state->cache[i].used < best->used) best = &state->cache[i];
    return best;
}

/* Chooses the descriptor: the first pack that has a fast primitive, else the layout oneDNN itself prefers. */
static tsr_status choose(tsr__nn *nn, tsr__described *out, int *pack, const tsr__problem *problem,
                         tsr__nn_weight *weight, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__described d = { NULL, 0 };
    for (*pack = 0; *pack < weight->pack_count; ++*pack) {
        tsr_status tried = tsr__dnn_describe(nn, &d, problem, weight->packs[*pack].md, NULL);
        if (tried == TSR_NO_MEMORY) TSR_FAIL(err, tried, "out of memory preparing a layer");
        if (tried == TSR_OK && d.fast) goto found;
        if (d.pd) (void)dnnl_primitive_desc_destroy(d.pd);
        d.pd = NULL;
    }
    TSR_TRY(tsr__dnn_describe(nn, &d, problem, NULL, err));
    tsr__const_md layout = dnnl_primitive_desc_query_md(d.pd, dnnl_query_weights_md, 0);
    for (*pack = 0; *pack < weight->pack_count; ++*pack)
        if (tsr__md_equal(layout, weight->packs[*pack].md)) goto found;
    if (!d.fast || weight->pack_count == TSR__MAX_PACKS) {
        /* No layout is faster than the one already here. */
        (void)dnnl_primitive_desc_destroy(d.pd);
        *pack = 0;
        TSR_TRY(tsr__dnn_describe(nn, &d, problem, weight->packs[0].md, err));
        goto found;
    }
    TSR_TRY(tsr__dnn_repack(nn, weight, layout, err));
found:
    *out = d;
    d.pd = NULL;
done:
    if (d.pd) (void)dnnl_primitive_desc_destroy(d.pd);
    return status;
}

static dnnl_status_t make_memories(tsr__onednn *state, tsr__entry *e, const_dnnl_primitive_desc_t pd) {
    tsr__const_md src = dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0);
    tsr__const_md dst = dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0);
    tsr__const_md bias = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1);
    tsr__const_md scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    dnnl_engine_t engine = state->engine;
    e->scratch_size = tsr__md_size(scratch);
    dnnl_status_t code = dnnl_memory_create(&e->src, src, engine, DNNL_MEMORY_NONE);
    if (code == dnnl_success) code = dnnl_memory_create(&e->dst, dst, engine, DNNL_MEMORY_NONE);
    if (code == dnnl_success) code = dnnl_memory_create(&e->bias, bias, engine, DNNL_MEMORY_NONE);
    if (code == dnnl_success) code = dnnl_memory_create(&e->residual, dst, engine, DNNL_MEMORY_NONE);
    if (code == dnnl_success) code = dnnl_memory_create(&e->scratch, scratch, engine, DNNL_MEMORY_NONE);
    return code;
}

tsr_status tsr__dnn_primitive(tsr__nn *nn, tsr__entry **out, int *pack, const tsr__problem *problem,
                              tsr__nn_weight *weight, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__onednn *state = nn->state;
    tsr__described d = { NULL, 0 };
    uint64_t hash = hash_problem(problem);
    tsr__entry *e = find(state, problem, hash, weight, pack);
    if (!e) {
        TSR_TRY(choose(nn, &d, pack, problem, weight, err));
        e = oldest(state);
        clear_entry(e);
        e->problem = *problem;
        e->hash = hash;
        dnnl_status_t code = tsr__md_clone(&e->weight_md, weight->packs[*pack].md);
        if (code == dnnl_success) code = make_memories(state, e, d.pd);
        if (code == dnnl_success) code = dnnl_primitive_create(&e->primitive, d.pd);
        if (code != dnnl_success) {
            clear_entry(e);
            status = fail(err, code, problem);
            goto done;
        }
    }
    e->used = ++state->clock;
    *out = e;
done:
    if (d.pd) (void)dnnl_primitive_desc_destroy(d.pd);
    return status;
}
