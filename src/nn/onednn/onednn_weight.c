/* nn/onednn/onednn_weight.c - weights read once through a callback and kept only in oneDNN's own blocked layout. */
#include "nn/onednn/onednn_priv.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

static void free_pack(tsr__nn *nn, tsr__pack *pack) {
    if (pack->memory) (void)dnnl_memory_destroy(pack->memory);
    tsr__md_free(pack->md);
    if (pack->data) nn->weight_bytes -= pack->size;
    if (!pack->borrowed) free(pack->data);
    memset(pack, 0, sizeof *pack);
}

/* What is written to files: bytes a pack's layout needs, in whole cache lines. */
static size_t file_size(tsr__const_md layout) {
    return (tsr__md_size(layout) + TSR__NN_PACK_ALIGN - 1) / TSR__NN_PACK_ALIGN * TSR__NN_PACK_ALIGN;
}

/* Empty memory for a weight in the given layout. */
static tsr_status new_pack(tsr__nn *nn, tsr__pack *pack, tsr__const_md layout, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__onednn *state = nn->state;
    memset(pack, 0, sizeof *pack);
    TSR_DNN(err, tsr__md_clone(&pack->md, layout), "weight layout");
    size_t size = tsr__md_size(layout), align = size >= HUGE_PAGE ? HUGE_PAGE : 64;
    pack->size = (size + align - 1) / align * align;
    if (align == HUGE_PAGE && pack->size - size > HUGE_PAGE / 4) {
        /* The tail of a huge page would be wasted memory for a weight of this size. */
        align = 4096;
        pack->size = (size + align - 1) / align * align;
    }
    pack->data = aligned_alloc(align, pack->size);
    if (!pack->data) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory for a weight of %zu bytes", size);
    nn->weight_bytes += pack->size;
    memset((char *)pack->data + size, 0, file_size(layout) - size);
#ifdef MADV_HUGEPAGE
    if (size >= HUGE_PAGE) (void)madvise(pack->data, pack->size, MADV_HUGEPAGE);
#endif
    TSR_DNN(err, dnnl_memory_create(&pack->memory, pack->md, state->engine, pack->data), "weight memory");
done:
    if (status != TSR_OK) free_pack(nn, pack);
    return status;
}

static tsr_status reorder(tsr__nn *nn, dnnl_memory_t from, tsr__const_md from_md, dnnl_memory_t to, tsr__const_md to_md,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__onednn *state = nn->state;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t primitive = NULL;
    TSR_DNN(err, dnnl_reorder_primitive_desc_create(&pd, from_md, state->engine, to_md, state->engine, NULL),
            "weight packing");
    TSR_DNN(err, dnnl_primitive_create(&primitive, pd), "weight packing");
    dnnl_exec_arg_t args[] = { { DNNL_ARG_SRC, from }, { DNNL_ARG_DST, to } };
    TSR_DNN(err, dnnl_primitive_execute(primitive, state->stream, 2, args), "weight packing");
    TSR_DNN(err, dnnl_stream_wait(state->stream), "weight packing");
done:
    if (primitive) (void)dnnl_primitive_destroy(primitive);
    if (pd) (void)dnnl_primitive_desc_destroy(pd);
    return status;
}

tsr_status tsr__dnn_repack(tsr__nn *nn, tsr__nn_weight *weight, tsr__const_md layout, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__pack *pack = &weight->packs[weight->pack_count];
    TSR_TRY(new_pack(nn, pack, layout, err));
    TSR_TRY(reorder(nn, weight->packs[0].memory, weight->packs[0].md, pack->memory, pack->md, err));
    weight->pack_count++;
    pack = NULL;
done:
    if (pack && status != TSR_OK) free_pack(nn, pack);
    return status;
}

/* PyTorch's layout: linear [out, in] is a matmul's [in, out] read across; convolutions are plain oihw. */
static dnnl_status_t source_layout(tsr__md *out, const tsr__problem *p, dnnl_data_type_t type) {
    dnnl_dim_t linear[] = { p->in_c, p->out_c };
    dnnl_dim_t conv[] = { p->out_c, p->in_c, p->k, p->k };
    return p->conv ? tsr__md_tag(out, 4, conv, type, dnnl_oihw) : tsr__md_tag(out, 2, linear, type, dnnl_ba);
}

/* A usual problem for a weight, from which oneDNN chooses the layout: diffusion networks are narrow where they are wide
 * in channels. */
static tsr__problem usual_problem(const tsr__onednn *state, const tsr__weight_spec *spec) {
    int side = spec->out_c <= 320 ? 64 : spec->out_c <= 640 ? 32 : 16;
    if (tsr__is_pointwise(spec)) return tsr__pointwise_problem(state, spec, 2 * side * side);
    tsr__problem p;
    memset(&p, 0, sizeof p);
    p.conv = 1;
    p.n = 2;
    p.out_c = spec->out_c;
    p.in_c = spec->in_c;
    p.k = spec->k;
    p.stride = spec->stride;
    p.pad_before = spec->pad_before;
    p.pad_after = spec->pad_after;
    p.h = p.w = side;
    while (p.h + p.pad_before + p.pad_after < p.k) p.h = ++p.w;
    p.out_h = p.out_w = (p.h + p.pad_before + p.pad_after - p.k) / p.stride + 1;
    return p;
}

/* Reads the source, in the context's precision. *out is released with free(). */
static tsr_status read_source(tsr__nn *nn, void **out, const tsr__weight_spec *spec, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    size_t taps = spec->k ? (size_t)spec->k * (size_t)spec->k : 1;
    size_t count = (size_t)spec->out_c * (size_t)spec->in_c * taps;
    TSR_ALLOC(err, values, count);
    TSR_TRY(spec->fill(spec->user, values, count, err));
    /* Rounding in place is safe: every element is read before the two bytes that replace it are written. */
    if (nn->precision == TSR__BF16) nn->kernels[TSR__BF16]->from_float(values, values, count);
    *out = values;
    values = NULL;
done:
    free(values);
    return status;
}

static tsr_status pack_source(tsr__nn *nn, tsr__nn_weight *weight, const tsr__weight_spec *spec, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__onednn *state = nn->state;
    void *source = NULL;
    tsr__md source_md = NULL;
    dnnl_memory_t source_memory = NULL;
    tsr__described d = { NULL, 0 };
    tsr__problem problem = usual_problem(state, spec);
    TSR_TRY(tsr__dnn_describe(nn, &d, &problem, NULL, err));
    weight->pack_count = 1;
    weight->threads = nn->threads;
    if (nn->plan) {
        TSR_DNN(err, tsr__md_clone(&weight->packs[0].md, dnnl_primitive_desc_query_md(d.pd, dnnl_query_weights_md, 0)),
                "weight layout");
        goto done;
    }
    TSR_TRY(read_source(nn, &source, spec, err));
    TSR_DNN(err, source_layout(&source_md, &problem, tsr__dnn_type(nn)), "weight layout");
    TSR_DNN(err, dnnl_memory_create(&source_memory, source_md, state->engine, source), "weight memory");
    TSR_TRY(new_pack(nn, &weight->packs[0], dnnl_primitive_desc_query_md(d.pd, dnnl_query_weights_md, 0), err));
    TSR_TRY(reorder(nn, source_memory, source_md, weight->packs[0].memory, weight->packs[0].md, err));
done:
    if (source_memory) (void)dnnl_memory_destroy(source_memory);
    if (d.pd) (void)dnnl_primitive_desc_destroy(d.pd);
    tsr__md_free(source_md);
    free(source);
    return status;
}

/* Bytes that are there already. The layout is oneDNN's own choice for the same problem and threads; a foreign text is only
 * compared with it. A layout with padding is copied, because versions of oneDNN differ in whether they write zeros there. */
static tsr_status take_packed(tsr__nn *nn, tsr__nn_weight *weight, const tsr__weight_spec *spec, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__onednn *state = nn->state;
    const tsr__nn_packed *from = spec->packed;
    tsr__pack *pack = &weight->packs[0];
    tsr__described d = { NULL, 0 };
    tsr__problem problem = usual_problem(state, spec);
    char layout[TSR__NN_LAYOUT_SIZE];
    size_t values = (size_t)spec->out_c * (size_t)spec->in_c * (spec->k ? (size_t)spec->k * (size_t)spec->k : 1);
    TSR_TRY(tsr__dnn_describe(nn, &d, &problem, NULL, err));
    tsr__const_md md = dnnl_primitive_desc_query_md(d.pd, dnnl_query_weights_md, 0);
    if (!tsr__md_text(layout, sizeof layout, md) || strcmp(layout, from->layout) != 0 || from->size != file_size(md))
        TSR_FAIL(err, TSR_UNSUPPORTED, "packed as \"%s\" in %zu bytes, here \"%s\" in %zu are needed", from->layout,
                 from->size, layout, file_size(md));
    if ((uintptr_t)from->data % TSR__NN_PACK_ALIGN)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "packed bytes at %p: not at a multiple of %d", from->data, TSR__NN_PACK_ALIGN);
    weight->pack_count = 1;
    weight->threads = from->threads;
    if (tsr__md_size(md) != values * tsr__type_size((int)nn->precision)) {
        TSR_TRY(new_pack(nn, pack, md, err));
        memcpy(pack->data, from->data, tsr__md_size(md));
        goto done;
    }
    TSR_DNN(err, tsr__md_clone(&pack->md, md), "weight layout");
    pack->borrowed = 1;
    pack->data = (void *)(uintptr_t)from->data; /* oneDNN's handles are not const */
    pack->size = from->size;
    nn->weight_bytes += pack->size;
    TSR_DNN(err, dnnl_memory_create(&pack->memory, pack->md, state->engine, pack->data), "weight memory");
done:
    if (d.pd) (void)dnnl_primitive_desc_destroy(d.pd);
    return status;
}

tsr_status tsr__dnn_weight_packed(const tsr__nn *nn, const tsr__nn_weight *weight, tsr__nn_packed *out,
                                  tsr_error *err) {
    const tsr__pack *pack = &weight->packs[0];
    (void)nn;
    out->data = pack->data;
    out->size = file_size(pack->md);
    out->threads = weight->threads;
    if (tsr__md_text(out->layout, sizeof out->layout, pack->md)) return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED,
                     "oneDNN lays a weight of [%d, %d, %d, %d] out in a way that has no plain form", weight->spec.out_c,
                     weight->spec.in_c, weight->spec.k, weight->spec.k);
}

tsr_status tsr__dnn_weight_new(tsr__nn *nn, tsr__nn_weight **out, const tsr__weight_spec *spec, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn_weight *weight = NULL;
    TSR_ALLOC_ZERO(err, weight, 1);
    weight->spec = *spec;
    weight->spec.fill = NULL;
    weight->spec.user = NULL;
    weight->spec.bias = NULL;
    weight->spec.packed = NULL;
    TSR_ALLOC_ZERO(err, weight->bias, (size_t)spec->out_c);
    if (spec->bias) memcpy(weight->bias, spec->bias, (size_t)spec->out_c * sizeof(float));
    TSR_TRY(spec->packed ? take_packed(nn, weight, spec, err) : pack_source(nn, weight, spec, err));
    *out = weight;
    weight = NULL;
done:
    if (weight) tsr__dnn_weight_free(nn, weight);
    return status;
}

void tsr__dnn_weight_free(tsr__nn *nn, tsr__nn_weight *weight) {
    for (int i = 0; i < TSR__MAX_PACKS; i++) free_pack(nn, &weight->packs[i]);
    free(weight->bias);
    free(weight);
}
